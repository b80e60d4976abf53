//! The verifier.

use p3_field::PrimeCharacteristicRing;

use super::{Children, LAYER, LeafClaim, ROOT, ROUND};
use crate::{
    error::VerifyError,
    field::EF,
    transcript::{Channel, Receiver},
};

/// Checks a proof for `2^log` leaves; `log` is at least 1 and comes from the plan.
///
/// # Errors
/// [`VerifyError::Lookup`] for a sum that is not zero or a denominator that is, [`VerifyError::Sumcheck`] for a layer that does not follow, [`VerifyError::Decode`].
pub(crate) fn verify(log: usize, receiver: &mut Receiver<'_>) -> Result<LeafClaim, VerifyError> {
    if log == 0 {
        return Err(VerifyError::Lookup {
            why: "a sum of one fraction",
        });
    }
    let children = receive_children(ROOT, receiver)?;
    if children.numerator() != EF::ZERO {
        return Err(VerifyError::Lookup {
            why: "the sum is not zero",
        });
    }
    if children.denominator() == EF::ZERO {
        return Err(VerifyError::Lookup {
            why: "a denominator is zero",
        });
    }
    let mu = receiver.transcript().challenge();
    let mut point = vec![mu];
    let [mut p, mut q] = children.at(mu);
    for k in 1..log {
        let lambda = receiver.transcript().challenge();
        let mut claim = p + lambda * q;
        let mut next = vec![EF::ZERO; k];
        for (rho, r) in next.iter_mut().zip(&point).rev() {
            let [linear, quadratic] = receive_array(ROUND, receiver)?;
            let constant = claim - *r * (linear + quadratic);
            *rho = receiver.transcript().challenge();
            claim = constant + *rho * (linear + *rho * quadratic);
        }
        let children = receive_children(LAYER, receiver)?;
        if children.numerator() + lambda * children.denominator() != claim {
            return Err(VerifyError::Sumcheck { label: "lookup" });
        }
        let mu = receiver.transcript().challenge();
        next.push(mu);
        point = next;
        [p, q] = children.at(mu);
    }
    Ok(LeafClaim {
        point,
        numerator: p,
        denominator: q,
    })
}

fn receive_array<const N: usize>(
    label: &'static str,
    receiver: &mut Receiver<'_>,
) -> Result<[EF; N], VerifyError> {
    let values = receiver.receive(label, N)?;
    Ok(std::array::from_fn(|i| values[i]))
}

fn receive_children(
    label: &'static str,
    receiver: &mut Receiver<'_>,
) -> Result<Children, VerifyError> {
    let [p0, p1, q0, q1] = receive_array(label, receiver)?;
    Ok(Children { p0, p1, q0, q1 })
}
