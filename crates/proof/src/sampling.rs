//! Sampling statements of runs: what a proof needs of them besides what the plan states.

use assay_graph::{Sampling, Structure};

/// Why an answer that is constrained to a grammar can't be proven.
pub(crate) const MASKED: &str = "mask_root: answers constrained to a grammar can't be proven, the statement names the grammar but not the tokens that it allows";

/// The runs' sampling statements, which were checked; none of a model that samples nothing.
pub(crate) fn decoded<'a>(statements: impl Iterator<Item = &'a [u8]>) -> Vec<Sampling> {
    statements
        .filter_map(|s| Sampling::decode(s).ok())
        .collect()
}

/// Checks that a run's sampling statement is one that can be proven, and that prompt and answer fit each other and it: the input's last tokens are the answer's without its last, the answer is not
/// longer than the statement allows and does not go on behind a stop token.
pub(crate) fn check_sampling(
    structure: &Structure,
    sampling: &[u8],
    tokens: &[i32],
    answer: &[i32],
) -> Result<(), &'static str> {
    if !structure.is_generative() {
        return if sampling.is_empty() {
            Ok(())
        } else {
            Err("the model samples nothing")
        };
    }
    let Ok(s) = Sampling::decode(sampling) else {
        return Err("not a sampling statement");
    };
    if s.is_masked() {
        return Err(MASKED);
    }
    let Some((_, before)) = answer.split_last() else {
        return Err("the answer is empty");
    };
    if answer.len() as u64 > u64::from(s.max_out) {
        return Err("the answer is longer than the statement allows");
    }
    if before
        .iter()
        .any(|t| u32::try_from(*t).is_ok_and(|t| s.stop.contains(&t)))
    {
        return Err("the answer goes on behind a stop token");
    }
    if tokens.len() <= before.len() || !tokens.ends_with(before) {
        return Err("the input does not end with the answer");
    }
    Ok(())
}
