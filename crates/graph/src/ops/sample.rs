//! Sampling as operators: adjust, block_max, gap, census, cut, mass, pick. All parameters come from the run's public [`Sampling`] statement.
//!
//! Top-p after Holtzman et al. (arXiv 1904.09751), min-p after Nguyen et al. (arXiv 2407.01082), repetition penalty after Keskar et al. (arXiv 1909.05858);
//! tokens with the same distance to the most likely one are kept or dropped together, as the reference implementations do.

use super::{Place, Source, language::table_values, last, one, rnd};
use crate::{
    error::GraphError,
    node::ConstId,
    sampling::{ONE, Sampling},
};

/// Fractional bits that [`Op::Adjust`](crate::Op::Adjust) adds.
pub const EXTRA_BITS: u8 = 8;
/// Largest magnitude of an adjusted logit.
pub const MAX_LOGIT: i64 = 1 << 29;
/// Adjusted logit of a token that the mask forbids.
pub const FORBIDDEN: i32 = -(1 << 29) - (1 << 24);
/// `2^16·log2(e)`, rounded.
const LOG2_E: i64 = 94_548;

/// What a token's occurrences before this position do to its logit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occurrences {
    /// Whether it occurs in prompt or answer so far.
    pub any: bool,
    /// How often it occurs in the answer so far.
    pub answered: u32,
}

/// A number of natural units in 16.16 as adjusted-logit units (`2^−(scale + 8)` octaves).
pub const fn natural(value: i32, scale: u8) -> i64 {
    rnd(value as i64 * LOG2_E, 24 - scale as i8)
}

/// The adjusted logit of one allowed token (docs/graph.md, `adjust`).
pub fn adjusted(logit: i32, scale: u8, seen: Occurrences, bias: i32, s: &Sampling) -> i32 {
    let one = i64::from(ONE);
    let mut y = i64::from(logit) << EXTRA_BITS;
    if seen.any && s.repetition != ONE {
        let r = i64::from(s.repetition.max(1));
        y = if y > 0 { y * one / r } else { -(-y * r / one) };
    }
    if seen.answered > 0 {
        y -= i64::from(seen.answered) * natural(s.frequency, scale) + natural(s.presence, scale);
    }
    y += natural(bias, scale);
    if !s.is_greedy() {
        y = (y << 16).div_euclid(i64::from(s.temperature.max(1)));
    }
    y.clamp(-MAX_LOGIT, MAX_LOGIT) as i32
}

/// Logits `[out, n]` and tokens `[seq]` → adjusted logits.
pub(super) fn adjust<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    scale: u8,
) -> Result<i32, GraphError> {
    let n = last(&place.dims);
    let (j, token) = (index / n, index % n);
    let s = src.sampling()?;
    if s.is_masked() {
        let mask = src.mask(j as u32)?;
        if mask
            .get(token / 8)
            .is_none_or(|b| b >> (token % 8) & 1 == 0)
        {
            return Ok(FORBIDDEN);
        }
    }
    let mut seen = Occurrences::default();
    if s.has_penalties() {
        let asked = last(place.operand(1)) + 1 - place.dims.first().copied().unwrap_or(1);
        let before = src.slice(1, 0, asked + j)?;
        for (i, t) in before.iter().enumerate() {
            if *t == token as i32 {
                seen.any = true;
                seen.answered += u32::from(i >= asked);
            }
        }
    }
    let bias = s
        .bias
        .binary_search_by_key(&(token as u32), |b| b.0)
        .ok()
        .and_then(|at| s.bias.get(at))
        .map_or(0, |b| b.1);
    Ok(adjusted(one(src, 0, index)?, scale, seen, bias, s))
}

/// Elements of a row that block `b` of `block` elements covers.
fn block_of<'s, S: Source>(
    src: &'s S,
    operand: usize,
    (row, n): (usize, usize),
    b: usize,
    block: u32,
) -> Result<std::borrow::Cow<'s, [i32]>, GraphError> {
    let block = (block as usize).max(1);
    let start = (b * block).min(n);
    src.slice(operand, row * n + start, block.min(n - start))
}

/// Maximum of each block of the last axis.
pub(super) fn block_max<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    block: u32,
) -> Result<i32, GraphError> {
    let (n, blocks) = (last(place.operand(0)), last(&place.dims));
    let values = block_of(src, 0, (index / blocks, n), index % blocks, block)?;
    values
        .iter()
        .copied()
        .max()
        .ok_or_else(|| GraphError::evidence("empty block"))
}

/// `min(limit, rnd(max − y, 8))`.
pub fn gap_of(max: i32, y: i32, limit: u16) -> i32 {
    rnd(i64::from(max) - i64::from(y), EXTRA_BITS as i8).clamp(0, i64::from(limit)) as i32
}

pub(super) fn gap<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    limit: u16,
) -> Result<i32, GraphError> {
    let max = one(src, 1, index / last(&place.dims))?;
    Ok(gap_of(max, one(src, 0, index)?, limit))
}

/// How many elements of the block equal the distance.
pub(super) fn census<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    block: u32,
) -> Result<i32, GraphError> {
    let [_, levels, blocks] = place.dims[..] else {
        return Err(GraphError::evidence("census is not 3-D"));
    };
    let (levels, blocks) = (levels.max(1), blocks.max(1));
    let (row, level, b) = (
        index / blocks / levels,
        index / blocks % levels,
        index % blocks,
    );
    let values = block_of(src, 0, (row, last(place.operand(0))), b, block)?;
    Ok(values.iter().filter(|v| **v == level as i32).count() as i32)
}

/// `e(d) = (table[d mod N] << 5) >> (d / N)`, 0 from `limit` on; at most 2^19.
pub fn mass_of(d: i32, table: &[i32], limit: i32) -> i64 {
    let n = table.len().max(1) as i32;
    if d >= limit || d < 0 {
        return 0;
    }
    let entry = table.get((d % n) as usize).copied().map_or(0, i64::from);
    (entry << 5) >> (d / n).min(62)
}

/// Largest distance that the statement keeps, from how often each distance occurs; below `census.len() − 1`.
pub fn cut_of(census: &[i32], table: &[i32], s: &Sampling) -> i32 {
    let limit = census.len().saturating_sub(1) as i32;
    if s.is_greedy() || limit == 0 {
        return 0;
    }
    let mut last = limit - 1;
    let kept = |last: i32| census.iter().zip(0..=last);
    if s.top_k > 0 {
        let mut count = 0i64;
        let reached = kept(last).find(|(c, _)| {
            count += i64::from(**c);
            count >= i64::from(s.top_k)
        });
        last = reached.map_or(last, |(_, d)| d);
    }
    let mass = |(c, d): (&i32, i32)| i64::from(*c).saturating_mul(mass_of(d, table, limit));
    if s.top_p < ONE {
        let total: i64 = kept(last).map(mass).fold(0, i64::saturating_add);
        let need = (i128::from(total) * i128::from(s.top_p) + 0xFFFF) >> 16;
        let mut sum = 0i128;
        let reached = kept(last).find(|entry| {
            sum += i128::from(mass(*entry));
            sum >= need
        });
        last = reached.map_or(last, |(_, d)| d);
    }
    let floor = i64::from(s.min_p) * mass_of(0, table, limit);
    while last > 0 && mass_of(last, table, limit) << 16 < floor {
        last -= 1;
    }
    last
}

pub(super) fn cut<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    table: ConstId,
) -> Result<i32, GraphError> {
    let n = last(place.operand(0));
    let census = src.slice(0, index * n, n)?;
    Ok(cut_of(
        &census,
        &table_values(place, src, table)?,
        src.sampling()?,
    ))
}

/// Mass of a token at distance `d` when distances up to `cut` are kept. The limit is not needed: a cut lies below it.
fn kept_mass(d: i32, cut: i32, table: &[i32]) -> i64 {
    if d <= cut {
        mass_of(d, table, i32::MAX)
    } else {
        0
    }
}

/// Σ of the kept masses of a block.
pub(super) fn mass<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    table: ConstId,
    block: u32,
) -> Result<i32, GraphError> {
    let (n, blocks) = (last(place.operand(0)), last(&place.dims));
    let row = index / blocks;
    let cut = one(src, 1, row)?;
    let table = table_values(place, src, table)?;
    let sum: i64 = block_of(src, 0, (row, n), index % blocks, block)?
        .iter()
        .map(|d| kept_mass(*d, cut, &table))
        .sum();
    Ok(sum.clamp(0, i64::from(i32::MAX)) as i32)
}

/// Where the random number falls: `floor(U·total / 2^64)`, 0 for greedy.
pub fn threshold(s: &Sampling, j: u32, total: i64) -> i64 {
    if s.is_greedy() {
        0
    } else {
        ((u128::from(s.random(j)) * u128::from(total.unsigned_abs())) >> 64) as i64
    }
}

/// The first token at which the running sum of kept masses exceeds the threshold.
pub(super) fn pick<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    table: ConstId,
    block: u32,
) -> Result<i32, GraphError> {
    let (n, blocks) = (last(place.operand(0)), last(place.operand(2)));
    let masses = src.slice(2, index * blocks, blocks)?;
    let total: i64 = masses.iter().map(|m| i64::from(*m)).sum();
    let mut left = threshold(src.sampling()?, index as u32, total);
    let mut at = 0;
    for m in masses.iter() {
        if left < i64::from(*m) {
            break;
        }
        left -= i64::from(*m);
        at += 1;
    }
    let cut = one(src, 1, index)?;
    let table = table_values(place, src, table)?;
    let values = block_of(src, 0, (index, n), at.min(blocks - 1), block)?;
    let first = at.min(blocks - 1) * block as usize;
    for (i, d) in values.iter().enumerate() {
        let m = kept_mass(*d, cut, &table);
        if left < m {
            return Ok((first + i) as i32);
        }
        left -= m;
    }
    // only values that no honest run produces lead here; total, so that they can be judged
    Ok(0)
}
