//! Which sizes of runs the arbiter takes, and how many leaves they have.

#[path = "../../graph/tests/common/mod.rs"]
mod graphs;

use assay_graph::Extent;
use assay_graph::layout::Layout;
use assay_modules::{Arbiter, RunSize};
use assay_node::GraphArbiter;

#[test]
fn the_size_of_a_run_is_that_of_its_kind_of_model() {
    let speaks = graphs::language_graph(1, 1, 32).structure();
    let plain = graphs::encoder_graph(1, 32, true).structure();
    let leaves = |structure: &assay_graph::Structure, n_in, n_out| {
        GraphArbiter.committed_leaves(&structure.to_bytes(), RunSize { n_in, n_out })
    };
    for (n_in, n_out) in [(1, 1), (5, 7), (32, 1), (1, 32), (16, 17)] {
        let extent = Extent::answering(n_in, n_out).unwrap();
        let want = Layout::new(&speaks, extent).committed_leaves();
        assert_eq!(leaves(&speaks, n_in, n_out), Ok(want), "{n_in} {n_out}");
    }
    for (n_in, n_out) in [
        (0, 1),
        (1, 0),
        (33, 1),
        (32, 2),
        (1, 33),
        (u32::MAX, u32::MAX),
        (2, u32::MAX),
    ] {
        assert!(leaves(&speaks, n_in, n_out).is_err(), "{n_in} {n_out}");
    }
    for n_in in [1, 32] {
        let want = Layout::new(&plain, n_in).committed_leaves();
        assert_eq!(leaves(&plain, n_in, 1), Ok(want));
    }
    for (n_in, n_out) in [(0, 1), (33, 1), (4, 0), (4, 2), (4, u32::MAX)] {
        assert!(leaves(&plain, n_in, n_out).is_err(), "{n_in} {n_out}");
    }
}
