//! Files over HTTPS, resumed where an earlier try stopped.

use std::{
    fs::{self, OpenOptions},
    io::{Read, Write},
    path::Path,
    time::Duration,
};

use super::{FileSpec, Progress, fetch::verify};
use crate::ImportError;

/// Fetches each file to `NAME.part`, verifies it, then renames it.
pub(super) fn fetch(folder: &str, files: &[FileSpec], dir: &Path, progress: &dyn Progress) -> Result<(), ImportError> {
    let config = ureq::Agent::config_builder().timeout_connect(Some(Duration::from_secs(10))).timeout_recv_response(Some(Duration::from_secs(30))).build();
    let agent = ureq::Agent::new_with_config(config);
    for file in files {
        let part = dir.join(format!("{}.part", file.name));
        let url = format!("{folder}/{}", file.name);
        one(&agent, &url, file, &part, progress)?;
        verify(&part, file)?;
        let target = dir.join(file.name);
        fs::rename(&part, &target).map_err(ImportError::io(&target))?;
    }
    Ok(())
}

fn one(agent: &ureq::Agent, url: &str, file: &FileSpec, part: &Path, progress: &dyn Progress) -> Result<(), ImportError> {
    let failed = |e: &dyn std::fmt::Display| ImportError::malformed(url, e.to_string());
    let mut have = fs::metadata(part).map_or(0, |m| m.len());
    if have >= file.bytes {
        have = 0; // not a prefix of the file: begin again
    }
    let mut request = agent.get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let response = request.call().map_err(|e| failed(&e))?;
    if response.status().as_u16() != 206 {
        have = 0;
    }
    progress.begin(file.name, file.bytes, have);
    let mut out = OpenOptions::new().create(true).write(true).append(have > 0).truncate(have == 0).open(part).map_err(ImportError::io(part))?;
    // one byte more than expected shows a file that is too long; nothing beyond it is read
    let mut body = response.into_body().into_reader().take(file.bytes - have + 1);
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        let n = body.read(&mut buffer).map_err(|e| failed(&e))?;
        if n == 0 {
            return out.sync_all().map_err(ImportError::io(part));
        }
        out.write_all(buffer.get(..n).unwrap_or_default()).map_err(ImportError::io(part))?;
        have += n as u64;
        progress.at(have);
    }
}
