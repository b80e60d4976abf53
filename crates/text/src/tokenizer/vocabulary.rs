//! A vocabulary as GGUF files carry it, and its tokenizer.json.

use serde_json::{Value, json};

use super::bytes::byte_to_char;
use crate::TextError;

/// What a token is (`tokenizer.ggml.token_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenType {
    /// 1: text by merges.
    Normal,
    /// 2: stands for what the vocabulary lacks; treated as control.
    Unknown,
    /// 3: ends, starts and marks; has no text and is never matched in content.
    Control,
    /// 4: added text, matched as a whole in trusted text.
    UserDefined,
    /// 5: never produced from text.
    Unused,
    /// 6: one byte.
    Byte,
}

impl TokenType {
    /// From the number in a GGUF file.
    ///
    /// # Errors
    /// [`TextError::Tokenizer`] for a number outside 1..=6.
    pub fn from_gguf(number: i64) -> Result<Self, TextError> {
        Ok(match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            other => {
                return Err(TextError::tokenizer(format_args!(
                    "token type {other}, expected 1 to 6"
                )));
            }
        })
    }

    fn is_special(self) -> bool {
        matches!(self, Self::Control | Self::Unknown)
    }
}

/// Byte-level BPE vocabulary (`tokenizer.ggml.*` with model `gpt2`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vocabulary {
    /// Texts by id; normal tokens in the byte-level alphabet.
    pub tokens: Vec<String>,
    /// Types by id; empty: all normal.
    pub types: Vec<TokenType>,
    /// Pairs in order of rank, separated by one space.
    pub merges: Vec<String>,
    /// Name of the pre-tokenizer (`tokenizer.ggml.pre`): `smollm`, `qwen2`, `gpt-2`, `llama-bpe` and their aliases.
    pub pre: String,
    /// Token that starts a document.
    pub bos: Option<u32>,
    /// Whether documents start with it (`tokenizer.ggml.add_bos_token`).
    pub add_bos: bool,
}

const GPT2: &str = "";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// One row per pre-tokenizer: names, expression (empty: the one of GPT-2, which the byte level brings), each digit alone,
/// whole words of the vocabulary are taken without merging. Names and expressions as in llama.cpp's `llama-vocab.cpp`.
const PRE: [(&[&str], &str, bool, bool); 4] = [
    (
        &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "gigachat",
            "jais",
            "mpt",
            "olmo",
            "roberta-bpe",
        ],
        GPT2,
        false,
        false,
    ),
    (
        &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
        ],
        GPT2,
        true,
        false,
    ),
    (
        &["qwen2", "deepseek-r1-qwen", "stablelm2", "megrez"],
        QWEN2,
        false,
        false,
    ),
    (
        &["llama-bpe", "llama3", "llama-v3", "falcon3"],
        LLAMA3,
        false,
        true,
    ),
];

const KNOWN: &str = "gpt-2, smollm, qwen2, llama-bpe";

impl Vocabulary {
    /// A vocabulary of the 256 bytes (ids in order of the byte) without merges, for tests and as a base.
    #[must_use]
    pub fn bytes(pre: &str) -> Self {
        Self {
            tokens: (0..=255)
                .map(|byte| byte_to_char(byte).to_string())
                .collect(),
            types: vec![TokenType::Normal; 256],
            pre: pre.to_owned(),
            ..Self::default()
        }
    }

    /// Adds a control token.
    pub fn push_control(&mut self, token: &str) -> &mut Self {
        self.tokens.push(token.to_owned());
        self.types.push(TokenType::Control);
        self
    }

    /// Adds a merge and the token that it makes.
    pub fn push_merge(&mut self, left: &str, right: &str) -> &mut Self {
        self.tokens.push(format!("{left}{right}"));
        self.types.push(TokenType::Normal);
        self.merges.push(format!("{left} {right}"));
        self
    }

    /// The same as a tokenizer.json. Control tokens are left out of the merging vocabulary, so that text can't reach them.
    ///
    /// # Errors
    /// [`TextError::Unsupported`] for an unknown pre-tokenizer, [`TextError::Tokenizer`] when counts disagree.
    pub(super) fn to_value(&self) -> Result<Value, TextError> {
        let Some((_, pattern, digits, ignore_merges)) = PRE
            .iter()
            .find(|(names, ..)| names.contains(&self.pre.as_str()))
        else {
            return Err(TextError::Unsupported {
                part: "pre-tokenizer",
                have: self.pre.clone(),
                accepted: KNOWN,
            });
        };
        if !self.types.is_empty() && self.types.len() != self.tokens.len() {
            return Err(TextError::tokenizer(format_args!(
                "{} tokens but {} token types",
                self.tokens.len(),
                self.types.len()
            )));
        }
        let mut vocabulary = serde_json::Map::new();
        let mut added = Vec::new();
        for (id, token) in self.tokens.iter().enumerate() {
            let kind = self.types.get(id).copied().unwrap_or(TokenType::Normal);
            if kind.is_special() || kind == TokenType::UserDefined {
                added.push(json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": kind.is_special(),
                }));
            }
            if !kind.is_special()
                && let Some(first) = vocabulary.insert(token.clone(), json!(id))
            {
                return Err(TextError::DuplicateToken {
                    token: token.clone(),
                    first: first
                        .as_u64()
                        .and_then(|id| u32::try_from(id).ok())
                        .unwrap_or_default(),
                    second: u32::try_from(id).unwrap_or(u32::MAX),
                });
            }
        }
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": null,
            "pre_tokenizer": pre_tokenizer(pattern, *digits),
            "post_processor": self.post_processor()?,
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": ignore_merges, "vocab": vocabulary, "merges": self.merges,
            },
        }))
    }

    /// Says that documents start with the first token.
    fn post_processor(&self) -> Result<Value, TextError> {
        if !self.add_bos {
            return Ok(Value::Null);
        }
        let token = self
            .bos
            .and_then(|id| self.tokens.get(usize::try_from(id).ok()?))
            .ok_or_else(|| {
                TextError::tokenizer(format_args!(
                    "documents start with token {:?}, which the vocabulary of {} tokens lacks",
                    self.bos,
                    self.tokens.len()
                ))
            })?;
        Ok(json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {token: {"id": token, "ids": [self.bos], "tokens": [token]}},
        }))
    }
}

fn pre_tokenizer(pattern: &str, digits: bool) -> Value {
    let mut steps = Vec::new();
    if digits {
        steps.push(json!({"type": "Digits", "individual_digits": true}));
    }
    if !pattern.is_empty() {
        steps.push(json!({
            "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false,
        }));
    }
    steps.push(json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": pattern.is_empty(),
    }));
    json!({"type": "Sequence", "pretokenizers": steps})
}
