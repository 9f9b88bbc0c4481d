//! Kiln's graph IR: what a neural network is, between the front ends that read it and the passes that compile it.
//!
//! ```text
//!  Rust DSL ─┐                                         ┌─► passes: graph → graph
//!  ONNX ─────┼─► Builder ─► Graph ◄── verify, infer    ├─► interp: results
//!  text ─────┘               │ ▲  ▲                    ├─► text
//!                            │ │  └── specialize ──────┤
//!                            └─┴── expand (L1 → L0) ───┘
//! ```
//!
//! A [`Graph`] is a list of nodes over typed values, with named inputs, outputs and variables. It is *built once*: it grows
//! and never changes, so node order is a topological order, and passes build another graph. What a node computes is its
//! [`Op`]; all that is known of an op is said once, in its row of the table in [`ops`].
//!
//! | module | says |
//! |---|---|
//! | [`types`], [`dtype`], [`tensor`], [`initializer`] | types of values; tensors, and recipes for them |
//! | [`ops`], [`attribute`], [`scalar`] | the op table; attributes; what elementwise ops compute for one element |
//! | [`recurrence`] | what a step of a recurrent layer computes |
//! | [`infer`](mod@infer) | types of results from those of operands, by each op's numbered constraints |
//! | [`graph`], [`builder`] | the graph; building one by hand with broadcasting and all errors at once |
//! | [`verify`](mod@verify) | the invariants of a graph, numbered |
//! | [`text`] | the text format, both ways |
//! | [`specialize`](mod@specialize), [`expand`] | binding symbolic dims; bodies of composites |
//! | [`interp`] | the reference interpreter: what a graph means |
//! | [`cost`] | operations and bytes of a node |
//! | [`random`] | counter-based random numbers |
//! | [`docs`] | `docs/ops.md` |
//!
//! Invariants: no implicit broadcasting, no hidden strides, no aliasing (movement is nodes); every problem that a user can
//! cause is a typed error that names op, place, what was expected and what was found, and all of them are reported at once.
//! The crate knows nothing of targets, files or threads.
//!
//! ```
//! use kiln_ir::{Builder, DType, Dim, Stage, verify};
//!
//! let mut b = Builder::new("scaled");
//! let x = b.placeholder("x", DType::F32, &[Dim::symbol("batch"), Dim::Fixed(3)]);
//! let two = b.scalar(DType::F32, 2.0);
//! let y = b.mul(x, two); // the builder broadcasts; the graph has a node that says so
//! b.output("y", y);
//! let graph = b.finish()?;
//! assert_eq!(verify(&graph, Stage::Composite), Ok(()));
//! assert_eq!(
//!     graph.to_string(),
//!     "kiln 1
//! graph @scaled(%x: f32[batch, 3]) -> (y = %2: f32[batch, 3]) {
//!   %0 = constant dense<2.0> : f32[]
//!   %1 = broadcast %0 {axes = []} : f32[batch, 3]
//!   %2 = mul %x, %1 : f32[batch, 3]
//! }
//! "
//! );
//! # Ok::<(), kiln_ir::BuildErrors>(())
//! ```

#![forbid(unsafe_code)]

pub mod attribute;
pub mod builder;
pub mod cost;
pub mod docs;
pub mod dtype;
mod equality;
pub mod expand;
pub mod graph;
pub mod infer;
pub mod initializer;
pub mod interp;
pub mod narrow;
pub mod ops;
pub mod random;
pub mod recurrence;
pub mod scalar;
pub mod specialize;
pub mod tensor;
pub mod text;
pub mod types;
pub mod verify;

pub use builder::{BuildErrors, Builder, ConvOptions, WindowOptions};
pub use dtype::DType;
pub use graph::{Graph, GraphError, Location, MOST_VALUE_BYTES, Node, NodeId, Value, Variable};
pub use initializer::Initializer;
pub use ops::Op;
pub use specialize::{SpecializeErrors, specialize};
pub use tensor::{Element, Tensor, TensorError};
pub use types::{Dim, TensorType};
pub use verify::{Stage, VerifyError, verify};
