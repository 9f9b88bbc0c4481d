//! Programs without Kiln: graphs compiled to object files, linked with C, and run.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kiln::compile::{CompileOptions, compile};
use kiln_codegen::embed::WeightPlace;
use kiln_codegen::native::Target;
use kiln_ir::{Graph, Tensor};
use kiln_passes::Options;

use crate::compare::check_close;
use crate::filetest::{self, Case};

/// Tools that build and run programs for one kind of machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The C compiler and its options.
    pub cc: Vec<String>,
    /// What runs a program, before its name; nothing on this machine.
    pub emulator: Vec<String>,
}

/// What a program gave: the outputs of each run, then the variables after the last, by name.
pub type Results = (Vec<Vec<(String, Tensor)>>, Vec<(String, Tensor)>);

/// Whether `command` can be started.
pub fn exists(command: &str) -> bool {
    Command::new(command).arg("--version").output().is_ok_and(|out| out.status.success())
}

impl Machine {
    /// This one.
    pub fn here() -> Machine {
        Machine { cc: vec!["cc".to_owned()], emulator: Vec::new() }
    }

    /// A 64-bit Arm, emulated. Programs are linked statically, so that they need no libraries of that machine.
    pub fn aarch64() -> Machine {
        Machine {
            cc: ["aarch64-linux-gnu-gcc", "-static"].map(str::to_owned).into(),
            emulator: vec!["qemu-aarch64".to_owned()],
        }
    }

    /// An x86-64 with the features of the CPU that QEMU calls `cpu`.
    pub fn x86_64(cpu: &str) -> Machine {
        let emulator = ["qemu-x86_64", "-cpu", cpu].map(str::to_owned).into();
        Machine { cc: ["cc", "-static"].map(str::to_owned).into(), emulator }
    }

    /// The tool that is not installed, if there is one.
    pub fn missing(&self) -> Option<&str> {
        [&self.cc, &self.emulator].into_iter().filter_map(|c| c.first()).find(|c| !exists(c)).map(String::as_str)
    }

    /// This machine; `None`, with a message, where a tool is not installed.
    pub fn installed(self) -> Option<Machine> {
        if let Some(tool) = self.missing() {
            println!("skipped: `{tool}` is not installed");
            return None;
        }
        Some(self)
    }

    /// Runs the C compiler.
    pub fn cc<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<(), String> {
        let mut command = Command::new(&self.cc[0]);
        output(command.args(&self.cc[1..]).args(arguments)).map(drop)
    }

    /// Runs a program and gives what it printed.
    pub fn run<A: AsRef<OsStr>>(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String, String> {
        let mut line = self.emulator.iter().map(|s| OsStr::new(s.as_str())).chain([program.as_os_str()]);
        let mut command = Command::new(line.next().unwrap_or_default());
        output(command.args(line).args(arguments))
    }
}

/// What a command prints. The error is what it prints to stderr.
fn output(command: &mut Command) -> Result<String, String> {
    let out = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if out.status.success() {
        return Ok(text(&out.stdout));
    }
    Err(format!("{command:?}: {}\n{}{}", out.status, text(&out.stdout), text(&out.stderr)))
}

/// The C sources of the tests.
pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/embedding").join(name)
}

/// Writes `NAME.o`, `NAME.h` and, where weights are a file, `NAME.weights` of `graph` to `folder`.
pub fn emit(
    graph: &Graph,
    target: &Target,
    passes: &Options,
    place: WeightPlace,
    name: &str,
    folder: &Path,
) -> Result<Layout, String> {
    let options = CompileOptions {
        target: Some(target.clone()),
        passes: passes.clone(),
        threads: Some(1),
        ..CompileOptions::default()
    };
    let compiled = compile(graph, &options).map_err(|e| e.to_string())?;
    let embedding = compiled.embedding(name, place).map_err(|e| e.to_string())?;
    let mut object = Vec::new();
    embedding.write_object(&mut object).map_err(|e| e.to_string())?;
    let write = |extension: &str, bytes: &[u8]| {
        fs::write(folder.join(format!("{name}.{extension}")), bytes).map_err(|e| e.to_string())
    };
    write("o", &object)?;
    write("h", embedding.header().as_bytes())?;
    if place == WeightPlace::File {
        let mut weights = Vec::new();
        embedding.write_weights(&mut weights).map_err(|e| e.to_string())?;
        write("weights", &weights)?;
    }
    let variables = compiled.plan().states.iter().zip(embedding.variable_offsets());
    Ok(Layout {
        arena: embedding.arena_bytes(),
        outputs: compiled.plan().signature.outputs.clone(),
        variables: variables.map(|(state, &offset)| (state.spec.clone(), offset)).collect(),
    })
}

/// What a program has to know of an embedded model that it has no header of.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Bytes of the arena.
    pub arena: usize,
    /// Outputs.
    pub outputs: Vec<kiln_runtime::TensorSpec>,
    /// Variables and their offsets in the arena.
    pub variables: Vec<(kiln_runtime::TensorSpec, usize)>,
}

/// Compiles the generic program of `any.c` to `any.o`, or `any_file.o` for weights in a file, in `folder`.
pub fn build_any(machine: &Machine, folder: &Path) -> Result<(), String> {
    for (object, defines) in [("any.o", "-DWEIGHTS_OBJECT"), ("any_file.o", "-DWEIGHTS_FILE")] {
        let arguments =
            ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic", "-c", defines, "-o"].map(OsStr::new);
        machine.cc(arguments.into_iter().chain([folder.join(object).as_os_str(), source("any.c").as_os_str()]))?;
    }
    Ok(())
}

/// Links `graph`, compiled for `target`, with the program that [`build_any`] has left in `folder`, and runs it on `inputs`.
pub fn run(
    graph: &Graph,
    inputs: &[(String, Tensor)],
    runs: usize,
    target: &Target,
    (passes, place): (&Options, WeightPlace),
    machine: &Machine,
    folder: &Path,
) -> Result<Results, String> {
    let layout = emit(graph, target, passes, place, "net", folder)?;
    let at = |name: &str| folder.join(name);
    let any = if place == WeightPlace::File { "any_file.o" } else { "any.o" };
    machine.cc([at(any), at("net.o"), "-o".into(), at("program")])?;

    let mut words = vec![layout.arena, inputs.len()];
    words.extend(inputs.iter().map(|(_, tensor)| tensor.bytes().len()));
    let bytes = |spec: &kiln_runtime::TensorSpec| spec.byte_len().unwrap_or_default();
    words.push(layout.outputs.len());
    words.extend(layout.outputs.iter().map(bytes));
    words.push(layout.variables.len());
    words.extend(layout.variables.iter().flat_map(|(spec, offset)| [*offset, bytes(spec)]));
    let mut contents: Vec<u8> = words.iter().flat_map(|&word| (word as u64).to_le_bytes()).collect();
    inputs.iter().for_each(|(_, tensor)| contents.extend_from_slice(tensor.bytes()));
    fs::write(at("inputs"), contents).map_err(|e| e.to_string())?;

    let arguments = [at("inputs"), at("outputs"), runs.to_string().into(), at("net.weights")];
    machine.run(&at("program"), arguments)?;
    let results = fs::read(at("outputs")).map_err(|e| e.to_string())?;
    let mut rest = results.as_slice();
    let mut take = |spec: &kiln_runtime::TensorSpec| -> Result<(String, Tensor), String> {
        let (bytes, after) = rest.split_at_checked(bytes(spec)).ok_or("the program wrote too little")?;
        rest = after;
        let tensor = Tensor::from_bytes(spec.dtype, &spec.dims, bytes.to_vec().into()).map_err(|e| e.to_string())?;
        Ok((spec.name.clone(), tensor))
    };
    let mut tensors = |specs: &mut dyn Iterator<Item = &kiln_runtime::TensorSpec>| specs.map(&mut take).collect();
    let outputs = (0..runs).map(|_| tensors(&mut layout.outputs.iter())).collect::<Result<_, String>>()?;
    let variables = tensors(&mut layout.variables.iter().map(|(spec, _)| spec))?;
    Ok((outputs, variables))
}

/// What is wrong with the outputs of the graphs in `filetests/run` on `machine`, their weights in the two places by turns. `also` checks
/// more than that a case has what it expects.
pub fn run_filetests(
    machine: &Machine,
    target: &Target,
    places: [WeightPlace; 2],
    also: impl Fn(&Graph, &Case, &[(String, Tensor)]) -> Result<(), String>,
) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    build_any(machine, folder.path()).expect("the generic program compiles");
    let mut problems = Vec::new();
    for (path, place) in filetest::files(&filetest::root().join("run")).into_iter().zip(places.into_iter().cycle()) {
        let (graph, cases) = filetest::cases(&path).expect("a filetest");
        for case in cases {
            let how = (&Options::default(), place);
            let result = run(&graph, &case.feeds, 1, target, how, machine, folder.path()).and_then(|(outputs, _)| {
                check_close(&case.expected, &outputs[0], &case.tolerances)?;
                also(&graph, &case, &outputs[0])
            });
            problems.extend(result.err().map(|e| format!("{}: {e}", path.display())));
        }
    }
    problems
}
