//! The Rust DSL: define a graph with operators and layers, then fire it.

pub mod layers;
mod scope;
mod tensor;

pub use scope::Scope;
pub use tensor::{IntoOperand, Tensor, concat};
