//! `kiln cat`: a model's text at any stage between its file and machine code.

use std::path::Path;

use clap::{Args, ValueEnum};
use kiln::compile::{Compiled, compile};
use kiln_codegen::clif::emit_clif;
use kiln_codegen::native::assembly;
use kiln_ir::Graph;
use kiln_passes::{PASSES, optimize_observed};
use kiln_runtime::artifact::{self, Digests};
use serde_json::json;

use crate::code::{CodeArgs, TuningThreads};
use crate::disassembly::disassemble;
use crate::dot::dot;
use crate::failure::{Failure, Outcome};
use crate::model::{Model, ModelArgs, Source, of_file, portable_graph};
use crate::output::Output;
use crate::passes::PassArgs;
use crate::plan::plan_text;
use crate::progress::spinning;
use crate::text::TextArgs;
use crate::touched::Touched;

/// Print a model at a stage between its file and machine code.
///
/// Graph stages, as text or DOT: `import` (as it was read), `specialized` (extents bound), the name of a pass (after it),
/// `optimized` (after all passes). Code stages: `plan` (steps and buffers), `kir` (kernels), `clif` (Cranelift's IR), `asm`
/// (machine instructions). Of an artifact, `plan` and `asm` are what it holds; everything else is made of its portable half.
#[derive(Debug, Args)]
pub struct CatArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Which stage: import, specialized, a pass, optimized, plan, kir, clif or asm
    #[arg(long, default_value = "import")]
    stage: String,
    /// How a graph is printed
    #[arg(long, value_enum, default_value_t = GraphFormat::Text)]
    format: GraphFormat,
    /// What code is made for: host, x86-64-v2, x86-64-v3, x86-64-v4, x86-64-v4+vnni, or a triple [default: host]
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// Print only kernels whose name contains this (kir, clif, asm)
    #[arg(long, value_name = "TEXT")]
    kernel: Option<String>,
    #[command(flatten)]
    tuning_threads: TuningThreads,
    #[command(flatten)]
    code: CodeArgs,
    #[command(flatten)]
    passes: PassArgs,
    #[command(flatten)]
    text: TextArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum GraphFormat {
    /// Kiln's graph text
    Text,
    /// Graphviz
    Dot,
}

impl CatArgs {
    /// Prints.
    pub fn run(mut self, output: Output) -> Outcome {
        let passes: Vec<&str> = PASSES.iter().map(|p| p.name).collect();
        let is_graph = ["import", "specialized", "optimized"].contains(&self.stage.as_str())
            || passes.contains(&self.stage.as_str());
        if !is_graph && !["plan", "kir", "clif", "asm"].contains(&self.stage.as_str()) {
            return Err(Failure::Usage(format!(
                "there is no stage `{}`; there are import, specialized, {}, optimized, plan, kir, clif, asm",
                self.stage,
                passes.join(", ")
            )));
        }
        self.refuse_idle_options(is_graph)?;
        let mut touched = Touched::default();
        self.code.touch(&mut touched);
        self.text.touch(&mut touched);
        self.model.protect(touched)?;
        let text = if is_graph {
            let graph = self.graph_stage(&self.model.source()?)?;
            match self.format {
                GraphFormat::Dot => self.text.write_text(&dot(&graph))?,
                GraphFormat::Text => self.text.write(&graph)?,
            }
        } else {
            self.text.write_text(&self.code_stage()?)?
        };
        output.write(&json!({ "stage": self.stage, "text": text }), || text.clone().unwrap_or_default())
    }

    /// Refuses options that say nothing about the stage.
    fn refuse_idle_options(&self, is_graph: bool) -> Outcome {
        let dot = self.format == GraphFormat::Dot;
        let idle = if is_graph {
            let early = ["import", "specialized"].contains(&self.stage.as_str());
            let code = [("--target", self.target.is_some()), ("--kernel", self.kernel.is_some())];
            let code = code.into_iter().find(|(_, given)| *given).map(|(option, _)| option).or(self.code.given());
            let code = code.map(|option| (option, "is for code: choose the stage kir, clif or asm"));
            let passes = self.passes.given().filter(|_| early);
            let passes = passes.map(|option| (option, "is for what comes after passes: choose a later stage"));
            let text =
                self.text.given().filter(|_| dot).map(|option| (option, "is for graph text: leave out --format dot"));
            code.or(passes).or(text)
        } else {
            let format = dot.then_some("--format dot").or(self.text.given());
            let format =
                format.map(|option| (option, "is for graphs: choose import, specialized, a pass or optimized"));
            let kernel = self.kernel.as_ref().filter(|_| self.stage == "plan");
            format.or(kernel.map(|_| ("--kernel", "is for kernels: choose the stage kir, clif or asm")))
        };
        match idle {
            Some((option, why)) => {
                Err(Failure::Usage(format!("{option} does not go with --stage {}: it {why}", self.stage)))
            }
            None => Ok(()),
        }
    }

    /// The graph at one of the graph stages.
    fn graph_stage(&self, source: &Source) -> Outcome<Graph> {
        if self.stage == "import" {
            return Ok(source.graph.clone());
        }
        let specialized = source.specialized()?;
        if self.stage == "specialized" {
            return Ok(specialized);
        }
        let mut after = None;
        let optimized = spinning("optimising", || {
            optimize_observed(&specialized, &self.passes.options(), &mut |pass, graph| {
                if pass.name == self.stage {
                    after = Some(graph.clone());
                }
            })
        })?;
        match after {
            Some(graph) => Ok(graph),
            None if self.stage == "optimized" => Ok(optimized.graph),
            None => {
                Err(Failure::Usage(format!("pass `{}` did not run: --until or --disable leave it out", self.stage)))
            }
        }
    }

    /// The text of one of the code stages.
    fn code_stage(&self) -> Outcome<String> {
        let source = match self.model.open()? {
            Model::Artifact(path) if ["plan", "asm"].contains(&self.stage.as_str()) => return self.stored(&path),
            Model::Artifact(path) => portable_graph(&path)?,
            Model::Graph(source) => source,
        };
        let graph = source.specialized()?;
        let target = self.target.as_deref().unwrap_or("host");
        let target = self.code.target(target)?;
        let options = self.code.options(target, self.tuning_threads.count(), &self.passes)?;
        let compiled = spinning("compiling", || compile(&graph, &options))?;
        self.code.note_estimated(&options.choices, compiled.decisions());
        if self.stage == "plan" { Ok(plan_text(compiled.plan())) } else { self.kernels(&compiled) }
    }

    /// Plan or machine code of every native part of an artifact, as they are stored.
    fn stored(&self, path: &Path) -> Outcome<String> {
        if let Some(option) = self.target.as_ref().map(|_| "--target").or(self.code.given()).or(self.passes.given()) {
            return Err(Failure::Usage(format!(
                "{option} does not go with --stage {} of an artifact, which prints what the file holds: compile the model \
                 again with it",
                self.stage
            )));
        }
        let file = artifact::read_file(path)?;
        let summary = artifact::inspect(&file, Digests::Skip).map_err(of_file(path))?;
        if summary.natives.is_empty() {
            return Err(Failure::Work(format!("`{}` has no native half: print its portable graph", path.display())));
        }
        let mut out = Vec::new();
        for (index, native) in summary.natives.iter().enumerate() {
            let Some((plan, code)) = artifact::native_code(&file, index).map_err(of_file(path))? else { continue };
            if self.stage == "asm" {
                self.check_kernel(code.kernels().iter().map(|k| k.name.as_str()))?;
            }
            out.push(format!("; for {}", native.triple));
            out.push(match self.stage.as_str() {
                "plan" => plan_text(&plan),
                _ => disassemble(&native.triple, &code, |name| self.wants(name))?,
            });
        }
        Ok(out.join("\n"))
    }

    /// Refuses a `--kernel` that none of these kernels is called.
    fn check_kernel<'k>(&self, kernels: impl Iterator<Item = &'k str> + Clone) -> Outcome {
        match &self.kernel {
            Some(part) if !kernels.clone().any(|name| self.wants(name)) => {
                let mut names: Vec<&str> = kernels.collect();
                names.sort_unstable();
                names.dedup();
                let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                Err(Failure::Usage(format!("--kernel {part}: no kernel is called that; the kernels are {names}")))
            }
            _ => Ok(()),
        }
    }

    fn wants(&self, kernel: &str) -> bool {
        self.kernel.as_ref().is_none_or(|part| kernel.contains(part))
    }

    fn kernels(&self, compiled: &Compiled) -> Outcome<String> {
        self.check_kernel(compiled.kernels().iter().map(|k| k.name.as_str()))?;
        let mut out = Vec::new();
        for kernel in compiled.kernels().iter().filter(|k| self.wants(&k.name)) {
            out.push(match self.stage.as_str() {
                "kir" => kernel.to_string(),
                stage => {
                    let code = match stage {
                        "clif" => emit_clif(kernel, compiled.target())?.clif,
                        _ => assembly(kernel, compiled.target())?,
                    };
                    format!("; {}\n{code}", kernel.name)
                }
            });
        }
        Ok(out.join("\n"))
    }
}
