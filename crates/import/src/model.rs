//! A model as it is kept and served: graph, manifest, codec, in a directory of three files.

use std::{fs, path::Path, sync::Arc};

use assay_graph::{Graph, Tensor};

use crate::{
    codec::{Answer, Codec, CodecError, Request},
    error::ImportError,
    manifest::{InputSpec, Manifest},
    report::sha256_hex,
};

/// Canonical bytes of the integer graph.
pub const GRAPH_FILE: &str = "graph.assay";
/// Manifest.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Tokenizer of text models.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// Largest graph file read, bytes.
pub const MAX_GRAPH: u64 = 4 << 30;

/// A model ready to serve; cheap to clone.
#[derive(Clone, Debug)]
pub struct Model {
    /// What the graph does not say.
    pub manifest: Arc<Manifest>,
    /// The integer graph; its hash is the model id of the manifest.
    pub graph: Arc<Graph>,
    codec: Arc<Codec>,
    tokenizer: Option<Arc<[u8]>>,
}

impl Model {
    /// Puts a model together and checks that its parts belong together: model id, tokenizer hash, shapes.
    ///
    /// # Errors
    /// [`ImportError::Malformed`] when they do not.
    pub fn new(
        manifest: Manifest,
        graph: Graph,
        tokenizer: Option<Vec<u8>>,
    ) -> Result<Self, ImportError> {
        let id = hex::encode(graph.model_id());
        if id != manifest.model_id {
            return Err(ImportError::malformed(
                "model",
                format!(
                    "the graph's id is {id}, the manifest says {}",
                    manifest.model_id
                ),
            ));
        }
        if let InputSpec::Text {
            tokenizer_sha256, ..
        } = &manifest.input
        {
            let have = tokenizer.as_deref().map(sha256_hex).unwrap_or_default();
            if have != *tokenizer_sha256 {
                return Err(ImportError::malformed(
                    "model",
                    format!(
                        "sha256 of tokenizer.json is `{have}`, the manifest says `{tokenizer_sha256}`"
                    ),
                ));
            }
        }
        let codec = Codec::new(&manifest, &graph, tokenizer.as_deref())
            .map_err(|e| ImportError::malformed("model", e.to_string()))?;
        Ok(Self {
            manifest: Arc::new(manifest),
            graph: Arc::new(graph),
            codec: Arc::new(codec),
            tokenizer: tokenizer.map(Into::into),
        })
    }

    /// Reads a model directory.
    ///
    /// # Errors
    /// [`ImportError::Io`], [`ImportError::Limit`], [`ImportError::Graph`] for a graph that does not decode, [`ImportError::Malformed`] as [`new`](Self::new).
    pub fn load(directory: &Path) -> Result<Self, ImportError> {
        let read = |name: &str, limit: u64| -> Result<Vec<u8>, ImportError> {
            let path = directory.join(name);
            let size = fs::metadata(&path).map_err(ImportError::io(&path))?.len();
            ImportError::check(&format!("{name} bytes"), size, limit)?;
            fs::read(&path).map_err(ImportError::io(&path))
        };
        let manifest = Manifest::parse(&read(MANIFEST_FILE, crate::manifest::MAX_MANIFEST)?)?;
        let tokenizer = match manifest.input {
            InputSpec::Text { .. } => Some(read(TOKENIZER_FILE, 32 << 20)?),
            _ => None,
        };
        let graph = Graph::from_bytes(&read(GRAPH_FILE, MAX_GRAPH)?)?;
        Self::new(manifest, graph, tokenizer)
    }

    /// Writes a model directory: everything into a sibling first, then one rename, so that a reader never sees half a model.
    /// An existing directory of the same name is replaced.
    ///
    /// # Errors
    /// [`ImportError::Io`].
    pub fn save(&self, directory: &Path) -> Result<(), ImportError> {
        let name = directory
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        let parent = directory
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or_else(|| Path::new("."));
        let staging = parent.join(format!(".{name}.{}.part", std::process::id()));
        fs::create_dir_all(&staging).map_err(ImportError::io(&staging))?;
        let write = |file: &str, bytes: &[u8]| {
            let path = staging.join(file);
            fs::write(&path, bytes).map_err(ImportError::io(path))
        };
        write(GRAPH_FILE, &self.graph.to_bytes())?;
        write(MANIFEST_FILE, &self.manifest.to_json()?)?;
        if let Some(tokenizer) = &self.tokenizer {
            write(TOKENIZER_FILE, tokenizer)?;
        }
        if directory.exists() {
            fs::remove_dir_all(directory).map_err(ImportError::io(directory))?;
        }
        fs::rename(&staging, directory).map_err(ImportError::io(directory))
    }

    /// Model id.
    pub fn id(&self) -> [u8; 32] {
        self.graph.model_id()
    }

    /// Requests to tensors and back.
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// A request as the graph's input.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    pub fn encode(&self, request: Request<'_>) -> Result<Tensor, CodecError> {
        self.codec.encode(request)
    }

    /// The graph's output as an answer.
    ///
    /// # Errors
    /// As [`Codec::decode`].
    pub fn decode(&self, output: &Tensor) -> Result<Answer, CodecError> {
        self.codec.decode(output)
    }
}
