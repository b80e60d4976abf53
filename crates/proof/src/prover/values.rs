//! What the prover computes of a stage's columns and of the weights: operands of products, values of functionals, the functional over all cells.

use std::collections::HashMap;

use assay_graph::Const;
use rayon::prelude::*;

use super::{
    contract::{self, Contraction, Source, Table},
    products::{self, Product},
    weights::{self, Held},
};
use crate::{
    field::{EF, embed},
    functional::{AxisId, Functional, Points},
    key::values,
    mle::{eq_table, log2_ceil},
    packed::{self, Pack, WIDTH},
    plan::{
        Plan,
        expr::{Operand, Read, View},
        layout::Layout,
        stages::{Link, Stages},
    },
    relations::Instance,
    transcript::Sender,
};
use p3_field::PrimeCharacteristicRing;

/// What the protocol's messages are about.
pub(super) struct Prover<'a> {
    pub(super) plan: &'a Plan,
    pub(super) data: Vec<Vec<i32>>,
    pub(super) weights: Held<'a>,
}

impl Prover<'_> {
    /// What a read's elements are given by; matrices of weights are contracted already, once for each vector.
    pub(super) fn source(
        &self,
        read: &Read,
        contraction: &Contraction,
        folds: &Folds,
    ) -> Source<'_> {
        match read.operand {
            Operand::Column(id) => Source::Integers(self.data[id][..].into()),
            Operand::Public(id) => Source::Integers(self.plan.publics[id].data[..].into()),
            Operand::Weight(id) => {
                let fold = contraction.first().and_then(|axis| folds.get(&(id, axis)));
                if let Some(fold) = fold {
                    return Source::Folded(fold.clone());
                }
                let data = values(self.weights.key.graph.consts(), &self.plan.weights[id]);
                Source::Integers(data.into())
            }
        }
    }

    /// The folds of committed matrices that some operands need.
    pub(super) fn folds<'b>(
        &self,
        points: &Points<'_>,
        reads: impl Iterator<Item = (&'b Read, &'b Contraction)>,
    ) -> Folds {
        let mut out = Folds::new();
        for (read, contraction) in reads {
            let (Operand::Weight(id), Some(axis)) = (read.operand, contraction.first()) else {
                continue;
            };
            let [_, cols] = self.plan.weights[id].shape[..] else {
                continue;
            };
            if !self.weights.key.committed.is_empty() {
                out.entry((id, axis))
                    .or_insert_with(|| self.folded(id, points.vector(axis), cols));
            }
        }
        out
    }

    /// `Σ_row u[row]·W[row, ·]` of a committed matrix.
    pub(super) fn folded(&self, id: usize, u: &[EF], cols: usize) -> Vec<EF> {
        let mut out = vec![EF::ZERO; cols];
        for tile in self.weights.tiles(id) {
            let ([rows, cols], Some(cells)) = (&tile.segments[..], self.weights.tile(tile)) else {
                continue;
            };
            let part = weights::fold_rows(
                &u[rows.start..rows.start + (1 << rows.log)],
                cells,
                1 << cols.log,
            );
            out[cols.start..]
                .iter_mut()
                .zip(part)
                .for_each(|(o, v)| *o += v);
        }
        out
    }

    /// How an operand's values over the instance's cube are made of its reads, with their factors.
    pub(super) fn contractions(
        &self,
        points: &mut Points<'_>,
        instance: &Instance<'_>,
        view: &View,
    ) -> Vec<(EF, Contraction)> {
        let each = view.terms.iter().map(|(c, read)| {
            // labels of the cube that only other terms mention repeat the values; those outside are factors
            let mut factor = EF::from(embed(*c));
            for l in (0..instance.places.len())
                .filter(|l| !instance.cube.contains(l) && view.mentions(*l) && !read.mentions(*l))
            {
                factor *= points.total(instance.places[l]);
            }
            let shape = match read.operand {
                Operand::Column(id) => &self.plan.columns[id].shape,
                Operand::Public(id) => &self.plan.publics[id].shape,
                Operand::Weight(id) => &self.plan.weights[id].shape,
            };
            let places = &instance.places;
            let contraction = Contraction::new(points, read, shape, places, &instance.cube);
            (factor, contraction)
        });
        each.collect()
    }

    /// An operand's values over the instance's cube.
    pub(super) fn table(
        &self,
        points: &Points<'_>,
        instance: &Instance<'_>,
        view: &View,
        contractions: Vec<(EF, Contraction)>,
        folds: &Folds,
    ) -> Table {
        let (places, cube) = (&instance.places, &instance.cube);
        let mut table = Table::zeros(places, cube);
        for ((factor, contraction), (_, read)) in contractions.into_iter().zip(&view.terms) {
            let source = self.source(read, &contraction, folds);
            contraction.add_to(points, &mut table, factor, source, places, cube);
        }
        table
    }

    /// Proves the products; returns their operands at the point.
    pub(super) fn products(
        &self,
        points: &mut Points<'_>,
        instances: &[Instance<'_>],
        sender: &mut Sender<'_>,
    ) -> Vec<[EF; 2]> {
        let mut operands = Vec::with_capacity(instances.len());
        for instance in instances {
            let mut of = |view| self.contractions(points, instance, view);
            operands.push([of(instance.a), of(instance.b)]);
        }
        let views = instances.iter().flat_map(|i| [i.a, i.b]);
        let reads = views.zip(operands.iter().flatten()).flat_map(|(view, c)| {
            let reads = view.terms.iter().map(|(_, read)| read);
            reads.zip(c.iter().map(|(_, contraction)| contraction))
        });
        let folds = self.folds(points, reads);
        let at: &Points<'_> = points;
        let products = instances.par_iter().zip(operands);
        let products = products.map(|(instance, [a, b])| Product {
            point: instance.eq_point(at),
            sum_bits: instance.sum_bits,
            weight: instance.weight,
            a: self.table(at, instance, instance.a, a, &folds),
            b: self.table(at, instance, instance.b, b, &folds),
        });
        let products = products.collect();
        drop(folds);
        let (bound, last) = products::prove(products, sender);
        points.bound = bound;
        last
    }

    /// Value of a functional of columns.
    pub(super) fn of_columns(&self, points: &Points<'_>, functional: &Functional) -> EF {
        let parts = functional.parts.par_iter().map(|((tensor, axes), c)| {
            let vectors: Vec<&[EF]> = axes.iter().map(|a| points.vector(*a).as_slice()).collect();
            *c * full(&self.data[*tensor], &vectors)
        });
        parts.sum()
    }
}

/// Committed matrices contracted over their rows, by weight and vector.
type Folds = HashMap<(usize, AxisId), Vec<EF>>;

/// `Σ cell · ⊗ axes`.
fn full(data: &[i32], axes: &[&[EF]]) -> EF {
    let (short, long): (Vec<&[EF]>, Vec<&[EF]>) = axes.iter().partition(|a| a.len() == 1);
    let factor: EF = short.iter().map(|a| a[0]).product();
    let Some((first, rest)) = long.split_first() else {
        return data
            .first()
            .map_or(EF::ZERO, |v| factor * embed(i64::from(*v)));
    };
    if rest.is_empty() {
        return factor * contract::dot(first, data);
    }
    let inner: usize = rest.iter().map(|a| a.len()).product();
    let mut values = contract::fold_rows(first, data, inner);
    for axis in rest {
        let inner = values.len() / axis.len();
        let mut out = vec![EF::ZERO; inner];
        for (line, u) in values.chunks_exact(inner).zip(axis.iter()) {
            for (o, v) in out.iter_mut().zip(line) {
                *o += *v * *u;
            }
        }
        values = out;
    }
    factor * values[0]
}

/// Adds a functional to one over all cells.
pub(super) fn spread(
    functional: &Functional,
    points: &Points<'_>,
    layout: &Layout,
    out: &mut [Pack],
) {
    let lane = WIDTH.trailing_zeros() as usize;
    for ((tensor, axes), c) in &functional.parts {
        for tile in layout.of_tensor[*tensor].iter().map(|t| &layout.tiles[*t]) {
            let mut vectors: Vec<&[EF]> = axes
                .iter()
                .zip(&tile.segments)
                .map(|(a, s)| &points.vector(*a)[s.start..s.start + (1 << s.log)])
                .collect();
            // the last axes together are at least as long as a vector register
            let mut tail = vec![EF::ONE];
            while tail.len() < 1 << lane
                && let Some(v) = vectors.pop()
            {
                tail = v
                    .iter()
                    .flat_map(|h| tail.iter().map(move |u| *h * *u))
                    .collect();
            }
            let mut heads = vec![*c];
            for v in vectors {
                heads = heads
                    .iter()
                    .flat_map(|h| v.iter().map(move |u| *h * *u))
                    .collect();
            }
            if tail.len() < 1 << lane {
                for (i, u) in tail.iter().enumerate() {
                    packed::add_at(out, tile.offset + i, *u * *c);
                }
                continue;
            }
            let tail = packed::pack(&tail);
            let out = &mut out[tile.offset >> lane..(tile.offset + (1 << tile.log)) >> lane];
            out.par_chunks_exact_mut(tail.len())
                .with_min_len(256_usize.div_ceil(tail.len()))
                .zip(&heads)
                .for_each(|(line, h)| packed::add_scaled(line, &tail, &packed::matrix(h)));
        }
    }
}

/// Values of all links at their point.
pub(super) fn link_values(stages: &Stages, data: &[Vec<Vec<i32>>], point: &[Vec<EF>]) -> Vec<EF> {
    let value = |link: &Link| {
        let (stage, column) = link.ends[0];
        let axes: Vec<Vec<EF>> = link
            .shape
            .iter()
            .zip(point)
            .map(|(n, at)| eq_table(&at[..log2_ceil(*n)], EF::ONE)[..*n].to_vec())
            .collect();
        let axes: Vec<&[EF]> = axes.iter().map(Vec::as_slice).collect();
        full(&data[stage][column], &axes)
    };
    stages.links.par_iter().map(value).collect()
}

/// Value of a functional of weights that are at hand.
pub(crate) fn evaluate_weights(
    plan: &Plan,
    consts: &[Const],
    points: &Points<'_>,
    functional: &Functional,
) -> EF {
    let parts = functional.parts.iter().map(|((tensor, axes), c)| {
        let vectors: Vec<&[EF]> = axes.iter().map(|a| points.vector(*a).as_slice()).collect();
        *c * full(&values(consts, &plan.weights[*tensor]), &vectors)
    });
    parts.sum()
}
