//! Wide integers.
