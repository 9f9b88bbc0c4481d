//! Tests that span crates, and what they share.
//!
//! - [`random_graph`]: random graphs with inputs and tolerances, for property and differential tests.

pub mod random_graph;
