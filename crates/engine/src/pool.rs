//! Pools over `[h, w, c]` images and reductions over the last axis.

use assay_graph::Window;

use crate::{
    conv::{Shape, inside},
    simd::{
        conv::{max_row, sum_row},
        elementwise::Element,
        isa::Isa,
    },
    threads,
};

/// What a window of cells becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    Max,
    Average,
}

/// One pool over an image.
pub(crate) fn pool<T: Element>(
    isa: Isa,
    threads: usize,
    kind: Pool,
    x: &[T],
    shape: Shape,
    window: &Window,
    out: &mut [T],
) {
    let ([h, w, c], [_, ow, _]) = (shape.image, shape.out);
    threads::rows(threads, 8, out, c, |first, part| {
        let mut acc = vec![0i32; c];
        for (i, o) in part.chunks_exact_mut(c).enumerate() {
            let (oy, ox) = ((first + i) / ow, (first + i) % ow);
            acc.fill(if kind == Pool::Max { i32::MIN } else { 0 });
            let mut cells = 0i64;
            for ky in 0..usize::from(window.kernel[0]) {
                let Some(y) = inside(oy, window.stride[0], ky, window.pad[0], h) else {
                    continue;
                };
                for kx in 0..usize::from(window.kernel[1]) {
                    let Some(px) = inside(ox, window.stride[1], kx, window.pad[1], w) else {
                        continue;
                    };
                    let cell = &x[(y * w + px) * c..][..c];
                    match kind {
                        Pool::Max => max_row(isa, cell, &mut acc),
                        Pool::Average => sum_row(isa, cell, &mut acc),
                    }
                    cells += 1;
                }
            }
            for (o, a) in o.iter_mut().zip(&acc) {
                *o = T::narrow(match kind {
                    Pool::Max => *a,
                    Pool::Average => {
                        (2 * i64::from(*a) + cells).div_euclid((2 * cells).max(1)) as i32
                    }
                });
            }
        }
    });
}

/// `Σ x` of each row of `n`.
pub(crate) fn reduce_sum<T: Element>(x: &[T], n: usize, out: &mut [i32]) {
    for (o, x) in out.iter_mut().zip(x.chunks_exact(n.max(1))) {
        *o = x.iter().fold(0i32, |s, v| s.wrapping_add(v.wide()));
    }
}

/// Lowest index of the maximum of each row of `n`.
pub(crate) fn arg_max<T: Element>(x: &[T], n: usize, out: &mut [i32]) {
    for (o, x) in out.iter_mut().zip(x.chunks_exact(n.max(1))) {
        let mut best = (0, i32::MIN);
        for (i, v) in x.iter().enumerate() {
            if i == 0 || v.wide() > best.1 {
                best = (i, v.wide());
            }
        }
        *o = best.0 as i32;
    }
}
