//! Tests of the kernel IR and its Cranelift back end.

mod agree;
mod functions;
mod random;
mod run;
