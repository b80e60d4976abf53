//! MiniLM-L6: float reference against onnxruntime, integer graph against float reference, retrieval.
//!
//! These tests need the model (91 MB, fetched once into the cache). Without it they say so and pass.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::sync::OnceLock;

use assay_engine::{Engine, EngineOptions};
use assay_import::{
    Answer, Cache, CodecError, Model, Quiet, Request,
    bert::{BertConfig, BertWeights, Forward, NoProbe},
    catalogue, open, pull,
    recipes::{cosine, cosines},
};
use serde::Deserialize;

struct Fixture {
    model: Model,
    config: BertConfig,
    weights: BertWeights,
}

/// Pins importer, weights and calibration at once; a change needs a new IMPORTER_VERSION.
const MODEL_ID: &str = "fe85b1e20638378d5ac7e1096fd3be9199e1f0812182373539459e82a200e26a";

fn fixture() -> Option<&'static Fixture> {
    static CELL: OnceLock<Option<Fixture>> = OnceLock::new();
    CELL.get_or_init(|| {
        let cache = Cache::from_environment().unwrap();
        let entry = catalogue::find("minilm-l6").unwrap();
        let files = match pull::fetch(entry, &cache, &mut Quiet) {
            Ok(files) => files,
            Err(e) => {
                eprintln!("SKIPPED: {e}");
                return None;
            }
        };
        let read = |i: usize| std::fs::read(&files[i]).unwrap();
        let config = BertConfig::parse(&read(1)).unwrap();
        let weights = BertWeights::parse(&read(0), &config).unwrap();
        Some(Fixture {
            model: open("minilm-l6", &cache, &mut Quiet).unwrap(),
            config,
            weights,
        })
    })
    .as_ref()
}

fn wide(v: &[f32]) -> Vec<f64> {
    v.iter().map(|x| f64::from(*x)).collect()
}

#[test]
fn float_reference_matches_onnxruntime() {
    #[derive(Deserialize)]
    struct Reference {
        sentences: Vec<String>,
        ids: Vec<Vec<u32>>,
        vectors: Vec<Vec<f64>>,
    }
    let Some(f) = fixture() else { return };
    let reference: Reference =
        serde_json::from_slice(&std::fs::read(common::data("minilm_reference.json")).unwrap())
            .unwrap();
    let forward = Forward {
        config: &f.config,
        weights: &f.weights,
    };
    let text = f.model.codec().text().unwrap();
    for ((sentence, ids), vector) in reference
        .sentences
        .iter()
        .zip(&reference.ids)
        .zip(&reference.vectors)
    {
        assert_eq!(&text.encode(sentence).unwrap(), ids, "{sentence}");
        let c = cosine(&wide(&forward.run(ids, &mut NoProbe)), vector);
        assert!(c > 0.999_999, "{sentence}: {c}");
    }
    assert!(reference.sentences.len() >= 20);
}

#[test]
fn integer_vectors_stay_close_to_float_on_held_out_sentences() {
    let Some(f) = fixture() else { return };
    let text = f.model.codec().text().unwrap();
    let held = std::fs::read_to_string(common::data("minilm_heldout.txt")).unwrap();
    let ids: Vec<Vec<u32>> = held.lines().map(|l| text.encode(l).unwrap()).collect();
    assert!(ids.len() >= 200);
    let forward = Forward {
        config: &f.config,
        weights: &f.weights,
    };
    let c = cosines(&f.model.graph, &forward, &ids).unwrap();
    let mean = c.iter().sum::<f64>() / c.len() as f64;
    let (worst, at) = c
        .iter()
        .enumerate()
        .fold((1.0, 0), |b, (i, v)| if *v < b.0 { (*v, i) } else { b });
    println!(
        "minilm: {} sentences, {} tokens, cosine mean {mean:.5}, worst {worst:.5} ({})",
        c.len(),
        ids.iter().map(Vec::len).sum::<usize>(),
        held.lines().nth(at).unwrap()
    );
    assert!(mean >= 0.995 && worst >= 0.98, "gates");
    assert!(mean >= 0.997 && worst >= 0.985, "what the recipe reaches");
}

#[test]
fn queries_find_their_passages_as_well_as_in_float() {
    let Some(f) = fixture() else { return };
    let pairs: Vec<[String; 2]> =
        serde_json::from_slice(&std::fs::read(common::data("minilm_retrieval.json")).unwrap())
            .unwrap();
    let engine = Engine::new(f.model.graph.clone(), EngineOptions::default()).unwrap();
    let forward = Forward {
        config: &f.config,
        weights: &f.weights,
    };
    let text = f.model.codec().text().unwrap();
    let integer = |s: &str| {
        let Answer::Embedding(v) = f
            .model
            .decode(
                &engine
                    .run(&f.model.encode(Request::Text(s)).unwrap())
                    .unwrap()
                    .output,
            )
            .unwrap()
        else {
            panic!("no vector")
        };
        assert!((v.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-4);
        wide(&v)
    };
    let float = |s: &str| wide(&forward.run(&text.encode(s).unwrap(), &mut NoProbe));
    let ranks = |embed: &dyn Fn(&str) -> Vec<f64>| -> (Vec<usize>, Vec<usize>) {
        let passages: Vec<Vec<f64>> = pairs.iter().map(|p| embed(&p[1])).collect();
        pairs
            .iter()
            .enumerate()
            .map(|(i, p)| {
                let q = embed(&p[0]);
                let scores: Vec<f64> = passages.iter().map(|v| cosine(&q, v)).collect();
                let first =
                    (0..scores.len()).fold(0, |b, j| if scores[j] > scores[b] { j } else { b });
                (scores.iter().filter(|s| **s > scores[i]).count(), first)
            })
            .unzip()
    };
    let ((have, first), (want, float_first)) = (ranks(&integer), ranks(&float));
    let top = |r: &[usize]| r.iter().filter(|r| **r == 0).count();
    let same = first
        .iter()
        .zip(&float_first)
        .filter(|(a, b)| a == b)
        .count();
    println!(
        "retrieval: {} of {} first in integers, {} in float, same first {same}",
        top(&have),
        pairs.len(),
        top(&want)
    );
    assert!(top(&have) + 1 >= top(&want) && same * 100 >= pairs.len() * 95);
}

#[test]
fn model_id_is_pinned_and_the_second_start_is_fast() {
    let Some(f) = fixture() else { return };
    assert_eq!(f.model.manifest.model_id, MODEL_ID);
    let begin = std::time::Instant::now();
    let again = open("minilm-l6", &Cache::from_environment().unwrap(), &mut Quiet).unwrap();
    println!("second start: {:?}", begin.elapsed());
    assert_eq!(again.id(), f.model.id());
}

#[test]
fn too_long_texts_are_refused_with_both_numbers() {
    let Some(f) = fixture() else { return };
    let error = f
        .model
        .encode(Request::Text(&"word ".repeat(255)))
        .unwrap_err();
    assert_eq!(
        error,
        CodecError::TooLong {
            tokens: 257,
            limit: 256
        }
    );
    assert!(f.model.encode(Request::Text(&"word ".repeat(254))).is_ok());
    assert!(matches!(
        f.model.encode(Request::Ids(&[101, 40_000, 102])),
        Err(CodecError::Id { id: 40_000, .. })
    ));
    assert!(matches!(
        f.model.encode(Request::Ids(&[])),
        Err(CodecError::TooLong { tokens: 0, .. })
    ));
}
