//! From float model files to integer graphs, and everything that surrounds a model at its edges.
//!
//! | step | where |
//! |---|---|
//! | fetch a model by name, keep it verified in a cache | [`pull`], [`catalogue`] |
//! | parse ONNX into a float network; parse a BERT checkpoint | [`onnx`], [`net`], [`bert`] |
//! | language models: GGUF files and Hugging Face folders | [`gguf`], [`language`] |
//! | calibrate, choose scales, write the integer graph | [`quantise`], [`bert::build`](bert::build()), [`fixed`] |
//! | put graph and manifest together, save, load | [`Model`], [`manifest`], [`recipes`] |
//! | text, images and numbers to tensors, tensors to answers | [`codec`] |
//!
//! Threat model: model files, packages, servers and requests are untrusted. Sizes are checked before allocation, nothing is executed or unpickled, files are what
//! their sha256 says, errors are typed and carry values. Floats live only here: before registration, and after the answer. They are computed in a fixed order by
//! plain IEEE operations, so that the same source gives the same graph, hence the same model id, everywhere.
//!
//! Depends on `graph`, and on `engine` for measuring accuracy. The recipe and its figures are in docs/models.md.
//!
//! ```
//! use assay_graph::eval;
//! use assay_import::{Answer, DIGIT_SAMPLES, Request, digits};
//!
//! let model = digits()?;
//! let (_, png) = DIGIT_SAMPLES[1];
//! let input = model.encode(Request::Png(png))?;
//! let outputs = eval::run(&model.graph, &input)?;
//! let Answer::Scores(scores) = model.decode(outputs.last().ok_or("no output")?)? else { return Err("not a classifier".into()) };
//! assert_eq!(scores[0].0, "3");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod bert;
mod bundled;
pub mod catalogue;
pub mod codec;
mod error;
pub mod fixed;
pub mod float;
pub mod gguf;
pub mod language;
pub mod manifest;
mod map;
mod model;
pub mod net;
pub mod onnx;
pub mod pull;
pub mod quantise;
pub mod recipes;
pub mod report;

pub use bundled::{DIGIT_SAMPLES, digits};
pub use codec::{Answer, Codec, CodecError, Request};
pub use error::ImportError;
pub use language::Language;
pub use manifest::{Kind, Manifest};
pub use model::{GRAPH_FILE, MANIFEST_FILE, Model, ModelFiles, TOKENIZER_FILE};
pub use pull::{Cache, Progress, Quiet, open};
