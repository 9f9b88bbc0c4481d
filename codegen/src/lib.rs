//! kiln-codegen: fused graphs to kernel IR to machine code.

pub mod clif;
pub mod kir;
