//! Reads tokenizer.json, taking nothing on trust: what isn't byte-level BPE is refused before a library sees it.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};

use super::added::Added;
use super::bytes::token_to_bytes;
use crate::TextError;

/// Largest tokenizer.json, bytes (the largest byte-level ones have about 20 MB).
const MAX_JSON_BYTES: usize = 48 << 20;
/// Most tokens; the largest vocabularies in use have about 260,000.
const MAX_TOKENS: usize = 1 << 19;
/// Longest token, bytes of its text in the file; the longest in use are runs of some hundred spaces.
const MAX_TOKEN_BYTES: usize = 768;
/// Added tokens; the most in use are some thousand.
const MAX_ADDED: usize = 1 << 14;
/// Longest expression of a pre-tokenizer, bytes.
const MAX_PATTERN_BYTES: usize = 4096;
/// Steps of a normalizer or pre-tokenizer.
const MAX_STEPS: usize = 16;

/// The parts of a checked tokenizer.json.
pub(super) struct Parts {
    pub(super) bpe: BPE,
    /// Ids of each merge's parts, by rank.
    pub(super) merges: Vec<(u32, u32)>,
    pub(super) normalizer: Option<NormalizerWrapper>,
    pub(super) pre_tokenizer: PreTokenizerWrapper,
    pub(super) post_processor: Value,
    pub(super) decoder: Value,
    pub(super) added: Vec<Added>,
    /// Bytes by id.
    pub(super) bytes: Vec<Vec<u8>>,
    /// Ids that start a document.
    pub(super) prefix: Vec<u32>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    #[serde(default)]
    vocab: Pairs,
    #[serde(default)]
    merges: Vec<Merge>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Line(String),
    Pair(String, String),
}

/// The vocabulary in the order of the file, duplicates kept, so that they can be refused.
#[derive(Default)]
struct Pairs(Vec<(String, u32)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tokens to ids")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    if pairs.len() >= MAX_TOKENS {
                        return Err(serde::de::Error::custom(format_args!(
                            "more than {MAX_TOKENS} tokens"
                        )));
                    }
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_any(List)
    }
}

pub(super) fn read(json: &[u8]) -> Result<Parts, TextError> {
    TextError::limit(
        "size of tokenizer.json in bytes",
        json.len(),
        MAX_JSON_BYTES,
    )?;
    let file: File = serde_json::from_slice(json).map_err(TextError::tokenizer)?;
    let File {
        added_tokens: added,
        normalizer,
        pre_tokenizer,
        post_processor,
        decoder,
        model,
    } = file;
    check_model(&model)?;
    TextError::limit("number of added tokens", added.len(), MAX_ADDED)?;
    check_normalizer(&normalizer, 0)?;
    let byte_levels = check_pre_tokenizer(&pre_tokenizer, 0)?;
    if byte_levels != 1 {
        return Err(TextError::Unsupported {
            part: "pre-tokenizer",
            have: format!("{byte_levels} byte levels"),
            accepted: "exactly one ByteLevel",
        });
    }
    let bytes = token_table(&model.vocab.0, &added)?;
    let prefix = document_prefix(&post_processor, &added)?;
    let (bpe, merges) = build_bpe(model, &added)?;
    Ok(Parts {
        bpe,
        merges,
        normalizer: serde_json::from_value(normalizer).map_err(TextError::tokenizer)?,
        pre_tokenizer: serde_json::from_value(pre_tokenizer).map_err(TextError::tokenizer)?,
        post_processor,
        decoder,
        added,
        bytes,
        prefix,
    })
}

fn check_model(model: &Model) -> Result<(), TextError> {
    let unsupported = |part, have: String, accepted| {
        Err(TextError::Unsupported {
            part,
            have,
            accepted,
        })
    };
    match model.kind.as_deref() {
        Some("BPE") | None => {}
        Some(kind) => return unsupported("model", kind.to_owned(), "BPE"),
    }
    if let Some(dropout) = model.dropout
        && dropout != 0.0
    {
        return unsupported("dropout", dropout.to_string(), "0");
    }
    if model.byte_fallback {
        return unsupported("byte_fallback", "true".to_owned(), "false");
    }
    for (part, affix) in [
        (
            "continuing_subword_prefix",
            &model.continuing_subword_prefix,
        ),
        ("end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if let Some(affix) = affix
            && !affix.is_empty()
        {
            return unsupported(part, affix.clone(), "none");
        }
    }
    Ok(())
}

/// Bytes by id, after checks of ids and texts. An added token may repeat an entry of the vocabulary, with the same id.
fn token_table(vocab: &[(String, u32)], added: &[Added]) -> Result<Vec<Vec<u8>>, TextError> {
    let mut ids: HashMap<&str, u32> = HashMap::with_capacity(vocab.len() + added.len());
    let mut owners: HashMap<u32, &str> = HashMap::with_capacity(vocab.len() + added.len());
    let all = vocab
        .iter()
        .map(|(text, id)| (text.as_str(), *id))
        .chain(added.iter().map(|token| (token.content.as_str(), token.id)));
    for (index, (text, id)) in all.enumerate() {
        TextError::limit("token id", id as usize, MAX_TOKENS - 1)?;
        TextError::limit("length of a token in bytes", text.len(), MAX_TOKEN_BYTES)?;
        let repeated = index >= vocab.len();
        if let Some(first) = ids.insert(text, id)
            && (first != id || !repeated)
        {
            return Err(TextError::DuplicateToken {
                token: text.to_owned(),
                first,
                second: id,
            });
        }
        if let Some(first) = owners.insert(id, text)
            && (first != text || !repeated)
        {
            return Err(TextError::tokenizer(format_args!(
                "id {id} belongs to `{first}` and to `{text}`"
            )));
        }
    }
    let length = owners.keys().max().map_or(0, |&id| id as usize + 1);
    if length == 0 {
        return Err(TextError::tokenizer("an empty vocabulary"));
    }
    let mut table = vec![Vec::new(); length];
    for (text, id) in vocab {
        if let Some(slot) = table.get_mut(*id as usize) {
            *slot = token_to_bytes(text);
        }
    }
    for token in added {
        if let Some(slot) = table.get_mut(token.id as usize) {
            *slot = token.content.as_bytes().to_vec();
        }
    }
    Ok(table)
}

/// The merging vocabulary has no control tokens, and of the other added tokens only those that merges name: text
/// reaches an added token by merging or not at all.
fn build_bpe(model: Model, added: &[Added]) -> Result<(BPE, Vec<(u32, u32)>), TextError> {
    let pairs = split_merges(model.merges)?;
    let added_texts: HashSet<&str> = added.iter().map(|token| token.content.as_str()).collect();
    let mut named = HashSet::new();
    let mut whole = String::new();
    for (left, right) in &pairs {
        whole.clear();
        whole.push_str(left);
        whole.push_str(right);
        for part in [left, right, &whole] {
            if let Some(text) = added_texts.get(part.as_str()) {
                named.insert(*text);
            }
        }
    }
    let mut vocab: Vocab = model.vocab.0.into_iter().collect();
    for token in added {
        if token.special
            || !named.contains(token.content.as_str()) && token.content.chars().count() > 1
        {
            vocab.remove(&token.content);
        }
    }
    let mut merges = Vec::with_capacity(pairs.len());
    for (index, (left, right)) in pairs.iter().enumerate() {
        let id = |token: &str| {
            vocab.get(token).copied().ok_or_else(|| TextError::Merge {
                index,
                token: token.to_owned(),
                tokens: vocab.len(),
            })
        };
        merges.push((id(left)?, id(right)?));
        id(&format!("{left}{right}"))?;
    }
    let bpe = BPE::builder()
        .vocab_and_merges(vocab, pairs)
        .ignore_merges(model.ignore_merges)
        .build()
        .map_err(TextError::tokenizer)?;
    Ok((bpe, merges))
}

fn split_merges(merges: Vec<Merge>) -> Result<Vec<(String, String)>, TextError> {
    TextError::limit("number of merges", merges.len(), 2 * MAX_TOKENS)?;
    merges
        .into_iter()
        .enumerate()
        .map(|(index, merge)| match merge {
            Merge::Pair(left, right) => Ok((left, right)),
            Merge::Line(line) => match line.split_once(' ') {
                Some((left, right)) if !right.contains(' ') => {
                    Ok((left.to_owned(), right.to_owned()))
                }
                _ => Err(TextError::tokenizer(format_args!(
                    "merge {index} `{line}` is not two tokens with a space between"
                ))),
            },
        })
        .collect()
}

fn kind(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or("none")
}

fn check_normalizer(step: &Value, depth: usize) -> Result<(), TextError> {
    match kind(step) {
        _ if step.is_null() => Ok(()),
        "NFC" | "NFD" | "NFKC" | "NFKD" => Ok(()),
        "Sequence" if depth == 0 => steps(step, "normalizers")?
            .iter()
            .try_for_each(|step| check_normalizer(step, 1)),
        other => Err(TextError::Unsupported {
            part: "normalizer",
            have: other.to_owned(),
            accepted: "none, NFC, NFD, NFKC, NFKD",
        }),
    }
}

/// Number of byte levels; a byte level must come last, because the later steps would see its alphabet.
fn check_pre_tokenizer(step: &Value, depth: usize) -> Result<usize, TextError> {
    match kind(step) {
        "ByteLevel" => Ok(1),
        "Digits" => Ok(0),
        "Split" => {
            let pattern = step.get("pattern");
            let text = ["Regex", "String"]
                .iter()
                .find_map(|form| pattern?.get(form)?.as_str())
                .unwrap_or_default();
            TextError::limit(
                "length of a pattern in bytes",
                text.len(),
                MAX_PATTERN_BYTES,
            )?;
            Ok(0)
        }
        "Sequence" if depth == 0 => {
            let mut found = 0;
            for step in steps(step, "pretokenizers")? {
                if found > 0 {
                    return Err(TextError::Unsupported {
                        part: "pre-tokenizer",
                        have: format!("{} after ByteLevel", kind(step)),
                        accepted: "ByteLevel last",
                    });
                }
                found += check_pre_tokenizer(step, 1)?;
            }
            Ok(found)
        }
        other => Err(TextError::Unsupported {
            part: "pre-tokenizer",
            have: other.to_owned(),
            accepted: "ByteLevel, Digits, Split",
        }),
    }
}

fn steps<'v>(step: &'v Value, name: &str) -> Result<&'v [Value], TextError> {
    let list = step
        .get(name)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    TextError::limit("number of steps", list.len(), MAX_STEPS)?;
    Ok(list)
}

/// Control tokens before the text in a `TemplateProcessing`, alone or in a sequence.
fn document_prefix(step: &Value, added: &[Added]) -> Result<Vec<u32>, TextError> {
    match kind(step) {
        "Sequence" => {
            for step in steps(step, "processors")? {
                if kind(step) == "TemplateProcessing" {
                    return document_prefix(step, added);
                }
            }
            Ok(Vec::new())
        }
        "TemplateProcessing" => {
            let mut prefix = Vec::new();
            for piece in steps(step, "single")? {
                let Some(name) = piece.pointer("/SpecialToken/id").and_then(Value::as_str) else {
                    break;
                };
                let token = added
                    .iter()
                    .find(|token| token.content == name)
                    .ok_or_else(|| {
                        TextError::tokenizer(format_args!(
                            "documents start with `{name}`, which is not an added token"
                        ))
                    })?;
                prefix.push(token.id);
            }
            Ok(prefix)
        }
        _ => Ok(Vec::new()),
    }
}
