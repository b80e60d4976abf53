//! The commitment scheme.
