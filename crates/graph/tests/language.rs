//! Laws of language models: schedules, sampling, statements.

mod common;

use assay_graph::{
    BlockRow, ConstKind, Data, Extent, Graph, GraphBuilder, GraphError, Header, Sampling,
    Statement, Structure, Tensor, eval,
    ops::{
        rms_norm_unit,
        sample::{FORBIDDEN, Occurrences, adjusted, cut_of, mass_of, threshold},
    },
    sampling::{MAX_BIASES, MAX_STATEMENT, MAX_STOPS, ONE, mask_tree},
};
use common::{Rng, VOCABULARY, generate, language_graph};
use proptest::prelude::*;

fn statement(seed: u8) -> Statement {
    Statement {
        sampling: Sampling {
            temperature: ONE,
            top_k: 40,
            top_p: ONE / 20 * 19,
            min_p: ONE / 50,
            repetition: ONE + ONE / 10,
            frequency: ONE as i32 / 5,
            presence: ONE as i32 / 10,
            seed: [seed; 32],
            bias: vec![(3, -(ONE as i32)), (9, 2 * ONE as i32)],
            ..Sampling::default()
        },
        masks: Vec::new(),
    }
}

fn table() -> Vec<i32> {
    (0..256)
        .map(|i| (16384.0 * (-f64::from(i) / 256.0).exp2()).round() as i32)
        .collect()
}

#[test]
fn structure_and_file_round_trip() {
    let graph = language_graph(1, 2, 40);
    assert!(graph.is_generative());
    let structure = graph.structure();
    let bytes = structure.to_bytes();
    assert_eq!(Structure::from_bytes(&bytes).unwrap(), structure);
    for i in 0..bytes.len() {
        let mut other = bytes.clone();
        other[i] ^= 1 << (i % 8);
        if let Ok(s) = Structure::from_bytes(&other) {
            assert_ne!(s, structure);
            assert_eq!(s.to_bytes(), other, "two encodings of one structure");
        }
    }
    let again = Graph::from_bytes(&graph.to_bytes()).unwrap();
    assert_eq!(again.identity(), graph.identity());
    let id: String = graph
        .model_id()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    // conformance: a change here is a change of every language model's id
    assert_eq!(
        id,
        "cefc75249943ea4a2b36465261584b7e28a253875650862e907fa1a91e55e5d9"
    );
}

/// What is computed for a position does not depend on how many follow, or on which positions answer.
#[test]
fn rows_do_not_depend_on_the_schedule() {
    let graph = language_graph(3, 2, 40);
    let statement = statement(1);
    let (tokens, answer) = generate(&graph, &[1, 7, 30, 2], 6, &statement);
    let whole = eval::run_with(&graph, &tokens, 6, Some(&statement)).unwrap();
    assert_eq!(whole.last().unwrap().data.to_i32(), answer);
    let all = tokens.data.to_i32();
    for n in 1..all.len() {
        let part = Tensor::new(vec![n], Data::I32(all[..n].to_vec())).unwrap();
        let run = eval::run_with(&graph, &part, 1, Some(&statement)).unwrap();
        for (i, node) in graph.nodes().iter().enumerate() {
            if node.checkpoint && i + 1 < graph.nodes().len() {
                let bytes = run[i].data.to_bytes();
                assert_eq!(whole[i].data.to_bytes()[..bytes.len()], bytes, "node {i}");
            }
        }
    }
}

#[test]
fn greedy_takes_the_first_of_the_most_likely() {
    let graph = language_graph(4, 1, 20);
    let statement = Statement::default();
    let (tokens, answer) = generate(&graph, &[5, 6, 7], 4, &statement);
    let run = eval::run_with(&graph, &tokens, 4, Some(&statement)).unwrap();
    let logits = graph
        .nodes()
        .iter()
        .position(|n| matches!(n.op, assay_graph::Op::Adjust { .. }))
        .map(|i| run[i - 1].data.to_i32())
        .unwrap();
    for (row, token) in logits.chunks(VOCABULARY as usize).zip(answer) {
        let max = row.iter().max().unwrap();
        assert_eq!(row.iter().position(|v| v == max), Some(token as usize));
    }
}

#[test]
fn masks_forbid_and_seeds_decide() {
    let graph = language_graph(5, 1, 20);
    let mut distinct = std::collections::BTreeSet::new();
    for seed in 0..12 {
        let mut s = statement(seed);
        s.sampling.temperature = 3 * ONE;
        let (_, free) = generate(&graph, &[1, 2], 3, &s);
        assert_eq!(generate(&graph, &[1, 2], 3, &s).1, free, "same seed");
        distinct.insert(free);
        // only multiples of 7
        let mut mask = vec![0u8; 9];
        for v in (0..VOCABULARY as usize).step_by(7) {
            mask[v / 8] |= 1 << (v % 8);
        }
        s.masks = vec![mask; 3];
        s.sampling.mask_root = mask_tree(s.masks.iter().map(Vec::as_slice)).root();
        assert!(
            generate(&graph, &[1, 2], 3, &s)
                .1
                .iter()
                .all(|t| t % 7 == 0)
        );
    }
    assert!(distinct.len() > 6, "seeds give different answers");
    let mut short = statement(0);
    short.sampling.mask_root = [1; 32];
    let input = Tensor::new(vec![1], Data::I32(vec![1])).unwrap();
    assert!(matches!(
        eval::run_with(&graph, &input, 1, Some(&short)),
        Err(GraphError::Evidence { .. })
    ));
}

#[test]
fn answers_longer_than_the_run_are_refused() {
    let graph = language_graph(5, 1, 20);
    let input = Tensor::new(vec![3], Data::I32(vec![1, 2, 3])).unwrap();
    let s = Statement::default();
    for out in [0, 4] {
        assert!(eval::run_with(&graph, &input, out, Some(&s)).is_err());
    }
    assert!(eval::run_with(&graph, &input, 1, None).is_err());
    assert_eq!(Extent::answering(0, 1), None);
    assert_eq!(Extent::answering(u32::MAX, 2), None);
    assert_eq!(Extent::answering(3, 2), Some(Extent { seq: 4, out: 2 }));
}

/// Frequencies of sampled tokens follow the masses: chi-square over 20,000 draws.
#[test]
fn the_random_stream_follows_the_masses() {
    let table = table();
    let masses: Vec<i64> = [0, 100, 256, 300, 700, 1500]
        .iter()
        .map(|d| mass_of(*d, &table, 5120))
        .collect();
    let total: i64 = masses.iter().sum();
    let mut seen = vec![0f64; masses.len()];
    let mut s = statement(9).sampling;
    let n = 20_000;
    for j in 0..n {
        s.seed[0] = (j / 5000) as u8;
        let mut left = threshold(&s, j % 5000, total);
        let at = masses
            .iter()
            .position(|m| {
                let here = left < *m;
                left -= m;
                here
            })
            .unwrap();
        seen[at] += 1.0;
    }
    let chi: f64 = seen
        .iter()
        .zip(&masses)
        .map(|(o, m)| {
            let e = f64::from(n) * *m as f64 / total as f64;
            (o - e) * (o - e) / e
        })
        .sum();
    assert!(chi < 20.5, "chi-square {chi} with 5 degrees of freedom"); // p = 0.001
}

#[test]
fn cuts_keep_what_their_names_say() {
    let table = table();
    let mut census = vec![0; 5121];
    for d in [0, 256, 256, 512, 768, 5120] {
        census[d] += 1;
    }
    let s = |f: fn(&mut Sampling)| {
        let mut s = Sampling {
            temperature: ONE,
            ..Sampling::default()
        };
        f(&mut s);
        s
    };
    assert_eq!(cut_of(&census, &table, &Sampling::default()), 0);
    assert_eq!(cut_of(&census, &table, &s(|_| ())), 5119);
    assert_eq!(cut_of(&census, &table, &s(|s| s.top_k = 1)), 0);
    // ties stay together
    assert_eq!(cut_of(&census, &table, &s(|s| s.top_k = 2)), 256);
    assert_eq!(cut_of(&census, &table, &s(|s| s.top_k = 4)), 512);
    assert_eq!(cut_of(&census, &table, &s(|s| s.top_k = 90)), 5119);
    // masses 1, ½, ½, ¼, ⅛ of 2.375
    assert_eq!(cut_of(&census, &table, &s(|s| s.top_p = ONE * 2 / 5)), 0);
    assert_eq!(cut_of(&census, &table, &s(|s| s.top_p = ONE / 2)), 256);
    assert_eq!(cut_of(&census, &table, &s(|s| s.top_p = ONE * 9 / 10)), 512);
    assert_eq!(cut_of(&census, &table, &s(|s| s.min_p = ONE / 2)), 256);
    assert_eq!(cut_of(&census, &table, &s(|s| s.min_p = ONE)), 0);
}

#[test]
fn penalties_act_as_documented() {
    let mut s = Sampling::default();
    let seen = Occurrences {
        any: true,
        answered: 2,
    };
    assert_eq!(adjusted(100, 8, Occurrences::default(), 0, &s), 25_600);
    s.repetition = 2 * ONE;
    assert_eq!(adjusted(100, 8, seen, 0, &s), 12_800);
    assert_eq!(adjusted(-100, 8, seen, 0, &s), -51_200);
    s.repetition = ONE;
    // one natural unit is log2(e) octaves: 1.4427·2^16 with scale 8 and 8 more bits
    s.presence = ONE as i32;
    assert_eq!(adjusted(0, 8, seen, 0, &s), -94_548);
    s.presence = 0;
    s.frequency = ONE as i32;
    assert_eq!(adjusted(0, 8, seen, 0, &s), -2 * 94_548);
    assert_eq!(
        adjusted(0, 8, Occurrences::default(), ONE as i32, &s),
        94_548
    );
    s.temperature = 2 * ONE;
    assert_eq!(adjusted(101, 8, Occurrences::default(), 0, &s), 12_928);
    s.temperature = 655;
    assert!(adjusted(-32_767, 8, seen, -100 * ONE as i32, &s) > FORBIDDEN);
}

#[test]
fn statements_out_of_range_are_refused() {
    type Change = fn(&mut Sampling);
    let changes: [(&str, Change); 13] = [
        ("max_out", |s| s.max_out = 0),
        ("temperature", |s| s.temperature = 1),
        ("temperature", |s| s.temperature = u32::MAX),
        ("top_p", |s| s.top_p = 0),
        ("top_p", |s| s.top_p = ONE + 1),
        ("min_p", |s| s.min_p = ONE + 1),
        ("repetition", |s| s.repetition = 0),
        ("frequency", |s| s.frequency = i32::MIN),
        ("presence", |s| s.presence = i32::MAX),
        ("stop", |s| s.stop = vec![2, 1]),
        ("stop", |s| s.stop = (0..=MAX_STOPS as u32).collect()),
        ("bias", |s| s.bias = vec![(1, 0), (1, 0)]),
        ("bias", |s| {
            s.bias = (0..=MAX_BIASES as u32).map(|t| (t, 0)).collect();
        }),
    ];
    for (name, change) in changes {
        let mut s = Sampling::default();
        change(&mut s);
        assert_eq!(s.check(), Err(GraphError::Sampling(name)));
        assert!(Sampling::decode(&s.encode()).is_err(), "{name}");
    }
    let largest = Sampling {
        stop: (0..MAX_STOPS as u32).collect(),
        bias: (0..MAX_BIASES as u32).map(|t| (t, 1)).collect(),
        ..Sampling::default()
    };
    assert!(largest.encode().len() <= MAX_STATEMENT);
    assert_eq!(Sampling::decode(&largest.encode()).unwrap(), largest);
    // conformance: a change here changes what every receipt of a language model says
    let hash: String = largest.hash().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(
        hash,
        "01cc8416194dd2718411b373b11458f766972dc6235235d3a2069c64bdf335e6"
    );
}

#[test]
fn code_that_passes_16_bits_is_refused() {
    let mut b = GraphBuilder::new(Header {
        max_seq: 4,
        block_bits: 10,
    });
    let row = |step: i16, code: u8| BlockRow {
        shift: 14,
        bias: 0,
        steps: vec![step],
        offsets: Vec::new(),
        codes: vec![code; 32],
    };
    assert!(b.blocks(4, 32, &[row(1, 16)]).is_err(), "code of 5 bits");
    assert!(b.blocks(7, 32, &[row(1, 1)]).is_err(), "7 bits");
    let x = b
        .input(assay_graph::TensorType {
            dtype: assay_graph::DType::I16,
            shape: vec![assay_graph::Dim::Fixed(32)],
            lo: -100,
            hi: 100,
        })
        .unwrap();
    for (step, fits) in [(255, true), (300, false)] {
        let weights = b.blocks(8, 32, &[row(step, 0)]).unwrap();
        let op = assay_graph::Op::Linear {
            weights,
            out: common::q(0, assay_graph::DType::I16),
        };
        assert_eq!(
            b.push("linear", op, &[x], false).is_ok(),
            fits,
            "step {step}"
        );
    }
}

/// A row that passes the limit of one accumulator stands only if two limbs of its weights fit and its shift leaves room; the sum of the limbs is the definition.
#[test]
fn rows_of_two_limbs() {
    let cols = 96;
    let q = |w: i32, shift: i8| {
        let mut b = GraphBuilder::new(Header {
            max_seq: 1,
            block_bits: 10,
        });
        let ty = assay_graph::TensorType {
            dtype: assay_graph::DType::I16,
            shape: vec![assay_graph::Dim::Fixed(cols)],
            lo: -32639,
            hi: 32639,
        };
        let x = b.input(ty).unwrap();
        let row = assay_graph::WeightRow {
            shift,
            bias: 5,
            values: (0..cols as i32).map(|i| w - i % 16).collect(),
        };
        let weights = b.weights(assay_graph::DType::I16, &[row]).unwrap();
        let out = common::q(0, assay_graph::DType::I32);
        b.push("row", assay_graph::Op::Linear { weights, out }, &[x], true)?;
        b.finish()
    };
    // 96·32,639·w: one limb up to w = 340, two up to about 16 times that
    assert!(q(340, 2).is_ok());
    assert!(
        matches!(q(400, 2), Err(GraphError::Bound { .. })),
        "no room under the shift"
    );
    assert!(q(400, 4).is_ok());
    assert!(q(5000, 8).is_ok());
    assert!(matches!(q(6000, 8), Err(GraphError::Bound { .. })));
    let graph = q(5000, 8).unwrap();
    for sign in [1, -1] {
        let x = vec![sign * 32639; cols as usize];
        let input = Tensor::new(vec![cols as usize], Data::I16(x.clone())).unwrap();
        let y = eval::run(&graph, &input).unwrap()[1].data.get(0).unwrap();
        let (mut high, mut low) = (0i64, 5i64);
        for (i, x) in x.iter().enumerate() {
            let w = 5000 - i64::from(i as i32 % 16);
            let h = (w + 8) >> 4;
            high += h * i64::from(*x);
            low += (w - 16 * h) * i64::from(*x);
        }
        assert!(high.abs() <= assay_graph::A_MAX && low.abs() <= assay_graph::A_MAX);
        let carry = low.div_euclid(16);
        let rest = low.rem_euclid(16);
        // rnd(16·high + low, 8), from parts that fit their accumulators
        let sum = high + carry;
        assert_eq!(i64::from(y), (sum * 16 + rest + 128) >> 8);
        assert!((16 * high + low).abs() > i64::from(i32::MAX));
    }
}

proptest! {
    #[test]
    fn statement_bytes_are_canonical(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..400, bit in 0u8..8) {
        if let Ok(s) = Sampling::decode(&bytes) {
            prop_assert_eq!(s.encode(), bytes);
        }
        let mut good = statement(1).sampling.encode();
        if let Some(b) = good.get_mut(at) {
            *b ^= 1 << bit;
            if let Ok(s) = Sampling::decode(&good) {
                prop_assert_eq!(s.encode(), good);
            }
        }
    }

    #[test]
    fn blocks_hold_what_they_were_given(seed in any::<u64>(), bits in prop_oneof![Just(4u8), Just(5), Just(6), Just(8)], group in prop_oneof![Just(16u8), Just(32)], offsets: bool) {
        let mut rng = Rng(seed | 1);
        let row = BlockRow {
            shift: 3,
            bias: -7,
            steps: (0..64 / group).map(|_| rng.range(0, 100) as i16).collect(),
            offsets: (0..if offsets { 64 / group } else { 0 }).map(|_| rng.range(-900, 900) as i16).collect(),
            codes: (0..64).map(|_| rng.range(0, (1 << bits) - 1) as u8).collect(),
        };
        let mut b = GraphBuilder::new(Header { max_seq: 1, block_bits: 10 });
        let ty = assay_graph::TensorType { dtype: assay_graph::DType::I8, shape: vec![assay_graph::Dim::Fixed(64)], lo: -1, hi: 1 };
        let x = b.input(ty).unwrap();
        let weights = b.blocks(bits, group, std::slice::from_ref(&row)).unwrap();
        b.push("l", assay_graph::Op::Linear { weights, out: common::q(0, assay_graph::DType::I32) }, &[x], true).unwrap();
        let graph = b.finish().unwrap();
        let kind = graph.consts()[0].kind();
        prop_assert_eq!(kind, ConstKind::Blocks { rows: 1, cols: 64, bits, group, offsets });
        let values = graph.consts()[0].row_values(0).unwrap();
        for (i, v) in values.values.iter().enumerate() {
            let g = i / usize::from(group);
            let step = i32::from(row.steps[g]);
            let offset = if offsets { i32::from(row.offsets[g]) } else { -(step << (bits - 1)) };
            prop_assert_eq!(*v, step * i32::from(row.codes[i]) + offset);
        }
        prop_assert_eq!(Graph::from_bytes(&graph.to_bytes()).unwrap().model_id(), graph.model_id());
    }

    #[test]
    fn a_normalised_row_is_never_longer_than_its_bound(x in proptest::collection::vec(prop_oneof![any::<i32>(), -5i32..5, Just(0), Just(i32::MAX), Just(i32::MIN)], 1..200), eps in 0u64..1 << 40) {
        let u = rms_norm_unit(&x, eps);
        let squares: f64 = u.iter().map(|v| f64::from(*v).powi(2)).sum();
        prop_assert!(squares.sqrt() <= 32768.0 + (u.len() as f64).sqrt() / 2.0);
        prop_assert!(u.iter().all(|v| v.abs() <= 32768));
    }
}
