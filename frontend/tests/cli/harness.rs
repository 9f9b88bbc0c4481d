//! Running the command in a directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kiln::files::npz;
use kiln::files::safetensors::{self, Contents};
use kiln_ir::text::{PrintOptions, WeightStore, print_into};
use kiln_ir::{Graph, Tensor};
use serde_json::Value;

/// A temporary directory in which the command runs.
pub struct Place(tempfile::TempDir);

/// How a run of the command ended.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// The same, which must have succeeded.
    #[track_caller]
    pub fn ok(self) -> Run {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// The same, which must have failed with `code` and a first line of stderr that begins with `error: ` and contains
    /// every one of `parts`.
    #[track_caller]
    pub fn fails(self, code: i32, parts: &[&str]) -> Run {
        assert_eq!(self.code, Some(code), "{self:?}");
        let first = self.stderr.lines().next().unwrap_or_default();
        assert!(first.starts_with("error: "), "first line of stderr: {first}");
        for part in parts {
            assert!(first.contains(part), "`{part}` is not in the first line of stderr: {first}");
        }
        self
    }

    /// Stdout as one JSON object.
    #[track_caller]
    pub fn json(&self) -> Value {
        let value: Value = serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e} in {}", self.stdout));
        assert!(value.is_object(), "{value}");
        value
    }
}

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().expect("a temporary directory"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs `kiln` with arguments separated by blanks.
    pub fn kiln(&self, arguments: &str) -> Run {
        self.run(Command::new(env!("CARGO_BIN_EXE_kiln")).args(arguments.split_whitespace()))
    }

    pub fn run(&self, command: &mut Command) -> Run {
        let Output { status, stdout, stderr } =
            command.current_dir(self.0.path()).output().expect("the command starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Run { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.path(name), contents).expect("a file written");
    }

    pub fn write_npz(&self, name: &str, arrays: &[(&str, Tensor)]) {
        npz::write(&self.path(name), arrays.iter().map(|(n, t)| (*n, t))).expect("an archive written");
    }

    pub fn read_npz(&self, name: &str) -> npz::Arrays {
        npz::read(&self.path(name)).expect("an archive")
    }

    /// Writes a graph as text, and its weights beside it.
    pub fn write_graph(&self, text: &str, weights: &str, graph: &Graph) {
        let mut store = WeightStore::new();
        self.write(text, print_into(graph, &PrintOptions::default(), &mut store));
        let mut contents = Contents::default();
        contents.tensors.extend(store.iter().map(|(id, tensor)| (id.to_hex().to_string(), tensor.clone())));
        safetensors::write(&self.path(weights), &contents).expect("weights written");
    }

    /// Writes the digits network as `digits.kiln` and `digits.safetensors`, and one digit as `digit.npz`.
    pub fn with_digits() -> Place {
        let place = Place::new();
        place.write_graph("digits.kiln", "digits.safetensors", &kiln::digits::graph().expect("the embedded network"));
        place.write_npz("digit.npz", &[("image", digit(4))]);
        place
    }

    /// Names in the directory, hidden ones too.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).expect("the directory");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }
}

/// The first embedded digit that is a `digit`, as the network's input.
pub fn digit(digit: u8) -> Tensor {
    let samples = kiln::digits::samples().expect("the embedded digits");
    samples.iter().find(|s| s.digit == digit).expect("a sample").tensor().expect("a tensor")
}

/// The values of an f32 array.
pub fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.to_vec().expect("f32")
}

/// A small graph that every part of Kiln knows.
pub const DOUBLE: &str = "kiln 1
graph @double(%x: f32[n, 3]) -> (%y: f32[n, 3]) {
  %y = add %x, %x : f32[n, 3]
}
";

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
