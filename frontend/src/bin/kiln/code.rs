//! Options about machine code: by which back end, and with which algorithms.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use kiln::tune::{Circumstances, Database, cpu_name};
use kiln_codegen::native::{Backend, Target};
use kiln_codegen::tuning::Choices;

use crate::engine::{available_threads, threads};
use crate::failure::{Failure, Outcome};

/// How kernels become machine code.
#[derive(Debug, Args)]
#[command(next_help_heading = "Code generation")]
pub struct CodeArgs {
    /// What makes machine code: the fastest back end that the target has, where this is not given
    #[arg(long, value_enum, value_name = "BACKEND")]
    backend: Option<BackendName>,
    /// Use only algorithms that multiply what the graph multiplies: no Winograd convolutions
    #[arg(long)]
    pub exact: bool,
    /// Compute layers the way that `kiln tune` found to be the fastest on this machine; all others are estimated
    #[arg(long, value_name = "DATABASE.json")]
    pub tuning: Option<PathBuf>,
}

/// How many threads the model is compiled for.
#[derive(Debug, Args)]
#[command(next_help_heading = "Code generation")]
pub struct ThreadsArgs {
    /// Threads that the model will run on, which decides the measurements of --tuning that count; all cores where it is not given
    #[arg(long, value_name = "N", value_parser = threads, requires = "tuning")]
    threads: Option<usize>,
}

impl ThreadsArgs {
    /// The number.
    pub fn count(&self) -> usize {
        self.threads.unwrap_or_else(available_threads)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BackendName {
    /// 128-bit vectors, every target
    Cranelift,
    /// 256-bit vectors on x86-64-v3, 512-bit vectors on x86-64-v4
    Wide,
}

impl CodeArgs {
    /// The first of these options that the command line has, for whoever has no use for them.
    pub fn given(&self) -> Option<&'static str> {
        let options =
            [("--backend", self.backend.is_some()), ("--exact", self.exact), ("--tuning", self.tuning.is_some())];
        options.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }

    /// What the tuning database knows about layers of code for `target` that runs on this machine with `threads` threads.
    pub fn choices(&self, target: &Target, threads: usize) -> Outcome<Arc<Choices>> {
        let Some(path) = &self.tuning else { return Ok(Arc::default()) };
        let circumstances = Circumstances { cpu: cpu_name(), target: target.to_string(), threads };
        let choices = Database::read(path)?.choices(&circumstances);
        if choices.is_empty() {
            let Circumstances { cpu, target, threads } = circumstances;
            eprintln!(
                "note: `{}` has no measurements of code for {target} on {cpu} with {threads} thread(s), so every layer is estimated; \
                 `kiln tune MODEL -o {}` makes them",
                path.display(),
                path.display()
            );
        }
        Ok(Arc::new(choices))
    }

    /// The target of a name, with the back end that was asked for.
    pub fn target(&self, name: &str) -> Outcome<Target> {
        let target = Target::named(name).map_err(|e| Failure::Usage(e.to_string()))?;
        match self.backend {
            None => Ok(target),
            Some(BackendName::Cranelift) => Ok(target.portable()),
            Some(BackendName::Wide) if target.backend() == Backend::Wide => Ok(target),
            Some(BackendName::Wide) => Err(Failure::Usage(format!(
                "the wide back end makes code for x86-64-v3 and x86-64-v4 on systems with the System V calling convention, \
                 not for {target}: choose --target x86-64-v3 or x86-64-v4, or leave out --backend"
            ))),
        }
    }
}
