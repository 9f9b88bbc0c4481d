//! kiln

pub mod arrays;
pub mod classify;
pub mod compile;
pub mod digits;
pub mod dsl;
pub mod files;
pub mod measure;
pub mod onnx;
pub mod random_feeds;
pub mod session;

pub use arrays::{ToTensor, to_array};
pub use compile::{ArtifactOptions, CompileError, CompileOptions, Compiled, Compiler, compile};
pub use kiln_ir as ir;
pub use session::{Results, Session, SessionError};

/// What most programs need.
pub mod prelude {
    pub use crate::arrays::{ToTensor, to_array};
    pub use crate::dims;
    pub use crate::dsl::layers::{self, Conv2d, Padding, Pool};
    pub use crate::dsl::{Scope, Tensor, concat};
    pub use kiln_ir::{DType, Dim, Graph, Initializer};
}
