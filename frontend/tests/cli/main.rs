//! The `kiln` command, run as people and programs run it.

mod embed;
mod engine;
mod failures;
mod fault;
mod harness;
mod look;
mod onnx;
mod texts;
mod tune;
mod usage;
