//! The field: KoalaBear, `p = 2^31 − 2^24 + 1`, and its extension of degree five, in which all challenges lie (154.9 bits).

use p3_field::{
    BasedVectorSpace, PrimeCharacteristicRing, PrimeField32,
    extension::QuinticTrinomialExtensionField,
};

/// Base field: cells of columns and weights.
pub type F = p3_koala_bear::KoalaBear;
/// Extension field: challenges and messages.
pub type EF = QuinticTrinomialExtensionField<F>;

/// `p`.
pub const MODULUS: i64 = (1 << 31) - (1 << 24) + 1;
/// Coefficients of an extension element.
pub const DEGREE: usize = 5;
/// Bytes of an encoded extension element: its coefficients, little endian.
pub const EF_BYTES: usize = 4 * DEGREE;

/// The field element of a signed integer.
#[inline]
pub fn embed(v: i64) -> F {
    F::from_i32(i32::try_from(v).unwrap_or((v % MODULUS) as i32))
}

/// Encodes an extension element: five canonical `u32`, little endian.
pub fn encode(v: &EF, out: &mut Vec<u8>) {
    for c in <EF as BasedVectorSpace<F>>::as_basis_coefficients_slice(v) {
        out.extend_from_slice(&c.as_canonical_u32().to_le_bytes());
    }
}

/// Decodes an extension element; `None` when the bytes are not [`EF_BYTES`] long or a coefficient is not below `p`.
pub fn decode(bytes: &[u8]) -> Option<EF> {
    let (words, rest) = bytes.as_chunks::<4>();
    if words.len() != DEGREE || !rest.is_empty() {
        return None;
    }
    let mut c = [F::ZERO; DEGREE];
    for (c, word) in c.iter_mut().zip(words) {
        let v = u32::from_le_bytes(*word);
        if i64::from(v) >= MODULUS {
            return None;
        }
        *c = F::from_u32(v);
    }
    EF::from_basis_coefficients_slice(&c)
}
