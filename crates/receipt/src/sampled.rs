//! Facts about the answer of a language model: its sampling statement, its grammar, its length.

use alloy_primitives::B256;
use assay_graph::Sampling;

use crate::facts::Fact;
use crate::{Bundle, Receipt, grammar_hash, sampling_hash};

/// Facts of receipts that name a sampling statement; none of others.
pub(crate) fn facts(bundle: &Bundle) -> Vec<Fact> {
    if bundle.receipt.sampling_hash == B256::ZERO {
        return Vec::new();
    }
    let statement = statement(bundle);
    let known = statement.as_ref().ok();
    let mut facts = vec![sampling_fact(&bundle.receipt, &statement)];
    facts.extend(known.and_then(|statement| grammar_fact(bundle, statement)));
    facts.push(length_fact(bundle, known));
    facts
}

/// Why a bundle's statement can't be used.
enum Missing {
    NotThere,
    Other,
    Malformed(String),
}

fn statement(bundle: &Bundle) -> Result<Sampling, Missing> {
    let bytes = bundle.sampling.as_ref().ok_or(Missing::NotThere)?;
    if sampling_hash(bytes) != bundle.receipt.sampling_hash {
        return Err(Missing::Other);
    }
    Sampling::decode(bytes).map_err(|error| Missing::Malformed(error.to_string()))
}

fn sampling_fact(receipt: &Receipt, statement: &Result<Sampling, Missing>) -> Fact {
    const NAME: &str = "sampling";
    match statement {
        Ok(statement) => Fact::shown(
            NAME,
            format!(
                "the sampling statement in the bundle hashes to {}: {}, at most {} tokens",
                receipt.sampling_hash,
                if statement.is_greedy() {
                    "the most likely token".to_owned()
                } else {
                    format!(
                        "temperature {}/65536, seed {}",
                        statement.temperature,
                        B256::from(statement.seed)
                    )
                },
                statement.max_out
            ),
        ),
        Err(Missing::NotThere) => {
            Fact::not_shown(NAME, "the sampling statement is not in the bundle")
        }
        Err(Missing::Other) => Fact::contradicted(
            NAME,
            "the sampling statement in the bundle is not the one of the receipt",
        ),
        Err(Missing::Malformed(why)) => Fact::contradicted(
            NAME,
            format!("the receipt names a statement of no meaning: {why}"),
        ),
    }
}

/// Only of constrained answers. That the masks follow from the grammar takes the model's vocabulary: a replay shows it.
fn grammar_fact(bundle: &Bundle, statement: &Sampling) -> Option<Fact> {
    const NAME: &str = "grammar";
    if !statement.is_masked() {
        return None;
    }
    let asked = B256::from(statement.mask_root);
    Some(match &bundle.grammar {
        None => Fact::not_shown(NAME, "the grammar is not in the bundle"),
        Some(grammar) if grammar_hash(grammar) == asked => Fact::shown(
            NAME,
            format!(
                "the grammar in the bundle is the one of the statement; root of the token masks {}",
                bundle.receipt.ext_hash
            ),
        ),
        Some(_) => Fact::contradicted(
            NAME,
            "the grammar in the bundle is not the one of the statement",
        ),
    })
}

/// An answer ends with its first stop token or with the most tokens that were asked. A requester may end it earlier;
/// whether it did is not on record.
fn length_fact(bundle: &Bundle, statement: Option<&Sampling>) -> Fact {
    const NAME: &str = "length";
    let receipt = &bundle.receipt;
    let Some(statement) = statement else {
        return Fact::not_shown(
            NAME,
            "the length of the answer needs the sampling statement",
        );
    };
    if receipt.n_out > statement.max_out {
        return Fact::contradicted(
            NAME,
            format!(
                "{} tokens answered, {} asked at most",
                receipt.n_out, statement.max_out
            ),
        );
    }
    let Some(output) = &bundle.output else {
        return Fact::not_shown(NAME, "the output is not in the bundle");
    };
    let (words, rest) = output.as_chunks::<4>();
    if !rest.is_empty() || words.len() != receipt.n_out as usize {
        return Fact::contradicted(
            NAME,
            format!(
                "{} output bytes are not {} tokens",
                output.len(),
                receipt.n_out
            ),
        );
    }
    let stops = |word: &[u8; 4]| {
        statement
            .stop
            .binary_search(&u32::from_le_bytes(*word))
            .is_ok()
    };
    match words.iter().position(stops) {
        Some(first) if first + 1 < words.len() => Fact::contradicted(
            NAME,
            format!(
                "token {first} of {} ends the answer, yet it goes on",
                words.len()
            ),
        ),
        Some(_) => Fact::shown(NAME, "the answer ends with its first stop token"),
        None if receipt.n_out == statement.max_out => {
            Fact::shown(NAME, "the answer has as many tokens as were asked")
        }
        None => Fact::not_shown(
            NAME,
            format!(
                "the answer ends after {} of {} tokens without a stop token: right only if the requester stopped it",
                receipt.n_out, statement.max_out
            ),
        ),
    }
}
