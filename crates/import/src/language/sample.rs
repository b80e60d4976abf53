//! Small language models of random weights, as files: for tests of everything that handles language models, without a download.

use assay_text::{Tokenizer, Vocabulary};
use serde_json::json;

use super::architecture::{ARCHITECTURES, Names, Pairing};
use crate::gguf::{TensorType, Value, Writer};

/// What a sample looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// `llama` or `qwen2`.
    pub architecture: &'static str,
    /// Width of the residual stream; a multiple of the block of `ty`.
    pub width: usize,
    /// Width of the feed-forward layer; a multiple of the block of `ty`.
    pub feed: usize,
    /// Query heads; half as many key heads.
    pub heads: usize,
    /// Layers.
    pub layers: usize,
    /// Storage of all matrices.
    pub ty: TensorType,
    /// Whether query, key and value have biases.
    pub biases: bool,
    /// Most positions.
    pub context: usize,
    /// Other weights for other seeds.
    pub seed: u64,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            architecture: "llama",
            width: 64,
            feed: 96,
            heads: 4,
            layers: 2,
            ty: TensorType::F32,
            biases: false,
            context: 64,
            seed: 1,
        }
    }
}

/// Template of samples: every turn between its marks.
pub const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

struct Random(blake3::OutputReader);

impl Random {
    fn byte(&mut self) -> u8 {
        let mut b = [0];
        self.0.fill(&mut b);
        b[0]
    }

    /// Nearly normal, deviation 1.
    fn number(&mut self) -> f32 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        // the sum of four uniform numbers
        let sum: f32 = bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|b| f32::from(u16::from_le_bytes(*b)) / 65_536.0)
            .sum();
        (sum - 2.0) * 1.732
    }
}

/// A tensor: name, dimensions (slowest first), storage, bytes.
type Part = (String, Vec<u64>, TensorType, Vec<u8>);

impl Sample {
    fn vocabulary(&self) -> Vocabulary {
        let mut v = Vocabulary::bytes("gpt-2");
        for token in ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] {
            v.push_control(token);
        }
        v
    }

    /// All tensors by the names of one form of file; `halves` orders query and key rows as safetensors do.
    fn parts(&self, names: &Names, halves: bool) -> Vec<Part> {
        let seed = format!("sample {}", self.seed);
        let mut random = Random(
            blake3::Hasher::new_derive_key("assay sample language model v1")
                .update(seed.as_bytes())
                .finalize_xof(),
        );
        let d = self.width / self.heads.max(1);
        let kv = d * self.heads / 2;
        let mut parts: Vec<Part> = Vec::new();
        let vocabulary = self.vocabulary().tokens.len();
        let mut matrix = |parts: &mut Vec<Part>,
                          name: String,
                          rows: usize,
                          cols: usize,
                          head: Option<usize>,
                          bias: bool| {
            let gain = 1.0 / (cols as f32).sqrt();
            let lines: Vec<Vec<u8>> = (0..rows)
                .map(|_| self.row(&mut random, cols, gain))
                .collect();
            // a seed gives the rows in the graph's order; files with adjacent pairs hold them in another
            let place = |file_row: usize| match head {
                Some(d) if !halves => {
                    let within = file_row % d;
                    file_row - within + within / 2 + (within % 2) * d / 2
                }
                _ => file_row,
            };
            let bytes = (0..rows)
                .filter_map(|r| lines.get(place(r)))
                .flatten()
                .copied()
                .collect();
            parts.push((
                format!("{name}.weight"),
                vec![rows as u64, cols as u64],
                self.ty,
                bytes,
            ));
            if bias {
                let values: Vec<f32> = (0..rows).map(|_| random.number() * 0.3).collect();
                let bytes = (0..rows)
                    .filter_map(|r| values.get(place(r)))
                    .flat_map(|v| v.to_le_bytes())
                    .collect();
                parts.push((
                    format!("{name}.bias"),
                    vec![rows as u64],
                    TensorType::F32,
                    bytes,
                ));
            }
        };
        let norm = |parts: &mut Vec<Part>, name: String| {
            let gains = (0..self.width).map(|i| 0.6 + 0.05 * (i % 13) as f32);
            let bytes = gains.flat_map(f32::to_le_bytes).collect();
            parts.push((
                format!("{name}.weight"),
                vec![self.width as u64],
                TensorType::F32,
                bytes,
            ));
        };
        let p = &mut parts;
        matrix(
            p,
            names.embedding.into(),
            vocabulary,
            self.width,
            None,
            false,
        );
        for i in 0..self.layers {
            let name = |pattern: &str| pattern.replace("{}", &i.to_string());
            let (w, f, b) = (self.width, self.feed, self.biases);
            norm(p, name(names.attention_norm));
            matrix(p, name(names.query), w, w, Some(d), b);
            matrix(p, name(names.key), kv, w, Some(d), b);
            matrix(p, name(names.value), kv, w, None, b);
            matrix(p, name(names.output), w, w, None, false);
            norm(p, name(names.feed_norm));
            matrix(p, name(names.gate), f, w, None, false);
            matrix(p, name(names.up), f, w, None, false);
            matrix(p, name(names.down), w, f, None, false);
        }
        norm(p, names.final_norm.into());
        parts
    }

    /// Bytes of one row with weights of about `gain`.
    fn row(&self, random: &mut Random, cols: usize, gain: f32) -> Vec<u8> {
        let (block, bytes) = self.ty.block();
        if self.ty == TensorType::F32 {
            return (0..cols)
                .flat_map(|_| (random.number() * gain).to_le_bytes())
                .collect();
        }
        if self.ty.layout().is_none() {
            // the upper half of a float is the same number in BF16; other halves are not made here
            return (0..cols)
                .flat_map(|_| {
                    ((random.number() * gain).to_bits() >> 16)
                        .to_le_bytes()
                        .into_iter()
                        .take(2)
                })
                .collect();
        }
        // random codes under small steps; offsets that put the middle of the codes near 0
        let mut out = Vec::new();
        for _ in 0..cols as u64 / block {
            let mut b: Vec<u8> = (0..bytes).map(|_| random.byte()).collect();
            let mut put = |at: usize, v: f32| {
                for (slot, byte) in b.iter_mut().skip(at).zip(half_bytes(v)) {
                    *slot = byte;
                }
            };
            match self.ty {
                TensorType::Q4_0 => put(0, gain / 4.6),
                TensorType::Q5_0 => put(0, gain / 9.2),
                TensorType::Q8_0 => put(0, gain / 74.0),
                TensorType::Q4_1 => {
                    put(0, gain / 4.6);
                    put(2, -gain * 1.6);
                }
                TensorType::Q5_1 => {
                    put(0, gain / 9.2);
                    put(2, -gain * 1.7);
                }
                TensorType::Q4_K => {
                    put(0, gain / 4.6 / 32.0);
                    put(2, gain * 1.6 / 32.0);
                }
                TensorType::Q5_K => {
                    put(0, gain / 9.2 / 32.0);
                    put(2, gain * 1.7 / 32.0);
                }
                _ => put(208, gain / 18.0 / 64.0),
            }
            out.extend(b);
        }
        out
    }

    fn names(&self, gguf: bool) -> Option<(Names, bool)> {
        let a = ARCHITECTURES.iter().find(|a| a.gguf == self.architecture)?;
        Some(if gguf {
            (a.gguf_names, a.gguf_pairing == Pairing::Halves)
        } else {
            (a.folder_names, true)
        })
    }

    /// The model as a GGUF file; empty for an unknown architecture.
    pub fn gguf(&self) -> Vec<u8> {
        let Some((names, halves)) = self.names(true) else {
            return Vec::new();
        };
        let mut w = Writer::new();
        let key = |k: &str| format!("{}.{k}", self.architecture);
        let number = |v: usize| Value::Unsigned(v as u64);
        w.key(
            "general.architecture",
            Value::String(self.architecture.into()),
        )
        .key(&key("block_count"), number(self.layers))
        .key(&key("context_length"), number(self.context))
        .key(&key("embedding_length"), number(self.width))
        .key(&key("feed_forward_length"), number(self.feed))
        .key(&key("attention.head_count"), number(self.heads))
        .key(&key("attention.head_count_kv"), number(self.heads / 2))
        .key(&key("rope.freq_base"), Value::Float(10_000.0))
        .key(&key("attention.layer_norm_rms_epsilon"), Value::Float(1e-5));
        let v = self.vocabulary();
        let types = (0..v.tokens.len()).map(|i| if i < 256 { 1 } else { 3 });
        w.key("tokenizer.ggml.model", Value::String("gpt2".into()))
            .key("tokenizer.ggml.pre", Value::String("gpt-2".into()))
            .key(
                "tokenizer.ggml.token_type",
                Value::Integers(types.collect()),
            )
            .key("tokenizer.ggml.merges", Value::Strings(Vec::new()))
            .key("tokenizer.ggml.eos_token_id", number(258))
            .key("tokenizer.ggml.tokens", Value::Strings(v.tokens))
            .key("tokenizer.chat_template", Value::String(TEMPLATE.into()));
        for (name, dims, ty, bytes) in self.parts(&names, halves) {
            w.tensor(&name, &dims, ty, bytes);
        }
        w.finish()
    }

    /// The model as files of a folder, name and bytes; float storage only, else empty.
    pub fn folder(&self) -> Vec<(&'static str, Vec<u8>)> {
        let Some((names, halves)) = self.names(false) else {
            return Vec::new();
        };
        let dtype = match self.ty {
            TensorType::F32 => "F32",
            TensorType::BF16 => "BF16",
            _ => return Vec::new(),
        };
        let mut header = serde_json::Map::new();
        let mut data = Vec::new();
        for (name, dims, ty, bytes) in self.parts(&names, halves) {
            let dtype = if ty == TensorType::F32 { "F32" } else { dtype };
            let end = data.len() + bytes.len();
            header.insert(
                name,
                json!({ "dtype": dtype, "shape": dims, "data_offsets": [data.len(), end] }),
            );
            data.extend(bytes);
        }
        let mut head = serde_json::Value::Object(header).to_string().into_bytes();
        head.resize(head.len().next_multiple_of(8), b' ');
        let mut tensors = (head.len() as u64).to_le_bytes().to_vec();
        tensors.extend(head);
        tensors.extend(data);
        let config = json!({
            "model_type": self.architecture, "hidden_size": self.width, "intermediate_size": self.feed,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads, "num_key_value_heads": self.heads / 2,
            "vocab_size": self.vocabulary().tokens.len(), "max_position_embeddings": self.context,
            "rope_theta": 10_000.0, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": true,
        });
        let tokenizer = Tokenizer::from_vocabulary(&self.vocabulary()).and_then(|t| t.to_json());
        vec![
            ("config.json", config.to_string().into_bytes()),
            ("model.safetensors", tensors),
            ("tokenizer.json", tokenizer.unwrap_or_default()),
            (
                "tokenizer_config.json",
                json!({ "eos_token": "<|im_end|>", "chat_template": TEMPLATE })
                    .to_string()
                    .into_bytes(),
            ),
        ]
    }
}

/// A small positive or negative number as IEEE binary16, truncated.
fn half_bytes(v: f32) -> [u8; 2] {
    let bits = v.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let exponent = (bits >> 23 & 0xff) as i32 - 127 + 15;
    let half = if exponent <= 0 {
        sign
    } else {
        sign | (exponent as u16) << 10 | (bits >> 13 & 0x3ff) as u16
    };
    half.to_le_bytes()
}
