//! From an optimised graph to machine code and a plan.
//!
//! ```text
//! Graph (fixed dims) ──lower──► plan::Program ──plan::build──► Plan, weights, kir::Kernel … ──native──► bytes
//!                      one file a              arena, packing,                 expand math,     JIT or artifact;
//!                      family of ops           splitting                       legalise lanes   embed: object file
//! ```
//!
//! # Invariants
//! - A kernel is a leaf without calls and relocations; the kernel verifier proves its affine accesses in bounds.
//! - Two compilations of one graph with the same options give the same bytes, whatever the number of threads.
//! - No run-time state: what is made here is data for `kiln-runtime`.
//! - Unsafe code is in `executable` (kernels joined with a plan) and `native::jit` (executable memory).

pub mod clif;
pub mod compile;
pub mod embed;
mod executable;
pub mod kir;
pub mod lower;
pub mod native;
mod parallel;
pub mod plan;
pub mod tuning;
mod x64;

pub use compile::{CompileError, CompileOptions, CompiledModule, NativeModule, compile, compile_for};
