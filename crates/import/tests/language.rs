//! Import of language models from end to end, on small models of random weights.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::sync::Arc;

use assay_graph::{Data, Op, Statement, Tensor, eval};
use assay_import::{
    Answer, Cache, ImportError, Model, Quiet, Request,
    gguf::{TensorType, Value, Writer},
    language::{
        Checkpoint, Folder, Recipe, Widths, build, compare, import_language,
        measure::integer_logits, positions, sample::Sample, windows,
    },
    recipes::About,
};
use assay_text::{Message, Role};

fn checkpoint(sample: &Sample) -> Checkpoint {
    Checkpoint::from_gguf("sample.gguf", &Arc::new(sample.gguf())).unwrap()
}

fn about() -> About {
    About {
        name: "sample".into(),
        ..About::default()
    }
}

#[test]
fn every_storage_type_follows_the_float_reference() {
    for ty in TensorType::ALL
        .into_iter()
        .filter(|t| *t != TensorType::F16)
    {
        let blocks_of_256 = ty.block().0 == 256;
        let sample = Sample {
            architecture: if blocks_of_256 { "qwen2" } else { "llama" },
            width: if blocks_of_256 { 256 } else { 64 },
            feed: if blocks_of_256 { 512 } else { 96 },
            biases: blocks_of_256,
            ty,
            ..Sample::default()
        };
        let c = checkpoint(&sample);
        let recipe = Recipe::calibrate(&c, Widths::default(), &mut Quiet).unwrap();
        let decoder = build(&c.weights, &recipe.scales, recipe.widths, 64).unwrap();
        let (_, held) = windows(&c).unwrap();
        let agreement = compare(&c.weights, &decoder.graph, &held).unwrap();
        println!(
            "{ty:?}: {:.4} of {} positions, divergence {:.6}",
            agreement.top1(),
            agreement.positions,
            agreement.mean_divergence()
        );
        assert!(
            agreement.top1() > 0.93 && agreement.mean_divergence() < 1e-3,
            "{ty:?}"
        );
    }
}

#[test]
fn a_folder_and_a_gguf_file_of_the_same_weights_are_the_same_model() {
    for architecture in ["llama", "qwen2"] {
        let sample = Sample {
            architecture,
            biases: true,
            ty: TensorType::BF16,
            ..Sample::default()
        };
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in sample.folder() {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let a = checkpoint(&sample);
        let b = Checkpoint::from(Folder::read(folder.path()).unwrap());
        assert_eq!(a.text.stop, b.text.stop);
        let recipe = Recipe::calibrate(&a, Widths::default(), &mut Quiet).unwrap();
        let import = |c| import_language(c, &about(), Some(&recipe), &mut Quiet).unwrap();
        assert_eq!(import(&a).id(), import(&b).id(), "{architecture}");
    }
}

#[test]
fn the_evaluator_of_reports_is_the_definition() {
    let c = checkpoint(&Sample {
        ty: TensorType::Q4_1,
        ..Sample::default()
    });
    let recipe = Recipe::calibrate(&c, Widths::default(), &mut Quiet).unwrap();
    let graph = build(&c.weights, &recipe.scales, recipe.widths, 64)
        .unwrap()
        .graph;
    let tokens: Vec<u32> = (0..12).map(|i| (i * 37 + 5) % 259).collect();
    let mut fast = Vec::new();
    integer_logits(&graph, std::slice::from_ref(&tokens), |_, l| {
        fast.extend_from_slice(l)
    })
    .unwrap();
    let input = Tensor::new(
        vec![12],
        Data::I32(tokens.iter().map(|t| *t as i32).collect()),
    )
    .unwrap();
    let all = eval::run_with(&graph, &input, 4, Some(&Statement::default())).unwrap();
    let node = graph
        .nodes()
        .iter()
        .position(|n| matches!(n.op, Op::Adjust { .. }))
        .unwrap()
        - 1;
    let slow = all[node].data.to_i32();
    assert_eq!(slow.len(), 4 * 259);
    for (a, b) in fast[8 * 259..].iter().zip(&slow) {
        assert_eq!(*a as i32, *b);
    }
    // greedy: the first largest logit of each row
    let chosen = all.last().unwrap().data.to_i32();
    for (row, token) in slow.chunks(259).zip(chosen) {
        let best = row.iter().max().unwrap();
        assert_eq!(row.iter().position(|v| v == best).unwrap() as i32, token);
    }
}

#[test]
fn a_model_is_saved_and_loaded_with_its_language() {
    let c = checkpoint(&Sample::default());
    let model = import_language(&c, &about(), None, &mut Quiet).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sample");
    model.save(&path).unwrap();
    let loaded = Model::load(&path).unwrap();
    assert_eq!(loaded.id(), model.id());
    assert_eq!(loaded.manifest, model.manifest);
    let language = loaded.language().unwrap();
    assert_eq!((language.context, language.vocabulary), (64, 259));
    assert_eq!(language.stop, [256, 258]);
    let chat = [Message::new(Role::User, "Hi<|im_end|>")];
    let Data::I32(ids) = loaded.encode(Request::Chat(&chat)).unwrap().data else {
        panic!("ids are i32");
    };
    assert_eq!(
        ids.iter().filter(|id| **id == 258).count(),
        1,
        "text is no control token"
    );
    let text = loaded.encode(Request::Text("ab")).unwrap().data.to_i32();
    assert_eq!(text.len(), 2);
    let output = Tensor::new(vec![3], Data::I32(vec![text[0], text[1], 258])).unwrap();
    let Answer::Tokens { ids, text } = loaded.decode(&output).unwrap() else {
        panic!("not tokens");
    };
    assert_eq!((ids.len(), text.as_str()), (3, "ab"));
    assert!(loaded.encode(Request::Ids(&[259])).is_err());
    // another template, tokenizer or recipe is another model
    for file in ["template.jinja", "recipe.json", "tokenizer.json"] {
        let other = path.join(file);
        let kept = std::fs::read(&other).unwrap();
        std::fs::write(&other, [kept.as_slice(), b" "].concat()).unwrap();
        let error = Model::load(&path).unwrap_err().to_string();
        assert!(error.contains(file), "{error}");
        std::fs::write(&other, kept).unwrap();
    }
}

#[test]
fn files_that_are_not_what_they_seem_are_refused() {
    let refuse = |w: &Writer, words: &str| {
        let error = Checkpoint::from_gguf("x", &Arc::new(w.finish())).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    };
    let base = || {
        let mut w = Writer::new();
        w.key("general.architecture", Value::String("llama".into()));
        for (k, v) in [
            ("block_count", 1),
            ("context_length", 64),
            ("embedding_length", 64),
            ("feed_forward_length", 96),
            ("attention.head_count", 4),
        ] {
            w.key(&format!("llama.{k}"), Value::Unsigned(v));
        }
        w.key("llama.attention.layer_norm_rms_epsilon", Value::Float(1e-5));
        w
    };
    refuse(&Writer::new(), "general.architecture");
    let mut w = Writer::new();
    w.key("general.architecture", Value::String("mamba".into()));
    refuse(&w, "mamba");
    let mut w = base();
    w.key("llama.rope.scaling.type", Value::String("yarn".into()));
    refuse(&w, "yarn");
    let mut w = base();
    w.key("llama.attention.head_count_kv", Value::Unsigned(3));
    w.floats("token_embd.weight", &[8, 64], &[0.0; 512]);
    refuse(&w, "4 query heads for 3 key heads");
    let mut w = base();
    w.floats("token_embd.weight", &[8, 64], &[0.0; 512]);
    refuse(&w, "blk.0.attn_norm.weight");
    let mut w = base();
    w.key("llama.expert_count", Value::Unsigned(8));
    refuse(&w, "experts");

    // a tensor that nobody reads, a wrong shape, a broken number
    let sample = Sample::default();
    let file = sample.gguf();
    let text = b"blk.1.ffn_gate.weight";
    let at = file.windows(text.len()).position(|w| w == text).unwrap();
    let mut other = file.clone();
    other[at + 14] = b'x';
    let error = Checkpoint::from_gguf("x", &Arc::new(other)).unwrap_err();
    assert!(matches!(error, ImportError::Missing { .. }), "{error}");
    let mut other = file.clone();
    let end = other.len();
    other[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    let error = Checkpoint::from_gguf("x", &Arc::new(other)).unwrap_err();
    assert!(matches!(error, ImportError::NotFinite { .. }), "{error}");
}

#[test]
fn a_recipe_of_another_model_is_refused() {
    let c = checkpoint(&Sample::default());
    let deep = checkpoint(&Sample {
        layers: 3,
        ..Sample::default()
    });
    let recipe = Recipe::calibrate(&c, Widths::default(), &mut Quiet).unwrap();
    assert!(import_language(&deep, &about(), Some(&recipe), &mut Quiet).is_err());
    assert!(Recipe::parse(b"{}").is_err());
    assert_eq!(Recipe::parse(&recipe.to_json().unwrap()).unwrap(), recipe);
}

#[test]
fn positions_are_bounded_by_the_largest_tensor() {
    let mut config = checkpoint(&Sample::default()).weights.config;
    assert_eq!(positions(&config), 64);
    config.context = 1 << 20;
    assert_eq!(positions(&config), 8_192);
    config.vocabulary = 151_936;
    assert_eq!(positions(&config), (1 << 30) / 151_936);
}

#[test]
fn smollm2_is_imported_from_the_cache() {
    let Ok(cache) = Cache::from_environment() else {
        println!("skipped: no cache folder");
        return;
    };
    let entry = assay_import::catalogue::find("smollm2").unwrap();
    if !cache.blob(&entry.files[0]).is_file() && !cache.model(entry).is_dir() {
        println!("skipped: smollm2 is not in the cache");
        return;
    }
    let model = assay_import::open("smollm2", &cache, &mut Quiet).unwrap();
    assert_eq!(
        hex::encode(model.id()),
        "2044598ffc186be524546f219c174ffadca58afdd658a4227e5e10ed11223f0b"
    );
    let language = model.language().unwrap();
    assert_eq!((language.context, language.vocabulary), (8_192, 49_152));
    assert!(language.template.is_some());
    let prompt = model.encode(Request::Text("Once upon a")).unwrap();
    let tokens: Vec<u32> = prompt.data.to_i32().iter().map(|t| *t as u32).collect();
    let mut last = Vec::new();
    integer_logits(&model.graph, std::slice::from_ref(&tokens), |_, l| {
        last = l[l.len() - 49_152..].to_vec();
    })
    .unwrap();
    let best = (0..last.len())
        .max_by(|a, b| last[*a].total_cmp(&last[*b]))
        .unwrap();
    assert_eq!(language.tokenizer.decode(&[best as u32]), " time");
}
