//! `kiln import`: an ONNX model as graph text.

use clap::Args;
use serde_json::json;

use crate::failure::Outcome;
use crate::model::ModelArgs;
use crate::output::{Output, facts};
use crate::text::TextArgs;
use crate::touched::Touched;

/// Import a model as graph text; `--save-weights` writes its weights, which `--weights` reads back.
#[derive(Debug, Args)]
pub struct ImportArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    text: TextArgs,
}

impl ImportArgs {
    /// Imports and prints.
    pub fn run(mut self, output: Output) -> Outcome {
        let mut touched = Touched::default();
        self.text.touch(&mut touched);
        self.model.protect(touched)?;
        let source = self.model.source()?;
        let text = self.text.write(&source.graph)?;
        let mut object = json!({ "format": source.format.name(), "nodes": source.graph.len() });
        if let Some(text) = &text {
            object["text"] = json!(text);
        }
        output.write(&object, || {
            text.unwrap_or_else(|| {
                facts([("graph", format!("@{}", source.graph.name())), ("nodes", source.graph.len().to_string())])
            })
        })
    }
}
