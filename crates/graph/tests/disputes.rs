//! Every operator disputed: an asserter that changes one element of any node loses; an honest one wins whatever is thrown at it.

mod common;

use assay_graph::{
    Data, Extent, Graph, NodeId, Sampling, Statement, Structure, Tensor,
    arbiter::{Case, Verdict, judge},
    eval,
    evidence::{Evidence, Prover, first_difference},
    identity::ConstTrees,
    layout::{Layout, Leaf},
    ops::element,
    trace::{Family, Hash, Tree, TreeView, input_commit, leaf_hash, output_commit},
};
use common::{Rng, encoder_graph, generate, ids, image_graph, image_input, language_graph};

const SALT: Hash = [7; 32];

fn blocks(layout: &Layout, node: NodeId, t: &Tensor) -> Vec<Hash> {
    let bytes = t.data.to_bytes();
    if layout.blocks(node) == 0 {
        Vec::new()
    } else {
        bytes
            .chunks(layout.block_bytes())
            .map(|c| leaf_hash(Family::Trace, c))
            .collect()
    }
}

fn committed(layout: &Layout, values: &[Tensor], input: &[u8]) -> Tree {
    let mut leaves = vec![input_commit(&SALT, input)];
    for node in layout.checkpoints() {
        leaves.extend(blocks(layout, node, &values[node as usize]));
    }
    leaves.push(output_commit(
        &SALT,
        &values.last().unwrap().data.to_bytes(),
    ));
    assert_eq!(leaves.len() as u64, layout.committed_leaves());
    Tree::new(Family::Trace, leaves)
}

fn segment(layout: &Layout, segment: u32, values: &[Tensor]) -> Tree {
    let leaves: Vec<Hash> = layout
        .segment_nodes(segment)
        .flat_map(|n| blocks(layout, n, &values[n as usize]))
        .collect();
    assert_eq!(leaves.len() as u64, layout.segment_leaves(segment));
    Tree::new(Family::Trace, leaves)
}

/// Runs the graph with one element of `node` replaced after it was computed.
fn run_flipped(
    graph: &Graph,
    input: &Tensor,
    (out, statement): (u32, Option<&Statement>),
    node: NodeId,
    at: usize,
    by: i32,
) -> Vec<Tensor> {
    let honest = eval::run_with(graph, input, out, statement).unwrap();
    let seq = Extent {
        seq: eval::check_input(graph, input).unwrap(),
        out,
    };
    let kinds: Vec<_> = graph.consts().iter().map(|c| c.kind()).collect();
    let mut values_so_far: Vec<Tensor> = Vec::new();
    for (i, t) in honest.iter().enumerate() {
        let mut values = t.data.to_i32();
        if i > node as usize {
            struct Src<'a>(&'a Graph, Vec<Vec<i32>>, Option<&'a Statement>);
            impl assay_graph::ops::Source for Src<'_> {
                fn slice(
                    &self,
                    o: usize,
                    s: usize,
                    l: usize,
                ) -> Result<std::borrow::Cow<'_, [i32]>, assay_graph::GraphError> {
                    Ok(self.1[o][s..s + l].into())
                }
                fn row(
                    &self,
                    c: u32,
                    r: u32,
                ) -> Result<std::borrow::Cow<'_, [u8]>, assay_graph::GraphError> {
                    Ok(self.0.consts()[c as usize].row(r).unwrap().into())
                }
                fn sampling(&self) -> Result<&Sampling, assay_graph::GraphError> {
                    Ok(&self.2.unwrap().sampling)
                }
                fn mask(
                    &self,
                    row: u32,
                ) -> Result<std::borrow::Cow<'_, [u8]>, assay_graph::GraphError> {
                    Ok(self.2.unwrap().masks[row as usize].as_slice().into())
                }
            }
            let src = Src(
                graph,
                graph.nodes()[i]
                    .inputs
                    .iter()
                    .map(|p| values_so_far[*p as usize].data.to_i32())
                    .collect(),
                statement,
            );
            let place = eval::place(graph.nodes(), graph.types(), &kinds, i as u32, seq).unwrap();
            values = (0..values.len())
                .map(|e| element(&place, e, &src).unwrap())
                .collect();
        }
        if i == node as usize {
            values[at] = if values[at] == by { by ^ 1 } else { by };
        }
        values_so_far.push(
            Tensor::new(
                t.dims.clone(),
                Data::from_i32(t.data.dtype(), &values).unwrap(),
            )
            .unwrap(),
        );
    }
    values_so_far
}

struct Dispute<'a> {
    graph: &'a Graph,
    structure: Structure,
    layout: Layout,
    seq: Extent,
    trees: ConstTrees,
    statement: Option<Statement>,
    /// Canonical input; of a generative graph the prompt.
    input: Vec<u8>,
}

impl<'a> Dispute<'a> {
    fn new(graph: &'a Graph, input: &Tensor, seq: u32) -> Self {
        Self::of(graph, input.data.to_bytes(), seq.into(), None)
    }

    fn of(graph: &'a Graph, input: Vec<u8>, seq: Extent, statement: Option<Statement>) -> Self {
        let structure = graph.structure();
        let layout = Layout::new(&structure, seq);
        Self {
            graph,
            structure,
            layout,
            seq,
            trees: ConstTrees::new(graph.consts()),
            statement,
            input,
        }
    }

    /// The way of docs/protocol.md, without the chain. Returns the verdict, the evidence's size and whether a segment was opened.
    fn play(&self, theirs: &[Tensor], own: &[Tensor], whole_block: bool) -> (Verdict, usize, bool) {
        let (asserted, honest) = (
            committed(&self.layout, theirs, &self.input),
            committed(&self.layout, own, &self.input),
        );
        let leaf = (0..honest.leaves())
            .find(|i| asserted.node(0, *i) != honest.node(0, *i))
            .expect("roots differ");
        let mut view = TreeView::new(&honest);
        // the descent shows the siblings of the way down, nothing right of it
        for level in (0..asserted.depth()).rev() {
            view.reveal(
                level + 1,
                leaf >> (level + 1),
                &asserted
                    .descendants(level + 1, leaf >> (level + 1), 1)
                    .unwrap(),
            );
        }
        let salt = SALT;
        let input = self.input.clone();
        let output = theirs.last().unwrap().data.to_bytes();
        let node = match self.layout.committed_leaf(leaf).unwrap() {
            Leaf::Block { node, .. } => node,
            other => {
                let prover = Prover {
                    graph: self.graph,
                    trees: &self.trees,
                    layout: &self.layout,
                    values: own,
                    committed: &view,
                    segment: None,
                    input: (&salt, &input),
                    output: &output,
                    statement: self.statement.as_ref(),
                };
                let evidence = prover.commitment(other).unwrap();
                let case = self.case(
                    theirs,
                    &asserted,
                    None,
                    leaf,
                    &asserted.node(0, leaf).unwrap(),
                    None,
                    &evidence,
                );
                return (case.unwrap(), evidence.encode().len(), false);
            }
        };
        let number = self.layout.segment_of(node).unwrap();
        let inner = self.layout.segment_nodes(number).count() > 1;
        let (asserted_segment, honest_segment) = (
            segment(&self.layout, number, theirs),
            segment(&self.layout, number, own),
        );
        let mut segment_view = TreeView::new(&honest_segment);
        let (leaf, node, block, hash) = if inner {
            let leaf = (0..honest_segment.leaves())
                .find(|i| asserted_segment.node(0, *i) != honest_segment.node(0, *i))
                .unwrap();
            for level in (0..asserted_segment.depth()).rev() {
                segment_view.reveal(
                    level + 1,
                    leaf >> (level + 1),
                    &asserted_segment
                        .descendants(level + 1, leaf >> (level + 1), 1)
                        .unwrap(),
                );
            }
            let (node, block) = self.layout.segment_leaf(number, leaf).unwrap();
            (leaf, node, block, asserted_segment.node(0, leaf).unwrap())
        } else {
            let Some(Leaf::Block { node, block }) = self.layout.committed_leaf(leaf) else {
                unreachable!()
            };
            (leaf, node, block, asserted.node(0, leaf).unwrap())
        };
        let prover = Prover {
            graph: self.graph,
            trees: &self.trees,
            layout: &self.layout,
            values: own,
            committed: &view,
            segment: inner.then_some((number, &segment_view)),
            input: (&salt, &input),
            output: &output,
            statement: self.statement.as_ref(),
        };
        let bytes = theirs[node as usize].data.to_bytes();
        let at = block as usize * self.layout.block_bytes();
        let opened = &bytes[at..at + self.layout.block_len(node, block)];
        let evidence = if whole_block {
            prover.block(node, block, self.seq).unwrap()
        } else {
            let index =
                first_difference(&self.layout, node, block, opened, &own[node as usize]).unwrap();
            prover.element(node, index, self.seq).unwrap()
        };
        let root = asserted_segment.root();
        let verdict = self.case(
            theirs,
            &asserted,
            inner.then_some((number, &root)),
            leaf,
            &hash,
            (!whole_block).then_some(opened),
            &evidence,
        );
        (verdict.unwrap(), evidence.encode().len(), inner)
    }

    #[allow(clippy::too_many_arguments, reason = "a test's shorthand for a struct")]
    fn case(
        &self,
        theirs: &[Tensor],
        asserted: &Tree,
        segment: Option<(u32, &Hash)>,
        leaf: u64,
        leaf_hash: &Hash,
        block: Option<&[u8]>,
        evidence: &Evidence,
    ) -> Result<Verdict, assay_graph::GraphError> {
        let evidence = Evidence::decode(&evidence.encode()).unwrap();
        let case = Case {
            structure: &self.structure,
            tables_root: &self.trees.tables_root(),
            weights_root: &self.trees.weights_root(),
            extent: self.seq,
            sampling_hash: &self
                .statement
                .as_ref()
                .map_or([0; 32], |s| s.sampling.hash()),
            mask_root: &self
                .statement
                .as_ref()
                .map_or([0; 32], |s| s.sampling.mask_root),
            input_commit: &input_commit(&SALT, &self.input),
            output_commit: &output_commit(&SALT, &theirs.last().unwrap().data.to_bytes()),
            trace_root: &asserted.root(),
            segment,
            leaf,
            leaf_hash,
            block,
        };
        judge(&case, &evidence)
    }
}

fn flips_everywhere(graph: &Graph, input: &Tensor, seq: u32) {
    let dispute = Dispute::new(graph, input, seq);
    let own = eval::run(graph, input).unwrap();
    let mut rng = Rng(99);
    let mut segments = 0;
    for node in 1..graph.nodes().len() as NodeId {
        if dispute.layout.blocks(node) == 0 {
            continue;
        }
        for _ in 0..4 {
            let n = own[node as usize].data.len();
            let at = rng.next() as usize % n;
            let (lo, hi) = own[node as usize].data.dtype().range();
            let by = rng.range(i64::from(lo.max(-40000)), i64::from(hi.min(40000)));
            let theirs = run_flipped(graph, input, (1, None), node, at, by);
            let root = |values| committed(&dispute.layout, values, &dispute.input).root();
            if root(&theirs) == root(&own) {
                continue; // the change died out before the next checkpoint: nothing false was asserted
            }
            let (verdict, bytes, inner) = dispute.play(&theirs, &own, false);
            assert_eq!(verdict, Verdict::AsserterWrong, "node {node} element {at}");
            assert!(
                bytes <= 64 << 10,
                "evidence of {bytes} bytes for node {node}"
            );
            segments += usize::from(inner);
            if !inner {
                assert_eq!(
                    dispute.play(&theirs, &own, true).0,
                    Verdict::AsserterWrong,
                    "one shot, node {node} element {at}"
                );
            }
        }
    }
    assert!(
        segments > 0
            || graph
                .nodes()
                .iter()
                .all(|n| n.checkpoint || matches!(n.op, assay_graph::Op::Reshape { .. }))
    );
}

#[test]
fn a_changed_element_of_any_image_operator_loses() {
    for (seed, all) in [(1, true), (2, false)] {
        flips_everywhere(&image_graph(seed, all), &image_input(seed), 1);
    }
}

#[test]
fn a_changed_element_of_any_encoder_operator_loses() {
    for (seed, n) in [(1, 1), (2, 7), (3, 40)] {
        flips_everywhere(&encoder_graph(seed, 40, seed == 3), &ids(seed, n), n as u32);
    }
}

#[test]
fn an_honest_asserter_wins_at_every_leaf() {
    let graph = image_graph(5, true);
    let input = image_input(5);
    let dispute = Dispute::new(&graph, &input, 1);
    let own = eval::run(&graph, &input).unwrap();
    let tree = committed(&dispute.layout, &own, &dispute.input);
    let view = TreeView::new(&tree);
    let bytes = own[0].data.to_bytes();
    let prover = Prover {
        graph: &graph,
        trees: &dispute.trees,
        layout: &dispute.layout,
        values: &own,
        committed: &view,
        segment: None,
        input: (&SALT, &bytes),
        output: &[],
        statement: None,
    };
    for leaf in 0..tree.leaves() {
        let hash = tree.node(0, leaf).unwrap();
        match dispute.layout.committed_leaf(leaf).unwrap() {
            Leaf::Block { node, block } => {
                let all = own[node as usize].data.to_bytes();
                let at = block as usize * dispute.layout.block_bytes();
                let opened = &all[at..at + dispute.layout.block_len(node, block)];
                let first = (at / dispute.layout.element_size(node)) as u64;
                for index in [
                    first,
                    first + (opened.len() / dispute.layout.element_size(node)) as u64 - 1,
                ] {
                    let evidence = prover.element(node, index, 1).unwrap();
                    assert_eq!(
                        dispute.case(&own, &tree, None, leaf, &hash, Some(opened), &evidence),
                        Ok(Verdict::AsserterRight),
                        "node {node}"
                    );
                }
                let evidence = prover.block(node, block, 1).unwrap();
                assert_eq!(
                    dispute.case(&own, &tree, None, leaf, &hash, None, &evidence),
                    Ok(Verdict::AsserterRight),
                    "node {node}"
                );
            }
            other => {
                let evidence = prover.commitment(other).unwrap();
                assert_eq!(
                    dispute.case(&own, &tree, None, leaf, &hash, None, &evidence),
                    Ok(Verdict::AsserterRight)
                );
            }
        }
    }
}

#[test]
fn evidence_that_is_not_exactly_what_is_read_is_refused() {
    let graph = encoder_graph(4, 20, true);
    let input = ids(4, 20);
    let dispute = Dispute::new(&graph, &input, 20);
    let own = eval::run(&graph, &input).unwrap();
    let tree = committed(&dispute.layout, &own, &dispute.input);
    let view = TreeView::new(&tree);
    let bytes = own[0].data.to_bytes();
    let number = dispute
        .layout
        .segment_of(dispute.graph.nodes().len() as u32 - 3)
        .unwrap();
    let seg = segment(&dispute.layout, number, &own);
    let seg_view = TreeView::new(&seg);
    let prover = Prover {
        graph: &graph,
        trees: &dispute.trees,
        layout: &dispute.layout,
        values: &own,
        committed: &view,
        segment: Some((number, &seg_view)),
        input: (&SALT, &bytes),
        output: &[],
        statement: None,
    };
    let root = seg.root();
    for leaf in 0..seg.leaves() {
        let (node, block) = dispute.layout.segment_leaf(number, leaf).unwrap();
        let all = own[node as usize].data.to_bytes();
        let at = block as usize * dispute.layout.block_bytes();
        let opened = &all[at..at + dispute.layout.block_len(node, block)];
        let index = (at / dispute.layout.element_size(node)) as u64;
        let good = prover.element(node, index, 20).unwrap();
        let hash = seg.node(0, leaf).unwrap();
        let judge = |e: &Evidence| {
            dispute.case(
                &own,
                &tree,
                Some((number, &root)),
                leaf,
                &hash,
                Some(opened),
                e,
            )
        };
        assert_eq!(judge(&good), Ok(Verdict::AsserterRight));
        for i in 0..good.blocks.len() {
            let mut missing = good.clone();
            missing.blocks.remove(i);
            assert!(judge(&missing).is_err());
            let mut moved = good.clone();
            moved.blocks[i].leaf += 1;
            assert!(judge(&moved).is_err());
            let mut bad_path = good.clone();
            if let Some(h) = bad_path.blocks[i].path.first_mut() {
                h[0] ^= 1;
                assert!(judge(&bad_path).is_err());
            }
        }
        for i in 0..good.rows.len() {
            let mut missing = good.clone();
            missing.rows.remove(i);
            assert!(judge(&missing).is_err());
            let mut changed = good.clone();
            *changed.rows[i].bytes.last_mut().unwrap() ^= 1;
            assert!(judge(&changed).is_err());
        }
        let mut extra = good.clone();
        extra.input = Some((SALT, bytes.clone()));
        assert!(judge(&extra).is_err());
        if let Some(other) = prover.element(6, 0, 20).ok().filter(|_| node != 6) {
            let mut extra = good.clone();
            extra.blocks.extend(other.blocks);
            extra.blocks.sort_by_key(|b| (b.tree, b.leaf));
            extra.blocks.dedup_by_key(|b| (b.tree, b.leaf));
            if extra.blocks.len() > good.blocks.len() {
                assert!(judge(&extra).is_err());
            }
        }
    }
}

#[test]
fn false_commitments_lose() {
    let graph = image_graph(6, true);
    let input = image_input(6);
    let dispute = Dispute::new(&graph, &input, 1);
    let own = eval::run(&graph, &input).unwrap();
    let mut leaves = committed(&dispute.layout, &own, &dispute.input)
        .leaf_hashes()
        .to_vec();
    // a last leaf that opens to another answer than the trace's
    let lie = output_commit(&SALT, &[9, 0, 0, 0]);
    let last = leaves.len() - 1;
    leaves[last] = lie;
    let asserted = Tree::new(Family::Trace, leaves);
    let view = TreeView::new(&asserted);
    let bytes = own[0].data.to_bytes();
    let prover = Prover {
        graph: &graph,
        trees: &dispute.trees,
        layout: &dispute.layout,
        values: &own,
        committed: &view,
        segment: None,
        input: (&SALT, &bytes),
        output: &[],
        statement: None,
    };
    let evidence = prover.commitment(Leaf::OutputCommit).unwrap();
    let case = Case {
        structure: &dispute.structure,
        tables_root: &dispute.trees.tables_root(),
        weights_root: &dispute.trees.weights_root(),
        extent: 1.into(),
        sampling_hash: &[0; 32],
        mask_root: &[0; 32],
        input_commit: &input_commit(&SALT, &bytes),
        output_commit: &lie,
        trace_root: &asserted.root(),
        segment: None,
        leaf: last as u64,
        leaf_hash: &lie,
        block: None,
    };
    assert_eq!(judge(&case, &evidence), Ok(Verdict::AsserterWrong));
    let first = Case {
        leaf: 0,
        leaf_hash: &lie,
        ..case
    };
    assert_eq!(
        judge(&first, &Evidence::default()),
        Ok(Verdict::AsserterWrong)
    );
}

/// The asserter chooses `nIn`: a run over a part of the input, or over more, is consistent in itself. The input's leaf decides.
#[test]
fn another_number_of_positions_than_the_input_has_loses() {
    let graph = encoder_graph(9, 40, true);
    let input = ids(9, 12);
    let truth = input.data.to_bytes();
    for positions in [1usize, 11, 13, 40] {
        let other = ids(9, positions);
        let theirs = eval::run(&graph, &other).unwrap();
        let dispute = Dispute::new(&graph, &other, positions as u32);
        let asserted = committed(&dispute.layout, &theirs, &dispute.input);
        let evidence = Evidence {
            input: Some((SALT, truth.clone())),
            ..Evidence::default()
        };
        let hash = asserted.node(0, 1).unwrap();
        for (leaf, leaf_hash, block) in [
            (1, &hash, Some(&other.data.to_bytes()[..])),
            (1, &hash, None),
        ] {
            let case = Case {
                structure: &dispute.structure,
                tables_root: &dispute.trees.tables_root(),
                weights_root: &dispute.trees.weights_root(),
                extent: (positions as u32).into(),
                sampling_hash: &[0; 32],
                mask_root: &[0; 32],
                input_commit: &input_commit(&SALT, &truth),
                output_commit: &output_commit(&SALT, &theirs.last().unwrap().data.to_bytes()),
                trace_root: &asserted.root(),
                segment: None,
                leaf,
                leaf_hash,
                block,
            };
            assert_eq!(
                judge(&case, &evidence),
                Ok(Verdict::AsserterWrong),
                "{positions} positions"
            );
        }
    }
}

/// One element of every node of a language model changed, sampled tokens included: the claimed tokens are put in, and the first wrong leaf is judged.
#[test]
fn a_changed_element_of_any_language_operator_loses() {
    let graph = language_graph(2, 2, 24);
    let mut rng = Rng(7);
    for masked in [false, true] {
        let mut statement = Statement {
            sampling: Sampling {
                temperature: 3 << 16,
                top_k: 50,
                top_p: 65_000,
                repetition: 70_000,
                seed: [5; 32],
                ..Sampling::default()
            },
            masks: Vec::new(),
        };
        if masked {
            statement.masks = vec![vec![0xFF; 9], vec![0x3F; 9], vec![0xFC; 9], vec![0xFF; 9]];
            let tree = assay_graph::sampling::mask_tree(statement.masks.iter().map(Vec::as_slice));
            statement.sampling.mask_root = tree.root();
        }
        let prompt = [3, 1, 4, 1, 5, 9, 2];
        let (tokens, answer) = generate(&graph, &prompt, 4, &statement);
        let input = Data::I32(prompt.to_vec()).to_bytes();
        let extent = Extent::answering(7, 4).unwrap();
        let dispute = Dispute::of(&graph, input, extent, Some(statement.clone()));
        let mut caught = 0;
        for node in 0..graph.nodes().len() as NodeId {
            for _ in 0..5 {
                let honest = eval::run_with(&graph, &tokens, 4, Some(&statement)).unwrap();
                let n = honest[node as usize].data.len();
                let at = rng.next() as usize % n;
                let by = match node {
                    0 => rng.range(0, 69),
                    _ => honest[node as usize].data.get(at).unwrap() ^ (1 << (rng.next() % 5)),
                };
                let theirs = run_flipped(&graph, &tokens, (4, Some(&statement)), node, at, by);
                // what a challenger knows is the claimed answer
                let claimed = theirs.last().unwrap().data.to_i32();
                let forced: Vec<i32> = prompt.iter().chain(&claimed[..3]).copied().collect();
                let Ok(forced) = Tensor::new(vec![10], Data::I32(forced)) else {
                    unreachable!()
                };
                let Ok(own) = eval::run_with(&graph, &forced, 4, Some(&statement)) else {
                    continue; // a token outside the vocabulary: no honest run has it
                };
                let root = |values| committed(&dispute.layout, values, &dispute.input).root();
                if root(&theirs) == root(&own) {
                    continue;
                }
                let (verdict, bytes, _) = dispute.play(&theirs, &own, false);
                assert_eq!(verdict, Verdict::AsserterWrong, "node {node} element {at}");
                assert!(bytes <= 64 << 10, "{bytes} bytes for node {node}");
                caught += 1;
            }
        }
        assert!(caught > 100, "{caught} lies were told");
        // the honest run stands
        let own = eval::run_with(&graph, &tokens, 4, Some(&statement)).unwrap();
        assert_eq!(own.last().unwrap().data.to_i32(), answer);
    }
}
