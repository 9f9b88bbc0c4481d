//! `kiln opt`: graph in, optimised graph text out.

use clap::Args;
use serde_json::json;

use crate::failure::Outcome;
use crate::model::ModelArgs;
use crate::output::Output;
use crate::passes::{PassArgs, report_json, report_text};
use crate::progress::spinning;
use crate::text::TextArgs;

/// Optimise a graph and print the result as graph text.
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
    /// Print which nodes of the model and which rules each node comes from, in place of the graph
    #[arg(long, conflicts_with = "report", help_heading = "Reports")]
    explain: bool,
}

impl OptArgs {
    /// Optimises and prints.
    pub fn run(self, output: Output) -> Outcome {
        let graph = self.model.source()?.specialized()?;
        let optimized = spinning("optimising", || kiln_passes::optimize(&graph, &self.passes.options()))?;
        let text = self.text.write(&optimized.graph)?;
        let mut object = json!({ "passes": report_json(&optimized.report), "nodes": optimized.graph.len() });
        if let Some(text) = &text {
            object["text"] = json!(text);
        }
        let explanation = optimized.provenance.explain(&graph, &optimized.graph).to_string();
        object["explanation"] = json!(explanation);
        output.write(&object, || match text {
            _ if self.explain => explanation,
            Some(text) if !self.report => text,
            _ => report_text(&optimized.report),
        })
    }
}
