//! Receipts that this user was given, kept as files named by claim id.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use assay_receipt::Bundle;

use crate::{
    exit::{Exit, Stop, stop},
    paths,
};

/// Shortest part of a claim id that names one.
const SHORTEST: usize = 6;

fn folder() -> anyhow::Result<PathBuf> {
    Ok(paths::data()?.join("receipts"))
}

/// Writes a bundle to `path`, or to its place among the kept ones. Returns where it is.
///
/// # Errors
/// When the file can't be written.
pub(crate) fn keep(bundle: &Bundle, path: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = match path {
        Some(path) => path.to_owned(),
        None => {
            let folder = folder()?;
            std::fs::create_dir_all(&folder)?;
            folder.join(format!("{}.json", bundle.receipt.claim_id()))
        }
    };
    std::fs::write(&path, bundle.to_json()?)
        .map_err(|e| Stop::new(Exit::Failed, format!("receipt `{}`: {e}", path.display())))?;
    Ok(path)
}

/// The kept receipt whose claim id begins with `typed` (`0x…`, at least six digits), or the last one for `last`. `None` for what is neither.
///
/// # Errors
/// [`Exit::NotFound`] when there is none, or more than one.
pub(crate) fn find(typed: &str) -> anyhow::Result<Option<PathBuf>> {
    let digits = typed.strip_prefix("0x");
    let is_id = digits.is_some_and(|d| {
        d.len() >= SHORTEST && d.len() <= 64 && d.bytes().all(|b| b.is_ascii_hexdigit())
    });
    if !is_id && typed != "last" {
        return Ok(None);
    }
    let mut known: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder()?).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with(".json") || (is_id && !name.starts_with(&typed.to_lowercase())) {
            continue;
        }
        let changed = entry.metadata().and_then(|m| m.modified());
        known.push((changed.unwrap_or(SystemTime::UNIX_EPOCH), entry.path()));
    }
    known.sort();
    match known.pop() {
        Some((_, path)) if known.is_empty() || !is_id => Ok(Some(path)),
        Some(_) => stop(
            Exit::NotFound,
            format!("{} kept receipts begin with `{typed}`", known.len() + 1),
        ),
        None => stop(Exit::NotFound, format!("no kept receipt for `{typed}`")),
    }
}

/// `0x1234…cdef` of a claim id.
pub(crate) fn short(id: &str) -> String {
    match (id.get(..8), id.get(id.len().saturating_sub(4)..)) {
        (Some(head), Some(tail)) if id.len() > 14 => format!("{head}…{tail}"),
        _ => id.to_owned(),
    }
}

/// Enough of a claim id to name it.
pub(crate) fn short_prefix(id: &str) -> &str {
    id.get(..10).unwrap_or(id)
}
