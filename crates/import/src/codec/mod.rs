//! Between what people send and what graphs take: text, images and numbers on one side, integer tensors on the other.

mod error;
mod image;
mod text;

use assay_graph::{Data, Graph, Tensor};

pub use error::CodecError;
pub use image::Image;
pub use text::TextCodec;

use assay_text::Message;

use crate::{
    language::Language,
    manifest::{InputSpec, Manifest, OutputSpec},
    onnx::Place,
    quantise::to_int,
};

/// What a client sends.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// Text.
    Text(&'a str),
    /// Token ids, special tokens included.
    Ids(&'a [u32]),
    /// A PNG file.
    Png(&'a [u8]),
    /// Numbers, row-major in the order of the source file.
    Numbers(&'a [f64]),
    /// A conversation, written by the model's template, up to the assistant's next turn.
    Chat(&'a [Message]),
}

/// What a client gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A vector of Euclidean length 1.
    Embedding(Vec<f32>),
    /// Classes with their probability, best first.
    Scores(Vec<(String, f32)>),
    /// Numbers, row-major.
    Numbers {
        /// Dimensions in the source file.
        dims: Vec<usize>,
        /// Values.
        values: Vec<f32>,
    },
    /// Sampled tokens and their text, without control tokens.
    Tokens {
        /// Ids in order.
        ids: Vec<u32>,
        /// How they read; bytes that are no UTF-8 are replaced.
        text: String,
    },
}

/// Translates requests and answers of one model.
#[derive(Clone, Debug)]
pub struct Codec {
    input: InputSpec,
    output: OutputSpec,
    text: Option<TextCodec>,
    language: Option<Language>,
    dtype: assay_graph::DType,
    dims: Vec<usize>,
}

impl Codec {
    /// For a manifest, its graph and (text models) tokenizer.json.
    ///
    /// # Errors
    /// [`CodecError::Tokenizer`] when a text model lacks its tokenizer or it can't be read, [`CodecError::Manifest`] when manifest and graph disagree.
    pub fn new(
        manifest: &Manifest,
        graph: &Graph,
        tokenizer: Option<&[u8]>,
    ) -> Result<Self, CodecError> {
        Self::with_template(manifest, graph, tokenizer, None)
    }

    /// As [`new`](Self::new), with the source of a language model's template.
    ///
    /// # Errors
    /// As [`new`](Self::new). A template that can't be read is left out: the model completes text then.
    pub fn with_template(
        manifest: &Manifest,
        graph: &Graph,
        tokenizer: Option<&[u8]>,
        template: Option<&str>,
    ) -> Result<Self, CodecError> {
        let ty = graph.input_type().ok_or_else(|| CodecError::Manifest {
            why: "the graph is empty".into(),
        })?;
        let language = match (&manifest.language, tokenizer) {
            (Some(spec), Some(json)) => Some(Language::new(spec, &manifest.input, json, template)?),
            _ => None,
        };
        let text = match (&manifest.input, tokenizer) {
            (InputSpec::Text { .. }, Some(_)) if language.is_some() => None,
            (InputSpec::Text { max_tokens, .. }, Some(json)) => {
                Some(TextCodec::new(json, *max_tokens)?)
            }
            (InputSpec::Text { .. }, None) => {
                return Err(CodecError::Tokenizer {
                    why: "tokenizer.json is missing".into(),
                });
            }
            _ => None,
        };
        let codec = Self {
            input: manifest.input.clone(),
            output: manifest.output.clone(),
            text,
            language,
            dtype: ty.dtype,
            dims: ty.dims(1u32),
        };
        codec.check(graph)?;
        Ok(codec)
    }

    fn check(&self, graph: &Graph) -> Result<(), CodecError> {
        let disagree = |why: String| Err(CodecError::Manifest { why });
        let outputs = graph.output_type().map_or(0, |t| t.len(1u32));
        let want: usize = self.dims.iter().product();
        let have = match &self.input {
            InputSpec::Text { .. } => want,
            InputSpec::Image {
                height,
                width,
                channels,
                mean,
                std,
                order,
                ..
            } => {
                let n = *channels as usize;
                if mean.len() != n
                    || std.len() != n
                    || std.contains(&0.0)
                    || !matches!(n, 1 | 3)
                    || order.iter().any(|a| *a > 2)
                {
                    return disagree(format!(
                        "an image of {channels} channels with {} means and {} deviations",
                        mean.len(),
                        std.len()
                    ));
                }
                (u64::from(*height) * u64::from(*width) * u64::from(*channels)) as usize
            }
            InputSpec::Tensor { dims, .. } => dims.iter().fold(1usize, |a, d| a.saturating_mul(*d)),
        };
        if have != want {
            return disagree(format!(
                "the input has {have} elements in the manifest and {want} in the graph"
            ));
        }
        let have = match &self.output {
            OutputSpec::Embedding { width, .. } => *width as usize,
            OutputSpec::Scores { labels, .. } => labels.len(),
            OutputSpec::Tensor { dims, .. } => {
                dims.iter().fold(1usize, |a, d| a.saturating_mul(*d))
            }
            OutputSpec::Tokens { vocabulary } => {
                let ty = graph.output_type();
                if self.language.is_none() || ty.is_none_or(|t| t.hi as u32 != *vocabulary - 1) {
                    return disagree(format!(
                        "the graph does not choose among {vocabulary} tokens"
                    ));
                }
                outputs
            }
        };
        if have != outputs {
            return disagree(format!(
                "the output has {have} elements in the manifest and {outputs} in the graph"
            ));
        }
        Ok(())
    }

    /// Tokenizer and template of a language model.
    pub const fn language(&self) -> Option<&Language> {
        self.language.as_ref()
    }

    /// The tokenizer of an encoder.
    pub const fn text(&self) -> Option<&TextCodec> {
        self.text.as_ref()
    }

    /// A request as the graph's input.
    ///
    /// # Errors
    /// [`CodecError`]: too long, wrong kind, wrong size, not a number, not a PNG.
    pub fn encode(&self, request: Request<'_>) -> Result<Tensor, CodecError> {
        match (&self.input, request) {
            (InputSpec::Text { .. }, Request::Chat(messages)) => {
                let language = self.language.as_ref().ok_or(CodecError::Kind {
                    have: "a conversation",
                    want: "text",
                })?;
                self.ids(&language.prompt(messages)?)
            }
            (InputSpec::Text { .. }, Request::Text(text)) if self.language.is_some() => {
                let language = self.language.as_ref();
                self.ids(&language.map_or_else(|| Ok(Vec::new()), |l| l.document(text))?)
            }
            (InputSpec::Text { .. }, Request::Text(text)) => {
                let codec = self.text.as_ref().ok_or_else(|| CodecError::Tokenizer {
                    why: "tokenizer.json is missing".into(),
                })?;
                self.ids(&codec.encode(text)?)
            }
            (InputSpec::Text { .. }, Request::Ids(ids)) => self.ids(ids),
            (
                InputSpec::Image {
                    height,
                    width,
                    channels,
                    mean,
                    std,
                    end,
                    order,
                },
                Request::Png(png),
            ) => {
                let image = Image::decode(png)?.fitted(*width, *height, *channels)?;
                let c = *channels as usize;
                let ints: Vec<i32> = image
                    .pixels
                    .iter()
                    .enumerate()
                    .map(|(i, byte)| {
                        let at = |v: &[f64], default: f64| v.get(i % c).copied().unwrap_or(default);
                        to_int(
                            (f64::from(*byte) / 255.0 - at(mean, 0.0)) / at(std, 1.0),
                            end,
                        )
                    })
                    .collect();
                let place = Place {
                    name: String::new(),
                    dims: vec![*height as usize, *width as usize, c],
                    order: order.clone(),
                };
                let stored: Vec<i32> = place
                    .index()
                    .iter()
                    .filter_map(|i| ints.get(*i).copied())
                    .collect();
                self.tensor(&stored)
            }
            (
                InputSpec::Tensor {
                    dims,
                    order,
                    ids,
                    end,
                },
                Request::Numbers(values),
            ) => {
                let want: usize = dims.iter().product();
                if values.len() != want {
                    return Err(CodecError::Size {
                        what: "numbers",
                        have: values.len(),
                        want,
                    });
                }
                if let Some(index) = values
                    .iter()
                    .position(|v| !v.is_finite() || *ids && v.fract() != 0.0)
                {
                    return Err(CodecError::NotANumber { index });
                }
                let place = Place {
                    name: String::new(),
                    dims: dims.clone(),
                    order: order.clone(),
                };
                let ints: Vec<i32> = place
                    .index()
                    .iter()
                    .map(|i| to_int(values.get(*i).copied().unwrap_or(0.0), end))
                    .collect();
                self.tensor(&ints)
            }
            (input, request) => Err(CodecError::Kind {
                have: match request {
                    Request::Text(_) => "text",
                    Request::Ids(_) => "token ids",
                    Request::Png(_) => "an image",
                    Request::Numbers(_) => "numbers",
                    Request::Chat(_) => "a conversation",
                },
                want: match input {
                    InputSpec::Text { .. } => "text",
                    InputSpec::Image { .. } => "an image",
                    InputSpec::Tensor { .. } => "numbers",
                },
            }),
        }
    }

    fn ids(&self, ids: &[u32]) -> Result<Tensor, CodecError> {
        let InputSpec::Text {
            max_tokens,
            vocabulary,
            ..
        } = &self.input
        else {
            return Err(CodecError::Kind {
                have: "token ids",
                want: "something else",
            });
        };
        if ids.is_empty() || ids.len() > *max_tokens as usize {
            return Err(CodecError::TooLong {
                tokens: ids.len(),
                limit: *max_tokens as usize,
            });
        }
        if let Some(id) = ids.iter().find(|id| **id >= *vocabulary) {
            return Err(CodecError::Id {
                id: *id,
                vocabulary: *vocabulary,
            });
        }
        Ok(Tensor {
            dims: vec![ids.len()],
            data: Data::I32(ids.iter().map(|i| *i as i32).collect()),
        })
    }

    fn tensor(&self, ints: &[i32]) -> Result<Tensor, CodecError> {
        let size = |_| CodecError::Size {
            what: "input",
            have: ints.len(),
            want: self.dims.iter().product(),
        };
        let data = Data::from_i32(self.dtype, ints).ok_or_else(|| CodecError::Manifest {
            why: "the declared range leaves the element type".into(),
        })?;
        Tensor::new(self.dims.clone(), data).map_err(size)
    }

    /// The graph's output as an answer.
    ///
    /// # Errors
    /// [`CodecError::Size`] when the tensor is not the model's output.
    pub fn decode(&self, output: &Tensor) -> Result<Answer, CodecError> {
        let ints = output.data.to_i32();
        let sized = |want: usize| {
            if ints.len() == want {
                Ok(())
            } else {
                Err(CodecError::Size {
                    what: "output",
                    have: ints.len(),
                    want,
                })
            }
        };
        match &self.output {
            OutputSpec::Embedding { width, .. } => {
                sized(*width as usize)?;
                // the step cancels; sums of squares of i32 fit f64 well
                let norm = ints
                    .iter()
                    .map(|v| f64::from(*v) * f64::from(*v))
                    .sum::<f64>()
                    .sqrt()
                    .max(f64::MIN_POSITIVE);
                Ok(Answer::Embedding(
                    ints.iter().map(|v| (f64::from(*v) / norm) as f32).collect(),
                ))
            }
            OutputSpec::Scores {
                labels,
                step,
                probabilities,
            } => {
                sized(labels.len())?;
                let mut scores: Vec<f32> =
                    ints.iter().map(|v| (f64::from(*v) * step) as f32).collect();
                if !probabilities {
                    crate::float::softmax(&mut scores);
                }
                let mut answer: Vec<(String, f32, i32)> = labels
                    .iter()
                    .zip(scores)
                    .zip(&ints)
                    .map(|((l, s), i)| (l.clone(), s, *i))
                    .collect();
                // stable: equal integers keep the order of classes, as arg max does
                answer.sort_by_key(|a| std::cmp::Reverse(a.2));
                Ok(Answer::Scores(
                    answer.into_iter().map(|(l, s, _)| (l, s)).collect(),
                ))
            }
            OutputSpec::Tokens { .. } => {
                let ids: Vec<u32> = ints.iter().map(|v| *v as u32).collect();
                let text = self
                    .language
                    .as_ref()
                    .map(|l| l.tokenizer.decode(&ids))
                    .unwrap_or_default();
                Ok(Answer::Tokens { ids, text })
            }
            OutputSpec::Tensor { dims, order, step } => {
                sized(dims.iter().product())?;
                let place = Place {
                    name: String::new(),
                    dims: dims.clone(),
                    order: order.clone(),
                };
                let mut values = vec![0f32; ints.len()];
                for (i, v) in place.index().iter().zip(&ints) {
                    if let Some(slot) = values.get_mut(*i) {
                        *slot = (f64::from(*v) * step) as f32;
                    }
                }
                Ok(Answer::Numbers {
                    dims: dims.clone(),
                    values,
                })
            }
        }
    }
}
