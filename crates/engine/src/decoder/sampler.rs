//! One sampled token from one row of logits: the nodes from `adjust` to `pick` (docs/graph.md) without forming their tensors.

use std::{cell::RefCell, collections::BTreeMap};

use assay_graph::{
    Sampling,
    ops::sample::{self, FORBIDDEN, Occurrences},
    sampling::ONE,
};

use crate::{
    exec_language::{allowed, bias_of},
    simd::{isa::Isa, sample as rows},
};

/// Parameters of the sampling nodes of a graph.
pub(crate) struct Sampler {
    scale: u8,
    /// Mass of each distance below the limit, as `cut` and as `mass` and `pick` count it.
    cut: Vec<i64>,
    pick: Vec<i64>,
}

/// Tokens before a position and how often they occur.
pub(crate) type Seen = BTreeMap<u32, Occurrences>;

#[derive(Default)]
struct Scratch {
    adjusted: Vec<i32>,
    gaps: Vec<u16>,
    census: Vec<i32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Sampler {
    pub(crate) fn new(scale: u8, limit: u16, cut: &[i32], pick: &[i32]) -> Self {
        let limit = i32::from(limit);
        let masses = |table: &[i32]| {
            (0..limit)
                .map(|d| sample::mass_of(d, table, limit))
                .collect()
        };
        Self {
            scale,
            cut: masses(cut),
            pick: masses(pick),
        }
    }

    /// The token of answered position `j`.
    pub(crate) fn token(
        &self,
        isa: Isa,
        logits: &[i16],
        seen: &Seen,
        j: u32,
        s: &Sampling,
        mask: Option<&[u8]>,
    ) -> u32 {
        SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
            Ok(mut scratch) => self.with(isa, logits, seen, j, s, mask, &mut scratch),
            Err(_) => self.with(isa, logits, seen, j, s, mask, &mut Scratch::default()),
        })
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the arguments of `token` and its buffers"
    )]
    fn with(
        &self,
        isa: Isa,
        logits: &[i16],
        seen: &Seen,
        j: u32,
        s: &Sampling,
        mask: Option<&[u8]>,
        scratch: &mut Scratch,
    ) -> u32 {
        let y = &mut scratch.adjusted;
        y.resize(logits.len(), 0);
        rows::adjust(isa, logits, s.temperature, y);
        let mut special = |token: u32, seen: Occurrences| {
            let v = token as usize;
            if let (Some(y), Some(x)) = (y.get_mut(v), logits.get(v)) {
                *y = sample::adjusted(i32::from(*x), self.scale, seen, bias_of(s, v), s);
            }
        };
        for (token, _) in &s.bias {
            special(*token, Occurrences::default());
        }
        if s.has_penalties() {
            seen.iter().for_each(|(token, seen)| special(*token, *seen));
        }
        if let Some(mask) = mask {
            for (v, y) in y.iter_mut().enumerate() {
                if !allowed(mask, v) {
                    *y = FORBIDDEN;
                }
            }
        }
        let mut ends = (0, 0);
        crate::simd::elementwise::extent(isa, y, &mut ends);
        let max = ends.1;
        if s.is_greedy() {
            // distance 0: max − y rounds to 0 at 8 fractional bits
            return y.iter().position(|y| max - y < 128).unwrap_or(0) as u32;
        }
        let limit = self.cut.len();
        scratch.gaps.resize(y.len(), 0);
        rows::gaps(isa, y, max, limit as u32, &mut scratch.gaps);
        scratch.census.clear();
        scratch.census.resize(limit + 1, 0);
        for d in &scratch.gaps {
            if usize::from(*d) < limit {
                scratch.census[usize::from(*d)] += 1;
            }
        }
        let cut = self.cut_of(&scratch.census, s);
        let kept = scratch.census.iter().zip(&self.pick).take(cut + 1);
        let total: i64 = kept.map(|(c, m)| i64::from(*c) * m).sum();
        let mut left = sample::threshold(s, j, total);
        let mut found = 0;
        rows::walk(
            isa,
            &scratch.gaps,
            cut as u16,
            &self.pick,
            &mut left,
            &mut found,
        );
        found
    }

    /// As [`sample::cut_of`], with masses that are computed once.
    fn cut_of(&self, census: &[i32], s: &Sampling) -> usize {
        let limit = self.cut.len();
        if limit == 0 {
            return 0;
        }
        let mut last = limit - 1;
        if s.top_k > 0 {
            let mut count = 0i64;
            last = census[..=last]
                .iter()
                .position(|c| {
                    count += i64::from(*c);
                    count >= i64::from(s.top_k)
                })
                .unwrap_or(last);
        }
        // at most 2^24 tokens of mass 2^19
        let mass = |(c, m): (&i32, &i64)| i64::from(*c) * m;
        if s.top_p < ONE {
            let total: i64 = census[..=last].iter().zip(&self.cut).map(mass).sum();
            let need = (i128::from(total) * i128::from(s.top_p) + 0xFFFF) >> 16;
            let mut sum = 0i64;
            last = census[..=last]
                .iter()
                .zip(&self.cut)
                .position(|entry| {
                    sum += mass(entry);
                    i128::from(sum) >= need
                })
                .unwrap_or(last);
        }
        let floor = i64::from(s.min_p) * self.cut[0];
        while last > 0 && self.cut[last] << 16 < floor {
            last -= 1;
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Tier;

    /// The token by the definitions of each operator.
    fn definition(
        logits: &[i16],
        seen: &Seen,
        j: u32,
        s: &Sampling,
        mask: Option<&[u8]>,
        table: &[i32],
    ) -> u32 {
        let limit = 5120u16;
        let y: Vec<i32> = logits
            .iter()
            .enumerate()
            .map(|(v, x)| {
                if mask.is_some_and(|m| !allowed(m, v)) {
                    return FORBIDDEN;
                }
                let seen = seen.get(&(v as u32)).copied().unwrap_or_default();
                sample::adjusted(i32::from(*x), 8, seen, bias_of(s, v), s)
            })
            .collect();
        let max = y.iter().copied().max().unwrap();
        let gaps: Vec<i32> = y.iter().map(|y| sample::gap_of(max, *y, limit)).collect();
        let mut census = vec![0; usize::from(limit) + 1];
        gaps.iter().for_each(|d| census[*d as usize] += 1);
        let cut = sample::cut_of(&census, table, s);
        let mass = |d: &i32| {
            if *d <= cut {
                sample::mass_of(*d, table, i32::MAX)
            } else {
                0
            }
        };
        let mut left = sample::threshold(s, j, gaps.iter().map(mass).sum());
        for (v, d) in gaps.iter().enumerate() {
            if left < mass(d) {
                return v as u32;
            }
            left -= mass(d);
        }
        0
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 64 } else { 400 }))]

        #[test]
        fn tokens_equal_the_definition(
            logits in prop::collection::vec(prop_oneof![any::<i16>(), -900i16..900, Just(899), Just(i16::MAX)], 1..700),
            temperature in prop_oneof![Just(0u32), Just(ONE), 655u32..300_000, Just(100 * ONE)],
            top in (prop_oneof![Just(0u32), 1u32..60], prop_oneof![Just(ONE), 1u32..=ONE], prop_oneof![Just(0u32), 0u32..=ONE]),
            penalties in (prop_oneof![Just(ONE), 20_000u32..200_000], -200_000i32..200_000, -200_000i32..200_000),
            seen in prop::collection::btree_map(0u32..700, 0u32..4, 0..20),
            bias in prop::collection::btree_map(0u32..700, -6_000_000i32..6_000_000, 0..5),
            mask in prop::option::of(prop::collection::vec(any::<u8>(), 88)),
            j in 0u32..9,
            seed: [u8; 32],
        ) {
            let s = Sampling {
                temperature,
                top_k: top.0,
                top_p: top.1,
                min_p: top.2,
                repetition: penalties.0,
                frequency: penalties.1,
                presence: penalties.2,
                bias: bias.into_iter().collect(),
                seed,
                ..Sampling::default()
            };
            let table: Vec<i32> = (0..256).map(|i| (16384.0 * (-f64::from(i) / 256.0).exp2()).round() as i32).collect();
            let seen: Seen = seen.into_iter().map(|(t, n)| (t, Occurrences { any: true, answered: n })).collect();
            let history = if s.has_penalties() { seen.clone() } else { Seen::new() };
            let want = definition(&logits, &history, j, &s, mask.as_deref(), &table);
            let sampler = Sampler::new(8, 5120, &table, &table);
            for isa in Tier::available().into_iter().filter_map(Isa::new) {
                let have = sampler.token(isa, &logits, &seen, j, &s, mask.as_deref());
                prop_assert_eq!(have, want, "{}", isa.tier());
            }
        }
    }
}
