//! The verifier's end of messages that it can't read: it notes what must hold.

use p3_field::PrimeCharacteristicRing;

use super::expr::{Expr, Id};
use crate::{
    error::VerifyError,
    field::EF,
    listener::{Listener, Value},
    transcript::{Channel, Receiver, Transcript},
    verifier::Check,
};

/// Ids from here on name products, whose masked values are heard when all are known.
const PRODUCTS: Id = 1 << 31;

/// What was heard, and what must hold of it.
#[derive(Default)]
pub(crate) struct Record {
    /// What is known of hidden number i: it plus pad i.
    pub(super) heard: Vec<EF>,
    /// Factors of the products.
    pub(super) products: Vec<[Expr; 2]>,
    /// The first of the hidden numbers that are the products' values.
    pub(super) values: Option<usize>,
    /// What must not be zero.
    pub(super) nonzero: Vec<Expr>,
    /// What must be zero, and which check says so.
    pub(super) zeros: Vec<(Check, Expr)>,
}

impl Record {
    /// The place of a hidden number and of its pad; none for a product whose value was not heard.
    pub(super) fn place(&self, id: Id) -> Option<usize> {
        match id.checked_sub(PRODUCTS) {
            None => Some(id as usize),
            Some(product) => self.values.map(|first| first + product as usize),
        }
    }

    /// A new hidden number of which this is heard.
    fn number(&mut self, heard: EF) -> Expr {
        let id = self.heard.len() as Id;
        self.heard.push(heard);
        Expr::hidden(id)
    }

    /// A number that nothing is said about: minus its pad.
    pub(super) fn fresh(&mut self) -> Expr {
        self.number(EF::ZERO)
    }

    /// Notes that an expression is zero.
    pub(super) fn vanishes(&mut self, check: Check, v: Expr) {
        if !check.is_off() {
            self.zeros.push((check, v));
        }
    }

    /// The values of all expressions' numbers: of those that were said, and of products so far.
    pub(super) fn number_of<'a>(said: &'a [EF], products: &'a [EF]) -> impl Fn(Id) -> EF + 'a {
        move |id| {
            let value = match id.checked_sub(PRODUCTS) {
                None => said.get(id as usize),
                Some(product) => products.get(product as usize),
            };
            value.copied().unwrap_or_default()
        }
    }
}

/// A receiver of masked messages.
pub(crate) struct Veiled<'a> {
    pub(crate) receiver: Receiver<'a>,
    pub(crate) record: Record,
}

impl<'a> Veiled<'a> {
    pub(crate) fn new(receiver: Receiver<'a>) -> Self {
        Self {
            receiver,
            record: Record::default(),
        }
    }
}

impl Channel for Veiled<'_> {
    fn transcript(&mut self) -> &mut Transcript {
        self.receiver.transcript()
    }
}

impl Listener for Veiled<'_> {
    type V = Expr;

    fn hear_where(
        &mut self,
        label: &'static str,
        n: usize,
        open: impl Fn(usize) -> bool,
    ) -> Result<Vec<Expr>, VerifyError> {
        let values = self.receiver.receive(label, n)?;
        let each = values.into_iter().enumerate();
        Ok(each
            .map(|(i, v)| {
                if open(i) {
                    v.into()
                } else {
                    self.record.number(v)
                }
            })
            .collect())
    }

    fn product(&mut self, a: &Expr, b: &Expr) -> Expr {
        if a.terms.is_empty() {
            return Expr::sum(EF::ZERO, [(a.constant, b)]);
        }
        if b.terms.is_empty() {
            return Expr::sum(EF::ZERO, [(b.constant, a)]);
        }
        let id = PRODUCTS + self.record.products.len() as Id;
        self.record.products.push([a.clone(), b.clone()]);
        Expr::hidden(id)
    }

    fn zero(&mut self, check: Check, v: &Expr, _: VerifyError) -> Result<(), VerifyError> {
        self.record.vanishes(check, v.clone());
        Ok(())
    }

    fn nonzero(&mut self, check: Check, v: &Expr, _: VerifyError) -> Result<(), VerifyError> {
        if !check.is_off() {
            self.record.nonzero.push(v.clone());
        }
        Ok(())
    }
}
