//! Byte-level BPE.

mod added;
mod bytes;
mod json;
mod vocabulary;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokenizers::models::bpe::BPE;
use tokenizers::tokenizer::{OffsetReferential, OffsetType};
use tokenizers::{
    Model, NormalizedString, Normalizer, NormalizerWrapper, PreTokenizedString, PreTokenizer,
    PreTokenizerWrapper,
};

use crate::{Segment, TextError};
use added::Matcher;
pub use vocabulary::{TokenType, Vocabulary};

/// Longest prompt, bytes; what is longer fits no context here.
pub const MAX_TEXT_BYTES: usize = 2 << 20;

/// A byte-level BPE tokenizer; cheap to clone.
///
/// Bytes that the vocabulary has no token for give no token (SmolLM2 lacks six control characters and two lead
/// bytes of rare planes), as in the reference tokenizers.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    bpe: BPE,
    /// Ids of each merge's parts, by rank.
    merges: Vec<(u32, u32)>,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: PreTokenizerWrapper,
    post_processor: Value,
    decoder: Value,
    matcher: Matcher,
    control: Vec<bool>,
    /// Bytes of all tokens, one after the other, and where each one ends.
    bytes: Vec<u8>,
    ends: Vec<u32>,
    prefix: Vec<u32>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocabulary", &self.vocabulary())
            .field("added", &self.inner.matcher.tokens().len())
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads a tokenizer.json of the Hugging Face form: model BPE, pre-tokenizer with a byte level.
    ///
    /// # Errors
    /// [`TextError::Tokenizer`], [`TextError::Unsupported`], [`TextError::Limit`], [`TextError::DuplicateToken`],
    /// [`TextError::Merge`].
    pub fn from_json(json: &[u8]) -> Result<Self, TextError> {
        let parts = json::read(json)?;
        let mut control = vec![false; parts.bytes.len()];
        for token in parts.added.iter().filter(|token| token.special) {
            if let Some(slot) = control.get_mut(token.id as usize) {
                *slot = true;
            }
        }
        let mut bytes = Vec::with_capacity(parts.bytes.iter().map(Vec::len).sum());
        let mut ends = Vec::with_capacity(parts.bytes.len());
        for token in &parts.bytes {
            bytes.extend_from_slice(token);
            ends.push(u32::try_from(bytes.len()).map_err(TextError::tokenizer)?);
        }
        Ok(Self {
            inner: Arc::new(Inner {
                bpe: parts.bpe,
                merges: parts.merges,
                normalizer: parts.normalizer,
                pre_tokenizer: parts.pre_tokenizer,
                post_processor: parts.post_processor,
                decoder: parts.decoder,
                matcher: Matcher::new(parts.added)?,
                control,
                bytes,
                ends,
                prefix: parts.prefix,
            }),
        })
    }

    /// Builds from a vocabulary of a GGUF file, by way of its tokenizer.json.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json); an unknown pre-tokenizer is [`TextError::Unsupported`].
    pub fn from_vocabulary(vocabulary: &Vocabulary) -> Result<Self, TextError> {
        let json = serde_json::to_vec(&vocabulary.to_value()?).map_err(TextError::tokenizer)?;
        Self::from_json(&json)
    }

    /// The tokenizer as tokenizer.json, readable by [`from_json`](Self::from_json) and by the usual libraries.
    ///
    /// # Errors
    /// [`TextError::Tokenizer`]; not expected.
    pub fn to_json(&self) -> Result<Vec<u8>, TextError> {
        // added tokens stand in the vocabulary too: other libraries take their ids from there
        let added: BTreeMap<u32, &str> = self
            .inner
            .matcher
            .tokens()
            .iter()
            .map(|token| (token.id, token.content.as_str()))
            .collect();
        let mut vocabulary = Map::new();
        for id in 0..self.vocabulary() {
            let token = added.get(&id).map(|token| (*token).to_owned());
            if let Some(token) = token.or_else(|| self.inner.bpe.id_to_token(id)) {
                vocabulary.insert(token, Value::from(id));
            }
        }
        let text = |id| self.inner.bpe.id_to_token(id).unwrap_or_default();
        let merges: Vec<[String; 2]> = self
            .inner
            .merges
            .iter()
            .map(|&(left, right)| [text(left), text(right)])
            .collect();
        let file = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.inner.matcher.tokens(),
            "normalizer": self.inner.normalizer,
            "pre_tokenizer": self.inner.pre_tokenizer,
            "post_processor": self.inner.post_processor,
            "decoder": self.inner.decoder,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": self.inner.bpe.ignore_merges, "vocab": vocabulary, "merges": merges,
            },
        });
        serde_json::to_vec(&file).map_err(TextError::tokenizer)
    }

    /// Ids of plain text: nothing in it is a control or added token, whatever it looks like.
    ///
    /// # Errors
    /// [`TextError::Limit`] above [`MAX_TEXT_BYTES`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        TextError::limit("length of the text in bytes", text.len(), MAX_TEXT_BYTES)?;
        let mut ids = Vec::new();
        self.encode_run(text, &mut ids)?;
        Ok(ids)
    }

    /// Ids of trusted text: control and added tokens are matched. Never for text of clients.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_trusted(&self, text: &str) -> Result<Vec<u32>, TextError> {
        self.encode_prompt(&[Segment::Trusted(text.to_owned())])
    }

    /// Ids of a prompt: control and added tokens are matched in trusted segments only. For content without such
    /// tokens the ids are those of the joined text.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), for the sum of the segments.
    pub fn encode_prompt(&self, segments: &[Segment]) -> Result<Vec<u32>, TextError> {
        let length = segments.iter().map(|segment| segment.text().len()).sum();
        TextError::limit("length of the prompt in bytes", length, MAX_TEXT_BYTES)?;
        let mut ids = Vec::new();
        let mut run = String::new();
        let mut strip = false;
        for segment in segments {
            let text = segment.text();
            let mut at = 0;
            if let Segment::Trusted(_) = segment {
                for (start, end, token) in self.inner.matcher.find(text) {
                    append(&mut run, text.get(at..start).unwrap_or_default(), strip);
                    if token.lstrip {
                        run.truncate(run.trim_end().len());
                    }
                    self.encode_run(&run, &mut ids)?;
                    run.clear();
                    ids.push(token.id);
                    strip = token.rstrip;
                    at = end;
                }
            }
            append(&mut run, text.get(at..).unwrap_or_default(), strip);
            strip = strip && run.is_empty();
        }
        self.encode_run(&run, &mut ids)?;
        Ok(ids)
    }

    /// Text between control and added tokens.
    fn encode_run(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TextError> {
        if text.is_empty() {
            return Ok(());
        }
        let mut normalized = NormalizedString::from(text);
        if let Some(normalizer) = &self.inner.normalizer {
            normalizer
                .normalize(&mut normalized)
                .map_err(TextError::tokenizer)?;
        }
        let mut split = PreTokenizedString::from(normalized);
        self.inner
            .pre_tokenizer
            .pre_tokenize(&mut split)
            .map_err(TextError::tokenizer)?;
        for (word, _, _) in split.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            let tokens = self
                .inner
                .bpe
                .tokenize(word)
                .map_err(TextError::tokenizer)?;
            ids.extend(tokens.iter().map(|token| token.id));
        }
        Ok(())
    }

    /// Text of ids, control tokens left out; invalid UTF-8 reads U+FFFD, ids without a text read as nothing.
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> String {
        self.join(ids.iter().filter(|&&id| !self.is_control(id)))
    }

    /// As [`decode`](Self::decode), with the texts of control tokens.
    #[must_use]
    pub fn decode_with_control(&self, ids: &[u32]) -> String {
        self.join(ids.iter())
    }

    fn join<'a>(&self, ids: impl Iterator<Item = &'a u32>) -> String {
        let bytes: Vec<u8> = ids.flat_map(|&id| self.token_bytes(id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Bytes of a token; of a control or added token its text; empty for an id without a token.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        let at = id as usize;
        let end = self.inner.ends.get(at).map_or(0, |&end| end as usize);
        let start = at
            .checked_sub(1)
            .and_then(|before| self.inner.ends.get(before))
            .map_or(0, |&start| start as usize);
        self.inner.bytes.get(start..end).unwrap_or_default()
    }

    /// Id of a token by its text in the file: added tokens as they read, others in the byte-level alphabet.
    #[must_use]
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner
            .matcher
            .tokens()
            .iter()
            .find(|added| added.content == token)
            .map(|added| added.id)
            .or_else(|| self.inner.bpe.token_to_id(token))
    }

    /// Largest id plus one. The model's own vocabulary may be larger (padding), never smaller.
    #[must_use]
    pub fn vocabulary(&self) -> u32 {
        u32::try_from(self.inner.ends.len()).unwrap_or(u32::MAX)
    }

    /// Whether the id is a control token: reads as nothing, is never matched in content.
    #[must_use]
    pub fn is_control(&self, id: u32) -> bool {
        self.inner
            .control
            .get(id as usize)
            .copied()
            .unwrap_or(false)
    }

    /// Ids that start a document (raw completions); chat templates write theirs themselves.
    #[must_use]
    pub fn prefix(&self) -> &[u32] {
        &self.inner.prefix
    }

    /// Control tokens that a prompt has, in order.
    pub(crate) fn control_tokens(&self, segments: &[Segment]) -> Vec<u32> {
        segments
            .iter()
            .filter(|segment| matches!(segment, Segment::Trusted(_)))
            .flat_map(|segment| self.inner.matcher.find(segment.text()))
            .filter(|(_, _, token)| token.special)
            .map(|(_, _, token)| token.id)
            .collect()
    }

    /// Texts of control and added tokens, with whether they are control tokens.
    pub(crate) fn added(&self) -> impl Iterator<Item = (&str, bool)> {
        self.inner
            .matcher
            .tokens()
            .iter()
            .map(|token| (token.content.as_str(), token.special))
    }
}

fn append(run: &mut String, text: &str, strip: bool) {
    run.push_str(if strip && run.is_empty() {
        text.trim_start()
    } else {
        text
    });
}
