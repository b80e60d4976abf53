//! Keys and statements from strangers: whatever facts, structures and sizes they bring, a verifier answers with an error and does not fall over.

use std::sync::Arc;

use assay_graph::{DType, Dim, Extent, GraphBuilder, Op, Window};
use proptest::prelude::*;

use super::operators::{Rng, graph, out, put, tensor};
use crate::{
    Input, Key, PlanError, Proof, ProvingKey, Statement, VerifyError, plan::facts::Fact, prove,
    prove_hiding, verify,
};

fn honest() -> (ProvingKey, [Proof; 2]) {
    let mut r = Rng(21);
    let (first, second) = (r.rows(3, 9, (4, 6)), r.rows(4, 27, (3, 4)));
    let body = |b: &mut GraphBuilder, x| {
        let w = b.weights(DType::I8, &first).expect("weights");
        let window = Window {
            kernel: [3, 3],
            stride: [1, 1],
            pad: [1; 4],
        };
        let y = put(
            b,
            "c",
            Op::Conv2d {
                weights: w,
                window,
                groups: 1,
                out: out(0, DType::I8, 0, 127),
            },
            &[x],
        )
        .expect("conv");
        let table = b
            .table(DType::I8, &(-128..128).collect::<Vec<i32>>())
            .expect("a table");
        let y = put(b, "t", Op::Lookup { table }, &[y]).expect("lookup");
        let pool = Window {
            kernel: [2, 2],
            stride: [2, 2],
            pad: [0; 4],
        };
        let y = put(b, "p", Op::MaxPool { window: pool }, &[y]).expect("pool");
        let flat = put(
            b,
            "f",
            Op::Reshape {
                shape: vec![Dim::Fixed(27)],
            },
            &[y],
        )
        .expect("reshape");
        let w = b.weights(DType::I8, &second).expect("weights");
        put(
            b,
            "h",
            Op::Linear {
                weights: w,
                out: out(0, DType::I16, -3000, 3000),
            },
            &[flat],
        )
        .expect("linear");
    };
    let g = Arc::new(graph(tensor(DType::I8, &[6, 6, 1], -128, 127), body));
    let inputs: Vec<Input> = super::support::inputs(&g, 1, 1, 3);
    let key = ProvingKey::new(g).expect("a key");
    let open = prove(&key, &inputs, b"", &mut |_| {}).expect("a proof");
    let hidden = prove_hiding(&key, &inputs, b"", &mut |_| {}).expect("a proof");
    (key, [open, hidden])
}

fn fact() -> impl Strategy<Value = i64> {
    prop_oneof![
        Just(i64::MAX),
        Just(i64::MIN),
        -70i64..70,
        any::<i32>().prop_map(i64::from),
        (-(1i64 << 43))..(1i64 << 43),
        any::<i64>()
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn keys_with_any_facts(which in 0usize..64, value in fact(), at in 0usize..300) {
        let (key, proofs) = honest();
        let mut facts = (*key.key.facts).clone();
        let n = facts.len();
        match &mut facts[which % n] {
            Fact::Number(v) => *v = value,
            Fact::List(list) => {
                let mut changed = (**list).clone();
                let len = changed.len();
                changed[at % len] = value as i32;
                *list = Arc::new(changed);
            }
        }
        let changed = key.key.facts.as_ref() != &facts;
        let mut hostile = key.key.clone();
        hostile.facts = Arc::new(facts);
        for mut proof in proofs {
            proof.statement.key_id = hostile.id();
            prop_assert!(verify(&hostile, &proof).is_err() || !changed);
        }
    }

    #[test]
    fn keys_of_any_bytes(at in 0usize..4096, to in any::<u8>(), cut in 0usize..4096) {
        let (key, _) = honest();
        let bytes = key.key().encode();
        let mut changed = bytes.clone();
        let n = changed.len();
        changed[at % n] = to;
        if let Ok(key) = Key::decode(&changed) {
            prop_assert!(changed == bytes || key.id() != honest().0.key().id());
        }
        prop_assert!(Key::decode(&bytes[..cut % n]).is_err());
    }

    #[test]
    fn statements_of_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Statement::decode(&bytes);
        for mode in 0..3 {
            let mut start = vec![1, 0, 1, 0, mode];
            start.extend(&bytes);
            let _ = Statement::decode(&start);
        }
    }
}

/// A structure that asks for large tables costs a verifier nothing who does not allow them; nor do long runs of attention.
#[test]
fn work_is_bounded() {
    let g = graph(tensor(DType::I16, &[2, 2, 8], -32768, 32767), |b, mut x| {
        for i in 0..8 {
            let clamp = out(0, DType::I16, -32768 + i, 32767 - i);
            x = put(b, &format!("r{i}"), Op::Requant { out: clamp }, &[x]).expect("requant");
            let window = Window {
                kernel: [1, 2],
                stride: [1, 1],
                pad: [0, 0, 0, 1],
            };
            x = put(b, &format!("p{i}"), Op::MaxPool { window }, &[x]).expect("pool");
        }
    });
    let g = Arc::new(g);
    let key = ProvingKey::new(Arc::clone(&g)).expect("a key");
    let runs = super::support::inputs(&g, 1, 1, 3);
    let proof = prove(&key, &runs, b"", &mut |_| {}).expect("a proof");
    let extent = Extent { seq: 1, out: 1 };
    let rows = key
        .key()
        .cost(crate::Mode::Committed, extent, 1, crate::MEMORY);
    let rows = rows.expect("a cost").rows as u64;
    crate::verify_within(key.key(), &proof, 4 * rows).expect("verifies");
    let refused = crate::verify_within(key.key(), &proof, rows / 4).expect_err("too much");
    assert!(matches!(
        refused,
        VerifyError::Plan(PlanError::Work { need, limit }) if need > limit && limit == rows / 4
    ));
}

/// Facts of a language model's key, each list and number in turn made as wrong as can be: an error or another plan, no panic.
#[test]
fn facts_of_language_models_are_checked() {
    let g = Arc::new(super::language::decoder(7, 1));
    let key = ProvingKey::direct(Arc::clone(&g))
        .expect("a key")
        .key()
        .clone();
    let extent = Extent { seq: 5, out: 2 };
    let plan = |key: &Key| key.cost(crate::Mode::Committed, extent, 1, crate::MEMORY);
    plan(&key).expect("plans");
    let mut refused = 0;
    for at in 0..key.facts.len() {
        for value in [i32::MIN, -16, 32, 64, i32::MAX] {
            let mut facts = key.facts.as_ref().clone();
            match &mut facts[at] {
                Fact::List(list) => Arc::make_mut(list)[0] = value,
                Fact::Number(n) => *n = i64::from(value) << 11,
            }
            let mut lie = key.clone();
            lie.facts = Arc::new(facts);
            refused += usize::from(plan(&lie).is_err());
        }
    }
    assert!(
        refused > key.facts.len(),
        "{refused} of {}",
        5 * key.facts.len()
    );
}
