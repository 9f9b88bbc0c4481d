//! Machine code: kernels for a target, by the target's back end.
//!
//! ```text
//! Kernel ──► clif or x64 ──► CompiledKernel: position-independent bytes
//!                                ├──► jit: callable, in an arena freed on drop
//!                                └──► embed: a local symbol per kernel in an object file
//! ```
//!
//! A kernel without relocations is the contract: code makes no calls and has its constants beside it.

mod jit;
mod target;

pub use jit::{JitCode, JitError, jit};
pub use target::{Backend, Features, Target, TargetError};

use crate::clif;
use crate::kir::{Kernel, VerifyErrors, verify};
use crate::parallel::in_parallel;
use crate::x64;

/// Machine code of one kernel: position-independent, without relocations, its constants inside.
///
/// Only a back end makes one, so that its bytes are what was compiled:
///
/// ```compile_fail,E0616
/// # fn other_bytes(kernel: &mut kiln_codegen::native::CompiledKernel) {
/// kernel.code = vec![0xC3];
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledKernel {
    code: Vec<u8>,
    align: u32,
    scratch_bytes: usize,
}

impl CompiledKernel {
    /// Code of a back end: a [`kiln_runtime::KernelFn`] entered at its first byte, without relocations.
    pub(crate) fn new(code: Vec<u8>, align: u32, scratch_bytes: usize) -> CompiledKernel {
        CompiledKernel { code, align, scratch_bytes }
    }

    /// The code, entered at its first byte.
    pub fn code(&self) -> &[u8] {
        &self.code
    }

    /// What the first byte has to be aligned to, in bytes.
    pub fn align(&self) -> u32 {
        self.align
    }

    /// Scratch bytes that each thread needs.
    pub fn scratch_bytes(&self) -> usize {
        self.scratch_bytes
    }
}

/// Why a kernel could not be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The verifier refused it.
    #[error(transparent)]
    Malformed(#[from] VerifyErrors),
    /// Cranelift refused it.
    #[error("Cranelift cannot compile the kernel `{kernel}` for {target} (a bug in Kiln, please report it): {reason}")]
    Cranelift {
        /// The kernel's name.
        kernel: String,
        /// The target.
        target: String,
        /// Cranelift's words.
        reason: String,
    },
    /// The wide back end refused it.
    #[error(
        "the wide back end cannot compile the kernel `{kernel}` for {target} (a bug in Kiln, please report it): {reason}"
    )]
    Wide {
        /// The kernel's name.
        kernel: String,
        /// The target.
        target: String,
        /// What the register allocator or the encoder said.
        reason: String,
    },
    /// The code is no leaf: it wants to be linked with something.
    #[error(
        "the code of kernel `{kernel}` for {target} needs {count} relocations, the first of {first} (a bug in Kiln)"
    )]
    Relocations {
        /// The kernel's name.
        kernel: String,
        /// The target.
        target: String,
        /// How many.
        count: usize,
        /// What the first refers to.
        first: String,
    },
}

/// Compiles one kernel.
pub fn compile_kernel(kernel: &Kernel, target: &Target) -> Result<CompiledKernel, CompileError> {
    Compiler::new(target).compile(kernel)
}

/// Compiles kernels on up to `threads` threads. The results are in order and do not depend on the thread count.
pub fn compile_kernels(
    kernels: &[Kernel],
    target: &Target,
    threads: usize,
) -> Vec<Result<CompiledKernel, CompileError>> {
    in_parallel(kernels, threads, || Compiler::new(target), |compiler, kernel| compiler.compile(kernel))
}

/// The machine instructions of a kernel, for people.
pub fn assembly(kernel: &Kernel, target: &Target) -> Result<String, CompileError> {
    match target.backend() {
        Backend::Cranelift => Ok(clif::emit_clif(kernel, target)?.asm),
        Backend::Wide => {
            verify(kernel)?;
            x64::listing(kernel, target.features()).map_err(|reason| wide_error(kernel, target, reason))
        }
    }
}

fn wide_error(kernel: &Kernel, target: &Target, reason: String) -> CompileError {
    CompileError::Wide { kernel: kernel.name.clone(), target: target.to_string(), reason }
}

/// Reusable state of one thread that compiles.
enum Compiler<'t> {
    Cranelift(Box<clif::Compiler<'t>>),
    Wide(&'t Target),
}

impl<'t> Compiler<'t> {
    fn new(target: &'t Target) -> Compiler<'t> {
        match target.backend() {
            Backend::Cranelift => Compiler::Cranelift(Box::new(clif::Compiler::new(target))),
            Backend::Wide => Compiler::Wide(target),
        }
    }

    fn compile(&mut self, kernel: &Kernel) -> Result<CompiledKernel, CompileError> {
        verify(kernel)?;
        match self {
            Compiler::Cranelift(compiler) => compiler.compile(kernel),
            Compiler::Wide(target) => {
                let compiled = x64::compile_kernel(kernel, target.features());
                let (code, align) = compiled.map_err(|reason| wide_error(kernel, target, reason))?;
                Ok(CompiledKernel::new(code, align, kernel.scratch_bytes()))
            }
        }
    }
}
