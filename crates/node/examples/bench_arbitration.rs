//! Time, evidence and gas of judging one element of every operator.
//!
//! `cargo run --release -p assay-node --example bench_arbitration -- digits` (the bundled model) or `-- GRAPH.assay [POSITIONS]` prints, for each operator of the model, the slowest node:
//! bytes of evidence, microseconds of decoding the structure, decoding the evidence, checking its hashes and recomputing the element (median of 31), gas charged.

use std::{collections::BTreeMap, time::Instant};

use alloy_primitives::B256;
use assay_graph::{
    Data, Dim, Graph, NodeId, Tensor, eval,
    evidence::{Prover, layout_of},
    identity::ConstTrees,
    trace::{Family, Hash, Tree, TreeView, input_commit, leaf_hash, output_commit},
};
use assay_modules::{Arbiter, Case, RunSize, Verdict};
use assay_node::GraphArbiter;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args
        .next()
        .ok_or("usage: bench_arbitration digits | GRAPH.assay [POSITIONS]")?;
    let graph = if path == "digits" {
        (*assay_import::digits()?.graph).clone()
    } else {
        Graph::from_bytes(&std::fs::read(&path)?)?
    };
    let seq = args
        .next()
        .map_or(Ok(graph.header().max_seq), |s| s.parse())?;
    let ty = graph.input_type().ok_or("empty graph")?.clone();
    let seq = if ty.shape.contains(&Dim::Seq) { seq } else { 1 };
    let values: Vec<i32> = (0..ty.len(seq))
        .map(|i| ty.lo + (i as i64 * 7919 % (i64::from(ty.hi) - i64::from(ty.lo) + 1)) as i32)
        .collect();
    let input = Tensor::new(
        ty.dims(seq),
        Data::from_i32(ty.dtype, &values).ok_or("range")?,
    )?;
    eprintln!("running {path} by its definition, {seq} positions …");
    let own = eval::run(&graph, &input)?;

    let (structure, layout) = layout_of(&graph, seq);
    let trees = ConstTrees::new(graph.consts());
    let salt: Hash = [3; 32];
    let bytes = own[0].data.to_bytes();
    let output = own.last().ok_or("empty")?.data.to_bytes();
    let blocks = |n: NodeId| -> Vec<Hash> {
        if layout.blocks(n) == 0 {
            Vec::new()
        } else {
            own[n as usize]
                .data
                .to_bytes()
                .chunks(layout.block_bytes())
                .map(|c| leaf_hash(Family::Trace, c))
                .collect()
        }
    };
    let mut leaves = vec![input_commit(&salt, &bytes)];
    leaves.extend(layout.checkpoints().flat_map(blocks));
    leaves.push(output_commit(&salt, &output));
    let committed = Tree::new(Family::Trace, leaves);
    let view = TreeView::new(&committed);
    let structure_bytes = structure.to_bytes();

    let mut worst: BTreeMap<&str, (f64, usize, u64, String)> = BTreeMap::new();
    for node in 1..graph.nodes().len() as NodeId {
        if layout.blocks(node) == 0 {
            continue;
        }
        let segment = layout.segment_of(node).ok_or("segment")?;
        let tree = Tree::new(
            Family::Trace,
            layout.segment_nodes(segment).flat_map(blocks).collect(),
        );
        let segment_view = TreeView::new(&tree);
        let inner = layout.segment_nodes(segment).count() > 1;
        let index = own[node as usize].data.len() as u64 / 2;
        let prover = Prover {
            graph: &graph,
            trees: &trees,
            layout: &layout,
            values: &own,
            committed: &view,
            segment: inner.then_some((segment, &segment_view)),
            input: (&salt, &bytes),
            output: &output,
            statement: None,
        };
        let evidence = prover.element(node, index, seq)?.encode();
        let block = index * layout.element_size(node) as u64 / layout.block_bytes() as u64;
        let all = own[node as usize].data.to_bytes();
        let at = block as usize * layout.block_bytes();
        let opened = &all[at..at + layout.block_len(node, block)];
        let leaf = if inner {
            layout.segment_index(node, block)
        } else {
            layout.committed_index(node, block)
        }
        .ok_or("leaf")?;
        let case = Case {
            structure: &structure_bytes,
            tables_root: B256::from(trees.tables_root()),
            weights_root: B256::from(trees.weights_root()),
            size: RunSize {
                n_in: seq,
                n_out: 1,
            },
            sampling_hash: B256::ZERO,
            mask_root: B256::ZERO,
            input_commit: B256::from(input_commit(&salt, &bytes)),
            output_commit: B256::from(output_commit(&salt, &output)),
            trace_root: B256::from(committed.root()),
            segment: inner.then(|| (segment, B256::from(tree.root()))),
            leaf,
            leaf_hash: B256::from(leaf_hash(Family::Trace, opened)),
            block: Some(opened),
            evidence: &evidence,
        };
        let mut times = Vec::new();
        for _ in 0..31 {
            let start = Instant::now();
            assert_eq!(GraphArbiter.judge(&case), Ok(Verdict::AsserterRight));
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        times.sort_by(f64::total_cmp);
        let op = assay_graph::op_name(&graph.nodes()[node as usize].op);
        let entry = (
            times[15],
            evidence.len(),
            GraphArbiter.gas(&structure_bytes, &evidence),
            format!("node {node} {:?}", own[node as usize].dims),
        );
        if worst.get(op).is_none_or(|w| w.0 < entry.0) {
            worst.insert(op, entry);
        }
    }
    println!(
        "{:<12} {:>9} {:>15} {:>9}  slowest",
        "operator", "µs", "evidence bytes", "gas"
    );
    for (op, (us, bytes, gas, place)) in &worst {
        println!("{op:<12} {us:>9.1} {bytes:>15} {gas:>9}  {place}");
    }
    Ok(())
}
