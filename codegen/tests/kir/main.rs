//! Tests of the kernel IR and its back ends.

mod agree;
mod clif;
mod encodings;
mod functions;
mod interpreter;
mod random;
mod rounding;
mod run;
mod stream;
mod text;
mod verifier;
