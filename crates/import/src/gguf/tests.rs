//! Reading what was written, refusing what is wrong, and the values of llama.cpp's Python reference.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use proptest::prelude::*;

use super::*;

fn sample() -> Writer {
    let mut w = Writer::new();
    w.key("general.architecture", Value::String("llama".into()))
        .key("llama.block_count", Value::Unsigned(2))
        .key("a.float", Value::Float(0.5))
        .key("a.signed", Value::Signed(-3))
        .key("a.bool", Value::Bool(true))
        .key("a.words", Value::Strings(vec!["x".into(), "é".into()]))
        .key(
            "a.nested",
            Value::Nested(vec![Value::Integers(vec![1, -2]), Value::Floats(vec![1.5])]),
        )
        .floats("one", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        .tensor("two", &[1, 32], TensorType::Q4_1, vec![0; 20]);
    w
}

fn word(bytes: &[u8]) -> Vec<f32> {
    let words = bytes.as_chunks::<4>().0.iter();
    words.map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn what_is_written_is_read() {
    let file = sample().finish();
    let g = Gguf::parse(&file).unwrap();
    assert_eq!((g.version, g.len()), (3, 2));
    assert_eq!(g.string("general.architecture"), Some("llama"));
    assert_eq!(g.unsigned("llama.block_count"), Some(2));
    assert_eq!(g.number("a.signed"), Some(-3.0));
    assert_eq!(g.boolean("a.bool"), Some(true));
    assert_eq!(g.strings("a.words").map(<[_]>::len), Some(2));
    assert!(matches!(g.get("a.nested"), Some(Value::Nested(v)) if v.len() == 2));
    let t = g.tensor("one").unwrap();
    assert_eq!(
        (t.dims.as_slice(), t.rows(), t.cols()),
        ([2, 3].as_slice(), 2, 3)
    );
    let bytes = &file[t.start as usize..(t.start + t.len) as usize];
    assert_eq!(word(bytes), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    // version 2 has the same layout
    let mut second = file.clone();
    second[4] = 2;
    assert_eq!(Gguf::parse(&second).unwrap().version, 2);
}

#[test]
fn dequantised_values_are_those_of_the_reference() {
    let text = include_str!("../../tests/data/gguf_blocks.json");
    let cases: serde_json::Value = serde_json::from_str(text).unwrap();
    for ty in TensorType::ALL {
        let case = &cases[format!("{ty:?}")];
        let hex = |key: &str| hex::decode(case[key].as_str().unwrap()).unwrap();
        let (bytes, want) = (hex("bytes"), word(&hex("values")));
        let mut have = Vec::new();
        ty.dequantise("t", &bytes, &mut have).unwrap();
        assert_eq!(have.len(), want.len(), "{ty:?}");
        for (i, (a, b)) in have.iter().zip(&want).enumerate() {
            assert!(a == b, "{ty:?} {i}: {a} {b}");
        }
        // the view as codes says the same
        let Some(layout) = ty.layout() else { continue };
        let mut groups = Groups::default();
        ty.groups(&bytes, &mut groups);
        assert_eq!(groups.codes.len(), want.len());
        assert!(
            groups
                .codes
                .iter()
                .all(|c| u32::from(*c) < 1 << layout.bits)
        );
        let n = usize::from(layout.group);
        assert_eq!(
            (groups.steps.len(), groups.offsets.len()),
            (want.len() / n, want.len() / n)
        );
        for (i, (c, w)) in groups.codes.iter().zip(&want).enumerate() {
            let v = groups.steps[i / n] * f64::from(*c) + groups.offsets[i / n];
            assert!(
                (v - f64::from(*w)).abs() <= f64::from(w.abs()) * 1e-6 + 1e-9,
                "{ty:?} {i}"
            );
            if !layout.offsets {
                let half = f64::from(1u32 << (layout.bits - 1));
                assert_eq!(groups.offsets[i / n], -groups.steps[i / n] * half);
            }
        }
    }
}

#[test]
fn types_have_one_number_each() {
    for ty in TensorType::ALL {
        assert_eq!(TensorType::from_code(ty.code()), Some(ty));
    }
    assert_eq!(TensorType::from_code(4), None);
}

#[test]
fn numbers_that_are_none_are_refused() {
    let mut out = Vec::new();
    let nan = f32::NAN.to_le_bytes();
    assert!(TensorType::F32.dequantise("t", &nan, &mut out).is_err());
    let mut block = vec![0u8; 18];
    block[1] = 0x7c;
    assert!(TensorType::Q4_0.dequantise("t", &block, &mut out).is_err());
}

#[test]
fn hostile_files_are_refused_with_a_reason() {
    let refuse = |w: Writer, words: &str| {
        let error = Gguf::parse(&w.finish()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    let mut w = sample();
    w.key("a.bool", Value::Bool(false));
    refuse(w, "key `a.bool` twice");
    let mut w = sample();
    w.floats("one", &[1, 8], &[0.0; 8]);
    refuse(w, "tensor `one` twice");
    let mut w = sample();
    w.tensor("out", &[1 << 20, 1 << 10], TensorType::F32, vec![0; 8]);
    refuse(w, "leave the file");
    let mut w = sample();
    w.tensor("huge", &[1 << 33, 1 << 33], TensorType::F32, Vec::new());
    refuse(w, "elements accepted");
    let mut w = sample();
    w.tensor("ragged", &[1, 33], TensorType::Q4_0, vec![0; 36]);
    refuse(w, "blocks of 32");
    let mut w = sample();
    w.tensor("none", &[0], TensorType::F32, Vec::new());
    refuse(w, "elements accepted");
    let mut w = sample();
    w.tensor("deep", &[1, 1, 1, 1, 1], TensorType::F32, vec![0; 4]);
    refuse(w, "5 dimensions");
    let mut w = sample();
    w.key("general.alignment", Value::Unsigned(24));
    refuse(w, "general.alignment");
    let deep = Value::Nested(vec![Value::Nested(vec![Value::Integers(vec![1])])]);
    let mut w = sample();
    w.key("a.deep", deep);
    refuse(w, "nested");
    // counts far above what the file can hold, before anything is allocated
    let file = sample().finish();
    for at in [8, 16] {
        let mut f = file.clone();
        f[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(Gguf::parse(&f).is_err());
    }
    let mut f = file.clone();
    f[24..32].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
    assert!(Gguf::parse(&f).unwrap_err().to_string().contains("room"));
    let mut f = file.clone();
    f[4..8].copy_from_slice(&3u32.to_be_bytes());
    assert!(
        Gguf::parse(&f)
            .unwrap_err()
            .to_string()
            .contains("big endian")
    );
    let mut f = file;
    f[0] = b'g';
    assert!(Gguf::parse(&f).is_err());
}

#[test]
fn overlapping_tensors_and_unknown_types_are_refused() {
    let find = |file: &[u8], needle: &[u8]| {
        file.windows(needle.len())
            .position(|w| w == needle)
            .unwrap()
            + needle.len()
    };
    let file = sample().finish();
    // after the name: count of dimensions, two dimensions, type, offset
    let at = find(&file, b"\x03\0\0\0\0\0\0\0two") + 4 + 16;
    let mut f = file.clone();
    f[at + 4..at + 12].copy_from_slice(&0u64.to_le_bytes());
    assert!(Gguf::parse(&f).unwrap_err().to_string().contains("overlap"));
    let mut f = file.clone();
    f[at + 4] = 7;
    assert!(
        Gguf::parse(&f)
            .unwrap_err()
            .to_string()
            .contains("multiple of 32")
    );
    let mut f = file;
    f[at] = 99;
    assert!(matches!(
        Gguf::parse(&f),
        Err(ImportError::Unsupported { .. })
    ));
}

proptest! {
    #[test]
    fn damaged_files_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>()) {
        let mut file = sample().finish();
        for (at, byte) in &flips {
            let i = at.index(file.len());
            file[i] = *byte;
        }
        let _result = Gguf::parse(&file);
        file.truncate(cut.index(file.len()));
        prop_assert!(Gguf::parse(&file).is_err() || !file.is_empty());
    }

    #[test]
    fn any_bytes_dequantise_to_whole_blocks(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        for ty in TensorType::ALL {
            let (n, size) = ty.block();
            let mut groups = Groups::default();
            ty.groups(&bytes, &mut groups);
            let blocks = bytes.len() as u64 / size;
            if ty.layout().is_some() {
                prop_assert_eq!(groups.codes.len() as u64, blocks * n);
            }
            let mut out = Vec::new();
            if ty.dequantise("t", &bytes, &mut out).is_ok() {
                prop_assert_eq!(out.len() as u64, blocks * n);
            }
        }
    }
}
