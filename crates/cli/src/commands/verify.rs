//! `assay verify`: each fact about a receipt, on its own.

use assay_receipt::{Bundle, verify_bundle};
use assay_wallet::ChainClient;

use crate::{
    args::VerifyArgs,
    exit::{Exit, Stop, stop},
    shell::Shell,
    store::Store,
};

pub(crate) fn run(args: &VerifyArgs, shell: &Shell) -> anyhow::Result<()> {
    let text = if args.receipt.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin().lock())?
    } else {
        std::fs::read_to_string(&args.receipt).map_err(|e| {
            Stop::new(
                Exit::NotFound,
                format!("receipt `{}`: {e}", args.receipt.display()),
            )
            .hint("`assay ask MODEL INPUT --receipt FILE` keeps one")
        })?
    };
    let bundle = Bundle::from_json(&text).map_err(|e| {
        Stop::new(
            Exit::Failed,
            format!("`{}` is no receipt: {e}", args.receipt.display()),
        )
    })?;
    let chain = args.rpc.as_ref().map(ChainClient::new);
    let replay = if args.no_replay {
        None
    } else {
        Store::open_default()?.replayer(&bundle, args.model.as_deref())?
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

/// Prints a report: one line a fact, then what it rests on and what was not checked.
pub(crate) fn print(report: &assay_receipt::Report, shell: &Shell) -> anyhow::Result<()> {
    shell.result(
        report.to_string().trim_end(),
        &serde_json::to_value(report)?,
    );
    Ok(())
}
