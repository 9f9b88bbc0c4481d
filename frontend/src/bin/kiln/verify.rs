//! `kiln verify`: whether a graph or an artifact is whole, and everything that is wrong with it.

use std::path::Path;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use kiln_ir::Graph;
use kiln_ir::verify::{Stage, verify};
use kiln_runtime::artifact::{self, Digests, Summary};
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::model::{Model, ModelArgs, of_file};
use crate::output::Output;

/// Check a graph or an artifact, and list every problem.
///
/// Of a graph: every invariant of the verifier. Of an artifact: all digests, the portable graph, and the execution plan
/// of every native part.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The highest level of ops that the graph may have [default: lowered]
    #[arg(long, value_enum)]
    stage: Option<StageName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StageName {
    /// L0 ops only
    Primitive,
    /// L0 and L1: what users and importers build
    Composite,
    /// All, with the ops that only passes make
    Lowered,
}

impl StageName {
    fn stage(self) -> Stage {
        match self {
            StageName::Primitive => Stage::Primitive,
            StageName::Composite => Stage::Composite,
            StageName::Lowered => Stage::Lowered,
        }
    }
}

impl VerifyArgs {
    /// Verifies and reports.
    pub fn run(self, output: Output) -> Outcome {
        let stage = self.stage.unwrap_or(StageName::Lowered).stage();
        let (problems, summary) = match self.model.open()? {
            Model::Graph(source) => {
                (graph_problems(&source.graph, stage), format!("valid: {} nodes", source.graph.len()))
            }
            Model::Artifact(path) => {
                let file = artifact::read_file(&path)?;
                let summary = artifact::inspect(&file, Digests::Check).map_err(of_file(&path))?;
                if self.stage.is_some() && summary.portable.is_none() {
                    return Err(Failure::Usage(format!(
                        "--stage is for graphs, and `{}` has no portable half: leave it out",
                        path.display()
                    )));
                }
                artifact_problems(&path, &file, &summary, stage)?
            }
        };
        let object = json!({ "valid": problems.is_empty(), "problems": problems });
        if problems.is_empty() {
            return output.write(&object, || summary);
        }
        let count = match problems.len() {
            1 => "1 problem".to_owned(),
            n => format!("{n} problems"),
        };
        output.write(&object, || problems.join("\n"))?;
        Err(Failure::Reported(format!("`{}` is not valid: {count}", self.model.path.display())))
    }
}

fn graph_problems(graph: &Graph, stage: Stage) -> Vec<String> {
    verify(graph, stage).err().into_iter().flatten().map(|e| e.to_string()).collect()
}

/// The problems of an artifact whose digests are right, without which nothing could be trusted to be there; and what to
/// say where there are none.
fn artifact_problems(path: &Path, bytes: &Bytes, summary: &Summary, stage: Stage) -> Outcome<(Vec<String>, String)> {
    let mut problems = Vec::new();
    let mut checked = vec![format!("{} sections", summary.sections.len())];
    if summary.portable.is_some() {
        match artifact::read_portable(bytes) {
            Ok(model) => {
                problems.extend(graph_problems(&model.graph, stage));
                checked.push(format!("a portable graph of {} nodes", model.graph.len()));
            }
            Err(e) => problems.push(e.to_string()),
        }
    }
    for (index, native) in summary.natives.iter().enumerate() {
        match artifact::native_code(bytes, index).map_err(of_file(path))? {
            Some((plan, code)) => {
                problems.extend(plan.validate().err().map(|e| format!("{}: {e}", native.triple)));
                if code.kernels().len() != plan.kernel_count {
                    problems.push(format!(
                        "{}: the plan has {} kernels, the code {}",
                        native.triple,
                        plan.kernel_count,
                        code.kernels().len()
                    ));
                }
                checked.push(format!("a plan of {} steps for {}", plan.steps.len(), native.triple));
            }
            None => problems.push(format!("{}: its code is missing", native.triple)),
        }
    }
    Ok((problems, format!("valid: {}", checked.join(", "))))
}
