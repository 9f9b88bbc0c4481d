//! Opening a model: an ONNX file, graph text or an artifact, told apart by what is in it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use kiln::files::FileError;
use kiln_ir::Graph;
use kiln_ir::specialize::{SpecializeError, SpecializeErrors, specialize};
use kiln_runtime::artifact::{self, ArtifactError};

use crate::binding::BindingArgs;
use crate::failure::{Failure, Outcome};
use crate::touched::Touched;

/// Which model, and for which extents.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// The model: an ONNX file, graph text or an artifact, told apart by contents; `-` reads graph text from stdin
    #[arg(value_name = "MODEL")]
    pub path: PathBuf,
    #[command(flatten)]
    pub binding: BindingArgs,
    /// What the command's other options read and write.
    #[arg(skip)]
    touched: Touched,
}

/// How a graph was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An ONNX protobuf.
    Onnx,
    /// Kiln's graph text.
    Text,
    /// The portable half of an artifact.
    Artifact,
}

impl Format {
    /// The name used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Format::Onnx => "onnx",
            Format::Text => "text",
            Format::Artifact => "artifact",
        }
    }
}

/// What a model file holds.
pub enum Model {
    /// A graph to compile.
    Graph(Source),
    /// A compiled model.
    Artifact(PathBuf),
}

/// A graph, and what the command line says about it.
pub struct Source {
    /// The graph.
    pub graph: Graph,
    /// How it was written.
    pub format: Format,
    /// Extents of named dims, to be bound when it is compiled.
    pub dims: BTreeMap<String, usize>,
}

impl Source {
    /// The graph with every dim bound.
    pub fn specialized(&self) -> Outcome<Graph> {
        specialize(&self.graph, &self.dims).map_err(|e| Failure::Work(unbound(&e)))
    }
}

/// What keeps a graph from being specialised, with the options that help.
fn unbound(errors: &SpecializeErrors) -> String {
    let names: Vec<&str> = errors
        .0
        .iter()
        .filter_map(|e| match e {
            SpecializeError::Unbound { name } => Some(name.as_str()),
            _ => None,
        })
        .collect();
    if names.len() < errors.0.len() {
        return errors.to_string();
    }
    let options: Vec<String> = names.iter().map(|name| format!("--dim {name}=4")).collect();
    format!("the extents {} are not bound: give each a number, as in {}", names.join(", "), options.join(" "))
}

impl ModelArgs {
    /// Refuses, before any work, files to write among `touched` that are read, here or by the command's other options; and
    /// from now on those that the model turns out to have its weights in.
    pub fn protect(&mut self, mut touched: Touched) -> Outcome {
        if self.path != Path::new("-") {
            touched.reads("the model", [&self.path]);
        }
        self.binding.touch(&mut touched);
        touched.check()?;
        self.touched = touched;
        Ok(())
    }

    /// Opens the model. An artifact is not read yet.
    pub fn open(&self) -> Outcome<Model> {
        let (path, binding) = (self.path.as_path(), &self.binding);
        if path == Path::new("-") {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map_err(|e| Failure::Work(format!("cannot read stdin: {e}")))?;
            return Ok(Model::Graph(binding.parse(&text, "<stdin>")?));
        }
        match kind_of(path)? {
            Kind::Artifact => {
                binding.refuse_for_artifact()?;
                Ok(Model::Artifact(path.to_owned()))
            }
            Kind::Text => {
                let text = fs::read_to_string(path).map_err(|source| read_error(path, source))?;
                Ok(Model::Graph(binding.parse(&text, &path.display().to_string())?))
            }
            Kind::Onnx => {
                let (source, data) = binding.import(path)?;
                let mut touched = self.touched.clone();
                touched.reads("the model's external data", &data);
                touched.check()?;
                Ok(Model::Graph(source))
            }
        }
    }

    /// The model's graph: of an artifact, the portable half.
    pub fn source(&self) -> Outcome<Source> {
        match self.open()? {
            Model::Graph(source) => Ok(source),
            Model::Artifact(path) => portable_graph(&path),
        }
    }
}

/// The portable half of the artifact at `path`.
pub fn portable_graph(path: &Path) -> Outcome<Source> {
    let model = artifact::read_portable(&artifact::read_file(path)?).map_err(of_file(path))?;
    Ok(Source { graph: model.graph, format: Format::Artifact, dims: BTreeMap::new() })
}

/// Names the artifact that an error is about.
pub fn of_file(path: &Path) -> impl Fn(ArtifactError) -> Failure {
    move |error| match error {
        ArtifactError::Io { .. } => error.into(),
        other => Failure::Work(format!("`{}`: {other}", path.display())),
    }
}

fn read_error(path: &Path, source: io::Error) -> Failure {
    FileError::Read { path: path.to_owned(), source }.into()
}

/// What kind of model a file is.
enum Kind {
    Artifact,
    Text,
    Onnx,
}

/// Bytes looked at to tell what a file is: more than the comments before the first word of a text are likely to take.
const HEAD: u64 = 64 << 10;

fn kind_of(path: &Path) -> Outcome<Kind> {
    let mut head = Vec::new();
    let file = File::open(path).map_err(|source| read_error(path, source))?;
    file.take(HEAD).read_to_end(&mut head).map_err(|source| read_error(path, source))?;
    if artifact::is_artifact(&head) {
        return Ok(Kind::Artifact);
    }
    // The head may end inside a character.
    let text = head.utf8_chunks().next().map(|chunk| chunk.valid()).unwrap_or_default();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("//"));
    if line.is_some_and(|line| line.split_whitespace().next() == Some("kiln")) {
        return Ok(Kind::Text);
    }
    // A protobuf has no magic number; a model's first field is nearly always its version, field 1, a varint.
    if path.extension().is_some_and(|e| e == "onnx") || head.first() == Some(&0x08) {
        return Ok(Kind::Onnx);
    }
    Err(Failure::Work(format!(
        "`{}` is no model: expected a Kiln artifact, graph text (its first word is `kiln`) or an ONNX file",
        path.display()
    )))
}
