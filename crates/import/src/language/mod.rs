//! Language models: GGUF files and Hugging Face folders to integer graphs.
//!
//! | step | where |
//! |---|---|
//! | tensor names of each architecture | [`architecture`] |
//! | sizes | [`Config`] |
//! | weights, in the storage of the file | [`Weights`] |
//! | float reference, ranges, scales | [`FloatModel`], [`Peaks`], [`Scales`] |
//! | integer rows, the graph | [`rows`], [`build()`] |
//!
//! Block formats stay what they are: `w = step · code + offset` with real steps becomes the same with integer steps (docs/models.md, "Language models").

pub mod architecture;
mod build;
mod config;
mod forward;
pub mod measure;
mod ranges;
pub mod rope;
pub mod rows;
mod source;

pub use build::{Decoder, LOGIT_SCALE, MAX_POSITIONS, Widths, build, settle};
pub use config::Config;
pub use forward::{FloatModel, NoProbe, Probe};
pub use ranges::{LayerPeaks, LayerScales, OCTAVES, Peaks, Scales};
pub use source::{Layer, Linear, Matrix, Shared, Weights};
