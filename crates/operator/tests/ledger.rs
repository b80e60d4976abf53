//! Crashes between job, log and signature: never two receipts for one place in a line.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use alloy_primitives::{Address, B256};
use assay_operator::{Job, JobState, Ledger, Masks, OperatorError, WriteAheadLog};
use assay_receipt::{
    Domain, Receipt, ReceiptKey, ReceiptSignature, Request, Salt, input_commit, line_id,
    output_commit,
};

const OPERATOR: Address = Address::repeat_byte(1);
const REQUESTER: Address = Address::repeat_byte(2);

/// Small generator: tests must be repeatable.
struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn job(seq: u64, variant: u64) -> Job {
    let salt = B256::with_last_byte(variant as u8);
    let input = vec![variant as u8; 8];
    let line = line_id(OPERATOR, REQUESTER);
    let request = Request {
        version: 1,
        line_id: line,
        seq,
        model_id: B256::repeat_byte(3),
        semantics: 1,
        input_commit: input_commit(salt, &input),
        sampling_hash: B256::ZERO,
        max_out: 1,
        max_fee: 10,
        value_at_risk: 0,
        tier_mask: 2,
        audit_ppm: 80_000,
        window: 600,
        expiry: 100,
    };
    let receipt = Receipt {
        version: 1,
        tier: 1,
        flags: 2,
        line_id: line,
        seq,
        cum_exposure: u128::from(seq) * 5,
        requester: REQUESTER,
        operator: OPERATOR,
        request_hash: request.struct_hash(),
        model_id: request.model_id,
        semantics: 1,
        input_commit: request.input_commit,
        output_commit: output_commit(salt, &input),
        sampling_hash: B256::ZERO,
        n_in: 1,
        n_out: 1,
        trace_root: B256::repeat_byte(9),
        n_leaves: 4,
        evidence_hash: B256::ZERO,
        fee: 10,
        value_at_risk: 0,
        exposure: 5,
        audit_ppm: 80_000,
        window: 600,
        issued_at: 50 + variant,
        include_by: 100 + variant,
        ext_hash: B256::ZERO,
    };
    Job {
        receipt,
        request,
        request_signature: ReceiptSignature([1; 65]),
        salt: Salt(salt),
        input: input.clone().into(),
        output: input.into(),
        sampling: None,
        grammar: None,
        masks: Masks::default(),
        state: JobState::Signed,
        proof: None,
    }
}

/// Writes the job file that a crash before the log record leaves behind.
fn orphan(folder: &Path, job: &Job) {
    let path = folder
        .join("jobs")
        .join(format!("{}.json", job.receipt.claim_id()));
    std::fs::write(path, serde_json::to_vec(job).unwrap()).unwrap();
}

/// Appends the first bytes of a record, as a crash inside a write leaves them.
fn tear(folder: &Path, rng: &mut Rng) {
    let mut file = OpenOptions::new()
        .append(true)
        .open(folder.join("receipts.log"))
        .unwrap();
    let bytes: Vec<u8> = (0..rng.below(80)).map(|_| rng.below(256) as u8).collect();
    file.write_all(&bytes).unwrap();
}

#[test]
fn no_equivocation_over_a_thousand_crashes() {
    let folder = tempfile::tempdir().unwrap();
    let domain = Domain::new(1, Address::ZERO);
    let key = ReceiptKey::from_bytes([7; 32]).unwrap();
    let mut rng = Rng(42);
    let mut released: HashMap<u64, B256> = HashMap::new();
    let mut seq = 1;
    for crash in 0..1_000 {
        let mut ledger = Ledger::open(folder.path()).unwrap();
        for _ in 0..rng.below(3) {
            // The requester asks again for the place it has no answer for, sometimes with another question.
            let wanted = job(seq, rng.below(4));
            let receipt = match ledger.holder(wanted.receipt.line_id, seq) {
                Some(claim_id) => ledger
                    .job(claim_id)
                    .expect("logged jobs are kept")
                    .receipt
                    .clone(),
                None => {
                    match rng.below(4) {
                        0 => {
                            orphan(folder.path(), &wanted);
                            break;
                        }
                        1 => {
                            orphan(folder.path(), &wanted);
                            tear(folder.path(), &mut rng);
                            break;
                        }
                        _ => {}
                    }
                    ledger.commit(wanted.clone()).unwrap();
                    if rng.below(3) == 0 {
                        break;
                    }
                    wanted.receipt
                }
            };
            let signature = receipt.sign(&domain, &key);
            assert!(receipt.verify(&domain, &signature, key.address()).is_ok());
            let claim_id = receipt.claim_id();
            assert_eq!(
                *released.entry(seq).or_insert(claim_id),
                claim_id,
                "equivocation after crash {crash}"
            );
            if rng.below(2) == 0 {
                seq += 1;
            }
        }
    }
    assert!(released.len() > 150, "{}", released.len());
}

#[test]
fn another_receipt_for_a_taken_place_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(folder.path()).unwrap();
    let first = ledger.commit(job(1, 0)).unwrap();
    assert_eq!(ledger.commit(job(1, 0)).unwrap(), first);
    assert!(matches!(
        ledger.commit(job(1, 1)),
        Err(OperatorError::Equivocation { seq: 1, .. })
    ));
    drop(ledger);
    let mut ledger = Ledger::open(folder.path()).unwrap();
    assert!(matches!(
        ledger.commit(job(1, 1)),
        Err(OperatorError::Equivocation { seq: 1, .. })
    ));
    assert_eq!(ledger.job(first), Some(&job(1, 0)));
}

#[test]
fn damage_inside_the_log_stops_the_operator() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut log = WriteAheadLog::open(&path).unwrap();
    for seq in 1..=3 {
        log.append(B256::ZERO, seq, B256::with_last_byte(seq as u8))
            .unwrap();
    }
    drop(log);
    let good = std::fs::read(&path).unwrap();
    for at in 0..160 {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(
            matches!(
                WriteAheadLog::open(&path),
                Err(OperatorError::DamagedLog { .. })
            ),
            "byte {at}"
        );
    }
    // Damage in the last record looks like a torn write: that receipt was never signed.
    std::fs::write(&path, &good[..good.len() - 1]).unwrap();
    assert_eq!(WriteAheadLog::open(&path).unwrap().entries().count(), 2);
}

#[test]
fn settled_jobs_are_removed_and_their_places_stay_taken() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(folder.path()).unwrap();
    let claims: Vec<B256> = (1..=3)
        .map(|seq| ledger.commit(job(seq, 0)).unwrap())
        .collect();
    for claim_id in &claims {
        ledger
            .set_state(*claim_id, JobState::Final { at: 1_000 })
            .unwrap();
    }
    assert_eq!(ledger.prune(1_000).unwrap(), 0);
    // The last job of a line stays: it carries the exposure sum.
    assert_eq!(ledger.prune(1_001).unwrap(), 2);
    assert!(matches!(
        ledger.commit(job(1, 1)),
        Err(OperatorError::Equivocation { .. })
    ));
    drop(ledger);
    let ledger = Ledger::open(folder.path()).unwrap();
    assert_eq!(ledger.jobs().count(), 1);
}
