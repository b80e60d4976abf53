//! The verifier.

use p3_field::PrimeCharacteristicRing;

use super::{LAYER, LeafClaim, ROOT, ROUND};
use crate::{
    error::VerifyError,
    field::EF,
    listener::{Listener, Value},
    verifier::Check,
};

/// Checks a proof for `2^log` leaves; `log` is at least 1 and comes from the plan.
///
/// # Errors
/// [`VerifyError::Lookup`] for a sum that is not zero or a denominator that is, [`VerifyError::Sumcheck`] for a layer that does not follow, [`VerifyError::Decode`].
pub(crate) fn verify<L: Listener>(
    log: usize,
    listener: &mut L,
) -> Result<LeafClaim<L::V>, VerifyError> {
    let wrong = |why| VerifyError::Lookup { why };
    if log == 0 {
        return Err(wrong("a sum of one fraction"));
    }
    let one = EF::ONE;
    let [p0, p1, q0, q1] = hear(ROOT, listener)?;
    let numerator = [listener.product(&p0, &q1), listener.product(&p1, &q0)];
    let numerator = L::V::sum(EF::ZERO, numerator.iter().map(|v| (one, v)));
    listener.zero(Check::Sum, &numerator, wrong("the sum is not zero"))?;
    let denominator = listener.product(&q0, &q1);
    let why = "a denominator is zero";
    listener.nonzero(Check::Denominator, &denominator, wrong(why))?;
    let mu = listener.transcript().challenge();
    let mut point = vec![mu];
    let mut p = child(&p0, &p1, mu);
    let mut q = child(&q0, &q1, mu);
    for k in 1..log {
        let lambda = listener.transcript().challenge();
        let mut claim = L::V::sum(EF::ZERO, [(one, &p), (lambda, &q)]);
        let mut next = vec![EF::ZERO; k];
        for (rho, r) in next.iter_mut().zip(&point).rev() {
            let [linear, quadratic] = hear(ROUND, listener)?;
            *rho = listener.transcript().challenge();
            // the constant is claim − r·(linear + quadratic)
            let factors = [one, *rho - *r, rho.square() - *r];
            claim = L::V::sum(
                EF::ZERO,
                factors.into_iter().zip([&claim, &linear, &quadratic]),
            );
        }
        let [p0, p1, q0, q1] = hear(LAYER, listener)?;
        let mixed = L::V::sum(EF::ZERO, [(one, &p1), (lambda, &q1)]);
        let products = [listener.product(&p0, &q1), listener.product(&q0, &mixed)];
        let parts = [(one, &products[0]), (one, &products[1]), (-one, &claim)];
        let rest = L::V::sum(EF::ZERO, parts);
        listener.zero(
            Check::Layer,
            &rest,
            VerifyError::Sumcheck { label: "lookup" },
        )?;
        let mu = listener.transcript().challenge();
        next.push(mu);
        point = next;
        p = child(&p0, &p1, mu);
        q = child(&q0, &q1, mu);
    }
    Ok(LeafClaim {
        point,
        numerator: p,
        denominator: q,
    })
}

/// `a + μ·(b − a)`.
fn child<V: Value>(a: &V, b: &V, mu: EF) -> V {
    V::sum(EF::ZERO, [(EF::ONE - mu, a), (mu, b)])
}

fn hear<L: Listener, const N: usize>(
    label: &'static str,
    listener: &mut L,
) -> Result<[L::V; N], VerifyError> {
    let values = listener.hear(label, N)?;
    values.try_into().map_err(|_| VerifyError::Lookup {
        why: "elements are missing",
    })
}
