//! Facts: what a plan needs to know of a model's constants. Whoever holds the constants computes them; whoever does not takes them from the key, whose hash was registered.
//!
//! They are read in the order in which the plan is built, so that a key needs no names for them.

use std::sync::Arc;

use crate::error::PlanError;

/// A fact.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Fact {
    /// A number: a bound.
    Number(i64),
    /// Numbers: shifts of rows, entries of a table.
    List(#[serde(with = "shared")] Arc<Vec<i32>>),
}

/// Where facts come from.
#[derive(Clone, Debug)]
pub(crate) enum Facts {
    /// Computed from the constants and kept.
    Record(Vec<Fact>),
    /// Taken from a key.
    Replay { facts: Arc<Vec<Fact>>, next: usize },
}

impl Facts {
    fn fact(
        &mut self,
        compute: impl FnOnce() -> Result<Fact, PlanError>,
    ) -> Result<Fact, PlanError> {
        match self {
            Self::Record(facts) => {
                let fact = compute()?;
                facts.push(fact.clone());
                Ok(fact)
            }
            Self::Replay { facts, next } => {
                let fact = facts.get(*next).cloned();
                *next += 1;
                fact.ok_or_else(|| PlanError::Key("it has too few facts".into()))
            }
        }
    }

    /// A number of at least 0: a magnitude.
    pub(crate) fn number(
        &mut self,
        compute: impl FnOnce() -> Result<i64, PlanError>,
    ) -> Result<i64, PlanError> {
        match self.signed(compute)? {
            v if v < 0 => Err(PlanError::Key(format!("a magnitude of {v}"))),
            v => Ok(v),
        }
    }

    fn signed(
        &mut self,
        compute: impl FnOnce() -> Result<i64, PlanError>,
    ) -> Result<i64, PlanError> {
        match self.fact(|| compute().map(Fact::Number))? {
            // far above what fits the field, far below what overflows when intervals are added up
            Fact::Number(v) if v.unsigned_abs() > 1 << 42 => {
                Err(PlanError::Key(format!("a bound of {v}")))
            }
            Fact::Number(v) => Ok(v),
            Fact::List(_) => Err(PlanError::Key(
                "a fact is a list where a number is due".into(),
            )),
        }
    }

    /// A list of `len` numbers.
    pub(crate) fn list(
        &mut self,
        len: usize,
        compute: impl FnOnce() -> Result<Vec<i32>, PlanError>,
    ) -> Result<Arc<Vec<i32>>, PlanError> {
        match self.fact(|| compute().map(|v| Fact::List(Arc::new(v))))? {
            Fact::List(v) if v.len() == len => Ok(v),
            Fact::List(v) => Err(PlanError::Key(format!(
                "a list of {} facts where {len} are due",
                v.len()
            ))),
            Fact::Number(_) => Err(PlanError::Key(
                "a fact is a number where a list is due".into(),
            )),
        }
    }

    /// Two numbers, the first no larger than the second.
    pub(crate) fn range(
        &mut self,
        compute: impl FnOnce() -> Result<(i64, i64), PlanError>,
    ) -> Result<(i64, i64), PlanError> {
        let mut hi = 0;
        let lo = self.signed(|| {
            let range = compute()?;
            hi = range.1;
            Ok(range.0)
        })?;
        let hi = self.signed(|| Ok(hi))?;
        if lo > hi {
            return Err(PlanError::Key(format!("a range from {lo} to {hi}")));
        }
        Ok((lo, hi))
    }

    /// Right shifts of `len` rows.
    pub(crate) fn shifts(
        &mut self,
        len: usize,
        compute: impl FnOnce() -> Result<Vec<i32>, PlanError>,
    ) -> Result<Arc<Vec<i32>>, PlanError> {
        let shifts = self.list(len, compute)?;
        match shifts.iter().find(|k| !(-15..=31).contains(*k)) {
            Some(k) => Err(PlanError::Key(format!("a shift of {k}"))),
            None => Ok(shifts),
        }
    }

    /// Whether all were used.
    pub(crate) fn is_spent(&self) -> bool {
        match self {
            Self::Record(_) => true,
            Self::Replay { facts, next } => facts.len() == *next,
        }
    }
}

/// A shared list is encoded as a list.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(v: &Arc<Vec<i32>>, s: S) -> Result<S::Ok, S::Error> {
        v.as_ref().serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Arc<Vec<i32>>, D::Error> {
        Vec::deserialize(d).map(Arc::new)
    }
}
