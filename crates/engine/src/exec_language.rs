//! Steps of language models, node by node, as disputes need them; [`crate::Decoder`] does most of them another way.

use assay_graph::{Data, Requant, Sampling, ops::sample};

use crate::{
    exec::{Context, Operand},
    plan::Sampler,
    simd::{
        elementwise::{Element, Rescale},
        language,
    },
    threads,
};

/// Attention scores `[heads, seq, seq]`.
pub(crate) fn scores<A: Element, B: Element>(
    context: Context<'_>,
    (q, k): (&[A], &[B]),
    [heads, kv_heads, d]: [usize; 3],
    seq: usize,
    out: &mut [i32],
) {
    threads::rows(context.threads, 1, out, seq, |first, part| {
        for (i, out) in part.chunks_exact_mut(seq.max(1)).enumerate() {
            let (h, t) = ((first + i) / seq, (first + i) % seq);
            let key_head = h * kv_heads / heads;
            let q = &q[(t * heads + h) * d..][..d];
            out.fill(0);
            for (j, o) in out.iter_mut().enumerate().take(t + 1) {
                let k = &k[(j * kv_heads + key_head) * d..][..d];
                *o = q.iter().zip(k).fold(0i32, |s, (q, k)| {
                    s.wrapping_add(q.wide().wrapping_mul(k.wide()))
                });
            }
        }
    });
}

/// Causal exponentials of `[heads, seq, seq]`.
pub(crate) fn causal_exp(
    context: Context<'_>,
    s: &[i32],
    table: &[i16],
    shifts: &[u32],
    seq: usize,
    out: &mut [i16],
) {
    threads::rows(context.threads, 1, out, seq, |first, part| {
        for (i, out) in part.chunks_exact_mut(seq.max(1)).enumerate() {
            let (h, t) = ((first + i) / seq, (first + i) % seq);
            let (own, rest) = out.split_at_mut(t + 1);
            let mut sum = 0;
            language::causal_exp(
                context.isa,
                &s[(first + i) * seq..][..t + 1],
                table,
                shifts[h],
                own,
                &mut sum,
            );
            rest.fill(0);
        }
    });
}

/// Weighted means `[seq, heads·d]`.
#[expect(
    clippy::too_many_arguments,
    reason = "operands, shape, parameters, result"
)]
pub(crate) fn mix<E: Element, V: Element, O: Element>(
    context: Context<'_>,
    e: &[E],
    v: &[V],
    [heads, kv_heads, d]: [usize; 3],
    seq: usize,
    bits: u32,
    how: &Requant,
    out: &mut [O],
) {
    threads::rows(context.threads, 1, out, heads * d, |first, part| {
        let mut dots = vec![0i64; d];
        for (i, out) in part.chunks_exact_mut((heads * d).max(1)).enumerate() {
            let t = first + i;
            for (h, out) in out.chunks_exact_mut(d).enumerate() {
                let e = &e[(h * seq + t) * seq..][..t + 1];
                let sum: i64 = e.iter().map(|e| i64::from(e.wide())).sum();
                for (c, dot) in dots.iter_mut().enumerate() {
                    let channel = h * kv_heads / heads * d + c;
                    let v = &v[channel * seq..][..t + 1];
                    *dot = e
                        .iter()
                        .zip(v)
                        .map(|(e, v)| i64::from(e.wide().wrapping_mul(v.wide())))
                        .sum();
                }
                language::divide(context.isa, &dots, sum, bits, how.lo, how.hi, out);
            }
        }
    });
}

/// Rows of weights by id, requantised with their own shift.
pub(crate) fn lift<O: Element>(
    weights: &assay_graph::Const,
    ids: &[i32],
    how: &Requant,
    cols: usize,
    out: &mut [O],
) {
    for (out, id) in out.chunks_exact_mut(cols.max(1)).zip(ids) {
        // ids are within the rows by the graph's bounds
        let Some(row) = u32::try_from(*id)
            .ok()
            .and_then(|id| weights.row_values(id))
        else {
            continue;
        };
        let shift = (i32::from(row.shift) + i32::from(how.shift)).clamp(-15, 31);
        let how = Rescale::new(&Requant {
            shift: shift as i8,
            ..*how
        });
        for (o, w) in out.iter_mut().zip(&row.values) {
            *o = O::narrow(how.apply(*w));
        }
    }
}

/// How often tokens occur before each answered position.
fn occurrences(tokens: &[i32], asked: usize, token: i32) -> sample::Occurrences {
    let mut seen = sample::Occurrences::default();
    for (i, t) in tokens.iter().enumerate() {
        if *t == token {
            seen.any = true;
            seen.answered += u32::from(i >= asked);
        }
    }
    seen
}

/// The bias of a token.
pub(crate) fn bias_of(s: &Sampling, token: usize) -> i32 {
    s.bias
        .binary_search_by_key(&(token as u32), |b| b.0)
        .ok()
        .and_then(|at| s.bias.get(at))
        .map_or(0, |b| b.1)
}

/// Whether a mask allows a token.
pub(crate) fn allowed(mask: &[u8], token: usize) -> bool {
    mask.get(token / 8)
        .is_some_and(|b| b >> (token % 8) & 1 != 0)
}

/// Steps of sampling. `None`: no statement, or operands of another type than the operator takes.
pub(crate) fn sampler(
    context: Context<'_>,
    step: &Sampler,
    operands: &[Operand<'_>],
    out: &mut Data,
) -> Option<()> {
    let x = operands.first()?;
    let n = x.dims.last().copied()?.max(1);
    let other = |i: usize| match operands.get(i).map(|o| o.data) {
        Some(Data::I32(v)) => Some(v.as_slice()),
        _ => None,
    };
    match (step, x.data, out) {
        (Sampler::Adjust { scale }, data, Data::I32(out)) => {
            let (s, logits, tokens) = (context.statement?, data.to_i32(), other(1)?);
            let asked = context.extent.n_in() as usize;
            for (j, (out, x)) in out
                .chunks_exact_mut(n)
                .zip(logits.chunks_exact(n))
                .enumerate()
            {
                let mask = if s.sampling.is_masked() {
                    Some(s.masks.get(j)?)
                } else {
                    None
                };
                let before = tokens.get(..asked + j)?;
                for (v, (o, x)) in out.iter_mut().zip(x).enumerate() {
                    if mask.is_some_and(|m| !allowed(m, v)) {
                        *o = sample::FORBIDDEN;
                        continue;
                    }
                    let seen = if s.sampling.has_penalties() {
                        occurrences(before, asked, v as i32)
                    } else {
                        sample::Occurrences::default()
                    };
                    *o = sample::adjusted(*x, *scale, seen, bias_of(&s.sampling, v), &s.sampling);
                }
            }
        }
        (Sampler::BlockMax { block }, data, out) => {
            let values = data.to_i32();
            let max = |b: &[i32]| b.iter().copied().max().unwrap_or(0);
            let all = values
                .chunks_exact(n)
                .flat_map(|row| row.chunks(*block).map(max));
            *out = Data::from_i32(out.dtype(), &all.collect::<Vec<_>>())?;
        }
        (Sampler::Gap { limit }, data, Data::I16(out)) => {
            let (values, max) = (data.to_i32(), operands.get(1)?.data.to_i32());
            for ((out, y), max) in out.chunks_exact_mut(n).zip(values.chunks_exact(n)).zip(max) {
                for (o, y) in out.iter_mut().zip(y) {
                    *o = sample::gap_of(max, *y, *limit) as i16;
                }
            }
        }
        (Sampler::Census { block, limit }, Data::I16(d), Data::I32(out)) => {
            let blocks = n.div_ceil(*block);
            let levels = usize::from(*limit) + 1;
            out.fill(0);
            for (out, d) in out.chunks_exact_mut(levels * blocks).zip(d.chunks_exact(n)) {
                for (i, d) in d.iter().enumerate() {
                    *out.get_mut(*d as usize * blocks + i / block)? += 1;
                }
            }
        }
        (Sampler::Cut { table }, Data::I32(census), Data::I32(out)) => {
            let s = context.statement?;
            for (o, census) in out.iter_mut().zip(census.chunks_exact(n)) {
                *o = sample::cut_of(census, table, &s.sampling);
            }
        }
        (Sampler::Mass { table, block }, Data::I16(d), Data::I32(out)) => {
            let cuts = other(1)?;
            let blocks = n.div_ceil(*block);
            for ((out, d), cut) in out
                .chunks_exact_mut(blocks)
                .zip(d.chunks_exact(n))
                .zip(cuts)
            {
                for (o, d) in out.iter_mut().zip(d.chunks(*block)) {
                    let sum: i64 = d.iter().map(|d| kept(i32::from(*d), *cut, table)).sum();
                    *o = sum.clamp(0, i64::from(i32::MAX)) as i32;
                }
            }
        }
        (Sampler::Pick { table, block }, Data::I16(d), Data::I32(out)) => {
            let (s, cuts, masses) = (context.statement?, other(1)?, other(2)?);
            let blocks = n.div_ceil(*block);
            for (j, (o, d)) in out.iter_mut().zip(d.chunks_exact(n)).enumerate() {
                let masses = masses.get(j * blocks..(j + 1) * blocks)?;
                let total = masses.iter().map(|m| i64::from(*m)).sum();
                let mut left = sample::threshold(&s.sampling, j as u32, total);
                let mut at = 0;
                while at < blocks && left >= i64::from(masses[at]) {
                    left -= i64::from(masses[at]);
                    at += 1;
                }
                let first = at.min(blocks - 1) * block;
                *o = 0;
                for (i, d) in d.iter().enumerate().skip(first).take(*block) {
                    let m = kept(i32::from(*d), *cuts.get(j)?, table);
                    if left < m {
                        *o = i as i32;
                        break;
                    }
                    left -= m;
                }
            }
        }
        _ => return None,
    }
    Some(())
}

fn kept(d: i32, cut: i32, table: &[i32]) -> i64 {
    if d <= cut {
        sample::mass_of(d, table, i32::MAX)
    } else {
        0
    }
}

/// Rows `seq − out …` of a tensor.
pub(crate) fn tail<T: Copy>(x: &[T], out: &mut [T]) -> Option<()> {
    out.copy_from_slice(x.get(x.len().checked_sub(out.len())?..)?);
    Some(())
}
