//! `kiln explain`: by which algorithm each step of a compiled model works, why, and where it comes from; and how each
//! node of the optimised graph came about.

mod nodes;

use clap::Args;
use kiln::compile::{Compiled, compile};
use kiln::layer_error::layer_error;
use kiln_codegen::tuning::Algorithm;
use kiln_ir::{Graph, NodeId};
use kiln_runtime::Plan;
use kiln_runtime::artifact::{self, Digests};
use serde_json::{Value, json};

use crate::code::{CodeArgs, TuningThreads};
use crate::failure::{Failure, Outcome};
use crate::model::{Model, ModelArgs, Source, of_file, portable_graph};
use crate::output::{Output, bytes};
use crate::passes::PassArgs;
use crate::progress::{bar, spinning};

/// Say by which algorithm each step of a compiled model works and why, its scratch memory and error, and the nodes and rules it comes from;
/// or, with --nodes or --node, how the nodes of the optimised graph came about.
///
/// The error of a Winograd convolution is measured here: against the definition in 64-bit floats, on random inputs, relative to the largest
/// result. Of an artifact, what was chosen when it was compiled is shown; with --recompile, what would be chosen here.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Only steps whose label contains this
    #[arg(long, value_name = "TEXT")]
    step: Option<String>,
    /// In place of steps, the nodes of the optimised graph that rules made: the rules in order, the model's nodes and their lines, and the
    /// estimated cost before and after
    #[arg(long, conflicts_with_all = ["step", "recompile", "backend", "exact", "tuning"])]
    nodes: bool,
    /// As --nodes, of this node alone, as `kiln opt` prints its name (with or without %)
    #[arg(long, value_name = "NAME", conflicts_with_all = ["step", "recompile", "backend", "exact", "tuning"])]
    node: Option<String>,
    /// Compile an artifact's portable graph here, in place of showing how its machine code was made
    #[arg(long)]
    recompile: bool,
    #[command(flatten)]
    tuning_threads: TuningThreads,
    #[command(flatten)]
    code: CodeArgs,
    #[command(flatten)]
    passes: PassArgs,
}

/// The steps of one plan: an artifact may hold machine code for several targets.
struct Program {
    title: String,
    steps: Vec<Explained>,
}

/// A step of a plan, explained.
struct Explained {
    step: usize,
    label: String,
    /// The algorithm and why it was chosen; empty where there was no choice.
    note: String,
    scratch_bytes: usize,
    flops: u64,
    error: Option<f64>,
    sources: Vec<String>,
    rules: Vec<&'static str>,
}

impl ExplainArgs {
    /// Reports.
    pub fn run(self, output: Output) -> Outcome {
        if self.nodes || self.node.is_some() {
            return nodes::explain(&self.model, &self.passes, self.node.as_deref(), output);
        }
        let programs = match self.model.open()? {
            Model::Artifact(path) if !self.recompile => {
                let file = artifact::read_file(&path)?;
                let summary = artifact::inspect(&file, Digests::Skip).map_err(of_file(&path))?;
                if summary.natives.is_empty() {
                    vec![self.compiled(&portable_graph(&path)?)?]
                } else {
                    if let Some(option) = self.passes.given().or(self.code.given()) {
                        return Err(Failure::Usage(format!(
                            "{option} does not go with the machine code of `{}`, which is compiled already: add --recompile",
                            path.display()
                        )));
                    }
                    let mut programs = Vec::new();
                    for (index, native) in summary.natives.iter().enumerate() {
                        if let Some((plan, _)) = artifact::native_code(&file, index).map_err(of_file(&path))? {
                            let title = format!(
                                "as it was compiled for {} with {} CPU features",
                                native.triple,
                                native.features.len()
                            );
                            programs.push(Program { title, steps: self.of_plan(&plan) });
                        }
                    }
                    programs
                }
            }
            Model::Artifact(path) => vec![self.compiled(&portable_graph(&path)?)?],
            Model::Graph(_) if self.recompile => {
                let message = "--recompile is for artifacts; a model is compiled here anyway: leave it out";
                return Err(Failure::Usage(message.to_owned()));
            }
            Model::Graph(source) => vec![self.compiled(&source)?],
        };
        if let Some(text) = self.step.as_ref().filter(|_| programs.iter().all(|p| p.steps.is_empty())) {
            return Err(Failure::Usage(format!(
                "--step {text}: no step's label contains it; without it all are shown"
            )));
        }
        let object = json!({ "programs": programs.iter().map(program_json).collect::<Vec<_>>() });
        output.write(&object, || programs.iter().map(program_text).collect::<Vec<_>>().join("\n\n"))
    }

    /// The steps that were asked for.
    fn of_plan(&self, plan: &Plan) -> Vec<Explained> {
        let wanted = |label: &str| self.step.as_ref().is_none_or(|text| label.contains(text.as_str()));
        let steps = plan.steps.iter().enumerate().filter(|(_, step)| wanted(&step.label));
        let explained = steps.map(|(step, s)| Explained {
            step,
            label: s.label.clone(),
            note: s.note.clone(),
            scratch_bytes: s.scratch_bytes,
            flops: s.flops,
            error: None,
            sources: Vec::new(),
            rules: Vec::new(),
        });
        explained.collect()
    }

    /// The model compiled here.
    fn compiled(&self, source: &Source) -> Outcome<Program> {
        let graph = source.specialized()?;
        let target = self.code.target("host")?;
        let options = self.code.options(target.clone(), self.tuning_threads.count(), &self.passes)?;
        let compiled = spinning("compiling", || compile(&graph, &options))?;
        let mut rows = self.of_plan(compiled.plan());
        let decisions = compiled.decisions();
        self.code.note_estimated(&options.choices, decisions);
        let progress = bar("measuring errors", rows.len());
        for row in &mut rows {
            // an op's steps are labelled alike, and have one node
            let decision = decisions.iter().find(|d| d.steps.contains(&row.step));
            if let Some(decision) = decision {
                trace(&compiled, decision.node, row);
                if matches!(decision.algorithm, Algorithm::Winograd(_)) && !row.note.is_empty() {
                    row.error = layer_error(compiled.graph(), decision.node, &target, &options.choices)?;
                }
            }
            progress.inc(1);
        }
        progress.finish_and_clear();
        Ok(Program { title: format!("compiled for {target}"), steps: rows })
    }
}

/// Where the node of a step comes from.
fn trace(compiled: &Compiled, node: NodeId, row: &mut Explained) {
    let Some(origin) = compiled.provenance().of(node) else { return };
    let source = compiled.source();
    let name = |&id: &NodeId| source_name(source, id);
    // weights say nothing about a step
    let computed = |id: &&NodeId| !source.node(**id).operands.is_empty();
    row.sources = origin.sources.iter().filter(computed).map(name).collect();
    row.rules = origin.rules.iter().map(|firing| firing.rule).collect();
}

/// A node of the model: its name, op and place.
fn source_name(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    let name = node.name.as_ref().map_or_else(|| format!("%{}", id.0), |name| format!("%{name}"));
    let place = node.location.as_ref().map_or(String::new(), |location| format!(" at {location}"));
    format!("{name} ({}){place}", node.op.mnemonic())
}

fn program_json(program: &Program) -> Value {
    let steps = program.steps.iter().map(|row| {
        json!({
            "step": row.step,
            "label": row.label,
            "note": row.note,
            "scratch_bytes": row.scratch_bytes,
            "flops": row.flops,
            "relative_error": row.error,
            "sources": row.sources,
            "rules": row.rules,
        })
    });
    json!({ "program": program.title, "steps": steps.collect::<Vec<_>>() })
}

fn program_text(program: &Program) -> String {
    let mut out = vec![program.title.clone()];
    for row in &program.steps {
        out.push(format!("\nstep {}  {}", row.step, row.label));
        let scratch = (row.scratch_bytes > 0).then(|| format!("{} a thread", bytes(row.scratch_bytes as u64)));
        let lines = [
            ("algorithm", (!row.note.is_empty()).then(|| row.note.clone())),
            ("scratch", scratch),
            ("error", row.error.map(|e| format!("{e:.1e} of the largest result, measured against 64-bit floats"))),
            ("from", (!row.sources.is_empty()).then(|| row.sources.join(", "))),
            ("by rules", (!row.rules.is_empty()).then(|| row.rules.join(", "))),
        ];
        out.extend(lines.into_iter().filter_map(|(name, text)| Some(format!("  {name:10}{}", text?))));
    }
    out.join("\n")
}
