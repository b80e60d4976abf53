//! Disputes: an honest challenger beats every wrong leaf, an honest asserter beats every challenger, silence loses.

mod common;

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolCall;
use assay_abi::{BURN, DISPUTES, IBurn, IDisputes, IErrors, IStaking, STAKING};
use assay_modules::disputes::{Side, side_of, stage};
use assay_modules::tree::{leaf_hash, padding, root_of};
use common::*;

/// What an asserter committed to: blocks of the committed tree and of the segments that it would post.
struct Trace {
    shape: Shape,
    blocks: Vec<Vec<u8>>,
    leaves: Vec<B256>,
    /// Block of a segment that is wrong, if the wrong committed leaf comes from inside its segment.
    wrong_in_segment: Option<(u64, u64)>,
}

impl Trace {
    fn honest(shape: Shape) -> Self {
        let blocks = (0..shape.leaves).map(block).collect();
        Self {
            shape,
            blocks,
            leaves: honest_leaves(&shape),
            wrong_in_segment: None,
        }
    }

    fn wrong_at(shape: Shape, leaf: u64) -> Self {
        let mut trace = Self::honest(shape);
        trace.blocks[leaf as usize] = b"wrong".to_vec();
        trace.leaves[leaf as usize] = leaf_hash(b"wrong");
        trace
    }

    fn segment(&self, leaf: u64) -> (Vec<Vec<u8>>, Vec<B256>) {
        let mut blocks = segment_blocks(&self.shape, leaf, self.blocks[leaf as usize].clone());
        if let Some((at, inner)) = self.wrong_in_segment.filter(|(at, _)| *at == leaf) {
            assert!(at == leaf && inner + 1 < self.shape.segment_leaves);
            blocks[inner as usize] = b"wrong inside".to_vec();
        }
        let leaves = blocks.iter().map(|block| leaf_hash(block)).collect();
        (blocks, leaves)
    }
}

/// Blocks and leaves of the tree that the dispute is in.
fn tree_of(trace: &Trace, dispute: &IDisputes::Dispute) -> (Vec<Vec<u8>>, Vec<B256>) {
    if dispute.inSegment {
        trace.segment(dispute.committedLeaf)
    } else {
        (trace.blocks.clone(), trace.leaves.clone())
    }
}

fn children_of(leaves: &[B256], dispute: &IDisputes::Dispute) -> Vec<B256> {
    let step = dispute.height.min(4);
    let level = &levels(leaves)[usize::from(dispute.height - step)];
    let first = (dispute.index << step) as usize;
    level[first..first + (1 << step)].to_vec()
}

/// The asserter's answer at its turn.
fn asserter_move(w: &mut World, trace: &Trace, id: U256) -> Result<(), Bytes> {
    let operator = w.operator.address;
    let dispute = w.dispute(id);
    let (blocks, leaves) = tree_of(trace, &dispute);
    let input = match dispute.stage {
        stage::TRACE => IDisputes::traceCall {
            id,
            root: root_of(&trace.leaves),
        }
        .abi_encode(),
        stage::LEAVES => IDisputes::postLeavesCall { id, leaves }.abi_encode(),
        stage::REVEAL => IDisputes::revealCall {
            id,
            children: children_of(&leaves, &dispute),
        }
        .abi_encode(),
        stage::SEGMENT => {
            let (_, leaves) = trace.segment(dispute.committedLeaf);
            let path = path(&leaves, segment_index(&trace.shape) as usize);
            IDisputes::segmentCall {
                id,
                root: root_of(&leaves),
                path,
            }
            .abi_encode()
        }
        stage::OPEN => IDisputes::openCall {
            id,
            blockBytes: blocks[dispute.index as usize].clone().into(),
        }
        .abi_encode(),
        other => panic!("not the asserter's turn: {other}"),
    };
    send(w, operator, &input)
}

/// The challenger's answer at its turn, aiming at the first leaf that differs from `own` (or at `aim` if given).
fn challenger_move(
    w: &mut World,
    trace: &Trace,
    own: &Trace,
    aim: Option<u64>,
    id: U256,
) -> Result<(), Bytes> {
    let dispute = w.dispute(id);
    let (blocks, leaves) = tree_of(trace, &dispute);
    let (_, honest) = tree_of(own, &dispute);
    let first = leaves
        .iter()
        .zip(&honest)
        .position(|(a, b)| a != b)
        .map(|at| at as u64);
    let target = aim.or(first).unwrap_or(leaves.len() as u64 - 1);
    let input = match dispute.stage {
        stage::NAME => IDisputes::nameCall {
            id,
            leaves,
            leaf: target,
        }
        .abi_encode(),
        stage::PICK => {
            let step = dispute.height.min(4);
            let j = (target >> (dispute.height - step)) & ((1 << step) - 1);
            IDisputes::pickCall {
                id,
                children: children_of(&leaves, &dispute),
                j: j as u8,
            }
            .abi_encode()
        }
        stage::PROVE => {
            let output = !dispute.inSegment && dispute.committedLeaf + 1 == trace.shape.leaves;
            let block = if output {
                Vec::new()
            } else {
                blocks[dispute.index as usize].clone()
            };
            IDisputes::proveElementCall {
                id,
                blockBytes: block.into(),
                evidence: b"ok".to_vec().into(),
            }
            .abi_encode()
        }
        other => panic!("not the challenger's turn: {other}"),
    };
    send(w, dispute.challenger, &input)
}

fn send(w: &mut World, caller: Address, input: &[u8]) -> Result<(), Bytes> {
    match w.raw(caller, DISPUTES, 0, input) {
        assay_modules::Outcome::Return(_) => Ok(()),
        assay_modules::Outcome::Revert(data) => Err(data),
        other => panic!("{other:?}"),
    }
}

fn step(w: &mut World, trace: &Trace, own: &Trace, aim: Option<u64>, id: U256) -> Side {
    let side = side_of(w.dispute(id).stage);
    match side {
        Side::Asserter => asserter_move(w, trace, id).expect("asserter moves"),
        Side::Challenger => challenger_move(w, trace, own, aim, id).expect("challenger moves"),
        Side::Nobody => {}
    }
    side
}

/// Plays a dispute to its end; returns the closing stage and the number of moves.
fn play(w: &mut World, trace: &Trace, aim: Option<u64>, id: U256) -> (u8, usize) {
    let own = Trace::honest(trace.shape);
    let mut moves = 0;
    while step(w, trace, &own, aim, id) != Side::Nobody {
        moves += 1;
        assert!(moves < 40, "a dispute ends");
    }
    w.check();
    (w.dispute(id).stage, moves)
}

fn open(shape: Shape, trace: &Trace) -> (World, B256, U256) {
    let mut w = World::ready(shape);
    let claim = w.answer(&shape, &trace.leaves);
    let challenger = w.challengers[0].address;
    let id = w.challenge(challenger, claim).expect("challenge");
    (w, claim, id)
}

const SHAPES: [Shape; 5] = [
    Shape {
        max_seq: 8,
        leaves: 6,
        segment_nodes: 1,
        segment_leaves: 1,
        tag: 1,
    },
    Shape {
        max_seq: 8,
        leaves: 6,
        segment_nodes: 3,
        segment_leaves: 5,
        tag: 2,
    },
    Shape {
        max_seq: 8,
        leaves: 1_500,
        segment_nodes: 1,
        segment_leaves: 1,
        tag: 3,
    },
    Shape {
        max_seq: 8,
        leaves: 1_300,
        segment_nodes: 3,
        segment_leaves: 1_100,
        tag: 4,
    },
    Shape {
        max_seq: 8,
        leaves: 6,
        segment_nodes: 3,
        segment_leaves: 5,
        tag: 5,
    },
];

#[test]
fn every_wrong_leaf_loses_and_the_slash_is_split() {
    for shape in SHAPES {
        for leaf in [1, 2, shape.leaves / 2, shape.leaves - 2] {
            let trace = Trace::wrong_at(shape, leaf);
            let (mut w, claim, id) = open(shape, &trace);
            let supply = w.storage.supply();
            let challenger = w.challengers[0].address;
            let (bond, exposure) = (w.bond(claim), w.claim(claim).exposure);
            let had = w.native(challenger);
            let buyer_had = w.native(w.buyer.address);
            let (end, _) = play(&mut w, &trace, None, id);
            assert_eq!(
                end,
                stage::CHALLENGER_WON,
                "leaf {leaf} of {}",
                shape.leaves
            );
            let view = w.claim(claim);
            assert_eq!((view.state, view.openDisputes), (4, 0));
            assert_eq!(w.escrow(w.buyer.address), 1_000_000_000, "fee refunded");
            assert_eq!(w.native(challenger) - had, bond + exposure * 3 / 10);
            // 20 %, at most the declared value: 5 usd at 1 usd per ASSAY.
            let to_buyer = (exposure / 5).min(5 * ASSAY);
            assert_eq!(w.native(w.buyer.address) - buyer_had, to_buyer);
            let burnt = w.view(BURN, &IBurn::burnedCall {}).to::<u128>();
            assert_eq!(burnt, exposure - exposure * 3 / 10 - to_buyer);
            assert!(burnt * 2 >= exposure);
            assert_eq!(w.storage.supply(), supply);
        }
    }
}

#[test]
fn a_wrong_block_inside_a_segment_is_reached() {
    for shape in [SHAPES[1], SHAPES[3], SHAPES[4]] {
        for inner in [0, shape.segment_leaves / 2, segment_index(&shape) - 1] {
            let mut trace = Trace::wrong_at(shape, 3);
            trace.wrong_in_segment = Some((3, inner));
            let (mut w, claim, id) = open(shape, &trace);
            let (end, _) = play(&mut w, &trace, None, id);
            assert_eq!(end, stage::CHALLENGER_WON);
            assert_eq!(w.dispute(id).index, inner);
            assert_eq!(w.claim(claim).state, 4);
        }
    }
}

#[test]
fn an_honest_asserter_beats_every_aim_and_nothing_becomes_final_by_it() {
    for shape in SHAPES {
        for aim in [0, 1, shape.leaves / 2, shape.leaves - 2, shape.leaves - 1] {
            let trace = Trace::honest(shape);
            let (mut w, claim, id) = open(shape, &trace);
            let (operator, supply) = (w.operator.address, w.storage.supply());
            let (bond, had) = (w.bond(claim), w.native(operator));
            let target = Some(aim.min(shape.segment_leaves.max(aim) - 1).min(aim));
            let (end, _) = play_aimed(&mut w, &trace, target, id);
            assert_eq!(end, stage::ASSERTER_WON, "aim {aim} of {}", shape.leaves);
            assert_eq!(w.native(operator) - had, bond / 2);
            assert_eq!(
                w.view(BURN, &IBurn::burnedCall {}).to::<u128>(),
                bond - bond / 2
            );
            assert_eq!(w.storage.supply(), supply);
            assert_eq!(w.claim(claim).state, 1, "still asserted, not final");
        }
    }
}

/// As `play`, with the aim kept inside whichever tree the dispute is in.
fn play_aimed(w: &mut World, trace: &Trace, aim: Option<u64>, id: U256) -> (u8, usize) {
    let own = Trace::honest(trace.shape);
    let mut moves = 0;
    loop {
        let dispute = w.dispute(id);
        let inside = if dispute.inSegment { Some(0) } else { aim };
        if step(w, trace, &own, inside, id) == Side::Nobody {
            return (w.dispute(id).stage, moves);
        }
        moves += 1;
    }
}

#[test]
fn the_number_of_moves_is_that_of_the_table() {
    // Flat, one node per segment: postLeaves, name, open, proveElement.
    let (mut w, _, id) = open(SHAPES[0], &Trace::wrong_at(SHAPES[0], 2));
    assert_eq!(play(&mut w, &Trace::wrong_at(SHAPES[0], 2), None, id).1, 4);
    // Flat with segment: postLeaves, name, segment, postLeaves, name, open, proveElement.
    let (mut w, _, id) = open(SHAPES[1], &Trace::wrong_at(SHAPES[1], 2));
    assert_eq!(play(&mut w, &Trace::wrong_at(SHAPES[1], 2), None, id).1, 7);
    // 1,500 leaves: 11 levels, 3 rounds of reveal and pick, then open, proveElement.
    let (mut w, _, id) = open(SHAPES[2], &Trace::wrong_at(SHAPES[2], 2));
    assert_eq!(play(&mut w, &Trace::wrong_at(SHAPES[2], 2), None, id).1, 8);
    let (mut w, _, id) = open(SHAPES[3], &Trace::wrong_at(SHAPES[3], 2));
    assert_eq!(play(&mut w, &Trace::wrong_at(SHAPES[3], 2), None, id).1, 15);
}

#[test]
fn commitments_at_both_ends_decide_without_computation() {
    // Large tree: the asserter committed to a trace whose ends are not the receipt's commitments.
    let shape = SHAPES[2];
    for end in [0, shape.leaves - 1] {
        let trace = Trace::wrong_at(shape, end);
        let mut w = World::ready(shape);
        let (mut receipt, request) = w.draft(&shape, &trace.leaves);
        receipt.input_commit = input_commit();
        receipt.output_commit = output_commit();
        let claim = w.assert(&receipt, &request).expect("a root hides its ends");
        let challenger = w.challengers[0].address;
        let id = w.challenge(challenger, claim).unwrap();
        assert_eq!(play(&mut w, &trace, None, id).0, stage::CHALLENGER_WON);
    }
    // Small tree: such a list is never accepted, so the asserter's clock runs out.
    let shape = SHAPES[0];
    let trace = Trace::wrong_at(shape, 5);
    let mut w = World::ready(shape);
    let (mut receipt, request) = w.draft(&shape, &trace.leaves);
    receipt.output_commit = output_commit();
    let claim = w.assert(&receipt, &request).unwrap();
    let challenger = w.challengers[0].address;
    let id = w.challenge(challenger, claim).unwrap();
    assert_error::<IDisputes::OutputLeafMismatch, _>(asserter_move(&mut w, &trace, id));
    w.advance(120_000);
    w.call(challenger, DISPUTES, &IDisputes::timeoutCall { id })
        .unwrap();
    assert_eq!(w.claim(claim).state, 4);
}

#[test]
fn padding_must_be_padding() {
    let shape = SHAPES[2];
    for (filler, end) in [
        (padding(), stage::ASSERTER_WON),
        (B256::repeat_byte(3), stage::CHALLENGER_WON),
    ] {
        let mut trace = Trace::honest(shape);
        let mut all = trace.leaves.clone();
        all.resize(2_048, filler);
        let top = levels(&all).last().unwrap()[0];
        let root = assay_modules::tree::root_hash(shape.leaves, &top);
        let mut w = World::ready(shape);
        let (mut receipt, request) = w.draft(&shape, &trace.leaves);
        receipt.trace_root = root;
        let claim = w.assert(&receipt, &request).unwrap();
        let challenger = w.challengers[0].address;
        let id = w.challenge(challenger, claim).unwrap();
        trace.leaves = all;
        assert_eq!(play_aimed(&mut w, &trace, Some(2_000), id).0, end);
    }
}

#[test]
fn wrong_children_picks_paths_and_blocks_change_nothing() {
    let shape = SHAPES[3];
    let trace = Trace::wrong_at(shape, 700);
    let (mut w, _, id) = open(shape, &trace);
    let (operator, challenger) = (w.operator.address, w.challengers[0].address);
    let own = Trace::honest(shape);
    let children = children_of(&trace.leaves, &w.dispute(id));
    let reveal = |children: Vec<B256>| IDisputes::revealCall { id, children };
    assert_error::<IDisputes::NotYourTurn, _>(w.call(
        challenger,
        DISPUTES,
        &reveal(children.clone()),
    ));
    assert_error::<IDisputes::ChildCount, _>(w.call(
        operator,
        DISPUTES,
        &reveal(children[1..].to_vec()),
    ));
    let mut swapped = children.clone();
    swapped.swap(0, 1);
    assert_error::<IDisputes::ChildrenMismatch, _>(w.call(
        operator,
        DISPUTES,
        &reveal(swapped.clone()),
    ));
    assert_error::<IDisputes::WrongStage, _>(w.call(
        operator,
        DISPUTES,
        &IDisputes::postLeavesCall { id, leaves: vec![] },
    ));
    w.call(operator, DISPUTES, &reveal(children.clone()))
        .unwrap();
    let pick = |children: &Vec<B256>, j| IDisputes::pickCall {
        id,
        children: children.clone(),
        j,
    };
    assert_error::<IDisputes::ChildrenMismatch, _>(w.call(
        challenger,
        DISPUTES,
        &pick(&swapped, 0),
    ));
    assert_error::<IDisputes::ChildOutOfRange, _>(w.call(
        challenger,
        DISPUTES,
        &pick(&children, 16),
    ));
    assert_error::<IDisputes::NotYourTurn, _>(w.call(operator, DISPUTES, &pick(&children, 0)));
    while w.dispute(id).stage != stage::SEGMENT {
        step(&mut w, &trace, &own, None, id);
    }
    let (_, leaves) = trace.segment(700);
    let path = path(&leaves, leaves.len() - 1);
    let segment = |root, path: &[B256]| IDisputes::segmentCall {
        id,
        root,
        path: path.to_vec(),
    };
    let root = root_of(&leaves);
    assert_error::<IDisputes::PathLength, _>(w.call(
        operator,
        DISPUTES,
        &segment(root, &path[1..]),
    ));
    assert_error::<IDisputes::SegmentMismatch, _>(w.call(
        operator,
        DISPUTES,
        &segment(B256::ZERO, &path),
    ));
    // A segment tree that ends in the honest leaf is not the asserter's.
    let (_, honest) = own.segment(700);
    let bad = segment(root_of(&honest), &common::path(&honest, honest.len() - 1));
    assert_error::<IDisputes::SegmentMismatch, _>(w.call(operator, DISPUTES, &bad));
    while w.dispute(id).stage != stage::OPEN {
        step(&mut w, &trace, &own, None, id);
    }
    let bad = IDisputes::openCall {
        id,
        blockBytes: b"other".to_vec().into(),
    };
    assert_error::<IDisputes::BlockMismatch, _>(w.call(operator, DISPUTES, &bad));
    let long = IDisputes::openCall {
        id,
        blockBytes: vec![0; 65_537].into(),
    };
    assert_error::<IDisputes::TooLong, _>(w.call(operator, DISPUTES, &long));
    asserter_move(&mut w, &trace, id).unwrap();
    let prove = |block: &[u8], evidence: &[u8]| IDisputes::proveElementCall {
        id,
        blockBytes: block.to_vec().into(),
        evidence: evidence.to_vec().into(),
    };
    assert_error::<IDisputes::BlockMismatch, _>(w.call(
        challenger,
        DISPUTES,
        &prove(b"other", b"ok"),
    ));
    assert_error::<IDisputes::BadEvidence, _>(w.call(
        challenger,
        DISPUTES,
        &prove(b"wrong", b"junk"),
    ));
    let long = vec![0; 131_073];
    assert_error::<IDisputes::TooLong, _>(w.call(challenger, DISPUTES, &prove(b"wrong", &long)));
    w.call(challenger, DISPUTES, &prove(b"wrong", b"ok"))
        .unwrap();
    assert_eq!(w.dispute(id).stage, stage::CHALLENGER_WON);
    let late: IDisputes::WrongStage =
        assert_error(w.call(challenger, DISPUTES, &prove(b"wrong", b"ok")));
    assert_eq!(late.have, stage::CHALLENGER_WON);
}

#[test]
fn silence_loses_at_the_deadline_and_not_before_in_every_stage() {
    for shape in SHAPES {
        let mut trace = Trace::wrong_at(shape, 3);
        trace.wrong_in_segment = None;
        let own = Trace::honest(shape);
        // Number of moves made before one side falls silent.
        for moves in 0.. {
            let (mut w, claim, id) = open(shape, &trace);
            for _ in 0..moves {
                w.advance(1_000);
                step(&mut w, &trace, &own, None, id);
            }
            let dispute = w.dispute(id);
            let side = side_of(dispute.stage);
            if side == Side::Nobody {
                break;
            }
            assert!(dispute.deadline > 0, "no stage without a deadline");
            let timeout = IDisputes::timeoutCall { id };
            let wait = dispute.deadline - w.storage.env.timestamp_ms;
            w.advance(wait - 1);
            assert_error::<IDisputes::StillRunning, _>(w.call(
                account(15).address,
                DISPUTES,
                &timeout,
            ));
            let before = w.storage.clone();
            step(&mut w, &trace, &own, None, id);
            w.storage = before;
            w.advance(1);
            let late = match side {
                Side::Asserter => asserter_move(&mut w, &trace, id),
                _ => challenger_move(&mut w, &trace, &own, None, id),
            };
            assert_error::<IErrors::Expired, _>(late);
            w.call(account(15).address, DISPUTES, &timeout).unwrap();
            let (end, state) = match side {
                Side::Asserter => (stage::CHALLENGER_WON, 4),
                _ => (stage::ASSERTER_WON, 1),
            };
            assert_eq!(
                (w.dispute(id).stage, w.claim(claim).state),
                (end, state),
                "after {moves} moves"
            );
            assert_error::<IDisputes::NothingToClose, _>(w.call(
                account(15).address,
                DISPUTES,
                &timeout,
            ));
            w.check();
        }
    }
}

#[test]
fn a_clock_runs_only_on_its_own_turn() {
    let trace = Trace::honest(SHAPES[0]);
    let (mut w, _, id) = open(SHAPES[0], &trace);
    let start = w.dispute(id);
    assert_eq!(
        (start.asserterLeft, start.challengerLeft),
        (120_000, 120_000)
    );
    w.advance(50_000);
    asserter_move(&mut w, &trace, id).unwrap();
    w.advance(30_000);
    challenger_move(&mut w, &trace, &trace, Some(2), id).unwrap();
    let view = w.dispute(id);
    assert_eq!((view.asserterLeft, view.challengerLeft), (70_000, 90_000));
    assert_eq!(view.deadline - w.storage.env.timestamp_ms, 70_000);
}

#[test]
fn the_first_winner_rejects_the_claim_and_other_bonds_return() {
    let shape = SHAPES[0];
    let trace = Trace::wrong_at(shape, 2);
    let (mut w, claim, first) = open(shape, &trace);
    let mut others = Vec::new();
    for challenger in w.challengers.clone() {
        let had = w.native(challenger.address);
        others.push((
            w.challenge(challenger.address, claim).unwrap(),
            challenger.address,
            had,
        ));
    }
    assert_eq!(w.claim(claim).openDisputes, 6);
    // One of them stalls and loses: the claim stays challenged.
    let (loser, _, _) = others.remove(0);
    asserter_move(&mut w, &trace, loser).unwrap();
    assert_eq!(play(&mut w, &trace, None, first).0, stage::CHALLENGER_WON);
    assert_eq!(w.claim(claim).state, 4);
    // No dispute of a rejected claim moves or times out; bonds return by call or by themselves.
    let (second, address, had) = others[0];
    assert_error::<IDisputes::ClaimNotOpen, _>(asserter_move(&mut w, &trace, second));
    let timeout = IDisputes::timeoutCall { id: second };
    assert_error::<IDisputes::NothingToClose, _>(w.call(address, DISPUTES, &timeout));
    w.call(address, DISPUTES, &IDisputes::closeCall { id: second })
        .unwrap();
    assert_eq!(w.native(address), had);
    assert_error::<IDisputes::NothingToClose, _>(w.call(
        address,
        DISPUTES,
        &IDisputes::closeCall { id: second },
    ));
    w.advance(1);
    for (id, address, had) in others {
        assert_eq!(w.dispute(id).stage, stage::CANCELLED);
        assert_eq!(w.native(address), had);
    }
    assert_eq!(w.dispute(loser).stage, stage::CANCELLED);
    assert_eq!(w.view(DISPUTES, &IDisputes::escrowTotalCall {}), U256::ZERO);
    assert_error::<IDisputes::ClaimNotOpen, _>(w.challenge(account(15).address, claim));
    w.check();
}

#[test]
fn fifty_parallel_challengers_do_not_delay_the_end() {
    let shape = SHAPES[0];
    let trace = Trace::honest(shape);
    let (mut w, claim, first) = open(shape, &trace);
    let begun = w.claim(claim).assertedAt;
    w.advance(570_000);
    // `first` was never answered by its challenger's opponent: the asserter answers all at once.
    let mut ids = vec![first];
    for number in 0..49u8 {
        let challenger = Address::repeat_byte(100 + number);
        w.storage.set_balance(challenger, U256::from(1_000 * ASSAY));
        ids.push(
            w.challenge(challenger, claim)
                .unwrap_or_else(|_| panic!("challenge {number}")),
        );
    }
    let clock = 120_000;
    let deadline = w.claim(claim).deadline;
    assert_eq!(deadline - begun, 660_000, "extended once, by a tenth");
    ids.remove(0);
    for id in &ids {
        asserter_move(&mut w, &trace, *id).unwrap();
    }
    w.advance(clock);
    for id in &ids {
        w.call(
            account(15).address,
            DISPUTES,
            &IDisputes::timeoutCall { id: *id },
        )
        .unwrap();
    }
    assert!(w.storage.env.timestamp_ms - begun <= 660_000 + 2 * clock);
    assert_eq!(w.claim(claim).openDisputes, 1);
    w.check();
}

#[test]
fn challenges_need_the_exact_bond_and_an_open_window() {
    let shape = SHAPES[0];
    let mut w = World::ready(shape);
    let claim = w.answer(&shape, &honest_leaves(&shape));
    let challenger = w.challengers[0].address;
    let bond = w.bond(claim);
    for wrong in [0, bond - 1, bond + 1] {
        let call = IDisputes::challengeCall { claimId: claim };
        assert_error::<IDisputes::WrongBond, _>(w.pay(challenger, DISPUTES, wrong, &call));
    }
    w.advance(599_999);
    w.challenge(challenger, claim).unwrap();
    // The extension keeps it open for a tenth more.
    w.advance(60_000);
    w.challenge(challenger, claim).unwrap();
    w.advance(1);
    assert_error::<IDisputes::WindowOver, _>(w.challenge(challenger, claim));
    let finalize = assay_abi::IClaims::finalizeCall { claimId: claim };
    let open: assay_abi::IClaims::OpenDisputes =
        assert_error(w.call(challenger, assay_abi::CLAIMS, &finalize));
    assert_eq!(open.count, 2);
}

#[test]
fn operator_as_its_own_challenger_and_buyer_loses_half() {
    let shape = SHAPES[0];
    let trace = Trace::wrong_at(shape, 2);
    let mut w = World::new();
    // One purse: operator, buyer and challenger are one account.
    w.buyer = account(3);
    w.operator = account(3);
    w.prepare(shape);
    let me = w.operator.address;
    let stake = |w: &mut World| {
        w.view(STAKING, &IStaking::operatorCall { account: me })
            .bonded
            .to::<u128>()
    };
    let before = w.native(me) + stake(&mut w);
    let claim = w.answer(&shape, &trace.leaves);
    let exposure = w.claim(claim).exposure;
    let id = w.challenge(me, claim).unwrap();
    assert_eq!(play(&mut w, &trace, None, id).0, stage::CHALLENGER_WON);
    let after = w.native(me) + stake(&mut w);
    assert!(
        (before - after) * 2 >= exposure,
        "lost {} of {exposure}",
        before - after
    );
}

#[test]
fn one_shot_proof_rejects_in_one_transaction() {
    let shape = SHAPES[0];
    let trace = Trace::wrong_at(shape, 2);
    let mut w = World::ready(shape);
    let claim = w.answer(&shape, &trace.leaves);
    let challenger = w.challengers[0].address;
    let call = |leaves: &[B256], leaf| IDisputes::proveBlockCall {
        claimId: claim,
        leaves: leaves.to_vec(),
        leaf,
        evidence: b"ok".to_vec().into(),
    };
    let honest = honest_leaves(&shape);
    assert_error::<IDisputes::NotHonestList, _>(w.call(challenger, DISPUTES, &call(&honest, 2)));
    assert_error::<IDisputes::LeafCount, _>(w.call(
        challenger,
        DISPUTES,
        &call(&trace.leaves[1..], 2),
    ));
    assert_error::<IDisputes::LeafOutOfRange, _>(w.call(
        challenger,
        DISPUTES,
        &call(&trace.leaves, 6),
    ));
    for right in [0, 1, 3, 5] {
        assert_error::<IDisputes::AsserterIsRight, _>(w.call(
            challenger,
            DISPUTES,
            &call(&trace.leaves, right),
        ));
    }
    let mut junk = call(&trace.leaves, 2);
    junk.evidence = b"junk".to_vec().into();
    assert_error::<IDisputes::BadEvidence, _>(w.call(challenger, DISPUTES, &junk));
    let exposure = w.claim(claim).exposure;
    let had = w.native(challenger);
    w.call(challenger, DISPUTES, &call(&trace.leaves, 2))
        .unwrap();
    assert_eq!(w.claim(claim).state, 4);
    assert_eq!(w.native(challenger) - had, exposure * 3 / 10);
    assert_error::<IDisputes::ClaimNotOpen, _>(w.call(
        challenger,
        DISPUTES,
        &call(&trace.leaves, 2),
    ));
    w.check();
}

#[test]
fn one_shot_proof_needs_a_flat_trace_of_single_nodes() {
    for shape in [SHAPES[1], SHAPES[2]] {
        let trace = Trace::wrong_at(shape, 2);
        let mut w = World::ready(shape);
        let claim = w.answer(&shape, &trace.leaves);
        let call = IDisputes::proveBlockCall {
            claimId: claim,
            leaves: trace.leaves.clone(),
            leaf: 2,
            evidence: b"ok".to_vec().into(),
        };
        let challenger = w.challengers[0].address;
        assert_error::<IDisputes::NotSingleShot, _>(w.call(challenger, DISPUTES, &call));
    }
}

#[test]
fn a_signed_claim_commits_to_its_trace_when_challenged() {
    for shape in SHAPES {
        let trace = Trace::wrong_at(shape, 2);
        let mut w = World::ready(shape);
        let (mut receipt, request) = w.draft(&shape, &trace.leaves);
        receipt.tier = 0;
        receipt.trace_root = B256::ZERO;
        let claim = w.assert(&receipt, &request).unwrap();
        let (first, second) = (w.challengers[0].address, w.challengers[1].address);
        let id = w.challenge(first, claim).unwrap();
        let other = w.challenge(second, claim).unwrap();
        assert_eq!(w.dispute(id).stage, stage::TRACE);
        asserter_move(&mut w, &trace, id).unwrap();
        // The root holds for all disputes.
        let changed = IDisputes::traceCall {
            id: other,
            root: B256::repeat_byte(1),
        };
        assert_error::<IDisputes::NotHonestList, _>(w.call(w.operator.address, DISPUTES, &changed));
        asserter_move(&mut w, &trace, other).unwrap();
        assert_eq!(play(&mut w, &trace, None, other).0, stage::CHALLENGER_WON);
        assert_eq!(w.claim(claim).state, 4);
    }
}

#[test]
fn unknown_disputes_are_named() {
    let mut w = World::ready(SHAPES[0]);
    for id in [U256::ZERO, U256::ONE, U256::MAX] {
        let call = IDisputes::timeoutCall { id };
        assert_error::<IDisputes::UnknownDispute, _>(w.call(Address::ZERO, DISPUTES, &call));
    }
}
