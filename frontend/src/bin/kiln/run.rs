//! `kiln run`: a model on inputs from files.

use clap::Args;

use crate::engine::EngineArgs;
use crate::failure::Outcome;
use crate::inputs::{InputArgs, borrowed, unfed};
use crate::interp::interpret;
use crate::model::ModelArgs;
use crate::output::Output;
use crate::results::ResultArgs;
use crate::touched::Touched;

/// Run a model on inputs from files.
///
/// An artifact's machine code is run as it is: whoever names the file vouches for it, as for a program. `--portable`
/// is for files from elsewhere.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    results: ResultArgs,
    #[command(flatten)]
    engine: EngineArgs,
    /// Run the reference interpreter instead of compiled code
    #[arg(
        long,
        help_heading = "Execution",
        conflicts_with_all = ["threads", "portable", "verify_weights", "until", "disable", "none", "fuel", "backend", "exact"]
    )]
    interpret: bool,
}

impl RunArgs {
    /// Runs and reports.
    pub fn run(mut self, output: Output) -> Outcome {
        let mut touched = Touched::default();
        self.inputs.touch(&mut touched);
        self.results.touch(&mut touched);
        self.engine.touch(&mut touched);
        self.model.protect(touched)?;
        let results = if self.interpret {
            let graph = self.model.source()?.specialized()?;
            interpret(&graph, &self.inputs, false)?
        } else {
            let engine = self.engine.load(&self.model)?;
            let signature = engine.executable.signature();
            let feeds = self.inputs.read(signature)?;
            let results = self.engine.executor(&engine.executable)?.run_named(&borrowed(&feeds));
            results.map_err(|e| unfed(e, signature, &feeds))?
        };
        self.results.report(&results, output)
    }
}
