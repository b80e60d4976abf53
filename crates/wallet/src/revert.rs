//! Revert data in words: every custom error of our modules, by selector.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use alloy_primitives::{Address, B256, I256, U256, hex};
use alloy_sol_types::{Revert, SolError};

/// A refusal of a module, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleError {
    /// Interfaces that declare it, for example `IClaims`; empty for errors of no module.
    pub module: &'static str,
    /// Name of the error, for example `WrongStage`.
    pub name: String,
    /// Its arguments by name, printed.
    pub arguments: Vec<(String, String)>,
}

impl fmt::Display for ModuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = SENTENCES.iter().find(|(name, _)| *name == self.name);
        if let Some((_, template)) = sentence {
            return f.write_str(&fill(template, &self.arguments));
        }
        f.write_str(&in_words(&self.name))?;
        for (index, (name, value)) in self.arguments.iter().enumerate() {
            write!(
                f,
                "{} {} {value}",
                if index == 0 { ":" } else { "," },
                in_words(name)
            )?;
        }
        Ok(())
    }
}

/// Sentences for refusals that people meet; all others are put together from their name and arguments.
const SENTENCES: &[(&str, &str)] = &[
    (
        "InsufficientBalance",
        "balance of {buyer} is {have} usd units, {need} needed; deposit more with `claims.deposit`",
    ),
    (
        "ERC20InsufficientBalance",
        "{sender} has {balance} usd units, {needed} needed",
    ),
    (
        "InsufficientFreeStake",
        "operator {operator} has {free} wei of free stake, {need} needed",
    ),
    ("UnknownOperator", "{operator} is not a registered operator"),
    (
        "AlreadyRegistered",
        "operator {operator} is registered already",
    ),
    (
        "BondTooSmall",
        "bond of {bond} wei is below the minimum of {minimum}",
    ),
    ("UnknownModel", "model {modelId} is not registered"),
    ("ModelExists", "model {modelId} is registered already"),
    ("ModelRefused", "model refused: {reason}"),
    ("NameTaken", "name `{name}` belongs to {maker}"),
    ("UnknownClaim", "no claim {claimId}"),
    ("ClaimExists", "claim {claimId} is asserted already"),
    (
        "SeqGap",
        "line {lineId} expects receipt {want} next, this one is {have}",
    ),
    (
        "CumExposureMismatch",
        "`cumExposure` is {have}, the line stands at {want}",
    ),
    (
        "ExposureTooSmall",
        "exposure of {exposure} wei is below the required {need}",
    ),
    ("WrongSigner", "signed by {signer}, expected {expected}"),
    (
        "KeyNotValid",
        "receipt key {key} was not valid at {issuedAt} (valid from {from} until {until})",
    ),
    (
        "FeeAboveMax",
        "fee of {fee} usd units is above the authorised {maxFee}",
    ),
    (
        "RequestExpired",
        "request expired at {expiry}, receipt issued at {issuedAt}",
    ),
    (
        "IncludeByPassed",
        "receipt had to be on the chain by {includeBy}, it is {now}",
    ),
    (
        "ProofRequired",
        "claim {claimId} is of tier zk: it becomes final by a proof, and by nothing else",
    ),
    (
        "ProofMismatch",
        "the proof is about something else: its {field} is {have}, the claim's {want}",
    ),
    ("ProofRefused", "proof refused: {reason}"),
    (
        "ProofTooLong",
        "proof of {length} bytes, at most {limit} are read",
    ),
    ("NoProofKey", "model {modelId} has no proof key"),
    (
        "ProofKeyNotUsable",
        "the proof key of model {modelId} counts from {usableFrom} on (it is {now}) and with {needed} attesters (it has {attesters})",
    ),
    ("ProofKeyRefused", "proof key refused: {reason}"),
    (
        "ProofKeyFixed",
        "model {modelId} has the proof key {keyId} for ever",
    ),
    (
        "ProofKeyModel",
        "the proof key belongs to model {have}, not to {want}",
    ),
    (
        "ProofKeyParts",
        "a proof key of {length} bytes has {want} parts, not {have}",
    ),
    (
        "ProofKeyPartLength",
        "part {index} of the proof key has {have} bytes, announced were {want}",
    ),
    (
        "ProofKeyPartHash",
        "part {index} of the proof key hashes to {have}, announced was {want}",
    ),
    (
        "ProofKeyPartKnown",
        "part {index} of proof key {keyId} is here already",
    ),
    (
        "ProofKeyIncomplete",
        "{missing} parts of proof key {keyId} of model {modelId} are missing",
    ),
    (
        "WrongProofKey",
        "the model's proof key is {want}, not {have}",
    ),
    (
        "AlreadyAttested",
        "{operator} has attested proof key {keyId} already",
    ),
    ("NotFinal", "window is open until {deadline}, it is {now}"),
    ("OpenDisputes", "{count} disputes are open"),
    ("WrongBond", "bond is {have} wei, {need} needed exactly"),
    (
        "WindowOver",
        "challenge window ended at {deadline}, it is {now}",
    ),
    ("NotYourTurn", "it is the turn of {mover}, not of {caller}"),
    (
        "WrongStage",
        "dispute is in stage {have}, this move belongs to stage {want}",
    ),
    ("StillRunning", "clock runs until {deadline}, it is {now}"),
    ("AsserterIsRight", "leaf {leaf} of claim {claimId} is right"),
    ("BadEvidence", "evidence refused: {reason}"),
    ("ArbiterRefused", "arbiter refused: {reason}"),
    ("BadSignature", "signature refused: {reason}"),
    ("Unauthorized", "{caller} may not do this, only {owner} may"),
    ("OutOfBounds", "{what} is {value}, allowed {low} to {high}"),
    ("Error", "{message}"),
];

fn fill(template: &str, arguments: &[(String, String)]) -> String {
    let mut text = template.to_owned();
    for (name, value) in arguments {
        text = text.replace(&format!("{{{name}}}"), value);
    }
    text
}

/// `WrongStage` becomes `wrong stage`.
fn in_words(name: &str) -> String {
    let mut text = String::new();
    let mut previous_lower = false;
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && previous_lower {
            text.push(' ');
        }
        previous_lower = letter.is_ascii_lowercase() || letter.is_ascii_digit();
        text.push(letter.to_ascii_lowercase());
    }
    text
}

struct Declared {
    module: &'static str,
    name: String,
    /// Type and name of each argument.
    arguments: Vec<(String, String)>,
}

static TABLE: LazyLock<HashMap<[u8; 4], Declared>> = LazyLock::new(|| {
    let mut table = HashMap::new();
    macro_rules! declare {
        ($($interface:ident),*) => {$(
            for error in assay_abi::$interface::abi::errors().into_values().flatten() {
                let arguments = error.inputs.iter().map(|input| (input.ty.clone(), input.name.clone()));
                table.entry(error.selector().0).or_insert_with(|| Declared {
                    module: stringify!($interface),
                    name: error.name.clone(),
                    arguments: arguments.collect(),
                });
            }
        )*};
    }
    declare!(
        IErrors,
        IUsd,
        IStaking,
        IModels,
        IClaims,
        IDisputes,
        IPools,
        IParameters
    );
    table
});

/// Every custom error of our modules: selector, interface, name.
pub fn module_errors() -> Vec<([u8; 4], &'static str, String)> {
    let mut all: Vec<_> = TABLE
        .iter()
        .map(|(selector, declared)| (*selector, declared.module, declared.name.clone()))
        .collect();
    all.sort();
    all
}

/// Reads revert data. Total: unknown data is named by its selector.
pub fn describe_revert(data: &[u8]) -> ModuleError {
    let plain = |name: &str, arguments| ModuleError {
        module: "",
        name: name.to_owned(),
        arguments,
    };
    let Some((selector, body)) = data.split_first_chunk::<4>() else {
        return plain("RevertedWithoutReason", Vec::new());
    };
    if let Ok(revert) = Revert::abi_decode(data) {
        return plain("Error", vec![("message".into(), printable(&revert.reason))]);
    }
    let Some(declared) = TABLE.get(selector) else {
        let value = hex::encode_prefixed(selector);
        return plain("UnknownRevert", vec![("selector".into(), value)]);
    };
    let arguments = declared
        .arguments
        .iter()
        .enumerate()
        .map(|(index, (ty, name))| {
            let value = argument(body, index, ty).unwrap_or_else(|| "unreadable".into());
            (name.clone(), value)
        })
        .collect();
    ModuleError {
        module: declared.module,
        name: declared.name.clone(),
        arguments,
    }
}

fn word(body: &[u8], offset: usize) -> Option<B256> {
    let end = offset.checked_add(32)?;
    body.get(offset..end).map(B256::from_slice)
}

/// Argument `index` of type `ty`. Our errors have static types and strings only.
fn argument(body: &[u8], index: usize, ty: &str) -> Option<String> {
    let word_at = word(body, index.checked_mul(32)?)?;
    let number = U256::from_be_bytes(word_at.0);
    Some(match ty {
        "address" => Address::from_word(word_at).to_string(),
        "bool" => (number != U256::ZERO).to_string(),
        "string" => {
            let offset = usize::try_from(number).ok()?;
            let length = usize::try_from(U256::from_be_bytes(word(body, offset)?.0)).ok()?;
            let start = offset.checked_add(32)?;
            let bytes = body.get(start..start.checked_add(length)?)?;
            printable(&String::from_utf8_lossy(bytes))
        }
        "bytes4" => hex::encode_prefixed(word_at.get(..4)?),
        _ if ty.starts_with("uint") => number.to_string(),
        _ if ty.starts_with("int") => I256::from_raw(number).to_string(),
        _ => word_at.to_string(),
    })
}

/// Text of a stranger: control characters out, length bounded.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_sol_types::SolError;
    use assay_abi::{IClaims, IDisputes, IErrors};

    #[test]
    fn known_errors_become_sentences() {
        let data = IClaims::InsufficientBalance {
            buyer: Address::ZERO,
            have: U256::from(5),
            need: U256::from(7),
        }
        .abi_encode();
        let error = describe_revert(&data);
        assert_eq!(error.name, "InsufficientBalance");
        assert!(
            error.to_string().contains("is 5 usd units, 7 needed"),
            "{error}"
        );
        let data = IErrors::BadSignature {
            reason: "high s\u{7}".into(),
        }
        .abi_encode();
        assert_eq!(
            describe_revert(&data).to_string(),
            "signature refused: high s"
        );
        let data = IDisputes::ChildCount {
            have: U256::from(3),
            want: U256::from(16),
        }
        .abi_encode();
        assert_eq!(
            describe_revert(&data).to_string(),
            "child count: have 3, want 16"
        );
    }

    #[test]
    fn every_declared_error_reads_without_arguments_and_with_junk() {
        assert!(module_errors().len() > 60);
        for (selector, _, name) in module_errors() {
            assert_eq!(describe_revert(&selector).name, name);
            let mut junk = selector.to_vec();
            junk.extend_from_slice(&[0xff; 200]);
            assert!(!describe_revert(&junk).to_string().is_empty());
        }
    }

    #[test]
    fn every_sentence_names_arguments_that_exist() {
        for (name, template) in SENTENCES.iter().filter(|(name, _)| *name != "Error") {
            let declared = TABLE.values().find(|declared| declared.name == *name);
            let declared = declared.unwrap_or_else(|| panic!("no error {name}"));
            let filled = fill(
                template,
                &declared
                    .arguments
                    .iter()
                    .map(|(_, name)| (name.clone(), "X".into()))
                    .collect::<Vec<_>>(),
            );
            assert!(!filled.contains('{'), "{name}: {filled}");
        }
    }

    #[test]
    fn foreign_reverts_are_named() {
        assert_eq!(describe_revert(&[]).to_string(), "reverted without reason");
        assert_eq!(
            describe_revert(&[1, 2, 3, 4]).to_string(),
            "unknown revert: selector 0x01020304"
        );
        let data = Revert::from("no".to_string()).abi_encode();
        assert_eq!(describe_revert(&data).to_string(), "no");
    }
}
