//! Tensors of integers seen at points: contractions with axis vectors, on the prover's side.

use p3_field::{BasedVectorSpace, PrimeCharacteristicRing, PrimeField32};
use rayon::prelude::*;

use crate::{
    field::{DEGREE, EF, F, embed},
    functional::{Place, Points},
    mle::log2_ceil,
    plan::expr::{Index, Read},
};

/// Weights below this need no reduction before 2^15 of their products are summed.
const SMALL: u32 = 1 << 16;

/// `Σ_i u_i · x_i` of integers.
pub(crate) fn dot(u: &[EF], x: &[i32]) -> EF {
    u.iter()
        .zip(x)
        .map(|(u, x)| *u * embed(i64::from(*x)))
        .sum()
}

/// `out[j] = Σ_i u[i]·x[i·inner + j]`.
pub(crate) fn fold_rows(u: &[EF], x: &[i32], inner: usize) -> Vec<EF> {
    const BLOCK: usize = 64;
    const LINES: usize = 1 << 14;
    let coordinates: Vec<[i64; DEGREE]> = u
        .iter()
        .map(|v| {
            let c: &[F] = v.as_basis_coefficients_slice();
            std::array::from_fn(|i| i64::from(c[i].as_canonical_u32()))
        })
        .collect();
    let small = x
        .par_chunks(1 << 16)
        .all(|c| c.iter().all(|v| v.unsigned_abs() < SMALL));
    if !small {
        return (0..inner)
            .into_par_iter()
            .map(|j| {
                u.iter()
                    .enumerate()
                    .map(|(i, u)| *u * embed(i64::from(x[i * inner + j])))
                    .sum()
            })
            .collect();
    }
    let blocks: Vec<usize> = (0..inner).step_by(BLOCK).collect();
    let parts: Vec<Vec<EF>> = blocks
        .into_par_iter()
        .map(|start| {
            let width = BLOCK.min(inner - start);
            let mut out = vec![EF::ZERO; width];
            for (chunk, lines) in coordinates.chunks(LINES).enumerate() {
                let mut sums = [[0i64; BLOCK]; DEGREE];
                for (i, c) in lines.iter().enumerate() {
                    let row = &x[(chunk * LINES + i) * inner + start..][..width];
                    for (sum, c) in sums.iter_mut().zip(c) {
                        // at most 2^14 products of 31 and 16 bits
                        for (s, v) in sum.iter_mut().zip(row) {
                            *s += c * i64::from(*v);
                        }
                    }
                }
                for (j, out) in out.iter_mut().enumerate() {
                    let c: [F; DEGREE] = std::array::from_fn(|i| F::from_i64(sums[i][j]));
                    *out += EF::from_basis_coefficients_fn(|i| c[i]);
                }
            }
            out
        })
        .collect();
    parts.concat()
}

/// A tensor while its axes are contracted one by one.
enum Partial<'a> {
    Integers(std::borrow::Cow<'a, [i32]>),
    Elements(Vec<EF>),
}

/// How an axis is treated: contracted with a vector, or spread over labels of the cube.
enum Axis {
    Vector(std::sync::Arc<Vec<EF>>),
    /// The axis is a label of the cube.
    Same,
    /// For each assignment of the cube's labels (row-major): indices and weights.
    Spread(Vec<Vec<(usize, EF)>>),
}

/// What a tensor is given by.
pub(crate) enum Source<'a> {
    /// Its elements, row-major.
    Integers(&'a [i32]),
    /// Its first axis contracted already.
    Folded(Vec<EF>),
}

/// The read as a function of the cube's labels (lengths padded to powers of two, first label highest), the others at their places.
pub(crate) fn cube(
    points: &mut Points<'_>,
    read: &Read,
    shape: &[usize],
    source: Source<'_>,
    places: &[Place],
    labels: &[usize],
) -> Vec<EF> {
    let mut order: Vec<usize> = Vec::new();
    let mut axes = Vec::new();
    for (index, n) in read.indices.iter().zip(shape) {
        let free: Vec<usize> = labels
            .iter()
            .copied()
            .filter(|l| index.affine.terms.iter().any(|(m, _)| m == l))
            .collect();
        axes.push(match &free[..] {
            [] => {
                let id = points.axis(*n, index, places);
                Axis::Vector(points.vector(id).clone())
            }
            [l] if *index == Index::label(*l) && places[*l].len == *n => Axis::Same,
            _ => Axis::Spread(spread(points, index, *n, places, &free)),
        });
        order.extend(free);
    }
    let mut dims = shape.to_vec();
    let mut tensor = match source {
        Source::Integers(data) => Partial::Integers(data.into()),
        Source::Folded(elements) => {
            dims[0] = 1;
            axes[0] = Axis::Same;
            Partial::Elements(elements)
        }
    };
    // vectors first, they shrink the tensor; the earliest axis first, because it is the one with contiguous lines
    let by_vector = (0..axes.len()).filter(|i| matches!(axes[*i], Axis::Vector(_)));
    let by_spread = (0..axes.len()).filter(|i| matches!(axes[*i], Axis::Spread(_)));
    for i in by_vector.chain(by_spread) {
        let inner: usize = dims[i + 1..].iter().product();
        let n = dims[i];
        match &axes[i] {
            Axis::Vector(u) => {
                tensor = Partial::Elements(contract(&tensor, u, n, inner));
                dims[i] = 1;
            }
            Axis::Spread(rows) => {
                let elements = elements(&tensor);
                let blocks = elements.chunks_exact(n * inner);
                let out = blocks.flat_map(|block| {
                    rows.iter().flat_map(move |row| {
                        (0..inner).map(move |j| {
                            row.iter()
                                .map(|(at, w)| block[at * inner + j] * *w)
                                .sum::<EF>()
                        })
                    })
                });
                tensor = Partial::Elements(out.collect());
                dims[i] = rows.len();
            }
            Axis::Same => {}
        }
    }
    arrange(&elements(&tensor), places, &order, labels)
}

/// Rows of an axis' matrix from its indices to assignments of the cube's labels.
fn spread(
    points: &mut Points<'_>,
    index: &Index,
    n: usize,
    places: &[Place],
    free: &[usize],
) -> Vec<Vec<(usize, EF)>> {
    let others: Vec<(i64, std::sync::Arc<Vec<EF>>)> = index
        .affine
        .terms
        .iter()
        .filter(|(l, _)| !free.contains(l))
        .map(|(l, s)| (*s, points.label(places[*l])))
        .collect();
    let stride = |l: usize| {
        index
            .affine
            .terms
            .iter()
            .find(|(m, _)| *m == l)
            .map_or(0, |(_, s)| *s)
    };
    let mut starts = vec![index.affine.offset];
    for l in free {
        starts = starts
            .iter()
            .flat_map(|s| (0..places[*l].len).map(move |i| s + stride(*l) * i as i64))
            .collect();
    }
    let mut rows = Vec::with_capacity(starts.len());
    for start in starts {
        let mut row = vec![(start, EF::ONE)];
        for (s, v) in &others {
            row = row
                .iter()
                .flat_map(|(at, w)| {
                    v.iter()
                        .enumerate()
                        .map(move |(i, u)| (at + s * i as i64, *w * *u))
                })
                .collect();
        }
        let inside = row.into_iter().filter_map(|(at, w)| {
            let at = usize::try_from(at).ok()?;
            let at = match &index.gather {
                None => at,
                Some(list) => *list.get(at)? as usize,
            };
            (at < n).then_some((at, w))
        });
        rows.push(inside.collect());
    }
    rows
}

fn elements(tensor: &Partial<'_>) -> Vec<EF> {
    match tensor {
        Partial::Integers(v) => v.iter().map(|v| EF::from(embed(i64::from(*v)))).collect(),
        Partial::Elements(v) => v.clone(),
    }
}

fn contract(tensor: &Partial<'_>, u: &[EF], n: usize, inner: usize) -> Vec<EF> {
    match tensor {
        Partial::Integers(v) if inner == 1 => {
            v.par_chunks_exact(n).map(|line| dot(u, line)).collect()
        }
        Partial::Integers(v) => v
            .chunks_exact(n * inner)
            .flat_map(|block| fold_rows(u, block, inner))
            .collect(),
        Partial::Elements(v) => {
            let blocks = v.chunks_exact(n * inner);
            blocks
                .flat_map(|block| {
                    let mut out = vec![EF::ZERO; inner];
                    for (line, u) in block.chunks_exact(inner).zip(u) {
                        for (out, v) in out.iter_mut().zip(line) {
                            *out += *v * *u;
                        }
                    }
                    out
                })
                .collect()
        }
    }
}

/// Elements over the labels `order` (row-major) as a cube over `labels`, each padded to a power of two.
fn arrange(data: &[EF], places: &[Place], order: &[usize], labels: &[usize]) -> Vec<EF> {
    let bits: usize = labels.iter().map(|l| log2_ceil(places[*l].len)).sum();
    let mut out = vec![EF::ZERO; 1 << bits];
    // steps in the cube of each label of `order`; labels that this read lacks repeat it
    let step = |l: usize| {
        let after = labels.iter().skip_while(|m| **m != l).skip(1);
        1usize << after.map(|m| log2_ceil(places[*m].len)).sum::<usize>()
    };
    let sizes: Vec<(usize, usize)> = order.iter().map(|l| (places[*l].len, step(*l))).collect();
    let lacking: Vec<(usize, usize)> = labels
        .iter()
        .filter(|l| !order.contains(l))
        .map(|l| (places[*l].len, step(*l)))
        .collect();
    let mut index = vec![0; sizes.len()];
    let mut at = 0;
    for v in data {
        repeat(&lacking, at, *v, &mut out);
        for axis in (0..sizes.len()).rev() {
            let (n, step) = sizes[axis];
            index[axis] += 1;
            at += step;
            if index[axis] < n {
                break;
            }
            at -= step * n;
            index[axis] = 0;
        }
    }
    out
}

fn repeat(lacking: &[(usize, usize)], at: usize, v: EF, out: &mut [EF]) {
    match lacking.split_first() {
        None => out[at] = v,
        Some(((n, step), rest)) => (0..*n).for_each(|i| repeat(rest, at + i * step, v, out)),
    }
}
