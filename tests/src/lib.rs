//! Tests that span crates, and what they share.
//!
//! - [`random_graph`]: random graphs with inputs and tolerances, for property and differential tests.
//! - [`models`]: the manifest of fetched models, their inputs and reference outputs.
//! - [`answers`]: from outputs to answers that people can check.

pub mod answers;
pub mod models;
pub mod random_graph;
