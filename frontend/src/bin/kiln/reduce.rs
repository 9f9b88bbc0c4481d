//! `kiln reduce`: a small graph with the same fault.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use kiln::fault::reduce::{Command, fitting};
use kiln::fault::{Fault, Progress, Reduction, Trial, reduce};
use kiln::files::safetensors::{self, Contents};
use kiln::files::{FileError, npz, write_atomically};
use kiln::random_feeds::random_feeds;
use kiln_ir::Graph;
use kiln_ir::text::{PrintOptions, WeightStore, print_into};
use kiln_runtime::Signature;
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::model::ModelArgs;
use crate::output::{Output, facts};
use crate::progress::{bar, spinning};
use crate::touched::Touched;
use crate::trial::TrialArgs;
use crate::values;

/// Shrink a model that is compiled wrongly, or not at all, to a small graph for which it still happens.
///
/// Without --command, the fault is what the comparison of `kiln bisect` finds: a wrong result, or a failure, of which candidates must show one
/// with the same message but for names and numbers. For anything else, a crash for one, give a --command. Every candidate is verified before it is tried. The same model and seed give the
/// same small graph.
#[derive(Debug, Args)]
pub struct ReduceArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The small graph's text. Tensors of more than a few elements are written beside it as OUT.safetensors, inputs that were given
    /// as OUT.npz
    #[arg(short, long, value_name = "OUT.kiln", value_parser = values::output_file())]
    output: PathBuf,
    /// In place of the comparison, a command for `sh` that ends with exit code 0 as long as the graph is of interest; `{}` in it stands for
    /// the graph's file, `{weights}` for the file of its larger tensors
    #[arg(long, value_name = "CMD", conflicts_with_all = [
        "tolerance", "seed", "threads", "inputs", "input", "backend", "exact", "tuning", "until", "disable", "none", "fuel",
    ])]
    command: Option<String>,
    #[command(flatten)]
    trial: TrialArgs,
}

/// Elements of constants that stand in the text.
const WRITTEN: usize = 64;

/// Extension of the file of larger constants.
const WEIGHTS: &str = "safetensors";

/// Extension of the file of inputs.
const INPUTS: &str = "npz";

impl ReduceArgs {
    /// Shrinks, writes and reports.
    pub fn run(mut self, output: Output) -> Outcome {
        let mut touched = Touched::default();
        self.trial.touch(&mut touched);
        touched.writes("--output", [&self.output]);
        touched.writes("the file of the tensors", [&self.output.with_extension(WEIGHTS)]);
        if self.trial.inputs.given() {
            touched.writes("the file of the inputs", [&self.output.with_extension(INPUTS)]);
        }
        self.model.protect(touched)?;
        let graph = self.model.source()?.specialized()?;
        let (fault, reduction, trial) = match &self.command {
            Some(command) => {
                if !command.contains(Command::GRAPH) {
                    return Err(Failure::Usage(format!(
                        "--command {command}: nothing in it stands for the graph's file: write {} there",
                        Command::GRAPH
                    )));
                }
                let command = Command(command.clone());
                let reduction = watched(&graph, &mut |candidate| Ok(command.accepts(candidate)?))?;
                ("the command ends with exit code 0".to_owned(), reduction, None)
            }
            None => {
                let trial = self.trial.trial(&graph)?;
                let fault = unless_panicked(|| spinning("comparing", || Fault::of(&graph, &trial)));
                let fault = fault.map_err(|()| self.crashed())??;
                let Some(fault) = fault else {
                    return Err(self.nothing_wrong("the compiled model agrees with the interpreter"));
                };
                let reduction = watched(&graph, &mut |candidate| {
                    // One that crashes shows another fault, which the message of the panic reports.
                    Ok(unless_panicked(|| fault.shown_by(candidate, &trial)).unwrap_or(false))
                })?;
                let said = match fault {
                    Fault::WrongResult => "the result is wrong".to_owned(),
                    Fault::Failure(class) => format!("it fails: {class}"),
                };
                (said, reduction, Some(trial))
            }
        };
        let Some(Reduction { graph: small, progress }) = reduction else {
            return Err(self.nothing_wrong("the command does not end with exit code 0"));
        };
        let (text, weights) = write_graph(&small, &self.output)?;
        let inputs = trial.map_or(Ok(None), |trial| self.write_inputs(&small, &trial))?;
        let again = self.command.is_none().then(|| self.again(weights.as_deref(), inputs.as_deref()));
        let object = json!({
            "fault": fault,
            "output": self.output,
            "weights": weights,
            "inputs": inputs,
            "nodes_before": graph.len(),
            "nodes_after": small.len(),
            "tried": progress.tried,
            "kept": progress.kept,
            "text": &text,
            "next": again,
        });
        output.write(&object, || {
            let Progress { tried, kept, .. } = progress;
            let mut rows = vec![
                ("fault", fault),
                ("graph", format!("{} nodes, of {}", small.len(), graph.len())),
                ("tried", format!("{tried} graphs, of which {kept} showed it")),
                ("written", self.output.display().to_string()),
            ];
            rows.extend(
                [("weights", weights), ("inputs", inputs)]
                    .into_iter()
                    .filter_map(|(name, path)| Some((name, path?.display().to_string()))),
            );
            rows.extend(again.map(|line| ("next", line)));
            format!("{}\n{text}", facts(rows))
        })
    }

    /// What to do where the comparison itself ends at a bug.
    fn crashed(&self) -> Failure {
        let (path, out) = (self.model.path.display(), self.output.display());
        Failure::Work(format!(
            "Kiln crashes when it compiles or runs `{path}` (the message above says where; please report it). A command finds the small graph \
             that does: kiln reduce {path} -o {out} --command \"kiln bisect {{}} --weights {{weights}} 2>&1 | grep -q 'bug in Kiln'\""
        ))
    }

    fn nothing_wrong(&self, why: &str) -> Failure {
        Failure::Work(format!("`{}` has nothing to reduce: {why}", self.model.path.display()))
    }

    /// Writes the inputs of the small graph, where some were given.
    fn write_inputs(&self, small: &Graph, trial: &Trial) -> Outcome<Option<PathBuf>> {
        let signature = Signature::of(small)?;
        let mut feeds = fitting(&trial.given, &signature);
        if feeds.is_empty() {
            return Ok(None);
        }
        let random = random_feeds(&signature, &feeds, trial.seed)?;
        feeds.extend(random);
        let path = self.output.with_extension(INPUTS);
        npz::write(&path, feeds.iter().map(|(name, tensor)| (name.as_str(), tensor)))?;
        Ok(Some(path))
    }

    /// The command that looks for the rule in the small graph.
    fn again(&self, weights: Option<&Path>, inputs: Option<&Path>) -> String {
        let mut line = format!("kiln bisect {}", self.output.display());
        for (option, path) in [("--weights", weights), ("--inputs", inputs)] {
            if let Some(path) = path {
                line += &format!(" {option} {}", path.display());
            }
        }
        if self.trial.seed != 0 {
            line += &format!(" --seed {}", self.trial.seed);
        }
        if let Some(tolerance) = self.trial.tolerance {
            line += &format!(" --tolerance {tolerance:e}");
        }
        line
    }
}

/// Does `work`; `Err` where it panicked, which the hook of [`crate::failure::guarded`] has reported.
fn unless_panicked<T>(work: impl FnOnce() -> T) -> Result<T, ()> {
    // Nothing of what the panic left half done is looked at any more.
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| ())
}

/// Reduces beside a progress bar over the nodes.
fn watched(graph: &Graph, shows: &mut dyn FnMut(&Graph) -> Outcome<bool>) -> Outcome<Option<Reduction>> {
    let mut progress: Option<(ProgressBar, usize)> = None;
    let reduction = reduce(graph, shows, &mut |now| {
        let (bar, all) = progress.get_or_insert_with(|| (bar("reducing", now.nodes), now.nodes));
        bar.set_position((*all - now.nodes.min(*all)) as u64);
        bar.set_message(format!("reducing: {} nodes, {} graphs tried", now.nodes, now.tried));
    });
    if let Some((bar, _)) = progress {
        bar.finish_and_clear();
    }
    reduction
}

/// Writes a graph's text, and beside it the tensors that it names by content id: the text, and the file of those, if there are any.
fn write_graph(graph: &Graph, path: &Path) -> Outcome<(String, Option<PathBuf>)> {
    let mut store = WeightStore::new();
    let text = print_into(graph, &PrintOptions { elements: WRITTEN, ..PrintOptions::default() }, &mut store);
    let weights = (!store.is_empty()).then(|| path.with_extension(WEIGHTS));
    if let Some(weights) = &weights {
        let mut contents = Contents::default();
        contents.tensors.extend(store.iter().map(|(id, tensor)| (id.to_hex().to_string(), tensor.clone())));
        safetensors::write(weights, &contents)?;
    }
    write_atomically(path, |out| {
        out.write_all(text.as_bytes()).map_err(|source| FileError::Write { path: path.to_owned(), source })
    })?;
    Ok((text, weights))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_candidate_is_no_end() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        let outcomes = [unless_panicked(|| panic!("on purpose")), unless_panicked(|| 7)];
        std::panic::set_hook(hook);
        assert_eq!(outcomes, [Err(()), Ok(7)]);
    }
}
