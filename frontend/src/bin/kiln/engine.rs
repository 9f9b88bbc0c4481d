//! From a model on the command line to something that runs.

use std::cell::Cell;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use kiln::compile::{CompileError, CompileOptions, compile};
use kiln::measure::milliseconds;
use kiln_ir::Graph;
use kiln_runtime::artifact::{self, Digests, PortableCompiler, PortableModel};
use kiln_runtime::pool::MOST_THREADS;
use kiln_runtime::{Executable, Executor, PoolHandle};

use crate::code::CodeArgs;
use crate::failure::{Failure, Outcome};
use crate::model::{Model, ModelArgs, of_file};
use crate::native;
use crate::output::note;
use crate::passes::PassArgs;
use crate::progress::spinning;
use crate::touched::Touched;

/// How a model is made to run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Execution")]
pub struct EngineArgs {
    /// Threads to run on; all cores where it is not given
    #[arg(long, value_name = "N", value_parser = threads, allow_negative_numbers = true)]
    threads: Option<usize>,
    /// Run no machine code of an artifact: verify its portable graph and compile it here. For files from elsewhere
    #[arg(long)]
    portable: bool,
    /// Compare an artifact's weights with their digests first, which reads all of them
    #[arg(long)]
    verify_weights: bool,
    #[command(flatten)]
    code: CodeArgs,
    #[command(flatten)]
    passes: PassArgs,
}

/// A model ready to run.
pub struct Engine {
    /// The program.
    pub executable: Arc<Executable>,
    /// Milliseconds to read the model: to import or parse it, or to load an artifact.
    pub load_ms: f64,
    /// Milliseconds to compile it; 0 for native code out of an artifact.
    pub compile_ms: f64,
}

impl EngineArgs {
    /// Counts the files that are read.
    pub fn touch(&self, touched: &mut Touched) {
        self.code.touch(touched);
    }

    /// Opens and, where need be, compiles the model.
    pub fn load(&self, model: &ModelArgs) -> Outcome<Engine> {
        let start = Instant::now();
        match model.open()? {
            Model::Graph(_) if self.verify_weights => Err(Failure::Usage(format!(
                "--verify-weights is for artifacts, and `{}` is none: it has no digests to compare with; leave it out",
                model.path.display()
            ))),
            Model::Graph(source) => {
                let load_ms = milliseconds(start.elapsed());
                let start = Instant::now();
                let (graph, options) = (source.specialized()?, self.options()?);
                let executable = self.compiled(&graph, &options)?;
                Ok(Engine { executable, load_ms, compile_ms: milliseconds(start.elapsed()) })
            }
            Model::Artifact(path) => {
                if !self.portable {
                    self.refuse_compilation_of_native(&path)?;
                }
                let compiler = Timed { engine: self, options: self.options()?, time: Cell::default() };
                let executable = if self.portable {
                    // The portable half has a digest for each weight, and they are always compared.
                    artifact::load(&artifact::read_file(&path)?, &compiler).map_err(of_file(&path))?
                } else {
                    let executable = native::load(&path, self.verify_weights, &compiler)?;
                    if !compiler.time.get().is_zero() && has_machine_code(&path)? {
                        note(format_args!(
                            "note: `{}` has no machine code for this CPU, so its graph was compiled here; `kiln inspect` shows \
                             what it has",
                            path.display()
                        ));
                    }
                    executable
                };
                let compile_ms = milliseconds(compiler.time.get());
                Ok(Engine { executable, load_ms: milliseconds(start.elapsed()) - compile_ms, compile_ms })
            }
        }
    }

    fn options(&self) -> Outcome<CompileOptions> {
        self.code.options(self.code.target("host")?, self.threads(), &self.passes)
    }

    fn compiled(&self, graph: &Graph, options: &CompileOptions) -> Result<Arc<Executable>, CompileError> {
        let compiled = spinning("compiling", || compile(graph, options))?;
        self.code.note_estimated(&options.choices, compiled.decisions());
        compiled.executable()
    }

    /// Refuses options of compilation for machine code, which has been through the passes already.
    fn refuse_compilation_of_native(&self, path: &Path) -> Outcome {
        let Some(option) = self.passes.given().or(self.code.given()) else { return Ok(()) };
        if !has_machine_code(path)? {
            return Ok(());
        }
        Err(Failure::Usage(format!(
            "{option} does not go with the machine code of `{}`, which is compiled already: add --portable to compile its \
             graph here",
            path.display()
        )))
    }

    /// An executor of the program on the threads that were asked for.
    pub fn executor(&self, executable: &Arc<Executable>) -> Outcome<Executor> {
        Ok(Executor::new(Arc::clone(executable), PoolHandle::new(self.threads()))?)
    }

    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(available_threads)
    }
}

fn has_machine_code(artifact: &Path) -> Outcome<bool> {
    let summary = artifact::inspect(&artifact::read_file(artifact)?, Digests::Skip).map_err(of_file(artifact))?;
    Ok(!summary.natives.is_empty())
}

/// A compiler that measures itself.
struct Timed<'a> {
    engine: &'a EngineArgs,
    options: CompileOptions,
    time: Cell<Duration>,
}

impl PortableCompiler for Timed<'_> {
    fn compile(&self, model: PortableModel) -> Result<Arc<Executable>, Box<dyn Error + Send + Sync>> {
        let start = Instant::now();
        let result = self.engine.compiled(&model.graph, &self.options);
        self.time.set(start.elapsed());
        Ok(result?)
    }
}

/// A number of threads that a pool may have.
pub fn threads(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (1..=MOST_THREADS).contains(n));
    number.ok_or_else(|| format!("expected a whole number from 1 to {MOST_THREADS}"))
}

/// As many threads as there are cores.
pub fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
