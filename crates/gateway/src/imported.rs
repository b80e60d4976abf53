//! Models of the import room behind the gateway's trait.

use alloy_primitives::B256;
use assay_graph::{Data, Tensor};
use assay_import::manifest::{InputSpec, OutputSpec};
use assay_import::{Answer, CodecError as ImportCodecError, Model, Request};

use crate::{CodecError, Decoded, Encoded, Language, ModelCodec, ModelKind, Prediction};

/// A loaded model as the gateway offers it.
#[derive(Clone, Debug)]
pub struct ImportedModel {
    model: Model,
    model_id: B256,
    language: Option<Language>,
}

impl ImportedModel {
    /// Offers `model` under the name of its manifest.
    pub fn new(model: Model) -> Self {
        let model_id = B256::from(model.id());
        let language = model.language().and_then(|text| {
            let language = Language::new(
                text.tokenizer.clone(),
                text.template.clone(),
                text.stop.clone(),
                text.context,
                text.vocabulary,
            );
            // Import has checked these; without them the model is offered, and refused by the language endpoints.
            language
                .inspect_err(
                    |error| tracing::error!(target: "assay::gateway", %error, "unusable language"),
                )
                .ok()
        });
        Self {
            model,
            model_id,
            language,
        }
    }

    /// The model.
    pub const fn model(&self) -> &Model {
        &self.model
    }

    fn encode(&self, request: Request<'_>) -> Result<Encoded, CodecError> {
        let tensor = self.model.encode(request).map_err(codec_error)?;
        let tokens = match self.model.manifest.input {
            InputSpec::Text { .. } => tensor.dims.first().copied().unwrap_or(1),
            _ => 1,
        };
        Ok(Encoded {
            bytes: tensor.data.to_bytes(),
            tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
        })
    }
}

fn codec_error(error: ImportCodecError) -> CodecError {
    match error {
        ImportCodecError::TooLong { tokens, limit } => CodecError::TooLong {
            have: tokens,
            limit,
        },
        other => CodecError::Bad(other.to_string()),
    }
}

impl ModelCodec for ImportedModel {
    fn model_id(&self) -> B256 {
        self.model_id
    }

    fn name(&self) -> &str {
        &self.model.manifest.name
    }

    fn kind(&self) -> ModelKind {
        match self.model.manifest.output {
            OutputSpec::Embedding { .. } => ModelKind::Embedding,
            OutputSpec::Scores { .. } => ModelKind::Classifier,
            OutputSpec::Tensor { .. } => ModelKind::Tensor,
            OutputSpec::Tokens { .. } => ModelKind::Language,
        }
    }

    fn language(&self) -> Option<&Language> {
        self.language.as_ref()
    }

    fn max_tokens(&self) -> u32 {
        if let Some(language) = &self.language {
            return language.context();
        }
        match self.model.manifest.input {
            InputSpec::Text { max_tokens, .. } => max_tokens,
            _ => 1,
        }
    }

    fn dimensions(&self) -> Option<usize> {
        match self.model.manifest.output {
            OutputSpec::Embedding { width, .. } => usize::try_from(width).ok(),
            _ => None,
        }
    }

    fn encode_text(&self, text: &str) -> Result<Encoded, CodecError> {
        self.encode(Request::Text(text))
    }

    fn encode_tokens(&self, ids: &[u32]) -> Result<Encoded, CodecError> {
        self.encode(Request::Ids(ids))
    }

    fn encode_image(&self, png: &[u8]) -> Result<Encoded, CodecError> {
        self.encode(Request::Png(png))
    }

    fn encode_values(&self, values: &[f64]) -> Result<Encoded, CodecError> {
        self.encode(Request::Numbers(values))
    }

    fn decode(&self, output: &[u8]) -> Result<Decoded, CodecError> {
        let bad = |error: &dyn std::fmt::Display| CodecError::Bad(error.to_string());
        let ty = self.model.graph.output_type();
        let ty = ty.ok_or_else(|| CodecError::Bad("the model gives no output".into()))?;
        let data = Data::from_bytes(ty.dtype, output).map_err(|error| bad(&error))?;
        let tensor = Tensor {
            dims: vec![data.len()],
            data,
        };
        Ok(match self.model.decode(&tensor).map_err(codec_error)? {
            Answer::Embedding(vector) => Decoded::Embedding(vector),
            Answer::Scores(scores) => {
                let class = |(label, score)| Prediction { label, score };
                Decoded::Classes(scores.into_iter().map(class).collect())
            }
            Answer::Numbers { dims, values } => Decoded::Tensor { dims, values },
            // Tokens are read where they are streamed.
            Answer::Tokens { .. } => return Err(CodecError::Unsupported("call but language ones")),
        })
    }
}
