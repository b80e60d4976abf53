//! Model check: all interleavings of an asserter, two challengers, a settler and time over one claim, until no new
//! state is found. Time moves to the next deadline only, so either side may fall silent at every point; what happens
//! one millisecond before a deadline is tested in `disputes`.

mod common;

use std::collections::{BTreeMap, HashSet, VecDeque};

use alloy_primitives::{Address, B256, U256, keccak256};
use assay_abi::{CLAIMS, DISPUTES, IClaims, IDisputes, IStaking, STAKING};
use assay_modules::disputes::{Side, side_of, stage};
use assay_modules::tree::leaf_hash;
use assay_storage::MemoryStorage;
use common::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Challenge(usize),
    Move(u64, u64),
    Timeout(u64),
    Close(u64),
    Finalize,
    OneShot,
    Wait,
}

struct Checker {
    world: World,
    claim: B256,
    leaves: Vec<B256>,
    shape: Shape,
    honest: bool,
    supply: U256,
}

impl Checker {
    fn new(honest: bool) -> Self {
        let shape = Shape::flat(4);
        let mut world = World::ready(shape);
        let mut leaves = honest_leaves(&shape);
        if !honest {
            leaves[2] = leaf_hash(b"wrong");
        }
        let claim = world.answer(&shape, &leaves);
        let supply = world.storage.supply();
        Self {
            world,
            claim,
            leaves,
            shape,
            honest,
            supply,
        }
    }

    fn disputes(&mut self) -> Vec<(u64, IDisputes::Dispute)> {
        let count = self
            .world
            .view(DISPUTES, &IDisputes::countCall {})
            .to::<u64>();
        (1..=count)
            .map(|id| (id, self.world.dispute(U256::from(id))))
            .collect()
    }

    /// Everything that anyone could try; refusals are part of the check.
    fn actions(&mut self) -> Vec<Action> {
        let disputes = self.disputes();
        let mut out = vec![Action::Finalize, Action::OneShot, Action::Wait];
        if disputes.len() < 2 {
            out.push(Action::Challenge(disputes.len()));
        }
        for (id, view) in disputes {
            out.extend([Action::Timeout(id), Action::Close(id)]);
            match side_of(view.stage) {
                Side::Nobody => {}
                _ if view.stage == stage::NAME => {
                    out.extend([1, 2, 3].map(|leaf| Action::Move(id, leaf)))
                }
                _ => out.push(Action::Move(id, 0)),
            }
        }
        out
    }

    fn next_deadline(&mut self) -> Option<u64> {
        let now = self.world.storage.env.timestamp_ms;
        let claim = self.world.claim(self.claim);
        let mut all: Vec<u64> = self
            .disputes()
            .into_iter()
            .map(|(_, view)| view.deadline)
            .collect();
        if claim.state == 1 || claim.state == 2 {
            all.push(claim.deadline);
        }
        all.into_iter().filter(|deadline| *deadline > now).min()
    }

    /// Whether the action was admitted.
    fn apply(&mut self, action: Action) -> bool {
        let anyone = account(15).address;
        let operator = self.world.operator.address;
        match action {
            Action::Challenge(number) => {
                let who = self.world.challengers[number].address;
                self.world.challenge(who, self.claim).is_ok()
            }
            Action::Move(id, leaf) => self.make_move(operator, U256::from(id), leaf),
            Action::Timeout(id) => self
                .world
                .call(
                    anyone,
                    DISPUTES,
                    &IDisputes::timeoutCall { id: U256::from(id) },
                )
                .is_ok(),
            Action::Close(id) => self
                .world
                .call(
                    anyone,
                    DISPUTES,
                    &IDisputes::closeCall { id: U256::from(id) },
                )
                .is_ok(),
            Action::Finalize => self
                .world
                .call(
                    anyone,
                    CLAIMS,
                    &IClaims::finalizeCall {
                        claimId: self.claim,
                    },
                )
                .is_ok(),
            Action::OneShot => {
                let call = IDisputes::proveBlockCall {
                    claimId: self.claim,
                    leaves: self.leaves.clone(),
                    leaf: 2,
                    evidence: b"ok".to_vec().into(),
                };
                let won = self.world.call(anyone, DISPUTES, &call).is_ok();
                assert!(!(won && self.honest), "an honest block was rejected");
                won
            }
            Action::Wait => {
                let now = self.world.storage.env.timestamp_ms;
                let Some(deadline) = self.next_deadline() else {
                    return false;
                };
                self.world.advance(deadline - now);
                true
            }
        }
    }

    fn make_move(&mut self, operator: Address, id: U256, leaf: u64) -> bool {
        let view = self.world.dispute(id);
        let bytes = if view.index == 2 && !self.honest {
            b"wrong".to_vec()
        } else {
            block(view.index)
        };
        match view.stage {
            stage::LEAVES => {
                let call = IDisputes::postLeavesCall {
                    id,
                    leaves: self.leaves.clone(),
                };
                self.world.call(operator, DISPUTES, &call).is_ok()
            }
            stage::NAME => {
                let call = IDisputes::nameCall {
                    id,
                    leaves: self.leaves.clone(),
                    leaf,
                };
                self.world.call(view.challenger, DISPUTES, &call).is_ok()
            }
            stage::OPEN => self
                .world
                .call(
                    operator,
                    DISPUTES,
                    &IDisputes::openCall {
                        id,
                        blockBytes: bytes.into(),
                    },
                )
                .is_ok(),
            _ => {
                let output = view.committedLeaf + 1 == self.shape.leaves;
                let block = if output { Vec::new() } else { bytes };
                let call = IDisputes::proveElementCall {
                    id,
                    blockBytes: block.into(),
                    evidence: b"ok".to_vec().into(),
                };
                self.world.call(view.challenger, DISPUTES, &call).is_ok()
            }
        }
    }

    fn fingerprint(&self) -> B256 {
        let mut bytes = self.world.storage.env.timestamp_ms.to_be_bytes().to_vec();
        for ((address, slot), value) in self.world.storage.slots() {
            bytes.extend(address.as_slice());
            bytes.extend(slot.to_be_bytes::<32>());
            bytes.extend(value.to_be_bytes::<32>());
        }
        keccak256(bytes)
    }

    fn check(&mut self, trail: &[Action]) {
        self.world.check();
        assert_eq!(self.world.storage.supply(), self.supply, "{trail:?}");
        let claim = self.world.claim(self.claim);
        let open = claim.state == 1 || claim.state == 2;
        let operator = self.world.operator.address;
        let stake = self
            .world
            .view(STAKING, &IStaking::operatorCall { account: operator });
        assert_eq!(
            stake.locked,
            U256::from(if open { claim.exposure } else { 0 }),
            "{trail:?}"
        );
        let fees = self.world.view(CLAIMS, &IClaims::escrowTotalCall {}).fees;
        assert_eq!(
            fees,
            U256::from(if open { claim.fee } else { 0 }),
            "{trail:?}"
        );
        let mut running = 0;
        for (_, view) in self.disputes() {
            if side_of(view.stage) != Side::Nobody {
                running += 1;
                assert!(view.deadline > 0, "no stage without a deadline: {trail:?}");
            }
        }
        assert!(!open || claim.openDisputes == running, "{trail:?}");
        assert_eq!(claim.state == 2, open && running > 0, "{trail:?}");
        if self.honest && claim.state == 4 {
            let silent = trail
                .iter()
                .any(|action| matches!(action, Action::Timeout(_)));
            assert!(
                silent,
                "a true claim falls only by its asserter's silence: {trail:?}"
            );
        }
        if claim.state == 3 {
            assert!(
                self.world.storage.env.timestamp_ms >= claim.deadline,
                "nothing is final before its window ends"
            );
        }
    }
}

/// Breadth first over distinct states; returns how often each ending of the claim was found.
fn explore(honest: bool, limit: usize) -> (usize, BTreeMap<u8, usize>) {
    let mut checker = Checker::new(honest);
    let start = checker.world.storage.clone();
    let mut seen = HashSet::from([checker.fingerprint()]);
    let mut queue: VecDeque<(MemoryStorage, Vec<Action>)> = VecDeque::from([(start, Vec::new())]);
    let mut endings = BTreeMap::new();
    while let Some((storage, trail)) = queue.pop_front() {
        checker.world.storage = storage.clone();
        let mut admitted = false;
        for action in checker.actions() {
            checker.world.storage = storage.clone();
            if !checker.apply(action) {
                continue;
            }
            admitted = true;
            checker.world.storage.take_logs();
            let mut trail = trail.clone();
            trail.push(action);
            checker.check(&trail);
            if seen.insert(checker.fingerprint()) {
                assert!(seen.len() < limit, "more than {limit} states");
                queue.push_back((checker.world.storage.clone(), trail));
            }
        }
        checker.world.storage = storage;
        let state = checker.world.claim(checker.claim).state;
        if !admitted {
            assert!(
                (3..=6).contains(&state),
                "stuck in state {state}: {trail:?}"
            );
            *endings.entry(state).or_insert(0) += 1;
        }
    }
    (seen.len(), endings)
}

#[test]
fn every_reachable_state_of_a_false_claim_keeps_the_laws() {
    let (states, endings) = explore(false, 60_000);
    assert!(states > 200, "{states} states");
    assert!(
        endings.contains_key(&3) && endings.contains_key(&4),
        "{endings:?}"
    );
}

#[test]
fn every_reachable_state_of_a_true_claim_keeps_the_laws() {
    let (states, endings) = explore(true, 60_000);
    assert!(states > 200, "{states} states");
    // It ends final, or rejected because its own asserter fell silent.
    assert!(
        endings.contains_key(&3) && endings.contains_key(&4),
        "{endings:?}"
    );
}
