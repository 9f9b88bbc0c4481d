//! `kiln compile`: a model to an artifact.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use kiln::compile::{ArtifactOptions, CompileOptions, compile};
use kiln::measure::milliseconds;
use kiln_codegen::native::Target;
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::model::ModelArgs;
use crate::output::{Output, bytes, facts};
use crate::passes::{PassArgs, report_json, report_text};
use crate::progress::spinning;

/// Compile a model to an artifact: one file that runs without the compiler.
#[derive(Debug, Args)]
pub struct CompileArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The artifact to write
    #[arg(short, long, value_name = "OUT.kiln")]
    output: PathBuf,
    /// What machine code is for: host, x86-64-v2, x86-64-v3, x86-64-v4, or a triple
    #[arg(long, value_name = "TARGET", default_value = "host")]
    target: String,
    /// Leave out the portable graph: the artifact runs on its target only
    #[arg(long)]
    no_portable: bool,
    /// Leave out machine code: the artifact is compiled where it is loaded
    #[arg(long, conflicts_with = "no_portable")]
    no_native: bool,
    #[command(flatten)]
    passes: PassArgs,
}

impl CompileArgs {
    /// Compiles, writes and reports.
    pub fn run(self, output: Output) -> Outcome {
        let target = Target::named(&self.target).map_err(|e| Failure::Usage(e.to_string()))?;
        let start = Instant::now();
        let source = self.model.source()?;
        let load_ms = milliseconds(start.elapsed());
        let start = Instant::now();
        let options = CompileOptions {
            dims: source.dims,
            target: Some(target),
            passes: self.passes.options(),
            ..CompileOptions::default()
        };
        let compiled = spinning("compiling", || compile(&source.graph, &options))?;
        let halves = ArtifactOptions { portable: !self.no_portable, native: !self.no_native };
        let artifact = compiled.artifact(&halves)?;
        let compile_ms = milliseconds(start.elapsed());
        let start = Instant::now();
        artifact.write(&self.output)?;
        let write_ms = milliseconds(start.elapsed());
        let size = std::fs::metadata(&self.output).map_or(0, |m| m.len());

        let (plan, report, times) = (compiled.plan(), compiled.report(), compiled.times());
        let object = json!({
            "output": self.output,
            "artifact_bytes": size,
            "target": compiled.target().to_string(),
            "nodes_before": compiled.source().len(),
            "nodes_after": compiled.graph().len(),
            "kernels": plan.kernel_count,
            "steps": plan.steps.len(),
            "arena_bytes": plan.arena_bytes,
            "arena_lower_bound": plan.arena_lower_bound,
            "weight_bytes": plan.weight_bytes,
            "flops": plan.flops(),
            "load_ms": load_ms,
            "optimize_ms": milliseconds(times.optimize),
            "lower_ms": milliseconds(times.lower),
            "generate_ms": milliseconds(times.generate),
            "compile_ms": compile_ms,
            "write_ms": write_ms,
            "passes": report_json(report),
        });
        output.write(&object, || {
            let above = 100.0 * (plan.arena_bytes as f64 / (plan.arena_lower_bound as f64).max(1.0) - 1.0);
            let rows = facts([
                ("artifact", format!("{} ({})", self.output.display(), bytes(size))),
                ("target", compiled.target().to_string()),
                ("graph", format!("{} nodes, {} after optimisation", compiled.source().len(), compiled.graph().len())),
                (
                    "program",
                    format!(
                        "{} steps, {} kernels, {:.3} GFLOP a run",
                        plan.steps.len(),
                        plan.kernel_count,
                        plan.flops() as f64 / 1e9
                    ),
                ),
                (
                    "arena",
                    format!(
                        "{}, {above:.1} % above the lower bound of {}",
                        bytes(plan.arena_bytes as u64),
                        bytes(plan.arena_lower_bound as u64)
                    ),
                ),
                ("weights", bytes(plan.weight_bytes as u64)),
                ("load", format!("{load_ms:.1} ms")),
                (
                    "compile",
                    format!(
                        "{compile_ms:.1} ms: optimise {:.1}, lower {:.1}, generate code {:.1}",
                        milliseconds(times.optimize),
                        milliseconds(times.lower),
                        milliseconds(times.generate)
                    ),
                ),
                ("write", format!("{write_ms:.1} ms")),
            ]);
            format!("{rows}\n{}", report_text(report))
        })
    }
}
