//! `assay receipt`: what can be asked for after an answer was given.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use alloy_primitives::B256;
use assay_abi::claim_context;
use assay_proof::{Key, Proof, verify};
use assay_receipt::{Bundle, ProofFile};
use serde_json::{Value, json};

use crate::{
    args::ReceiptCommand,
    client::Client,
    commands::prove::STEPS,
    discover,
    exit::{Exit, Stop, stop},
    receipts,
    shell::Shell,
    usage,
};

/// Time between two looks at a proof.
const LOOK: Duration = Duration::from_millis(300);

pub(crate) fn run(command: ReceiptCommand, shell: &Shell) -> anyhow::Result<()> {
    let ReceiptCommand::Prove {
        receipt,
        out,
        gateway,
        api_key,
    } = command;
    let (claim_id, bundle) = named(&receipt)?;
    let client = Client::new(&discover::gateway(gateway.as_deref()).gateway, &api_key);
    let bytes = wait(&client, &claim_id.to_string(), shell)?;
    let (file, tenths) = check(&bytes, bundle.as_ref())?;
    let path = out.unwrap_or_else(|| PathBuf::from(format!("{claim_id}.proof")));
    std::fs::write(&path, &bytes)
        .map_err(|e| Stop::new(Exit::Failed, format!("proof `{}`: {e}", path.display())))?;
    shell.result(
        path.display().to_string(),
        &json!({
            "receipt": claim_id,
            "file": path,
            "file_bytes": bytes.len(),
            "proof_bytes": file.proof.len(),
            "key_bytes": file.key.len(),
            "bits": f64::from(tenths) / 10.0,
        }),
    );
    shell.note(format!(
        "{} of proof, {} of key; it holds\nhint: assay verify {}",
        usage::size(file.proof.len() as u64),
        usage::size(file.key.len() as u64),
        path.display()
    ));
    Ok(())
}

/// The claim that was named, and its bundle where it is here.
fn named(typed: &str) -> anyhow::Result<(B256, Option<Bundle>)> {
    let whole = typed.parse::<B256>().ok();
    let path = match Path::new(typed) {
        file if file.exists() => Some(file.to_owned()),
        _ => match (receipts::find(typed), whole) {
            (Ok(found), _) => found,
            (Err(_), Some(_)) => None,
            (Err(error), None) => return Err(error),
        },
    };
    let Some(path) = path else {
        return match whole {
            Some(id) => Ok((id, None)),
            None => Err(Stop::new(Exit::NotFound, format!("no receipt `{typed}`"))
                .hint("a file, the begin of a kept receipt's id (0x…), or `last`")
                .into()),
        };
    };
    let shown = path.display();
    let text = std::fs::read_to_string(&path)
        .map_err(|e| Stop::new(Exit::NotFound, format!("receipt `{shown}`: {e}")))?;
    let bundle = Bundle::from_json(&text)
        .map_err(|e| Stop::new(Exit::Failed, format!("`{shown}` is no receipt: {e}")))?;
    Ok((bundle.receipt.claim_id(), Some(bundle)))
}

/// Asks for the proof and waits for it. Whoever stops waiting finds it when asking again.
fn wait(client: &Client, receipt: &str, shell: &Shell) -> anyhow::Result<Vec<u8>> {
    let mut state = client.ask_proof(receipt)?;
    let bar = shell.steps_bar(STEPS.len() as u64);
    loop {
        bar.set_message(words(&state));
        bar.set_position(place(&state).unwrap_or(0) as u64);
        match client.proof(receipt) {
            Ok(Ok(bytes)) => {
                bar.finish_and_clear();
                return Ok(bytes);
            }
            Ok(Err(now)) => state = now,
            Err(error) => {
                bar.finish_and_clear();
                return Err(error);
            }
        }
        std::thread::sleep(LOOK);
    }
}

fn place(state: &Value) -> Option<usize> {
    let step = state.get("step").and_then(Value::as_str)?;
    STEPS
        .iter()
        .position(|(s, _)| format!("{s:?}").eq_ignore_ascii_case(step))
}

fn words(state: &Value) -> String {
    match (
        place(state).and_then(|at| STEPS.get(at)),
        state.get("ahead").and_then(Value::as_u64),
    ) {
        (Some((_, words)), _) => (*words).to_owned(),
        (None, Some(0)) => "next in line".into(),
        (None, Some(1)) => "in line, one proof before".into(),
        (None, Some(n)) => format!("in line, {n} proofs before"),
        (None, None) => "beginning".into(),
    }
}

/// What came is a proof that holds, of this receipt. Returns it with tenths of bits.
fn check(bytes: &[u8], bundle: Option<&Bundle>) -> anyhow::Result<(ProofFile, u32)> {
    let bad = |e: &dyn std::fmt::Display| Stop::new(Exit::False, format!("no proof: {e}"));
    let file = ProofFile::decode(bytes).map_err(|e| bad(&e))?;
    let key = Key::decode(&file.key).map_err(|e| bad(&e))?;
    let proof = Proof::decode(&file.proof).map_err(|e| bad(&e))?;
    let verified = verify(&key, &proof).map_err(|e| bad(&e))?;
    if let Some(bundle) = bundle {
        let want = claim_context(bundle.domain().chain_id, bundle.receipt.body_id());
        if proof.statement.context != want {
            return stop(Exit::False, "the operator's proof is of another receipt");
        }
    }
    Ok((file, verified.budget.tenths()))
}
