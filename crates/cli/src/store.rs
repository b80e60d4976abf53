//! Models on this machine: imported by the user (data folder), pulled from the catalogue (cache), bundled in the binary.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use alloy_primitives::B256;
use assay_engine::EngineOptions;
use assay_import::{
    ImportError, MANIFEST_FILE, Manifest, Model,
    catalogue::{self, CATALOGUE, Entry, Recipe},
    pull::{self, Cache, Progress, Quiet},
};
use assay_operator::{HonestModel, ModelRunner, input_tensor};
use assay_receipt::{Bundle, ReplayOutcome, ViewError};

use crate::{
    exit::{Exit, Stop},
    paths,
    shell::Shell,
};

/// Name of the model in the binary.
pub(crate) const BUNDLED: &str = "digits";

/// Where a model of the store comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Bundled,
    Catalogue,
    Imported,
}

impl Origin {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Bundled => "bundled",
            Self::Catalogue => "catalogue",
            Self::Imported => "imported",
        }
    }
}

/// The models of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    imported: PathBuf,
    cache: Cache,
}

impl Store {
    /// # Errors
    /// When neither the variables nor HOME are set.
    pub(crate) fn open_default() -> anyhow::Result<Self> {
        Ok(Self {
            imported: paths::models()?,
            cache: Cache::from_environment()?,
        })
    }

    /// The cache of downloads.
    pub(crate) const fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Folder of an imported model.
    pub(crate) fn imported_folder(&self, name: &str) -> PathBuf {
        self.imported.join(name)
    }

    /// All models that are ready without a download: bundled, catalogue, imported.
    ///
    /// # Errors
    /// When a manifest can't be read.
    pub(crate) fn list(&self) -> anyhow::Result<Vec<(Origin, Manifest)>> {
        let mut all = Vec::new();
        for entry in CATALOGUE
            .iter()
            .filter(|e| self.cache.ready().contains(&e.id))
        {
            if entry.recipe == Recipe::Bundled {
                all.push((Origin::Bundled, (*assay_import::digits()?.manifest).clone()));
            } else {
                all.push((Origin::Catalogue, manifest(&self.cache.model(entry))?));
            }
        }
        let mut own = Vec::new();
        if let Ok(entries) = std::fs::read_dir(&self.imported) {
            for entry in entries.flatten() {
                if entry.path().join(MANIFEST_FILE).exists() {
                    own.push((Origin::Imported, manifest(&entry.path())?));
                }
            }
        }
        own.sort_by(|a, b| a.1.name.cmp(&b.1.name));
        all.extend(own);
        Ok(all)
    }

    /// A model by name or id; nothing is fetched.
    ///
    /// # Errors
    /// [`Exit::NotFound`] with the known names.
    pub(crate) fn load(&self, name: &str) -> anyhow::Result<Model> {
        let wanted = name.trim_start_matches("0x");
        let all = self.list()?;
        match all
            .iter()
            .find(|(_, m)| m.name == name || m.model_id == wanted)
        {
            Some((Origin::Imported, m)) => Ok(Model::load(&self.imported_folder(&m.name))?),
            Some((_, m)) => Ok(pull::open(&m.name, &self.cache, &mut Quiet)?),
            None => {
                let names: Vec<&str> = all.iter().map(|(_, m)| m.name.as_str()).collect();
                let hint = match catalogue::find(name) {
                    Some(entry) => format!("`assay model pull {}` fetches it", entry.id),
                    None => format!("here: {}; `assay model ls` lists them", names.join(", ")),
                };
                Err(
                    Stop::new(Exit::NotFound, format!("no model `{name}` on this machine"))
                        .hint(hint)
                        .into(),
                )
            }
        }
    }

    /// A model of the catalogue: fetched, verified and imported if it is not here yet.
    ///
    /// # Errors
    /// [`Exit::Unavailable`] when no source can be reached; those of the import.
    pub(crate) fn pull(&self, entry: &Entry, shell: &Shell) -> anyhow::Result<Model> {
        pull::open(entry.id, &self.cache, &mut Bar { shell, bar: None }).map_err(|e| match e {
            ImportError::Unreachable { .. } => Stop::new(Exit::Unavailable, e)
                .hint(
                    "a network, or pip with an index, is needed once; files are kept in the cache",
                )
                .into(),
            other => other.into(),
        })
    }

    /// Runs the model of a receipt again, if it is on this machine (or in `folder`).
    ///
    /// # Errors
    /// When `folder` holds no model.
    pub(crate) fn replayer(
        &self,
        bundle: &Bundle,
        folder: Option<&Path>,
    ) -> anyhow::Result<Option<Replay>> {
        let model = match folder {
            Some(folder) => Model::load(folder)?,
            None => match self.load(&bundle.receipt.model_id.to_string()) {
                Ok(model) => model,
                Err(_) => return Ok(None),
            },
        };
        let runner = HonestModel::new(Arc::clone(&model.graph), EngineOptions::default())?;
        Ok(Some(Box::new(
            move |_: &Bundle, salt: B256, input: &[u8]| replay(&model, &runner, salt, input),
        )))
    }
}

/// Runs a model again for a verification.
pub(crate) type Replay = Box<dyn Fn(&Bundle, B256, &[u8]) -> Result<ReplayOutcome, ViewError>>;

fn replay(
    model: &Model,
    runner: &HonestModel,
    salt: B256,
    input: &[u8],
) -> Result<ReplayOutcome, ViewError> {
    let ty = model.graph.input_type().ok_or("the graph is empty")?;
    let tensor = input_tensor(ty, model.graph.header().max_seq, input)?;
    let run = runner.execute(&tensor, salt)?;
    Ok(ReplayOutcome {
        model_id: runner.model_id(),
        output: run.output,
        trace_root: run.trace_root,
        n_leaves: run.n_leaves,
        mask_root: B256::ZERO,
    })
}

fn manifest(folder: &Path) -> anyhow::Result<Manifest> {
    Ok(Manifest::parse(&std::fs::read(
        folder.join(MANIFEST_FILE),
    )?)?)
}

/// Downloads as a bar on the terminal, and a line each.
struct Bar<'a> {
    shell: &'a Shell,
    bar: Option<indicatif::ProgressBar>,
}

impl Progress for Bar<'_> {
    fn start(&mut self, what: &str, total: Option<u64>) {
        let size = total
            .map(|t| format!(" ({:.1} MB)", t as f64 / 1e6))
            .unwrap_or_default();
        self.shell.note(format!("{what}{size}"));
        self.bar = total.map(|t| self.shell.bytes_bar(what, t));
    }
    fn advance(&mut self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }
    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
