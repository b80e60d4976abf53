//! Hiding mode: proofs that tell nothing about a run but its outputs (docs/proof.md, "Hiding").
//!
//! Each message about the run is sent as value + pad; pads are random cells of the witness, one for each number. The verifier computes with affine expressions in the hidden numbers
//! ([`expr`]) and notes which products of them it needs and what must be zero ([`listen`]). The products are proven by one more sumcheck ([`products`]); what must be zero becomes, together
//! with the claims on the witness, one linear functional of the witness with a public value. The commitment's mask hides everything else.

pub(crate) mod expr;
pub(crate) mod listen;
pub(crate) mod products;
#[cfg(test)]
mod tests;

use p3_field::PrimeCharacteristicRing;

use self::{expr::Expr, listen::Record};
use crate::{
    error::VerifyError,
    field::{DEGREE, EF, F},
    functional::{Functional, Points},
    lookup::gkr,
    mle::log2_ceil,
    packed::element,
    pcs,
    plan::Plan,
    proof::Claims,
    relations::Sizes,
    transcript::Transcript,
};

/// Label of the mask's value.
pub(crate) const MASK: &str = "mask";

/// How many numbers of a proof are hidden, at most.
pub(crate) fn numbers(plan: &Plan, sizes: &Sizes) -> usize {
    let rows = rows(plan, sizes);
    // the fractions, the lookups' claims, the linear part, the relations' products
    let said = gkr::elements(plan.leaf_log) + 3 + 1 + 3 * sizes.rounds + sizes.operands;
    // of each row a value or an inverse, two factors of the random one, the rounds
    said + rows + 2 + 3 * log2_ceil(rows)
}

/// Bad choices of the challenges that hiding adds, at most.
#[derive(Default)]
pub(crate) struct Errors {
    /// The point of the products and the rounds of their sumcheck.
    pub(crate) products: u64,
    /// What must be zero of the hidden numbers.
    pub(crate) zeros: u64,
    /// The factor of the mask.
    pub(crate) mask: u64,
}

/// The errors of a plan; none of one that hides nothing.
pub(crate) fn errors(plan: &Plan, sizes: &Sizes) -> Errors {
    if plan.pads == 0 {
        return Errors::default();
    }
    Errors {
        products: 4 * log2_ceil(rows(plan, sizes)) as u64,
        // a layer each, two claims of the lookups, the relations' products, three of the hidden products
        zeros: plan.leaf_log as u64 + 2 + 1 + 3,
        // a false claim becomes a true one; words that are no codewords become close to one; zero is drawn
        mask: pcs::hiding::line_error(plan.witness.log).saturating_add(2),
    }
}

/// Rows of the products' sumcheck, at most: products, one with an inverse, a random one.
fn rows(plan: &Plan, sizes: &Sizes) -> usize {
    gkr::products(plan.leaf_log) + sizes.products + 2
}

/// The claims on the witness and what must be zero, as one functional of the witness and its value.
///
/// A hidden number is what was heard minus its pad. With expressions `T = claimed value − Σ γ^j·zero_j`, `claims(w) = T` becomes
/// `claims(w) + Σ factor_i·pad_i = constant + Σ factor_i·heard_i`.
///
/// # Errors
/// [`VerifyError::Sumcheck`] where the plan has fewer pads than numbers were heard.
pub(crate) fn settle(
    points: &mut Points<'_>,
    plan: &Plan,
    claims: &Claims<Expr>,
    gamma: EF,
    record: &Record,
) -> Result<(Functional, EF), VerifyError> {
    let mut factors = vec![EF::ZERO; record.heard.len()];
    let mut value = EF::ZERO;
    let mut power = claims.next;
    let mut all = vec![(EF::ONE, &claims.witness_value)];
    for (_, zero) in &record.zeros {
        all.push((-power, zero));
        power *= gamma;
    }
    let wrong = || VerifyError::Sumcheck {
        label: products::LABEL,
    };
    for (factor, expr) in all {
        value += factor * expr.constant;
        for (id, c) in &expr.terms {
            let place = record.place(*id).and_then(|at| factors.get_mut(at));
            *place.ok_or_else(wrong)? += factor * *c;
        }
    }
    value += factors
        .iter()
        .zip(&record.heard)
        .map(|(f, h)| *f * *h)
        .sum::<EF>();
    let cells = DEGREE * plan.pads;
    if factors.len() > plan.pads {
        return Err(wrong());
    }
    let mut vector: Vec<EF> = factors
        .iter()
        .flat_map(|f| (0..DEGREE).map(move |k| *f * basis(k)))
        .collect();
    vector.resize(cells, EF::ZERO);
    let axis = points.vector_of(vector);
    let mut functional = claims.witness.clone();
    functional.add(plan.pad_tensor(), vec![axis], EF::ONE);
    Ok((functional, value))
}

/// `X^k`: the element whose coefficients are 0 but for the k-th, which is 1.
fn basis(k: usize) -> EF {
    element(|i| if i == k { F::ONE } else { F::ZERO })
}

/// Draws the factor of the mask.
pub(crate) fn draw_factor(transcript: &mut Transcript) -> EF {
    let factor = pcs::hiding::draw_rho(transcript);
    #[cfg(test)]
    let factor = KNOWN.get().unwrap_or(factor);
    factor
}

/// The mask's value of a simulator that knows the factor: what the claim lacks is made up for.
#[cfg(test)]
pub(crate) fn simulated(mask: EF, missing: impl Fn() -> EF) -> EF {
    use p3_field::Field;
    let known = KNOWN.get().map(|factor| missing() * factor.inverse());
    mask - known.unwrap_or_default()
}

#[cfg(test)]
thread_local! {
    /// The factor that a simulator knows before it speaks.
    pub(crate) static KNOWN: std::cell::Cell<Option<EF>> = const { std::cell::Cell::new(None) };
}
