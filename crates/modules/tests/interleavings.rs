//! Random interleavings of an asserter, two challengers, a settler and time: no double payment, stake conserved, every
//! open thing has a deadline.

mod common;

use alloy_primitives::{B256, U256};
use assay_abi::{BURN, CLAIMS, DISPUTES, IBurn, IClaims, IDisputes, IUsd, USD};
use assay_modules::disputes::{Side, side_of, stage};
use assay_modules::tree::{leaf_hash, root_of};
use common::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Answer {
        honest: bool,
    },
    Challenge {
        claim: usize,
        challenger: usize,
    },
    Move {
        dispute: usize,
        aim: u64,
        junk: bool,
    },
    Timeout {
        dispute: usize,
    },
    Close {
        dispute: usize,
    },
    Finalize {
        claim: usize,
    },
    OneShot {
        claim: usize,
        leaf: u64,
    },
    Equivocate {
        claim: usize,
    },
    Wait {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => any::<bool>().prop_map(|honest| Step::Answer { honest }),
        3 => (0usize..4, 0usize..2).prop_map(|(claim, challenger)| Step::Challenge { claim, challenger }),
        10 => (0usize..6, 0u64..6, prop::bool::weighted(0.1)).prop_map(|(dispute, aim, junk)| Step::Move { dispute, aim, junk }),
        2 => (0usize..6).prop_map(|dispute| Step::Timeout { dispute }),
        1 => (0usize..6).prop_map(|dispute| Step::Close { dispute }),
        3 => (0usize..4).prop_map(|claim| Step::Finalize { claim }),
        1 => (0usize..4, 0u64..6).prop_map(|(claim, leaf)| Step::OneShot { claim, leaf }),
        1 => (0usize..4).prop_map(|claim| Step::Equivocate { claim }),
        4 => prop_oneof![1u64..1_000, Just(60_000), Just(120_000), Just(600_000)].prop_map(|ms| Step::Wait { ms }),
    ]
}

struct Game {
    w: World,
    shape: Shape,
    claims: Vec<(B256, bool, Vec<B256>, assay_abi::Receipt)>,
    disputes: Vec<(U256, usize)>,
    supply: U256,
    usd: U256,
}

impl Game {
    fn new(segmented: bool) -> Self {
        let shape = if segmented {
            Shape::segmented(6, 4)
        } else {
            Shape::flat(6)
        };
        let mut w = World::ready(shape);
        let supply = w.storage.supply();
        let usd = w.view(USD, &IUsd::totalSupplyCall {});
        Self {
            w,
            shape,
            claims: Vec::new(),
            disputes: Vec::new(),
            supply,
            usd,
        }
    }

    fn answer(&mut self, honest: bool) {
        let mut leaves = honest_leaves(&self.shape);
        if !honest {
            leaves[2] = leaf_hash(b"wrong");
        }
        let (receipt, request) = self.w.draft(&self.shape, &leaves);
        if let Ok(id) = self.w.assert(&receipt, &request) {
            self.claims.push((id, honest, leaves, receipt));
        }
    }

    /// Whoever is to move does: honestly towards `aim`, or with junk. Refusals change nothing.
    fn make_move(&mut self, at: usize, aim: u64, junk: bool) {
        let Some((id, claim)) = self.disputes.get(at).copied() else {
            return;
        };
        let (_, _, leaves, _) = &self.claims[claim];
        let view = self.w.dispute(id);
        let list = if view.inSegment {
            self.segment(&view, leaves).1
        } else {
            leaves.clone()
        };
        let blocks = if view.inSegment {
            self.segment(&view, leaves).0
        } else {
            Vec::new()
        };
        let own = |index: u64| match leaves[index as usize] == leaf_hash(b"wrong") {
            true => b"wrong".to_vec(),
            false => block(index),
        };
        let operator = self.w.operator.address;
        let aim = aim.min(list.len() as u64 - 1);
        let bytes = if view.inSegment {
            blocks.get(view.index as usize).cloned().unwrap_or_default()
        } else {
            own(view.index)
        };
        let list = if junk {
            vec![B256::ZERO; list.len()]
        } else {
            list
        };
        let _ = match view.stage {
            stage::LEAVES => self
                .w
                .call(
                    operator,
                    DISPUTES,
                    &IDisputes::postLeavesCall { id, leaves: list },
                )
                .map(drop),
            stage::NAME => self
                .w
                .call(
                    view.challenger,
                    DISPUTES,
                    &IDisputes::nameCall {
                        id,
                        leaves: list,
                        leaf: aim,
                    },
                )
                .map(drop),
            stage::SEGMENT => {
                let (_, inner) = self.segment(&view, &self.claims[claim].2);
                let call = IDisputes::segmentCall {
                    id,
                    root: root_of(&inner),
                    path: path(&inner, inner.len() - 1),
                };
                self.w.call(operator, DISPUTES, &call).map(drop)
            }
            stage::OPEN => {
                let bytes = if junk { b"junk".to_vec() } else { bytes };
                self.w
                    .call(
                        operator,
                        DISPUTES,
                        &IDisputes::openCall {
                            id,
                            blockBytes: bytes.into(),
                        },
                    )
                    .map(drop)
            }
            stage::PROVE => {
                let output = !view.inSegment && view.committedLeaf + 1 == self.shape.leaves;
                let bytes = if output { Vec::new() } else { bytes };
                let evidence = if junk { b"no".to_vec() } else { b"ok".to_vec() };
                let call = IDisputes::proveElementCall {
                    id,
                    blockBytes: bytes.into(),
                    evidence: evidence.into(),
                };
                self.w.call(view.challenger, DISPUTES, &call).map(drop)
            }
            _ => Ok(()),
        };
    }

    fn segment(&self, view: &IDisputes::Dispute, leaves: &[B256]) -> (Vec<Vec<u8>>, Vec<B256>) {
        let leaf = view.committedLeaf;
        let last = if leaves[leaf as usize] == leaf_hash(b"wrong") {
            b"wrong".to_vec()
        } else {
            block(leaf)
        };
        let blocks = segment_blocks(&self.shape, leaf, last);
        let hashes = blocks.iter().map(|block| leaf_hash(block)).collect();
        (blocks, hashes)
    }

    fn equivocate(&mut self, at: usize) {
        let Some((_, _, _, receipt)) = self.claims.get(at) else {
            return;
        };
        let mut other = *receipt;
        other.ext_hash = B256::repeat_byte(1);
        let domain = assay_abi::receipt_domain(CHAIN, CLAIMS);
        let call = IClaims::equivocationCall {
            first: receipt.to_words(),
            firstSignature: sign(&self.w.key, receipt.signing_hash(&domain)),
            second: other.to_words(),
            secondSignature: sign(&self.w.key, other.signing_hash(&domain)),
        };
        let _ = self.w.call(account(15).address, CLAIMS, &call);
    }

    fn apply(&mut self, step: Step) {
        let anyone = account(15).address;
        match step {
            Step::Answer { honest } => self.answer(honest),
            Step::Challenge { claim, challenger } => {
                if let Some((id, ..)) = self.claims.get(claim) {
                    let who = self.w.challengers[challenger].address;
                    if let Ok(dispute) = self.w.challenge(who, *id) {
                        self.disputes.push((dispute, claim));
                    }
                }
            }
            Step::Move { dispute, aim, junk } => self.make_move(dispute, aim, junk),
            Step::Timeout { dispute } => {
                if let Some((id, _)) = self.disputes.get(dispute) {
                    let _ = self
                        .w
                        .call(anyone, DISPUTES, &IDisputes::timeoutCall { id: *id });
                }
            }
            Step::Close { dispute } => {
                if let Some((id, _)) = self.disputes.get(dispute) {
                    let _ = self
                        .w
                        .call(anyone, DISPUTES, &IDisputes::closeCall { id: *id });
                }
            }
            Step::Finalize { claim } => {
                if let Some((id, ..)) = self.claims.get(claim) {
                    let _ = self
                        .w
                        .call(anyone, CLAIMS, &IClaims::finalizeCall { claimId: *id });
                }
            }
            Step::OneShot { claim, leaf } => {
                if let Some((id, _, leaves, _)) = self.claims.get(claim) {
                    let call = IDisputes::proveBlockCall {
                        claimId: *id,
                        leaves: leaves.clone(),
                        leaf,
                        evidence: b"ok".to_vec().into(),
                    };
                    let _ = self.w.call(anyone, DISPUTES, &call);
                }
            }
            Step::Equivocate { claim } => self.equivocate(claim),
            Step::Wait { ms } => self.w.advance(ms),
        }
    }

    fn check(&mut self, before: &[u8]) {
        self.w.check();
        assert_eq!(
            self.w.storage.supply(),
            self.supply,
            "native coin is conserved"
        );
        assert_eq!(self.w.view(USD, &IUsd::totalSupplyCall {}), self.usd);
        let totals = self.w.view(CLAIMS, &IClaims::escrowTotalCall {});
        let mut fees = U256::ZERO;
        let mut locked = 0u128;
        let mut outstanding = 0u128;
        let operator = self.w.operator.address;
        let call = assay_abi::IStaking::operatorCall { account: operator };
        let stake = self.w.view(assay_abi::STAKING, &call);
        for (at, (id, ..)) in self.claims.clone().iter().enumerate() {
            let view = self.w.claim(*id);
            let open = view.state == 1 || view.state == 2;
            if open {
                fees += U256::from(view.fee);
                outstanding += view.exposure;
                assert!(view.deadline > 0);
                if view.generation == stake.generation {
                    locked += view.exposure;
                }
            }
            if let Some(had @ 3..=6) = before.get(at) {
                assert_eq!(view.state, *had, "an ended claim stays as it is");
            }
            let live = self
                .disputes
                .iter()
                .filter(|(_, claim)| *claim == at)
                .map(|(dispute, _)| *dispute)
                .collect::<Vec<_>>();
            let mut count = 0;
            for dispute in live {
                let view = self.w.dispute(dispute);
                if side_of(view.stage) != Side::Nobody {
                    count += 1;
                    assert!(view.deadline > 0 && view.bond > U256::ZERO);
                }
            }
            assert!(
                !open || view.openDisputes == count,
                "{} counted, {count} open",
                view.openDisputes
            );
            assert_eq!(view.state == 2, open && count > 0);
        }
        let line_id = assay_modules::claims::line_id(operator, self.w.buyer.address);
        let line = self.w.view(CLAIMS, &IClaims::lineCall { lineId: line_id });
        assert_eq!(
            line.outstanding, outstanding,
            "exposure of the line is that of its open claims"
        );
        assert_eq!(line.assertedSeq, self.claims.len() as u64);
        assert_eq!(totals.fees, fees, "fees in escrow are those of open claims");
        assert_eq!(
            stake.locked,
            U256::from(locked),
            "locked stake is that of open claims"
        );
    }

    fn states(&mut self) -> Vec<u8> {
        let ids: Vec<B256> = self.claims.iter().map(|(id, ..)| *id).collect();
        ids.into_iter().map(|id| self.w.claim(id).state).collect()
    }

    /// Lets every clock and window run out; then nothing is open and nothing is held.
    fn drain(&mut self) {
        let anyone = account(15).address;
        for _ in 0..3 {
            self.w.advance(700_000);
            for (id, _) in self.disputes.clone() {
                let _ = self
                    .w
                    .call(anyone, DISPUTES, &IDisputes::timeoutCall { id });
            }
            for (id, ..) in self.claims.clone() {
                let _ = self
                    .w
                    .call(anyone, CLAIMS, &IClaims::finalizeCall { claimId: id });
            }
        }
        self.w.advance(1);
        assert!(
            self.states().iter().all(|state| (3..=6).contains(state)),
            "{:?}",
            self.states()
        );
        assert_eq!(
            self.w.view(DISPUTES, &IDisputes::escrowTotalCall {}),
            U256::ZERO
        );
        assert_eq!(
            self.w.view(CLAIMS, &IClaims::escrowTotalCall {}).fees,
            U256::ZERO
        );
        let bonds_and_slashes = self.w.view(BURN, &IBurn::burnedCall {});
        assert!(bonds_and_slashes <= self.supply);
    }
}

/// Random games; afterwards every ending must have been seen, or the laws were checked on too little.
#[test]
fn money_and_stake_survive_every_interleaving() {
    let config = ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let claims = std::cell::RefCell::new([0u32; 7]);
    let disputes = std::cell::RefCell::new([0u32; 12]);
    let strategy = (any::<bool>(), prop::collection::vec(step(), 1..80));
    let result = runner.run(&strategy, |(segmented, steps)| {
        let mut game = Game::new(segmented);
        for step in steps {
            let before = game.states();
            game.apply(step);
            game.check(&before);
        }
        game.drain();
        for state in game.states() {
            claims.borrow_mut()[usize::from(state)] += 1;
        }
        for (id, _) in game.disputes.clone() {
            disputes.borrow_mut()[usize::from(game.w.dispute(id).stage)] += 1;
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    let (claims, disputes) = (claims.into_inner(), disputes.into_inner());
    for ended in [3, 4, 6] {
        assert!(claims[ended] > 0, "no claim ended in {ended}: {claims:?}");
    }
    for ended in [9, 10, 11] {
        assert!(
            disputes[ended] > 0,
            "no dispute ended in {ended}: {disputes:?}"
        );
    }
}
