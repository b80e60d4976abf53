//! From a file or folder to a [`Model`]: calibrate unless a recipe is given, build, measure, describe.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Widths,
    build::{build, positions, settle},
    folder::{Folder, source},
    forward::{FloatModel, NoProbe},
    measure::{Agreement, integer_logits},
    ranges::{Peaks, Scales},
    source::{Shared, Weights},
    text::TextParts,
};
use crate::{
    error::ImportError,
    gguf::Gguf,
    manifest::{
        AccuracyReport, IMPORTER_VERSION, InputSpec, Kind, LanguageSpec, MANIFEST_VERSION,
        Manifest, Metric, OutputSpec, SourceFile,
    },
    model::{Model, ModelFiles},
    pull::Progress,
    recipes::About,
    report::{bounds, constant_bytes, macs, sha256_hex},
};

/// Version of [`Recipe`].
pub const RECIPE_VERSION: u32 = 1;
/// Tokens of a calibration window.
const WINDOW: usize = 256;
/// Our own text, sections parted by a line of three percent signs.
const CALIBRATION_TEXT: &str = include_str!("../../data/language_calibration.txt");
/// Sections at the end of the text that are kept out of the calibration, to measure on.
const HELD_OUT: usize = 2;
/// Top-1 agreement on those below which an import fails: something is wrong then, not coarse.
const LEAST_AGREEMENT: f64 = 0.9;

/// All that turns weights into the integer graph, found by calibration: with it the same source gives the same model id on every machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// [`RECIPE_VERSION`].
    pub version: u32,
    /// Hex sha256 of the calibration text.
    pub calibration_sha256: String,
    /// Widths.
    pub widths: Widths,
    /// Scales.
    pub scales: Scales,
    /// What was measured with it.
    pub accuracy: Vec<AccuracyReport>,
}

/// A decoder as a source has it: weights, tokenizer, template.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Weights.
    pub weights: Weights,
    /// Tokenizer and template.
    pub text: TextParts,
    /// Files used.
    pub sources: Vec<SourceFile>,
}

impl From<Folder> for Checkpoint {
    fn from(folder: Folder) -> Self {
        Self {
            weights: folder.weights,
            text: folder.text,
            sources: folder.sources,
        }
    }
}

impl Checkpoint {
    /// Reads a GGUF file; `name` is its file name.
    ///
    /// # Errors
    /// Those of [`Gguf::parse`], [`Weights::from_gguf`], [`TextParts::from_gguf`].
    pub fn from_gguf(name: &str, file: &Shared) -> Result<Self, ImportError> {
        let gguf = Gguf::parse(file)?;
        Ok(Self {
            weights: Weights::from_gguf(&gguf, file)?,
            text: TextParts::from_gguf(&gguf)?,
            sources: vec![source(name, file)],
        })
    }
}

impl Recipe {
    /// Parses a recipe.
    ///
    /// # Errors
    /// [`ImportError::Malformed`] for bad JSON or another version.
    pub fn parse(json: &[u8]) -> Result<Self, ImportError> {
        let recipe: Self = serde_json::from_slice(json)
            .map_err(|e| ImportError::malformed("recipe", e.to_string()))?;
        if recipe.version != RECIPE_VERSION {
            let why = format!("version {}, {RECIPE_VERSION} supported", recipe.version);
            return Err(ImportError::malformed("recipe", why));
        }
        Ok(recipe)
    }

    /// JSON with a final newline.
    ///
    /// # Errors
    /// [`ImportError::Malformed`]; not expected.
    pub fn to_json(&self) -> Result<Vec<u8>, ImportError> {
        let mut json = serde_json::to_vec(self)
            .map_err(|e| ImportError::malformed("recipe", e.to_string()))?;
        json.push(b'\n');
        Ok(json)
    }

    /// Runs the float reference over the calibration text.
    ///
    /// # Errors
    /// Those of the tokenizer, of [`Peaks::calibrate`] and of [`settle`].
    pub fn calibrate(
        checkpoint: &Checkpoint,
        widths: Widths,
        progress: &mut dyn Progress,
    ) -> Result<Self, ImportError> {
        let (calibration, _) = windows(checkpoint)?;
        progress.start("calibrating", None);
        let peaks = Peaks::calibrate(&checkpoint.weights, &calibration)?;
        let mut scales = Scales::new(&peaks, &checkpoint.weights.config);
        settle(&checkpoint.weights, &mut scales, widths)?;
        progress.finish();
        Ok(Self {
            version: RECIPE_VERSION,
            calibration_sha256: sha256_hex(CALIBRATION_TEXT.as_bytes()),
            widths,
            scales,
            accuracy: Vec::new(),
        })
    }
}

/// Token windows.
pub type Windows = Vec<Vec<u32>>;

/// Calibration windows and held-out windows of our own text, in the model's tokens.
///
/// # Errors
/// [`ImportError::Malformed`] when the tokenizer refuses.
pub fn windows(checkpoint: &Checkpoint) -> Result<(Windows, Windows), ImportError> {
    let bad = |e: assay_text::TextError| ImportError::malformed("tokenizer", e.to_string());
    let tokenizer = assay_text::Tokenizer::from_json(&checkpoint.text.tokenizer).map_err(bad)?;
    let vocabulary = checkpoint.weights.config.vocabulary as u32;
    let longest = WINDOW.min(checkpoint.weights.config.context);
    let mut calibration = Vec::new();
    let mut held = Vec::new();
    let sections: Vec<&str> = CALIBRATION_TEXT.split("%%%\n").collect();
    let first_held = sections.len().saturating_sub(HELD_OUT);
    for (i, section) in sections.iter().enumerate() {
        // the first section is a conversation with the marks of most models' templates
        let ids = if i == 0 {
            tokenizer.encode_trusted(section)
        } else {
            tokenizer.encode(section)
        };
        let mut ids: Vec<u32> = tokenizer
            .prefix()
            .iter()
            .copied()
            .chain(ids.map_err(bad)?)
            .filter(|id| *id < vocabulary)
            .collect();
        ids.truncate(longest);
        if ids.is_empty() {
            continue;
        }
        if i < first_held {
            calibration.push(ids);
        } else {
            held.push(ids);
        }
    }
    Ok((calibration, held))
}

/// Compares the graph with the float reference on some windows.
///
/// # Errors
/// Those of the two evaluations.
pub fn compare(
    weights: &Weights,
    graph: &assay_graph::Graph,
    windows: &[Vec<u32>],
) -> Result<Agreement, ImportError> {
    let mut agreement = Agreement::default();
    for window in windows {
        let one = std::slice::from_ref(window);
        let mut float = Vec::new();
        FloatModel::new(weights).windows(one, &mut NoProbe, |_, l| float.extend_from_slice(l))?;
        integer_logits(graph, one, |_, l| agreement.add(window, &float, l))?;
    }
    Ok(agreement)
}

/// Figures of a comparison for the manifest; `data` says what it was measured on.
pub fn report(agreement: &Agreement, data: &str) -> AccuracyReport {
    let metric = |name: &str, value: f64| Metric {
        name: name.to_owned(),
        value: (value * 1e6).round() / 1e6,
    };
    AccuracyReport {
        data: data.to_owned(),
        samples: agreement.positions,
        metrics: vec![
            metric("same_top_token", agreement.top1()),
            metric("mean_divergence_nat", agreement.mean_divergence()),
            metric("perplexity_float", agreement.float_perplexity()),
            metric("perplexity_ratio", agreement.perplexity_ratio()),
        ],
    }
}

/// Imports a decoder. Without a recipe it is calibrated and measured here, which takes as long as a float run over some thousand tokens.
///
/// # Errors
/// Those of [`Recipe::calibrate`] and [`build`](super::build()); [`ImportError::Accuracy`] when the integers do not follow the floats at all.
pub fn import_language(
    checkpoint: &Checkpoint,
    about: &About,
    recipe: Option<&Recipe>,
    progress: &mut dyn Progress,
) -> Result<Model, ImportError> {
    let weights = &checkpoint.weights;
    let config = &weights.config;
    let own;
    let recipe = match recipe {
        Some(recipe) => recipe,
        None => {
            own = Recipe::calibrate(checkpoint, Widths::of(config), progress)?;
            &own
        }
    };
    progress.start("quantising", None);
    let context = positions(config) as u32;
    let decoder = build(weights, &recipe.scales, recipe.widths, context as usize)?;
    progress.finish();
    let mut recipe = recipe.clone();
    if recipe.accuracy.is_empty() {
        progress.start("measuring", None);
        let (_, held) = windows(checkpoint)?;
        let agreement = compare(weights, &decoder.graph, &held)?;
        if agreement.top1() < LEAST_AGREEMENT {
            return Err(ImportError::Accuracy {
                gate: "same likeliest token",
                have: agreement.top1(),
                want: LEAST_AGREEMENT,
            });
        }
        let data = "positions of our own text, none of it in the calibration; float32 reference of the dequantised file";
        recipe.accuracy.push(report(&agreement, data));
        progress.finish();
    }
    let recipe_json = recipe.to_json()?;
    let text = &checkpoint.text;
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        name: about.name.clone(),
        description: about.description.clone(),
        kind: Kind::Language,
        model_id: hex::encode(decoder.graph.model_id()),
        licence: about.licence.clone(),
        sources: checkpoint.sources.clone(),
        importer: IMPORTER_VERSION,
        calibration_sha256: recipe.calibration_sha256.clone(),
        input: InputSpec::Text {
            max_tokens: context,
            vocabulary: config.vocabulary as u32,
            tokenizer_sha256: sha256_hex(&text.tokenizer),
        },
        output: OutputSpec::Tokens {
            vocabulary: config.vocabulary as u32,
        },
        accuracy: recipe.accuracy.clone(),
        bounds: bounds(&decoder.graph, &decoder.names),
        macs: macs(&decoder.graph),
        constant_bytes: constant_bytes(&decoder.graph),
        nodes: decoder.names,
        language: Some(LanguageSpec {
            architecture: config.architecture.gguf.to_owned(),
            parameters: config.parameters(),
            quantisation: weights.quantisation(),
            context,
            layers: config.layers as u32,
            kv_bytes: 2 * 2 * (config.layers * config.kv_width()) as u64,
            stop: text.stop.clone(),
            tokens: text.names.clone(),
            template_sha256: text.template.as_ref().map(|t| sha256_hex(t.as_bytes())),
            recipe_sha256: sha256_hex(&recipe_json),
        }),
    };
    let files = ModelFiles {
        tokenizer: Some(text.tokenizer.clone()),
        template: text.template.clone(),
        recipe: Some(recipe_json),
    };
    Model::with_files(manifest, Arc::new(decoder.graph), files)
}
