//! Which masses are kept. Top-k and top-p keep distances up to a level that the prover says; a level takes two cells a token, and sums of up to 31 tokens.

use assay_graph::{Sampling, ops::sample, sampling::ONE};

use super::{Rule, distances::Distances};
use crate::{
    error::PlanError,
    plan::{
        builder::Builder,
        expr::{Affine, Term, View},
        gadgets::{Ranged, map},
        row::wide as widened,
        wide::{Part, Wide},
    },
};

/// Tokens whose masses are added up to one integer: it has 24 bits, and no sum of products of it can wrap.
pub(super) const BLOCK: usize = 31;
/// What a token at the level counts for besides 1.
const AT: i64 = BLOCK as i64 + 1;
/// Largest sum of a block's masses, and bits of its cells.
pub(super) const MOST: i128 = (1 << 24) - 1;

/// Distances up to this one are kept.
pub(super) struct Level {
    /// The distance and the mass at it, `[1, out]`.
    cut: Ranged,
    mass: Ranged,
    /// 1 of tokens below the distance, `1 + AT` at it, else 0.
    class: Ranged,
}

/// Masses that are kept, by blocks.
pub(super) struct Kept {
    pub(super) level: Option<Level>,
    /// How many tokens of each block are kept and how many of them are at the level.
    counts: Option<[Ranged; 2]>,
    /// `[1, out, blocks]`.
    pub(super) blocks: Wide,
}

/// Sums over some tokens, where there is a level with their counts.
pub(super) struct Sums {
    pub(super) mass: Wide,
    pub(super) counts: Option<[Ranged; 2]>,
}

/// Tokens over which sums are stated: for each value of `axes`, `len` of them.
pub(super) struct Span<'a> {
    pub(super) axes: &'a [usize],
    pub(super) len: usize,
    /// A view of tokens over the labels of `axes` and one more.
    pub(super) tokens: &'a dyn Fn(&View) -> View,
    /// A view of rows over the labels of `axes`.
    pub(super) row: &'a dyn Fn(&View) -> View,
    /// A view of sums over the labels of `axes`.
    pub(super) sums: &'a dyn Fn(&View) -> View,
}

/// Cells for sums over these ranges of tokens, which are in the order of `axes`.
pub(super) fn cells(
    b: &mut Builder,
    distances: &Distances,
    level: Option<&Level>,
    axes: &[usize],
    ranges: &[std::ops::Range<usize>],
) -> Sums {
    let class = level.and_then(|l| l.class.ints.as_ref());
    let each = |f: &dyn Fn(i64, i64) -> i64| {
        let mass = distances.mass.ints.as_ref()?;
        let sum = |range: &std::ops::Range<usize>| {
            let classes = range.clone().map(|i| class.map_or(1, |c| c[i].into()));
            let pairs = mass[range.clone()].iter().zip(classes);
            pairs.map(|(e, c)| f(i64::from(*e), c)).sum()
        };
        Some(ranges.iter().map(sum).collect::<Vec<i64>>())
    };
    let mass = b.claimed("kept mass", each(&|e, c| if c > 0 { e } else { 0 }));
    let mass = mass.map(|v| v.into_iter().map(i128::from).collect());
    let kept = each(&|_, c| i64::from(c > 0));
    let at = b.claimed("tokens at the level", each(&|_, c| i64::from(c > 1)));
    let mass = b.wide(axes, MOST, mass);
    let counts = level.map(|_| [kept, at].map(|c| b.exact(axes, 0, BLOCK as i64, c.as_deref())));
    Sums { mass, counts }
}

/// States what sums add up. Those of classes c are `kept + AT·at`, in which both are below AT; those of masses times classes `mass + AT·(mass at the level)·at`.
pub(super) fn state(
    b: &mut Builder,
    distances: &Distances,
    level: Option<&Level>,
    span: &Span<'_>,
    sums: &Sums,
) -> Result<(), PlanError> {
    let most = distances.mass.hi * BLOCK as i64;
    let (total, capacity) = sums.mass.view(b)?;
    let total = (span.sums)(&total).scaled(-1);
    let mass = (span.tokens)(&distances.mass.view);
    let over = |b, a| Term::Product {
        coefficient: 1,
        sums: vec![span.len],
        a,
        b,
    };
    let mut terms = vec![Term::linear(total)];
    if let (Some(level), Some([kept, at])) = (level, &sums.counts) {
        let (kept, at) = ((span.sums)(&kept.view), (span.sums)(&at.view));
        let class = (span.tokens)(&level.class.view);
        let mut counted = vec![Term::linear(kept.plus(&at.scaled(AT)).scaled(-1))];
        if span.len > 0 {
            counted.push(over(b.one(), class.clone()));
            terms.push(over(class, mass));
        }
        b.relation("kept tokens", span.axes, counted);
        terms.push(Term::Product {
            coefficient: -AT,
            sums: Vec::new(),
            a: (span.row)(&level.mass.view),
            b: at,
        });
        b.fits(most * (1 + 2 * AT) + capacity)?;
    } else {
        if span.len > 0 {
            terms.push(over(b.one(), mass));
        }
        b.fits(most + capacity)?;
    }
    b.relation("kept masses", span.axes, terms);
    Ok(())
}

/// Masses kept up to a level, or all of them.
fn kept(b: &mut Builder, distances: &Distances, level: Option<Level>) -> Result<Kept, PlanError> {
    let [one, out, n] = distances.axes;
    let axes = [one, out, n.div_ceil(BLOCK)];
    let starts = (0..out).flat_map(|row| (0..n).step_by(BLOCK).map(move |v| (row * n, v)));
    let ranges: Vec<_> = starts
        .map(|(row, v)| row + v..row + n.min(v + BLOCK))
        .collect();
    let sums = cells(b, distances, level.as_ref(), &axes, &ranges);
    let tokens = |v: &View| {
        let token = Affine {
            offset: 0,
            terms: vec![(2, BLOCK as i64), (3, 1)],
        };
        v.substitute(&[Affine::label(0), Affine::label(1), token])
    };
    let span = Span {
        axes: &axes,
        len: BLOCK,
        tokens: &tokens,
        row: &View::clone,
        sums: &View::clone,
    };
    state(b, distances, level.as_ref(), &span, &sums)?;
    Ok(Kept {
        level,
        counts: sums.counts,
        blocks: sums.mass,
    })
}

impl Level {
    /// The level at a distance below the limit.
    fn new(
        b: &mut Builder,
        rule: &Rule<'_>,
        distances: &Distances,
        cut: Ranged,
    ) -> Result<Self, PlanError> {
        let axes = distances.axes;
        let masses: Vec<i32> = (0..rule.limit).map(|d| rule.mass(d)).collect();
        let mass = b.function(&axes[..2], &cut, 0, &masses)?;
        let half = &distances.half;
        let gaps = half.ints.as_ref().zip(cut.ints.as_ref()).map(|(h, cut)| {
            let rows = h.chunks_exact(axes[2]).zip(cut);
            rows.flat_map(|(h, c)| h.iter().map(move |h| 2 * c - h))
                .collect()
        });
        // h of distance d is 2d − 1 or 2d
        let gap = Ranged {
            view: cut.view.scaled(2).minus(&half.view),
            ints: gaps,
            lo: -half.hi,
            hi: 2 * (rule.limit as i64 - 1),
        };
        let classes = (gap.lo..=gap.hi).map(|g| match g {
            ..0 => 0,
            0 | 1 => 1 + AT as i32,
            _ => 1,
        });
        let class = b.function(&axes, &gap, gap.lo, &classes.collect::<Vec<i32>>())?;
        Ok(Self { cut, mass, class })
    }

    /// The level that follows from how often each distance occurs by this statement.
    fn claimed(
        b: &mut Builder,
        rule: &Rule<'_>,
        distances: &Distances,
        what: &'static str,
        s: &Sampling,
    ) -> Result<Self, PlanError> {
        let cuts = distances.half.ints.as_ref().map(|h| {
            let cut = |line: &[i32]| {
                let mut census = vec![0; rule.limit + 1];
                for h in line {
                    census[((h + 1) as usize / 2).min(rule.limit)] += 1;
                }
                sample::cut_of(&census, &rule.table, s).into()
            };
            h.chunks_exact(distances.axes[2]).map(cut).collect()
        });
        let (axes, last) = (&distances.axes[..2], rule.limit as i64 - 1);
        let cuts = b.claimed(what, cuts);
        let cuts = map(cuts.as_deref(), |_, cut| cut.clamp(0, last));
        let cut = b.exact(axes, 0, last, cuts.as_deref());
        Self::new(b, rule, distances, cut)
    }
}

/// The largest distance up to one that min-p keeps: `mass ≥ min_p·mass(0)`.
fn likely(rule: &Rule<'_>, mut cut: usize) -> usize {
    let floor = i64::from(rule.s.min_p) * i64::from(rule.mass(0));
    while cut > 0 && i64::from(rule.mass(cut)) << 16 < floor {
        cut -= 1;
    }
    cut
}

/// Whether top-k and top-p decide.
fn by_level(rule: &Rule<'_>, n: usize) -> [bool; 2] {
    let s = rule.s;
    let some = !s.is_greedy();
    [
        some && s.top_k > 0 && (s.top_k as usize) < n,
        some && s.top_p < ONE,
    ]
}

/// The largest distance that is kept whatever the logits are.
pub(super) fn known(rule: &Rule<'_>, n: usize) -> usize {
    match by_level(rule, n) {
        _ if rule.s.is_greedy() => 0,
        [false, false] => likely(rule, rule.limit - 1),
        _ => rule.limit - 1,
    }
}

/// The masses that the statement keeps.
pub(super) fn masses(
    b: &mut Builder,
    rule: &Rule<'_>,
    distances: &Distances,
) -> Result<Kept, PlanError> {
    let [by_count, by_mass] = by_level(rule, distances.axes[2]);
    let with = |top_p: u32| Sampling {
        top_p,
        min_p: 0,
        ..rule.s.clone()
    };
    let mut all = if by_count {
        let level = Level::claimed(b, rule, distances, "top-k", &with(ONE))?;
        let all = kept(b, distances, Some(level))?;
        top_k(b, rule, &all)?;
        all
    } else {
        kept(b, distances, None)?
    };
    if by_mass {
        let level = Level::claimed(b, rule, distances, "top-p", &with(rule.s.top_p))?;
        let some = kept(b, distances, Some(level))?;
        top_p(b, rule, &all, &some)?;
        all = some;
    }
    let likely: Vec<i32> = (0..rule.limit).map(|d| likely(rule, d) as i32).collect();
    if let Some(level) = &all.level
        && (0..).zip(&likely).any(|(d, cut)| d != *cut)
    {
        let cut = b.function(&distances.axes[..2], &level.cut, 0, &likely)?;
        let level = Level::new(b, rule, distances, cut)?;
        all = kept(b, distances, Some(level))?;
    }
    Ok(all)
}

/// A view of blocks added up, over the rows.
fn added(b: &mut Builder, coefficient: i64, view: &Ranged, blocks: usize) -> Term {
    Term::Product {
        coefficient,
        sums: vec![blocks],
        a: view.view.clone(),
        b: b.one(),
    }
}

/// Sums of blocks by rows, on the prover's side.
fn rows(view: &Ranged, blocks: usize) -> Option<Vec<i64>> {
    let each = view.ints.as_ref()?.chunks_exact(blocks);
    Some(
        each.map(|v| v.iter().map(|v| i64::from(*v)).sum())
            .collect(),
    )
}

/// `Σ kept ≥ k`, or the level is the last one, and `Σ (kept − at) < k`.
fn top_k(b: &mut Builder, rule: &Rule<'_>, all: &Kept) -> Result<(), PlanError> {
    let (Some(level), Some([kept, at])) = (&all.level, &all.counts) else {
        return Ok(());
    };
    let k = i64::from(rule.s.top_k);
    let [one, out, blocks] = all.axes(b);
    let outer = [one, out];
    let most = (blocks * BLOCK) as i64;
    let (have, ends) = (rows(kept, blocks), rows(at, blocks));
    let lacking = have
        .as_ref()
        .map(|v| v.iter().map(|v| (k - v).max(0)).collect::<Vec<_>>());
    let spare = have
        .as_ref()
        .map(|v| v.iter().map(|v| (v - k).max(0)).collect::<Vec<_>>());
    let lacking = b.around(&outer, 0, k, lacking.as_deref());
    let spare = b.around(&outer, 0, most, spare.as_deref());
    let last = rule.limit as i64 - 1;
    let terms = vec![
        Term::linear(lacking.view.scaled(last)),
        Term::Product {
            coefficient: -1,
            sums: Vec::new(),
            a: lacking.view.clone(),
            b: level.cut.view.clone(),
        },
    ];
    b.relation(
        "fewer tokens than top-k at the last level only",
        &outer,
        terms,
    );
    let terms = vec![
        added(b, 1, kept, blocks),
        Term::linear(lacking.view.minus(&spare.view)),
        Term::constant(-k),
    ];
    b.fits(most + lacking.hi + spare.hi + k)?;
    b.relation("top-k", &outer, terms);
    let short = have.zip(ends).map(|(have, at)| {
        let each = have.iter().zip(at);
        each.map(|(have, at)| k - 1 - (have - at))
            .collect::<Vec<_>>()
    });
    let short = b.around(&outer, 0, k - 1, short.as_deref());
    let terms = vec![
        added(b, 1, kept, blocks),
        added(b, -1, at, blocks),
        Term::linear(short.view.clone()),
        Term::constant(1 - k),
    ];
    b.fits(2 * most + short.hi + k)?;
    b.relation("top-k below the level", &outer, terms);
    Ok(())
}

impl Kept {
    /// What is kept of a token's mass, on the prover's side.
    pub(super) fn mass(&self, at: usize, mass: &[i32]) -> i64 {
        let class = self.level.as_ref().and_then(|l| l.class.ints.as_ref());
        match class {
            Some(class) if class[at] == 0 => 0,
            _ => mass[at].into(),
        }
    }

    fn axes(&self, b: &Builder) -> [usize; 3] {
        self.blocks.outer_axes(b)
    }

    /// All masses of each row.
    pub(super) fn total(&self, b: &mut Builder) -> Result<Wide, PlanError> {
        let [one, out, blocks] = self.axes(b);
        let outer = [one, out];
        let ints = self.blocks.ints.as_ref().map(|v| {
            let each = v.chunks_exact(blocks);
            each.map(|v| v.iter().sum()).collect()
        });
        let total = b.wide(&outer, MOST * blocks as i128, ints);
        b.wide_zero(
            "all kept masses",
            &outer,
            &[
                Part::Total(0, 1, &self.blocks, None),
                Part::Times(-1, &total),
            ],
        )?;
        Ok(total)
    }
}

/// `2^16·some ≥ p·all`, and less below the level, where the masses at it are missing.
fn top_p(b: &mut Builder, rule: &Rule<'_>, all: &Kept, some: &Kept) -> Result<(), PlanError> {
    let (Some(level), Some([_, at])) = (&some.level, &some.counts) else {
        return Ok(());
    };
    let [one, out, blocks] = some.axes(b);
    let outer = [one, out];
    let (total, part) = (all.total(b)?, some.total(b)?);
    let ends = rows(at, blocks);
    let ends = b.claimed("all tokens at the level", ends);
    let ends = ends.map(|v| v.into_iter().map(i128::from).collect::<Vec<_>>());
    let mass = b.claimed("mass at the level", widened(level.mass.ints.as_deref()));
    let mass = mass.map(|v| v.into_iter().map(i128::from).collect::<Vec<_>>());
    let product = ends.as_ref().zip(mass.as_ref()).map(|(n, e)| {
        let each = n.iter().zip(e);
        each.map(|(n, e)| n * e).collect()
    });
    let ends = b.wide(&outer, MOST, ends);
    let mass = b.wide(&outer, MOST, mass);
    let (view, most) = mass.view(b)?;
    b.fits(most.max(level.mass.hi))?;
    let terms = vec![Term::linear(view.minus(&level.mass.view))];
    b.relation("mass at the level", &outer, terms);
    let (view, most) = ends.view(b)?;
    b.fits(most.max((blocks * BLOCK) as i64))?;
    let terms = vec![added(b, 1, at, blocks), Term::linear(view.scaled(-1))];
    b.relation("tokens at the level", &outer, terms);
    let product = b.wide(&outer, MOST * blocks as i128, product);
    b.wide_zero(
        "masses at the level",
        &outer,
        &[Part::Product(1, &mass, &ends), Part::Times(-1, &product)],
    )?;
    let p = i64::from(rule.s.top_p);
    let each = |f: &dyn Fn(i128, i128, i128) -> i128| {
        let (total, part, product) = (
            total.ints.as_ref()?,
            part.ints.as_ref()?,
            product.ints.as_ref()?,
        );
        let all = total.iter().zip(part).zip(product);
        Some(
            all.map(|((t, s), e)| f(i128::from(p) * t, s << 16, e << 16))
                .collect(),
        )
    };
    let most = (MOST * blocks as i128) << 16;
    let above = each(&|need, have, _| have - need);
    let below = each(&|need, have, at| need - 1 - (have - at));
    let above = b.wide(&outer, most, above);
    let below = b.wide(&outer, most, below);
    b.wide_zero(
        "top-p",
        &outer,
        &[
            Part::Raised(16, 1, &part),
            Part::Times(-p, &total),
            Part::Times(-1, &above),
        ],
    )?;
    b.wide_zero(
        "top-p below the level",
        &outer,
        &[
            Part::Times(p, &total),
            Part::Raised(16, -1, &part),
            Part::Raised(16, 1, &product),
            Part::Times(-1, &below),
            Part::Constant(-1),
        ],
    )
}
