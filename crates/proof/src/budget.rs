//! The soundness error of a proof as a number: the sum of the errors of all its steps, computed from the plan before a proof is made or read.
//!
//! Integers only, rounded against us: errors are counted in units of 2^-160. A step with random choices in the extension field, of which at most `n` are bad, has the error
//! `n / |EF|`, and `|EF| > 2^154`. The errors of openings are those of the pinned rows of the parameter set.

use std::fmt;

use crate::{
    error::VerifyError,
    hiding,
    lookup::gkr,
    params::{self, Side},
    pcs,
    plan::{Plan, stages::Stages},
    relations,
};

/// Bits that a proof must have, at least.
pub const REQUIRED_BITS: u32 = 100;
/// Logarithm of the unit of errors, negated.
const UNIT: u32 = 160;
/// `|EF| ≥ 2^FIELD_BITS`.
const FIELD_BITS: u32 = 154;
/// `⌈2^30 · 2^(k/10)⌉`.
const TENTHS: [u128; 10] = [
    1_073_741_824,
    1_150_807_993,
    1_233_405_467,
    1_321_931_248,
    1_416_810_831,
    1_518_500_250,
    1_627_488_271,
    1_744_298_740,
    1_869_493_100,
    2_003_673_093,
];
/// Certainty, in units: an error of 1.
const ONE: u128 = 1 << 127;

/// The errors of the steps of a proof.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Name, tenths of bits, error in units.
    terms: Vec<(&'static str, u32, u128)>,
}

impl Budget {
    /// No step yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a step with at most `bad` bad choices of a challenge.
    #[must_use]
    pub(crate) fn term(mut self, label: &'static str, bad: u64) -> Self {
        let error = u128::from(bad) << (UNIT - FIELD_BITS);
        self.terms.push((label, tenths(error), error));
        self
    }

    /// Adds the opening of a commitment to `2^log` cells. Sizes without parameters count as no security at all.
    #[must_use]
    pub(crate) fn pcs(mut self, log: usize, side: Side) -> Self {
        let row = params::row(side, pcs::padded(log));
        let tenths = row.map_or(0, |row| row.tenths.into());
        let error = if tenths == 0 {
            ONE
        } else {
            error_above(tenths)
        };
        self.terms.push((side.name(), tenths, error));
        self
    }

    /// Bits of the sum of all errors, in tenths, rounded down.
    #[must_use]
    pub fn tenths(&self) -> u32 {
        tenths(self.total())
    }

    /// Whole bits of the sum of all errors, rounded down.
    #[must_use]
    pub fn bits(&self) -> u32 {
        self.tenths() / 10
    }

    /// The steps: name, bits in tenths (rounded down).
    pub fn terms(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.terms
            .iter()
            .map(|(label, tenths, _)| (*label, *tenths))
    }

    fn total(&self) -> u128 {
        let errors = self.terms.iter().map(|(_, _, error)| *error);
        errors.fold(0, u128::saturating_add)
    }

    /// Whether the error is at most 2^-100.
    ///
    /// # Errors
    /// [`VerifyError::Budget`].
    pub(crate) fn check(&self) -> Result<(), VerifyError> {
        // no terms, no statement about anything
        if !self.terms.is_empty() && self.total() <= 1 << (UNIT - REQUIRED_BITS) {
            Ok(())
        } else {
            Err(VerifyError::Budget { bits: self.bits() })
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.tenths();
        write!(f, "{}.{} bits", tenths / 10, tenths % 10)?;
        for (i, (label, tenths)) in self.terms().enumerate() {
            let start = if i == 0 { " (" } else { ", " };
            write!(f, "{start}{label} {}.{}", tenths / 10, tenths % 10)?;
        }
        if self.terms.is_empty() {
            Ok(())
        } else {
            f.write_str(")")
        }
    }
}

/// An upper bound of `2^-(tenths/10)` in units.
fn error_above(tenths: u32) -> u128 {
    let Some(left) = (10 * UNIT).checked_sub(tenths) else {
        return 1;
    };
    let (whole, part) = (left / 10, TENTHS[left as usize % 10]);
    if whole >= 96 {
        return ONE;
    }
    (part << whole).div_ceil(1 << 30)
}

/// The largest number of tenths of bits with `error ≤ 2^-(tenths/10)`; 0 from 2^-64 on, at most those of a unit.
fn tenths(error: u128) -> u32 {
    (0..=10 * UNIT)
        .rev()
        .find(|t| {
            let left = 10 * UNIT - t;
            let (whole, part) = (left / 10, TENTHS[left as usize % 10]);
            // one less than the rounded-up entry is below the power, or the power itself where it is exact
            let part = if left.is_multiple_of(10) {
                part
            } else {
                part - 1
            };
            whole < 96 && error <= (part << whole) >> 30
        })
        .unwrap_or(0)
}

/// The budget of a plan in stages; `weights` are the logarithms of the sizes of the committed weights' pieces, none where the verifier has the weights.
pub(crate) fn of_stages(stages: &Stages, weights: &[usize]) -> Budget {
    let mut bad: Vec<(&'static str, u64)> = Vec::new();
    for plan in &stages.plans {
        for (i, (label, n)) in of_plan(plan).into_iter().enumerate() {
            match bad.get_mut(i) {
                Some(have) => have.1 += n,
                None => bad.push((label, n)),
            }
        }
    }
    let of_weights = 2 * weights.iter().sum::<usize>() as u64;
    bad.push(("reduction of the weights", of_weights));
    // columns and copies that differ agree at the point, or the claims on them cancel others
    let ends = stages.links.iter().map(|l| l.ends.len());
    let point = stages.link_lengths().into_iter();
    bad.push(("links", ends.chain(point).sum::<usize>() as u64));
    bad.push(("batch of stages", stages.plans.len() as u64 - 1));
    let terms = bad.into_iter().filter(|(_, n)| *n > 0);
    let mut budget = terms.fold(Budget::new(), |b, (label, n)| b.term(label, n));
    for plan in &stages.plans {
        let side = if plan.pads > 0 {
            Side::Hidden
        } else {
            Side::Witness
        };
        budget = budget.pcs(plan.witness.log, side);
    }
    for log in weights {
        budget = budget.pcs(*log, Side::Weights);
    }
    budget
}

/// Bad choices of challenges of the steps of one stage.
fn of_plan(plan: &Plan) -> [(&'static str, u64); 9] {
    let points: usize = relations::random_lengths(plan).iter().sum();
    let sizes = relations::Sizes::new(plan);
    let hidden = hiding::errors(plan, &sizes);
    [
        // fractions times the degree of a fingerprint, whose challenges come in products of degree two
        ("fingerprints", 2 << plan.leaf_log),
        ("lookups", gkr::error_degree_sum(plan.leaf_log)),
        ("points of relations", points as u64),
        ("batch of relations", plan.relations.len() as u64),
        ("products", 3 * sizes.rounds as u64),
        ("hidden products", hidden.products),
        ("batch of claims", sizes.operands as u64 + 4 + hidden.zeros),
        ("mask", hidden.mask),
        ("reduction of the witness", 2 * plan.witness.log as u64),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_right() {
        for (k, entry) in TENTHS.into_iter().enumerate() {
            // entry^10 against 2^(300 + k), in two halves to stay within u128
            let power = (entry as f64 / f64::from(1 << 30)).log2() * 10.0 - k as f64;
            assert!(
                (0.0..1e-7).contains(&power) || k == 0 && power == 0.0,
                "{k} {power}"
            );
        }
    }

    #[test]
    fn errors_are_rounded_up_and_bits_down() {
        for tenths_in in [1000, 1001, 1062, 1082, 1399, 1540] {
            let error = error_above(tenths_in);
            let back = tenths(error);
            assert!(
                back == tenths_in || back + 1 == tenths_in,
                "{tenths_in} {back}"
            );
            assert!((error as f64).log2() + 1e-9 >= 160.0 - f64::from(tenths_in) / 10.0);
        }
        assert_eq!(tenths(1 << 60), 1000);
        assert_eq!(tenths((1 << 60) + 1), 999);
        assert_eq!(tenths(ONE), 0);
        assert_eq!(Budget::new().term("x", 1).tenths(), 1540);
        assert_eq!(Budget::new().term("x", 3).tenths(), 1524);
    }

    #[test]
    fn budgets_are_checked() {
        let both = |w, x| Budget::new().pcs(w, Side::Weights).pcs(x, Side::Witness);
        assert_eq!(both(17, 14).tenths(), 1058);
        assert_eq!(both(27, 27).tenths(), 1044);
        assert!(both(27, 27).term("lookups", 1 << 40).check().is_ok());
        assert_eq!(
            both(17, 14).term("lookups", 1 << 55).check(),
            Err(VerifyError::Budget { bits: 98 })
        );
        assert_eq!(both(28, 14).check(), Err(VerifyError::Budget { bits: 0 }));
        assert_eq!(
            Budget::new().check(),
            Err(VerifyError::Budget { bits: 160 })
        );
        let text = Budget::new()
            .pcs(17, Side::Weights)
            .term("lookups", 8)
            .to_string();
        assert_eq!(text, "106.4 bits (weights 106.5, lookups 151.0)");
    }
}
