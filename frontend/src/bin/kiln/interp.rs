//! `kiln interp`: the reference interpreter, which says what a model means.

use clap::Args;
use kiln_ir::Graph;
use kiln_ir::interp;
use kiln_runtime::Signature;

use crate::failure::Outcome;
use crate::inputs::{Feeds, InputArgs, unfed};
use crate::model::ModelArgs;
use crate::output::Output;
use crate::progress::spinning;
use crate::results::ResultArgs;
use crate::touched::Touched;

/// Run a model in the reference interpreter: slow, plain, and what every other way of running it is compared with.
#[derive(Debug, Args)]
pub struct InterpArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    results: ResultArgs,
    /// Compute floats in f64; results are f64 then
    #[arg(long, help_heading = "Execution")]
    f64: bool,
}

impl InterpArgs {
    /// Interprets and reports.
    pub fn run(mut self, output: Output) -> Outcome {
        let mut touched = Touched::default();
        self.inputs.touch(&mut touched);
        self.results.touch(&mut touched);
        self.model.protect(touched)?;
        let graph = self.model.source()?.specialized()?;
        let results = interpret(&graph, &self.inputs, self.f64)?;
        self.results.report(&results, output)
    }
}

/// The outputs of `graph` on what the options feed it, worked out by the reference interpreter in f32 or f64.
pub fn interpret(graph: &Graph, inputs: &InputArgs, f64: bool) -> Outcome<Feeds> {
    let signature = Signature::of(graph)?;
    let read = inputs.read(&signature)?;
    let feeds: Vec<_> = read.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    let run = || if f64 { interp::run::<f64>(graph, &feeds, None) } else { interp::run::<f32>(graph, &feeds, None) };
    spinning("interpreting", run).map_err(|e| unfed(e, &signature, &read))
}
