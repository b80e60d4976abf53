//! The integer graph as the modules' arbiter: adapts [`assay_graph::arbiter`] to bytes and 256-bit words.

use alloy_primitives::B256;
use assay_graph::{
    Extent, GraphError, Structure, arbiter,
    evidence::Evidence,
    identity,
    layout::{Layout, Leaf, single_shot},
    node::SEMANTICS,
};
use assay_modules::{Arbiter, Case, ModelInfo, RunSize, SegmentInfo, Verdict};

/// Most bytes of evidence that are looked at: a whole block's inputs and rows, with paths.
const MAX_EVIDENCE: usize = 512 << 10;
/// Gas of decoding a structure, per byte. Prices here: 25 gas per microsecond measured (docs/benchmarks.md, "arbitration"), rounded up.
const GAS_PER_STRUCTURE_BYTE: u64 = 8;
/// Gas of decoding, hashing and evaluating evidence, per byte.
const GAS_PER_EVIDENCE_BYTE: u64 = 4;
/// Gas of one element beyond its bytes: at most 1,000,000 multiply-adds.
const GAS_ELEMENT: u64 = 25_000;
/// Gas of one whole block beyond its bytes: at most 4,000,000 multiply-adds.
const GAS_BLOCK: u64 = 200_000;

/// Judges by `assay_graph`. Stateless.
#[derive(Clone, Copy, Debug, Default)]
pub struct GraphArbiter;

fn words(e: GraphError) -> String {
    e.to_string()
}

impl Arbiter for GraphArbiter {
    fn inspect(
        &self,
        structure: &[u8],
        tables_root: B256,
        weights_root: B256,
    ) -> Result<ModelInfo, String> {
        let structure = Structure::from_bytes(structure).map_err(words)?;
        Ok(ModelInfo {
            model_id: identity::model_id(&structure, &tables_root.0, &weights_root.0).into(),
            graph_root: identity::graph_root(&structure).into(),
            node_count: structure.nodes.len() as u32,
            max_seq: structure.header.max_seq,
            semantics: SEMANTICS,
            single_shot: single_shot(&structure),
        })
    }

    fn committed_leaves(&self, structure: &[u8], size: RunSize) -> Result<u64, String> {
        let structure = Structure::from_bytes(structure).map_err(words)?;
        Ok(Layout::new(&structure, extent(&structure, size)?).committed_leaves())
    }

    fn segment_of(
        &self,
        structure: &[u8],
        size: RunSize,
        leaf: u64,
    ) -> Result<SegmentInfo, String> {
        let structure = Structure::from_bytes(structure).map_err(words)?;
        let layout = Layout::new(&structure, extent(&structure, size)?);
        match layout.committed_leaf(leaf) {
            Some(Leaf::Block { node, block }) => {
                let segment = layout.segment_of(node).unwrap_or(0);
                Ok(SegmentInfo {
                    segment,
                    nodes: layout.segment_nodes(segment).count() as u32,
                    leaves: layout.segment_leaves(segment),
                    index: layout.segment_index(node, block).unwrap_or(0),
                })
            }
            // the commitments themselves: nothing lies between them and their own leaf
            Some(Leaf::InputCommit | Leaf::OutputCommit) => Ok(SegmentInfo {
                segment: 0,
                nodes: 1,
                leaves: 1,
                index: 0,
            }),
            None => Err(format!("leaf {leaf} does not exist")),
        }
    }

    fn judge(&self, case: &Case<'_>) -> Result<Verdict, String> {
        if case.evidence.len() > MAX_EVIDENCE {
            return Err(format!(
                "evidence of {} bytes, at most {MAX_EVIDENCE}",
                case.evidence.len()
            ));
        }
        let structure = Structure::from_bytes(case.structure).map_err(words)?;
        let evidence = Evidence::decode(case.evidence).map_err(words)?;
        let segment = case.segment.as_ref().map(|(s, root)| (*s, &root.0));
        let case = arbiter::Case {
            structure: &structure,
            tables_root: &case.tables_root.0,
            weights_root: &case.weights_root.0,
            extent: extent(&structure, case.size)?,
            sampling_hash: &case.sampling_hash.0,
            mask_root: &case.mask_root.0,
            input_commit: &case.input_commit.0,
            output_commit: &case.output_commit.0,
            trace_root: &case.trace_root.0,
            segment,
            leaf: case.leaf,
            leaf_hash: &case.leaf_hash.0,
            block: case.block,
        };
        match arbiter::judge(&case, &evidence).map_err(words)? {
            arbiter::Verdict::AsserterRight => Ok(Verdict::AsserterRight),
            arbiter::Verdict::AsserterWrong => Ok(Verdict::AsserterWrong),
        }
    }

    fn gas(&self, structure: &[u8], evidence: &[u8]) -> u64 {
        let bytes = |n: usize, price: u64| (n as u64).saturating_mul(price);
        let base = if Evidence::is_whole(evidence) {
            GAS_BLOCK
        } else {
            GAS_ELEMENT
        };
        base.saturating_add(bytes(structure.len(), GAS_PER_STRUCTURE_BYTE))
            .saturating_add(bytes(evidence.len(), GAS_PER_EVIDENCE_BYTE))
    }
}

/// Positions of a run of this size, if the model can run it.
pub(crate) fn extent(structure: &Structure, size: RunSize) -> Result<Extent, String> {
    let RunSize { n_in, n_out } = size;
    let extent = if structure.is_generative() {
        Extent::answering(n_in, n_out)
    } else {
        (n_in > 0 && n_out == 1).then(|| Extent::from(n_in))
    };
    let limit = structure.header.max_seq;
    extent
        .filter(|extent| extent.seq <= limit)
        .ok_or_else(|| format!("{n_out} answers to {n_in} positions, the model takes 1 to {limit}"))
}
