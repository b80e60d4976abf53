//! ONNX files as whole models: manifest, codec, save and load.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use assay_engine::{Engine, EngineOptions};
use assay_import::{
    Answer, CodecError, Kind, Model, Request,
    onnx::OnnxOptions,
    recipes::{About, ImageUse, OnnxUse, import_onnx},
};
use common::{Fixture, fixture};

fn about(name: &str) -> About {
    About {
        name: name.into(),
        description: "a test".into(),
        licence: "MIT".into(),
    }
}

fn settings(f: &Fixture) -> OnnxUse {
    OnnxUse {
        options: OnnxOptions {
            output: Some(f.output.clone()),
            ..OnnxOptions::default()
        },
        range: f.range,
        calibration: f.inputs.clone(),
        ..OnnxUse::default()
    }
}

fn run(model: &Model, request: Request<'_>) -> Answer {
    let engine = Engine::new(model.graph.clone(), EngineOptions::default()).unwrap();
    model
        .decode(&engine.run(&model.encode(request).unwrap()).unwrap().output)
        .unwrap()
}

fn numbers(x: &[f32]) -> Vec<f64> {
    x.iter().map(|v| f64::from(*v)).collect()
}

#[test]
fn numbers_go_in_and_come_out_in_the_order_of_the_file() {
    for name in [
        "torch_cnn",
        "torch_sequence",
        "sklearn_mlp",
        "keras_cnn",
        "torch_encoder",
    ] {
        let f = fixture(name);
        let model = import_onnx(&f.onnx, None, &settings(&f), &about(name)).unwrap();
        assert_eq!(model.manifest.kind, Kind::Tensor);
        for (x, want) in f.inputs.iter().zip(&f.outputs) {
            let Answer::Numbers { dims, values } = run(&model, Request::Numbers(&numbers(x)))
            else {
                panic!("{name}")
            };
            assert_eq!(dims.iter().product::<usize>(), want.len());
            for (a, b) in values.iter().zip(want) {
                assert!((a - b).abs() < 0.06, "{name}: {a} {b}");
            }
        }
        let wrong = model.encode(Request::Numbers(&[0.0])).unwrap_err();
        assert!(matches!(wrong, CodecError::Size { have: 1, .. }));
        let mut bad = numbers(&f.inputs[0]);
        bad[0] = f64::NAN;
        assert_eq!(
            model.encode(Request::Numbers(&bad)),
            Err(CodecError::NotANumber { index: 0 })
        );
        let dir = tempfile::tempdir().unwrap();
        model.save(&dir.path().join(name)).unwrap();
        assert_eq!(
            Model::load(&dir.path().join(name)).unwrap().id(),
            model.id()
        );
    }
}

#[test]
fn a_picture_and_its_numbers_make_the_same_tensor() {
    // channels first in the file, [h, w, c] in the graph; and channels last in the file
    for (name, side, channels_first) in [("torch_cnn", 20usize, true), ("keras_cnn", 16, false)] {
        let f = fixture(name);
        let plain = import_onnx(&f.onnx, None, &settings(&f), &about(name)).unwrap();
        let labels: Vec<String> = (0..f.outputs[0].len())
            .map(|i| format!("class {i}"))
            .collect();
        let image = OnnxUse {
            image: Some(ImageUse {
                mean: vec![0.0; 3],
                std: vec![1.0; 3],
            }),
            labels,
            ..settings(&f)
        };
        let model = import_onnx(&f.onnx, None, &image, &about(name)).unwrap();
        assert_eq!(model.manifest.kind, Kind::Image);
        assert_eq!(model.id(), plain.id());
        let pixels: Vec<u8> = (0..side * side * 3).map(|i| (i * 37 % 256) as u8).collect();
        let mut png = Vec::new();
        let mut encoder = png::Encoder::new(&mut png, side as u32, side as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder
            .write_header()
            .unwrap()
            .write_image_data(&pixels)
            .unwrap();
        let real = |row: usize, column: usize, c: usize| {
            f64::from(pixels[(row * side + column) * 3 + c]) / 255.0
        };
        let cells: Vec<(usize, usize)> = (0..side)
            .flat_map(|r| (0..side).map(move |c| (r, c)))
            .collect();
        let values: Vec<f64> = if channels_first {
            (0..3)
                .flat_map(|k| {
                    cells
                        .iter()
                        .map(move |(r, c)| real(*r, *c, k))
                        .collect::<Vec<_>>()
                })
                .collect()
        } else {
            cells
                .iter()
                .flat_map(|(r, c)| (0..3).map(|k| real(*r, *c, k)).collect::<Vec<_>>())
                .collect()
        };
        assert_eq!(
            model.encode(Request::Png(&png)).unwrap(),
            plain.encode(Request::Numbers(&values)).unwrap(),
            "{name}"
        );
        let Answer::Scores(scores) = run(&model, Request::Png(&png)) else {
            panic!("{name}")
        };
        assert!(scores.windows(2).all(|w| w[0].1 >= w[1].1));
    }
}

#[test]
fn without_samples_random_ones_are_drawn_from_a_fixed_seed() {
    let f = fixture("sklearn_mlp");
    let without = OnnxUse {
        calibration: Vec::new(),
        ..settings(&f)
    };
    let a = import_onnx(&f.onnx, None, &without, &about("a")).unwrap();
    let b = import_onnx(&f.onnx, None, &without, &about("b")).unwrap();
    assert_eq!(a.id(), b.id());
    assert!(a.manifest.accuracy[0].data.starts_with("random"));
    assert!(a.manifest.bounds.largest > 0 && a.manifest.bounds.largest <= a.manifest.bounds.limit);
}

#[test]
fn labels_must_fit_the_output() {
    let f = fixture("sklearn_mlp");
    let wrong = OnnxUse {
        labels: vec!["one".into()],
        ..settings(&f)
    };
    assert!(import_onnx(&f.onnx, None, &wrong, &about("x")).is_err());
    let picture = OnnxUse {
        image: Some(ImageUse {
            mean: vec![0.0],
            std: vec![1.0],
        }),
        ..settings(&f)
    };
    assert!(import_onnx(&f.onnx, None, &picture, &about("x")).is_err());
}
