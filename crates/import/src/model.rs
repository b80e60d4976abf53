//! A model as it is kept and served: graph, manifest, codec, in a directory of three files.

use std::{fs, path::Path, sync::Arc};

use assay_graph::{Graph, Tensor};

use crate::{
    codec::{Answer, Codec, CodecError, Request},
    error::ImportError,
    language::Language,
    manifest::{InputSpec, Manifest},
    map::map,
    report::sha256_hex,
};

/// Canonical bytes of the integer graph.
pub const GRAPH_FILE: &str = "graph.assay";
/// Manifest.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Tokenizer of text models.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// Chat template of language models.
pub const TEMPLATE_FILE: &str = "template.jinja";
/// Scales and widths from which a language model's graph was made.
pub const RECIPE_FILE: &str = "recipe.json";
/// Largest tokenizer, template or recipe read, bytes.
const MAX_SIDE: u64 = 32 << 20;
/// Largest graph file read, bytes.
pub const MAX_GRAPH: u64 = 4 << 30;

/// Files of a model beside graph and manifest.
#[derive(Clone, Debug, Default)]
pub struct ModelFiles {
    /// tokenizer.json of text models.
    pub tokenizer: Option<Vec<u8>>,
    /// template.jinja of language models that have one.
    pub template: Option<String>,
    /// recipe.json of language models.
    pub recipe: Option<Vec<u8>>,
}

/// A model ready to serve; cheap to clone.
#[derive(Clone, Debug)]
pub struct Model {
    /// What the graph does not say.
    pub manifest: Arc<Manifest>,
    /// The integer graph; its hash is the model id of the manifest.
    pub graph: Arc<Graph>,
    id: [u8; 32],
    codec: Arc<Codec>,
    files: Arc<ModelFiles>,
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
        let files = ModelFiles {
            tokenizer,
            ..ModelFiles::default()
        };
        Self::with_files(manifest, Arc::new(graph), files)
    }

    /// As [`new`](Self::new), with all files that language models have.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_files(
        manifest: Manifest,
        graph: Arc<Graph>,
        files: ModelFiles,
    ) -> Result<Self, ImportError> {
        let id = graph.model_id();
        if hex::encode(id) != manifest.model_id {
            return Err(ImportError::malformed(
                "model",
                format!(
                    "the graph's id is {}, the manifest says {}",
                    hex::encode(id),
                    manifest.model_id
                ),
            ));
        }
        if let InputSpec::Text {
            tokenizer_sha256, ..
        } = &manifest.input
        {
            belongs(TOKENIZER_FILE, files.tokenizer.as_deref(), tokenizer_sha256)?;
        }
        if let Some(spec) = &manifest.language {
            let want = spec.template_sha256.clone().unwrap_or_default();
            let template = files.template.as_deref().map(str::as_bytes);
            belongs(TEMPLATE_FILE, template, &want)?;
            belongs(RECIPE_FILE, files.recipe.as_deref(), &spec.recipe_sha256)?;
        }
        let codec = Codec::with_template(
            &manifest,
            &graph,
            files.tokenizer.as_deref(),
            files.template.as_deref(),
        )
        .map_err(|e| ImportError::malformed("model", e.to_string()))?;
        Ok(Self {
            manifest: Arc::new(manifest),
            graph,
            id,
            codec: Arc::new(codec),
            files: Arc::new(files),
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
            InputSpec::Text { .. } => Some(read(TOKENIZER_FILE, MAX_SIDE)?),
            _ => None,
        };
        let mut files = ModelFiles {
            tokenizer,
            ..ModelFiles::default()
        };
        if let Some(spec) = &manifest.language {
            files.recipe = Some(read(RECIPE_FILE, MAX_SIDE)?);
            if spec.template_sha256.is_some() {
                let bytes = read(TEMPLATE_FILE, MAX_SIDE)?;
                let text = String::from_utf8(bytes)
                    .map_err(|e| ImportError::malformed(TEMPLATE_FILE, e.to_string()))?;
                files.template = Some(text);
            }
        }
        // the constants stay in the file
        let path = directory.join(GRAPH_FILE);
        let size = fs::metadata(&path).map_err(ImportError::io(&path))?.len();
        ImportError::check("graph.assay bytes", size, MAX_GRAPH)?;
        let graph = Graph::from_shared(&map(&path).map_err(ImportError::io(&path))?)?;
        Self::with_files(manifest, Arc::new(graph), files)
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
        if let Some(tokenizer) = &self.files.tokenizer {
            write(TOKENIZER_FILE, tokenizer)?;
        }
        if let Some(template) = &self.files.template {
            write(TEMPLATE_FILE, template.as_bytes())?;
        }
        if let Some(recipe) = &self.files.recipe {
            write(RECIPE_FILE, recipe)?;
        }
        if directory.exists() {
            fs::remove_dir_all(directory).map_err(ImportError::io(directory))?;
        }
        fs::rename(&staging, directory).map_err(ImportError::io(directory))
    }

    /// Model id.
    pub const fn id(&self) -> [u8; 32] {
        self.id
    }

    /// Tokenizer, template and limits of a language model.
    pub fn language(&self) -> Option<&Language> {
        self.codec.language()
    }

    /// Files beside graph and manifest.
    pub fn files(&self) -> &ModelFiles {
        &self.files
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

/// Checks a file against the hash in the manifest; an absent file has the empty hash.
fn belongs(name: &str, bytes: Option<&[u8]>, want: &str) -> Result<(), ImportError> {
    let have = bytes.map(sha256_hex).unwrap_or_default();
    if have == want {
        return Ok(());
    }
    Err(ImportError::malformed(
        "model",
        format!("sha256 of {name} is `{have}`, the manifest says `{want}`"),
    ))
}
