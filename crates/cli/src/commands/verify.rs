//! `assay verify`: each fact about a receipt or a proof, on its own.

pub(crate) mod proof;

use std::{io::Read as _, path::Path};

use assay_receipt::{Bundle, MAX_PROOF_FILE, ProofFile, verify_bundle};
use assay_wallet::ChainClient;

use crate::{
    args::VerifyArgs,
    exit::{Exit, Stop, stop},
    receipts, replay,
    shell::Shell,
    store::Store,
};

pub(crate) fn run(args: &VerifyArgs, shell: &Shell) -> anyhow::Result<()> {
    let (name, bytes) = read(&args.receipt)?;
    if ProofFile::begins(&bytes) {
        return proof::run(&name, &bytes, args, shell);
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        Stop::new(
            Exit::Failed,
            format!("`{name}` is neither a receipt nor a proof"),
        )
    })?;
    let bundle = Bundle::from_json(&text)
        .map_err(|e| Stop::new(Exit::Failed, format!("`{name}` is no receipt: {e}")))?;
    let chain = args.rpc.as_ref().map(ChainClient::new);
    let replay = if args.no_replay {
        None
    } else {
        replay::of(&Store::open_default()?, &bundle, args.model.as_deref())?
    };
    let report = verify_bundle(
        &bundle,
        chain.as_ref().map(|c| c as &dyn assay_receipt::ChainView),
        replay.as_ref().map(|r| r as &assay_receipt::Replay<'_>),
    )
    .map_err(|e| Stop::new(Exit::Failed, format!("the receipt is malformed: {e}")))?;
    print(&report, shell)?;
    if report.is_contradicted() {
        return stop(
            Exit::False,
            "evidence is false: at least one fact contradicts the receipt",
        );
    }
    Ok(())
}

/// What was named, and what it holds: standard input, a file, or a kept receipt.
fn read(typed: &str) -> anyhow::Result<(String, Vec<u8>)> {
    let limit = MAX_PROOF_FILE as u64;
    let mut bytes = Vec::new();
    if typed == "-" {
        std::io::stdin()
            .lock()
            .take(limit)
            .read_to_end(&mut bytes)?;
        return Ok((typed.to_owned(), bytes));
    }
    let path = match Path::new(typed) {
        file if file.exists() => file.to_owned(),
        file => receipts::find(typed)?.unwrap_or_else(|| file.to_owned()),
    };
    let read = std::fs::File::open(&path).and_then(|f| f.take(limit).read_to_end(&mut bytes));
    read.map_err(|e| {
        Stop::new(Exit::NotFound, format!("receipt `{}`: {e}", path.display()))
            .hint("`assay ask MODEL INPUT --receipt FILE` keeps one; every reply of `assay chat` is kept, `assay verify last` checks the last one")
    })?;
    Ok((path.display().to_string(), bytes))
}

/// Prints a report: one line a fact, then what it rests on and what was not checked.
pub(crate) fn print(report: &assay_receipt::Report, shell: &Shell) -> anyhow::Result<()> {
    shell.result(
        report.to_string().trim_end(),
        &serde_json::to_value(report)?,
    );
    Ok(())
}
