//! What stands beside a graph in a model folder: how its ends read, where it comes from, how good it is.
//!
//! A model folder holds `graph.assay` (canonical graph bytes), `manifest.json` and, for text, `tokenizer.json`. Nothing in the manifest influences results;
//! the model id in it is checked against the graph whenever the folder is opened.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use assay_graph::{Graph, SEMANTICS};
use serde::{Deserialize, Serialize};

use crate::{ImportError, codec::Codec, quantise::End};

/// Version of the manifest's form.
pub const MANIFEST_VERSION: u32 = 1;
/// Version of the importer: a change of it may change model ids.
pub const IMPORTER_VERSION: u32 = 1;
/// Largest manifest accepted, bytes.
const MAX_MANIFEST: u64 = 16 << 20;
/// File names in a model folder.
const GRAPH: &str = "graph.assay";
const MANIFEST: &str = "manifest.json";
const TOKENIZER: &str = "tokenizer.json";

/// A file that a model was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Name.
    pub name: String,
    /// sha256, lower-case hex.
    pub sha256: String,
}

/// What people send.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum InputKind {
    /// Text, turned into token ids by `tokenizer.json`.
    Text {
        /// sha256 of the tokenizer file, lower-case hex.
        tokenizer_sha256: String,
        /// Most tokens, special tokens included.
        max_tokens: u32,
    },
    /// An image of 8-bit samples.
    Image {
        /// Rows.
        height: u32,
        /// Columns.
        width: u32,
        /// 1 (gray) or 3 (red, green, blue).
        channels: u32,
        /// Whether the graph's input is `[…, channels, height, width]` (else `[…, height, width, channels]`).
        channels_first: bool,
        /// Real value of sample 0.
        black: f64,
        /// Real value of sample 255.
        white: f64,
    },
    /// Real numbers, row-major.
    Tensor,
}

/// The input end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputSpec {
    /// What people send.
    #[serde(flatten)]
    pub kind: InputKind,
    /// Dimensions of the graph's input; `null` is the number of positions.
    pub dims: Vec<Option<u32>>,
    /// How its integers read.
    pub end: End,
}

/// What people get.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OutputKind {
    /// A vector, normalised to length 1.
    Embedding,
    /// A score for each class.
    Classes {
        /// Name of each class.
        labels: Vec<String>,
    },
    /// Real numbers, row-major.
    Tensor,
}

/// The output end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputSpec {
    /// What people get.
    #[serde(flatten)]
    pub kind: OutputKind,
    /// Dimensions of the graph's output; `null` is the number of positions.
    pub dims: Vec<Option<u32>>,
    /// How its integers read.
    pub end: End,
}

/// One measured figure of the accuracy report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured, with its unit.
    pub name: String,
    /// Value.
    pub value: f64,
    /// On which data, how many samples.
    pub on: String,
}

/// Everything about a model that is not its graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub version: u32,
    /// Name in the local store.
    pub name: String,
    /// What it does, in a sentence.
    pub about: String,
    /// Licence of the weights.
    pub licence: String,
    /// Model id, `0x` and 64 hex digits.
    pub model_id: String,
    /// Version of the operator semantics.
    pub semantics: u32,
    /// [`IMPORTER_VERSION`] that made it.
    pub importer: u32,
    /// Files it was made from.
    pub sources: Vec<SourceFile>,
    /// Input end.
    pub input: InputSpec,
    /// Output end.
    pub output: OutputSpec,
    /// Name of each node of the graph.
    pub nodes: Vec<String>,
    /// sha256 of the calibration data, lower-case hex.
    pub calibration_sha256: Option<String>,
    /// Accuracy report: integer against float.
    pub accuracy: Vec<Figure>,
    /// Multiply-adds of one run with the most positions.
    pub multiply_adds: u64,
    /// Bytes of all constants.
    pub constant_bytes: u64,
}

/// What an importer knows about a model beyond its graph.
#[derive(Clone, Debug)]
pub struct About {
    /// Name in the local store.
    pub name: String,
    /// What it does, in a sentence.
    pub about: String,
    /// Licence of the weights.
    pub licence: String,
    /// Files it was made from.
    pub sources: Vec<SourceFile>,
    /// sha256 of the calibration data.
    pub calibration_sha256: Option<String>,
    /// Accuracy report.
    pub accuracy: Vec<Figure>,
}

impl Manifest {
    /// Describes `graph`; dimensions, identity and sizes are taken from it.
    pub fn new(graph: &Graph, about: About, input: (InputKind, End), output: (OutputKind, End), nodes: Vec<String>) -> Self {
        let dims = |ty: Option<&assay_graph::TensorType>| {
            let shape = ty.map(|t| t.shape.clone()).unwrap_or_default();
            shape.into_iter().map(|d| match d {
                assay_graph::Dim::Fixed(n) => Some(n),
                assay_graph::Dim::Seq => None,
            }).collect::<Vec<_>>()
        };
        let structure = graph.structure();
        let seq = graph.header().max_seq;
        let steps = structure.costs.iter().zip(&structure.types).map(|(c, t)| c.steps.saturating_mul(t.len(seq) as u64));
        Self {
            version: MANIFEST_VERSION,
            name: about.name,
            about: about.about,
            licence: about.licence,
            model_id: format!("0x{}", hex::encode(graph.model_id())),
            semantics: SEMANTICS,
            importer: IMPORTER_VERSION,
            sources: about.sources,
            input: InputSpec { kind: input.0, dims: dims(graph.input_type()), end: input.1 },
            output: OutputSpec { kind: output.0, dims: dims(graph.output_type()), end: output.1 },
            nodes,
            calibration_sha256: about.calibration_sha256,
            accuracy: about.accuracy,
            multiply_adds: steps.fold(0, u64::saturating_add),
            constant_bytes: graph.consts().iter().map(|c| c.bytes().len() as u64).sum(),
        }
    }
}

/// A model that is ready: graph, manifest, codec.
#[derive(Clone, Debug)]
pub struct Model {
    /// Validated graph; its id is the manifest's.
    pub graph: Arc<Graph>,
    /// The manifest.
    pub manifest: Manifest,
    /// Between people's data and tensors.
    pub codec: Codec,
}

impl Model {
    /// Puts a model together; `tokenizer` is tokenizer.json for text models.
    ///
    /// # Errors
    /// [`ImportError::Malformed`] when manifest and graph or tokenizer do not belong together.
    pub fn new(graph: Graph, manifest: Manifest, tokenizer: Option<&[u8]>) -> Result<Self, ImportError> {
        let have = format!("0x{}", hex::encode(graph.model_id()));
        if manifest.version != MANIFEST_VERSION || manifest.model_id != have {
            let why = format!("version {} for model {}, the graph beside it is {have}", manifest.version, manifest.model_id);
            return Err(ImportError::malformed(MANIFEST, why));
        }
        let dtype = |ty: Option<&assay_graph::TensorType>| ty.map_or(assay_graph::DType::I32, |t| t.dtype);
        let codec = Codec::new(&manifest, tokenizer, dtype(graph.input_type()), dtype(graph.output_type()))?;
        Ok(Self { graph: Arc::new(graph), manifest, codec })
    }

    /// Opens a model folder.
    ///
    /// # Errors
    /// [`ImportError::Io`], [`ImportError::Graph`], and those of [`Model::new`].
    pub fn open(dir: &Path) -> Result<Self, ImportError> {
        let manifest = read_manifest(dir)?;
        let path = dir.join(GRAPH);
        let graph = Graph::from_bytes(&fs::read(&path).map_err(ImportError::io(&path))?)?;
        let tokenizer = match manifest.input.kind {
            InputKind::Text { .. } => {
                let path = dir.join(TOKENIZER);
                Some(fs::read(&path).map_err(ImportError::io(&path))?)
            }
            _ => None,
        };
        Self::new(graph, manifest, tokenizer.as_deref())
    }

    /// Writes a model folder: into a temporary one beside it, then renamed, so that a folder that exists is whole.
    ///
    /// # Errors
    /// [`ImportError::Io`].
    pub fn write(&self, dir: &Path, tokenizer: Option<&[u8]>) -> Result<PathBuf, ImportError> {
        let temporary = dir.with_extension(format!("{}.tmp", std::process::id()));
        fs::create_dir_all(&temporary).map_err(ImportError::io(&temporary))?;
        let put = |name: &str, bytes: &[u8]| {
            let path = temporary.join(name);
            fs::write(&path, bytes).map_err(ImportError::io(&path))
        };
        put(GRAPH, &self.graph.to_bytes())?;
        let json = serde_json::to_vec_pretty(&self.manifest).map_err(|e| ImportError::malformed(MANIFEST, e.to_string()))?;
        put(MANIFEST, &json)?;
        if let Some(bytes) = tokenizer {
            put(TOKENIZER, bytes)?;
        }
        if dir.exists() {
            fs::remove_dir_all(dir).map_err(ImportError::io(dir))?;
        }
        fs::rename(&temporary, dir).map_err(ImportError::io(dir))?;
        Ok(dir.to_owned())
    }
}

/// Reads the manifest of a model folder alone.
///
/// # Errors
/// [`ImportError::Io`], [`ImportError::Limit`], [`ImportError::Malformed`].
pub fn read_manifest(dir: &Path) -> Result<Manifest, ImportError> {
    let path = dir.join(MANIFEST);
    let bytes = fs::metadata(&path).map_err(ImportError::io(&path))?.len();
    ImportError::check("manifest bytes", bytes, MAX_MANIFEST)?;
    let text = fs::read(&path).map_err(ImportError::io(&path))?;
    serde_json::from_slice(&text).map_err(|e| ImportError::malformed(path.display().to_string(), e.to_string()))
}
