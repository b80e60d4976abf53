//! Graph files and structures: total, canonical, bounded.
#![no_main]

use assay_graph::{Graph, Structure};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(structure) = Structure::from_bytes(bytes) {
        assert_eq!(structure.to_bytes(), bytes);
    }
    if let Ok(graph) = Graph::from_bytes(bytes) {
        assert_eq!(graph.to_bytes(), bytes);
    }
});
