//! `kiln opt`: graph in, optimised graph text out.

use clap::Args;
use serde_json::json;

use crate::diff::{coloured, diff, named};
use crate::failure::{Failure, Outcome};
use crate::model::ModelArgs;
use crate::output::Output;
use crate::passes::{PassArgs, report_json, report_text};
use crate::progress::spinning;
use crate::text::TextArgs;
use crate::touched::Touched;

/// Optimise a graph and print the result as graph text.
///
/// `kiln explain MODEL --nodes` says by which rules each node came about and what that bought.
#[derive(Debug, Args)]
pub struct OptArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    passes: PassArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Print what each pass did, in place of the graph
    #[arg(long, help_heading = "Reports")]
    report: bool,
    /// Print how the graph's text changed, in place of the graph. Nodes that have no name, as %3, are called %v3 on both sides
    #[arg(long, conflicts_with = "report", help_heading = "Reports")]
    diff: bool,
}

impl OptArgs {
    /// Optimises and prints.
    pub fn run(mut self, output: Output) -> Outcome {
        let mut touched = Touched::default();
        self.text.touch(&mut touched);
        self.model.protect(touched)?;
        if let Some(option) = self.text.given().filter(|_| self.diff) {
            return Err(Failure::Usage(format!(
                "{option} does not go with --diff, which prints no graph: leave one out"
            )));
        }
        let graph = self.model.source()?.specialized()?;
        let graph = if self.diff { named(&graph)? } else { graph };
        let optimized = spinning("optimising", || kiln_passes::optimize(&graph, &self.passes.options()))?;
        let mut object = json!({ "passes": report_json(&optimized.report), "nodes": optimized.graph.len() });
        if self.diff {
            let changes = diff(&graph, &optimized.graph);
            let text = self.text.write_text(&changes)?;
            object["diff"] = json!(changes);
            return output.write(&object, || match text {
                Some(text) if text.is_empty() => "nothing changed".to_owned(),
                Some(text) => coloured(&text),
                None => report_text(&optimized.report),
            });
        }
        let text = self.text.write(&optimized.graph)?;
        if let Some(text) = &text {
            object["text"] = json!(text);
        }
        output.write(&object, || match text {
            Some(text) if !self.report => text,
            _ => report_text(&optimized.report),
        })
    }
}
