//! config.json of a BERT checkpoint.

use serde::Deserialize;

use crate::error::ImportError;

/// The part of config.json that matters here.
#[derive(Clone, Debug, Deserialize)]
pub struct BertConfig {
    /// `bert`.
    pub model_type: String,
    /// Width d of the residual stream, 8 … 1,024, a multiple of the heads.
    pub hidden_size: usize,
    /// Width of the feed-forward layer, 8 … 8,192.
    pub intermediate_size: usize,
    /// Heads, 1 … 64.
    pub num_attention_heads: usize,
    /// Layers, 1 … 48.
    pub num_hidden_layers: usize,
    /// Rows of the word embedding, 2 … 1,000,000.
    pub vocab_size: usize,
    /// Rows of the position embedding, 1 … 8,192.
    pub max_position_embeddings: usize,
    /// Rows of the token type embedding; row 0 is used.
    pub type_vocab_size: usize,
    /// Epsilon of all layer norms.
    pub layer_norm_eps: f64,
    /// `gelu`.
    pub hidden_act: String,
    /// `absolute` when present.
    #[serde(default)]
    pub position_embedding_type: Option<String>,
}

impl BertConfig {
    /// Parses and checks config.json (at most 64 KiB).
    ///
    /// # Errors
    /// [`ImportError::Malformed`] for bad JSON or another architecture, [`ImportError::Limit`] for sizes outside the ranges above.
    pub fn parse(json: &[u8]) -> Result<Self, ImportError> {
        ImportError::check("config.json bytes", json.len() as u64, 64 << 10)?;
        let config: Self = serde_json::from_slice(json)
            .map_err(|e| ImportError::malformed("config.json", e.to_string()))?;
        let need = |key: &str, have: &str, want: &str| {
            if have == want {
                Ok(())
            } else {
                Err(ImportError::malformed(
                    "config.json",
                    format!("`{key}` is `{have}`, only `{want}` is supported"),
                ))
            }
        };
        need("model_type", &config.model_type, "bert")?;
        need("hidden_act", &config.hidden_act, "gelu")?;
        need(
            "position_embedding_type",
            config
                .position_embedding_type
                .as_deref()
                .unwrap_or("absolute"),
            "absolute",
        )?;
        let sizes = [
            ("hidden_size", config.hidden_size, 8, 1024),
            ("intermediate_size", config.intermediate_size, 8, 8192),
            ("num_attention_heads", config.num_attention_heads, 1, 64),
            ("num_hidden_layers", config.num_hidden_layers, 1, 48),
            ("vocab_size", config.vocab_size, 2, 1_000_000),
            (
                "max_position_embeddings",
                config.max_position_embeddings,
                1,
                8192,
            ),
            ("type_vocab_size", config.type_vocab_size, 1, 64),
        ];
        for (key, have, low, high) in sizes {
            if have < low {
                return Err(ImportError::malformed(
                    "config.json",
                    format!("`{key}` is {have}, at least {low} wanted"),
                ));
            }
            ImportError::check(key, have as u64, high)?;
        }
        if !config
            .hidden_size
            .is_multiple_of(config.num_attention_heads)
        {
            let why = format!(
                "hidden_size {} is not a multiple of {} heads",
                config.hidden_size, config.num_attention_heads
            );
            return Err(ImportError::malformed("config.json", why));
        }
        if !(0.0..=1.0).contains(&config.layer_norm_eps) {
            return Err(ImportError::malformed(
                "config.json",
                format!(
                    "`layer_norm_eps` is {}, 0 to 1 wanted",
                    config.layer_norm_eps
                ),
            ));
        }
        Ok(config)
    }

    /// Width of one head.
    pub const fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }
}
