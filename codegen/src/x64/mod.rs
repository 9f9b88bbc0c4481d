//! The wide x86-64 back end: 512-bit code for CPUs with AVX-512 (x86-64-v4), from the same kernels as Cranelift's.
//!
//! ```text
//! Kernel ──► math::expand ──► emit ──► Function (virtual registers) ──► regalloc2 ──► encode (iced) ──► bytes
//! ```
//!
//! A value of `n` lanes is `⌈n / 16⌉` registers of 32-bit lanes, or `⌈n / 8⌉` of 64-bit ones; the last may be narrower (256 or
//! 128 bits), and its lanes beyond the value's are undefined: masks keep loads and stores inside their buffers. Scalars
//! are values of one lane. Narrow dtypes are 32-bit in registers: `i8` sign-extended, `u8` and the bits of `f16` and `bf16`
//! zero-extended. Booleans are mask registers, 16 lanes in each. Constants are operands in memory beside the code, and
//! become registers only where an instruction takes none; a load with one use is an operand of what uses it, of one
//! element for all lanes an embedded broadcast. What has no vector instruction (integer division, strided access to narrow
//! elements) goes through two small arrays in the frame, lane by lane.
//!
//! Functions keep the frame pointer, so stacks can be walked through them, and follow the System V convention: other
//! systems' x86-64 code is Cranelift's.

mod arith;
mod compile;
mod convert;
mod emit;
mod encode;
mod fold;
mod function;
mod inst;
mod lanes;
mod memory;
mod op;

pub(crate) use compile::{compile_kernel, listing};
