//! The lookup argument.
