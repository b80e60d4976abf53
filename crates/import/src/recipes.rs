//! From files to a [`Model`]: BERT checkpoints and ONNX files.

use std::{path::Path, sync::Arc};

use assay_engine::{Engine, EngineOptions};
use assay_graph::{Data, Graph, Tensor};

use crate::{
    bert::{self, BertConfig, BertWeights, Forward, NoProbe, Ranges},
    codec::TextCodec,
    error::ImportError,
    manifest::{
        AccuracyReport, IMPORTER_VERSION, InputSpec, Kind, MANIFEST_VERSION, Manifest, Metric,
        OutputSpec, SourceFile,
    },
    model::Model,
    net::NetOp,
    onnx::{self, OnnxOptions},
    quantise::{Calibration, Profile, Quantised, quantise, quantise_auto},
    report::{bounds, constant_bytes, macs, sha256_hex},
};

/// Most positions of a text model.
pub const MAX_TOKENS: u32 = 256;
/// Calibration sentences of text models; our own text.
const CALIBRATION_TEXT: &str = include_str!("../data/minilm_calibration.txt");
/// Sentences on which a text model is measured at import; our own text, none of it in the calibration.
const CHECK_TEXT: &str = include_str!("../data/minilm_check.txt");
/// Mean cosine between integer and float vectors below which an import fails.
pub const MIN_MEAN_COSINE: f64 = 0.995;
/// Smallest cosine below which an import fails.
pub const MIN_COSINE: f64 = 0.98;
/// Default block size of small networks: 4 KiB.
const SMALL_BLOCK_BITS: u8 = 12;

/// What no file says about a model.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Short name.
    pub name: String,
    /// One sentence.
    pub description: String,
    /// SPDX expression or a sentence.
    pub licence: String,
}

/// Files of a BERT sentence encoder.
#[derive(Clone, Copy, Debug)]
pub struct BertFiles<'a> {
    /// config.json.
    pub config: &'a [u8],
    /// model.safetensors.
    pub weights: &'a [u8],
    /// tokenizer.json.
    pub tokenizer: &'a [u8],
}

/// Imports a BERT sentence encoder with mean pooling.
///
/// Takes seconds: the float reference runs over the calibration text. Deterministic.
///
/// # Errors
/// Those of the parsers and of [`bert::build`]; [`ImportError::Accuracy`] when the integer vectors are not close enough to the float ones.
pub fn import_bert(files: &BertFiles<'_>, about: &About) -> Result<Model, ImportError> {
    let config = BertConfig::parse(files.config)?;
    let weights = BertWeights::parse(files.weights, &config)?;
    let max_tokens = MAX_TOKENS.min(config.max_position_embeddings as u32);
    let text = TextCodec::new(files.tokenizer, max_tokens)
        .map_err(|e| ImportError::malformed("tokenizer.json", e.to_string()))?;
    if text.vocabulary() > config.vocab_size {
        let why = format!(
            "{} tokens for {} embedding rows",
            text.vocabulary(),
            config.vocab_size
        );
        return Err(ImportError::malformed("tokenizer.json", why));
    }
    let encode = |lines: &str| -> Result<Vec<Vec<u32>>, ImportError> {
        lines
            .lines()
            .map(|l| {
                text.encode(l)
                    .map_err(|e| ImportError::malformed("calibration text", e.to_string()))
            })
            .collect()
    };
    let forward = Forward {
        config: &config,
        weights: &weights,
    };
    let ranges = Ranges::calibrate(&forward, &encode(CALIBRATION_TEXT)?);
    let encoder = bert::build(&config, &weights, &ranges, max_tokens)?;
    let graph = Arc::new(encoder.graph);
    let checked = encode(CHECK_TEXT)?;
    let cosines = cosines(&graph, &forward, &checked)?;
    let mean = cosines.iter().sum::<f64>() / cosines.len().max(1) as f64;
    let least = cosines.iter().copied().fold(1.0, f64::min);
    for (gate, have, want) in [
        ("mean cosine", mean, MIN_MEAN_COSINE),
        ("smallest cosine", least, MIN_COSINE),
    ] {
        if have < want {
            return Err(ImportError::Accuracy { gate, have, want });
        }
    }
    let report = AccuracyReport {
        data: "sentences of our own, none of them in the calibration text; float32 reference"
            .into(),
        samples: cosines.len() as u64,
        metrics: vec![metric("cosine_mean", mean), metric("cosine_min", least)],
    };
    let input = InputSpec::Text {
        max_tokens,
        vocabulary: config.vocab_size as u32,
        tokenizer_sha256: sha256_hex(files.tokenizer),
    };
    let output = OutputSpec::Embedding {
        width: config.hidden_size as u32,
        step: encoder.output_step,
    };
    let sources = [
        ("model.safetensors", files.weights),
        ("config.json", files.config),
        ("tokenizer.json", files.tokenizer),
    ];
    let graph = Arc::unwrap_or_clone(graph);
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        name: about.name.clone(),
        description: about.description.clone(),
        kind: Kind::Embedding,
        model_id: hex::encode(graph.model_id()),
        licence: about.licence.clone(),
        sources: sources.iter().map(|(n, b)| source(n, b)).collect(),
        importer: IMPORTER_VERSION,
        calibration_sha256: sha256_hex(CALIBRATION_TEXT.as_bytes()),
        input,
        output,
        accuracy: vec![report],
        bounds: bounds(&graph, &encoder.names),
        macs: macs(&graph),
        constant_bytes: constant_bytes(&graph),
        nodes: encoder.names,
        language: None,
    };
    Model::new(manifest, graph, Some(files.tokenizer.to_vec()))
}

/// Cosine between integer and float sentence vectors.
///
/// # Errors
/// [`ImportError::Measure`] when the engine refuses.
pub fn cosines(
    graph: &Arc<Graph>,
    forward: &Forward<'_>,
    sentences: &[Vec<u32>],
) -> Result<Vec<f64>, ImportError> {
    let measure = |e: assay_engine::EngineError| ImportError::Measure(e.to_string());
    let engine = Engine::new(graph.clone(), EngineOptions::default()).map_err(measure)?;
    sentences
        .iter()
        .map(|ids| {
            let input = Tensor::new(
                vec![ids.len()],
                Data::I32(ids.iter().map(|i| *i as i32).collect()),
            )?;
            let have: Vec<f64> = engine
                .run(&input)
                .map_err(measure)?
                .output
                .data
                .to_i32()
                .iter()
                .map(|v| f64::from(*v))
                .collect();
            let want: Vec<f64> = forward
                .run(ids, &mut NoProbe)
                .iter()
                .map(|v| f64::from(*v))
                .collect();
            Ok(cosine(&have, &want))
        })
        .collect()
}

/// Cosine of the angle between two vectors; 0 when one is zero.
pub fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let sum = |f: fn(f64, f64) -> f64| a.iter().zip(b).map(|(x, y)| f(*x, *y)).sum::<f64>();
    let norm = (sum(|x, _| x * x) * sum(|_, y| y * y)).sqrt();
    if norm > 0.0 {
        sum(|x, y| x * y) / norm
    } else {
        0.0
    }
}

/// How an ONNX network is fed and read.
#[derive(Clone, Debug)]
pub struct OnnxUse {
    /// What the file leaves open.
    pub options: OnnxOptions,
    /// Declared range of the input.
    pub range: (f64, f64),
    /// Calibration inputs, row-major in the order of the file. When there are none, 32 random ones over the whole range are drawn from a fixed
    /// seed: good enough to try a model, not to judge it.
    pub calibration: Vec<Vec<f32>>,
    /// Present for image classifiers.
    pub image: Option<ImageUse>,
    /// Class names; empty for numbers as output.
    pub labels: Vec<String>,
    /// Widths; `None` picks the cheapest with at most `tolerance` relative error.
    pub profile: Option<Profile>,
    /// See `profile`.
    pub tolerance: f64,
}

/// How pixels become inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageUse {
    /// Subtracted from `byte / 255`, per channel.
    pub mean: Vec<f64>,
    /// Divided by afterwards, per channel.
    pub std: Vec<f64>,
}

impl Default for OnnxUse {
    fn default() -> Self {
        Self {
            options: OnnxOptions::default(),
            range: (0.0, 1.0),
            calibration: Vec::new(),
            image: None,
            labels: Vec::new(),
            profile: None,
            tolerance: 0.03,
        }
    }
}

/// Imports an ONNX file. `folder` is where its external data may lie.
///
/// # Errors
/// Those of [`onnx::lower`] and [`quantise`](crate::quantise::quantise); [`ImportError::Malformed`] when labels or image settings do not fit.
pub fn import_onnx(
    bytes: &[u8],
    folder: Option<&Path>,
    settings: &OnnxUse,
    about: &About,
) -> Result<Model, ImportError> {
    let lowered = onnx::lower(bytes, folder, &settings.options)?;
    let drawn;
    let samples = if settings.calibration.is_empty() {
        drawn = random_inputs(&lowered, settings.range);
        &drawn
    } else {
        &settings.calibration
    };
    let inputs: Vec<Vec<f32>> = samples.iter().map(|x| lowered.input.to_stored(x)).collect();
    let calibration = Calibration {
        range: settings.range,
        inputs,
    };
    let (quantised, accuracy) = match settings.profile {
        Some(profile) => {
            let q = quantise(&lowered.net, &calibration, profile, SMALL_BLOCK_BITS)?;
            let sample: Vec<Vec<f32>> = calibration.inputs.iter().take(16).cloned().collect();
            let accuracy = q.compare(&lowered.net, &sample)?;
            (q, accuracy)
        }
        None => quantise_auto(
            &lowered.net,
            &calibration,
            SMALL_BLOCK_BITS,
            settings.tolerance,
        )?,
    };
    let report = AccuracyReport {
        data: format!(
            "{} inputs, profile {:?}; float32 reference",
            if settings.calibration.is_empty() {
                "random"
            } else {
                "calibration"
            },
            quantised.profile
        ),
        samples: accuracy.samples,
        metrics: vec![
            metric("relative_error", accuracy.relative_error),
            metric("max_error", accuracy.max_error),
            metric("same_arg_max", accuracy.same_arg_max),
        ],
    };
    let calibration_bytes: Vec<u8> = samples
        .iter()
        .flatten()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let (kind, input) = input_spec(&lowered, &quantised, settings)?;
    let output = output_spec(&lowered, &quantised, &settings.labels)?;
    let Quantised { graph, names, .. } = quantised;
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        name: about.name.clone(),
        description: about.description.clone(),
        kind,
        model_id: hex::encode(graph.model_id()),
        licence: about.licence.clone(),
        sources: vec![source("model.onnx", bytes)],
        importer: IMPORTER_VERSION,
        calibration_sha256: sha256_hex(&calibration_bytes),
        input,
        output,
        accuracy: vec![report],
        bounds: bounds(&graph, &names),
        macs: macs(&graph),
        constant_bytes: constant_bytes(&graph),
        nodes: names,
        language: None,
    };
    Model::new(manifest, graph, None)
}

/// 32 inputs, uniform over the range (or over the ids), from a fixed seed.
fn random_inputs(lowered: &onnx::Lowered, (lo, hi): (f64, f64)) -> Vec<Vec<f32>> {
    let size: usize = lowered.input.dims.iter().product();
    let ids = lowered.net.nodes.iter().find_map(|n| match &n.op {
        NetOp::Embedding { rows, width } => Some(rows.len() / width.max(&1)),
        _ => None,
    });
    let mut seed =
        blake3::Hasher::new_derive_key("assay import random calibration v1").finalize_xof();
    let mut next = || {
        let mut bytes = [0; 4];
        seed.fill(&mut bytes);
        f64::from(u32::from_le_bytes(bytes)) / 4_294_967_296.0
    };
    let mut value = || match ids {
        Some(n) => (next() * n as f64).floor() as f32,
        None => (lo + next() * (hi - lo)) as f32,
    };
    (0..32)
        .map(|_| (0..size).map(|_| value()).collect())
        .collect()
}

fn input_spec(
    lowered: &onnx::Lowered,
    quantised: &Quantised,
    settings: &OnnxUse,
) -> Result<(Kind, InputSpec), ImportError> {
    let place = &lowered.input;
    let end = quantised.input.clone();
    let Some(image) = &settings.image else {
        return Ok((
            Kind::Tensor,
            InputSpec::Tensor {
                dims: place.dims.clone(),
                order: place.order.clone(),
                ids: lowered.net.ids,
                end,
            },
        ));
    };
    // [1, c, h, w] with c of 1 or 3, or [1, h, w, c]; a flat row of n is a gray square
    let (height, width, channels, axes) = match *place.dims.as_slice() {
        [1, c @ (1 | 3), h, w] => (h, w, c, [1, 2, 0]),
        [1, h, w, c @ (1 | 3)] => (h, w, c, [0, 1, 2]),
        [1, n] if n.isqrt() * n.isqrt() == n => (n.isqrt(), n.isqrt(), 1, [0, 1, 2]),
        _ => {
            return Err(ImportError::malformed(
                "image settings",
                format!("the input is {:?}, not an image", place.dims),
            ));
        }
    };
    // image axes (0 rows, 1 columns, 2 channels) in stored order; `axes[i]` is where file axis i + 1 lies
    let order: Vec<usize> = if place.dims.len() == 2 {
        vec![0, 1]
    } else {
        // file axis a (1-based after the batch) is image axis: for [c, h, w] 2, 0, 1
        let file_to_image: [usize; 3] = if axes == [1, 2, 0] {
            [2, 0, 1]
        } else {
            [0, 1, 2]
        };
        place
            .order
            .iter()
            .filter_map(|a| a.checked_sub(1).and_then(|i| file_to_image.get(i).copied()))
            .collect()
    };
    let spec = InputSpec::Image {
        height: height as u32,
        width: width as u32,
        channels: channels as u32,
        mean: image.mean.clone(),
        std: image.std.clone(),
        end,
        order,
    };
    Ok((Kind::Image, spec))
}

fn output_spec(
    lowered: &onnx::Lowered,
    quantised: &Quantised,
    labels: &[String],
) -> Result<OutputSpec, ImportError> {
    let place = &lowered.output;
    let step = quantised.output.step;
    if labels.is_empty() {
        return Ok(OutputSpec::Tensor {
            dims: place.dims.clone(),
            order: place.order.clone(),
            step,
        });
    }
    let count: usize = place.dims.iter().product();
    if count != labels.len() {
        return Err(ImportError::malformed(
            "labels",
            format!("{} labels for {count} outputs", labels.len()),
        ));
    }
    let probabilities = matches!(
        quantised.graph.nodes().last().map(|n| &n.op),
        Some(assay_graph::Op::Softmax { .. })
    );
    Ok(OutputSpec::Scores {
        labels: labels.to_vec(),
        step,
        probabilities,
    })
}

fn metric(name: &str, value: f64) -> Metric {
    // six significant places are enough to read, and keep manifests equal across readers
    Metric {
        name: name.to_owned(),
        value: (value * 1e6).round() / 1e6,
    }
}

fn source(name: &str, bytes: &[u8]) -> SourceFile {
    SourceFile {
        name: name.to_owned(),
        bytes: bytes.len() as u64,
        sha256: sha256_hex(bytes),
    }
}
