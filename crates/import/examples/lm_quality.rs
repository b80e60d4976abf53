//! Accuracy of an imported decoder: `lm_quality MODEL.gguf CALIBRATION.json HELD_OUT.json [WINDOWS]`, token windows as JSON arrays.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a tool for people"
)]

use std::{sync::Arc, time::Instant};

use assay_import::{
    gguf::Gguf,
    language::{
        FloatModel, NoProbe, Peaks, Scales, Weights, Widths, build,
        measure::{Agreement, integer_logits},
        settle,
    },
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let read = |i: usize| -> Vec<Vec<u32>> {
        serde_json::from_slice(&std::fs::read(&args[i]).unwrap()).unwrap()
    };
    let clock = Instant::now();
    let say = |what: &str| println!("{:7.2} s  {what}", clock.elapsed().as_secs_f64());
    let file = Arc::new(std::fs::read(&args[1])?);
    let gguf = Gguf::parse(&file)?;
    let weights = Weights::from_gguf(&gguf, &file)?;
    say(&format!("read; {}", weights.quantisation()));
    let peaks = Peaks::calibrate(&weights, &read(2))?;
    say("calibrated");
    let mut scales = Scales::new(&peaks, &weights.config);
    if std::env::var("SHOW").is_ok() {
        println!(
            "residual {} final {} / {}",
            peaks.residual, peaks.final_norm, scales.final_norm
        );
        for (p, s) in peaks.layers.iter().zip(&scales.layers) {
            println!(
                "norm {:.1} {} feed {:.1} {} gate {:.1} {} up {:.1} {} product {:.1} {} score {:?} value {:?} key {:?}",
                p.attention_norm,
                s.attention_norm,
                p.feed_norm,
                s.feed_norm,
                p.gate,
                s.gate,
                p.up,
                s.up,
                p.product,
                s.product,
                s.score,
                s.value,
                &s.key
            );
        }
    }
    let mut widths = Widths::default();
    let env = |k: &str| std::env::var(k).ok().and_then(|v| v.parse::<i64>().ok());
    if let Some(v) = env("PRODUCT") {
        widths.product = v as u8;
    }
    if let Some(v) = env("WIDE_INNER") {
        widths.wide_inner = v != 0;
    }
    if let Some(v) = env("WIDE_OUTER") {
        widths.wide_outer = v != 0;
    }
    if let Some(v) = env("WIDE_HEAD") {
        widths.wide_head = v != 0;
    }
    settle(&weights, &mut scales, widths)?;
    say("settled");
    if let Some(v) = env("RESIDUAL") {
        scales.residual = v as i8;
    }
    println!("{widths:?} residual {}", scales.residual);
    let decoder = build(&weights, &scales, widths, 8192)?;
    if std::env::var("ROWS").is_ok() {
        for (node, name) in decoder.graph.nodes().iter().zip(&decoder.names) {
            let assay_graph::Op::Linear { weights, .. } = node.op else {
                continue;
            };
            let c = &decoder.graph.consts()[weights as usize];
            let (mut bits, mut low, mut steps, mut n) = (Vec::new(), 99i32, 0f64, 0f64);
            for r in 0..c.kind().rows().min(2000) {
                let row = c.row_values(r).unwrap();
                let peak = row.values.iter().map(|v| v.abs()).max().unwrap();
                bits.push(f64::from(peak.max(1)).log2());
                low = low.min(i32::from(row.shift));
                if let Some(v) = assay_graph::BlockView::parse(&c.kind(), c.row(r).unwrap()) {
                    for g in 0..v.steps.len() / 2 {
                        steps += f64::from(v.step(g).0.abs());
                        n += 1.0;
                    }
                }
            }
            bits.sort_by(f64::total_cmp);
            println!(
                "{name}: bits min {:.1} median {:.1} max {:.1}, least shift {low}, mean step {:.0}",
                bits[0],
                bits[bits.len() / 2],
                bits[bits.len() - 1],
                steps / n
            );
        }
    }
    let bytes = decoder.graph.to_bytes();
    say(&format!(
        "built: {} nodes, {} bytes, source {}",
        decoder.graph.nodes().len(),
        bytes.len(),
        file.len()
    ));
    let again = assay_graph::Graph::from_bytes(&bytes)?;
    say("read back");
    println!("{}", hex::encode(again.model_id()));
    say("hashed");
    let mut held = read(3);
    if let Some(n) = args.get(4) {
        held.truncate(n.parse()?);
    }
    let mut agreement = Agreement::default();
    for batch in held.chunks(8) {
        let mut float = Vec::new();
        FloatModel::new(&weights).windows(batch, &mut NoProbe, |_, l| float.push(l.to_vec()))?;
        say("float");
        let clamps = integer_logits(&decoder.graph, batch, |i, l| {
            agreement.add(&batch[i], &float[i], l)
        })?;
        say(&format!("integers, clamped {clamps:?}"));
        println!(
            "positions {} top-1 {:.4} KL {:.6} perplexity {:.3} ratio {:.5}",
            agreement.positions,
            agreement.top1(),
            agreement.mean_divergence(),
            agreement.float_perplexity(),
            agreement.perplexity_ratio()
        );
    }
    Ok(())
}
