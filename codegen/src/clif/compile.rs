//! From kernels to bytes.

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{Function, UserFuncName};
use cranelift_frontend::FunctionBuilderContext;

use super::emit::emit;
use super::target::Target;
use crate::kir::{Kernel, VerifyErrors, math, verify};
use crate::parallel::in_parallel;

/// Machine code of one kernel: position-independent, without relocations, its constants inside.
///
/// Only a back end makes one, so that its bytes are what was compiled:
///
/// ```compile_fail,E0616
/// # fn other_bytes(kernel: &mut kiln_codegen::clif::CompiledKernel) {
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

/// What people read of a compiled kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The CLIF function.
    pub clif: String,
    /// The machine instructions after register allocation, as Cranelift prints them.
    pub asm: String,
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

/// The CLIF and the machine instructions of a kernel, for people.
pub fn emit_clif(kernel: &Kernel, target: &Target) -> Result<Listing, CompileError> {
    let mut compiler = Compiler::new(target);
    compiler.context.set_disasm(true);
    compiler.compile(kernel)?;
    let asm = compiler.context.compiled_code().and_then(|code| code.vcode.clone()).unwrap_or_default();
    // what Cranelift compiled was optimised in place; show what it was given
    let mut function = Function::new();
    emit(&math::expand(kernel), target, &mut function, &mut compiler.builder);
    Ok(Listing { clif: function.display().to_string(), asm })
}

/// Reusable state of one thread that compiles.
struct Compiler<'t> {
    target: &'t Target,
    context: Context,
    builder: FunctionBuilderContext,
    control: ControlPlane,
}

impl<'t> Compiler<'t> {
    fn new(target: &'t Target) -> Compiler<'t> {
        Compiler {
            target,
            context: Context::new(),
            builder: FunctionBuilderContext::new(),
            control: ControlPlane::default(),
        }
    }

    fn compile(&mut self, kernel: &Kernel) -> Result<CompiledKernel, CompileError> {
        verify(kernel)?;
        let expanded = math::expand(kernel);
        let want_disasm = self.context.want_disasm;
        self.context.clear();
        self.context.want_disasm = want_disasm;
        self.context.func.name = UserFuncName::user(0, 0);
        emit(&expanded, self.target, &mut self.context.func, &mut self.builder);
        let failed = |reason: String| CompileError::Cranelift {
            kernel: kernel.name.clone(),
            target: self.target.to_string(),
            reason,
        };
        let result = self.context.compile(&**self.target.isa(), &mut self.control);
        let code = result.map_err(|e| failed(format!("{:?}", e.inner)))?;
        if let [first, ..] = code.buffer.relocs() {
            return Err(CompileError::Relocations {
                kernel: kernel.name.clone(),
                target: self.target.to_string(),
                count: code.buffer.relocs().len(),
                first: format!("{:?}", first.target),
            });
        }
        let align = code.buffer.alignment.max(self.target.isa().function_alignment().preferred).max(16);
        Ok(CompiledKernel::new(code.buffer.data().to_vec(), align, kernel.scratch_bytes()))
    }
}
