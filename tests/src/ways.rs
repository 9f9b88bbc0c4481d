//! All ways of running a graph: compiled with all passes, with none, with all but one, from artifacts. What is compiled is
//! compiled for [`target::chosen`], if there is one.

use std::sync::OnceLock;

use kiln::compile::{ArtifactOptions, CompileOptions, Compiled, Compiler, compile};
use kiln_codegen::native::{Features, Target};
use kiln_ir::{Graph, Tensor};
use kiln_passes::Options;
use kiln_runtime::artifact::{NativeOptions, load, load_native};
use kiln_runtime::{Executable, Executor, PoolHandle};

use crate::target;

/// Results by name, in signature order, or what went wrong.
pub type Outcome = Result<Vec<(String, Tensor)>, String>;

/// A way of running a graph.
#[derive(Clone, Debug)]
pub enum Way {
    /// Optimised as the options say, then interpreted.
    Interpreted(Options),
    /// Compiled, with passes as the options say.
    Compiled(Options),
    /// Compiled by Cranelift, where another back end is faster.
    Cranelift,
    /// Compiled for x86-64-v3, where the target has more.
    X86_64V3,
    /// Compiled without algorithms that multiply other things than the graph.
    Exact,
    /// Compiled, written as an artifact, its machine code loaded again.
    NativeArtifact,
    /// Compiled, written as an artifact, its portable half loaded and compiled again.
    PortableArtifact,
}

impl Way {
    /// Every way: in full, with no pass, and with each pass off. Where a target is chosen, those that depend on it.
    pub fn all() -> Vec<Way> {
        let mut ways = vec![Way::NativeArtifact, Way::PortableArtifact, Way::Exact];
        ways.extend(Way::whatever_the_target());
        ways.extend([Options::default(), Options::none()].map(Way::Compiled));
        ways.extend(kiln_passes::PASSES.iter().map(|p| Way::Compiled(Options::default().without(p.name))));
        ways
    }

    /// The ways that are the same whatever target is chosen; none where one is, for they are tested without a choice.
    pub fn whatever_the_target() -> Vec<Way> {
        match target::chosen() {
            None => vec![Way::Interpreted(Options::default()), Way::Cranelift, Way::X86_64V3],
            Some(_) => Vec::new(),
        }
    }

    /// The graph's results by this way. Variables start as their initialisers say.
    pub fn run(&self, graph: &Graph, feeds: &[(String, Tensor)]) -> Outcome {
        match self {
            Way::Interpreted(options) => {
                let optimized = kiln_passes::optimize(graph, options).map_err(text)?;
                interpret::<f32>(&optimized.graph, feeds)
            }
            Way::Compiled(options) => execute(compiled(graph, options)?.executable().map_err(text)?, feeds),
            Way::Cranelift => {
                let target = Target::host().map_err(text)?.portable();
                let options = CompileOptions { target: Some(target), ..plain() };
                execute(compile(graph, &options).map_err(text)?.executable().map_err(text)?, feeds)
            }
            Way::X86_64V3 => {
                let host = Target::host().map_err(text)?;
                let target = Target::new(host.triple().clone(), host.features().min(Features::V3)).map_err(text)?;
                let options = CompileOptions { target: Some(target), ..plain() };
                execute(compile(graph, &options).map_err(text)?.executable().map_err(text)?, feeds)
            }
            Way::Exact => {
                let options = CompileOptions { exact: true, ..plain() };
                execute(compile(graph, &options).map_err(text)?.executable().map_err(text)?, feeds)
            }
            Way::NativeArtifact => {
                let options = ArtifactOptions { portable: false, native: true };
                let artifact = compiled(graph, &Options::default())?.artifact(&options).map_err(text)?;
                let bytes = artifact.to_bytes().map_err(text)?;
                // SAFETY: the bytes are those that this process has just made of code that it generated.
                let executable = unsafe { load_native(&bytes, NativeOptions::default()) }.map_err(text)?;
                execute(executable, feeds)
            }
            Way::PortableArtifact => {
                let options = ArtifactOptions { portable: true, native: false };
                let artifact = compiled(graph, &Options::default())?.artifact(&options).map_err(text)?;
                let bytes = artifact.to_bytes().map_err(text)?;
                execute(load(&bytes, &Compiler(plain())).map_err(text)?, feeds)
            }
        }
    }
}

/// The graph's results by the reference interpreter in the scalar `S`.
pub fn interpret<S: kiln_ir::interp::Scalar>(graph: &Graph, feeds: &[(String, Tensor)]) -> Outcome {
    let feeds: Vec<(&str, Tensor)> = feeds.iter().map(|(name, t)| (name.as_str(), t.clone())).collect();
    kiln_ir::interp::run::<S>(graph, &feeds, None).map_err(text)
}

/// Everything on, for the chosen target; one thread compiles, for the tests around this one are parallel already.
fn plain() -> CompileOptions {
    CompileOptions { target: target::chosen(), threads: Some(1), ..CompileOptions::default() }
}

fn compiled(graph: &Graph, passes: &Options) -> Result<Compiled, String> {
    compile(graph, &CompileOptions { passes: passes.clone(), ..plain() }).map_err(text)
}

fn execute(executable: std::sync::Arc<Executable>, feeds: &[(String, Tensor)]) -> Outcome {
    static POOL: OnceLock<PoolHandle> = OnceLock::new();
    let pool = POOL.get_or_init(PoolHandle::default).clone();
    let mut executor = Executor::new(executable, pool).map_err(text)?;
    let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(name, t)| (name.as_str(), t)).collect();
    executor.run_named(&feeds).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
