//! From float model files to integer graphs, and everything that surrounds a model at its edges.

pub mod bert;
pub mod codec;
mod error;
pub mod fixed;
pub mod float;
pub mod manifest;
pub mod net;
pub mod onnx;
pub mod pull;
pub mod quantise;

pub use error::ImportError;
