//! Tests that span crates, and what they share.
//!
//! - [`filetest`]: the driver of the files in `filetests/`.
//! - [`random_graph`]: random graphs with inputs and tolerances, for property and differential tests.
//! - [`compare`]: results of two implementations within a tolerance.
//! - [`embed`]: graphs linked into C programs.
//! - [`ways`]: all ways of running a graph.
//! - [`target`]: which target compiled tests compile for.
//! - [`models`]: the manifest of fetched models, their inputs and reference outputs.
//! - [`answers`]: from outputs to answers that people can check.
//! - [`claims`]: what holds of every compiled model beside its results.
//! - [`hostile`]: bytes that nobody vouches for, and what must come of them.
//! - [`onnx_nodes`]: the ONNX project's own tests.

pub mod answers;
pub mod claims;
pub mod compare;
pub mod embed;
pub mod filetest;
pub mod hostile;
pub mod models;
pub mod onnx_nodes;
pub mod random_graph;
pub mod shapes;
pub mod target;
pub mod ways;
