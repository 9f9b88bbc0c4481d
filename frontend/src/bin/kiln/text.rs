//! Graph text and the weights beside it, to files or stdout.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use kiln::files::safetensors::{self, Contents};
use kiln::files::{FileError, write_atomically};
use kiln_ir::Graph;
use kiln_ir::text::{PrintOptions, WeightStore, print_into};

use crate::failure::Outcome;
use crate::touched::Touched;
use crate::values;

/// Where graph text goes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Graph text")]
pub struct TextArgs {
    /// Write the text to a file
    #[arg(short, long, value_name = "OUT.kiln", value_parser = values::output_file())]
    output: Option<PathBuf>,
    /// Write the tensors that the text names by content id; read them back with --weights
    #[arg(long, value_name = "OUT.safetensors", value_parser = values::output_file())]
    save_weights: Option<PathBuf>,
    /// Print where each node comes from
    #[arg(long)]
    locations: bool,
    #[arg(
        long,
        value_name = "N",
        value_parser = values::whole::<usize>,
        allow_negative_numbers = true,
        help = format!(
            "Print constants of at most this many elements; larger ones by content id [default: {}]",
            PrintOptions::default().elements
        )
    )]
    elements: Option<usize>,
}

impl TextArgs {
    /// Counts the files that are written.
    pub fn touch(&self, touched: &mut Touched) {
        touched.writes("--output", &self.output);
        touched.writes("--save-weights", &self.save_weights);
    }

    /// The first option on the command line that says how a graph is written, for what is no graph text.
    pub fn given(&self) -> Option<&'static str> {
        let options = [
            ("--save-weights", self.save_weights.is_some()),
            ("--locations", self.locations),
            ("--elements", self.elements.is_some()),
        ];
        options.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }

    /// The graph's text, after writing the files that were asked for. `None` where the text is in a file.
    pub fn write(&self, graph: &Graph) -> Outcome<Option<String>> {
        let mut weights = WeightStore::new();
        let elements = self.elements.unwrap_or(PrintOptions::default().elements);
        let options = PrintOptions { locations: self.locations, elements };
        let text = print_into(graph, &options, &mut weights);
        if let Some(path) = &self.save_weights {
            let mut contents = Contents::default();
            contents.tensors.extend(weights.iter().map(|(id, tensor)| (id.to_hex().to_string(), tensor.clone())));
            safetensors::write(path, &contents)?;
        }
        self.write_text(&text)
    }

    /// Writes `text` to the file that was asked for; gives it back where there is none.
    pub fn write_text(&self, text: &str) -> Outcome<Option<String>> {
        let Some(path) = &self.output else { return Ok(Some(text.to_owned())) };
        write_atomically(path, |out| {
            out.write_all(text.as_bytes()).map_err(|source| FileError::Write { path: path.clone(), source })
        })?;
        Ok(None)
    }
}
