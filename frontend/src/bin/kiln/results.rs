//! What a run gives: arrays to a file, a table for people, the best classes of a classifier.

use std::path::PathBuf;

use clap::Args;
use kiln::classify::{Scored, top_k};
use kiln::files::{labels, npz};
use kiln_ir::Tensor;
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome};
use crate::output::{Output, number, table, tensor_type};
use crate::touched::Touched;
use crate::values;

/// What to do with the outputs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Outputs")]
pub struct ResultArgs {
    /// Write the outputs to a NumPy archive, by name
    #[arg(long, value_name = "OUT.npz", value_parser = values::output_file())]
    pub outputs: Option<PathBuf>,
    /// Show the K best classes of every row of the output
    #[arg(long, value_name = "K", value_parser = values::at_least_one, allow_negative_numbers = true)]
    top_k: Option<usize>,
    /// Class names, one a line
    #[arg(long, value_name = "FILE", requires = "top_k")]
    labels: Option<PathBuf>,
    /// The output that --top-k looks at; without it, the model's only one
    #[arg(long, value_name = "NAME", requires = "top_k")]
    scores: Option<String>,
}

/// Elements of an output that are shown.
const SHOWN: usize = 6;

impl ResultArgs {
    /// Counts the files that are read and written.
    pub fn touch(&self, touched: &mut Touched) {
        touched.reads("the file of --labels", &self.labels);
        touched.writes("--outputs", &self.outputs);
    }

    /// Writes the file that was asked for, then reports.
    pub fn report(&self, results: &[(String, Tensor)], output: Output) -> Outcome {
        let best = self.best(results)?;
        if let Some(path) = &self.outputs {
            npz::write(path, results.iter().map(|(name, tensor)| (name.as_str(), tensor)))?;
        }
        let mut object = json!({ "outputs": results.iter().map(|(name, t)| output_json(name, t)).collect::<Vec<_>>() });
        if let Some(rows) = &best {
            object["top_k"] = rows.iter().map(|row| row.iter().map(Class::json).collect::<Value>()).collect();
        }
        output.write(&object, || match &best {
            Some(rows) => classes_text(rows),
            None => outputs_text(results),
        })
    }

    /// The best classes of every row, where they were asked for.
    fn best(&self, results: &[(String, Tensor)]) -> Outcome<Option<Vec<Vec<Class>>>> {
        let Some(k) = self.top_k else { return Ok(None) };
        let names = || results.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let scores = match (&self.scores, results) {
            (Some(name), _) => results.iter().find(|(n, _)| n == name).map(|(_, tensor)| tensor).ok_or_else(|| {
                Failure::Usage(format!("--scores {name}: no such output; the outputs are {}", names()))
            })?,
            (None, [(_, only)]) => only,
            (None, _) => {
                return Err(Failure::Usage(format!("--top-k: which output? Add --scores with one of {}", names())));
            }
        };
        let labels = match &self.labels {
            Some(path) => labels::read(path)?,
            None => Vec::new(),
        };
        let named = |Scored { class, score }| Class { class, score, label: labels.get(class).cloned() };
        Ok(Some(top_k(scores, k).into_iter().map(|row| row.into_iter().map(named).collect()).collect()))
    }
}

/// A class of a classifier.
struct Class {
    class: usize,
    score: f64,
    label: Option<String>,
}

impl Class {
    fn json(&self) -> Value {
        json!({ "class": self.class, "score": number(self.score), "label": self.label })
    }
}

fn output_json(name: &str, tensor: &Tensor) -> Value {
    json!({ "name": name, "dtype": tensor.dtype().name(), "dims": tensor.dims() })
}

fn classes_text(rows: &[Vec<Class>]) -> String {
    let labelled = rows.iter().flatten().any(|c| c.label.is_some());
    let headings = [">row", ">class", ">score", "label"];
    let columns = if labelled { headings.len() } else { headings.len() - 1 };
    let mut table = table(headings.get(..columns).unwrap_or(&headings));
    for (index, row) in rows.iter().enumerate() {
        table.add_rows(row.iter().map(|c| {
            let label = c.label.clone().unwrap_or_default();
            [index.to_string(), c.class.to_string(), format!("{:.6}", c.score), label].into_iter().take(columns)
        }));
    }
    table.to_string()
}

fn outputs_text(results: &[(String, Tensor)]) -> String {
    let mut table = table(&["output", "type", "values"]);
    table.add_rows(results.iter().map(|(name, t)| [name.clone(), tensor_type(t.dtype(), t.dims()), first_values(t)]));
    table.to_string()
}

/// The first elements of a tensor, in row-major order.
fn first_values(tensor: &Tensor) -> String {
    let mut text: Vec<String> = tensor
        .span(0, SHOWN)
        .to_f64_vec()
        .into_iter()
        .map(|v| if tensor.dtype().is_float() { format!("{v:.6}") } else { v.to_string() })
        .collect();
    if tensor.len() > SHOWN {
        text.push("…".to_owned());
    }
    text.join(" ")
}
