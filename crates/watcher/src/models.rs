//! Graphs of registered models, by identity.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use assay_engine::{Decoder, Engine, EngineOptions};
use assay_graph::identity::ConstTrees;
use assay_graph::{Graph, Structure};
use assay_operator::Grammars;

use crate::WatcherError;

/// Largest model file that is read, bytes.
const MAX_MODEL_FILE: u64 = 4 << 30;

/// Where graphs come from. What it returns is checked against the identity; it may be anybody's file.
pub trait ModelSource: Send + Sync + fmt::Debug {
    /// The graph that claims to be `model_id`, or why there is none.
    ///
    /// # Errors
    /// A sentence for people.
    fn graph(&self, model_id: B256) -> Result<Graph, String>;

    /// What makes token masks of grammars for a language model, if it is at hand. It is not part of the identity.
    fn grammars(&self, _model_id: B256) -> Option<Arc<dyn Grammars>> {
        None
    }
}

/// Files `<model id in hex>.graph` (canonical bytes of the graph) in a folder.
#[derive(Clone, Debug)]
pub struct FolderModels(pub PathBuf);

impl FolderModels {
    /// The file of a model.
    pub fn path(&self, model_id: B256) -> PathBuf {
        self.0.join(format!("{model_id}.graph"))
    }

    /// Stores a graph under its identity.
    ///
    /// # Errors
    /// [`WatcherError::Disk`].
    pub fn store(&self, graph: &Graph) -> Result<PathBuf, WatcherError> {
        let path = self.path(graph.model_id().into());
        let disk = |source| WatcherError::Disk {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(&self.0).map_err(disk)?;
        std::fs::write(&path, graph.to_bytes()).map_err(disk)?;
        Ok(path)
    }
}

impl ModelSource for FolderModels {
    fn graph(&self, model_id: B256) -> Result<Graph, String> {
        let path = self.path(model_id);
        let words = |error: std::io::Error| format!("{}: {error}", path.display());
        let length = std::fs::metadata(&path).map_err(words)?.len();
        if length > MAX_MODEL_FILE {
            return Err(format!("{length} bytes, at most {MAX_MODEL_FILE} are read"));
        }
        let bytes = std::fs::read(&path).map_err(words)?;
        Graph::from_bytes(&bytes).map_err(|error| error.to_string())
    }
}

/// Downloads from operators (`GET /v1/models/{id}/graph`), the first that has it.
#[derive(Clone, Debug)]
pub struct HttpModels {
    /// Base URLs.
    pub urls: Vec<String>,
    /// Largest graph that is read, bytes.
    pub limit: u64,
    /// Longest time for one download.
    pub timeout: Duration,
}

impl HttpModels {
    fn download(&self, url: &str, model_id: B256) -> Result<Graph, String> {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(self.timeout))
            .max_redirects(0)
            .build()
            .new_agent();
        let url = format!("{}/v1/models/{model_id}/graph", url.trim_end_matches('/'));
        let mut response = agent
            .get(&url)
            .call()
            .map_err(|error| format!("{url}: {error}"))?;
        let bytes = response
            .body_mut()
            .with_config()
            .limit(self.limit)
            .read_to_vec()
            .map_err(|error| format!("{url}: {error}"))?;
        let graph = Graph::from_bytes(&bytes).map_err(|error| format!("{url}: {error}"))?;
        if graph.model_id() == model_id.0 {
            return Ok(graph);
        }
        Err(format!("{url}: serves another graph"))
    }
}

impl ModelSource for HttpModels {
    fn graph(&self, model_id: B256) -> Result<Graph, String> {
        let mut reasons = Vec::new();
        for url in &self.urls {
            match self.download(url, model_id) {
                Ok(graph) => return Ok(graph),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; "))
    }
}

/// Sources asked in order: a folder first, a download after it.
impl ModelSource for Vec<Arc<dyn ModelSource>> {
    fn graph(&self, model_id: B256) -> Result<Graph, String> {
        let mut reasons = Vec::new();
        for source in self {
            match source.graph(model_id) {
                Ok(graph) => return Ok(graph),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; "))
    }

    fn grammars(&self, model_id: B256) -> Option<Arc<dyn Grammars>> {
        self.iter().find_map(|source| source.grammars(model_id))
    }
}

/// Graphs handed in.
impl ModelSource for Vec<Arc<Graph>> {
    fn graph(&self, model_id: B256) -> Result<Graph, String> {
        self.iter()
            .find(|graph| graph.model_id() == model_id.0)
            .map(|graph| graph.as_ref().clone())
            .ok_or_else(|| "it was not handed in".to_owned())
    }
}

/// A model ready to be replayed and argued about.
pub(crate) struct Loaded {
    pub(crate) graph: Arc<Graph>,
    pub(crate) structure: Structure,
    runner: Runner,
    pub(crate) trees: ConstTrees,
    pub(crate) grammars: Option<Arc<dyn Grammars>>,
}

enum Runner {
    Plain(Engine),
    Language(Decoder),
}

impl Loaded {
    /// Runs node by node.
    pub(crate) const fn engine(&self) -> &Engine {
        match &self.runner {
            Runner::Plain(engine) => engine,
            Runner::Language(decoder) => decoder.engine(),
        }
    }

    /// Replays answers, if the model generates.
    pub(crate) const fn decoder(&self) -> Option<&Decoder> {
        match &self.runner {
            Runner::Plain(_) => None,
            Runner::Language(decoder) => Some(decoder),
        }
    }
}

/// Models that were loaded, by identity.
pub(crate) struct Models {
    source: Arc<dyn ModelSource>,
    options: EngineOptions,
    loaded: HashMap<B256, Arc<Loaded>>,
}

impl Models {
    pub(crate) fn new(source: Arc<dyn ModelSource>, options: EngineOptions) -> Self {
        Self {
            source,
            options,
            loaded: HashMap::new(),
        }
    }

    /// The model with this identity; loads and checks it the first time.
    pub(crate) fn get(&mut self, model_id: B256) -> Result<Arc<Loaded>, WatcherError> {
        if let Some(model) = self.loaded.get(&model_id) {
            return Ok(Arc::clone(model));
        }
        let missing = |reason: String| WatcherError::NoModel { model_id, reason };
        let graph = Arc::new(self.source.graph(model_id).map_err(missing)?);
        let trees = ConstTrees::new(graph.consts());
        let own = B256::from(graph.identity_with(&trees).model_id);
        if own != model_id {
            return Err(missing(format!("the file is model {own}")));
        }
        let structure = graph.structure();
        let shared = Arc::clone(&graph);
        let runner = if structure.is_generative() {
            Decoder::new(shared, self.options).map(Runner::Language)
        } else {
            Engine::new(shared, self.options).map(Runner::Plain)
        };
        let model = Arc::new(Loaded {
            structure,
            graph,
            runner: runner.map_err(|error| missing(error.to_string()))?,
            trees,
            grammars: self.source.grammars(model_id),
        });
        self.loaded.insert(model_id, Arc::clone(&model));
        Ok(model)
    }
}
