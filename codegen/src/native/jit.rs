//! Code that can be called in this process.

use std::fmt;

use cranelift_codegen::ir::Signature;
use cranelift_jit::{ArenaMemoryProvider, JITBuilder, JITModule};
use cranelift_module::{Module, ModuleError, default_libcall_names};
use kiln_runtime::KernelFn;

use super::{CompiledKernel, Target};
use crate::clif::signature;

/// Why compiled kernels could not be made callable.
#[derive(Debug, thiserror::Error)]
pub enum JitError {
    /// The code is for another machine.
    #[error("code for {target} cannot run on this machine, {host}: choose a target that does, such as `host`")]
    ForeignTarget {
        /// What the code is for.
        target: String,
        /// This machine.
        host: String,
    },
    /// The system gave no executable memory.
    #[error("cannot reserve {bytes} bytes of executable memory: {reason}")]
    Memory {
        /// Bytes wanted.
        bytes: usize,
        /// The system's words.
        reason: String,
    },
    /// The JIT refused the code.
    #[error("cannot place the code of kernel {kernel} in memory: {source}")]
    Module {
        /// Its position in the list.
        kernel: usize,
        /// The JIT's words.
        source: Box<ModuleError>,
    },
}

/// Executable code of several kernels, in one arena. Dropping it frees the arena: keep it (in an `Arc`, as the owner
/// of a [`kiln_runtime::KernelTable`]) for as long as any of its functions may be called.
pub struct JitCode {
    /// Taken only by `drop`.
    module: Option<JITModule>,
    entries: Vec<KernelFn>,
}

impl fmt::Debug for JitCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JitCode({} kernels)", self.entries.len())
    }
}

// SAFETY: after construction the module is only kept, and freed once; entries are plain addresses.
unsafe impl Sync for JitCode {}

impl JitCode {
    /// Entry points, in the order of the kernels. Who calls one answers for the buffers that the kernel declares, for
    /// this value being alive, and for the code being of the target that [`jit`] was told.
    pub fn entries(&self) -> &[KernelFn] {
        &self.entries
    }
}

impl Drop for JitCode {
    fn drop(&mut self) {
        if let Some(module) = self.module.take() {
            // SAFETY: the contract above: nobody calls the entries once this value is dropped.
            unsafe { module.free_memory() };
        }
    }
}

/// Maps kernels that were compiled for `target`, which must be this machine, into executable memory.
pub fn jit(kernels: &[CompiledKernel], target: &Target) -> Result<JitCode, JitError> {
    if !target.runs_here() {
        let host = Target::host().map_or_else(|_| "which is not supported".to_owned(), |host| host.to_string());
        return Err(JitError::ForeignTarget { target: target.to_string(), host });
    }
    // A kernel that does not fit into what is left of the arena's last pages gets whole pages of its own after them, so
    // beside the kernels there is room for one such remainder, which is shorter than the kernel that did not fit.
    let padded = |k: &CompiledKernel| k.code().len() + k.align() as usize;
    let remainder = kernels.iter().map(padded).max().unwrap_or(0);
    let bytes = (kernels.iter().map(padded).sum::<usize>() + remainder).next_multiple_of(1 << 16) + (1 << 16);
    let arena =
        ArenaMemoryProvider::new_with_size(bytes).map_err(|e| JitError::Memory { bytes, reason: e.to_string() })?;
    let mut builder = JITBuilder::with_isa(target.isa().clone(), default_libcall_names());
    builder.memory_provider(Box::new(arena));
    let mut module = JITModule::new(builder);
    match define(&mut module, kernels, &signature(target)) {
        Ok(entries) => Ok(JitCode { module: Some(module), entries }),
        Err(error) => {
            // SAFETY: no entry point has been handed out.
            unsafe { module.free_memory() };
            Err(error)
        }
    }
}

fn define(
    module: &mut JITModule,
    kernels: &[CompiledKernel],
    signature: &Signature,
) -> Result<Vec<KernelFn>, JitError> {
    let failed = |kernel: usize| move |source: ModuleError| JitError::Module { kernel, source: Box::new(source) };
    let mut functions = Vec::with_capacity(kernels.len());
    for (i, kernel) in kernels.iter().enumerate() {
        let function = module.declare_anonymous_function(signature).map_err(failed(i))?;
        module.define_function_bytes(function, kernel.align().into(), kernel.code(), &[]).map_err(failed(i))?;
        functions.push(function);
    }
    module.finalize_definitions().map_err(failed(kernels.len()))?;
    let entry = |&function| {
        let address = module.get_finalized_function(function);
        // SAFETY: the bytes at `address` are a function of the signature that `emit` gave it, which is `KernelFn`'s.
        unsafe { std::mem::transmute::<*const u8, KernelFn>(address) }
    };
    Ok(functions.iter().map(entry).collect())
}
