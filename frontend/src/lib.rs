//! kiln

pub mod files;
pub mod onnx;
