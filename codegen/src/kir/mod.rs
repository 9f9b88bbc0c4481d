//! The kernel IR: what a fused region lowers to, and what back ends emit machine code from.
//!
//! A [`Kernel`] is one parallel loop over structured statements: counted loops with static extents and
//! loop-carried values, conditionals, loads and stores at affine indices, and SSA values of any lane count up to
//! [`MAX_LANES`]. It calls nothing: functions like `exp` are expanded to primitive instructions by
//! `math::expand` before emission, so every back end and the interpreter compute the same thing.
//!
//! ```text
//! lowering ──► KernelBuilder ──► Kernel ──► verify ──► math::expand ──► back end ──► bytes
//!                                  │                        │
//!                                  └── Display (text)       └── interpret (the reference)
//! ```
//!
//! Deliberately absent: calls, dynamic trip counts, pointers as values, aliasing rules (memory is accessed in program
//! order), and registers narrower or wider than a value (lane counts are legalised by each back end).

pub(crate) mod address;
mod bounds;
mod builder;
mod canonical;
pub mod eval;
mod index;
pub mod interp;
mod kernel;
pub mod math;
mod print;
mod types;
pub mod verify;

pub use builder::KernelBuilder;
pub use index::{Dynamic, Index, Var};
pub use interp::{InterpretError, interpret};
pub use kernel::{
    Access, BinaryOp, Block, Buffer, BufferParam, Carried, CompareOp, Condition, For, If, Inst, Kernel, LoopKind,
    ReduceOp, SCRATCH_ALIGN, ScratchBuffer, Statement, UnaryOp, Value,
};
pub use kiln_ir::DType;
pub use types::{Bits, MAX_LANES, VType};
pub use verify::{Rule, VerifyError, VerifyErrors, verify};
