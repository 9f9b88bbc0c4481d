//! Unsafe: joining a plan with the machine code of its kernels.
//!
//! **Contract.** [`Executable::new`] wants its kernels to touch only what the plan's arguments declare. Here both come
//! from one lowering: nobody else can make a [`CompiledModule`] or a [`CompiledKernel`], and `compile` alone calls this,
//! with the code of the module's own kernels. The kernel verifier proved every access inside the buffers that the kernel
//! declares (except for run-time indices, which lowering clamps), and each argument has at least the bytes that its
//! kernel's buffer has, which is checked below.

use std::sync::Arc;

use kiln_runtime::{Executable, KernelTable, Work};

use crate::compile::{CompileError, CompiledModule};
use crate::lower::LowerError;
use crate::native::{self, CompiledKernel};

/// Joins `kernels`, which were compiled from those of `module`, with its plan and weights.
pub(crate) fn join(module: &CompiledModule, kernels: &[CompiledKernel]) -> Result<Arc<Executable>, CompileError> {
    check(module)?;
    let table = if kernels.is_empty() {
        KernelTable::new(Vec::new(), Arc::new(()))
    } else {
        let code = native::jit(kernels, module.target())?;
        let entries = code.entries().to_vec();
        KernelTable::new(entries, Arc::new(code))
    };
    // SAFETY: see the module's contract
    Ok(unsafe { Executable::new(module.plan().clone(), table, module.weights().clone()) }?)
}

/// Every argument is as long as the buffer that its kernel takes.
pub(crate) fn check(module: &CompiledModule) -> Result<(), LowerError> {
    for step in &module.plan().steps {
        let Work::Kernel { kernel, arguments, extent, .. } = &step.work else { continue };
        let fits = module.kernels().get(*kernel).is_some_and(|k| {
            let sizes = k.buffers.iter().map(|b| b.len as usize * b.dtype.size());
            k.buffers.len() == arguments.len()
                && arguments.iter().zip(sizes).all(|(a, size)| a.len >= size)
                && usize::try_from(k.parallel_extent()) == Ok(*extent)
                && k.scratch_bytes() <= module.plan().scratch_bytes
        });
        if !fits {
            return Err(LowerError::Mismatch { step: step.label.clone() });
        }
    }
    Ok(())
}
