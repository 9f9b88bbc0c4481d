//! The target that compiled tests compile for: this machine, unless `KILN_TEST_TARGET` names another that it runs.
//!
//! Only tests read the variable; the product has `--target` and `--backend`. Tests of other crates include this file.

use kiln_codegen::native::Target;

/// The environment variable.
pub const VARIABLE: &str = "KILN_TEST_TARGET";

/// The target that [`VARIABLE`] names; `None` where it is not set, which means what a user gets without a choice.
///
/// # Panics
/// If it names no target, or one whose code this machine cannot run: a test that ignored it would pass without having
/// tested what was asked for.
pub fn chosen() -> Option<Target> {
    let name = std::env::var_os(VARIABLE)?;
    Some(named(&name.to_string_lossy()).unwrap_or_else(|e| panic!("{VARIABLE}: {e}")))
}

/// A target by a name that `--target` takes, or by `cranelift`: this machine, compiled for by Cranelift.
pub fn named(name: &str) -> Result<Target, String> {
    let host = Target::host().map_err(|e| e.to_string())?;
    if name == "cranelift" {
        return Ok(host.portable());
    }
    let target = Target::named(name).map_err(|e| format!("{e}; or cranelift"))?;
    if !target.runs_here() {
        return Err(format!(
            "this machine ({host}) cannot run code for {target}: choose cranelift, or a level that it has"
        ));
    }
    Ok(target)
}
