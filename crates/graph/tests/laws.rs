//! Laws of encodings, trees, bounds and definitions.

mod common;

use assay_graph::{
    A_MAX, DType, Data, Dim, Graph, GraphBuilder, GraphError, Header, Op, Requant, Structure,
    Tensor, TensorType, WeightRow, bounds, eval,
    evidence::Evidence,
    ops::{inverse_sqrt, layer_norm_unit, rnd},
    trace::{CHUNK, Family, Opening, Tree, leaf_hash, root_from_path},
};
use common::{Rng, encoder_graph, ids, image_graph, image_input, q};
use proptest::prelude::*;

#[test]
fn graph_bytes_round_trip_and_pin_the_model_ids() {
    let mut ids = Vec::new();
    for graph in [
        image_graph(1, true),
        image_graph(1, false),
        encoder_graph(1, 40, true),
    ] {
        let bytes = graph.to_bytes();
        let again = Graph::from_bytes(&bytes).unwrap();
        assert_eq!(again.to_bytes(), bytes);
        assert_eq!(again.types(), graph.types());
        assert_eq!(again.identity(), graph.identity());
        let structure = graph.structure();
        assert_eq!(
            Structure::from_bytes(&structure.to_bytes()).unwrap(),
            structure
        );
        ids.push(
            graph
                .model_id()
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect::<String>(),
        );
    }
    // conformance: a change here is a change of every model id
    assert_eq!(ids, PINNED);
}

const PINNED: [&str; 3] = [
    "b0d9ba1ec2268c4818a38a9a62d807b217a8730e600fa4e4d10d9ba3de461825",
    "7f27ee6471075c5009a237c3690082b496c5490b3ef4e2ede690203ea5c0f8eb",
    "1e1780d619c0a46f56d1d3dfedc3fb478f028d8e6fa4f8741e9029f137b3d1d6",
];

#[test]
fn changed_structure_bytes_are_refused_or_mean_another_model() {
    let graph = encoder_graph(2, 12, true);
    let bytes = graph.structure().to_bytes();
    let original = Structure::from_bytes(&bytes).unwrap();
    for i in 0..bytes.len() {
        for bit in [1u8, 16, 128] {
            let mut other = bytes.clone();
            other[i] ^= bit;
            if let Ok(s) = Structure::from_bytes(&other) {
                assert_ne!(s, original);
                assert_eq!(s.to_bytes(), other, "two encodings of one structure");
            }
        }
    }
    for n in 0..bytes.len() {
        assert!(Structure::from_bytes(&bytes[..n]).is_err());
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(Structure::from_bytes(&longer).is_err());
}

#[test]
fn a_weight_changed_by_one_changes_the_model_id() {
    let graph = image_graph(1, true);
    let mut bytes = graph.to_bytes();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert_ne!(
        Graph::from_bytes(&bytes).unwrap().model_id(),
        graph.model_id()
    );
}

#[test]
fn bounds_are_reached_and_never_passed() {
    // one linear row with the widest weights that still fit: the worst legal input reaches the bound exactly
    let k = 64;
    let rows = |v: i32| {
        vec![WeightRow {
            shift: 0,
            bias: 0,
            values: (0..k).map(|i| if i % 2 == 0 { v } else { -v }).collect(),
        }]
    };
    let ty = TensorType {
        dtype: DType::I16,
        shape: vec![Dim::Fixed(k)],
        lo: -32767,
        hi: 32767,
    };
    let limit = A_MAX / (i64::from(k) * 32767);
    for (weight, fits) in [(limit, true), (limit + 1, false)] {
        let mut b = GraphBuilder::new(Header {
            max_seq: 1,
            block_bits: 10,
        });
        let x = b.input(ty.clone()).unwrap();
        let w = b.weights(DType::I16, &rows(weight as i32)).unwrap();
        let node = b.push(
            "wide",
            Op::Linear {
                weights: w,
                out: Requant {
                    shift: 0,
                    dtype: DType::I32,
                    lo: i32::MIN,
                    hi: i32::MAX,
                },
            },
            &[x],
            true,
        );
        if !fits {
            assert!(
                matches!(node, Err(GraphError::Bound { row: 0, ref name, bound, limit, .. }) if name == "wide" && bound > limit)
            );
            continue;
        }
        node.unwrap();
        let graph = b.finish().unwrap();
        let worst: Vec<i16> = (0..k)
            .map(|i| if i % 2 == 0 { 32767 } else { -32767 })
            .collect();
        let out = eval::run(
            &graph,
            &Tensor::new(vec![k as usize], Data::I16(worst)).unwrap(),
        )
        .unwrap();
        let peak = bounds::peak(&graph.consts()[0], (-32767, 32767));
        assert_eq!(i64::from(out[1].data.get(0).unwrap()), peak);
        assert!(peak <= A_MAX);
    }
}

#[test]
fn values_stay_in_the_ranges_that_bounds_found() {
    for seed in 1..6 {
        let (g, h) = (image_graph(seed, true), encoder_graph(seed, 16, true));
        for (graph, input) in [
            (&g, image_input(seed)),
            (&h, ids(seed, 1 + seed as usize * 3)),
        ] {
            for (t, ty) in eval::run(graph, &input).unwrap().iter().zip(graph.types()) {
                assert!(t.data.to_i32().iter().all(|v| (ty.lo..=ty.hi).contains(v)));
            }
        }
    }
}

#[test]
fn non_checkpoints_are_not_read_from_another_segment() {
    let mut b = GraphBuilder::new(Header {
        max_seq: 1,
        block_bits: 10,
    });
    let x = b
        .input(TensorType {
            dtype: DType::I8,
            shape: vec![Dim::Fixed(4)],
            lo: -128,
            hi: 127,
        })
        .unwrap();
    let a = b
        .push(
            "a",
            Op::Requant {
                out: q(1, DType::I8),
            },
            &[x],
            false,
        )
        .unwrap();
    let c = b
        .push(
            "c",
            Op::Requant {
                out: q(1, DType::I8),
            },
            &[a],
            true,
        )
        .unwrap();
    b.push(
        "d",
        Op::Add {
            left: [0, 0],
            out: q(0, DType::I8),
        },
        &[a, c],
        true,
    )
    .unwrap();
    assert!(matches!(b.finish(), Err(GraphError::Node { node: 3, .. })));
}

#[test]
fn inputs_outside_the_declaration_are_refused() {
    let g = encoder_graph(1, 8, true);
    let run =
        |dims: Vec<usize>, v: Vec<i32>| eval::run(&g, &Tensor::new(dims, Data::I32(v)).unwrap());
    assert!(run(vec![2], vec![0, 39]).is_ok());
    for (dims, v) in [
        (vec![2], vec![0, 40]),
        (vec![2], vec![-1, 0]),
        (vec![9], vec![0; 9]),
        (vec![1, 2], vec![0; 2]),
        (vec![0], vec![]),
    ] {
        assert!(matches!(run(dims, v), Err(GraphError::Input(_))));
    }
    assert!(eval::run(&g, &Tensor::new(vec![1], Data::I16(vec![0])).unwrap()).is_err());
}

proptest! {
    #[test]
    fn inverse_sqrt_is_the_definition(v in 1u64..1 << 58) {
        let y = u128::from(inverse_sqrt(v));
        prop_assert!(y * y * u128::from(v) <= 1 << 58);
        prop_assert!((y + 1) * (y + 1) * u128::from(v) > 1 << 58);
    }

    #[test]
    fn normalised_rows_are_unit_vectors(x in prop::collection::vec(any::<i16>(), 2..400)) {
        let wide: Vec<i32> = x.iter().map(|v| i32::from(*v)).collect();
        let u = layer_norm_unit(&wide, 0);
        let n2: f64 = u.iter().map(|v| f64::from(*v).powi(2)).sum();
        prop_assert!(u.iter().all(|v| v.abs() <= 1 << 15));
        if wide.iter().any(|v| *v != wide[0]) {
            prop_assert!((n2.sqrt() / 32768.0 - 1.0).abs() < 0.02, "norm {}", n2.sqrt() / 32768.0);
        }
    }

    #[test]
    fn rounding_is_half_up(v in -(1i64 << 40)..(1i64 << 40), k in 1i8..31) {
        let exact = (v as f64 / f64::from(k as i32).exp2() + 0.5).floor();
        prop_assert_eq!(rnd(v, k) as f64, exact);
    }

    #[test]
    fn openings_lead_to_the_leaf(bytes in prop::collection::vec(any::<u8>(), 1..16384), pick in any::<u16>()) {
        let opening = Opening::of(&bytes, |i| pick >> i & 1 == 1);
        prop_assert_eq!(opening.leaf_hash().unwrap(), leaf_hash(Family::Trace, &bytes));
        let n = bytes.len().div_ceil(CHUNK);
        for i in 0..n {
            let (at, end) = (i * CHUNK, ((i + 1) * CHUNK).min(bytes.len()));
            if n == 1 || pick >> i & 1 == 1 {
                prop_assert_eq!(opening.bytes(at, end - at).unwrap(), &bytes[at..end]);
            } else {
                prop_assert!(opening.bytes(at, 1).is_none());
            }
        }
    }

    #[test]
    fn paths_lead_to_the_root_and_nothing_else_does(n in 1usize..70, seed in any::<u64>()) {
        let mut rng = Rng(seed | 1);
        let leaves: Vec<_> = (0..n).map(|_| leaf_hash(Family::Trace, &rng.next().to_le_bytes())).collect();
        let tree = Tree::new(Family::Trace, leaves.clone());
        for (i, leaf) in leaves.iter().enumerate() {
            let path = tree.path(i as u64).unwrap();
            prop_assert_eq!(root_from_path(Family::Trace, n as u64, i as u64, leaf, &path), Some(tree.root()));
            prop_assert_ne!(root_from_path(Family::Trace, n as u64 + 1, i as u64, leaf, &path), Some(tree.root()));
            let other = (i as u64 + 1) % n as u64;
            if n > 1 {
                prop_assert_ne!(root_from_path(Family::Trace, n as u64, other, leaf, &path), Some(tree.root()));
            }
        }
        prop_assert!(tree.path(n as u64).is_none());
    }

    #[test]
    fn decoders_are_total(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Graph::from_bytes(&bytes);
        let _ = Structure::from_bytes(&bytes);
        if let Ok(e) = Evidence::decode(&bytes) {
            prop_assert_eq!(e.encode(), bytes);
        }
    }
}

#[test]
fn any_changed_byte_of_a_graph_file_is_refused_or_another_model() {
    // shifts, biases, tables and norms included: nothing that a stranger writes into a file may panic
    for graph in [image_graph(3, true), encoder_graph(3, 6, true)] {
        let bytes = graph.to_bytes();
        let id = graph.model_id();
        let mut rng = Rng(7);
        let structure = 16 + graph.structure().to_bytes().len();
        for i in (0..structure).chain((0..500).map(|_| rng.next() as usize % bytes.len())) {
            let mut other = bytes.clone();
            for value in [127, 128, 0, bytes[i] ^ 1] {
                other[i] = value;
                if let Ok(g) = Graph::from_bytes(&other) {
                    assert_eq!(g.model_id() == id, other == bytes);
                }
            }
        }
    }
}

#[test]
fn shifts_outside_the_range_are_refused() {
    for shift in [32i8, 127, -16, -128] {
        let mut b = GraphBuilder::new(Header {
            max_seq: 1,
            block_bits: 10,
        });
        let ty = TensorType {
            dtype: DType::I8,
            shape: vec![Dim::Fixed(2)],
            lo: -1,
            hi: 1,
        };
        let x = b.input(ty).unwrap();
        let row = WeightRow {
            shift,
            bias: 0,
            values: vec![1, 1],
        };
        let weights = b.weights(DType::I8, &[row]).unwrap();
        let op = Op::Linear {
            weights,
            out: q(0, DType::I8),
        };
        assert!(b.push("row", op, &[x], true).is_err(), "{shift}");
    }
}

#[test]
fn ends_too_large_to_be_opened_whole_are_refused() {
    let mut b = GraphBuilder::new(Header {
        max_seq: 1,
        block_bits: 10,
    });
    let ty = TensorType {
        dtype: DType::I16,
        shape: vec![Dim::Fixed(20_000)],
        lo: -1,
        hi: 1,
    };
    let x = b.input(ty).unwrap();
    b.push(
        "copy",
        Op::Requant {
            out: q(0, DType::I16),
        },
        &[x],
        true,
    )
    .unwrap();
    assert!(matches!(b.finish(), Err(GraphError::Node { node: 1, .. })));
}
