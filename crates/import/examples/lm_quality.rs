//! Calibrates a GGUF file, writes its recipe and measures the integer graph on held-out text:
//! `lm_quality MODEL.gguf RECIPE.json TEXTS.json [WINDOWS]`; TEXTS is a JSON array of texts, of each two windows of 256 tokens are used.
#![allow(clippy::print_stdout, reason = "a tool for people")]

use std::{error::Error, fs, sync::Arc, time::Instant};

use assay_import::{
    Quiet,
    language::{
        Checkpoint, FloatModel, NoProbe, Recipe, Widths, build,
        measure::{Agreement, integer_logits},
        positions, report,
    },
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = || {
        args.next()
            .ok_or("MODEL.gguf RECIPE.json TEXTS.json [WINDOWS]")
    };
    let (model, recipe_file, texts) = (next()?, next()?, next()?);
    let most = next().ok().map_or(Ok(usize::MAX), |n| n.parse())?;
    let clock = Instant::now();
    let say = |what: &str| println!("{:7.2} s  {what}", clock.elapsed().as_secs_f64());
    let file = Arc::new(fs::read(&model)?);
    let checkpoint = Checkpoint::from_gguf("model.gguf", &file)?;
    let mut widths = Widths::of(&checkpoint.weights.config);
    if let Ok(bits) = std::env::var("PRODUCT") {
        widths.product = bits.parse()?;
    }
    if let Ok(bits) = std::env::var("WIDE_INNER") {
        widths.wide_inner = bits == "1";
    }
    let mut recipe = Recipe::calibrate(&checkpoint, widths, &mut Quiet)?;
    if let Ok(a) = std::env::var("RESIDUAL") {
        recipe.scales.residual = a.parse()?;
    }
    say(&format!(
        "calibrated; residual at 2^-{}",
        recipe.scales.residual
    ));
    let context = positions(&checkpoint.weights.config);
    let decoder = build(&checkpoint.weights, &recipe.scales, widths, context)?;
    let bytes = decoder.graph.to_bytes();
    say(&format!(
        "graph of {} bytes from a file of {}",
        bytes.len(),
        file.len()
    ));
    let shared = assay_graph::Bytes::from(bytes);
    let begin = Instant::now();
    let again = assay_graph::Graph::from_shared(&shared)?;
    say(&format!(
        "read back in {:.2} s",
        begin.elapsed().as_secs_f64()
    ));
    say(&hex::encode(again.model_id()));
    let tokenizer = assay_text::Tokenizer::from_json(&checkpoint.text.tokenizer)?;
    let texts: Vec<String> = serde_json::from_slice(&fs::read(texts)?)?;
    let ids: Vec<Vec<u32>> = texts
        .iter()
        .map(|t| tokenizer.encode(t))
        .collect::<Result<_, _>>()?;
    let windows: Vec<Vec<u32>> = [0, 356]
        .into_iter()
        .flat_map(|from| ids.iter().filter_map(move |i| i.get(from..from + 256)))
        .map(<[u32]>::to_vec)
        .take(most)
        .collect();
    let mut agreement = Agreement::default();
    for batch in windows.chunks(4) {
        let mut float = Vec::new();
        FloatModel::new(&checkpoint.weights)
            .windows(batch, &mut NoProbe, |_, l| float.push(l.to_vec()))?;
        let clamps = integer_logits(&decoder.graph, batch, |i, l| {
            if let (Some(tokens), Some(float)) = (batch.get(i), float.get(i)) {
                agreement.add(tokens, float, l);
            }
        })?;
        say(&format!(
            "{} positions: same top {:.4}, KL {:.6}, perplexity {:.3} x {:.5}; clamped {} of {}",
            agreement.positions,
            agreement.top1(),
            agreement.mean_divergence(),
            agreement.float_perplexity(),
            agreement.perplexity_ratio(),
            clamps.1,
            clamps.0,
        ));
    }
    let data = "positions of English text and code (Rust book, licences, Python documentation and source, readme files) in windows of 256 tokens, none of it in the calibration; float32 reference of the dequantised file";
    recipe.accuracy.push(report(&agreement, data));
    fs::write(&recipe_file, recipe.to_json()?)?;
    Ok(())
}
