//! Generators of kernels that more than one lowering uses.

pub mod gemm;
