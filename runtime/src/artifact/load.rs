//! Loading the portable half: safe for bytes from anywhere.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kiln_ir::Graph;
use kiln_ir::text::{WeightStore, parse_with};
use kiln_ir::verify::{Stage, verify};

use super::contents::Sections;
use super::error::ArtifactError;
use super::layout::Layout;
use crate::executable::Executable;
use crate::interpreted::Interpreted;
use crate::signature::Signature;

/// The portable half of an artifact: everything a compiler or interpreter needs.
#[derive(Clone, Debug)]
pub struct PortableModel {
    /// Inputs, outputs and metadata, which are the graph's.
    pub signature: Signature,
    /// The graph with its weights. Where a weight is stored as it is, its bytes are the file's.
    pub graph: Graph,
}

/// A compiler, as this crate sees it: it must not depend on one, so whoever has one passes it in.
pub trait PortableCompiler {
    /// Compiles the model for this machine. It comes from an untrusted file: the digests fit, nothing else is known.
    fn compile(&self, model: PortableModel) -> Result<Arc<Executable>, Box<dyn std::error::Error + Send + Sync>>;
}

/// Reads the portable half, comparing every section of it, and every weight, with what was saved.
pub fn read_portable(file: &Bytes) -> Result<PortableModel, ArtifactError> {
    let layout = Layout::parse(file)?;
    let sections = Sections::of(&layout)?;
    let Some((graph, index)) = &sections.portable else {
        let remedy =
            "load its native half on a machine that runs it, or compile the model again with the portable half";
        return Err(ArtifactError::Absent { half: "portable", remedy });
    };
    // The weight section has no digest to compare here: each weight has a content id, and native code's own are not used.
    [&sections.signature, graph, index].into_iter().try_for_each(|section| section.verify(file))?;
    let bytes = sections.weights.bytes(file);
    let mut weights = WeightStore::new();
    for entry in sections.weight_index(index, file)? {
        weights.insert(entry.tensor(&bytes)?);
    }
    let text = Sections::graph(graph, file)?;
    let graph = parse_with(&text, "portable graph", &|id| weights.get(id).cloned())?;
    verify(&graph, Stage::Lowered).map_err(ArtifactError::Verifier)?;
    let signature = sections.signature(file)?;
    let found = Signature::of(&graph).map_err(|e| ArtifactError::damaged("portable graph", e))?;
    if (&found.inputs, &found.outputs) != (&signature.inputs, &signature.outputs) {
        return Err(ArtifactError::damaged("portable graph", "its inputs and outputs are not the signature's"));
    }
    Ok(PortableModel { signature, graph })
}

/// Compiles the portable half with `compiler`.
pub fn load(file: &Bytes, compiler: &dyn PortableCompiler) -> Result<Arc<Executable>, ArtifactError> {
    let model = read_portable(file)?;
    let signature = model.signature.clone();
    let executable = compiler.compile(model).map_err(ArtifactError::Compiler)?;
    if (&executable.signature().inputs, &executable.signature().outputs) != (&signature.inputs, &signature.outputs) {
        let reason = "the compiled program has other inputs or outputs than the portable graph: this is a bug in Kiln";
        return Err(ArtifactError::Compiler(reason.into()));
    }
    Ok(executable)
}

/// Has the reference interpreter run the portable half: no compiler needed, any machine, slow.
pub fn interpret(file: &Bytes) -> Result<Interpreted, ArtifactError> {
    Ok(Interpreted::new(read_portable(file)?))
}

/// Reads a file into memory, for the functions that take bytes. Nothing that happens to the file later matters.
pub fn read_file(path: &Path) -> Result<Bytes, ArtifactError> {
    let bytes = std::fs::read(path);
    bytes.map(Bytes::from).map_err(|source| ArtifactError::Io { action: "read", path: path.to_owned(), source })
}
