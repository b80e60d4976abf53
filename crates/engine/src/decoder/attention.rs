//! Attention over a cache: scores, exponentials and weighted means of some positions, without forming `[heads, seq, seq]`.

use assay_graph::{DType, Data, Requant};
use rayon::prelude::*;

use super::cache::{Cache, Heads, PAGE};
use crate::simd::{
    columns::Columns,
    elementwise::Element,
    gemm::{Dest, Form, Left16, Right, gemm16},
    isa::Isa,
    language,
    pack::PANEL,
};

/// Positions whose scores are in memory at a time.
const TILE: usize = 32;

/// One attention of the graph: the nodes it stands for, and its parameters.
pub(crate) struct Attention {
    pub(crate) heads: Heads,
    pub(crate) table: Vec<i16>,
    pub(crate) shifts: Vec<u32>,
    pub(crate) bits: u32,
    pub(crate) how: Requant,
    /// Epilogue that leaves sums as they are.
    raw: Columns,
}

/// Some positions of one sequence: rows `first …` of the pass are positions `start …`.
pub(crate) struct Part<'a> {
    pub(crate) cache: &'a mut Cache,
    pub(crate) first: usize,
    pub(crate) start: usize,
    pub(crate) rows: usize,
}

#[derive(Default)]
struct Scratch {
    q: Vec<i16>,
    scores: Vec<i32>,
    weights: Vec<i16>,
    sums: Vec<i64>,
    dots: Vec<i32>,
    totals: Vec<i64>,
}

thread_local! {
    static SCRATCH: std::cell::RefCell<Scratch> = std::cell::RefCell::default();
}

impl Attention {
    pub(crate) fn new(
        heads: Heads,
        table: Vec<i16>,
        shifts: Vec<u32>,
        bits: u32,
        how: Requant,
    ) -> Self {
        let columns = heads.d.next_multiple_of(PANEL).max(PAGE);
        Self {
            heads,
            table,
            shifts,
            bits,
            how,
            raw: Columns::new(
                vec![(0, 0); columns].into_iter(),
                DType::I32,
                i32::MIN,
                i32::MAX,
            ),
        }
    }

    /// Attention of all parts; `q`, `k`, `v` and `out` hold the rows of the pass. `None`: operands of another type than the operators take.
    pub(crate) fn run(
        &self,
        isa: Isa,
        threads: usize,
        [q, k, v]: [&Data; 3],
        parts: &mut [Part<'_>],
        out: &mut Data,
    ) -> Option<()> {
        let h = self.heads;
        let width = h.kv_heads * h.d;
        for part in parts.iter_mut() {
            part.cache.reach(h, part.start + part.rows - 1);
            for i in 0..part.rows {
                let (t, at) = (part.start + i, (part.first + i) * width);
                match k {
                    Data::I8(k) => part.cache.put_key(h, t, &k[at..at + width]),
                    Data::I16(k) => part.cache.put_key(h, t, &k[at..at + width]),
                    Data::I32(_) => return None,
                }
                match v {
                    Data::I8(v) => part.cache.put_value(h, t, &v[at..at + width]),
                    Data::I16(v) => part.cache.put_value(h, t, &v[at..at + width]),
                    Data::I32(_) => return None,
                }
            }
        }
        match (q, out) {
            (Data::I8(q), Data::I8(out)) => self.all(isa, threads, q, parts, out),
            (Data::I8(q), Data::I16(out)) => self.all(isa, threads, q, parts, out),
            (Data::I8(q), Data::I32(out)) => self.all(isa, threads, q, parts, out),
            (Data::I16(q), Data::I8(out)) => self.all(isa, threads, q, parts, out),
            (Data::I16(q), Data::I16(out)) => self.all(isa, threads, q, parts, out),
            (Data::I16(q), Data::I32(out)) => self.all(isa, threads, q, parts, out),
            (Data::I32(_), _) => return None,
        }
        Some(())
    }

    fn all<Q: Element, O: Element>(
        &self,
        isa: Isa,
        threads: usize,
        q: &[Q],
        parts: &[Part<'_>],
        out: &mut [O],
    ) {
        let h = self.heads;
        // a task: some rows of one sequence, one key head
        let tasks = parts.iter().flat_map(|p| {
            let tiles = (0..p.rows)
                .step_by(TILE)
                .map(move |i| (p, i, TILE.min(p.rows - i)));
            tiles.flat_map(move |(p, i, n)| (0..h.kv_heads).map(move |head| (p, i, n, head)))
        });
        let (width, group) = (h.heads * h.d, h.group() * h.d);
        let mut place = |(p, i, n, head): (&Part<'_>, usize, usize, usize), from: &[O]| {
            for (r, from) in from.chunks_exact(group).take(n).enumerate() {
                out[(p.first + i + r) * width + head * group..][..group].copy_from_slice(from);
            }
        };
        let run = |&(p, i, n, head): &(&Part<'_>, usize, usize, usize), out: &mut Vec<O>| {
            out.resize(n * group, O::default());
            SCRATCH.with(|s| match s.try_borrow_mut() {
                Ok(mut s) => self.tile(isa, q, (p, i, n, head), &mut s, out),
                Err(_) => self.tile(isa, q, (p, i, n, head), &mut Scratch::default(), out),
            });
        };
        if threads > 1 {
            let tasks: Vec<_> = tasks.collect();
            let done: Vec<Vec<O>> = tasks
                .par_iter()
                .map(|t| {
                    let mut out = Vec::new();
                    run(t, &mut out);
                    out
                })
                .collect();
            for (task, from) in tasks.into_iter().zip(&done) {
                place(task, from);
            }
        } else {
            let mut own = Vec::new();
            for task in tasks {
                run(&task, &mut own);
                place(task, &own);
            }
        }
    }

    /// `n` positions from row `i` of a part, the query heads of key head `head`: rows (position, query head) of `out`.
    fn tile<Q: Element, O: Element>(
        &self,
        isa: Isa,
        q: &[Q],
        (part, i, n, head): (&Part<'_>, usize, usize, usize),
        s: &mut Scratch,
        out: &mut [O],
    ) {
        let h = self.heads;
        let (d, group) = (h.d, h.group());
        let rows = n * group;
        let end = part.start + i + n; // positions that the last row sees
        let pages = end.div_ceil(PAGE);
        let line = pages * PAGE;
        let padded = h.padded();
        s.q.clear();
        s.q.resize(rows * padded, 0);
        for (r, to) in s.q.chunks_exact_mut(padded).enumerate() {
            let at = ((part.first + i + r / group) * h.heads + head * group + r % group) * d;
            for (to, q) in to.iter_mut().zip(&q[at..at + d]) {
                *to = q.wide() as i16;
            }
        }
        s.scores.resize(rows * line, 0);
        let left = Left16 {
            data: &s.q,
            stride: padded,
            rows,
        };
        for p in 0..pages {
            let right = Right {
                lines: part.cache.keys(h, p, head),
                steps: padded / 2,
                n: PAGE.min((end - p * PAGE).next_multiple_of(PANEL)),
                j0: 0,
            };
            let mut dest = Dest {
                out: i32::out(&mut s.scores),
                at: p * PAGE,
                stride: line,
            };
            gemm16(isa, Form::Plain, left, right, &self.raw, &mut dest);
        }
        s.weights.resize(rows * line, 0);
        s.sums.resize(rows, 0);
        for (r, ((scores, weights), sum)) in s
            .scores
            .chunks_exact(line)
            .zip(s.weights.chunks_exact_mut(line))
            .zip(&mut s.sums)
            .enumerate()
        {
            let seen = part.start + i + r / group + 1;
            let (own, rest) = weights.split_at_mut(seen);
            let shift = self.shifts[head * group + r % group];
            language::causal_exp(isa, &scores[..seen], &self.table, shift, own, sum);
            rest.fill(0);
        }
        s.totals.clear();
        s.totals.resize(rows * d, 0);
        s.dots.resize(rows * d, 0);
        for p in 0..pages {
            let right = Right {
                lines: part.cache.values(h, p, head),
                steps: PAGE / 2,
                n: d,
                j0: 0,
            };
            let left = Left16 {
                data: &s.weights[p * PAGE..],
                stride: line,
                rows,
            };
            let mut dest = Dest {
                out: i32::out(&mut s.dots),
                at: 0,
                stride: d,
            };
            gemm16(isa, Form::Plain, left, right, &self.raw, &mut dest);
            for (t, d) in s.totals.iter_mut().zip(&s.dots) {
                *t += i64::from(*d);
            }
        }
        for ((out, dots), sum) in out
            .chunks_exact_mut(d)
            .zip(s.totals.chunks_exact(d))
            .zip(&s.sums)
        {
            language::divide(isa, dots, *sum, self.bits, self.how.lo, self.how.hi, out);
        }
    }
}
