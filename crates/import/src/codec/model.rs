//! One model's codec: what people send to an input tensor, output bytes to what people get.

use assay_graph::{DType, Data, Tensor};

use super::{CodecError, TextCodec, samples};
use crate::{
    ImportError,
    manifest::{InputKind, InputSpec, Manifest, OutputKind, OutputSpec},
    pull::sha256_hex,
    quantise::End,
};

/// What people send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ask<'a> {
    /// Text.
    Text(&'a str),
    /// Token ids, special tokens included.
    Ids(&'a [u32]),
    /// A PNG file.
    Png(&'a [u8]),
    /// Real numbers, row-major.
    Values(&'a [f64]),
}

impl Ask<'_> {
    const fn name(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Ids(_) => "token ids",
            Self::Png(_) => "an image",
            Self::Values(_) => "a tensor of numbers",
        }
    }
}

/// What people get.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A vector of length 1.
    Embedding(Vec<f32>),
    /// Scores, and the best class.
    Classes {
        /// Score of each class.
        scores: Vec<f64>,
        /// Index of the best (the lowest one among equals).
        best: usize,
        /// Its name.
        label: String,
    },
    /// Real numbers, row-major.
    Values {
        /// Dimensions.
        dims: Vec<usize>,
        /// Numbers.
        values: Vec<f64>,
    },
}

/// Encodes inputs and decodes outputs of one model.
#[derive(Clone, Debug)]
pub struct Codec {
    input: InputSpec,
    output: OutputSpec,
    dtypes: (DType, DType),
    text: Option<TextCodec>,
}

impl Codec {
    /// The codec that a manifest describes, for a graph with these element types at its ends; text models need their tokenizer.json.
    ///
    /// # Errors
    /// [`ImportError::Malformed`] when the tokenizer is missing, has another hash or can't be read.
    pub fn new(manifest: &Manifest, tokenizer: Option<&[u8]>, input: DType, output: DType) -> Result<Self, ImportError> {
        let text = match &manifest.input.kind {
            InputKind::Text { tokenizer_sha256, max_tokens } => {
                let bytes = tokenizer.ok_or(ImportError::Missing { what: "file", name: "tokenizer.json".into() })?;
                let have = sha256_hex(bytes);
                if have != *tokenizer_sha256 {
                    return Err(ImportError::malformed("tokenizer.json", format!("sha256 is {have}, the manifest says {tokenizer_sha256}")));
                }
                Some(TextCodec::new(bytes, *max_tokens).map_err(|e| ImportError::malformed("tokenizer.json", e.to_string()))?)
            }
            _ => None,
        };
        Ok(Self { input: manifest.input.clone(), output: manifest.output.clone(), dtypes: (input, output), text })
    }

    /// The tokenizer of a text model.
    pub const fn text(&self) -> Option<&TextCodec> {
        self.text.as_ref()
    }

    /// The input tensor of a request.
    ///
    /// # Errors
    /// [`CodecError`]: too long, no image, wrong number of values, numbers that are not finite. Finite values outside the declared range are clamped to it.
    pub fn encode(&self, ask: Ask<'_>) -> Result<Tensor, CodecError> {
        match (&self.input.kind, ask) {
            (InputKind::Text { .. }, Ask::Text(text)) => {
                let codec = self.text.as_ref().ok_or(CodecError::Tokenizer { why: "missing".into() })?;
                self.ids(&codec.encode(text)?)
            }
            (InputKind::Text { max_tokens, .. }, Ask::Ids(ids)) => {
                if ids.len() > *max_tokens as usize {
                    return Err(CodecError::TooLong { tokens: ids.len(), limit: *max_tokens as usize });
                }
                self.ids(ids)
            }
            (InputKind::Image { height, width, channels, channels_first, black, white }, Ask::Png(png)) => {
                let plane = (*height * *width) as usize;
                let channels = *channels as usize;
                let samples = samples(png, *height, *width, channels as u32)?;
                let order: Vec<f64> = if *channels_first {
                    (0..channels).flat_map(|c| (0..plane).map(move |p| p * channels + c)).filter_map(|i| samples.get(i).copied()).collect()
                } else {
                    samples
                };
                let values: Vec<f64> = order.iter().map(|s| black + s / 255.0 * (white - black)).collect();
                self.values(&values)
            }
            (InputKind::Image { .. } | InputKind::Tensor, Ask::Values(values)) => self.values(values),
            (kind, ask) => {
                let want = match kind {
                    InputKind::Text { .. } => "text or token ids",
                    InputKind::Image { .. } => "a PNG image or a tensor of numbers",
                    InputKind::Tensor => "a tensor of numbers",
                };
                Err(CodecError::Kind { want, have: ask.name() })
            }
        }
    }

    fn ids(&self, ids: &[u32]) -> Result<Tensor, CodecError> {
        let End { lo, hi, .. } = self.input.end;
        let mut values = Vec::with_capacity(ids.len());
        for (index, id) in ids.iter().enumerate() {
            match i32::try_from(*id) {
                Ok(v) if (lo..=hi).contains(&v) => values.push(v),
                _ => return Err(CodecError::Value { index, value: f64::from(*id), lo: f64::from(lo), hi: f64::from(hi) }),
            }
        }
        self.tensor(&values)
    }

    fn values(&self, values: &[f64]) -> Result<Tensor, CodecError> {
        let End { step, lo, hi } = self.input.end;
        let mut out = Vec::with_capacity(values.len());
        for (index, v) in values.iter().enumerate() {
            if !v.is_finite() {
                return Err(CodecError::Value { index, value: *v, lo: step * f64::from(lo), hi: step * f64::from(hi) });
            }
            out.push((v / step).round().clamp(f64::from(lo), f64::from(hi)) as i32);
        }
        self.tensor(&out)
    }

    fn tensor(&self, values: &[i32]) -> Result<Tensor, CodecError> {
        let dims = resolve(&self.input.dims, values.len(), "input")?;
        let data = Data::from_i32(self.dtypes.0, values).ok_or(CodecError::Count { end: "input", want: values.len(), have: 0 })?;
        Tensor::new(dims, data).map_err(|_| CodecError::Count { end: "input", want: 0, have: values.len() })
    }

    /// What canonical output bytes say.
    ///
    /// # Errors
    /// [`CodecError::Count`] when they are not the model's output.
    pub fn decode(&self, bytes: &[u8]) -> Result<Answer, CodecError> {
        let wrong = |want: usize| CodecError::Count { end: "output", want, have: bytes.len() };
        let data = Data::from_bytes(self.dtypes.1, bytes).map_err(|_| wrong(0))?;
        let dims = resolve(&self.output.dims, data.len(), "output")?;
        let values: Vec<f64> = data.to_i32().into_iter().map(|v| f64::from(v) * self.output.end.step).collect();
        Ok(match &self.output.kind {
            OutputKind::Embedding => {
                let norm = values.iter().map(|v| v * v).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
                Answer::Embedding(values.iter().map(|v| (v / norm) as f32).collect())
            }
            OutputKind::Classes { labels } => {
                let mut best = 0;
                for (i, v) in values.iter().enumerate() {
                    if Some(v) > values.get(best) {
                        best = i;
                    }
                }
                let label = labels.get(best).cloned().unwrap_or_else(|| best.to_string());
                Answer::Classes { scores: values, best, label }
            }
            OutputKind::Tensor => Answer::Values { dims, values },
        })
    }
}

/// Fills the one open dimension from the number of values.
fn resolve(dims: &[Option<u32>], values: usize, end: &'static str) -> Result<Vec<usize>, CodecError> {
    let fixed: usize = dims.iter().flatten().map(|d| *d as usize).product();
    let open = dims.iter().filter(|d| d.is_none()).count();
    let positions = match open {
        0 if values == fixed => 1,
        1 if fixed > 0 && values > 0 && values.is_multiple_of(fixed) => values / fixed,
        _ => return Err(CodecError::Count { end, want: fixed, have: values }),
    };
    Ok(dims.iter().map(|d| d.map_or(positions, |n| n as usize)).collect())
}
