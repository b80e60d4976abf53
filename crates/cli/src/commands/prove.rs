//! `assay prove`: an answer with a proof that the model gives it.

use std::{path::PathBuf, sync::Arc, time::Instant};

use assay_gateway::{ImportedModel, ModelCodec as _};
use assay_graph::Tensor;
use assay_import::Model;
use assay_operator::input_tensor;
use assay_proof::{
    Budget, Input as Run, Mode, Proof, ProveError, ProvingKey, Step, prove, prove_hiding, verify,
    verify_direct,
};
use assay_receipt::ProofFile;
use serde_json::json;

use crate::{
    args::ProveArgs,
    exit::{Exit, Stop, stop},
    proofs,
    shell::Shell,
    speech,
    store::{BUNDLED, Store},
    usage,
};

/// Most bytes of a context.
const MAX_CONTEXT: usize = 256;

/// Steps of a proof in their order, in words.
pub(crate) const STEPS: [(Step, &str); 6] = [
    (Step::Run, "running the model"),
    (Step::Commit, "committing to every value"),
    (Step::Lookups, "proving the tables"),
    (Step::Products, "proving the products"),
    (Step::Witness, "opening the values"),
    (Step::Weights, "opening the weights"),
];

pub(crate) fn run(args: &ProveArgs, shell: &Shell) -> anyhow::Result<()> {
    let store = Store::open_default()?;
    let model = store.load(&args.model)?;
    let name = model.manifest.name.clone();
    let context = context(args.context.as_deref())?;
    let codec = ImportedModel::new(model.clone());
    let runs = runs(args, &model, &codec, shell)?;
    let begin = Measure::begin();
    let spinner = shell.spinner("making the key: planning, committing to the weights");
    let key = proving_key(&model, args.direct);
    spinner.finish_and_clear();
    let key = key?;
    if !args.direct {
        proofs::remember(&store, key.key());
    }
    let keyed = begin.end();

    let begin = Measure::begin();
    let bar = shell.steps_bar(STEPS.len() as u64 - u64::from(args.direct));
    let prove = if args.hide { prove_hiding } else { prove };
    let proof = prove(&key, &runs, &context, &mut |step| {
        if let Some(at) = STEPS.iter().position(|(s, _)| *s == step) {
            bar.set_position(at as u64);
            bar.set_message(STEPS[at].1);
        }
    });
    bar.finish_and_clear();
    let proof = proof.map_err(|e| refused(&name, e))?;
    let proved = begin.end();

    let begin = Measure::begin();
    let budget = check(&model, &key, &proof)?;
    let verified = begin.end();
    let file = ProofFile {
        key: if args.direct {
            Vec::new()
        } else {
            key.key().encode()
        },
        proof: proof.encode(),
    };
    let path = args.out.clone().unwrap_or_else(|| default_name(&name));
    let bytes = file.encode();
    std::fs::write(&path, &bytes)
        .map_err(|e| Stop::new(Exit::Failed, format!("proof `{}`: {e}", path.display())))?;
    let answers: Vec<proofs::Said> = proof
        .statement
        .runs
        .iter()
        .map(|run| proofs::said(Some(&codec), run))
        .collect();
    let lines: Vec<&str> = answers.iter().map(|a| a.output_words.as_str()).collect();
    let peak = usage::peak_bytes();
    shell.result(
        lines.join("\n"),
        &json!({
            "model": name,
            "model_id": format!("0x{}", model.manifest.model_id),
            "answers": answers.iter().map(proofs::Said::json).collect::<Vec<_>>(),
            "file": path,
            "file_bytes": bytes.len(),
            "proof_bytes": file.proof.len(),
            "key_bytes": file.key.len(),
            "bits": f64::from(budget.tenths()) / 10.0,
            "direct": args.direct,
            "hidden": args.hide,
            "key": keyed.json(),
            "prove": proved.json(),
            "verify": verified.json(),
            "peak_memory_bytes": peak,
        }),
    );
    shell.note(format!(
        "{} in {}\n  key    {}\n  proof  {}\n  check  {}\n  {} of proof, {} of key; {}; {} of memory at most\nhint: assay verify {}",
        if runs.len() == 1 { "proof".into() } else { format!("one proof of {} runs", runs.len()) },
        path.display(),
        keyed.words(),
        proved.words(),
        verified.words(),
        usage::size(file.proof.len() as u64),
        usage::size(file.key.len() as u64),
        budget,
        peak.map_or_else(|| "unknown".into(), usage::size),
        path.display(),
    ));
    Ok(())
}

/// What is to be proven; language models answer first.
fn runs(
    args: &ProveArgs,
    model: &Model,
    codec: &ImportedModel,
    shell: &Shell,
) -> anyhow::Result<Vec<Run>> {
    let name = &model.manifest.name;
    let Some(language) = codec.language() else {
        if !args.speech.is_plain() {
            return stop(
                Exit::Failed,
                format!("`{name}` is no language model: it takes --input and samples nothing"),
            );
        }
        let run = |typed: &String| {
            Ok(Run {
                tensor: tensor(model, codec, typed)?,
                out: 1,
                sampling: None,
            })
        };
        return args.input.iter().map(run).collect();
    };
    let sampling = speech::statement(name, language, &args.speech)?;
    let mut prompts = Vec::new();
    for typed in &args.input {
        let text = proofs::typed_text(typed)?;
        prompts.push(speech::prompt(model, &text, args.speech.raw)?);
    }
    if !args.speech.tokens.is_empty() {
        prompts.push(args.speech.tokens.clone());
    }
    let spinner = shell.spinner("answering");
    let runs = speech::answers(model, &prompts, &sampling);
    spinner.finish_and_clear();
    runs
}

fn default_name(model: &str) -> PathBuf {
    PathBuf::from(format!("{model}.proof"))
}

fn proving_key(model: &Model, direct: bool) -> anyhow::Result<ProvingKey> {
    let graph = Arc::clone(&model.graph);
    let key = if direct {
        ProvingKey::direct(graph)
    } else {
        ProvingKey::new(graph)
    };
    key.map_err(|e| proofs::not_provable(&model.manifest.name, &e).into())
}

fn refused(name: &str, error: ProveError) -> anyhow::Error {
    match error {
        ProveError::Plan(e) => proofs::not_provable(name, &e).into(),
        other => Stop::new(Exit::Failed, format!("the proof was not made: {other}")).into(),
    }
}

/// What was made has to hold for others too.
fn check(model: &Model, key: &ProvingKey, proof: &Proof) -> anyhow::Result<Budget> {
    let verified = match proof.statement.mode {
        Mode::Committed | Mode::Hiding => verify(key.key(), proof),
        Mode::Direct => verify_direct(&model.graph, proof),
    };
    match verified {
        Ok(verified) => Ok(verified.budget),
        Err(e) => stop(
            Exit::Failed,
            format!("the proof that was just made does not hold: {e}"),
        ),
    }
}

fn context(typed: Option<&str>) -> anyhow::Result<Vec<u8>> {
    let Some(typed) = typed else {
        return Ok(Vec::new());
    };
    let bytes = hex::decode(typed.trim_start_matches("0x"))
        .map_err(|e| Stop::new(Exit::Failed, format!("--context `{typed}`: {e}")))?;
    if bytes.len() > MAX_CONTEXT {
        return stop(
            Exit::Failed,
            format!(
                "--context has {} bytes, at most {MAX_CONTEXT} are bound",
                bytes.len()
            ),
        );
    }
    Ok(bytes)
}

/// What was typed, as the model takes it.
fn tensor(model: &Model, codec: &ImportedModel, typed: &str) -> anyhow::Result<Tensor> {
    let bytes = proofs::input_bytes(codec, typed)?;
    let ty = model
        .graph
        .input_type()
        .ok_or_else(|| Stop::new(Exit::Failed, "the model takes no input"))?;
    input_tensor(ty, model.graph.header().max_seq, &bytes).map_err(|e| {
        let hint = if model.manifest.name == BUNDLED {
            "`assay prove digits --input models/digits/samples/7.png`"
        } else {
            "`assay model show MODEL` says what it takes"
        };
        Stop::new(Exit::Failed, format!("input `{typed}`: {e}"))
            .hint(hint)
            .into()
    })
}

/// A clock of wall and processor.
struct Measure {
    start: Instant,
    cpu: Option<f64>,
}

/// What a part of the work took.
struct Took {
    wall: f64,
    cpu: Option<f64>,
}

impl Measure {
    fn begin() -> Self {
        Self {
            start: Instant::now(),
            cpu: usage::cpu_seconds(),
        }
    }

    fn end(self) -> Took {
        let cpu = usage::cpu_seconds()
            .zip(self.cpu)
            .map(|(now, then)| now - then);
        Took {
            wall: self.start.elapsed().as_secs_f64(),
            cpu,
        }
    }
}

impl Took {
    fn words(&self) -> String {
        match self.cpu {
            Some(cpu) => format!("{:.3} s, {cpu:.2} s of CPU", self.wall),
            None => format!("{:.3} s", self.wall),
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({ "seconds": self.wall, "cpu_seconds": self.cpu })
    }
}
