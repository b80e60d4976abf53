//! What a verifier knows of numbers that are hidden from it: affine expressions.

use p3_field::PrimeCharacteristicRing;

use crate::{field::EF, listener::Value};

/// Names a hidden number.
pub(crate) type Id = u32;

/// `constant + Σ factor·number`, ids ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expr {
    pub(crate) constant: EF,
    pub(crate) terms: Vec<(Id, EF)>,
}

impl Expr {
    /// A hidden number itself.
    pub(crate) fn hidden(id: Id) -> Self {
        Self {
            constant: EF::ZERO,
            terms: vec![(id, EF::ONE)],
        }
    }

    /// Its value for whoever knows the numbers.
    pub(crate) fn value(&self, number: impl Fn(Id) -> EF) -> EF {
        let terms = self.terms.iter().map(|(id, c)| *c * number(*id));
        self.constant + terms.sum::<EF>()
    }
}

impl From<EF> for Expr {
    fn from(constant: EF) -> Self {
        Self {
            constant,
            terms: Vec::new(),
        }
    }
}

impl Value for Expr {
    fn sum<'a>(mut constant: EF, parts: impl IntoIterator<Item = (EF, &'a Self)>) -> Self {
        let mut all: Vec<(Id, EF)> = Vec::new();
        for (factor, part) in parts {
            constant += factor * part.constant;
            all.extend(part.terms.iter().map(|(id, c)| (*id, *c * factor)));
        }
        all.sort_by_key(|(id, _)| *id);
        let mut terms: Vec<(Id, EF)> = Vec::with_capacity(all.len());
        for (id, c) in all {
            match terms.last_mut() {
                Some((last, sum)) if *last == id => *sum += c,
                _ => terms.push((id, c)),
            }
        }
        Self { constant, terms }
    }

    fn constant(&self) -> EF {
        self.constant
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_numbers() {
        let number = |id: Id| EF::from_u32(1000 + id * id);
        let c = EF::from_u32;
        let a = Expr::sum(c(7), [(c(3), &Expr::hidden(5)), (c(2), &Expr::hidden(1))]);
        assert_eq!(a.terms, [(1, c(2)), (5, c(3))]);
        let b = Expr::sum(c(1), [(c(4), &Expr::hidden(5)), (c(9), &c(2).into())]);
        let both = Expr::sum(c(11), [(c(6), &a), (-c(1), &b)]);
        let want = c(11) + c(6) * a.value(number) - b.value(number);
        assert_eq!(both.value(number), want);
        assert_eq!(both.terms.len(), 2, "each number once");
        assert_eq!(Expr::from(c(4)).constant(), c(4));
    }
}
