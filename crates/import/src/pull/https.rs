//! One file over HTTP, resumed where an earlier attempt stopped.

use std::{fs, path::Path, time::Duration};

use ureq::Agent;

use super::{Checked, Progress, copy_checked};
use crate::{catalogue::FileEntry, error::ImportError};

/// Fetches `url` to `target`. A partial file `target.part` is continued with a range request; a server that ignores the range starts over.
///
/// # Errors
/// [`ImportError::Tool`] when the server can't be reached or refuses; [`ImportError::Size`] and [`ImportError::Hash`] for wrong content.
pub fn fetch(
    url: &str,
    file: &FileEntry,
    target: &Path,
    progress: &mut dyn Progress,
) -> Result<(), ImportError> {
    let failed = |why: String| ImportError::Tool {
        program: "download".into(),
        why,
    };
    let part = target.with_extension("part");
    let mut done = if part.exists() {
        Checked::resume(&part)?
    } else {
        Checked::default()
    };
    if done.bytes() > file.size {
        fs::remove_file(&part).map_err(ImportError::io(&part))?;
        done = Checked::default();
    }
    let config = Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(15)))
        .timeout_recv_response(Some(Duration::from_secs(30)))
        .user_agent(concat!("assay/", env!("CARGO_PKG_VERSION")))
        .build();
    let agent: Agent = config.into();
    let mut request = agent.get(url);
    if done.bytes() > 0 {
        request = request.header("Range", format!("bytes={}-", done.bytes()));
    }
    progress.start(file.name, Some(file.size));
    let empty: &mut dyn std::io::Read = &mut std::io::empty();
    if done.bytes() == file.size {
        return copy_checked(empty, done, &part, target, file, progress);
    }
    let response = request.call().map_err(|e| failed(format!("{url}: {e}")))?;
    match response.status().as_u16() {
        206 if done.bytes() > 0 => progress.advance(done.bytes()),
        200 => {
            if done.bytes() > 0 {
                fs::remove_file(&part).map_err(ImportError::io(&part))?;
            }
            done = Checked::default();
        }
        status => return Err(failed(format!("{url}: status {status}"))),
    }
    let mut body = response
        .into_body()
        .into_with_config()
        .limit(file.size + 1)
        .reader();
    copy_checked(&mut body, done, &part, target, file, progress)?;
    progress.finish();
    Ok(())
}
