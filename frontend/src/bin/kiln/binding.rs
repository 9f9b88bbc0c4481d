//! What a graph needs beside its file: extents and weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use kiln::files::npz::{self, Arrays};
use kiln::files::safetensors;
use kiln::onnx::{self, ImportOptions};
use kiln_ir::text::{WeightStore, parse_with};
use kiln_ir::{Dim, Graph, Initializer};

use crate::failure::{Failure, Outcome};
use crate::model::{Format, Source};
use crate::progress::spinning;
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
    /// Weights: tensors that graph text names by content id, and values of variables by name (repeatable)
    #[arg(long, value_name = "FILE.{safetensors,npz}")]
    weights: Vec<PathBuf>,
}

impl BindingArgs {
    /// Refuses options that need a graph.
    pub fn refuse_for_artifact(&self) -> Outcome {
        let given = [
            ("--dim", self.dims.is_empty()),
            ("--shape", self.shapes.is_empty()),
            ("--weights", self.weights.is_empty()),
        ];
        match given.iter().find(|(_, absent)| !absent) {
            None => Ok(()),
            Some((option, _)) => Err(Failure::Usage(format!(
                "{option} does not go with an artifact, whose extents and weights are fixed: compile the model again with it"
            ))),
        }
    }

    /// Imports an ONNX model.
    pub fn import(&self, path: &Path) -> Outcome<Source> {
        let options = ImportOptions { dims: self.dims()?, shapes: unique(&self.shapes, "--shape")? };
        let mut graph = spinning("importing", || onnx::import(path, &options))?.graph;
        load_variables(&mut graph, &self.tensors()?)?;
        // Import has bound all dims.
        Ok(Source { graph, format: Format::Onnx, dims: BTreeMap::new() })
    }

    /// Parses graph text.
    pub fn parse(&self, text: &str, name: &str) -> Outcome<Source> {
        let (tensors, mut store) = (self.tensors()?, WeightStore::new());
        for tensor in tensors.values() {
            store.insert(tensor.clone());
        }
        let mut graph = parse_with(text, name, &|id| store.get(id).cloned())?;
        load_variables(&mut graph, &tensors)?;
        let mut dims = self.dims()?;
        self.bind_shapes(&graph, &mut dims)?;
        let known = graph.symbols();
        if let Some(unknown) = dims.keys().find(|name| !known.contains(name)) {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Failure::Usage(format!("--dim {unknown}: the graph has no such named extent; it has {known}")));
        }
        Ok(Source { graph, format: Format::Text, dims })
    }

    /// The tensors of all weight files, by name; a later file replaces those of an earlier one.
    fn tensors(&self) -> Outcome<Arrays> {
        let mut all = Arrays::new();
        for path in &self.weights {
            let archive = path.extension().is_some_and(|e| e == "npz");
            all.extend(if archive { npz::read(path)? } else { safetensors::read(path)?.tensors });
        }
        Ok(all)
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
            let misfit = || Failure::Usage(format!("--shape {input}: {extents:?} does not fit {ty}"));
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
                                "--shape {input}: `{name}` is {extent} here and {other} elsewhere"
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
            return Err(Failure::Usage(format!("{option} {name} is given twice")));
        }
    }
    Ok(map)
}
