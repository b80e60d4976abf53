//! Who tries to slash an honest language model by another statement, another mask, another place, is not heard.

#[path = "../../graph/tests/common/mod.rs"]
mod graphs;

use assay_graph::arbiter::{Case, Verdict, judge};
use assay_graph::evidence::{Evidence, MaskEvidence, Prover};
use assay_graph::identity::ConstTrees;
use assay_graph::layout::{Layout, Leaf};
use assay_graph::sampling::mask_tree;
use assay_graph::trace::{Family, Hash, Tree, TreeView, input_commit, leaf_hash, output_commit};
use assay_graph::{Data, Extent, Graph, Sampling, Statement, Structure, Tensor, eval};

const SALT: Hash = [3; 32];
const OUT: u32 = 6;

fn bytes(tokens: &[i32]) -> Vec<u8> {
    tokens.iter().flat_map(|t| t.to_le_bytes()).collect()
}

/// An honest, constrained, sampled answer with its trees.
struct Honest {
    graph: Graph,
    structure: Structure,
    trees: ConstTrees,
    layout: Layout,
    extent: Extent,
    statement: Statement,
    values: Vec<Tensor>,
    committed: Tree,
    segment: (u32, Tree),
    input: Vec<u8>,
    output: Vec<u8>,
}

fn leaves(layout: &Layout, tensor: &Tensor) -> Vec<Hash> {
    let bytes = tensor.data.to_bytes();
    let blocks = bytes.chunks(layout.block_bytes());
    blocks.map(|b| leaf_hash(Family::Trace, b)).collect()
}

impl Honest {
    fn new() -> Self {
        let graph = graphs::language_graph(9, 1, 32);
        let masks: Vec<Vec<u8>> = (0..OUT as usize)
            .map(|i| {
                (0..9)
                    .map(|b| 0x55u8.rotate_left((i + b) as u32) | 0x18)
                    .collect()
            })
            .collect();
        let statement = Statement {
            sampling: Sampling {
                max_out: OUT,
                temperature: 2 << 16,
                repetition: 80_000,
                seed: [1; 32],
                mask_root: [9; 32],
                ..Sampling::default()
            },
            masks,
        };
        let prompt = [5, 9, 33, 60];
        let (fed, answer) = graphs::generate(&graph, &prompt, OUT, &statement);
        let values = eval::run_with(&graph, &fed, OUT, Some(&statement)).unwrap();
        let structure = graph.structure();
        let extent = Extent::answering(4, OUT).unwrap();
        let layout = Layout::new(&structure, extent);
        let (input, output) = (bytes(&prompt), bytes(&answer));
        let mut all = vec![input_commit(&SALT, &input)];
        for node in layout.checkpoints() {
            all.extend(leaves(&layout, &values[node as usize]));
        }
        all.push(output_commit(&SALT, &output));
        let last = layout.segment_of(values.len() as u32 - 1).unwrap();
        let inside = layout.segment_nodes(last);
        let inside = inside.flat_map(|n| leaves(&layout, &values[n as usize]));
        Self {
            segment: (last, Tree::new(Family::Trace, inside.collect())),
            trees: ConstTrees::new(graph.consts()),
            committed: Tree::new(Family::Trace, all),
            graph,
            structure,
            layout,
            extent,
            statement,
            values,
            input,
            output,
        }
    }

    /// Evidence for an element, by a challenger that believes `statement`.
    fn evidence(&self, node: u32, element: u64, statement: &Statement) -> Evidence {
        let (committed, own) = (
            TreeView::new(&self.committed),
            TreeView::new(&self.segment.1),
        );
        let prover = Prover {
            graph: &self.graph,
            trees: &self.trees,
            layout: &self.layout,
            values: &self.values,
            committed: &committed,
            segment: Some((self.segment.0, &own)),
            input: (&SALT, &self.input),
            output: &self.output,
            statement: Some(statement),
        };
        prover.element(node, element, self.extent).unwrap()
    }

    fn judge(&self, node: u32, block: u64, evidence: &Evidence) -> Result<Verdict, String> {
        let leaf = self.layout.segment_index(node, block).unwrap();
        let all = self.values[node as usize].data.to_bytes();
        let at = block as usize * self.layout.block_bytes();
        let opened = &all[at..at + self.layout.block_len(node, block)];
        let segment = Some((self.segment.0, &self.segment.1.root()));
        let hash = self.segment.1.node(0, leaf).unwrap();
        self.case(segment, leaf, &hash, Some(opened), evidence)
    }

    fn case(
        &self,
        segment: Option<(u32, &Hash)>,
        leaf: u64,
        leaf_hash: &Hash,
        block: Option<&[u8]>,
        evidence: &Evidence,
    ) -> Result<Verdict, String> {
        let masks = mask_tree(self.statement.masks.iter().map(Vec::as_slice));
        let case = Case {
            structure: &self.structure,
            tables_root: &self.trees.tables_root(),
            weights_root: &self.trees.weights_root(),
            extent: self.extent,
            sampling_hash: &self.statement.sampling.hash(),
            mask_root: &masks.root(),
            input_commit: &input_commit(&SALT, &self.input),
            output_commit: &output_commit(&SALT, &self.output),
            trace_root: &self.committed.root(),
            segment,
            leaf,
            leaf_hash,
            block,
        };
        let evidence = Evidence::decode(&evidence.encode()).unwrap();
        judge(&case, &evidence).map_err(|error| error.to_string())
    }

    fn elements(&self) -> impl Iterator<Item = (u32, u64, u64)> + '_ {
        self.layout.segment_nodes(self.segment.0).flat_map(|node| {
            let all = self.values[node as usize].data.len() as u64;
            let size = self.layout.element_size(node) as u64;
            let per_block = self.layout.block_bytes() as u64 / size;
            [0, all / 3, all - 1].map(move |element| (node, element, element / per_block))
        })
    }
}

fn others(honest: &Statement) -> Vec<Statement> {
    let mut seed = honest.clone();
    seed.sampling.seed = [2; 32];
    let mut bias = honest.clone();
    bias.sampling.bias = vec![(3, 65_536)];
    let mut free = honest.clone();
    free.sampling.mask_root = [0; 32];
    let mut grammar = honest.clone();
    grammar.sampling.mask_root = [8; 32];
    vec![seed, bias, free, grammar]
}

#[test]
fn another_statement_or_mask_is_not_heard() {
    let honest = Honest::new();
    let (mut sampled, mut masked) = (0, 0);
    for (node, element, block) in honest.elements() {
        let good = honest.evidence(node, element, &honest.statement);
        assert_eq!(
            honest.judge(node, block, &good),
            Ok(Verdict::AsserterRight),
            "node {node}"
        );
        let refuse = |evidence: &Evidence, what: &str| {
            let outcome = honest.judge(node, block, evidence);
            assert!(outcome.is_err(), "node {node}: {what}: {outcome:?}");
        };
        if good.sampling.is_none() {
            // A statement that nobody reads is refused as well, and so is a mask.
            let statement = Some(honest.statement.sampling.encode());
            refuse(
                &Evidence {
                    sampling: statement,
                    ..good.clone()
                },
                "superfluous statement",
            );
            continue;
        }
        sampled += 1;
        for other in others(&honest.statement) {
            // Built by its own lights, and with nothing but the statement exchanged.
            refuse(&honest.evidence(node, element, &other), "its own statement");
            let exchanged = Evidence {
                sampling: Some(other.sampling.encode()),
                ..good.clone()
            };
            refuse(&exchanged, "another statement");
        }
        refuse(
            &Evidence {
                sampling: None,
                ..good.clone()
            },
            "no statement",
        );
        let Some(mask) = &good.mask else { continue };
        masked += 1;
        let with = |mask: Option<MaskEvidence>| Evidence {
            mask,
            ..good.clone()
        };
        refuse(&with(None), "no mask");
        let mut bit = mask.clone();
        bit.bytes[0] ^= 1;
        refuse(&with(Some(bit)), "another bit");
        let mut row = mask.clone();
        row.row ^= 1;
        refuse(&with(Some(row)), "another row");
        let tree = mask_tree(honest.statement.masks.iter().map(Vec::as_slice));
        let other = u64::from(mask.row ^ 1);
        let neighbour = MaskEvidence {
            row: mask.row ^ 1,
            bytes: honest.statement.masks[other as usize].clone(),
            path: tree.path(other).unwrap(),
        };
        refuse(&with(Some(neighbour)), "the mask of another position");
        let mut long = mask.clone();
        long.bytes.push(0);
        refuse(&with(Some(long)), "a longer mask");
    }
    assert!(sampled >= 4 && masked >= 3, "{sampled} {masked}");
}

#[test]
fn an_answer_that_ends_where_it_should_is_right() {
    let honest = Honest::new();
    let committed = TreeView::new(&honest.committed);
    let prover = Prover {
        graph: &honest.graph,
        trees: &honest.trees,
        layout: &honest.layout,
        values: &honest.values,
        committed: &committed,
        segment: None,
        input: (&SALT, &honest.input),
        output: &honest.output,
        statement: Some(&honest.statement),
    };
    let leaf = honest.committed.leaves() - 1;
    let hash = honest.committed.node(0, leaf).unwrap();
    let good = prover.commitment(Leaf::OutputCommit).unwrap();
    let judge = |evidence: &Evidence| honest.case(None, leaf, &hash, None, evidence);
    assert_eq!(judge(&good), Ok(Verdict::AsserterRight));
    let with = |sampling: &Sampling| Evidence {
        sampling: Some(sampling.encode()),
        ..good.clone()
    };
    assert_eq!(
        judge(&with(&honest.statement.sampling)),
        Ok(Verdict::AsserterRight)
    );
    // Another receipt's statement, by which it would go on too long, is not heard.
    let mut shorter = honest.statement.sampling.clone();
    shorter.max_out = 2;
    assert!(judge(&with(&shorter)).is_err());
    let mut stopped = honest.statement.sampling.clone();
    stopped.stop = vec![u32::from_le_bytes(honest.output[..4].try_into().unwrap())];
    assert!(judge(&with(&stopped)).is_err());
    // The tokens are the input's: another answer or none is refused at the first leaf.
    let tokens = honest.evidence(0, 0, &honest.statement);
    let first = honest.committed.node(0, 1).unwrap();
    let block = honest.values[0].data.to_bytes();
    let at_input = |evidence: &Evidence| honest.case(None, 1, &first, Some(&block), evidence);
    assert_eq!(at_input(&tokens), Ok(Verdict::AsserterRight));
    for output in [None, Some(vec![0; honest.output.len()]), Some(Vec::new())] {
        let other = Evidence {
            output,
            ..tokens.clone()
        };
        assert!(at_input(&other).is_err());
    }
    let Data::I32(_) = &honest.values[0].data else {
        panic!("tokens are i32");
    };
}
