//! The weights on the prover's side: folds of their tiles, and a reduction of claims that needs two passes over the cells and memory for rows and columns only.

use p3_field::{PackedValue, PrimeCharacteristicRing};
use rayon::prelude::*;

use crate::{
    field::{DEGREE, EF, F},
    functional::{Functional, Points},
    key::ProvingKey,
    mle::eq_table,
    packed::{self, Lane, Pack, WIDTH, pack, sum_lanes, unpack},
    plan::{Plan, layout::Tile},
    proof::OfWeights,
    shards::Shards,
    transcript::{Channel, Sender},
};

fn broadcast(v: EF) -> Pack {
    packed::coefficients(&v).map(Lane::from)
}

/// `out[col] = Σ_row u[row]·cells[row·cols + col]`, cols a power of two.
pub(crate) fn fold_rows(u: &[EF], cells: &[F], cols: usize) -> Vec<EF> {
    let rows = u.len();
    let add = |mut a: Vec<EF>, b: Vec<EF>| {
        a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        a
    };
    if cols < WIDTH {
        let mut out = vec![EF::ZERO; cols];
        for (line, u) in cells.chunks_exact(cols).zip(u) {
            out.iter_mut().zip(line).for_each(|(o, c)| *o += *u * *c);
        }
        return out;
    }
    let part = rows
        .div_ceil(2 * rayon::current_num_threads())
        .max((1 << 14) / cols)
        .max(1);
    cells
        .par_chunks(part * cols)
        .zip(u.par_chunks(part))
        .map(|(cells, u)| {
            let mut sums = vec![[Lane::ZERO; DEGREE]; cols / WIDTH];
            let (fours, rest) = u.as_chunks::<4>();
            let (lines, last) = cells.split_at(fours.len() * 4 * cols);
            for (lines, u) in lines.chunks_exact(4 * cols).zip(fours) {
                if u.iter().all(|u| *u == EF::ZERO) {
                    continue;
                }
                let u = u.map(broadcast);
                let lines = [0, 1, 2, 3].map(|i| Lane::pack_slice(&lines[i * cols..][..cols]));
                for (i, sum) in sums.iter_mut().enumerate() {
                    let line = lines.map(|l| l[i]);
                    for (c, s) in sum.iter_mut().enumerate() {
                        *s += Lane::dot_product(&u.map(|u| u[c]), &line);
                    }
                }
            }
            for (line, u) in last.chunks_exact(cols).zip(rest) {
                let u = broadcast(*u);
                for (sum, cell) in sums.iter_mut().zip(Lane::pack_slice(line)) {
                    for (s, u) in sum.iter_mut().zip(&u) {
                        *s += *u * *cell;
                    }
                }
            }
            unpack(&sums)
        })
        .reduce(Vec::new, |a, b| {
            if a.is_empty() {
                b
            } else if b.is_empty() {
                a
            } else {
                add(a, b)
            }
        })
}

/// `out[row] = Σ_col u[col]·cells[row·cols + col]`.
pub(crate) fn fold_cols(u: &[EF], cells: &[F]) -> Vec<EF> {
    let cols = u.len();
    if cols < WIDTH {
        return cells
            .chunks_exact(cols)
            .map(|line| u.iter().zip(line).map(|(u, c)| *u * *c).sum())
            .collect();
    }
    let packed = pack(u);
    cells
        .par_chunks_exact(cols)
        .with_min_len((1 << 12) / cols)
        .map(|line| {
            let mut sum = [Lane::ZERO; DEGREE];
            let (cells, last) = Lane::pack_slice(line).as_chunks::<4>();
            let (fours, rest) = packed.as_chunks::<4>();
            for (u, cells) in fours.iter().zip(cells) {
                for (c, s) in sum.iter_mut().enumerate() {
                    *s += Lane::dot_product(&u.map(|u| u[c]), cells);
                }
            }
            for (u, cell) in rest.iter().zip(last) {
                for (s, u) in sum.iter_mut().zip(u) {
                    *s += *u * *cell;
                }
            }
            sum_lanes(&sum)
        })
        .collect()
}

/// Where a tile is in the reduction: its columns are bound first, then its rows.
enum State {
    /// For each part: its vector over the columns, and the rows folded by its vector over the rows.
    Columns(Vec<[Vec<EF>; 2]>),
    /// Functional and cells over the rows.
    Rows([Vec<EF>; 2]),
}

struct Work<'a> {
    tile: &'a Tile,
    offset: usize,
    col_bits: usize,
    /// Coefficient, vector over the rows.
    parts: Vec<(EF, Vec<EF>)>,
    state: State,
}

fn round(f: &[EF], v: &[EF]) -> [EF; 2] {
    let pair = |f: &[EF], v: &[EF]| [f[0] * v[0], (f[1] - f[0]) * (v[1] - v[0])];
    f.chunks_exact(2)
        .zip(v.chunks_exact(2))
        .map(|(f, v)| pair(f, v))
        .fold([EF::ZERO; 2], add)
}

fn add(a: [EF; 2], b: [EF; 2]) -> [EF; 2] {
    [a[0] + b[0], a[1] + b[1]]
}

fn bind(v: &mut Vec<EF>, r: EF) {
    if v.len() % 2 == 1 {
        v.push(EF::ZERO);
    }
    *v = v
        .chunks_exact(2)
        .map(|p| p[0] + (p[1] - p[0]) * r)
        .collect();
}

/// The weights that a prover has, and where they lie.
#[derive(Clone, Copy)]
pub(super) struct Held<'a> {
    pub(super) key: &'a ProvingKey,
    pub(super) shards: &'a Shards,
}

impl Held<'_> {
    /// A tile of the committed weights.
    pub(super) fn tile(&self, tile: &Tile) -> Option<&[F]> {
        let mut pieces = self.key.committed.iter().enumerate();
        pieces.find_map(|(shard, piece)| {
            let offset = Shards::offset(shard, tile)?;
            piece.cells().get(offset..offset + (1 << tile.log))
        })
    }

    pub(super) fn tiles(&self, id: usize) -> impl Iterator<Item = &Tile> {
        let layout = &self.shards.layout;
        layout.of_tensor[id].iter().map(|t| &layout.tiles[*t])
    }

    /// Value of a functional of weights.
    pub(super) fn value(&self, plan: &Plan, points: &Points<'_>, functional: &Functional) -> EF {
        if self.key.committed.is_empty() {
            return super::evaluate_weights(plan, self.key.graph.consts(), points, functional);
        }
        self.of_tiles(points, functional, |_| true)
    }

    /// What a piece of the weights adds to all stages' claims.
    pub(super) fn of_piece(&self, claims: &[OfWeights<'_>], shard: usize) -> EF {
        let among = |tile: &Tile| Shards::offset(shard, tile).is_some();
        let value = |c: &OfWeights<'_>| c.factor * self.of_tiles(&c.points, &c.functional, among);
        claims.iter().map(value).sum()
    }

    fn of_tiles(
        &self,
        points: &Points<'_>,
        functional: &Functional,
        among: impl Fn(&Tile) -> bool,
    ) -> EF {
        let mut total = EF::ZERO;
        for ((tensor, axes), c) in &functional.parts {
            for tile in self.tiles(*tensor).filter(|t| among(t)) {
                let Some(cells) = self.tile(tile) else {
                    continue;
                };
                let mut vectors = axes
                    .iter()
                    .zip(&tile.segments)
                    .map(|(a, s)| &points.vector(*a)[s.start..s.start + (1 << s.log)]);
                let last = vectors.next_back().unwrap_or(&[EF::ONE]);
                let mut rows = vec![*c];
                for v in vectors {
                    rows = rows
                        .iter()
                        .flat_map(|h| v.iter().map(move |u| *h * *u))
                        .collect();
                }
                let folded = fold_rows(&rows, cells, last.len());
                total += folded.iter().zip(last).map(|(v, u)| *v * *u).sum::<EF>();
            }
        }
        total
    }
}

/// Proves `Σ F·V = claim` for the part of all stages' functionals in a piece of the weights. Returns the point, lowest variable first, and V there.
///
/// A tile of rows × columns is bound from its lowest bits, the columns', up. While columns are bound, rows stay summed, so each part of the functional (a product of a vector over the
/// rows and one over the columns) needs the tile folded by its row vector; while rows are bound, columns are at the point already. Tiles that are bound are numbers in a short vector.
pub(crate) fn reduce(
    label: &'static str,
    mut claim: EF,
    shards: &Shards,
    shard: usize,
    claims: &[OfWeights<'_>],
    cells: &[F],
    sender: &mut Sender<'_>,
) -> (Vec<EF>, EF) {
    let rounds = shards.logs[shard];
    let layout = &shards.layout;
    let mut works: Vec<Work<'_>> = Vec::new();
    for tile in &layout.tiles {
        let Some(offset) = Shards::offset(shard, tile) else {
            continue;
        };
        let col_bits = tile.segments.last().map_or(0, |s| s.log);
        works.push(Work {
            tile,
            offset,
            col_bits,
            parts: Vec::new(),
            state: State::Columns(Vec::new()),
        });
    }
    let by_tensor =
        works
            .iter()
            .enumerate()
            .fold(vec![Vec::new(); layout.shapes.len()], |mut all, (i, w)| {
                all[w.tile.tensor].push(i);
                all
            });
    let parts = claims.iter().flat_map(|claim| {
        let parts = claim.functional.parts.iter();
        parts.map(move |(part, c)| (claim, part, claim.factor * *c))
    });
    for (OfWeights { points, .. }, (tensor, axes), c) in parts {
        for i in &by_tensor[*tensor] {
            let work = &mut works[*i];
            let mut vectors = axes
                .iter()
                .zip(&work.tile.segments)
                .map(|(a, s)| &points.vector(*a)[s.start..s.start + (1 << s.log)]);
            let last = vectors
                .next_back()
                .map_or_else(|| vec![EF::ONE], <[EF]>::to_vec);
            let mut rows = vec![EF::ONE];
            for v in vectors {
                rows = rows
                    .iter()
                    .flat_map(|h| v.iter().map(move |u| *h * *u))
                    .collect();
            }
            let tile = &cells[work.offset..work.offset + (1 << work.tile.log)];
            let folded: Vec<EF> = fold_rows(&rows, tile, last.len())
                .into_iter()
                .map(|v| v * c)
                .collect();
            work.parts.push((c, rows));
            if let State::Columns(parts) = &mut work.state {
                parts.push([last, folded]);
            }
        }
    }
    // tiles that are bound, from the first of them to the end of the piece
    let mut done: [Vec<EF>; 2] = [Vec::new(), Vec::new()];
    let mut point: Vec<EF> = Vec::with_capacity(rounds);
    for level in 0..=rounds {
        // columns that are bound give way to rows, rows that are bound become numbers
        let mut finished: [Vec<EF>; 2] = [Vec::new(), Vec::new()];
        for work in &mut works {
            if let State::Columns(parts) = &work.state
                && work.col_bits == level
            {
                let eq = eq_table(&point[..level], EF::ONE);
                let tile = &cells[work.offset..work.offset + (1 << work.tile.log)];
                let values = fold_cols(&eq, tile);
                let mut f = vec![EF::ZERO; values.len()];
                for ((c, rows), [at, _]) in work.parts.iter().zip(parts) {
                    let factor = *c * at[0];
                    f.iter_mut().zip(rows).for_each(|(f, u)| *f += factor * *u);
                }
                work.state = State::Rows([f, values]);
                work.parts.clear();
            }
            if work.tile.log == level
                && let State::Rows([f, v]) = &work.state
            {
                finished[0].push(f[0]);
                finished[1].push(v[0]);
            }
        }
        works.retain(|w| w.tile.log > level);
        for (new, old) in finished.into_iter().zip(&mut done) {
            old.splice(0..0, new);
        }
        if level == rounds {
            break;
        }
        for v in &mut done {
            if v.len() % 2 == 1 {
                v.push(EF::ZERO);
            }
        }
        let of_work = |w: &Work<'_>| match &w.state {
            State::Columns(parts) => parts
                .iter()
                .map(|[u, g]| round(u, g))
                .fold([EF::ZERO; 2], add),
            State::Rows([f, v]) => round(f, v),
        };
        let g = works.par_iter().map(of_work).reduce(|| [EF::ZERO; 2], add);
        let g = add(g, round(&done[0], &done[1]));
        sender.send_open(label, &g);
        let r = sender.transcript().challenge();
        claim = crate::reduce::quadratic(claim, g, r);
        works.par_iter_mut().for_each(|w| match &mut w.state {
            State::Columns(parts) => parts.iter_mut().flatten().for_each(|v| bind(v, r)),
            State::Rows(vs) => vs.iter_mut().for_each(|v| bind(v, r)),
        });
        done.iter_mut().for_each(|v| bind(v, r));
        point.push(r);
    }
    let value = done[1].first().copied().unwrap_or(EF::ZERO);
    sender.send_open(label, &[value]);
    (point, value)
}
