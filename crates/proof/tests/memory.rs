//! What a prover is said to need is what it allocates.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use assay_graph::{
    DType, Data, Dim, Extent, Graph, GraphBuilder, Header, Op, Requant, Tensor, TensorType,
    WeightRow,
};
use assay_proof::{Input, MEMORY, Mode, ProvingKey, prove, verify};

/// The system's allocator, with the bytes that are allocated and the most that were.
struct Counting;

static NOW: AtomicU64 = AtomicU64::new(0);
static MOST: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator as it is
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = layout.size() as u64;
        MOST.fetch_max(NOW.fetch_add(size, Relaxed) + size, Relaxed);
        // SAFETY: the caller's layout
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let size = layout.size() as u64;
        MOST.fetch_max(NOW.fetch_add(size, Relaxed) + size, Relaxed);
        // SAFETY: the caller's layout
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size() as u64, Relaxed);
        // SAFETY: the caller's block
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Square layers, so many, of this width.
fn layers(count: usize, width: usize, lines: u32) -> Graph {
    let mut b = GraphBuilder::new(Header {
        max_seq: 1,
        block_bits: 10,
    });
    let ty = TensorType {
        dtype: DType::I8,
        shape: vec![Dim::Fixed(lines), Dim::Fixed(width as u32)],
        lo: -128,
        hi: 127,
    };
    let mut x = b.input(ty).expect("an input");
    let mut state = 1u64;
    let mut draw = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        i64::from((state >> 40) as i8)
    };
    for _ in 0..count {
        let rows: Vec<WeightRow> = (0..width)
            .map(|_| WeightRow {
                shift: 12,
                bias: 5,
                values: (0..width).map(|_| draw() as i32).collect(),
            })
            .collect();
        let weights = b.weights(DType::I8, &rows).expect("weights");
        let out = Requant {
            shift: 0,
            dtype: DType::I8,
            lo: -128,
            hi: 127,
        };
        let op = Op::Linear { weights, out };
        x = b.push("layer", op, &[x], true).expect("a layer");
    }
    b.finish().expect("a graph")
}

#[test]
fn a_prover_takes_what_is_said() {
    for (count, width, lines, runs) in [(4, 512, 48, 1), (8, 512, 48, 8)] {
        let graph = Arc::new(layers(count, width, lines));
        let key = ProvingKey::new(Arc::clone(&graph)).expect("a key");
        let values: Vec<i32> = (0..width as i32 * lines as i32)
            .map(|i| i % 256 - 128)
            .collect();
        let data = Data::from_i32(DType::I8, &values).expect("small numbers");
        let tensor = Tensor::new(vec![lines as usize, width], data).expect("a tensor");
        let input = Input {
            tensor,
            out: 1,
            sampling: None,
        };
        let cost = key
            .key()
            .cost(Mode::Committed, Extent { seq: 1, out: 1 }, runs, MEMORY)
            .expect("a cost");
        MOST.store(NOW.load(Relaxed), Relaxed);
        let proof = prove(&key, &vec![input; runs], b"", &mut |_| {}).expect("a proof");
        let most = MOST.load(Relaxed);
        verify(key.key(), &proof).expect("verifies");
        let said = cost.memory();
        println!("{cost:?}: {said} bytes said, {most} taken");
        assert!(most <= said, "{most} bytes were taken, {said} said");
        assert!(2 * said <= 3 * most, "{most} bytes were taken, {said} said");
    }
}
