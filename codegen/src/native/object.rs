//! Relocatable object files.

use cranelift_module::{Linkage, Module, ModuleError, default_libcall_names};
use cranelift_object::{ObjectBuilder, ObjectModule};

use super::{CompiledKernel, Target};
use crate::clif::signature;

/// Why an object file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The target has no object format that is supported, or a symbol is refused (two kernels of one name).
    #[error("cannot write an object file for {target}: {source}")]
    Module {
        /// The target.
        target: String,
        /// The words of the object writer.
        source: Box<ModuleError>,
    },
    /// The file could not be laid out.
    #[error("cannot write an object file for {target}: {reason}")]
    Write {
        /// The target.
        target: String,
        /// The words of the object writer.
        reason: String,
    },
}

/// An object file in the target's format (ELF, Mach-O or COFF), with one exported function for each
/// `(symbol, kernel)`. `name` is recorded as the source file.
pub fn object(name: &str, kernels: &[(String, CompiledKernel)], target: &Target) -> Result<Vec<u8>, ObjectError> {
    let failed = |source: ModuleError| ObjectError::Module { target: target.to_string(), source: Box::new(source) };
    let builder = ObjectBuilder::new(target.isa().clone(), name, default_libcall_names()).map_err(failed)?;
    let mut module = ObjectModule::new(builder);
    let signature = signature(target);
    for (symbol, kernel) in kernels {
        let function = module.declare_function(symbol, Linkage::Export, &signature).map_err(failed)?;
        module.define_function_bytes(function, kernel.align().into(), kernel.code(), &[]).map_err(failed)?;
    }
    let product = module.finish();
    product.emit().map_err(|e| ObjectError::Write { target: target.to_string(), reason: e.to_string() })
}
