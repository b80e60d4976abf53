//! The bundled model reads digits as well as its float original, on all held-out pictures.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::Arc;

use assay_engine::{Engine, EngineOptions};
use assay_graph::eval;
use assay_import::{
    Answer, CodecError, DIGIT_SAMPLES, Kind, Model, Request,
    codec::Image,
    digits,
    onnx::{OnnxOptions, lower},
};

/// Pins importer, weights and calibration at once; a change needs a new IMPORTER_VERSION.
const MODEL_ID: &str = "85099bd9a80afadb3b8d45a0d2756ac8836b9cb4d41dbab83e2edacea743a89e";

fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/digits")
}

fn held_out() -> (Vec<Vec<u8>>, Vec<usize>) {
    let image = Image::decode(&std::fs::read(root().join("heldout.png")).unwrap()).unwrap();
    let labels = std::fs::read_to_string(root().join("heldout.labels")).unwrap();
    (
        image.pixels.chunks_exact(784).map(<[u8]>::to_vec).collect(),
        labels.bytes().map(|b| usize::from(b - b'0')).collect(),
    )
}

fn png_of(pixels: &[u8], side: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder
        .write_header()
        .unwrap()
        .write_image_data(pixels)
        .unwrap();
    out
}

#[test]
fn integer_accuracy_is_within_a_fifth_of_a_point_of_float() {
    let (pictures, labels) = held_out();
    assert_eq!(pictures.len(), labels.len());
    let model = digits().unwrap();
    let engine = Engine::new(model.graph.clone(), EngineOptions::default()).unwrap();
    let float = lower(
        &std::fs::read(root().join("digits.onnx")).unwrap(),
        None,
        &OnnxOptions::default(),
    )
    .unwrap();
    let (mut right, mut float_right, mut same) = (0, 0, 0);
    for (picture, label) in pictures.iter().zip(&labels) {
        let output = engine
            .run(&model.encode(Request::Png(&png_of(picture, 28))).unwrap())
            .unwrap()
            .output;
        let Answer::Scores(scores) = model.decode(&output).unwrap() else {
            panic!("not a classifier")
        };
        let choice: usize = scores[0].0.parse().unwrap();
        let reals: Vec<f32> = picture.iter().map(|b| f32::from(*b) / 255.0).collect();
        let y = float.net.run(&float.input.to_stored(&reals));
        let float_choice = (0..10).fold(0, |b, i| if y[i] > y[b] { i } else { b });
        right += usize::from(choice == *label);
        float_right += usize::from(float_choice == *label);
        same += usize::from(choice == float_choice);
    }
    let percent = |n: usize| 100.0 * n as f64 / labels.len() as f64;
    println!(
        "digits: integer {:.2} %, float {:.2} %, same choice {:.2} % of {}",
        percent(right),
        percent(float_right),
        percent(same),
        labels.len()
    );
    assert!(percent(right) >= 98.5);
    assert!((percent(right) - percent(float_right)).abs() <= 0.2);
}

#[test]
fn samples_are_read_and_the_definition_agrees_with_the_engine() {
    let model = digits().unwrap();
    assert_eq!(model.manifest.kind, Kind::Image);
    let engine = Engine::new(model.graph.clone(), EngineOptions::default()).unwrap();
    for (name, png) in DIGIT_SAMPLES {
        let input = model.encode(Request::Png(png)).unwrap();
        let output = engine.run(&input).unwrap().output;
        assert_eq!(
            eval::run(&model.graph, &input).unwrap().last(),
            Some(&output)
        );
        let Answer::Scores(scores) = model.decode(&output).unwrap() else {
            panic!("not a classifier")
        };
        assert_eq!(format!("{}.png", scores[0].0), name);
        assert!(scores[0].1 > 0.5 && (scores.iter().map(|s| s.1).sum::<f32>() - 1.0).abs() < 1e-4);
    }
}

#[test]
fn model_id_is_pinned_and_survives_save_and_load() {
    let model = digits().unwrap();
    assert_eq!(model.manifest.model_id, MODEL_ID);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("digits");
    model.save(&path).unwrap();
    model.save(&path).unwrap();
    let again = Model::load(&path).unwrap();
    assert_eq!(again.id(), model.id());
    assert_eq!(*again.manifest, *model.manifest);
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "no staging directory stays"
    );
    // one byte of the graph changed: refused
    let file = path.join(assay_import::GRAPH_FILE);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert!(Model::load(&path).is_err());
}

#[test]
fn every_block_can_be_judged_in_one_transaction() {
    // one block needs at most the whole input of its node and the whole weights: both small here
    let model = digits().unwrap();
    let graph = &model.graph;
    assert_eq!(graph.header().block_bits, 12);
    for (node, ty) in graph.nodes().iter().zip(graph.types()) {
        let inputs: usize = node
            .inputs
            .iter()
            .map(|i| graph.types()[*i as usize].len(1) * graph.types()[*i as usize].dtype.size())
            .sum();
        let weights = match node.op {
            assay_graph::Op::Linear { weights, .. } | assay_graph::Op::Conv2d { weights, .. } => {
                graph.consts()[weights as usize].bytes().len()
            }
            _ => 0,
        };
        let rows = ty.len(1).min(4096 / ty.dtype.size());
        let macs = weights
            .checked_div(ty.shape.last().map_or(1, |d| d.at(1.into()) as usize))
            .unwrap_or(0)
            * rows;
        assert!(
            inputs + weights <= 256 << 10 && macs <= 4_000_000,
            "{inputs} + {weights} bytes, {macs} multiply-adds"
        );
    }
}

#[test]
fn pictures_of_other_sizes_fit_by_whole_factors_only() {
    let model = digits().unwrap();
    let (pictures, _) = held_out();
    let doubled: Vec<u8> = (0..56 * 56)
        .map(|i| pictures[0][i / 112 * 28 + i % 56 / 2])
        .collect();
    assert_eq!(
        model.encode(Request::Png(&png_of(&doubled, 56))).unwrap(),
        model
            .encode(Request::Png(&png_of(&pictures[0], 28)))
            .unwrap()
    );
    let error = model
        .encode(Request::Png(&png_of(&vec![0; 900], 30)))
        .unwrap_err();
    assert_eq!(
        error,
        CodecError::ImageSize {
            have_width: 30,
            have_height: 30,
            want_width: 28,
            want_height: 28
        }
    );
    assert_eq!(
        model.encode(Request::Text("seven")).unwrap_err(),
        CodecError::Kind {
            have: "text",
            want: "an image"
        }
    );
    let _: Arc<assay_graph::Graph> = model.graph;
}
