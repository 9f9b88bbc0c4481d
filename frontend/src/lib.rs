//! Kiln compiles neural networks: define a graph once, fire it, run the result any number of times.
//!
//! ```text
//! dsl::Scope ─┐
//! onnx::import├─► ir::Graph ──compile──► Compiled ──► executable() ──► Session::run(feeds, fetches)
//! ir::text ───┘                             └──────► artifact() ──► one file ──► runtime::artifact::load_native
//! ```
//!
//! A [`Graph`](ir::Graph) comes from the Rust [`dsl`], from an ONNX file ([`onnx`]) or from IR text
//! ([`ir::text`]); the [`zoo`] has classic networks, and [`weights`] loads theirs by name.
//! [`compile()`] binds its symbolic dims, optimises it and generates code; a [`Session`] runs it with
//! `ndarray` feeds and named results; [`Compiled::artifact`] makes a file that the runtime alone can load. This crate joins the
//! others and reads and writes files; it does no arithmetic of its own.
//!
//! ```
//! use kiln::prelude::*;
//! use ndarray::array;
//!
//! let scope = Scope::new("line");
//! let x = scope.placeholder::<f32>("x", dims!["n"]);
//! scope.output("y", 2.0 * x + 1.0);
//! let graph = scope.finish()?;
//!
//! let mut session = Session::fire(&graph, &CompileOptions::default().dim("n", 3))?;
//! let results = session.run(&[("x", &array![1f32, 2.0, 3.0])], &["y"])?;
//! assert_eq!(results.get::<f32>("y")?, array![3.0, 5.0, 7.0].into_dyn());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod arrays;
pub mod classify;
pub mod compile;
pub mod digits;
pub mod dsl;
pub mod fault;
pub mod files;
pub mod layer_error;
pub mod measure;
pub mod onnx;
pub mod random_feeds;
pub mod session;
pub mod tune;
pub mod weights;
pub mod zoo;

pub use arrays::{ToTensor, to_array};
pub use compile::{ArtifactOptions, CompileError, CompileOptions, Compiled, Compiler, compile};
pub use kiln_ir as ir;
pub use session::{Results, Session, SessionError};

/// What most programs need.
pub mod prelude {
    pub use crate::arrays::{ToTensor, to_array};
    pub use crate::dims;
    pub use crate::dsl::layers::{self, Conv2d, ConvTranspose2d, Padding, Pool, Recurrent};
    pub use crate::dsl::{Scope, Tensor, concat};
    pub use crate::{CompileOptions, Results, Session};
    pub use kiln_ir::{DType, Dim, Graph, Initializer};
}
