//! Language models: GGUF files and Hugging Face folders to integer graphs.
//!
//! | step | where |
//! |---|---|
//! | tensor names of each architecture | [`architecture`] |
//! | sizes | [`Config`] |
//! | weights, in the storage of the file | [`Weights`] |
//! | float reference, ranges, scales | [`FloatModel`], [`Peaks`], [`Scales`] |
//! | integer rows, the graph | [`rows`], [`build()`] |
//! | exact evaluation and comparison | [`measure`] |
//! | tokenizer, template | [`TextParts`], [`Language`] |
//! | all of it | [`Checkpoint`], [`Recipe`], [`import_language`] |
//!
//! Block formats stay what they are: `w = step · code + offset` with real steps becomes the same with integer steps (docs/models.md, "Language models").

pub mod architecture;
mod build;
mod config;
mod folder;
mod forward;
mod import;
pub mod measure;
mod ranges;
pub mod rope;
pub mod rows;
pub mod sample;
mod source;
mod text;

pub use build::{Decoder, LOGIT_SCALE, MAX_POSITIONS, Widths, build, positions, settle};
pub use config::Config;
pub use folder::Folder;
pub use forward::{FloatModel, NoProbe, Probe};
pub use import::{Checkpoint, RECIPE_VERSION, Recipe, compare, import_language, report, windows};
pub use ranges::{LayerPeaks, LayerScales, OCTAVES, Peaks, Scales};
pub use source::{Layer, Linear, Matrix, Shared, Weights};
pub use text::{Language, TextParts, TokenNames};
