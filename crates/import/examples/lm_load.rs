//! Time to load a model of the cache or of a folder, and where it goes: `lm_load NAME`.
#![allow(clippy::print_stdout, reason = "a tool for people")]

use std::time::Instant;

use assay_import::{Cache, Quiet, open};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).ok_or("NAME")?;
    let begin = Instant::now();
    let model = open(&name, &Cache::from_environment()?, &mut Quiet)?;
    let seconds = begin.elapsed().as_secs_f64();
    println!("{seconds:.2} s, model id {}", hex::encode(model.id()));
    let bytes = assay_graph::Bytes::from(model.graph.to_bytes());
    let begin = Instant::now();
    let graph = assay_graph::Graph::from_shared(&bytes)?;
    println!("{:.2} s to check the graph", begin.elapsed().as_secs_f64());
    let begin = Instant::now();
    graph.model_id();
    println!("{:.2} s to hash it", begin.elapsed().as_secs_f64());
    if let Some(json) = &model.files().tokenizer {
        let begin = Instant::now();
        assay_text::Tokenizer::from_json(json)?;
        println!(
            "{:.2} s to read the tokenizer",
            begin.elapsed().as_secs_f64()
        );
    }
    Ok(())
}
