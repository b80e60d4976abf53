//! Weights of a BERT checkpoint, by the names of the checkpoint.

use safetensors::{Dtype, SafeTensors};

use super::config::BertConfig;
use crate::error::ImportError;

/// A linear layer: `y = W x + b`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[rows, cols]`, row-major.
    pub weight: Vec<f32>,
    /// `[rows]`.
    pub bias: Vec<f32>,
    /// Length of a row.
    pub cols: usize,
}

impl Linear {
    /// Weights of output channel `r`, empty when there is none.
    pub fn row(&self, r: usize) -> &[f32] {
        self.weight
            .get(r * self.cols..(r + 1) * self.cols)
            .unwrap_or(&[])
    }

    /// Largest magnitude of each column.
    pub fn column_peaks(&self) -> Vec<f32> {
        let mut peaks = vec![0f32; self.cols];
        for row in self.weight.chunks_exact(self.cols.max(1)) {
            for (p, w) in peaks.iter_mut().zip(row) {
                *p = p.max(w.abs());
            }
        }
        peaks
    }
}

/// Gain and bias of a layer norm.
#[derive(Clone, Debug)]
pub struct Norm {
    /// `[width]`.
    pub gain: Vec<f32>,
    /// `[width]`.
    pub bias: Vec<f32>,
}

/// One encoder layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// `attention.self.query`.
    pub query: Linear,
    /// `attention.self.key`.
    pub key: Linear,
    /// `attention.self.value`.
    pub value: Linear,
    /// `attention.output.dense`.
    pub output: Linear,
    /// `attention.output.LayerNorm`.
    pub attention_norm: Norm,
    /// `intermediate.dense`.
    pub up: Linear,
    /// `output.dense`.
    pub down: Linear,
    /// `output.LayerNorm`.
    pub output_norm: Norm,
}

/// All weights in f32.
#[derive(Clone, Debug)]
pub struct BertWeights {
    /// Word embedding `[vocabulary, width]`.
    pub words: Vec<f32>,
    /// Position embedding plus token type 0, `[positions, width]`.
    pub positions: Vec<f32>,
    /// `embeddings.LayerNorm`.
    pub embedding_norm: Norm,
    /// Encoder layers in order.
    pub layers: Vec<Layer>,
}

struct Reader<'a> {
    tensors: SafeTensors<'a>,
}

impl BertWeights {
    /// Reads a safetensors file (F32, F16 or BF16 tensors; an optional `bert.` prefix; other tensors are ignored).
    ///
    /// # Errors
    /// [`ImportError::Malformed`] for a broken header or wrong shape or element type, [`ImportError::Missing`] for an absent tensor,
    /// [`ImportError::NotFinite`] for NaN or infinity.
    pub fn parse(bytes: &[u8], config: &BertConfig) -> Result<Self, ImportError> {
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|e| ImportError::malformed("safetensors file", e.to_string()))?;
        let r = Reader { tensors };
        let (d, ffn) = (config.hidden_size, config.intermediate_size);
        let types = r.floats(
            "embeddings.token_type_embeddings.weight",
            &[config.type_vocab_size, d],
        )?;
        let mut positions = r.floats(
            "embeddings.position_embeddings.weight",
            &[config.max_position_embeddings, d],
        )?;
        for row in positions.chunks_exact_mut(d) {
            for (p, t) in row.iter_mut().zip(&types) {
                *p += t;
            }
        }
        let layers = (0..config.num_hidden_layers)
            .map(|i| {
                let p = format!("encoder.layer.{i}.");
                Ok(Layer {
                    query: r.linear(&format!("{p}attention.self.query"), d, d)?,
                    key: r.linear(&format!("{p}attention.self.key"), d, d)?,
                    value: r.linear(&format!("{p}attention.self.value"), d, d)?,
                    output: r.linear(&format!("{p}attention.output.dense"), d, d)?,
                    attention_norm: r.norm(&format!("{p}attention.output.LayerNorm"), d)?,
                    up: r.linear(&format!("{p}intermediate.dense"), ffn, d)?,
                    down: r.linear(&format!("{p}output.dense"), d, ffn)?,
                    output_norm: r.norm(&format!("{p}output.LayerNorm"), d)?,
                })
            })
            .collect::<Result<_, ImportError>>()?;
        Ok(Self {
            words: r.floats("embeddings.word_embeddings.weight", &[config.vocab_size, d])?,
            positions,
            embedding_norm: r.norm("embeddings.LayerNorm", d)?,
            layers,
        })
    }
}

impl Reader<'_> {
    fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ImportError> {
        let view = self
            .tensors
            .tensor(name)
            .or_else(|_| self.tensors.tensor(&format!("bert.{name}")))
            .map_err(|_| ImportError::Missing {
                what: "tensor",
                name: name.to_owned(),
            })?;
        if view.shape() != shape {
            return Err(ImportError::malformed(
                format!("tensor `{name}`"),
                format!("shape is {:?}, {shape:?} wanted", view.shape()),
            ));
        }
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => view
                .data()
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
            Dtype::BF16 => view
                .data()
                .as_chunks::<2>()
                .0
                .iter()
                .map(|b| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16))
                .collect(),
            Dtype::F16 => view
                .data()
                .as_chunks::<2>()
                .0
                .iter()
                .map(|b| half(u16::from_le_bytes(*b)))
                .collect(),
            other => {
                return Err(ImportError::malformed(
                    format!("tensor `{name}`"),
                    format!("element type {other:?}, F32, F16 or BF16 wanted"),
                ));
            }
        };
        match values.iter().position(|v| !v.is_finite()) {
            Some(index) => Err(ImportError::NotFinite {
                tensor: name.to_owned(),
                index,
            }),
            None => Ok(values),
        }
    }

    fn linear(&self, name: &str, rows: usize, cols: usize) -> Result<Linear, ImportError> {
        Ok(Linear {
            weight: self.floats(&format!("{name}.weight"), &[rows, cols])?,
            bias: self.floats(&format!("{name}.bias"), &[rows])?,
            cols,
        })
    }

    fn norm(&self, name: &str, width: usize) -> Result<Norm, ImportError> {
        Ok(Norm {
            gain: self.floats(&format!("{name}.weight"), &[width])?,
            bias: self.floats(&format!("{name}.bias"), &[width])?,
        })
    }
}

/// IEEE binary16 to f32.
pub(crate) fn half(h: u16) -> f32 {
    let sign = if h & 0x8000 == 0 { 1f32 } else { -1f32 };
    let (exponent, fraction) = (i32::from((h >> 10) & 0x1f), f32::from(h & 0x3ff));
    match exponent {
        0 => sign * fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        e => sign * (1.0 + fraction / 1024.0) * 2f32.powi(e - 15),
    }
}
