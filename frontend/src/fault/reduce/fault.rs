//! What makes a graph one that is looked for.

use std::io;
use std::path::Path;
use std::process::{self, Stdio};

use kiln_ir::text::{PrintOptions, WeightStore, print_into};
use kiln_ir::{Graph, Tensor};
use kiln_runtime::Signature;

use super::constants::corner;
use crate::fault::trial::{Trial, Verdict};
use crate::files::FileError;
use crate::files::safetensors::{self, Contents};
use crate::measure::MeasureError;

/// The fault that a graph shows in a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its results are wrong.
    WrongResult,
    /// It cannot be compiled or run: the class of the message, see [`class_of`].
    Failure(String),
}

impl Fault {
    /// The fault of `graph` in `trial`, if it has one. Given inputs that the graph has no longer are left out, and of those that it has
    /// with smaller extents the leading corners are taken. An error where the interpreter cannot say what the graph means.
    pub fn of(graph: &Graph, trial: &Trial) -> Result<Option<Fault>, MeasureError> {
        let trial = Trial { given: fitting(&trial.given, &Signature::of(graph)?), ..trial.clone() };
        let reference = trial.reference(graph)?;
        Ok(match trial.judge(graph, &trial.options.passes, &reference) {
            Verdict::Agrees(_) => None,
            Verdict::Differs(_) => Some(Fault::WrongResult),
            Verdict::Fails(error) => Some(Fault::Failure(class_of(&error.to_string()))),
        })
    }

    /// Whether `graph` shows this fault in `trial`. One that means nothing does not.
    pub fn shown_by(&self, graph: &Graph, trial: &Trial) -> bool {
        matches!(Fault::of(graph, trial), Ok(Some(fault)) if fault == *self)
    }
}

/// The inputs that a graph takes, of those given.
pub fn fitting(given: &[(String, Tensor)], signature: &Signature) -> Vec<(String, Tensor)> {
    let fit = |(name, tensor): &(String, Tensor)| {
        let spec = signature.inputs.iter().find(|spec| spec.name == *name && spec.dtype == tensor.dtype())?;
        Some((name.clone(), corner(tensor, &spec.dims)?))
    };
    given.iter().filter_map(fit).collect()
}

/// What a message says beside names, extents and other numbers: its first line without what stands in quotes or brackets,
/// and without digits and places.
pub fn class_of(message: &str) -> String {
    let mut class = String::new();
    let mut chars = message.lines().next().unwrap_or_default().chars();
    while let Some(c) = chars.next() {
        let end = match c {
            '`' => Some('`'),
            '[' => Some(']'),
            '"' => Some('"'),
            _ => None,
        };
        if let Some(end) = end {
            // What is not closed is text.
            let rest = chars.as_str();
            if let Some(at) = rest.find(end) {
                chars = rest[at + end.len_utf8()..].chars();
                class.push('_');
                continue;
            }
        }
        match c {
            '0'..='9' => {
                if !class.ends_with('#') {
                    class.push('#');
                }
            }
            c => class.push(c),
        }
    }
    class
}

/// A command that says whether a graph in a file shows a fault: exit code 0 says yes, as for C-Reduce.
#[derive(Clone, Debug)]
pub struct Command(pub String);

/// Why a command cannot say anything.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It cannot be started.
    #[error("`sh -c {command:?}` cannot be started: {source}")]
    Start {
        /// The command.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// The graph cannot be written to a file.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no folder for the graph's file.
    #[error("no temporary folder can be made: {0}")]
    Folder(io::Error),
}

impl Command {
    /// What stands for the graph's file.
    pub const GRAPH: &'static str = "{}";
    /// What stands for the file of the tensors that the graph's text names by content id.
    pub const WEIGHTS: &'static str = "{weights}";

    /// Runs the command on `graph`, by `sh`, in this folder. What it prints is not shown.
    pub fn accepts(&self, graph: &Graph) -> Result<bool, CommandError> {
        let folder = tempfile::tempdir().map_err(CommandError::Folder)?;
        let (text, weights) = (folder.path().join("graph.kiln"), folder.path().join("weights.safetensors"));
        write(graph, &text, &weights)?;
        let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', "'\\''"));
        let line = self.0.replace(Self::WEIGHTS, &quoted(&weights)).replace(Self::GRAPH, &quoted(&text));
        let mut command = process::Command::new("sh");
        command.args(["-c", &line]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().map_err(|source| CommandError::Start { command: line.clone(), source })?;
        Ok(status.success())
    }
}

fn write(graph: &Graph, text: &Path, weights: &Path) -> Result<(), CommandError> {
    let mut store = WeightStore::new();
    let printed = print_into(graph, &PrintOptions::default(), &mut store);
    std::fs::write(text, printed).map_err(|source| FileError::Write { path: text.to_owned(), source })?;
    let mut contents = Contents::default();
    contents.tensors.extend(store.iter().map(|(id, tensor)| (id.to_hex().to_string(), tensor.clone())));
    Ok(safetensors::write(weights, &contents)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_say_the_same_of_other_names_are_of_one_class() {
        let class = class_of("m.kiln:3:7: `conv` cannot take (f32[1, 3], f32[4]): 2 operands\nmore");
        assert_eq!(class, "m.kiln:#:#: _ cannot take (f#_, f#_): # operands");
        assert_eq!(class, class_of("m.kiln:12:1: `dot` cannot take (f64[9], f16[]): 17 operands"));
        assert_ne!(class_of("rule `a` made a mess"), class_of("pass `a` made a mess"));
        assert_eq!(class_of("an open ` quote"), "an open ` quote");
    }
}
