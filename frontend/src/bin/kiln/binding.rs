//! What a graph needs beside its file: extents and weights.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;
use kiln::files::npz::{self, Arrays};
use kiln::files::safetensors;
use kiln::onnx::{self, ImportOptions};
use kiln_ir::text::{WeightStore, parse_with};
use kiln_ir::{Dim, Graph, Initializer, Tensor};

use crate::failure::{Failure, Outcome};
use crate::model::{Format, Source};
use crate::progress::spinning;
use crate::touched::Touched;
use crate::values;

/// What a graph needs beside its file.
#[derive(Debug, Args)]
pub struct BindingArgs {
    /// Bind a named extent (repeatable)
    #[arg(long = "dim", value_name = "NAME=N", value_parser = values::dim)]
    dims: Vec<(String, usize)>,
    /// Bind all extents of an input (repeatable)
    #[arg(long = "shape", value_name = "INPUT=1x3x48x320", value_parser = values::shape)]
    shapes: Vec<(String, Vec<usize>)>,
    /// How many elements an input of an ONNX model has that is a sequence; they become the inputs NAME.0, NAME.1 … (repeatable)
    #[arg(long = "length", value_name = "NAME=N", value_parser = values::dim)]
    lengths: Vec<(String, usize)>,
    /// An optional input of an ONNX model that has no element (repeatable)
    #[arg(long = "absent", value_name = "NAME")]
    absent: Vec<String>,
    /// Weights of graph text: tensors that it names by content id, and values of variables by name (repeatable)
    #[arg(long, value_name = "FILE.{safetensors,npz}")]
    weights: Vec<PathBuf>,
}

impl BindingArgs {
    /// Refuses options that need a graph.
    pub fn refuse_for_artifact(&self) -> Outcome {
        let given = [
            ("--dim", self.dims.is_empty()),
            ("--shape", self.shapes.is_empty()),
            ("--length", self.lengths.is_empty()),
            ("--absent", self.absent.is_empty()),
            ("--weights", self.weights.is_empty()),
        ];
        match given.iter().find(|(_, absent)| !absent) {
            None => Ok(()),
            Some((option, _)) => Err(Failure::Usage(format!(
                "{option} does not go with an artifact, whose extents and weights are fixed: compile the model again with it"
            ))),
        }
    }

    /// Counts the files that are read.
    pub fn touch(&self, touched: &mut Touched) {
        touched.reads("the file of --weights", &self.weights);
    }

    /// Imports an ONNX model; gives also the files beside it that it has its weights in.
    pub fn import(&self, path: &Path) -> Outcome<(Source, Vec<PathBuf>)> {
        if !self.weights.is_empty() {
            return Err(Failure::Usage(format!(
                "--weights is for graph text, and `{}` is an ONNX model, which has its weights: leave it out",
                path.display()
            )));
        }
        let options = ImportOptions {
            dims: self.dims()?,
            shapes: unique(&self.shapes, "--shape")?,
            lengths: unique(&self.lengths, "--length")?,
            absent: self.absent.iter().cloned().collect(),
        };
        let imported = spinning("importing", || onnx::import(path, &options));
        let refused = |e: onnx::ImportError| match e.is_about_options() {
            true => Failure::Usage(e.to_string()),
            false => e.into(),
        };
        let imported = imported.map_err(refused)?;
        // Import has bound all dims.
        let source = Source { graph: imported.graph, format: Format::Onnx, dims: BTreeMap::new() };
        Ok((source, imported.external_data))
    }

    /// Parses graph text.
    pub fn parse(&self, text: &str, name: &str) -> Outcome<Source> {
        let of_onnx = [("--length", self.lengths.is_empty()), ("--absent", self.absent.is_empty())];
        if let Some((option, _)) = of_onnx.iter().find(|(_, absent)| !absent) {
            return Err(Failure::Usage(format!("{option} is for ONNX models: the inputs of graph text are tensors")));
        }
        let (files, mut store) = (self.tensors()?, WeightStore::new());
        for tensor in files.iter().flat_map(|(_, tensors)| tensors.values()) {
            store.insert(tensor.clone());
        }
        let named = RefCell::new(BTreeSet::new());
        let resolve = |id: &blake3::Hash| {
            named.borrow_mut().insert(*id.as_bytes());
            store.get(id).cloned()
        };
        let mut graph = parse_with(text, name, &resolve)?;
        let named = named.into_inner();
        for (path, tensors) in &files {
            let used = |(name, tensor): (&String, &Tensor)| {
                graph.variable(name).is_some() || named.contains(tensor.content_id().as_bytes())
            };
            if !tensors.is_empty() && !tensors.iter().any(used) {
                return Err(Failure::Usage(format!(
                    "--weights {}: the graph has no variable and names no constant that is among its {} tensors; leave it \
                     out, or give the weights of this graph",
                    path.display(),
                    tensors.len()
                )));
            }
        }
        for (_, tensors) in &files {
            load_variables(&mut graph, tensors)?;
        }
        let mut dims = self.dims()?;
        self.bind_shapes(&graph, &mut dims)?;
        let known = graph.symbols();
        if let Some(unknown) = dims.keys().find(|name| !known.contains(name)) {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Failure::Usage(format!("--dim {unknown}: the graph has no such named extent; it has {known}")));
        }
        Ok(Source { graph, format: Format::Text, dims })
    }

    /// The tensors of each weight file, in the order of the command line: later ones replace earlier ones.
    fn tensors(&self) -> Outcome<Vec<(&Path, Arrays)>> {
        let read = |path: &PathBuf| -> Outcome<Arrays> {
            let archive = path.extension().is_some_and(|e| e == "npz");
            Ok(if archive { npz::read(path)? } else { safetensors::read(path)?.tensors })
        };
        self.weights.iter().map(|path| Ok((path.as_path(), read(path)?))).collect()
    }

    fn dims(&self) -> Outcome<BTreeMap<String, usize>> {
        unique(&self.dims, "--dim")
    }

    /// Binds the named extents of the inputs that `--shape` gives.
    fn bind_shapes(&self, graph: &Graph, dims: &mut BTreeMap<String, usize>) -> Outcome {
        for (input, extents) in unique(&self.shapes, "--shape")? {
            let Some((_, ty)) = graph.input_types().find(|(name, _)| *name == input) else {
                let known: Vec<&str> = graph.input_types().map(|(name, _)| name).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Failure::Usage(format!("--shape {input}: no such input; the inputs are {known}")));
            };
            let misfit = || {
                Failure::Usage(format!(
                    "--shape {input}: {extents:?} does not fit {ty}: expected one extent for each, equal where it is a number"
                ))
            };
            if ty.dims.len() != extents.len() {
                return Err(misfit());
            }
            for (dim, &extent) in ty.dims.iter().zip(&extents) {
                match dim {
                    Dim::Fixed(fixed) if *fixed == extent => {}
                    Dim::Fixed(_) => return Err(misfit()),
                    Dim::Symbol(name) => match dims.insert(name.to_string(), extent) {
                        Some(other) if other != extent => {
                            return Err(Failure::Usage(format!(
                                "--shape {input}: `{name}` is {extent} here and {other} elsewhere: give it one value"
                            )));
                        }
                        _ => {}
                    },
                }
            }
        }
        Ok(())
    }
}

/// Gives variables the values that go by their names.
fn load_variables(graph: &mut Graph, tensors: &Arrays) -> Outcome {
    for (name, tensor) in tensors.iter().filter(|(name, _)| graph.variable(name).is_some()).collect::<Vec<_>>() {
        graph.set_initializer(name, Initializer::Value(tensor.clone().into()))?;
    }
    Ok(())
}

/// Pairs as a map; a name that comes twice is wrong usage.
fn unique<T: Clone>(pairs: &[(String, T)], option: &str) -> Outcome<BTreeMap<String, T>> {
    let mut map = BTreeMap::new();
    for (name, value) in pairs {
        if map.insert(name.clone(), value.clone()).is_some() {
            return Err(Failure::Usage(format!("{option} {name} is given twice: keep one")));
        }
    }
    Ok(map)
}
