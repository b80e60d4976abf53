//! Proof files, what they say in words, and keys made again from models on this machine.

use std::{fmt::Write as _, path::PathBuf, sync::Arc};

use alloy_primitives::B256;
use assay_gateway::{Decoded, Encoded, ImportedModel, ModelCodec as _};
use assay_import::Model;
use assay_proof::{Key, PARAM_SET_NAME, PlanError, ProvingKey, Run};
use serde_json::{Value, json};

use crate::{
    client::Input,
    commands::ask,
    exit::{Exit, Stop, stop},
    speech,
    store::Store,
};

/// Numbers of a tensor that are shown.
const SHOWN: usize = 4;
/// Classes that are shown.
const CLASSES: usize = 3;

/// Why a model has no proofs, as an error of the command line.
pub(crate) fn not_provable(name: &str, error: &PlanError) -> Stop {
    Stop::new(Exit::Failed, format!("`{name}` is not provable: {error}"))
        .hint("`assay ask` and `assay verify` give evidence of the optimistic tier")
}

/// What was typed as the model's canonical input bytes.
///
/// # Errors
/// Those of reading it, and of the model's codec.
pub(crate) fn input_bytes(codec: &ImportedModel, typed: &str) -> anyhow::Result<Vec<u8>> {
    let takes_text = matches!(
        codec.kind(),
        assay_gateway::ModelKind::Embedding | assay_gateway::ModelKind::Language
    );
    let encoded: Result<Encoded, _> = match ask::input(typed, takes_text)? {
        Input::Text(text) | Input::Message(text) => codec.encode_text(&text),
        Input::Png(png) => codec.encode_image(&png),
        Input::Tensor(tensor) => {
            let mut values = Vec::new();
            if !flatten(&tensor, 0, &mut values) {
                return stop(
                    Exit::Failed,
                    format!("input `{typed}`: only numbers and lists of them"),
                );
            }
            codec.encode_values(&values)
        }
    };
    let encoded = encoded.map_err(|e| Stop::new(Exit::Failed, format!("input `{typed}`: {e}")))?;
    Ok(encoded.bytes)
}

/// What was typed, as text: the words themselves, or standard input for `-`.
///
/// # Errors
/// Input that is no text.
pub(crate) fn typed_text(typed: &str) -> anyhow::Result<String> {
    match ask::input(typed, true)? {
        Input::Text(text) | Input::Message(text) => Ok(text),
        Input::Png(_) | Input::Tensor(_) => stop(Exit::Failed, "a language model takes text"),
    }
}

fn flatten(value: &Value, depth: usize, out: &mut Vec<f64>) -> bool {
    match value {
        Value::Number(n) => n.as_f64().map(|v| out.push(v)).is_some(),
        Value::Array(items) => depth < 8 && items.iter().all(|v| flatten(v, depth + 1, out)),
        _ => false,
    }
}

/// A run of a statement, for people.
pub(crate) struct Said {
    /// Of the input.
    pub(crate) input_words: String,
    /// Of the output.
    pub(crate) output_words: String,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        json!({
            "input": (!self.input.is_empty()).then(|| format!("0x{}", hex::encode(&self.input))),
            "output": format!("0x{}", hex::encode(&self.output)),
            "input_words": self.input_words,
            "output_words": self.output_words,
        })
    }
}

/// What a run says: decoded where the model is at hand.
pub(crate) fn said(codec: Option<&ImportedModel>, run: &Run) -> Said {
    let spoken = codec.and_then(|codec| {
        let tokenizer = &codec.model().language()?.tokenizer;
        let (prompt, answer) = speech::tokens(run)?;
        let words = |ids: &[u32]| tokenizer.decode_with_control(ids);
        Some((words(&prompt), words(&answer)))
    });
    if let Some((input_words, output_words)) = spoken {
        return Said {
            input_words,
            output_words,
            input: run.input.clone(),
            output: run.output.clone(),
        };
    }
    let bytes = |b: &[u8]| format!("{} bytes", b.len());
    let input = if run.input.is_empty() {
        Some("hidden".to_owned())
    } else {
        codec.and_then(|c| input_words(c, &run.input))
    };
    let output = codec.and_then(|c| c.decode(&run.output).ok());
    Said {
        input_words: input.unwrap_or_else(|| bytes(&run.input)),
        output_words: output.map_or_else(|| bytes(&run.output), |d| decoded_words(&d)),
        input: run.input.clone(),
        output: run.output.clone(),
    }
}

/// Shape and first numbers of an input, or its text.
fn input_words(codec: &ImportedModel, bytes: &[u8]) -> Option<String> {
    let model = codec.model();
    let graph = &model.graph;
    let ty = graph.input_type()?;
    let tensor = assay_operator::input_tensor(ty, graph.header().max_seq, bytes).ok()?;
    let dims: Vec<String> = tensor.dims.iter().map(usize::to_string).collect();
    let mut words = format!("{} integers", dims.join("×"));
    let digest = blake3_words(bytes);
    let _ = write!(words, " (BLAKE3 {digest})");
    Some(words)
}

fn blake3_words(bytes: &[u8]) -> String {
    let hash = blake3::hash(bytes).to_hex();
    format!("{}…", hash.get(..16).unwrap_or_default())
}

fn decoded_words(decoded: &Decoded) -> String {
    let numbers = |values: &[f32]| {
        let first: Vec<String> = values
            .iter()
            .take(SHOWN)
            .map(|v| format!("{v:.4}"))
            .collect();
        let rest = if values.len() > SHOWN { ", …" } else { "" };
        format!("[{}{rest}]", first.join(", "))
    };
    match decoded {
        Decoded::Classes(classes) => {
            let words = classes
                .iter()
                .take(CLASSES)
                .map(|c| format!("{} ({:.1} %)", c.label, c.score * 100.0));
            words.collect::<Vec<_>>().join(", ")
        }
        Decoded::Embedding(vector) => {
            format!("{} {} dimensions", numbers(vector), vector.len())
        }
        Decoded::Tensor { values, .. } => numbers(values),
    }
}

/// Where the key of a model is kept once it was made.
fn kept(store: &Store, model_id: [u8; 32]) -> PathBuf {
    let name = format!("{}.{PARAM_SET_NAME}.key", hex::encode(model_id));
    store.cache().root().join("keys").join(name)
}

/// The key of a model on this machine: from this user's cache, else made again.
///
/// # Errors
/// [`PlanError`] for models without proofs.
pub(crate) fn key_of(store: &Store, model: &Model) -> Result<Key, PlanError> {
    let path = kept(store, model.id());
    if let Some(key) = std::fs::read(path).ok().and_then(|b| Key::decode(&b).ok())
        && key.model_id() == model.id()
    {
        return Ok(key);
    }
    let key = ProvingKey::new(Arc::clone(&model.graph))?.key().clone();
    remember(store, &key);
    Ok(key)
}

/// Keeps a key that was made here. One that can't be written is made again the next time.
pub(crate) fn remember(store: &Store, key: &Key) {
    let path = kept(store, key.model_id());
    let aside = path.with_extension(format!("{}.part", std::process::id()));
    let written = path
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(&aside, key.encode()))
        .and_then(|()| std::fs::rename(&aside, &path));
    if let Err(error) = written {
        tracing::debug!(target: "assay::cli", %error, "the key was not kept");
    }
}

/// `0x…` of 32 bytes.
pub(crate) fn hash_words(bytes: [u8; 32]) -> String {
    B256::from(bytes).to_string()
}
