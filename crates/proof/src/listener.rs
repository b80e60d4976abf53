//! What the steps of a verifier need of its end of the channel, whether it can read what is said or not.

use p3_field::PrimeCharacteristicRing;

use crate::{
    error::VerifyError,
    field::EF,
    transcript::{Channel, Receiver},
    verifier::Check,
};

/// What a verifier computes with: numbers, or what it knows of numbers that are hidden from it.
pub(crate) trait Value: Clone + From<EF> {
    /// `constant + Σ factor·part`.
    fn sum<'a>(constant: EF, parts: impl IntoIterator<Item = (EF, &'a Self)>) -> Self
    where
        Self: 'a;

    /// The part that is known: all of a number.
    fn constant(&self) -> EF;
}

impl Value for EF {
    fn sum<'a>(constant: EF, parts: impl IntoIterator<Item = (EF, &'a Self)>) -> Self {
        let parts = parts.into_iter().map(|(factor, part)| factor * *part);
        constant + parts.sum::<EF>()
    }

    fn constant(&self) -> EF {
        *self
    }
}

/// The verifier's end of the steps that may be hidden from it: products and equalities are checked where numbers are known, and noted where they are not.
pub(crate) trait Listener: Channel {
    /// What is known of a message's elements.
    type V: Value;

    /// `n` elements, absorbed; those at which `open` holds are said openly in either mode.
    fn hear_where(
        &mut self,
        label: &'static str,
        n: usize,
        open: impl Fn(usize) -> bool,
    ) -> Result<Vec<Self::V>, VerifyError>;

    /// `n` elements, absorbed.
    fn hear(&mut self, label: &'static str, n: usize) -> Result<Vec<Self::V>, VerifyError> {
        self.hear_where(label, n, |_| false)
    }

    /// `a·b`.
    fn product(&mut self, a: &Self::V, b: &Self::V) -> Self::V;

    /// `v` must be zero: the check, and the error if it fails.
    fn zero(&mut self, check: Check, v: &Self::V, error: VerifyError) -> Result<(), VerifyError>;

    /// `v` must not be zero.
    fn nonzero(&mut self, check: Check, v: &Self::V, error: VerifyError)
    -> Result<(), VerifyError>;
}

impl Listener for Receiver<'_> {
    type V = EF;

    fn hear_where(
        &mut self,
        label: &'static str,
        n: usize,
        _: impl Fn(usize) -> bool,
    ) -> Result<Vec<EF>, VerifyError> {
        self.receive(label, n)
    }

    fn product(&mut self, a: &EF, b: &EF) -> EF {
        *a * *b
    }

    fn zero(&mut self, check: Check, v: &EF, error: VerifyError) -> Result<(), VerifyError> {
        check.holds(*v == EF::ZERO, error)
    }

    fn nonzero(&mut self, check: Check, v: &EF, error: VerifyError) -> Result<(), VerifyError> {
        check.holds(*v != EF::ZERO, error)
    }
}
