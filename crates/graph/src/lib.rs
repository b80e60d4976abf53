//! The integer graph: what a model *is* in Assay.
//!
//! A [`Graph`] is a list of [`Node`]s over tensors of small integers, with its constants. Its hash is the model id. The definition of every operator
//! is one scalar function, [`ops::element`]: the value of one output element from slices of the producers and rows of the constants. [`eval::run`] is the
//! collection of all elements; the arbiter ([`arbiter::judge`]) calls the same function on opened evidence; the engine and the prover are tested against it.
//!
//! Threat model: graph bytes, evidence and inputs come from strangers. Decoders are total and canonical, allocation is bounded by the input's length or by
//! declared caps, nothing panics, and a graph that exists has been validated ([`bounds`]): shapes fit, no accumulator can pass [`A_MAX`], every element can be judged within the caps.
//!
//! Ground floor: depends on nothing else of Assay. Start reading at [`node`], then [`ops`], then [`trace`] and [`arbiter`]. The words are in docs/graph.md.

pub mod arbiter;
pub mod bounds;
mod bounds_language;
mod build;
mod consts;
mod encode;
mod error;
pub mod eval;
pub mod evidence;
pub mod identity;
pub mod layout;
pub mod node;
pub mod ops;
pub mod sampling;
mod shape;
mod shape_language;
pub mod trace;
mod types;
mod wire;

pub use build::{BlockRow, GraphBuilder, WeightRow};
pub use consts::{BlockView, Bytes, Const, ConstKind, Holder, RowValues, TABLE_ROW, WeightView};
pub use encode::{MAX_STRUCTURE, Structure};
pub use error::GraphError;
pub use node::{ConstId, Graph, Header, Node, NodeId, Op, Requant, SEMANTICS, Window};
pub use sampling::{Sampling, Statement};
pub use shape::{MAX_INPUTS, MAX_NODES};
pub use types::{
    A_MAX, DType, Data, Dim, Extent, MAX_ELEMENTS, MAX_RANK, Shape, Tensor, TensorType,
};
pub use wire::op_name;
