//! kiln-ir
pub mod dtype;
pub mod tensor;
pub use dtype::DType;
pub use tensor::{Element, Tensor, TensorError};
