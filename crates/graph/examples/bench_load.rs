//! Time of reading a graph file with all its checks: `bench_load GRAPH`, or a made one of SmolLM2's size.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a tool for people"
)]

use std::time::Instant;

use assay_graph::{
    BlockRow, Bytes, DType, Dim, Graph, GraphBuilder, Header, Op, Requant, TensorType,
};

fn made() -> Vec<u8> {
    let mut b = GraphBuilder::new(Header {
        max_seq: 16,
        block_bits: 14,
    });
    let ty = TensorType {
        dtype: DType::I16,
        shape: vec![Dim::Seq, Dim::Fixed(576)],
        lo: -32639,
        hi: 32639,
    };
    let mut x = b.input(ty).unwrap();
    let row = |i: usize, cols: usize| BlockRow {
        shift: 9,
        bias: 0,
        steps: vec![7; cols / 32],
        offsets: vec![-50; cols / 32],
        codes: (0..cols).map(|c| ((i * 31 + c * 7) % 16) as u8).collect(),
    };
    for layer in 0..106_000_000 / (576 * 1536 * 2) {
        for (rows, cols) in [(1536, 576), (576, 1536)] {
            let rows: Vec<BlockRow> = (0..rows).map(|i| row(i + layer, cols)).collect();
            let weights = b.blocks(4, 32, &rows).unwrap();
            let out = Requant {
                shift: 0,
                dtype: DType::I16,
                lo: -16000,
                hi: 16000,
            };
            x = b
                .push("linear", Op::Linear { weights, out }, &[x], true)
                .unwrap();
        }
    }
    b.finish().unwrap().to_bytes()
}

fn main() {
    let bytes = match std::env::args().nth(1) {
        Some(path) => std::fs::read(path).unwrap(),
        None => made(),
    };
    let file = Bytes::from(bytes);
    for _ in 0..3 {
        let clock = Instant::now();
        let graph = Graph::from_shared(&file).unwrap();
        let read = clock.elapsed();
        let clock = Instant::now();
        let id = graph.model_id();
        println!(
            "{} bytes: read and checked {:.3} s, hashed {:.3} s, id {:02x}{:02x}…",
            file.len(),
            read.as_secs_f64(),
            clock.elapsed().as_secs_f64(),
            id[0],
            id[1]
        );
    }
}
