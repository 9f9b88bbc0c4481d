//! Unsafe: running the machine code of an artifact.
//!
//! **Contract.** Whoever names an artifact on the command line, to be run and without `--portable`, vouches for it, as
//! whoever names a program to be run does. Every path to this module goes through that choice. `--portable` is for files
//! from elsewhere: it runs nothing of the file, but compiles its verified graph here.

use std::path::Path;
use std::sync::Arc;

use kiln_runtime::Executable;
use kiln_runtime::artifact::{NativeOptions, PortableCompiler, load_native_file};

use crate::failure::Outcome;
use crate::model::of_file;

/// Maps the artifact and takes the best native code that runs here; where there is none, compiles the portable half
/// with `fallback`. `verify_weights` reads all weights and compares them with their digest.
pub fn load(path: &Path, verify_weights: bool, fallback: &dyn PortableCompiler) -> Outcome<Arc<Executable>> {
    let options = NativeOptions { verify_weights, fallback: Some(fallback), host: None };
    // SAFETY: the user vouches for the file (this module's contract); Kiln writes artifacts by renaming, never in place.
    unsafe { load_native_file(path, options) }.map_err(of_file(path))
}
