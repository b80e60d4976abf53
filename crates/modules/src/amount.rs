//! Integer arithmetic of amounts (economics, rule 0.1): full-width products, explicit rounding, exact division into parts.

use alloy_primitives::U256;

/// `floor(a * b / c)`; `None` if `c` is 0 or the result exceeds 128 bits.
pub fn mul_div_floor(a: u128, b: u128, c: u128) -> Option<u128> {
    let product = U256::from(a).checked_mul(U256::from(b))?;
    product.checked_div(U256::from(c))?.try_into().ok()
}

/// `ceil(a * b / c)`; `None` if `c` is 0 or the result exceeds 128 bits.
pub fn mul_div_ceil(a: u128, b: u128, c: u128) -> Option<u128> {
    let product = U256::from(a).checked_mul(U256::from(b))?;
    let divisor = U256::from(c);
    let quotient = product.checked_div(divisor)?;
    let rounded = if product.checked_rem(divisor)?.is_zero() {
        quotient
    } else {
        quotient.checked_add(U256::ONE)?
    };
    rounded.try_into().ok()
}

/// Divides `amount` by weights; the parts add up to it exactly and each is within one unit of its exact share.
///
/// Part i is `floor(amount * W_i / W) - floor(amount * W_(i-1) / W)` with `W_i` the sum of the first i weights.
/// `None` if the weights add up to 0 or overflow.
pub fn split<const N: usize>(amount: u128, weights: [u128; N]) -> Option<[u128; N]> {
    let total = weights
        .iter()
        .try_fold(0u128, |sum, weight| sum.checked_add(*weight))?;
    let mut parts = [0u128; N];
    let (mut seen, mut given) = (0u128, 0u128);
    for (part, weight) in parts.iter_mut().zip(weights) {
        seen = seen.checked_add(weight)?;
        let upto = mul_div_floor(amount, seen, total)?;
        *part = upto.checked_sub(given)?;
        given = upto;
    }
    Some(parts)
}
