//! Convolutions: a contraction over the window, whose cells are read by index arithmetic. No patch matrix is formed.

use std::sync::Arc;

use assay_graph::{Const, ConstId, Node, Requant, Window};
use rayon::prelude::*;

use super::{
    Context,
    linear::{indexed, joined, row_facts, shape},
    moves,
};
use crate::{
    error::PlanError,
    plan::{
        Part,
        builder::Builder,
        expr::{Affine, Index, Label, Term, View},
        gadgets::{Shifts, Sum},
        value::Value,
    },
};

/// Checks that where a label leaves `0 .. len` the tensors' indices leave their axes, so that cells outside an image are 0.
pub(crate) fn plain(b: &Builder, view: &View, labels: &[(Label, usize)]) -> Result<(), PlanError> {
    let is_plain = |(l, len): &(Label, usize)| {
        view.terms.iter().all(|(_, read)| {
            let mut axes = read
                .indices
                .iter()
                .zip(b.shape(read.operand))
                .filter(|(i, _)| i.affine.terms.iter().any(|(m, _)| m == l));
            let (Some((index, n)), None) = (axes.next(), axes.next()) else {
                return false;
            };
            let offset = index.affine.offset;
            let [(_, stride)] = index.affine.terms[..] else {
                return false;
            };
            index.gather.is_none()
                && stride > 0
                && (0..stride).contains(&offset)
                && offset + stride * *len as i64 >= *n as i64
        })
    };
    if labels.iter().all(is_plain) {
        return Ok(());
    }
    Err(b.unsupported("the image's axes are joined with others"))
}

/// `[h, w, c] → [oh, ow, n]`.
pub(crate) fn conv2d(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    id: ConstId,
    window: &Window,
    groups: u32,
    out: &Requant,
) -> Result<Value, PlanError> {
    // what lies outside the image must read as 0
    let mut x = ctx.operand(b, node, 0)?.clone();
    if x.dims.len() != 4 {
        return Err(b.unsupported("the input is no image"));
    }
    for axis in [1, 2] {
        x = moves::plain(b, &x, axis)?;
    }
    let x = &x;
    let [runs, height, width, _] = &x.dims[..] else {
        return Err(b.unsupported("the input is no image"));
    };
    let ([runs], [height], [width]) = (&runs[..], &height[..], &width[..]) else {
        return Err(b.unsupported("the image's axes are joined with others"));
    };
    let (runs, height, width, channels) = (*runs, *height, *width, x.dim(3));
    let (rows, cols) = shape(b, ctx.kind(b, id)?)?;
    let groups = groups as usize;
    let (per_group, depth) = (rows / groups, channels / groups);
    let [kh, kw] = window.kernel.map(usize::from);
    let [top, left, bottom, right] = window.pad.map(usize::from);
    let [down, across] = window.stride.map(usize::from);
    let oh = (height + top + bottom - kh) / down + 1;
    let ow = (width + left + right - kw) / across + 1;
    let range = if window.pad == [0; 4] {
        (x.lo, x.hi)
    } else {
        (x.lo.min(0), x.hi.max(0))
    };
    let facts = row_facts(b, ctx, id, range)?;

    // output labels: run, y, x, channel; summed: row and column of the window, channel of the group
    let axes = vec![runs, oh, ow, rows];
    let sums = vec![kh, kw, depth];
    let (dy, dx, c) = (4, 5, 6);
    if x.dims[3].len() != 1 {
        return Err(b.unsupported("the image's channels are joined axes"));
    }
    let image = x.view.substitute(&[
        Affine::label(0),
        Affine {
            offset: -(top as i64),
            terms: vec![(1, down as i64), (dy, 1)],
        },
        Affine {
            offset: -(left as i64),
            terms: vec![(2, across as i64), (dx, 1)],
        },
        Affine::label(c),
    ]);
    let image = if groups == 1 {
        image
    } else {
        grouped(b, &image, c, (rows, per_group, depth))?
    };
    let weights = indexed(
        b.weight(id, Part::Values, &[rows, cols]),
        vec![Index::label(3), joined(dy, &sums).into()],
    );
    let mut terms = vec![Term::Product {
        coefficient: 1,
        sums,
        a: image,
        b: weights,
    }];
    if facts.biased {
        terms.push(Term::linear(b.weight(id, Part::Bias, &[rows]).rename(&[3])));
    }
    let ints = match (&x.ints, ctx.consts) {
        (Some(data), Some(_)) => {
            let patches = Patches {
                image: [height, width, channels],
                kernel: [kh, kw],
                pad: [top, left],
                stride: [down, across],
                out: [oh, ow],
                depth,
                per_group,
            };
            Some(patches.convolve(data, ctx.constant(id)?, rows))
        }
        _ => None,
    };
    let sum = Sum {
        axes,
        terms,
        ints,
        lo: facts.lo,
        hi: facts.hi,
    };
    let shifts = Shifts::Rows {
        label: 3,
        shifts: Arc::clone(&facts.shifts),
    };
    let function = ctx.function(b, out)?;
    let y = b.requant_rows(
        sum,
        &shifts,
        &|k| facts.within(k),
        (out.lo.into(), out.hi.into()),
        function.as_deref(),
    )?;
    Ok(Value {
        dims: vec![vec![runs], vec![oh], vec![ow], vec![rows]],
        view: y.view,
        ints: y.ints.map(Arc::new),
        lo: y.lo,
        hi: y.hi,
    })
}

/// The image whose channel is `o / per_group · depth + c` for output channel o: not affine, so a public list says it.
fn grouped(
    b: &Builder,
    image: &View,
    c: Label,
    (rows, per_group, depth): (usize, usize, usize),
) -> Result<View, PlanError> {
    let channels: Vec<u32> = (0..rows)
        .flat_map(|o| (0..depth).map(move |i| (o / per_group * depth + i) as u32))
        .collect();
    let channels = Arc::new(channels);
    let mut view = image.clone();
    for (_, read) in &mut view.terms {
        for index in read
            .indices
            .iter_mut()
            .filter(|i| i.affine.terms.iter().any(|(l, _)| *l == c))
        {
            if index.gather.is_some() || index.affine != Affine::label(c) {
                return Err(b.unsupported("the image's channels are joined axes"));
            }
            index.affine = Affine {
                offset: 0,
                terms: vec![(3, depth as i64), (c, 1)],
            };
            index.gather = Some(Arc::clone(&channels));
        }
    }
    Ok(view)
}

/// Geometry of a convolution.
struct Patches {
    image: [usize; 3],
    kernel: [usize; 2],
    pad: [usize; 2],
    stride: [usize; 2],
    out: [usize; 2],
    depth: usize,
    per_group: usize,
}

impl Patches {
    /// Accumulators of all output cells. Sums are exact modulo 2^32, and their bounds lie below 2^31.
    fn convolve(&self, images: &[i32], constant: &Const, rows: usize) -> Vec<i64> {
        let weights: Vec<_> = (0..rows as u32)
            .filter_map(|r| constant.row_values(r))
            .collect();
        let [height, width, channels] = self.image;
        let [oh, ow] = self.out;
        let patch_len = self.kernel[0] * self.kernel[1] * channels;
        let lines: Vec<(usize, usize)> = (0..images.len() / (height * width * channels))
            .flat_map(|i| (0..oh).map(move |y| (i, y)))
            .collect();
        lines
            .into_par_iter()
            .flat_map_iter(|(i, y)| {
                let image = &images[i * height * width * channels..][..height * width * channels];
                let mut out = Vec::with_capacity(ow * rows);
                let mut patch = vec![0; patch_len];
                for x in 0..ow {
                    self.patch(image, y, x, &mut patch);
                    for (r, w) in weights.iter().enumerate() {
                        let first = r / self.per_group * self.depth;
                        let sum = if self.depth == channels {
                            dot(&patch, &w.values)
                        } else {
                            let cells = patch
                                .chunks_exact(channels)
                                .zip(w.values.chunks_exact(self.depth));
                            cells.fold(0, |s: i32, (p, w)| {
                                s.wrapping_add(dot(&p[first..first + self.depth], w))
                            })
                        };
                        out.push(i64::from(sum.wrapping_add(w.bias)));
                    }
                }
                out
            })
            .collect()
    }

    fn patch(&self, image: &[i32], y: usize, x: usize, out: &mut [i32]) {
        let [height, width, channels] = self.image;
        let mut cells = out.chunks_exact_mut(channels);
        for dy in 0..self.kernel[0] {
            for dx in 0..self.kernel[1] {
                let at = (y * self.stride[0] + dy)
                    .checked_sub(self.pad[0])
                    .filter(|u| *u < height);
                let at = at.zip(
                    (x * self.stride[1] + dx)
                        .checked_sub(self.pad[1])
                        .filter(|v| *v < width),
                );
                let Some(cell) = cells.next() else { return };
                match at {
                    Some((u, v)) => {
                        cell.copy_from_slice(&image[(u * width + v) * channels..][..channels])
                    }
                    None => cell.fill(0),
                }
            }
        }
    }
}

fn dot(a: &[i32], b: &[i32]) -> i32 {
    a.iter()
        .zip(b)
        .fold(0, |s, (a, b)| s.wrapping_add(a.wrapping_mul(*b)))
}
