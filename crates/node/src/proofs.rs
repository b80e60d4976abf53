//! The proof system as the modules' verifier: adapts [`assay_proof`] to bytes, receipts and gas.

use std::panic::{AssertUnwindSafe, catch_unwind};

use alloy_primitives::{B256, U256, keccak256};
use assay_graph::{
    Data, Structure,
    sampling::Sampling,
    trace::{input_commit, output_commit},
};
use assay_modules::{AnswerCase, KeyInfo, ProofFault, ProofStatement, ProofVerifier};
use assay_proof::{Key, Mode, Proof, Run, Statement, verify};

use crate::arbiter::extent;

/// Gas of each run of a verified proof beyond its bytes. Prices here: 25 gas per microsecond measured (docs/chain.md, "Gas of a proof"), rounded up.
const GAS_PER_RUN: u64 = 25_000;
/// Gas per byte of the key and run: decoding, hashing, planning, values of public polynomials.
const GAS_PER_KEY_BYTE: u64 = 16;
/// Gas per byte of the proof: hashing, folding, and values of the input's and output's polynomials.
const GAS_PER_PROOF_BYTE: u64 = 2;

/// Checks proofs by `assay_proof`. Stateless.
#[derive(Clone, Copy, Debug, Default)]
pub struct GraphProofs;

impl ProofVerifier for GraphProofs {
    fn inspect_key(&self, bytes: &[u8]) -> Result<KeyInfo, String> {
        guard(|| {
            let key = Key::decode(bytes).map_err(|e| e.to_string())?;
            // a decoded key is canonical, so its encoding begins with these fields
            type Head<'a> = (u16, u16, [u8; 32], Vec<[u8; 32]>, &'a [u8]);
            let (head, rest): (Head<'_>, &[u8]) =
                postcard::take_from_bytes(bytes).map_err(|e| e.to_string())?;
            let end = bytes.len().saturating_sub(rest.len());
            Ok(KeyInfo {
                key_id: key.id().into(),
                model_id: key.model_id().into(),
                structure: end.saturating_sub(head.4.len())..end,
            })
        })
    }

    fn statement(&self, proof: &[u8]) -> Result<ProofStatement, String> {
        let (statement, _) = Statement::decode(proof).map_err(|e| e.to_string())?;
        let hash = |part: fn(&Run) -> &Vec<u8>| {
            let hashes: Vec<B256> = statement.runs.iter().map(|r| keccak256(part(r))).collect();
            match hashes.as_slice() {
                [one] => *one,
                all => keccak256(all.concat()),
            }
        };
        Ok(ProofStatement {
            committed: statement.mode == Mode::Committed,
            model_id: statement.model_id.into(),
            key_id: statement.key_id.into(),
            runs: statement.runs.len() as u32,
            input_hash: hash(|r| &r.input),
            output_hash: hash(|r| &r.output),
            sampling_hash: hash(|r| &r.sampling),
            context: statement.context,
        })
    }

    fn verify(&self, key: &[u8], proof: &[u8]) -> Result<u32, String> {
        guard(|| {
            let key = Key::decode(key).map_err(|e| e.to_string())?;
            let proof = Proof::decode(proof).map_err(|e| e.to_string())?;
            let verified = verify(&key, &proof).map_err(|e| e.to_string())?;
            Ok(verified.budget.bits())
        })
    }

    fn answers(&self, case: &AnswerCase<'_>) -> Result<u32, ProofFault> {
        let refused = |e: &dyn ToString| ProofFault::Refused(e.to_string());
        let structure = self
            .inspect_key(case.key)
            .map_err(ProofFault::Refused)?
            .structure;
        let structure = case.key.get(structure).unwrap_or_default();
        let structure = Structure::from_bytes(structure).map_err(|e| refused(&e))?;
        let (statement, _) = Statement::decode(case.proof).map_err(|e| refused(&e))?;
        check_run(&structure, &statement, case)?;
        self.verify(case.key, case.proof)
            .map_err(ProofFault::Refused)
    }

    fn gas(&self, key: &[u8], proof: &[u8]) -> u64 {
        let bytes = |n: usize, price: u64| (n as u64).saturating_mul(price);
        let runs = Statement::decode(proof).map_or(1, |(s, _)| s.runs.len() as u64);
        GAS_PER_RUN
            .saturating_add(bytes(key.len(), GAS_PER_KEY_BYTE))
            .saturating_mul(runs)
            .saturating_add(bytes(proof.len(), GAS_PER_PROOF_BYTE))
    }
}

/// A panic on hostile bytes must be a refusal that is paid for, not a failure of the node.
fn guard<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("the verifier gave up".into()))
}

/// The statement's run is the one that the receipt commits to: size, input, output, sampling, end.
fn check_run(
    structure: &Structure,
    statement: &Statement,
    case: &AnswerCase<'_>,
) -> Result<(), ProofFault> {
    let number = |n: u32| B256::from(U256::from(n));
    let same = |field, have: B256, want: B256| {
        if have == want {
            Ok(())
        } else {
            Err(ProofFault::Mismatch { field, have, want })
        }
    };
    let [run] = statement.runs.as_slice() else {
        let have = number(statement.runs.len() as u32);
        return same("runs", have, number(1));
    };
    let size = extent(structure, case.size).map_err(ProofFault::Refused)?;
    same("positions", number(statement.seq), number(size.seq))?;
    same(
        "answered positions",
        number(statement.out),
        number(size.out),
    )?;
    // what was asked and what a generative model was fed of its own answer
    let asked = if structure.is_generative() {
        4 * size.n_in() as usize
    } else {
        run.input.len()
    };
    let refuse = |reason: &str| ProofFault::Refused(reason.into());
    let (input, fed) = run
        .input
        .split_at_checked(asked)
        .ok_or_else(|| refuse("the input is too short"))?;
    let want = case.input_commit;
    same("input", input_commit(&case.salt.0, input).into(), want)?;
    let want = case.output_commit;
    same(
        "output",
        output_commit(&case.salt.0, &run.output).into(),
        want,
    )?;
    let legal = structure.types.first().is_some_and(|ty| {
        Data::from_bytes(ty.dtype, &run.input)
            .is_ok_and(|d| d.to_i32().iter().all(|v| (ty.lo..=ty.hi).contains(v)))
    });
    if !legal {
        return Err(refuse("the input is outside the model's range"));
    }
    if !structure.is_generative() {
        return if run.sampling.is_empty() {
            Ok(())
        } else {
            Err(refuse(
                "a model that samples nothing has no sampling statement",
            ))
        };
    }
    // the last token is not fed back
    let read = run.output.len().saturating_sub(4);
    if Some(fed) != run.output.get(..read) {
        return Err(refuse(
            "the answer that was read is not the answer that was given",
        ));
    }
    let sampling = Sampling::decode(&run.sampling).map_err(|e| refuse(&e.to_string()))?;
    same("sampling", sampling.hash().into(), case.sampling_hash)?;
    if sampling.is_masked() {
        return Err(refuse("answers constrained to a grammar can't be proven"));
    }
    let (tokens, _) = run.output.as_chunks::<4>();
    let ended = tokens
        .iter()
        .position(|t| sampling.stop.binary_search(&u32::from_le_bytes(*t)).is_ok());
    if tokens.len() as u64 > u64::from(sampling.max_out)
        || ended.is_some_and(|t| t.saturating_add(1) < tokens.len())
    {
        return Err(refuse("the answer goes on after its end"));
    }
    Ok(())
}
