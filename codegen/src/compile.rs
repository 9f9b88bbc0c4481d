//! From a graph to everything that an artifact or an executor needs.
//!
//! ```text
//! Graph (fixed dims, L0 to L2) ──► lower ──► plan::build ──► CompiledModule ──► NativeModule ──► Executable
//! ```

use std::fmt::Write;
use std::sync::Arc;

use kiln_ir::{Graph, Tensor};
use kiln_runtime::artifact::PackedWeight;
use kiln_runtime::{Executable, Plan, Weights};

use crate::executable;
use crate::kir::Kernel;
use crate::lower::{LowerError, Machine, lower};
use crate::native::{self, Backend, CompiledKernel, Features, Target};
use crate::plan::{Planned, build};
use crate::tuning::{Choices, Decision};

/// How to compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileOptions {
    /// Threads that compile and pack weights. Results do not depend on it.
    pub threads: usize,
    /// Uses only algorithms that multiply what the graph multiplies: no Winograd convolutions, whose relative error is
    /// below 1e-4 but larger than that of sums of products.
    pub exact: bool,
    /// What is known about layers; all others are estimated.
    pub choices: Arc<Choices>,
}

impl Default for CompileOptions {
    fn default() -> CompileOptions {
        CompileOptions {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            exact: false,
            choices: Arc::default(),
        }
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
    Kernel(#[from] native::CompileError),
    /// The code could not be placed in memory.
    #[error(transparent)]
    Jit(#[from] native::JitError),
    /// Plan, kernels and weights do not go together.
    #[error(transparent)]
    Executable(#[from] kiln_runtime::ExecutableError),
}

/// A compiled program for one target: what is done, by which kernels, with which weights. Only [`compile`] makes one,
/// so that plan and kernels go together.
#[derive(Clone, Debug)]
pub struct CompiledModule {
    plan: Plan,
    kernels: Vec<Kernel>,
    weights: Weights,
    packed: Vec<(Tensor, PackedWeight)>,
    decisions: Vec<Decision>,
    target: Target,
    threads: usize,
}

/// A compiled program and the machine code of its kernels. Only [`CompiledModule::native`] makes one, so that the code
/// that runs is that of these kernels.
#[derive(Clone, Debug)]
pub struct NativeModule {
    module: CompiledModule,
    code: Vec<CompiledKernel>,
}

/// Compiles a graph with fixed dims.
pub fn compile(graph: &Graph, target: &Target, options: CompileOptions) -> Result<CompiledModule, CompileError> {
    compile_for(graph, target, machine(target), options)
}

/// Compiles a graph with fixed dims, its kernels shaped for `machine`. The back end splits what is wider than the
/// registers of `target`: results are the same, speed is not.
pub fn compile_for(
    graph: &Graph,
    target: &Target,
    machine: Machine,
    options: CompileOptions,
) -> Result<CompiledModule, CompileError> {
    let CompileOptions { threads, exact, choices } = options;
    let mut program = lower(graph, machine, exact, &choices)?;
    let decisions = std::mem::take(&mut program.decisions);
    let Planned { plan, kernels, weights, packed } = build(program, threads)?;
    Ok(CompiledModule { plan, kernels, weights, packed, decisions, target: target.clone(), threads })
}

/// What lowering has to know of a target.
pub fn machine(target: &Target) -> Machine {
    match target.backend() {
        Backend::Cranelift => Machine { registers: target.vector_registers(), ..Machine::X86_64_128 },
        Backend::Wide => match target.features() {
            Features::V4Vnni => Machine::X86_64_512_VNNI,
            Features::V4 => Machine::X86_64_512,
            Features::Baseline | Features::V3 => Machine::X86_64_256,
        },
    }
}

impl CompiledModule {
    /// What is done.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Kernels, in the plan's order.
    pub fn kernels(&self) -> &[Kernel] {
        &self.kernels
    }

    /// Weights, packed and plain, equal ones once.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Constants whose elements the weights hold in another order, and where: what
    /// [`PortablePart::pack`](kiln_runtime::artifact::PortablePart::pack) wants, so that no artifact holds them twice.
    pub fn packed(&self) -> &[(Tensor, PackedWeight)] {
        &self.packed
    }

    /// How each convolution and product is computed, and why, in the order of the plan's steps.
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// What it is compiled for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The CPU features that its code uses, by LLVM's names: the target's, without the one for products of bytes where there are none.
    pub fn feature_names(&self) -> &'static [&'static str] {
        let all = self.target.feature_names();
        match all.split_last() {
            Some((&"avx512vnni", others)) if !self.kernels.iter().any(Kernel::multiplies_bytes) => others,
            _ => all,
        }
    }

    /// The program with the machine code of every kernel.
    pub fn native(self) -> Result<NativeModule, CompileError> {
        let code = self.code()?;
        Ok(NativeModule { module: self, code })
    }

    /// The program, ready to run here.
    pub fn executable(&self) -> Result<Arc<Executable>, CompileError> {
        executable::join(self, &self.code()?)
    }

    fn code(&self) -> Result<Vec<CompiledKernel>, CompileError> {
        let compiled = native::compile_kernels(&self.kernels, &self.target, self.threads);
        Ok(compiled.into_iter().collect::<Result<Vec<_>, _>>()?)
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

impl NativeModule {
    /// The program.
    pub fn module(&self) -> &CompiledModule {
        &self.module
    }

    /// Machine code of its kernels, in their order.
    pub fn code(&self) -> &[CompiledKernel] {
        &self.code
    }

    /// The program, ready to run here.
    pub fn executable(&self) -> Result<Arc<Executable>, CompileError> {
        executable::join(&self.module, &self.code)
    }
}
