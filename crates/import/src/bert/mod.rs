//! BERT encoders (safetensors + config.json): float reference and the all-`i8` integer recipe.
//!
//! * [`config`]: config.json, checked;
//! * [`weights`]: tensors by the names of the checkpoint;
//! * [`forward`]: the float reference, with a probe at every place whose range matters;
//! * [`ranges`]: what calibration learns;
//! * [`recipe`]: scales from ranges;
//! * [`build`]: the integer graph.
//!
//! The recipe and its measurements are in docs/models.md.

pub mod build;
pub mod config;
pub mod forward;
pub mod ranges;
pub mod recipe;
pub mod weights;

pub use build::build;
pub use config::BertConfig;
pub use forward::{Forward, NoProbe, Probe, Site};
pub use ranges::Ranges;
pub use weights::{BertWeights, Layer, Linear, Norm};
