//! Uniform field elements.

use p3_field::{BasedVectorSpace, PrimeCharacteristicRing};

use crate::field::{EF, F, MODULUS};

/// Bytes drawn at once.
const BLOCK: usize = 1 << 12;

/// Random field elements from a secret seed: the extensible output of Blake3. The seed has to come from the operating system and must never be used twice.
pub(crate) struct Random {
    stream: blake3::OutputReader,
    block: [u8; BLOCK],
    used: usize,
}

impl Random {
    /// The elements of a seed.
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("assay proof hiding randomness v1");
        hasher.update(seed);
        Self {
            stream: hasher.finalize_xof(),
            block: [0; BLOCK],
            used: BLOCK,
        }
    }

    /// A uniform base field element: 31 bits, drawn again unless below `p`.
    pub(crate) fn base(&mut self) -> F {
        loop {
            if self.used == BLOCK {
                self.stream.fill(&mut self.block);
                self.used = 0;
            }
            let word = self.block[self.used..].first_chunk().copied();
            self.used += 4;
            let v = u32::from_le_bytes(word.unwrap_or_default()) >> 1;
            if i64::from(v) < MODULUS {
                return F::from_u32(v);
            }
        }
    }

    /// A uniform extension element.
    pub(crate) fn element(&mut self) -> EF {
        EF::from_basis_coefficients_fn(|_| self.base())
    }
}
