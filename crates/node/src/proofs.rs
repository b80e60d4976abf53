//! The proof system as the modules' verifier: adapts [`assay_proof`] to bytes, receipts and gas.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use alloy_primitives::{B256, U256, keccak256};
use assay_graph::{
    Data, Structure,
    sampling::Sampling,
    trace::{input_commit, output_commit},
};
use assay_modules::{AnswerCase, KeyInfo, ProofFault, ProofStatement, ProofVerifier, StoredKey};
use assay_proof::{Key, Mode, Proof, Run, Statement, verify_within};

use crate::arbiter::extent;

/// Gas of each run of a verified proof beyond its bytes. Prices here: 25 gas per microsecond measured (docs/chain.md, "Gas of a proof"), rounded up.
const GAS_PER_RUN: u64 = 25_000;
/// Gas per byte of the key and run: planning, values of public polynomials and of tables, and decoding where the key is not remembered.
const GAS_PER_KEY_BYTE: u64 = 16;
/// The same for bytes beyond the first [`STRUCTURE`], which are values of tables.
const GAS_PER_TABLE_BYTE: u64 = 6;
/// Bytes of a key that are charged as structure.
const STRUCTURE: usize = 65_536;
/// Gas per byte of the proof: hashing, folding, and values of the input's and output's polynomials.
const GAS_PER_PROOF_BYTE: u64 = 2;
/// Gas of inspecting a key, per byte of its structure and of the rest.
const INSPECT_GAS_PER_STRUCTURE_BYTE: u64 = 100;
const INSPECT_GAS_PER_BYTE: u64 = 2;
/// Most keys, and bytes of their encodings, that are remembered decoded.
const KEPT_KEYS: usize = 64;
const KEPT_BYTES: usize = 16 << 20;

/// Checks proofs by `assay_proof`. Remembers the keys it used last, which changes nothing but time.
#[derive(Debug, Default)]
pub struct GraphProofs {
    /// The one that was used last at the end.
    kept: Mutex<Vec<Kept>>,
}

#[derive(Debug)]
struct Kept {
    key_id: B256,
    bytes: usize,
    key: Arc<Key>,
}

impl GraphProofs {
    /// The decoded key: remembered by its id, which its bytes hash to.
    fn key(&self, stored: StoredKey<'_>) -> Result<Arc<Key>, String> {
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut kept = lock();
            if let Some(at) = kept.iter().position(|k| k.key_id == stored.key_id) {
                let entry = kept.remove(at);
                let key = Arc::clone(&entry.key);
                kept.push(entry);
                return Ok(key);
            }
        }
        let key = guard(|| Key::decode(stored.bytes).map_err(|e| e.to_string()))?;
        let key = Arc::new(key);
        let bytes = stored.bytes.len();
        let mut kept = lock();
        while !kept.is_empty()
            && (kept.len() >= KEPT_KEYS
                || kept.iter().map(|k| k.bytes).sum::<usize>() + bytes > KEPT_BYTES)
        {
            kept.remove(0);
        }
        kept.push(Kept {
            key_id: stored.key_id,
            bytes,
            key: Arc::clone(&key),
        });
        Ok(key)
    }

    /// Checks a proof; a plan whose rows and vectors are more than the gas pays for (40 ns each) is refused before it is made.
    fn check(&self, key: &Key, proof: &[u8], gas: u64) -> Result<u32, String> {
        guard(|| {
            let proof = Proof::decode(proof).map_err(|e| e.to_string())?;
            let verified = verify_within(key, &proof, gas).map_err(|e| e.to_string())?;
            Ok(verified.budget.bits())
        })
    }
}

impl ProofVerifier for GraphProofs {
    fn inspect_key(&self, bytes: &[u8]) -> Result<KeyInfo, String> {
        guard(|| {
            let key = Key::decode(bytes).map_err(|e| e.to_string())?;
            Ok(KeyInfo {
                key_id: key.id().into(),
                model_id: key.model_id().into(),
                structure: key.structure().to_bytes(),
            })
        })
    }

    fn inspect_gas(&self, key: usize, structure: usize) -> u64 {
        let gas = |bytes: usize, price: u64| (bytes as u64).saturating_mul(price);
        gas(key, INSPECT_GAS_PER_BYTE)
            .saturating_add(gas(structure.min(key), INSPECT_GAS_PER_STRUCTURE_BYTE))
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

    fn verify(&self, key: StoredKey<'_>, proof: &[u8]) -> Result<u32, String> {
        let gas = self.gas(key, proof);
        self.check(&*self.key(key)?, proof, gas)
    }

    fn answers(&self, case: &AnswerCase<'_>) -> Result<u32, ProofFault> {
        let key = self.key(case.key).map_err(ProofFault::Refused)?;
        let (statement, _) =
            Statement::decode(case.proof).map_err(|e| ProofFault::Refused(e.to_string()))?;
        check_run(key.structure(), &statement, case)?;
        let gas = self.gas(case.key, case.proof);
        self.check(&key, case.proof, gas)
            .map_err(ProofFault::Refused)
    }

    fn gas(&self, key: StoredKey<'_>, proof: &[u8]) -> u64 {
        let bytes = |n: usize, price: u64| (n as u64).saturating_mul(price);
        let runs = Statement::decode(proof).map_or(1, |(s, _)| s.runs.len() as u64);
        let structure = key.bytes.len().min(STRUCTURE);
        GAS_PER_RUN
            .saturating_add(bytes(structure, GAS_PER_KEY_BYTE))
            .saturating_mul(runs)
            .saturating_add(bytes(
                key.bytes.len().saturating_sub(structure),
                GAS_PER_TABLE_BYTE,
            ))
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
