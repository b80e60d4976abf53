//! The lookup argument: every cell of the witness is in the table of its column (LogUp, Haböck, ePrint 2022/1530).
//!
//! `Σ_cells 1/(α − f(cell)) = Σ_rows m(row)/(α − f(row))` with `f = key + β·tag + β²·value`. All of it is one sum of fractions whose leaves are the key columns' cells, from 0 on in tiles as in a
//! commitment, nothing, and at the end the rows of all tables. The fractional sum (module `gkr`) ends in one claim on all numerators and one on all denominators at one point, and those are
//! claims on three functionals of the witness: its keys, their values, its multiplicities.

pub(crate) mod gkr;
mod leaves;

use std::collections::HashMap;

use p3_field::{PackedValue, PrimeCharacteristicRing};
use rayon::prelude::*;

use self::{gkr::LeafClaim, leaves::Fractions};
use crate::{
    error::VerifyError,
    field::{EF, F, embed},
    listener::{Listener, Value},
    mle::{eq_index, eq_points, eq_table, prefix},
    packed::{self, Lane, Pack, WIDTH},
    plan::{Cell, Choice, Plan, Tables, expr::ColumnId, layout::Tile, tag},
    transcript::{Channel, Sender},
    verifier::Check,
};

/// Label of the claims.
pub(crate) const LABEL: &str = "lookups";

/// The two challenges of the fingerprint.
#[derive(Clone, Copy)]
struct Fingerprint {
    alpha: EF,
    beta: EF,
}

impl Fingerprint {
    fn draw(channel: &mut impl Channel) -> Self {
        let alpha = channel.transcript().challenge();
        let beta = channel.transcript().challenge();
        Self { alpha, beta }
    }

    /// What a table adds to a cell: its offset and its tag.
    fn public(&self, choice: Choice) -> EF {
        self.beta * F::from_u32(tag(choice.table)) + embed(choice.offset)
    }

    fn row(&self, table: usize, (key, value): (i64, i64)) -> EF {
        self.beta * F::from_u32(tag(table)) + embed(key) + self.beta.square() * embed(value)
    }
}

/// The three claims on the witness in which the argument ends, all at the same point.
pub(crate) struct Claims<V = EF> {
    pub(crate) leaves: Leaves,
    /// Extensions of keys, values and multiplicities there.
    pub(crate) values: [V; 3],
}

/// The point of the claims: the functionals of the witness that they are about.
pub(crate) struct Leaves {
    point: Vec<EF>,
}

/// How often each row is looked up, all tables after one another.
///
/// # Errors
/// The first column with a cell that is in no table.
pub(crate) fn multiplicities(plan: &Plan, data: &[Vec<i32>]) -> Result<Vec<u32>, ColumnId> {
    let starts = plan.table_starts();
    let mut counts = vec![0u32; 1 << plan.table_log];
    for (id, column) in plan.columns.iter().enumerate() {
        let Cell::Key(tables) = &column.cell else {
            continue;
        };
        let values = column.partner.map(|p| &data[p]);
        let each = choices(tables, &column.shape);
        for (i, key) in data[id].iter().enumerate() {
            let choice = each(i);
            let value = values.map_or(0, |v| i64::from(v[i]));
            let row = plan.tables[choice.table]
                .find(i64::from(*key) + choice.offset, value)
                .ok_or(id)?;
            counts[starts[choice.table] + row] += 1;
        }
    }
    Ok(counts)
}

/// Columns with a cell that is in no table.
#[cfg(test)]
pub(crate) fn strays(plan: &Plan, data: &[Vec<i32>]) -> Vec<ColumnId> {
    let stray = |id: &ColumnId| {
        let column = &plan.columns[*id];
        let Cell::Key(tables) = &column.cell else {
            return false;
        };
        let each = choices(tables, &column.shape);
        data[*id].iter().enumerate().any(|(i, key)| {
            let choice = each(i);
            let value = column.partner.map_or(0, |p| i64::from(data[p][i]));
            plan.tables[choice.table]
                .find(i64::from(*key) + choice.offset, value)
                .is_none()
        })
    };
    (0..plan.columns.len()).filter(stray).collect()
}

/// The choice for element `i` of a row-major tensor.
fn choices<'a>(tables: &'a Tables, shape: &[usize]) -> impl Fn(usize) -> Choice + 'a {
    let (inner, n) = match tables {
        Tables::One(_) => (1, 1),
        Tables::Axis { axis, .. } => (shape[axis + 1..].iter().product::<usize>(), shape[*axis]),
    };
    move |i| match tables {
        Tables::One(c) => *c,
        Tables::Axis { choices, .. } => choices[i / inner % n],
    }
}

/// Pairs of tiles: of the leaves and, of the same cells, of the witness.
fn tiles(plan: &Plan, leaf: usize, column: ColumnId) -> impl Iterator<Item = (&Tile, &Tile)> {
    let leaves = plan.leaves.of_tensor[leaf]
        .iter()
        .map(|t| &plan.leaves.tiles[*t]);
    leaves.zip(
        plan.witness.of_tensor[column]
            .iter()
            .map(|t| &plan.witness.tiles[*t]),
    )
}

/// Proves the argument for committed `cells`.
pub(crate) fn prove(plan: &Plan, cells: &[F], sender: &mut Sender<'_>) -> Claims {
    let fingerprint = Fingerprint::draw(sender);
    let leaves = Fractions::new(plan, fingerprint, cells);
    let LeafClaim { point, .. } = gkr::prove(&leaves, sender);
    drop(leaves);

    let counts = &plan.witness.tiles[plan.witness.of_tensor[plan.multiplicities()][0]];
    let eq = Eq::new(&point);
    let claims = plan
        .leaf_columns
        .par_iter()
        .enumerate()
        .map(|(leaf, column)| {
            let partner = plan.columns[*column]
                .partner
                .map(|p| &plan.witness.of_tensor[p]);
            let (mut keys, mut values) = (EF::ZERO, EF::ZERO);
            for (i, (tile, place)) in tiles(plan, leaf, *column).enumerate() {
                keys += eq.inner(tile.offset, 1 << tile.log, &cells[place.offset..]);
                if let Some(p) = partner {
                    values += eq.inner(
                        tile.offset,
                        1 << tile.log,
                        &cells[plan.witness.tiles[p[i]].offset..],
                    );
                }
            }
            [keys, values]
        });
    let add = |a: [EF; 2], b: [EF; 2]| [a[0] + b[0], a[1] + b[1]];
    let [keys, values] = claims.reduce(|| [EF::ZERO; 2], add);
    let counted =
        Eq::new(&point[..plan.table_log]).inner(0, 1 << plan.table_log, &cells[counts.offset..]);
    let values = [keys, values, counted];
    sender.send(LABEL, &values);
    Claims {
        leaves: Leaves { point },
        values,
    }
}

/// `eq` of a point at all leaves: of its lowest coordinates in packs, times that of the others.
struct Eq {
    low: Vec<Pack>,
    high: Vec<EF>,
}

impl Eq {
    /// `log2` of the leaves that share a factor of the high part.
    const BLOCK_LOG: usize = 10;

    fn new(point: &[EF]) -> Self {
        let mut long = point.to_vec();
        // a table shorter than a vector register is the start of a longer one
        long.resize(point.len().max(WIDTH.trailing_zeros() as usize), EF::ZERO);
        let (low, high) = long.split_at(long.len().min(Self::BLOCK_LOG));
        Self {
            low: packed::eq_packs(low, EF::ONE),
            high: eq_table(high, EF::ONE),
        }
    }

    /// Leaves in a block.
    fn block(&self) -> usize {
        self.low.len() * WIDTH
    }

    fn at(&self, i: usize) -> EF {
        packed::at(&self.low, i % self.block()) * self.high[i / self.block()]
    }

    /// The parts of an aligned tile of at least a register: factors, and the packs that they belong to.
    fn parts(&self, start: usize, size: usize) -> (&[EF], &[Pack]) {
        let (block, at) = (self.block(), start % self.block());
        let high = &self.high[start / block..(start + size).div_ceil(block)];
        let low = &self.low[at / WIDTH..(at + size).min(block) / WIDTH];
        (high, low)
    }

    /// `Σ eq·cell` over `size` leaves from `start` on.
    fn inner(&self, start: usize, size: usize, cells: &[F]) -> EF {
        if size < WIDTH {
            return (0..size).map(|i| self.at(start + i) * cells[i]).sum();
        }
        let (high, low) = self.parts(start, size);
        let lines = Lane::pack_slice(&cells[..size]).par_chunks(low.len());
        let each = high.par_iter().zip(lines).with_min_len(1 << 6);
        let sum = each
            .map(|(h, line)| packed::scale(&packed::inner(low, line), &packed::matrix(h)))
            .reduce(|| [Lane::ZERO; 5], |a, b| packed::add(&a, &b));
        packed::sum_lanes(&sum)
    }

    /// Adds `factor·eq` over leaves from `start` on to cells from `place` on.
    fn spread(&self, start: usize, size: usize, factor: EF, place: usize, out: &mut [Pack]) {
        if size < WIDTH {
            (0..size).for_each(|i| packed::add_at(out, place + i, self.at(start + i) * factor));
            return;
        }
        let (high, low) = self.parts(start, size);
        let out = &mut out[place / WIDTH..(place + size) / WIDTH];
        out.par_chunks_mut(low.len())
            .zip(high)
            .with_min_len(1 << 5)
            .for_each(|(out, h)| packed::add_scaled(out, low, &packed::matrix(&(*h * factor))));
    }
}

/// Checks the argument up to its claims on the witness.
pub(crate) fn verify<L: Listener>(
    plan: &Plan,
    listener: &mut L,
) -> Result<Claims<L::V>, VerifyError> {
    let fingerprint = Fingerprint::draw(listener);
    let LeafClaim {
        point,
        numerator,
        denominator,
    } = gkr::verify(plan.leaf_log, listener)?;
    let claimed = listener.hear(LABEL, 3)?;
    let Ok(claimed) = <[L::V; 3]>::try_from(claimed) else {
        return Err(VerifyError::Lookup {
            why: "claims are missing",
        });
    };
    let [keys, values, counted] = &claimed;

    let one = EF::ONE;
    let filled = prefix(&point, plan.leaves.cells);
    let rows = eq_index(
        &point[plan.table_log..],
        (1 << (plan.leaf_log - plan.table_log)) - 1,
    );
    let wrong = VerifyError::Lookup {
        why: "the numerators are not those of the multiplicities",
    };
    let rest = L::V::sum(-filled, [(one, &numerator), (rows, counted)]);
    listener.zero(Check::Numerators, &rest, wrong)?;
    let public = public_part(plan, fingerprint, &point);
    let fingerprint_of_rows = table_part(plan, fingerprint, &point[..plan.table_log]);
    let alpha = fingerprint.alpha;
    let known =
        alpha * filled - public + (one - filled - rows) + rows * (alpha - fingerprint_of_rows);
    let cells = [(one, keys), (fingerprint.beta.square(), values)];
    let rest = L::V::sum(-known, [(one, &denominator)].into_iter().chain(cells));
    let wrong = VerifyError::Lookup {
        why: "the denominators are not those of the cells",
    };
    listener.zero(Check::Denominators, &rest, wrong)?;
    Ok(Claims {
        leaves: Leaves { point },
        values: claimed,
    })
}

/// Offsets and tags of all cells at a point.
fn public_part(plan: &Plan, fingerprint: Fingerprint, point: &[EF]) -> EF {
    let mut total = EF::ZERO;
    let mut tables_at: HashMap<(usize, usize), Vec<EF>> = HashMap::new();
    for (leaf, column) in plan.leaf_columns.iter().enumerate() {
        let Cell::Key(tables) = &plan.columns[*column].cell else {
            continue;
        };
        for tile in plan.leaves.of_tensor[leaf]
            .iter()
            .map(|t| &plan.leaves.tiles[*t])
        {
            let high = eq_index(&point[tile.log..], tile.offset >> tile.log);
            let value = match tables {
                Tables::One(c) => fingerprint.public(*c),
                Tables::Axis { axis, choices } => {
                    let s = tile.segments[*axis];
                    let bit: usize = tile.segments[axis + 1..].iter().map(|s| s.log).sum();
                    let eq = tables_at
                        .entry((bit, s.log))
                        .or_insert_with(|| eq_table(&point[bit..bit + s.log], EF::ONE));
                    choices[s.start..]
                        .iter()
                        .zip(eq.iter())
                        .map(|(c, e)| *e * fingerprint.public(*c))
                        .sum()
                }
            };
            total += high * value;
        }
    }
    total
}

/// Fingerprints of all tables' rows at a point.
fn table_part(plan: &Plan, fingerprint: Fingerprint, point: &[EF]) -> EF {
    let eq = eq_table(point, EF::ONE);
    let starts = plan.table_starts();
    let square = fingerprint.beta.square();
    plan.tables
        .iter()
        .zip(starts)
        .enumerate()
        .map(|(id, (table, start))| {
            let (mut whole, mut keys, mut values) = (EF::ZERO, EF::ZERO, EF::ZERO);
            for (i, e) in eq[start..start + table.len()].iter().enumerate() {
                let (key, value) = table.row(i);
                whole += *e;
                keys += *e * embed(key);
                if value != 0 {
                    values += *e * embed(value);
                }
            }
            fingerprint.beta * F::from_u32(tag(id)) * whole + keys + square * values
        })
        .sum()
}

impl Leaves {
    /// Adds the three functionals, times powers, to one over all cells of the witness.
    pub(crate) fn spread(&self, plan: &Plan, factors: [EF; 3], out: &mut [Pack]) {
        let eq = Eq::new(&self.point);
        for (leaf, column) in plan.leaf_columns.iter().enumerate() {
            let partner = plan.columns[*column]
                .partner
                .map(|p| &plan.witness.of_tensor[p]);
            for (i, (tile, place)) in tiles(plan, leaf, *column).enumerate() {
                eq.spread(tile.offset, 1 << tile.log, factors[0], place.offset, out);
                if let Some(p) = partner {
                    eq.spread(
                        tile.offset,
                        1 << tile.log,
                        factors[1],
                        plan.witness.tiles[p[i]].offset,
                        out,
                    );
                }
            }
        }
        let counts = &plan.witness.tiles[plan.witness.of_tensor[plan.multiplicities()][0]];
        Eq::new(&self.point[..plan.table_log]).spread(
            0,
            1 << plan.table_log,
            factors[2],
            counts.offset,
            out,
        );
    }

    /// The extension of that functional at a point of the witness.
    pub(crate) fn at(&self, plan: &Plan, factors: [EF; 3], point: &[EF]) -> EF {
        // eq of the lowest k coordinates of both points
        let longest = plan.leaf_log.min(point.len());
        let mut low = vec![EF::ONE; longest + 1];
        for k in 0..longest {
            low[k + 1] = low[k] * eq_points(&self.point[k..=k], &point[k..=k]);
        }
        let place_of = |tile: &Tile| eq_index(&point[tile.log..], tile.offset >> tile.log);
        let mut total = EF::ZERO;
        for (leaf, column) in plan.leaf_columns.iter().enumerate() {
            let partner = plan.columns[*column]
                .partner
                .map(|p| &plan.witness.of_tensor[p]);
            for (i, (tile, place)) in tiles(plan, leaf, *column).enumerate() {
                let leaf_high =
                    eq_index(&self.point[tile.log..], tile.offset >> tile.log) * low[tile.log];
                let mut places = factors[0] * place_of(place);
                if let Some(p) = partner {
                    places += factors[1] * place_of(&plan.witness.tiles[p[i]]);
                }
                total += leaf_high * places;
            }
        }
        let counts = &plan.witness.tiles[plan.witness.of_tensor[plan.multiplicities()][0]];
        total + factors[2] * low[plan.table_log] * place_of(counts)
    }
}
