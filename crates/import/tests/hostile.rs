//! Broken and hostile files are refused with typed errors; nothing panics, nothing allocates what a few bytes ask for.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::collections::BTreeMap;

use assay_import::{
    CodecError, ImportError, Model, Request,
    bert::{BertConfig, BertWeights},
    codec::TextCodec,
    digits,
    manifest::Manifest,
    onnx::{OnnxOptions, lower},
    quantise::{Calibration, Profile, quantise},
};
use proptest::prelude::*;

/// A writer of protobuf messages, enough to make small ONNX files by hand.
#[derive(Clone, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.0.push(v as u8 | 0x80);
            v >>= 7;
        }
        self.0.push(v as u8);
    }
    fn int(mut self, tag: u64, v: i64) -> Self {
        self.varint(tag << 3);
        self.varint(v as u64);
        self
    }
    fn bytes(mut self, tag: u64, v: &[u8]) -> Self {
        self.varint(tag << 3 | 2);
        self.varint(v.len() as u64);
        self.0.extend(v);
        self
    }
    fn text(self, tag: u64, v: &str) -> Self {
        self.bytes(tag, v.as_bytes())
    }
    fn message(self, tag: u64, v: &Self) -> Self {
        self.bytes(tag, &v.0)
    }
}

fn value(name: &str, dims: &[i64]) -> Message {
    let shape = dims.iter().fold(Message::default(), |m, d| {
        m.message(1, &Message::default().int(1, *d))
    });
    let tensor = Message::default().int(1, 1).message(2, &shape);
    Message::default()
        .text(1, name)
        .message(2, &Message::default().message(1, &tensor))
}

fn node(op: &str, inputs: &[&str], output: &str) -> Message {
    let m = inputs.iter().fold(Message::default(), |m, i| m.text(1, i));
    m.text(2, output)
        .text(3, &format!("{op}-{output}"))
        .text(4, op)
}

fn tensor(name: &str, dims: &[i64], floats: &[f32]) -> Message {
    let raw: Vec<u8> = floats.iter().flat_map(|f| f.to_le_bytes()).collect();
    dims.iter()
        .fold(Message::default(), |m, d| m.int(1, *d))
        .int(2, 1)
        .text(8, name)
        .bytes(9, &raw)
}

fn ints(name: &str, values: &[i64]) -> Message {
    let raw: Vec<u8> = values.iter().flat_map(|f| f.to_le_bytes()).collect();
    Message::default()
        .int(1, values.len() as i64)
        .int(2, 7)
        .text(8, name)
        .bytes(9, &raw)
}

fn model(nodes: &[Message], constants: &[Message], input: &[i64]) -> Vec<u8> {
    let mut graph = Message::default();
    for n in nodes {
        graph = graph.message(1, n);
    }
    for c in constants {
        graph = graph.message(5, c);
    }
    graph = graph
        .message(11, &value("x", input))
        .message(12, &value("y", &[1]));
    Message::default()
        .int(1, 8)
        .message(7, &graph)
        .message(8, &Message::default().int(2, 17))
        .0
}

fn refused(bytes: &[u8]) -> ImportError {
    lower(bytes, None, &OnnxOptions::default())
        .map(|l| l.net.nodes.len())
        .unwrap_err()
}

#[test]
fn a_small_file_by_hand_is_accepted() {
    let bytes = model(
        &[node("MatMul", &["x", "w"], "h"), node("Relu", &["h"], "y")],
        &[tensor("w", &[2, 1], &[1.0, -2.0])],
        &[1, 2],
    );
    let lowered = lower(&bytes, None, &OnnxOptions::default()).unwrap();
    assert_eq!(lowered.net.run(&[5.0, 1.0]), [3.0]);
    assert_eq!(lowered.net.run(&[1.0, 1.0]), [0.0]);
}

#[test]
fn unknown_operators_are_named_with_their_node() {
    let error = refused(&model(&[node("LSTM", &["x"], "y")], &[], &[1, 2]));
    let ImportError::Unsupported { op, node: at, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((op.as_str(), at.as_str()), ("LSTM", "LSTM-y"));
    for op in ["If", "Loop", "Scan", "NonZero", "TopK", "ConvTranspose"] {
        assert!(
            matches!(
                refused(&model(&[node(op, &["x"], "y")], &[], &[1, 2])),
                ImportError::Unsupported { .. }
            ),
            "{op}"
        );
    }
}

#[test]
fn cycles_and_missing_producers_are_refused() {
    let cycle = model(
        &[
            node("Relu", &["b"], "a"),
            node("Relu", &["a"], "b"),
            node("Add", &["x", "b"], "y"),
        ],
        &[],
        &[1, 2],
    );
    assert!(refused(&cycle).to_string().contains("cycle"));
    assert!(matches!(
        refused(&model(&[node("Relu", &["nothing"], "y")], &[], &[1, 2])),
        ImportError::Missing { .. }
    ));
    let twice = model(
        &[node("Relu", &["x"], "y"), node("Tanh", &["x"], "y")],
        &[],
        &[1, 2],
    );
    assert!(refused(&twice).to_string().contains("two producers"));
}

#[test]
fn sizes_are_checked_before_memory_is_taken() {
    // a kilobyte that asks for terabytes
    let huge = [1i64 << 31, 1 << 31];
    assert!(matches!(
        refused(&model(
            &[node("MatMul", &["x", "w"], "y")],
            &[tensor("w", &huge, &[1.0])],
            &[1, 2]
        )),
        ImportError::Limit { .. }
    ));
    assert!(matches!(
        refused(&model(&[node("Relu", &["x"], "y")], &[], &[1, 1 << 40])),
        ImportError::Malformed { .. }
    ));
    assert!(matches!(
        refused(&model(&[node("Relu", &["x"], "y")], &[], &[1, 1 << 30])),
        ImportError::Limit { .. }
    ));
    for op in ["ConstantOfShape", "Expand"] {
        let inputs: &[&str] = if op == "Expand" {
            &["one", "shape"]
        } else {
            &["shape"]
        };
        let constants = [
            ints("shape", &[1 << 20, 1 << 20]),
            tensor("one", &[1], &[1.0]),
        ];
        let bytes = model(
            &[node(op, inputs, "c"), node("Add", &["x", "c"], "y")],
            &constants,
            &[1, 2],
        );
        assert!(
            matches!(refused(&bytes), ImportError::Limit { .. }),
            "{op}: {}",
            refused(&bytes)
        );
    }
    let range = [ints("a", &[0]), ints("b", &[i64::MAX]), ints("s", &[1])];
    let scalar = |m: &Message| Message(m.0.clone());
    let bytes = model(
        &[
            node("Range", &["a", "b", "s"], "c"),
            node("Add", &["x", "c"], "y"),
        ],
        &range.iter().map(scalar).collect::<Vec<_>>(),
        &[1, 2],
    );
    assert!(
        matches!(refused(&bytes), ImportError::Limit { .. }),
        "{}",
        refused(&bytes)
    );
}

#[test]
fn values_that_are_not_numbers_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = refused(&model(
            &[node("MatMul", &["x", "w"], "y")],
            &[tensor("w", &[2, 1], &[1.0, bad])],
            &[1, 2],
        ));
        assert!(
            matches!(&error, ImportError::NotFinite { tensor, index: 1 } if tensor == "w"),
            "{error}"
        );
    }
    // one that folding makes
    let constants = [tensor("a", &[1], &[1.0]), tensor("z", &[1], &[0.0])];
    let bytes = model(
        &[node("Div", &["a", "z"], "c"), node("Add", &["x", "c"], "y")],
        &constants,
        &[1, 2],
    );
    assert!(matches!(refused(&bytes), ImportError::NotFinite { .. }));
}

#[test]
fn external_data_stays_inside_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("model");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(dir.path().join("secret"), [0u8; 8]).unwrap();
    std::fs::write(folder.join("data"), [0u8; 8]).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(dir.path().join("secret"), folder.join("link")).unwrap();
    let with = |location: &str, offset: &str| {
        let entry = |k: &str, v: &str| Message::default().text(1, k).text(2, v);
        let w = Message::default()
            .int(1, 2)
            .int(1, 1)
            .int(2, 1)
            .text(8, "w")
            .int(14, 1)
            .message(13, &entry("location", location))
            .message(13, &entry("offset", offset));
        lower(
            &model(&[node("MatMul", &["x", "w"], "y")], &[w], &[1, 2]),
            Some(&folder),
            &OnnxOptions::default(),
        )
    };
    assert!(with("data", "0").is_ok());
    for (location, offset) in [
        ("../secret", "0"),
        ("link", "0"),
        ("/etc/hostname", "0"),
        ("data", "4"),
        ("data", "18446744073709551615"),
        ("absent", "0"),
    ] {
        assert!(with(location, offset).is_err(), "{location} {offset}");
    }
}

#[test]
fn other_opsets_and_empty_files_are_refused() {
    assert!(matches!(refused(&[]), ImportError::Malformed { .. }));
    let graph = Message::default()
        .message(11, &value("x", &[1, 2]))
        .message(12, &value("x", &[1, 2]));
    for version in [0, 10, 22, i64::MAX] {
        let bytes = Message::default()
            .message(7, &graph)
            .message(8, &Message::default().int(2, version))
            .0;
        assert!(refused(&bytes).to_string().contains("opset"));
    }
    let bytes = Message::default()
        .message(7, &graph)
        .message(8, &Message::default().int(2, 13))
        .0;
    assert!(
        refused(&bytes).to_string().contains("depend"),
        "{}",
        refused(&bytes)
    );
}

#[test]
fn bounds_that_no_clamp_can_keep_are_refused_or_kept() {
    // 4,096 weights of the same size: i16 inputs must be lowered until the sum fits
    let w: Vec<f32> = vec![1.0; 4096];
    let bytes = model(
        &[node("MatMul", &["x", "w"], "y")],
        &[tensor("w", &[4096, 1], &w)],
        &[1, 4096],
    );
    let lowered = lower(&bytes, None, &OnnxOptions::default()).unwrap();
    let calibration = Calibration {
        range: (-1.0, 1.0),
        inputs: vec![vec![0.5; 4096]],
    };
    for profile in [Profile::A8, Profile::A16, Profile::W12] {
        let q = quantise(&lowered.net, &calibration, profile, 12).unwrap();
        // every input at the end of its range
        let y = q.run(&vec![1.0; 4096]).unwrap();
        assert!(y[0] > 2000.0, "{profile:?}: {y:?}");
    }
}

#[test]
fn configs_and_safetensors_are_checked() {
    let good = r#"{"model_type":"bert","hidden_size":32,"intermediate_size":64,"num_attention_heads":4,"num_hidden_layers":1,"vocab_size":100,
        "max_position_embeddings":16,"type_vocab_size":2,"layer_norm_eps":1e-12,"hidden_act":"gelu"}"#;
    let config = BertConfig::parse(good.as_bytes()).unwrap();
    for (from, to) in [
        ("\"hidden_size\":32", "\"hidden_size\":99999999"),
        ("\"hidden_size\":32", "\"hidden_size\":33"),
        ("\"hidden_size\":32", "\"hidden_size\":0"),
        (
            "\"num_hidden_layers\":1",
            "\"num_hidden_layers\":4000000000",
        ),
        ("gelu", "relu"),
        ("\"bert\"", "\"gpt2\""),
        ("1e-12", "-1"),
    ] {
        assert!(
            BertConfig::parse(good.replace(from, to).as_bytes()).is_err(),
            "{to}"
        );
    }
    let header = br#"{"embeddings.token_type_embeddings.weight":{"dtype":"F32","shape":[2,32],"data_offsets":[0,256]}}"#;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend([0u8; 256]);
    let error = BertWeights::parse(&file, &config).unwrap_err();
    assert!(
        matches!(&error, ImportError::Missing { name, .. } if name.contains("position")),
        "{error}"
    );
    for bad in [&file[..4], &file[..20], &[255u8; 64][..], &[]] {
        assert!(matches!(
            BertWeights::parse(bad, &config),
            Err(ImportError::Malformed { .. })
        ));
    }
}

#[test]
fn manifests_that_do_not_fit_their_graph_are_refused() {
    let model = digits().unwrap();
    let json = String::from_utf8(model.manifest.to_json().unwrap()).unwrap();
    let make = |from: &str, to: &str| {
        assert!(json.contains(from), "{from}");
        Manifest::parse(json.replace(from, to).as_bytes())
            .and_then(|m| Model::new(m, (*model.graph).clone(), None))
            .map(|_| ())
    };
    assert!(make("\"digits\"", "\"other\"").is_ok());
    for (from, to) in [
        ("\"height\": 28", "\"height\": 27"),
        ("\"height\": 28", "\"height\": 4294967295"),
        ("\"channels\": 1", "\"channels\": 2"),
        ("\"version\": 1", "\"version\": 2"),
        ("\"9\"", "\"9\", \"10\""),
        ("\"model_id\": \"", "\"model_id\": \"0"),
    ] {
        assert!(make(from, to).is_err(), "{to}");
    }
}

#[test]
fn tokenizers_and_requests_are_checked() {
    assert!(matches!(
        TextCodec::new(b"{}", 8),
        Err(CodecError::Tokenizer { .. })
    ));
    assert!(matches!(
        TextCodec::new(b"not json", 8),
        Err(CodecError::Tokenizer { .. })
    ));
    let model = digits().unwrap();
    assert!(matches!(
        model.encode(Request::Png(b"GIF89a")),
        Err(CodecError::Png { .. })
    ));
    assert!(matches!(
        model.encode(Request::Numbers(&[0.0])),
        Err(CodecError::Kind { .. })
    ));
}

#[test]
fn a_shape_can_be_given_for_open_dimensions() {
    let bytes = model(&[node("Relu", &["x"], "y")], &[], &[1, 0]);
    assert!(refused(&bytes).to_string().contains("not fixed"));
    let options = OnnxOptions {
        shapes: BTreeMap::from([("x".to_owned(), vec![1, 5])]),
        output: None,
    };
    assert_eq!(lower(&bytes, None, &options).unwrap().input.dims, [1, 5]);
    let options = OnnxOptions {
        shapes: BTreeMap::new(),
        output: Some("z".into()),
    };
    assert!(matches!(
        lower(&bytes, None, &options),
        Err(ImportError::Missing { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_never_panic(at in 0usize..1 << 20, flip in 1u8.., cut in 0usize..1 << 20, which in 0usize..4) {
        let name = ["torch_cnn", "torch_sequence", "sklearn_pipeline", "keras_mlp"][which];
        let mut bytes = common::fixture(name).onnx;
        let at = at % bytes.len();
        bytes[at] ^= flip;
        if cut % 3 == 0 {
            bytes.truncate(cut % bytes.len());
        }
        if let Ok(lowered) = lower(&bytes, None, &OnnxOptions::default()) {
            let size = lowered.net.input_dims().iter().product();
            let calibration = Calibration { range: (-1.0, 1.0), inputs: vec![vec![0.5; size]] };
            let _refused = quantise(&lowered.net, &calibration, Profile::A8, 12);
        }
    }

    #[test]
    fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(lower(&bytes, None, &OnnxOptions::default()).is_err());
        prop_assert!(Manifest::parse(&bytes).is_err());
        prop_assert!(digits_refuses(&bytes));
    }
}

fn digits_refuses(png: &[u8]) -> bool {
    assay_import::codec::Image::decode(png).is_err()
}
