//! Linear functionals of committed tensors: everything that the protocol ever claims about a commitment.
//!
//! Seen at a point, a read of a tensor is `Σ_cells cell · Π_axes u_axis(index)`, with one vector for each axis that follows from the labels' points. So a functional is a list of such products
//! with coefficients; its own multilinear extension at a point of the commitment costs the verifier one short inner product for each axis of each tile.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use p3_field::PrimeCharacteristicRing;

use crate::{
    field::{EF, embed},
    mle::{eq_index, eq_table, log2_ceil, prefix},
    plan::{
        Plan,
        expr::{Index, Label, Read, ScaleId},
        layout::{Layout, Tile},
    },
};

/// Where a label is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum At {
    /// At the random point of the relations' label of this place.
    Random(Label),
    /// At coordinates of the sumcheck's point, from this one on.
    Bound(usize),
    /// Summed over.
    Ones,
}

/// A label of a read: its length and place, and a public factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) len: usize,
    pub(crate) at: At,
    pub(crate) scale: Option<ScaleId>,
}

type AxisKey = (usize, i64, Vec<(i64, Place)>, Option<Arc<Vec<u32>>>);
/// Handle of an axis vector.
pub(crate) type AxisId = usize;

/// Points of a proof and the axis vectors that follow from them.
pub(crate) struct Points<'a> {
    plan: &'a Plan,
    /// Random points of the labels.
    pub(crate) random: Vec<Vec<EF>>,
    /// The sumcheck's point.
    pub(crate) bound: Vec<EF>,
    labels: HashMap<Place, Arc<Vec<EF>>>,
    ids: HashMap<AxisKey, AxisId>,
    vectors: Vec<Arc<Vec<EF>>>,
}

/// `Σ coefficient · ⊗ axes` over tensors of one commitment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Functional {
    pub(crate) parts: BTreeMap<(usize, Vec<AxisId>), EF>,
}

impl<'a> Points<'a> {
    pub(crate) fn new(plan: &'a Plan, random: Vec<Vec<EF>>) -> Self {
        Self {
            plan,
            random,
            bound: Vec::new(),
            labels: HashMap::new(),
            ids: HashMap::new(),
            vectors: Vec::new(),
        }
    }

    /// Coordinates of a label that is not summed.
    pub(crate) fn coordinates(&self, place: Place) -> &[EF] {
        let n = log2_ceil(place.len);
        match place.at {
            At::Random(l) => &self.random[l][..n],
            At::Bound(start) => &self.bound[start..start + n],
            At::Ones => &[],
        }
    }

    /// Weight of each index of a label.
    pub(crate) fn label(&mut self, place: Place) -> Arc<Vec<EF>> {
        if let Some(v) = self.labels.get(&place) {
            return Arc::clone(v);
        }
        let mut v = match place.at {
            At::Ones => vec![EF::ONE; place.len],
            _ => eq_table(self.coordinates(place), EF::ONE),
        };
        v.truncate(place.len);
        if let Some(scale) = place.scale {
            for (v, f) in v.iter_mut().zip(self.plan.scales[scale].iter()) {
                *v *= embed(*f);
            }
        }
        let v = Arc::new(v);
        self.labels.insert(place, Arc::clone(&v));
        v
    }

    /// Sum of a label's weights: what a tensor that does not mention it is multiplied by.
    pub(crate) fn total(&mut self, place: Place) -> EF {
        match (place.at, place.scale) {
            (At::Ones, None) => EF::from_usize(place.len),
            (_, None) => prefix(self.coordinates(place), place.len),
            _ => self.label(place).iter().copied().sum(),
        }
    }

    /// The vector of an axis of length `len` for an index whose labels are at `places`.
    pub(crate) fn axis(&mut self, len: usize, index: &Index, places: &[Place]) -> AxisId {
        let terms: Vec<(i64, Place)> = index
            .affine
            .terms
            .iter()
            .map(|(l, s)| (*s, places[*l]))
            .collect();
        let key = (len, index.affine.offset, terms, index.gather.clone());
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let mut vector = vec![EF::ZERO; len];
        let weights: Vec<(i64, Arc<Vec<EF>>)> =
            key.2.iter().map(|(s, p)| (*s, self.label(*p))).collect();
        let mut add = |at: i64, w: EF| {
            let at = match &index.gather {
                None => usize::try_from(at).ok(),
                Some(list) => usize::try_from(at)
                    .ok()
                    .and_then(|i| list.get(i))
                    .map(|i| *i as usize),
            };
            if let Some(v) = at.and_then(|at| vector.get_mut(at)) {
                *v += w;
            }
        };
        walk(&weights, index.affine.offset, EF::ONE, &mut add);
        let id = self.vectors.len();
        self.vectors.push(Arc::new(vector));
        self.ids.insert(key, id);
        id
    }

    /// An axis vector that follows from no index.
    pub(crate) fn vector_of(&mut self, vector: Vec<EF>) -> AxisId {
        self.vectors.push(Arc::new(vector));
        self.vectors.len() - 1
    }

    pub(crate) fn vector(&self, id: AxisId) -> &Arc<Vec<EF>> {
        &self.vectors[id]
    }

    /// The axes of a read of a tensor of this shape.
    pub(crate) fn axes(&mut self, read: &Read, shape: &[usize], places: &[Place]) -> Vec<AxisId> {
        read.indices
            .iter()
            .zip(shape)
            .map(|(i, n)| self.axis(*n, i, places))
            .collect()
    }
}

/// Calls `add(index, weight)` for all assignments of the labels.
fn walk(labels: &[(i64, Arc<Vec<EF>>)], at: i64, weight: EF, add: &mut impl FnMut(i64, EF)) {
    match labels.split_first() {
        None => add(at, weight),
        Some(((stride, v), rest)) => {
            for (i, w) in v.iter().enumerate() {
                walk(rest, at + stride * i as i64, weight * *w, add);
            }
        }
    }
}

impl Functional {
    pub(crate) fn add(&mut self, tensor: usize, axes: Vec<AxisId>, coefficient: EF) {
        *self.parts.entry((tensor, axes)).or_insert(EF::ZERO) += coefficient;
    }

    pub(crate) fn add_scaled(&mut self, other: &Self, factor: EF) {
        for ((tensor, axes), c) in &other.parts {
            self.add(*tensor, axes.clone(), *c * factor);
        }
    }

    /// The functional's own extension at a point of the commitment, restricted to tiles for which `keep` gives an offset (the tile's place in the commitment).
    pub(crate) fn at(
        &self,
        points: &Points<'_>,
        layout: &Layout,
        point: &[EF],
        keep: impl Fn(&Tile) -> Option<usize>,
    ) -> EF {
        let mut dots: HashMap<(AxisId, usize, usize, usize), EF> = HashMap::new();
        let mut tables: HashMap<(usize, usize), Vec<EF>> = HashMap::new();
        let mut total = EF::ZERO;
        for ((tensor, axes), c) in &self.parts {
            for tile in layout.of_tensor[*tensor].iter().map(|t| &layout.tiles[*t]) {
                let Some(offset) = keep(tile) else { continue };
                let mut value = *c * eq_index(&point[tile.log..], offset >> tile.log);
                let mut bit = 0;
                for (axis, s) in axes.iter().zip(&tile.segments).rev() {
                    value *= *dots.entry((*axis, s.start, s.log, bit)).or_insert_with(|| {
                        let eq = tables
                            .entry((bit, s.log))
                            .or_insert_with(|| eq_table(&point[bit..bit + s.log], EF::ONE));
                        let part = &points.vector(*axis)[s.start..s.start + (1 << s.log)];
                        part.iter().zip(eq).map(|(a, b)| *a * *b).sum()
                    });
                    bit += s.log;
                }
                total += value;
            }
        }
        total
    }
}
