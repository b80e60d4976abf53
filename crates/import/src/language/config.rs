//! Sizes and constants of a decoder, from GGUF metadata or config.json.

use serde_json::Value as Json;

use super::architecture::{ARCHITECTURES, Architecture, known};
use crate::{error::ImportError, gguf::Gguf};

/// Sizes and constants of a decoder.
#[derive(Clone, Debug)]
pub struct Config {
    /// Row of the table.
    pub architecture: &'static Architecture,
    /// Layers, 1 … 256.
    pub layers: usize,
    /// Width of the residual stream, 32 … 16,384, a multiple of 32.
    pub width: usize,
    /// Query heads, 1 … 256.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head, even, 2 … 512; `heads · head_size` is a multiple of 32.
    pub head_size: usize,
    /// Width of the feed-forward layer, 32 … 65,536, a multiple of 32.
    pub feed: usize,
    /// Tokens, 2 … 1,000,000.
    pub vocabulary: usize,
    /// Largest number of positions that the model was trained for, 1 … 2^24.
    pub context: usize,
    /// Base of the rotary angles.
    pub rope_base: f64,
    /// Epsilon of the norms.
    pub eps: f64,
}

fn refuse(what: &str, why: impl Into<String>) -> ImportError {
    ImportError::Unsupported {
        op: what.to_owned(),
        node: "configuration".into(),
        why: why.into(),
    }
}

impl Config {
    /// From the metadata of a GGUF file. The vocabulary is the number of rows of the embedding.
    ///
    /// # Errors
    /// [`ImportError::Missing`] for absent keys, [`ImportError::Unsupported`] for other architectures and forms of rotary positions, [`ImportError::Malformed`] for sizes that do not fit together.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, ImportError> {
        let missing = |name: &str| ImportError::Missing {
            what: "GGUF key",
            name: name.to_owned(),
        };
        let name = gguf
            .string("general.architecture")
            .ok_or_else(|| missing("general.architecture"))?;
        let architecture = ARCHITECTURES
            .iter()
            .find(|a| a.gguf == name)
            .ok_or_else(|| refuse(name, format!("architectures: {}", known())))?;
        let key = |k: &str| format!("{}.{k}", architecture.gguf);
        let size = |k: &str| -> Result<usize, ImportError> {
            let v = gguf.unsigned(&key(k)).ok_or_else(|| missing(&key(k)))?;
            usize::try_from(v).map_err(|_| ImportError::malformed(key(k), format!("{v}")))
        };
        let optional = |k: &str, default: usize| -> Result<usize, ImportError> {
            if gguf.get(&key(k)).is_some() {
                size(k)
            } else {
                Ok(default)
            }
        };
        let number = |k: &str| gguf.number(&key(k));
        let (width, heads) = (size("embedding_length")?, size("attention.head_count")?);
        let head_size = optional("attention.key_length", width / heads.max(1))?;
        if let Some(kind) = gguf
            .string(&key("rope.scaling.type"))
            .filter(|k| *k != "none")
        {
            return Err(refuse("rope scaling", format!("`{kind}`")));
        }
        if gguf.tensor("rope_freqs.weight").is_some() {
            return Err(refuse("rope scaling", "the file has factors of its own"));
        }
        for (k, want) in [
            ("rope.dimension_count", head_size),
            ("attention.value_length", head_size),
        ] {
            let have = optional(k, want)?;
            if have != want {
                return Err(refuse(&key(k), format!("{have} of {want}")));
            }
        }
        if optional("expert_count", 0)? != 0 {
            return Err(refuse("experts", "mixtures of experts are not read"));
        }
        let config = Self {
            architecture,
            layers: size("block_count")?,
            width,
            heads,
            kv_heads: optional("attention.head_count_kv", heads)?,
            head_size,
            feed: size("feed_forward_length")?,
            vocabulary: gguf
                .tensor(&format!("{}.weight", architecture.gguf_names.embedding))
                .map_or(0, |t| usize::try_from(t.rows()).unwrap_or(usize::MAX)),
            context: size("context_length")?,
            rope_base: number("rope.freq_base").unwrap_or(10_000.0),
            eps: number("attention.layer_norm_rms_epsilon")
                .ok_or_else(|| missing(&key("attention.layer_norm_rms_epsilon")))?,
        };
        config.check()?;
        Ok(config)
    }

    /// From config.json.
    ///
    /// # Errors
    /// As [`from_gguf`](Self::from_gguf); [`ImportError::Limit`] above 1 MiB.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ImportError> {
        ImportError::check("config.json bytes", bytes.len() as u64, 1 << 20)?;
        let json: Json = serde_json::from_slice(bytes)
            .map_err(|e| ImportError::malformed("config.json", e.to_string()))?;
        let missing = |name: &str| ImportError::Missing {
            what: "key of config.json",
            name: name.to_owned(),
        };
        let get = |k: &str| json.get(k).filter(|v| !v.is_null());
        let name = get("model_type").and_then(Json::as_str).unwrap_or("");
        let architecture = ARCHITECTURES
            .iter()
            .find(|a| a.model_type == name)
            .ok_or_else(|| refuse(name, format!("architectures: {}", known())))?;
        let optional = |k: &str, default: usize| -> Result<usize, ImportError> {
            match get(k) {
                None => Ok(default),
                Some(v) => v
                    .as_u64()
                    .and_then(|v| usize::try_from(v).ok())
                    .ok_or_else(|| ImportError::malformed("config.json", format!("`{k}` is {v}"))),
            }
        };
        let size = |k: &str| {
            get(k).ok_or_else(|| missing(k))?;
            optional(k, 0)
        };
        if let Some(act) = get("hidden_act").filter(|a| a.as_str() != Some("silu")) {
            return Err(refuse("hidden_act", format!("{act}, `silu` is read")));
        }
        let scaling = |k: &str| {
            get("rope_scaling")
                .or_else(|| get("rope_parameters"))
                .and_then(|s| s.get(k))
        };
        let kind = scaling("rope_type")
            .or_else(|| scaling("type"))
            .and_then(Json::as_str);
        if let Some(kind) = kind.filter(|k| *k != "default") {
            return Err(refuse("rope scaling", format!("`{kind}`")));
        }
        if get("use_sliding_window").and_then(Json::as_bool) == Some(true) {
            return Err(refuse("sliding window", "attention must see all positions"));
        }
        let (width, heads) = (size("hidden_size")?, size("num_attention_heads")?);
        let config = Self {
            architecture,
            layers: size("num_hidden_layers")?,
            width,
            heads,
            kv_heads: optional("num_key_value_heads", heads)?,
            head_size: optional("head_dim", width / heads.max(1))?,
            feed: size("intermediate_size")?,
            vocabulary: size("vocab_size")?,
            context: size("max_position_embeddings")?,
            rope_base: get("rope_theta")
                .or_else(|| scaling("rope_theta"))
                .and_then(Json::as_f64)
                .unwrap_or(10_000.0),
            eps: get("rms_norm_eps").and_then(Json::as_f64).unwrap_or(1e-6),
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ImportError> {
        let bad = |why: String| Err(ImportError::malformed("configuration", why));
        let sizes = [
            ("layers", self.layers, 1, 256),
            ("width", self.width, 32, 16_384),
            ("heads", self.heads, 1, 256),
            ("key heads", self.kv_heads, 1, 256),
            ("head size", self.head_size, 2, 512),
            ("feed-forward width", self.feed, 32, 65_536),
            ("vocabulary", self.vocabulary, 2, 1_000_000),
            ("context", self.context, 1, 1 << 24),
        ];
        for (what, have, low, high) in sizes {
            if !(low..=high).contains(&have) {
                return bad(format!("{what}: {have}, {low} to {high} accepted"));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return bad(format!(
                "{} query heads for {} key heads",
                self.heads, self.kv_heads
            ));
        }
        if !self.head_size.is_multiple_of(2) {
            return bad(format!("head size {} is odd", self.head_size));
        }
        let joined = self.heads * self.head_size;
        for (what, n) in [
            ("width", self.width),
            ("feed-forward width", self.feed),
            ("width of all heads", joined),
        ] {
            if !n.is_multiple_of(32) {
                return bad(format!("{what} {n} is not a multiple of 32"));
            }
        }
        if !(1.0..=1e12).contains(&self.rope_base) || !(0.0..=1.0).contains(&self.eps) {
            return bad(format!(
                "rotary base {}, epsilon {}",
                self.rope_base, self.eps
            ));
        }
        Ok(())
    }

    /// Key head of a query head.
    pub const fn key_head(&self, head: usize) -> usize {
        head * self.kv_heads / self.heads
    }

    /// Width of keys and values of all heads.
    pub const fn kv_width(&self) -> usize {
        self.kv_heads * self.head_size
    }

    /// Weights of the matrices and norms, the head counted once.
    pub const fn parameters(&self) -> u64 {
        let attention =
            2 * self.width * self.heads * self.head_size + 2 * self.width * self.kv_width();
        let layer = attention + 3 * self.width * self.feed + 2 * self.width;
        (self.layers * layer + self.vocabulary * self.width + self.width) as u64
    }
}
