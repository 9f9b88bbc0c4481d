//! From a graph to everything that an artifact or an executor needs.
//!
//! ```text
//! Graph (fixed dims, L0 to L2) ──► lower ──► plan::build ──► CompiledModule ──► native code ──► Executable
//! ```

use std::fmt::Write;
use std::sync::Arc;

use kiln_ir::{Graph, Tensor};
use kiln_runtime::artifact::PackedWeight;
use kiln_runtime::{Executable, Plan, Weights};

use crate::clif::{self, Backend, CompiledKernel, Target};
use crate::executable;
use crate::kir::Kernel;
use crate::lower::{LowerError, Machine, lower};
use crate::plan::{Planned, build};

/// How to compile. No choice changes results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileOptions {
    /// Threads that compile and pack weights.
    pub threads: usize,
}

impl Default for CompileOptions {
    fn default() -> CompileOptions {
        CompileOptions { threads: std::thread::available_parallelism().map_or(1, usize::from) }
    }
}

/// Why a graph could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It could not be lowered to kernels.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// A kernel could not be turned into machine code.
    #[error(transparent)]
    Kernel(#[from] clif::CompileError),
    /// The code could not be placed in memory.
    #[error(transparent)]
    Jit(#[from] clif::JitError),
    /// Plan, kernels and weights do not go together.
    #[error(transparent)]
    Executable(#[from] kiln_runtime::ExecutableError),
}

/// A compiled program for one target: what is done, by which kernels, with which weights.
#[derive(Clone, Debug)]
pub struct CompiledModule {
    /// What is done.
    pub plan: Plan,
    /// Kernels, in the plan's order.
    pub kernels: Vec<Kernel>,
    /// Weights, packed and plain, equal ones once.
    pub weights: Weights,
    /// Constants whose elements `weights` holds in another order, and where: what
    /// [`PortablePart::pack`](kiln_runtime::artifact::PortablePart::pack) wants, so that no artifact holds them twice.
    pub packed: Vec<(Tensor, PackedWeight)>,
    /// What it is compiled for.
    pub target: Target,
    /// How.
    pub options: CompileOptions,
}

/// Compiles a graph with fixed dims.
pub fn compile(graph: &Graph, target: &Target, options: CompileOptions) -> Result<CompiledModule, CompileError> {
    let program = lower(graph, machine(target))?;
    let Planned { plan, kernels, weights, packed } = build(program, options.threads);
    Ok(CompiledModule { plan, kernels, weights, packed, target: target.clone(), options })
}

/// What lowering has to know of a target.
pub fn machine(target: &Target) -> Machine {
    match target.backend() {
        Backend::Cranelift => Machine { vector_bytes: 16, registers: target.vector_registers() },
        Backend::Wide => Machine::X86_64_512,
    }
}

impl CompiledModule {
    /// Machine code of every kernel.
    pub fn native(&self) -> Result<Vec<CompiledKernel>, CompileError> {
        let compiled = clif::compile_kernels(&self.kernels, &self.target, self.options.threads);
        Ok(compiled.into_iter().collect::<Result<Vec<_>, _>>()?)
    }

    /// The program, ready to run here.
    pub fn executable(&self) -> Result<Arc<Executable>, CompileError> {
        self.link(&self.native()?)
    }

    /// The program, ready to run here, of machine code that [`CompiledModule::native`] gave.
    pub fn link(&self, kernels: &[CompiledKernel]) -> Result<Arc<Executable>, CompileError> {
        executable::join(self, kernels)
    }

    /// The steps and kernels as text.
    pub fn dump(&self) -> String {
        let mut text = String::new();
        for (i, step) in self.plan.steps.iter().enumerate() {
            // writing to a string cannot fail
            let _ = writeln!(text, "step {i} `{}`: {:?}", step.label, step.work);
        }
        for (i, kernel) in self.kernels.iter().enumerate() {
            let _ = writeln!(text, "\nkernel {i}\n{kernel}");
        }
        text
    }
}
