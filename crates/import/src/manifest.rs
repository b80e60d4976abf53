//! `manifest.json`: everything about a model that the integer graph does not say.

use serde::{Deserialize, Serialize};

use crate::{error::ImportError, language::TokenNames, quantise::End};

/// Version of the manifest's format.
pub const MANIFEST_VERSION: u32 = 1;
/// Version of the importer; raised whenever the same source would give another graph.
pub const IMPORTER_VERSION: u32 = 2;
/// Largest manifest read, bytes.
pub const MAX_MANIFEST: u64 = 16 << 20;

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Text to a vector.
    Embedding,
    /// Image to class scores.
    Image,
    /// Numbers to numbers.
    Tensor,
    /// Text goes on.
    Language,
}

/// A file that the model was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// File name, without path.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
    /// Hex sha256.
    pub sha256: String,
}

/// How requests become input tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum InputSpec {
    /// Text through a tokenizer to ids.
    Text {
        /// Largest number of tokens, special ones included.
        max_tokens: u32,
        /// Ids are below this.
        vocabulary: u32,
        /// Hex sha256 of tokenizer.json beside the manifest.
        tokenizer_sha256: String,
    },
    /// Pixels: `real = (byte / 255 - mean) / std` per channel, `integer = round(real / step)`.
    Image {
        /// Rows.
        height: u32,
        /// Columns.
        width: u32,
        /// 1 (gray) or 3 (RGB).
        channels: u32,
        /// Subtracted, per channel.
        mean: Vec<f64>,
        /// Divided by, per channel.
        std: Vec<f64>,
        /// How integers read.
        end: End,
        /// Image axes in stored order: 0 rows, 1 columns, 2 channels.
        order: Vec<usize>,
    },
    /// Numbers, row-major in the order of the source file.
    Tensor {
        /// Dimensions in the source file, batch included.
        dims: Vec<usize>,
        /// Axes of the source in stored order.
        order: Vec<usize>,
        /// Whether the numbers are ids.
        ids: bool,
        /// How integers read.
        end: End,
    },
}

/// How output tensors become answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputSpec {
    /// Sums over positions; divided by their Euclidean norm they are the sentence vector.
    Embedding {
        /// Numbers of the vector.
        width: u32,
        /// Real value of one step.
        step: f64,
    },
    /// One score per class.
    Scores {
        /// Class names, as many as scores.
        labels: Vec<String>,
        /// Real value of one step.
        step: f64,
        /// Whether scores are probabilities already; otherwise they are logits and a softmax makes them so, for people.
        probabilities: bool,
    },
    /// Numbers, row-major in the order of the source file.
    Tensor {
        /// Dimensions in the source file, batch included.
        dims: Vec<usize>,
        /// Axes of the source in stored order.
        order: Vec<usize>,
        /// Real value of one step.
        step: f64,
    },
    /// Sampled tokens.
    Tokens {
        /// Ids are below this.
        vocabulary: u32,
    },
}

/// What is particular to a language model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanguageSpec {
    /// Name of the architecture.
    pub architecture: String,
    /// Number of weights.
    pub parameters: u64,
    /// Storage types of the source with their shares, for people.
    pub quantisation: String,
    /// Most positions: tokens of prompt and answer, less one.
    pub context: u32,
    /// Layers.
    pub layers: u32,
    /// Bytes of keys and values of one position, 16 bits each.
    pub kv_bytes: u64,
    /// Tokens that end an answer, ascending.
    pub stop: Vec<u32>,
    /// Tokens that templates name.
    pub tokens: TokenNames,
    /// Hex sha256 of template.jinja beside the manifest, if the model has one.
    pub template_sha256: Option<String>,
    /// Hex sha256 of recipe.json beside the manifest.
    pub recipe_sha256: String,
}

/// One measured figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// What was measured.
    pub name: String,
    /// Result.
    pub value: f64,
}

/// Float against integer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccuracyReport {
    /// What it was measured on.
    pub data: String,
    /// Number of inputs.
    pub samples: u64,
    /// Figures.
    pub metrics: Vec<Metric>,
}

/// Largest accumulator that any legal input can reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundsReport {
    /// Its magnitude.
    pub largest: i64,
    /// The node.
    pub node: String,
    /// The limit, A_MAX.
    pub limit: i64,
}

/// The manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub version: u32,
    /// Short name, as users type it.
    pub name: String,
    /// One sentence.
    pub description: String,
    /// What it is for.
    pub kind: Kind,
    /// Hex model id: the hash of the integer graph.
    pub model_id: String,
    /// SPDX expression or a sentence.
    pub licence: String,
    /// Files it was made from.
    pub sources: Vec<SourceFile>,
    /// [`IMPORTER_VERSION`] at import.
    pub importer: u32,
    /// Hex sha256 of the calibration data.
    pub calibration_sha256: String,
    /// Requests to input tensors.
    pub input: InputSpec,
    /// Output tensors to answers.
    pub output: OutputSpec,
    /// Float against integer.
    pub accuracy: Vec<AccuracyReport>,
    /// Accumulators.
    pub bounds: BoundsReport,
    /// Multiply-adds of one run with all positions.
    pub macs: u64,
    /// Bytes of all constants.
    pub constant_bytes: u64,
    /// Node names, in order.
    pub nodes: Vec<String>,
    /// Present for language models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<LanguageSpec>,
}

impl Manifest {
    /// Parses manifest.json.
    ///
    /// # Errors
    /// [`ImportError::Limit`] above [`MAX_MANIFEST`], [`ImportError::Malformed`] for bad JSON or another version.
    pub fn parse(json: &[u8]) -> Result<Self, ImportError> {
        ImportError::check("manifest.json bytes", json.len() as u64, MAX_MANIFEST)?;
        let manifest: Self = serde_json::from_slice(json)
            .map_err(|e| ImportError::malformed("manifest.json", e.to_string()))?;
        if manifest.version != MANIFEST_VERSION {
            let why = format!("version {}, {MANIFEST_VERSION} supported", manifest.version);
            return Err(ImportError::malformed("manifest.json", why));
        }
        Ok(manifest)
    }

    /// Pretty JSON with a final newline; the same manifest always gives the same bytes.
    ///
    /// # Errors
    /// [`ImportError::Malformed`] when a number is not finite.
    pub fn to_json(&self) -> Result<Vec<u8>, ImportError> {
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|e| ImportError::malformed("manifest.json", e.to_string()))?;
        json.push(b'\n');
        Ok(json)
    }
}
