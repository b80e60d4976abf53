//! embedding, transpose, slice, concat: exact moves.

use crate::{simd::elementwise::Element, threads};

/// Side of the squares in which two axes change places: 32 × 32 elements of 2 bytes are 2 KiB.
const SQUARE: usize = 32;

/// Rows of a table by id. Ids are within the table by the graph's bounds; others give no bytes.
pub(crate) fn embedding<T: Element>(ids: &[i32], table: &[T], cols: usize, out: &mut [T]) {
    for (o, id) in out.chunks_exact_mut(cols.max(1)).zip(ids) {
        let from = usize::try_from(*id)
            .unwrap_or(usize::MAX)
            .saturating_mul(cols);
        if let Some(row) = table.get(from..from.saturating_add(cols)) {
            o.copy_from_slice(row);
        }
    }
}

/// One axis of a transposition: how many, and how far apart in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Axis {
    n: usize,
    stride: usize,
}

/// Output axes as steps in the input; axes that stay neighbours are one.
fn axes(dims: &[usize], perm: &[u8]) -> Vec<Axis> {
    let mut strides = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i];
    }
    let mut out: Vec<Axis> = Vec::new();
    for p in perm {
        let next = Axis {
            n: dims[usize::from(*p)],
            stride: strides[usize::from(*p)],
        };
        match out.last_mut() {
            _ if next.n == 1 => {}
            Some(last) if last.stride == next.stride * next.n => {
                *last = Axis {
                    n: last.n * next.n,
                    stride: next.stride,
                }
            }
            _ => out.push(next),
        }
    }
    if out.is_empty() {
        out.push(Axis { n: 1, stride: 1 });
    }
    out
}

/// Output axis i is input axis `perm[i]`.
pub(crate) fn transpose<T: Element>(
    threads: usize,
    x: &[T],
    dims: &[usize],
    perm: &[u8],
    out: &mut [T],
) {
    let axes = axes(dims, perm);
    let Some((first, rest)) = axes.split_first() else {
        return;
    };
    let inner: usize = rest.iter().map(|a| a.n).product();
    threads::rows(threads, 1, out, inner, |at, part| {
        for (i, part) in part.chunks_exact_mut(inner.max(1)).enumerate() {
            place(&x[(at + i) * first.stride..], rest, part);
        }
    });
}

fn place<T: Element>(x: &[T], axes: &[Axis], out: &mut [T]) {
    match axes {
        [] => out[0] = x[0],
        [a] if a.stride == 1 => out.copy_from_slice(&x[..a.n]),
        [a] => {
            for (i, o) in out.iter_mut().enumerate() {
                *o = x[i * a.stride];
            }
        }
        [a, b] if b.stride == 1 => {
            for (i, o) in out.chunks_exact_mut(b.n).enumerate() {
                o.copy_from_slice(&x[i * a.stride..i * a.stride + b.n]);
            }
        }
        [a, b] => square(x, *a, *b, out),
        [a, rest @ ..] => {
            let inner: usize = rest.iter().map(|r| r.n).product();
            for (i, o) in out.chunks_exact_mut(inner).enumerate() {
                place(&x[i * a.stride..], rest, o);
            }
        }
    }
}

/// Two axes in squares, so that lines of the input are used while they are in cache.
fn square<T: Element>(x: &[T], a: Axis, b: Axis, out: &mut [T]) {
    for i0 in (0..a.n).step_by(SQUARE) {
        for j0 in (0..b.n).step_by(SQUARE) {
            for i in i0..(i0 + SQUARE).min(a.n) {
                let width = SQUARE.min(b.n - j0);
                let o = &mut out[i * b.n + j0..i * b.n + j0 + width];
                let line = &x[i * a.stride + j0 * b.stride..];
                for (o, x) in o.iter_mut().zip(line.iter().step_by(b.stride)) {
                    *o = *x;
                }
            }
        }
    }
}

/// `len` indices from `start` along an axis with `inner` elements below it and `n` indices.
pub(crate) fn slice<T: Element>(
    x: &[T],
    n: usize,
    inner: usize,
    start: usize,
    len: usize,
    out: &mut [T],
) {
    for (x, o) in x
        .chunks_exact((n * inner).max(1))
        .zip(out.chunks_exact_mut((len * inner).max(1)))
    {
        o.copy_from_slice(&x[start * inner..(start + len) * inner]);
    }
}

/// Puts one operand into place: its rows are `own` elements, at `at` of the output's rows of `all`.
pub(crate) fn join<T: Element>(x: &[T], own: usize, at: usize, all: usize, out: &mut [T]) {
    for (x, o) in x
        .chunks_exact(own.max(1))
        .zip(out.chunks_exact_mut(all.max(1)))
    {
        o[at..at + own].copy_from_slice(x);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn transposing_places_every_element(dims in prop::collection::vec(1usize..6, 1..5), key in any::<u64>(), wide in 1usize..70) {
            let mut dims = dims;
            dims[0] = wide;
            let mut perm: Vec<u8> = (0..dims.len() as u8).collect();
            let mut k = key;
            for i in (1..perm.len()).rev() {
                perm.swap(i, (k % (i as u64 + 1)) as usize);
                k /= 7;
            }
            let n: usize = dims.iter().product();
            let x: Vec<i32> = (0..n as i32).collect();
            let mut out = vec![0; n];
            transpose(1, &x, &dims, &perm, &mut out);
            let to: Vec<usize> = perm.iter().map(|p| dims[usize::from(*p)]).collect();
            for (i, o) in out.iter().enumerate() {
                let (mut rest, mut at) = (i, vec![0; dims.len()]);
                for (axis, d) in to.iter().enumerate().rev() {
                    at[usize::from(perm[axis])] = rest % d;
                    rest /= d;
                }
                let from = dims.iter().zip(&at).fold(0, |a, (d, c)| a * d + c);
                prop_assert_eq!(*o, x[from]);
            }
        }
    }
}
