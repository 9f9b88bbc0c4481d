//! From lowered steps to an execution plan: what lives when, where it lies in the arena, how steps are split.

pub mod arena;
mod build;
pub mod cost;
pub mod program;

pub use build::{Planned, build};
