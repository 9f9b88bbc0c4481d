//! From a kernel to bytes, and to text.

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{Function, UserFuncName};
use cranelift_frontend::FunctionBuilderContext;

use super::emit::emit;
use crate::kir::{Kernel, math, verify};
use crate::native::{CompileError, CompiledKernel, Target};

/// What people read of a kernel that Cranelift compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The CLIF function.
    pub clif: String,
    /// The machine instructions after register allocation, as Cranelift prints them.
    pub asm: String,
}

/// The CLIF and the machine instructions of a kernel, for people.
pub fn emit_clif(kernel: &Kernel, target: &Target) -> Result<Listing, CompileError> {
    verify(kernel)?;
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
pub(crate) struct Compiler<'t> {
    target: &'t Target,
    context: Context,
    builder: FunctionBuilderContext,
    control: ControlPlane,
}

impl<'t> Compiler<'t> {
    pub fn new(target: &'t Target) -> Compiler<'t> {
        Compiler {
            target,
            context: Context::new(),
            builder: FunctionBuilderContext::new(),
            control: ControlPlane::default(),
        }
    }

    /// Compiles a verified kernel.
    pub fn compile(&mut self, kernel: &Kernel) -> Result<CompiledKernel, CompileError> {
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
