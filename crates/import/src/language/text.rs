//! What surrounds the graph of a language model: tokenizer, chat template, tokens that end an answer.

use assay_text::{
    ChatTemplate, Message, RenderOptions, TemplateTokens, TextError, TokenType, Tokenizer,
    Vocabulary,
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::{
    codec::CodecError,
    error::ImportError,
    gguf::Gguf,
    manifest::{InputSpec, LanguageSpec},
};

/// Names of control tokens that end a turn or a document, in models whose metadata names only one.
const ENDS: [&str; 6] = [
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<end_of_turn>",
];
/// Largest tokenizer_config.json and generation_config.json read, bytes.
const MAX_CONFIG: u64 = 8 << 20;

/// Files of a model's text side, as a source has them.
#[derive(Clone, Debug, Default)]
pub struct TextParts {
    /// tokenizer.json.
    pub tokenizer: Vec<u8>,
    /// Source of the chat template.
    pub template: Option<String>,
    /// Tokens that templates name.
    pub names: TokenNames,
    /// Tokens that end an answer, ascending.
    pub stop: Vec<u32>,
}

/// Texts of the tokens that templates name; empty where the model has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenNames {
    /// `bos_token`.
    pub bos: String,
    /// `eos_token`.
    pub eos: String,
    /// `pad_token`.
    pub pad: String,
    /// `unk_token`.
    pub unknown: String,
}

impl From<&TokenNames> for TemplateTokens {
    fn from(names: &TokenNames) -> Self {
        Self {
            bos: names.bos.clone(),
            eos: names.eos.clone(),
            pad: names.pad.clone(),
            unknown: names.unknown.clone(),
        }
    }
}

/// Tokenizer, template and ends of a model that is loaded; cheap to clone.
#[derive(Clone, Debug)]
pub struct Language {
    /// Text to token ids and back.
    pub tokenizer: Tokenizer,
    /// How conversations are written; `None` for models without one, or with one that can't be read: they complete text only.
    pub template: Option<ChatTemplate>,
    /// Tokens that end an answer, ascending.
    pub stop: Vec<u32>,
    /// Most positions: tokens of prompt and answer, less one.
    pub context: u32,
    /// Tokens that the graph tells apart; at least the tokenizer's.
    pub vocabulary: u32,
}

fn codec_error(e: TextError) -> CodecError {
    CodecError::Tokenizer { why: e.to_string() }
}

impl Language {
    /// From a manifest's entries, tokenizer.json and the template's source.
    ///
    /// # Errors
    /// [`CodecError::Tokenizer`] when the tokenizer can't be read, [`CodecError::Manifest`] when it has more tokens than the graph or when a stop token is none of them.
    pub fn new(
        spec: &LanguageSpec,
        input: &InputSpec,
        tokenizer: &[u8],
        template: Option<&str>,
    ) -> Result<Self, CodecError> {
        let InputSpec::Text { vocabulary, .. } = input else {
            let why = "a language model takes text".into();
            return Err(CodecError::Manifest { why });
        };
        let tokenizer = Tokenizer::from_json(tokenizer).map_err(codec_error)?;
        let mismatch = |why: String| Err(CodecError::Manifest { why });
        if tokenizer.vocabulary() > *vocabulary {
            return mismatch(format!(
                "the tokenizer has {} tokens, the graph {vocabulary}",
                tokenizer.vocabulary()
            ));
        }
        if let Some(id) = spec.stop.iter().find(|id| *id >= vocabulary) {
            return mismatch(format!("stop token {id} of {vocabulary}"));
        }
        let names = TemplateTokens::from(&spec.tokens);
        let template =
            template.and_then(|source| ChatTemplate::new(source, &tokenizer, names).ok());
        Ok(Self {
            tokenizer,
            template,
            stop: spec.stop.clone(),
            context: spec.context,
            vocabulary: *vocabulary,
        })
    }

    /// Token ids of a conversation, up to the assistant's next turn.
    ///
    /// # Errors
    /// [`CodecError::Tokenizer`] when the model has no template, or it refuses.
    pub fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>, CodecError> {
        let template = self
            .template
            .as_ref()
            .ok_or_else(|| CodecError::Tokenizer {
                why: "the model has no chat template that can be read".into(),
            })?;
        let segments = template
            .render(messages, &[], &RenderOptions::default())
            .map_err(codec_error)?;
        self.tokenizer.encode_prompt(&segments).map_err(codec_error)
    }

    /// Token ids of a text that is to be continued, with the ids that start a document.
    ///
    /// # Errors
    /// [`CodecError::Tokenizer`] when the text is too long.
    pub fn document(&self, text: &str) -> Result<Vec<u32>, CodecError> {
        let ids = self.tokenizer.encode(text).map_err(codec_error)?;
        Ok(self.tokenizer.prefix().iter().copied().chain(ids).collect())
    }
}

fn text_error(what: &'static str) -> impl FnOnce(TextError) -> ImportError {
    move |e| ImportError::malformed(what, e.to_string())
}

impl TextParts {
    /// Out of the metadata of a GGUF file.
    ///
    /// # Errors
    /// [`ImportError::Missing`] for absent keys, [`ImportError::Unsupported`] for tokenizers that are not byte-level, [`ImportError::Malformed`] for broken vocabularies.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, ImportError> {
        let key = |k: &str| format!("tokenizer.ggml.{k}");
        let missing = |k: &str| ImportError::Missing {
            what: "GGUF key",
            name: key(k),
        };
        let model = gguf.string(&key("model")).ok_or_else(|| missing("model"))?;
        if model != "gpt2" {
            return Err(ImportError::Unsupported {
                op: "tokenizer".into(),
                node: "tokenizer.ggml.model".into(),
                why: format!("`{model}`; byte-level merges (`gpt2`) are read"),
            });
        }
        let tokens = gguf
            .strings(&key("tokens"))
            .ok_or_else(|| missing("tokens"))?;
        let types = gguf
            .integers(&key("token_type"))
            .unwrap_or_default()
            .iter()
            .map(|t| TokenType::from_gguf(*t))
            .collect::<Result<Vec<_>, _>>()
            .map_err(text_error("GGUF vocabulary"))?;
        let id = |k: &str| -> Result<Option<u32>, ImportError> {
            let Some(id) = gguf.unsigned(&key(k)) else {
                return Ok(None);
            };
            match u32::try_from(id) {
                Ok(id) if (id as usize) < tokens.len() => Ok(Some(id)),
                _ => {
                    let why = format!("{id} of {} tokens", tokens.len());
                    Err(ImportError::malformed(key(k), why))
                }
            }
        };
        let name = |id: Option<u32>| {
            id.and_then(|id| tokens.get(id as usize))
                .cloned()
                .unwrap_or_default()
        };
        let bos = id("bos_token_id")?;
        let names = TokenNames {
            bos: name(bos),
            eos: name(id("eos_token_id")?),
            pad: name(id("padding_token_id")?),
            unknown: name(id("unknown_token_id")?),
        };
        let vocabulary = Vocabulary {
            tokens: tokens.to_vec(),
            types,
            merges: gguf
                .strings(&key("merges"))
                .ok_or_else(|| missing("merges"))?
                .to_vec(),
            pre: gguf.string(&key("pre")).unwrap_or("gpt-2").to_owned(),
            bos,
            add_bos: gguf.boolean(&key("add_bos_token")).unwrap_or(false),
        };
        let tokenizer =
            Tokenizer::from_vocabulary(&vocabulary).map_err(text_error("GGUF vocabulary"))?;
        let mut stop = Vec::new();
        for k in ["eos_token_id", "eot_token_id", "eom_token_id"] {
            stop.extend(id(k)?);
        }
        Ok(Self {
            stop: ends(&tokenizer, stop),
            tokenizer: tokenizer.to_json().map_err(text_error("GGUF vocabulary"))?,
            template: gguf.string("tokenizer.chat_template").map(str::to_owned),
            names,
        })
    }

    /// Out of a Hugging Face folder: tokenizer.json, and, where they exist, tokenizer_config.json, generation_config.json and chat_template.jinja.
    ///
    /// # Errors
    /// [`ImportError::Malformed`], [`ImportError::Limit`].
    pub fn from_files(
        tokenizer: &[u8],
        config: Option<&[u8]>,
        generation: Option<&[u8]>,
        template: Option<&[u8]>,
    ) -> Result<Self, ImportError> {
        let read = |what: &'static str, bytes: Option<&[u8]>| -> Result<Json, ImportError> {
            let Some(bytes) = bytes else {
                return Ok(Json::Null);
            };
            ImportError::check(what, bytes.len() as u64, MAX_CONFIG)?;
            serde_json::from_slice(bytes).map_err(|e| ImportError::malformed(what, e.to_string()))
        };
        let config = read("tokenizer_config.json", config)?;
        let generation = read("generation_config.json", generation)?;
        let own = Tokenizer::from_json(tokenizer).map_err(text_error("tokenizer.json"))?;
        let name = |k: &str| {
            let value = config.get(k);
            let text = value.and_then(|v| v.get("content").unwrap_or(v).as_str());
            text.unwrap_or_default().to_owned()
        };
        let names = TokenNames {
            bos: name("bos_token"),
            eos: name("eos_token"),
            pad: name("pad_token"),
            unknown: name("unk_token"),
        };
        let mut stop: Vec<u32> = own.id_of(&names.eos).into_iter().collect();
        let eos = generation.get("eos_token_id");
        let one = |v: &Json| v.as_u64().and_then(|id| u32::try_from(id).ok());
        match eos {
            Some(Json::Array(ids)) => stop.extend(ids.iter().filter_map(one)),
            Some(id) => stop.extend(one(id)),
            None => {}
        }
        stop.retain(|id| *id < own.vocabulary());
        let inside = match config.get("chat_template") {
            Some(Json::Array(all)) => {
                let named = |n: &str| {
                    all.iter()
                        .find(|t| t.get("name").and_then(Json::as_str) == Some(n))
                };
                named("default")
                    .or_else(|| all.first())
                    .and_then(|t| t.get("template"))
            }
            other => other,
        };
        let template = match template {
            Some(bytes) => Some(
                String::from_utf8(bytes.to_vec())
                    .map_err(|e| ImportError::malformed("chat_template.jinja", e.to_string()))?,
            ),
            None => inside.and_then(Json::as_str).map(str::to_owned),
        };
        Ok(Self {
            stop: ends(&own, stop),
            tokenizer: tokenizer.to_vec(),
            template,
            names,
        })
    }
}

/// Known ends added, ascending, each once.
fn ends(tokenizer: &Tokenizer, mut stop: Vec<u32>) -> Vec<u32> {
    let known = ENDS.iter().filter_map(|e| tokenizer.id_of(e));
    stop.extend(known.filter(|id| tokenizer.is_control(*id)));
    stop.sort_unstable();
    stop.dedup();
    stop
}
