//! Tests that span crates, and what they share.
//!
//! - [`random_graph`]: random graphs with inputs and tolerances, for property and differential tests.
//! - [`compare`]: results of two implementations within a tolerance.
//! - [`models`]: the manifest of fetched models, their inputs and reference outputs.
//! - [`answers`]: from outputs to answers that people can check.
//! - [`onnx_nodes`]: the ONNX project's own tests.

pub mod answers;
pub mod compare;
pub mod models;
pub mod onnx_nodes;
pub mod random_graph;
