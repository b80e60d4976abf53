//! A run of one segment has the outputs of the whole run, and lets go of the rest.

#[path = "../../graph/tests/common/mod.rs"]
mod graphs;

use std::sync::Arc;

use assay_engine::{Engine, EngineError, EngineOptions};
use assay_graph::{Extent, Sampling, Statement};

#[test]
fn a_segment_is_the_whole_run_of_its_nodes() {
    let graph = Arc::new(graphs::language_graph(4, 3, 48));
    let statement = Statement {
        sampling: Sampling {
            max_out: 7,
            temperature: 1 << 16,
            seed: [5; 32],
            ..Sampling::default()
        },
        masks: Vec::new(),
    };
    let (tokens, _) = graphs::generate(&graph, &[3, 5, 8, 13, 21], 7, &statement);
    let engine = Engine::new(Arc::clone(&graph), EngineOptions::default()).unwrap();
    let whole = engine.run_full_language(&tokens, 7, &statement).unwrap();
    let layout = engine.layout(Extent::answering(5, 7).unwrap());
    let nodes = graph.nodes().len() as u32;
    let last = layout.segment_of(nodes - 1).unwrap();
    assert!(last >= 4);
    for segment in 0..=last {
        let part = engine.run_segment(&tokens, 7, &statement, segment).unwrap();
        assert_eq!(part.outputs.len(), whole.outputs.len());
        let mut kept = 0;
        for node in 0..nodes {
            let (have, want) = (&part.outputs[node as usize], &whole.outputs[node as usize]);
            let inside = layout.segment_of(node) == Some(segment);
            assert!(!inside || have == want, "node {node} of segment {segment}");
            assert!(have.data.is_empty() || have == want, "node {node}");
            kept += usize::from(!have.data.is_empty());
            if inside {
                for producer in &graph.nodes()[node as usize].inputs {
                    assert_eq!(
                        part.outputs[*producer as usize],
                        whole.outputs[*producer as usize]
                    );
                }
            }
        }
        let own = (0..nodes).filter(|n| layout.segment_of(*n) == Some(segment));
        assert!(kept <= own.count() + 2, "{kept} kept for segment {segment}");
        assert_eq!(
            part.segment_tree(&layout, segment).root(),
            whole.segment_tree(&layout, segment).root()
        );
    }
    // No such segment: nothing is run.
    let none = engine
        .run_segment(&tokens, 7, &statement, last + 1)
        .unwrap();
    assert!(none.outputs.iter().all(|t| t.data.is_empty()));
    assert!(matches!(
        engine.run_segment(&tokens, 0, &statement, 0),
        Err(EngineError::Answer { .. })
    ));
}
