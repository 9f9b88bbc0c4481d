//! ONNX models.

pub mod proto;
mod tensor;

pub use tensor::{ExternalFiles, TensorProtoError, dtype_of, read_tensor};
