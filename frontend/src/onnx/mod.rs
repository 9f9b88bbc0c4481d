//! ONNX models → [`Graph`].
//!
//! ```text
//! file ──► proto ──► signature: dims bound ──► graph: nodes in order ──► kiln_ir::Graph
//!                                                 │ ops: one handler an operator
//!                                                 │ emit: add a node, or evaluate it where all is known
//! ```
//!
//! Every extent is bound before import, so the graph is static and the arithmetic that models do on
//! shapes is evaluated away. Nothing is ignored: an operator, attribute, input or element type that
//! import does not know is an error, and all that are found are reported together.
//!
//! Operators of the standard domain from opset 7 on are read, with the meaning of the opset that the
//! model states (earlier ones where their meaning is the same). Functions defined in the model are inlined, and so is
//! control flow whose conditions and numbers of steps are known at import: a branch, and a loop step by step. Sequences and
//! optionals are taken apart at import; a sequence among the inputs or outputs is one tensor for each element, `name.0`,
//! `name.1` and so on. [`supported_operators`] lists what is known.

mod attributes;
mod control_flow;
mod declared;
mod emit;
mod error;
mod fold;
mod graph;
mod names;
mod narrow;
mod node;
mod ops;
pub mod proto;
mod signature;
mod tensor;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kiln_ir::Graph;
use prost::Message;

pub use error::{ImportError, NodeError, Problem};
pub use tensor::{ExternalFiles, TensorProtoError, dtype_of, read_held, read_tensor};

use graph::{Importer, opsets, recursive_functions, unsupported_ops};
use proto::ModelProto;

#[cfg(test)]
mod tests;

/// What the model leaves open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Extents of symbolic dims, by name.
    pub dims: BTreeMap<String, usize>,
    /// Whole shapes of inputs, by name. The symbolic dims of such an input are bound by it everywhere.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Numbers of elements of inputs that are sequences, by name. Element `i` of `x` is the graph's input `x.i`, by which its
    /// shape can be given.
    pub lengths: BTreeMap<String, usize>,
    /// Optional inputs that have no element; the others have one.
    pub absent: BTreeSet<String>,
}

/// A model as a graph, with what the file says about itself.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The graph; its metadata are the model's.
    pub graph: Graph,
    /// The model's named strings (`metadata_props`).
    pub metadata: BTreeMap<String, String>,
    /// Version of the standard operator set that the model was written for.
    pub opset: i64,
    /// Version of the file format.
    pub ir_version: i64,
    /// The tool that wrote the model and its version.
    pub producer: String,
    /// The files beside the model that its constants are in, each once, links followed.
    pub external_data: Vec<PathBuf>,
}

/// The operators that import knows, in alphabetical order; those of other domains than the standard one with their domain.
pub fn supported_operators() -> Vec<String> {
    let mut names = ops::names();
    names.extend(control_flow::OPERATORS.map(str::to_owned));
    names.sort_unstable();
    names
}

/// Imports a model file. Tensors in files beside it are found relative to its directory.
pub fn import(path: &Path, options: &ImportOptions) -> Result<Imported, ImportError> {
    let model = read_model(path)?;
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => Path::new(".").to_owned(),
    };
    import_model(&model, &file, &ExternalFiles::new(Some(directory)), options)
}

/// Imports a model from memory; `file` names it in errors and locations. Its constants become views of
/// `bytes`, and it cannot have external data.
pub fn import_bytes(bytes: Bytes, file: &str, options: &ImportOptions) -> Result<Imported, ImportError> {
    import_model(&decode(bytes, file)?, file, &ExternalFiles::new(None), options)
}

/// Reads a model file without importing it: its messages, whose byte fields are views of the file's bytes.
pub fn read_model(path: &Path) -> Result<ModelProto, ImportError> {
    let bytes = fs::read(path).map_err(|source| ImportError::Read { path: path.to_owned(), source })?;
    decode(Bytes::from(bytes), &path.display().to_string())
}

fn decode(bytes: Bytes, file: &str) -> Result<ModelProto, ImportError> {
    ModelProto::decode(bytes).map_err(|source| ImportError::Decode { file: file.to_owned(), source })
}

/// Imports a decoded model; `file` names it in errors and locations.
pub fn import_model(
    model: &ModelProto,
    file: &str,
    files: &ExternalFiles,
    options: &ImportOptions,
) -> Result<Imported, ImportError> {
    let refused = |problems: Vec<Problem>| ImportError::Refused { file: file.to_owned(), problems };
    let Some(proto) = &model.graph else {
        return Err(refused(vec![Problem::Malformed("the model has no graph".to_owned())]));
    };
    let versions = opsets(&model.opset_import);
    let mut problems = unsupported_ops(model, proto, &versions);
    problems.extend(recursive_functions(model));
    problems.extend(names::given_twice(model, proto));
    let inputs = signature::inputs(proto, options, &mut problems);
    if !problems.is_empty() {
        return Err(refused(problems));
    }

    let name = proto.name.as_deref().filter(|n| !n.is_empty()).unwrap_or("main");
    let mut importer = Importer::new(model, files, file, name);
    importer.run(proto, &inputs, &versions);
    let (mut graph, problems) = importer.finish();
    if !problems.is_empty() {
        return Err(refused(problems));
    }

    let metadata: BTreeMap<String, String> = model
        .metadata_props
        .iter()
        .map(|e| (e.key.clone().unwrap_or_default(), e.value.clone().unwrap_or_default()))
        .collect();
    for (key, value) in &metadata {
        graph.set_metadata(key, value);
    }
    let producer = [&model.producer_name, &model.producer_version].map(|p| p.as_deref().unwrap_or_default()).join(" ");
    Ok(Imported {
        graph,
        metadata,
        opset: versions.get("").copied().unwrap_or(1),
        ir_version: model.ir_version.unwrap_or(0),
        producer: producer.trim().to_owned(),
        external_data: files.paths(),
    })
}
