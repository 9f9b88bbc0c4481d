//! Tests of the kernel IR and its Cranelift back end.

mod agree;
mod clif;
mod functions;
mod interpreter;
mod random;
mod rounding;
mod run;
mod text;
mod verifier;
