//! `kiln compile`: a model to an artifact, or to an object file and a C header.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use kiln::compile::{ArtifactOptions, CompileOptions, compile};
use kiln::measure::milliseconds;
use kiln_codegen::native::Target;
use kiln_codegen::tuning::Choices;
use serde_json::json;

use crate::code::{CodeArgs, TuningThreads};
use crate::emit::{EmitArgs, Written};
use crate::failure::{Failure, Outcome};
use crate::model::ModelArgs;
use crate::output::{Output, bytes, facts};
use crate::passes::{PassArgs, report_json, report_text};
use crate::progress::spinning;
use crate::touched::Touched;
use crate::values;

/// Compile a model to an artifact: one file that runs without the compiler. Or to an object file and a C header, for programs without Kiln.
#[derive(Debug, Args)]
pub struct CompileArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The artifact to write; with --emit, the name of the files
    #[arg(short, long, value_name = "OUT.kiln", value_parser = values::output_file())]
    output: PathBuf,
    #[command(flatten)]
    emit: EmitArgs,
    /// What machine code is for: host, x86-64-v2, x86-64-v3, x86-64-v4, x86-64-v4+vnni, or a triple. Repeated or separated by commas, the artifact
    /// has code for each, and loading picks the best that runs
    #[arg(long, value_name = "TARGET", default_value = "host", value_delimiter = ',')]
    target: Vec<String>,
    /// Leave out the portable graph: the artifact runs on its target only
    #[arg(long)]
    no_portable: bool,
    /// Leave out machine code: the artifact is compiled where it is loaded
    #[arg(long, conflicts_with_all = ["no_portable", "target", "backend", "tuning"])]
    no_native: bool,
    #[command(flatten)]
    tuning_threads: TuningThreads,
    #[command(flatten)]
    code: CodeArgs,
    #[command(flatten)]
    passes: PassArgs,
}

impl CompileArgs {
    /// Compiles, writes and reports.
    pub fn run(mut self, output: Output) -> Outcome {
        let mut targets = self.targets()?;
        let (target, choices) = targets.remove(0);
        let artifact_option = [("--no-portable", self.no_portable), ("--no-native", self.no_native)];
        let artifact_option = artifact_option.iter().find(|(_, given)| *given).map(|(option, _)| *option);
        let files = self.emit.files(&self.output, &target, targets.len(), artifact_option)?;
        let mut touched = Touched::default();
        self.code.touch(&mut touched);
        match &files {
            Some(files) => files.touch(&mut touched),
            None => touched.writes("--output", [&self.output]),
        }
        self.model.protect(touched)?;
        let known: Vec<Arc<Choices>> = [&choices].into_iter().chain(targets.iter().map(|t| &t.1)).cloned().collect();
        let start = Instant::now();
        let source = self.model.source()?;
        let load_ms = milliseconds(start.elapsed());
        let start = Instant::now();
        let graph = source.specialized()?;
        let options = CompileOptions {
            target: Some(target),
            more_targets: targets,
            choices,
            passes: self.passes.options(),
            exact: self.code.exact,
            ..CompileOptions::default()
        };
        let compiled = spinning("compiling", || compile(&graph, &options))?;
        for (choices, (_, decisions)) in known.iter().zip(compiled.decisions_by_target()) {
            self.code.note_estimated(choices, decisions);
        }
        let (written, embedded_arena, compile_ms, write_ms);
        if let Some(files) = files {
            compile_ms = milliseconds(start.elapsed());
            let start = Instant::now();
            let (paths, arena) = files.write(&compiled)?;
            (written, embedded_arena) = (paths, Some(arena));
            write_ms = milliseconds(start.elapsed());
        } else {
            let halves = ArtifactOptions { portable: !self.no_portable, native: !self.no_native };
            let artifact = compiled.artifact(&halves)?;
            compile_ms = milliseconds(start.elapsed());
            let start = Instant::now();
            artifact.write(&self.output)?;
            (written, embedded_arena) = (vec![Written { what: "artifact", path: self.output.clone() }], None);
            write_ms = milliseconds(start.elapsed());
        }
        let sizes = written.iter().map(|file| std::fs::metadata(&file.path).map_or(0, |m| m.len()));
        let sizes: Vec<u64> = sizes.collect();

        let targets: Vec<String> =
            if self.no_native { Vec::new() } else { compiled.targets().map(ToString::to_string).collect() };
        let (plan, report, times) = (compiled.plan(), compiled.report(), compiled.times());
        let mut object = json!({
            "output": self.output,
            "target": targets.first(),
            "targets": &targets,
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
        for (file, size) in written.iter().zip(&sizes) {
            object[format!("{}_bytes", file.what)] = json!(size);
            if file.what != "artifact" {
                object[file.what] = json!(file.path);
            }
        }
        if let Some(arena) = embedded_arena {
            object["embedded_arena_bytes"] = json!(arena);
        }
        output.write(&object, || {
            let files = written.iter().zip(&sizes);
            let files = files.map(|(file, size)| (file.what, format!("{} ({})", file.path.display(), bytes(*size))));
            let rows = files.chain([
                (
                    "target",
                    if targets.is_empty() {
                        "none: compiled where it is loaded".to_owned()
                    } else {
                        targets.join(", ")
                    },
                ),
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
                ("arena", arena_text(plan.arena_bytes, plan.arena_lower_bound)),
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
            let rows = facts(rows);
            format!("{rows}\n{}", report_text(report))
        })
    }

    /// The targets, each once, of which there is at least one, with what is known about layers of each.
    fn targets(&self) -> Outcome<Vec<(Target, Arc<Choices>)>> {
        let mut targets: Vec<(Target, Arc<Choices>)> = Vec::new();
        for name in &self.target {
            let target = self.code.target(name)?;
            if targets.iter().any(|(known, _)| known.to_string() == target.to_string()) {
                return Err(Failure::Usage(format!(
                    "--target names {target} twice: leave out one of {}",
                    self.target.join(", ")
                )));
            }
            let choices = self.code.choices(&target, self.tuning_threads.count())?;
            targets.push((target, choices));
        }
        Ok(targets)
    }
}

/// The arena's size, and how far it is from the least possible.
fn arena_text(size: usize, lower_bound: usize) -> String {
    match (size, lower_bound) {
        (0, _) => "none".to_owned(),
        (_, 0) => bytes(size as u64),
        _ => {
            let above = 100.0 * (size as f64 / lower_bound as f64 - 1.0);
            format!("{}, {above:.1} % above the lower bound of {}", bytes(size as u64), bytes(lower_bound as u64))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::arena_text;

    #[test]
    fn a_program_without_an_arena_is_no_percentage_of_anything() {
        assert_eq!(arena_text(0, 0), "none");
        assert_eq!(arena_text(64, 0), "64 B");
        assert_eq!(arena_text(1536, 1024), "1.50 KiB, 50.0 % above the lower bound of 1.00 KiB");
    }
}
