//! The wide x86-64 back end: code for vectors as wide as the CPU has them, from the same kernels as Cranelift's.
//!
//! ```text
//! Kernel ──► math::expand ──► emit ──► Function (virtual registers) ──► regalloc2 ──► encode (iced) ──► bytes
//! ```
//!
//! What differs between CPUs follows from the [`Isa`]:
//!
//! | | x86-64-v3 (AVX2) | x86-64-v4 (AVX-512) |
//! |---|---|---|
//! | registers | 16 of 256 bits, VEX encodings | 32 of 512 bits, EVEX encodings |
//! | booleans | 32-bit lanes of all ones or zeros | mask registers, 16 lanes in each |
//! | constants | in memory, in every lane | in memory, one element, embedded broadcasts |
//! | parts of registers | masked moves of 32- and 64-bit lanes, else element by element | masked moves |
//!
//! Products of bytes are one instruction with AVX512-VNNI, and several without (`dot.rs`).
//!
//! Emission is the same for both: it asks for an [`Op`](op::Op), and what AVX2 has no instruction for is a sequence of
//! those that it has (`avx2.rs`). Booleans keep to themselves in `mask.rs`.
//!
//! A value is as many registers as its lanes fill, of 32 or 64 bits each; the last may be narrower (128 bits, or 256), and
//! its lanes beyond the value's are undefined: loads and stores keep inside their buffers. Scalars are values of one lane.
//! Narrow dtypes are 32-bit in registers: `i8` sign-extended, `u8` and the bits of `f16` and `bf16` zero-extended.
//! Constants become registers only where an instruction takes no operand in memory; a load with one use is an operand of what uses
//! it, of one element for all lanes an embedded broadcast. What has no vector instruction at all (integer division) goes
//! through two small arrays in the frame, lane by lane.
//!
//! Functions keep the frame pointer, so stacks can be walked through them, and follow the System V convention: other
//! systems' x86-64 code is Cranelift's.

mod arith;
mod avx2;
mod compile;
mod convert;
mod dot;
mod emit;
mod encode;
mod fold;
mod function;
mod inst;
mod isa;
mod lanes;
mod mask;
mod memory;
mod op;

pub(crate) use compile::{compile_kernel, listing};
