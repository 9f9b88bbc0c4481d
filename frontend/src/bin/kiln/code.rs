//! Options about machine code: by which back end, and with which algorithms.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use kiln::compile::CompileOptions;
use kiln::tune::{Circumstances, Database};
use kiln_codegen::native::{Backend, Target};
use kiln_codegen::tuning::{Choices, Decision};

use crate::engine::{available_threads, threads};
use crate::failure::{Failure, Outcome};
use crate::output::note;
use crate::passes::PassArgs;
use crate::touched::Touched;

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

/// Which measurements count, for commands that do not run what they compile: those that do have `--threads`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Code generation")]
pub struct TuningThreads {
    /// Use the measurements of --tuning that were made on N threads, for a model that will run on as many; all cores where it is not
    /// given
    #[arg(long, value_name = "N", value_parser = threads, allow_negative_numbers = true, requires = "tuning")]
    tuning_threads: Option<usize>,
}

impl TuningThreads {
    /// The number.
    pub fn count(&self) -> usize {
        self.tuning_threads.unwrap_or_else(available_threads)
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
    /// Counts the files that are read.
    pub fn touch(&self, touched: &mut Touched) {
        touched.reads("the database of --tuning", &self.tuning);
    }

    /// The first of these options that the command line has, for whoever has no use for them.
    pub fn given(&self) -> Option<&'static str> {
        let options =
            [("--backend", self.backend.is_some()), ("--exact", self.exact), ("--tuning", self.tuning.is_some())];
        options.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }

    /// How to compile for `target` and for `threads` threads of this machine.
    pub fn options(&self, target: Target, threads: usize, passes: &PassArgs) -> Outcome<CompileOptions> {
        Ok(CompileOptions {
            passes: passes.options(),
            choices: self.choices(&target, threads)?,
            target: Some(target),
            exact: self.exact,
            ..CompileOptions::default()
        })
    }

    /// What the tuning database knows about layers of code for `target` that runs on this machine with `threads` threads.
    pub fn choices(&self, target: &Target, threads: usize) -> Outcome<Arc<Choices>> {
        let Some(path) = &self.tuning else { return Ok(Arc::default()) };
        let circumstances = Circumstances::here(target, threads, self.exact);
        let choices = Database::read(path)?.choices(&circumstances);
        if choices.is_empty() {
            let Circumstances { cpu, target, threads, exact } = circumstances;
            let how = if exact { " and --exact" } else { "" };
            note(format_args!(
                "note: `{}` has no measurements of code for {target} on {cpu} with {threads} thread(s){how}, so every layer is estimated; \
                 `kiln tune MODEL -o {}` makes them",
                path.display(),
                path.display()
            ));
        }
        Ok(Arc::new(choices))
    }

    /// Says how many layers of a compiled model the database does not know, or knows only by ways that they do not have. Where it
    /// knows none at all, that has been said already.
    pub fn note_estimated(&self, choices: &Choices, decisions: &[Decision]) {
        let Some(path) = self.tuning.as_ref().filter(|_| !choices.is_empty()) else { return };
        let layers: BTreeMap<&str, &Decision> = decisions.iter().map(|d| (d.layer.as_str(), d)).collect();
        let count = |wanted: &dyn Fn(&Decision) -> bool| layers.values().filter(|d| wanted(d)).count();
        let foreign = count(&|d| d.passed_over.is_some());
        let unknown = count(&|d| d.choice.is_none()) - foreign;
        let (of, path) = (layers.len(), path.display());
        for (n, why) in [(unknown, "it has no measurements"), (foreign, "the way it has is none of theirs")] {
            if n > 0 {
                note(format_args!(
                    "note: `{path}`: of {n} of the model's {of} layers {why}, so they are estimated; `kiln tune MODEL -o {path}` \
                     measures them"
                ));
            }
        }
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
