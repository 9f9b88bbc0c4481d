//! kiln-codegen: fused graphs to kernel IR to machine code.

pub mod clif;
pub mod compile;
mod executable;
pub mod kernels;
pub mod kir;
pub mod lower;
pub mod plan;

pub use compile::{CompileError, CompileOptions, CompiledModule, compile};
