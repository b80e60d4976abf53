//! Tensors of integers seen at points: contractions with axis vectors, on the prover's side.

use std::{borrow::Cow, sync::Arc};

use p3_field::{BasedVectorSpace, PrimeCharacteristicRing, PrimeField32};
use rayon::prelude::*;

use crate::{
    field::{DEGREE, EF, F, embed},
    functional::{AxisId, Place, Points},
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
                    let c: [F; DEGREE] = std::array::from_fn(|i| embed(sums[i][j]));
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
    Integers(Cow<'a, [i32]>),
    Elements(Vec<EF>),
}

/// How an axis is treated: contracted with a vector, or spread over labels of the cube.
enum Axis {
    Vector(AxisId),
    /// The axis is a label of the cube.
    Same,
    /// For each assignment of the cube's labels (row-major) the index, if there is one.
    Pick(Vec<Option<usize>>),
    /// For each assignment of the cube's labels (row-major): indices and weights.
    Spread(Vec<Vec<(usize, EF)>>),
}

/// What a tensor is given by.
pub(crate) enum Source<'a> {
    /// Its elements, row-major.
    Integers(Cow<'a, [i32]>),
    /// Its first axis contracted already.
    Folded(Vec<EF>),
}

/// A read as a function of a cube's labels, the others at their places: all that follows from the points.
pub(crate) struct Contraction {
    axes: Vec<Axis>,
    dims: Vec<usize>,
    /// Labels in the order in which the axes mention them.
    order: Vec<usize>,
}

/// Values over a cube of labels, each padded to a power of two. Indices are reversed: the lowest bit of the last label is the highest of the index.
pub(crate) enum Table {
    Base(Vec<F>),
    Extension(Vec<EF>),
}

impl Contraction {
    pub(crate) fn new(
        points: &mut Points<'_>,
        read: &Read,
        shape: &[usize],
        places: &[Place],
        labels: &[usize],
    ) -> Self {
        let mut order: Vec<usize> = Vec::new();
        let mut axes = Vec::new();
        for (index, n) in read.indices.iter().zip(shape) {
            let free: Vec<usize> = labels
                .iter()
                .copied()
                .filter(|l| index.affine.terms.iter().any(|(m, _)| m == l))
                .collect();
            axes.push(match &free[..] {
                [] => Axis::Vector(points.axis(*n, index, places)),
                [l] if *index == Index::label(*l) && places[*l].len == *n => Axis::Same,
                _ => spread(points, index, *n, places, &free),
            });
            order.extend(free);
        }
        Self {
            axes,
            dims: shape.to_vec(),
            order,
        }
    }

    /// The vector of the first axis, where it has one.
    pub(crate) fn first(&self) -> Option<AxisId> {
        match self.axes.first() {
            Some(Axis::Vector(u)) => Some(*u),
            _ => None,
        }
    }

    /// Adds `factor ·` the read to a table over `labels`.
    pub(crate) fn add_to(
        mut self,
        points: &Points<'_>,
        table: &mut Table,
        mut factor: EF,
        source: Source<'_>,
        places: &[Place],
        labels: &[usize],
    ) {
        let mut tensor = match source {
            Source::Integers(data) => Partial::Integers(data),
            Source::Folded(elements) => {
                self.dims[0] = 1;
                self.axes[0] = Axis::Same;
                Partial::Elements(elements)
            }
        };
        // vectors first, they shrink the tensor; the earliest axis first, because it is the one with contiguous lines
        let axes = &self.axes;
        let by_vector = (0..axes.len()).filter(|i| matches!(axes[*i], Axis::Vector(_)));
        let others = (0..axes.len()).filter(|i| !matches!(axes[*i], Axis::Vector(_)));
        for i in by_vector.chain(others) {
            let inner: usize = self.dims[i + 1..].iter().product();
            let n = self.dims[i];
            match &axes[i] {
                // nothing is summed
                Axis::Vector(u) if n == 1 => factor *= points.vector(*u)[0],
                Axis::Vector(u) => {
                    let u = points.vector(*u);
                    tensor = Partial::Elements(contract(&tensor, u, n, inner));
                    self.dims[i] = 1;
                }
                Axis::Pick(rows) => {
                    tensor = match tensor {
                        Partial::Integers(v) => {
                            Partial::Integers(picked(&v, rows, n, inner, 0).into())
                        }
                        Partial::Elements(v) => {
                            Partial::Elements(picked(&v, rows, n, inner, EF::ZERO))
                        }
                    };
                    self.dims[i] = rows.len();
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
                    self.dims[i] = rows.len();
                }
                Axis::Same => {}
            }
        }
        let offsets = Offsets::new(places, &self.order, labels);
        let base = as_base(&factor);
        match (tensor, base) {
            (Partial::Integers(v), Some(c)) => {
                if let Table::Base(out) = table {
                    offsets.each(&v, |at, v| out[at] += c * embed(i64::from(v)));
                    return;
                }
                let out = table.extension();
                offsets.each(&v, |at, v| out[at] += c * embed(i64::from(v)));
            }
            (Partial::Integers(v), None) => {
                let out = table.extension();
                offsets.each(&v, |at, v| out[at] += factor * embed(i64::from(v)));
            }
            (Partial::Elements(v), _) => {
                let out = table.extension();
                offsets.each(&v, |at, v| out[at] += factor * v);
            }
        }
    }
}

/// An element of the base field.
fn as_base(v: &EF) -> Option<F> {
    let c: &[F] = v.as_basis_coefficients_slice();
    c[1..].iter().all(|c| *c == F::ZERO).then_some(c[0])
}

impl Table {
    /// Zeros over the labels.
    pub(crate) fn zeros(places: &[Place], labels: &[usize]) -> Self {
        let bits: usize = labels.iter().map(|l| log2_ceil(places[*l].len)).sum();
        Self::Base(F::zero_vec(1 << bits))
    }

    /// The elements, as those of the extension from now on.
    pub(crate) fn extension(&mut self) -> &mut Vec<EF> {
        if let Self::Base(v) = self {
            *self = Self::Extension(v.iter().map(|v| EF::from(*v)).collect());
        }
        match self {
            Self::Extension(v) => v,
            Self::Base(_) => unreachable!("it was changed above"),
        }
    }
}

fn picked<T: Copy>(v: &[T], rows: &[Option<usize>], n: usize, inner: usize, zero: T) -> Vec<T> {
    let mut out = Vec::with_capacity(v.len() / n * rows.len());
    for block in v.chunks_exact(n * inner) {
        for row in rows {
            match row {
                Some(at) => out.extend_from_slice(&block[at * inner..][..inner]),
                None => out.resize(out.len() + inner, zero),
            }
        }
    }
    out
}

/// Rows of an axis' matrix from its indices to assignments of the cube's labels.
fn spread(
    points: &mut Points<'_>,
    index: &Index,
    n: usize,
    places: &[Place],
    free: &[usize],
) -> Axis {
    let others: Vec<(i64, Arc<Vec<EF>>)> = index
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
    let inside = |at: i64| {
        let at = usize::try_from(at).ok()?;
        let at = match &index.gather {
            None => at,
            Some(list) => *list.get(at)? as usize,
        };
        (at < n).then_some(at)
    };
    if others.is_empty() {
        return Axis::Pick(starts.into_iter().map(inside).collect());
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
        let row = row.into_iter();
        rows.push(row.filter_map(|(at, w)| Some((inside(at)?, w))).collect());
    }
    Axis::Spread(rows)
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

/// Where elements over some labels (row-major) lie in a table; labels that are lacking repeat them.
struct Offsets {
    /// For each label of the tensor what each of its indices adds.
    axes: Vec<Vec<usize>>,
    repeats: Vec<usize>,
}

impl Offsets {
    fn new(places: &[Place], order: &[usize], labels: &[usize]) -> Self {
        // the first label is the highest, hence the lowest of a reversed index
        let mut start = 0;
        let mut of = vec![Vec::new(); places.len()];
        for l in labels {
            let bits = log2_ceil(places[*l].len);
            let reversed = |i: usize| (0..bits).fold(0, |r, b| r | (i >> b & 1) << (bits - 1 - b));
            of[*l] = (0..places[*l].len).map(|i| reversed(i) << start).collect();
            start += bits;
        }
        let lacking = labels.iter().filter(|l| !order.contains(l));
        let repeats = lacking.fold(vec![0], |all, l| {
            all.iter()
                .flat_map(|at| of[*l].iter().map(move |o| at + o))
                .collect()
        });
        Self {
            axes: order.iter().map(|l| of[*l].clone()).collect(),
            repeats,
        }
    }

    /// Calls `put(place, element)` for all elements and repetitions.
    fn each<T: Copy>(&self, data: &[T], mut put: impl FnMut(usize, T)) {
        let one = [0];
        let (last, outer) = match self.axes.split_last() {
            Some((last, outer)) => (&last[..], outer),
            None => (&one[..], &[][..]),
        };
        let mut index = vec![0; outer.len()];
        for line in data.chunks_exact(last.len()) {
            let at: usize = outer.iter().zip(&index).map(|(o, i)| o[*i]).sum();
            for repeat in &self.repeats {
                for (v, o) in line.iter().zip(last) {
                    put(at + repeat + o, *v);
                }
            }
            for (i, o) in index.iter_mut().zip(outer).rev() {
                *i += 1;
                if *i < o.len() {
                    break;
                }
                *i = 0;
            }
        }
    }
}
