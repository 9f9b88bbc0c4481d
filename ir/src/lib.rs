//! The graph: what Kiln compiles, and what a graph means.
//!
//! ```text
//! ops (the table) ──► Op ──► infer ──► Graph ◄── Builder ◄── DSL, ONNX, passes
//!    │                                  │  ▲
//!    ├── scalar (formulas)              │  └──── text::parse        text::print ──► .kiln text
//!    ├── expand (bodies of composites)  ├──► verify, specialize
//!    └── cost                           └──► interp: the reference, over f32, f64 and a prime field
//! ```
//!
//! # Invariants
//! - A [`Graph`] only grows; a node's operands exist before it. Node order is a topological order.
//! - The type of every value is what [`infer`] says of its operands; operands that violate an op's numbered constraints
//!   are refused with all violations at once.
//! - Elementwise operands have equal dims; all movement is nodes.
//! - Everything printed by [`text`] reads back as an equal graph.
//! - This crate knows no target, no file and no thread. It has no unsafe code.

#![forbid(unsafe_code)]

pub mod attribute;
pub mod builder;
pub mod cost;
pub mod dtype;
mod equality;
pub mod expand;
pub mod graph;
pub mod infer;
pub mod initializer;
pub mod interp;
pub mod ops;
pub mod random;
pub mod scalar;
pub mod specialize;
pub mod tensor;
pub mod text;
pub mod types;
pub mod verify;
pub use builder::{BuildErrors, Builder, ConvOptions, WindowOptions};
pub use dtype::DType;
pub use graph::{Graph, GraphError, Location, Node, NodeId, Value, Variable};
pub use initializer::Initializer;
pub use ops::Op;
pub use specialize::{SpecializeErrors, specialize};
pub use tensor::{Element, Tensor, TensorError};
pub use types::{Dim, TensorType};
pub use verify::{Stage, VerifyError, verify};
