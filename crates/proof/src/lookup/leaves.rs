//! The fractions of a prover: denominators are made from the committed cells whenever they are needed.

use p3_field::{PackedValue, PrimeCharacteristicRing};

use super::{Fingerprint, gkr, tiles};
use crate::{
    field::{EF, F},
    packed::{self, Lane, Pack, WIDTH},
    plan::{Cell, Plan, Tables},
};

/// What denominators of a tile are before its cells are subtracted.
enum Public {
    One(EF),
    /// By an index along an axis: the bits of the cell's place from `low` on.
    Axis {
        rows: Vec<EF>,
        low: usize,
        /// The rows in packs, where the axis is the last and long enough.
        packs: Vec<Pack>,
    },
}

/// A tile of the leaves.
struct Part<'a> {
    start: usize,
    public: Public,
    keys: &'a [F],
    values: Option<&'a [F]>,
}

/// All leaves: key columns' cells, nothing, rows of tables.
pub(super) struct Fractions<'a> {
    /// By start.
    parts: Vec<Part<'a>>,
    /// Leaves that are cells.
    cells: usize,
    first_row: usize,
    rows: Vec<EF>,
    numerators: Vec<F>,
    square: EF,
}

impl<'a> Fractions<'a> {
    pub(super) fn new(plan: &'a Plan, fingerprint: Fingerprint, cells: &'a [F]) -> Self {
        let Fingerprint { alpha, beta } = fingerprint;
        let n = 1usize << plan.leaf_log;
        let first_row = n - (1 << plan.table_log);
        let mut numerators = gkr::with_capacity(n);
        numerators.resize(plan.leaves.cells, F::ONE);
        numerators.resize(first_row, F::ZERO);
        let counts = &plan.witness.tiles[plan.witness.of_tensor[plan.multiplicities()][0]];
        let counts = &cells[counts.offset..][..1 << plan.table_log];
        numerators.extend(counts.iter().map(|m| -*m));
        let mut parts = Vec::new();
        for (leaf, column) in plan.leaf_columns.iter().enumerate() {
            let Cell::Key(tables) = &plan.columns[*column].cell else {
                continue;
            };
            let partners = plan.columns[*column].partner;
            let partners = partners.map(|p| &plan.witness.of_tensor[p]);
            for (i, (tile, place)) in tiles(plan, leaf, *column).enumerate() {
                let size = 1 << tile.log;
                let values = partners.map(|p| &cells[plan.witness.tiles[p[i]].offset..][..size]);
                let public = match tables {
                    Tables::One(c) => Public::One(alpha - fingerprint.public(*c)),
                    Tables::Axis { axis, choices } => {
                        let s = tile.segments[*axis];
                        let rows: Vec<EF> = choices[s.start..s.start + (1 << s.log)]
                            .iter()
                            .map(|c| alpha - fingerprint.public(*c))
                            .collect();
                        let after = tile.segments[axis + 1..].iter();
                        let low = after.map(|s| s.log).sum();
                        let packs = if low == 0 {
                            packed::pack(&rows)
                        } else {
                            vec![]
                        };
                        Public::Axis { rows, low, packs }
                    }
                };
                parts.push(Part {
                    start: tile.offset,
                    public,
                    keys: &cells[place.offset..][..size],
                    values,
                });
            }
        }
        parts.sort_by_key(|p| p.start);
        let rows = plan.tables.iter().enumerate().flat_map(|(id, table)| {
            (0..table.len()).map(move |i| alpha - fingerprint.row(id, table.row(i)))
        });
        let mut rows: Vec<EF> = rows.collect();
        rows.resize(1 << plan.table_log, alpha);
        Self {
            parts,
            cells: plan.leaves.cells,
            first_row,
            rows,
            numerators,
            square: beta.square(),
        }
    }
}

impl Part<'_> {
    fn denominator(&self, z: usize, square: EF) -> EF {
        let public = match &self.public {
            Public::One(v) => *v,
            Public::Axis { rows, low, .. } => rows[(z >> low) & (rows.len() - 1)],
        };
        let value = self.values.map_or(EF::ZERO, |v| square * v[z]);
        public - self.keys[z] - value
    }

    /// The denominators of a pack of cells; none where they are not alike.
    fn pack(&self, z: usize, square: &[F; 5]) -> Option<Pack> {
        let broadcast = |v: &EF| packed::coefficients(v).map(Lane::from);
        let mut out = match &self.public {
            Public::One(v) => broadcast(v),
            Public::Axis { rows, low, packs } => {
                if 1 << low >= WIDTH {
                    broadcast(&rows[(z >> low) & (rows.len() - 1)])
                } else if packs.is_empty() {
                    return None;
                } else {
                    packs[(z / WIDTH) & (packs.len() - 1)]
                }
            }
        };
        out[0] -= *Lane::from_slice(&self.keys[z..z + WIDTH]);
        if let Some(values) = self.values {
            let values = *Lane::from_slice(&values[z..z + WIDTH]);
            for (out, c) in out.iter_mut().zip(square) {
                *out -= values * *c;
            }
        }
        Some(out)
    }
}

impl gkr::Leaves for Fractions<'_> {
    fn numerators(&self) -> &[F] {
        &self.numerators
    }

    fn denominator(&self, i: usize) -> EF {
        if i >= self.first_row {
            return self.rows[i - self.first_row];
        }
        if i >= self.cells {
            return EF::ONE;
        }
        let next = self.parts.partition_point(|p| p.start <= i);
        let part = &self.parts[next - 1];
        part.denominator(i - part.start, self.square)
    }

    fn denominators(&self, first: usize, out: &mut [Pack]) {
        let square = packed::coefficients(&self.square);
        let start = first * WIDTH;
        let mut next = self.parts.partition_point(|p| p.start <= start);
        for (i, out) in out.iter_mut().enumerate() {
            let z = start + i * WIDTH;
            if z >= self.cells && z + WIDTH <= self.first_row {
                *out = [Lane::ONE, Lane::ZERO, Lane::ZERO, Lane::ZERO, Lane::ZERO];
                continue;
            }
            while self.parts.get(next).is_some_and(|p| p.start <= z) {
                next += 1;
            }
            let whole = match self.parts.get(next.wrapping_sub(1)) {
                Some(p) if z + WIDTH <= p.start + p.keys.len() => p.pack(z - p.start, &square),
                _ => None,
            };
            *out = whole.unwrap_or_else(|| {
                let all: [EF; WIDTH] = std::array::from_fn(|l| self.denominator(z + l));
                packed::pack(&all)[0]
            });
        }
    }
}
