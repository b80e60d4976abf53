//! The lookup argument.

pub(crate) mod gkr;
