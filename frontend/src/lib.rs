//! kiln

pub mod arrays;
pub mod digits;
pub mod dsl;
pub mod files;
pub mod onnx;

pub use arrays::{ToTensor, to_array};
pub use kiln_ir as ir;

/// What most programs need.
pub mod prelude {
    pub use crate::arrays::{ToTensor, to_array};
    pub use crate::dims;
    pub use crate::dsl::layers::{self, Conv2d, Padding, Pool};
    pub use crate::dsl::{Scope, Tensor, concat};
    pub use kiln_ir::{DType, Dim, Graph, Initializer};
}
