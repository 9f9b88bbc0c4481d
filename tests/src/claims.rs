//! What is claimed of every compiled model, beside its results: how much memory it takes, and that compiling it again
//! gives the same file.

use kiln::compile::{ArtifactOptions, CompileOptions, Compiled, compile};
use kiln_ir::Graph;
use kiln_runtime::Plan;

use crate::target::chosen;

/// The arena of a plan is at most this many times the most bytes that are live at one step.
pub const ARENA_SLACK: f64 = 1.15;

/// Whether the arena is as small as [`ARENA_SLACK`] says.
pub fn check_arena(plan: &Plan) -> Result<(), String> {
    let (arena, least) = (plan.arena_bytes, plan.arena_lower_bound);
    if arena as f64 <= ARENA_SLACK * least as f64 {
        return Ok(());
    }
    let percent = 100.0 * (arena as f64 / least as f64 - 1.0);
    Err(format!("the arena of {arena} bytes is {percent:.1} % above its lower bound of {least}"))
}

/// Whether graphs made by `make` (reading a file again, say) compile to one artifact byte for byte, with one thread
/// and with several. Gives the last of them, compiled.
pub fn check_same_artifact(mut make: impl FnMut() -> Result<Graph, String>) -> Result<Compiled, String> {
    let mut once = |threads: usize| -> Result<(Compiled, _), String> {
        let options = CompileOptions { target: chosen(), threads: Some(threads), ..CompileOptions::default() };
        let compiled = compile(&make()?, &options).map_err(|e| e.to_string())?;
        let artifact = compiled.artifact(&ArtifactOptions::default()).map_err(|e| e.to_string())?;
        Ok((compiled, artifact.to_bytes().map_err(|e| e.to_string())?))
    };
    let (_, first) = once(1)?;
    let (_, second) = once(1)?;
    check_same("compiled again", &first, &second)?;
    let (compiled, third) = once(3)?;
    check_same("compiled by three threads", &first, &third)?;
    Ok(compiled)
}

fn check_same(how: &str, first: &[u8], again: &[u8]) -> Result<(), String> {
    if first == again {
        return Ok(());
    }
    let at = first.iter().zip(again).position(|(a, b)| a != b).unwrap_or(first.len().min(again.len()));
    Err(format!("{how}, the artifact of {} bytes has {} and differs from byte {at} on", first.len(), again.len()))
}
