//! The Cranelift back end: the portable baseline, and the reference that other back ends are compared with.
//!
//! ```text
//! Kernel ──► math::expand ──► emit (CLIF) ──► Cranelift ──► bytes
//! ```
//!
//! Cranelift has 128-bit vectors. A value of `n` lanes becomes `n / 4` *groups* of four lanes and `n % 4` scalars. A
//! group is one register of four 32-bit lanes, or two of 64-bit lanes. Narrow dtypes are 32-bit in registers: `i8`
//! sign-extended, `u8` and the bits of `f16` and `bf16` zero-extended, always normalised; a mask lane is all ones or
//! zeros (a scalar `bool`: one byte, 0 or 1). A kernel without relocations is the contract: no libcall is ever made.

mod address;
mod arith;
mod compile;
mod convert;
mod emit;
mod lanes;
mod memory;

pub(crate) use compile::Compiler;
pub use compile::{Listing, emit_clif};
pub(crate) use emit::signature;
