//! One comparison: a graph compiled as options say, against what the interpreter says that it means.

use kiln_codegen::native::{Backend, Target};
use kiln_ir::interp::{self, State};
use kiln_ir::{Graph, Tensor};
use kiln_passes::{Optimized, Options, PASSES, Pass, PassError, driver};
use kiln_runtime::{Executor, PoolHandle, RunError, Signature};

use super::agreement::{Difference, Results, default_tolerance, largest_difference};
use crate::compile::{CompileError, CompileOptions, compile};
use crate::measure::MeasureError;
use crate::random_feeds::random_feeds;

/// What is compared, and how.
#[derive(Clone)]
pub struct Trial {
    /// The passes: Kiln's own, unless a test puts a fault among them.
    pub passes: Vec<Pass>,
    /// How graphs are compiled, and with which passes.
    pub options: CompileOptions,
    /// Inputs by name; those that are not here are random.
    pub given: Vec<(String, Tensor)>,
    /// Seed of the random inputs.
    pub seed: u64,
    /// The error that results may have, relative to an output's largest number; `None` is [`default_tolerance`].
    pub tolerance: Option<f64>,
    /// The threads on which compiled graphs run.
    pub pool: PoolHandle,
}

impl Default for Trial {
    /// Kiln as it is, on random inputs.
    fn default() -> Trial {
        Trial {
            passes: PASSES.to_vec(),
            options: CompileOptions::default(),
            given: Vec::new(),
            seed: 0,
            tolerance: None,
            pool: PoolHandle::default(),
        }
    }
}

/// What a graph means on some inputs.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The inputs.
    pub feeds: Vec<(String, Tensor)>,
    /// The outputs, and what the run assigns to variables.
    pub results: Results,
    /// The error that is allowed.
    pub tolerance: f64,
}

/// What a comparison says.
#[derive(Debug)]
pub enum Verdict {
    /// No error is above the tolerance; the largest, where there is any element.
    Agrees(Option<Difference>),
    /// The largest error is above the tolerance.
    Differs(Difference),
    /// The graph cannot be compiled or run.
    Fails(MeasureError),
}

impl Verdict {
    /// Whether the results are right.
    pub fn agrees(&self) -> bool {
        matches!(self, Verdict::Agrees(_))
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verdict::Agrees(None) => f.write_str("the results have no element"),
            Verdict::Agrees(Some(largest)) => write!(f, "the largest error is {:.1e}", largest.error),
            Verdict::Differs(worst) => worst.fmt(f),
            Verdict::Fails(error) => error.fmt(f),
        }
    }
}

impl Trial {
    /// What `graph`, whose dims are numbers, means on the inputs that are given or random.
    pub fn reference(&self, graph: &Graph) -> Result<Reference, MeasureError> {
        let signature = Signature::of(graph)?;
        let random = random_feeds(&signature, &self.given, self.seed)?;
        let feeds: Vec<(String, Tensor)> = self.given.iter().cloned().chain(random).collect();
        let results = interpret(graph, &feeds)?;
        Ok(Reference { feeds, results, tolerance: self.tolerance.unwrap_or_else(|| default_tolerance(graph)) })
    }

    /// `graph` after the passes that `options` let run.
    pub fn optimize(&self, graph: &Graph, options: &Options) -> Result<Optimized, PassError> {
        driver::run(&self.passes, graph, options, &mut |_, _| {})
    }

    /// Whether `graph`, after the passes that `options` let run, is compiled to what computes the reference.
    pub fn judge(&self, graph: &Graph, options: &Options, reference: &Reference) -> Verdict {
        match self.optimize(graph, options) {
            Ok(optimized) => self.judge_code(&optimized.graph, self.options.target.clone(), reference),
            Err(error) => Verdict::Fails(CompileError::from(error).into()),
        }
    }

    /// Whether the code that is made of `graph` as it is, for this machine's `target`, computes the reference.
    pub fn judge_code(&self, graph: &Graph, target: Option<Target>, reference: &Reference) -> Verdict {
        let run = || -> Result<Results, MeasureError> {
            let options = CompileOptions { passes: Options::none(), target, ..self.options.clone() };
            let executable = compile(graph, &options)?.executable()?;
            let mut executor = Executor::new(executable, self.pool.clone())?;
            let feeds: Vec<(&str, &Tensor)> = reference.feeds.iter().map(|(name, t)| (name.as_str(), t)).collect();
            let mut results = executor.run_named(&feeds)?;
            for (name, _) in &reference.results[results.len()..] {
                results.push((name.clone(), executor.state(name)?));
            }
            Ok(results)
        };
        verdict(run(), reference)
    }

    /// Whether `graph` means what the reference says.
    pub fn judge_meaning(&self, graph: &Graph, reference: &Reference) -> Verdict {
        verdict(interpret(graph, &reference.feeds), reference)
    }

    /// The target of the portable back end, where code is not made for it anyway.
    pub fn other_target(&self) -> Option<Target> {
        let target = self.options.target.clone().or_else(|| Target::host().ok())?;
        (target.backend() != Backend::Cranelift).then(|| target.portable())
    }
}

/// Outputs, then assigned variables, by the interpreter.
fn interpret(graph: &Graph, feeds: &[(String, Tensor)]) -> Result<Results, MeasureError> {
    let feeds: Vec<(&str, Tensor)> = feeds.iter().map(|(name, t)| (name.as_str(), t.clone())).collect();
    let mut state = State::new();
    let mut results = interp::run::<f32>(graph, &feeds, Some(&mut state)).map_err(RunError::from)?;
    results.extend(state.iter().map(|(name, tensor)| (name.clone(), tensor.clone())));
    Ok(results)
}

fn verdict(results: Result<Results, MeasureError>, reference: &Reference) -> Verdict {
    match results.map(|found| largest_difference(&reference.results, &found)) {
        Err(error) => Verdict::Fails(error),
        Ok(Some(worst)) if worst.error > reference.tolerance => Verdict::Differs(worst),
        Ok(largest) => Verdict::Agrees(largest),
    }
}
