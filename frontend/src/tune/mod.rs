//! Tuning: measuring the ways to compute each layer of a model, inside that model.
//!
//! ```text
//! compile as estimated ──► layers and their candidates
//!   for each candidate number: compile with every layer computed its own n-th way, run, note the time of each layer's steps
//!   give up what is far behind; again, while the budget lasts
//! the fastest of each layer together, against the estimate's choices: measured by turns ──► Database
//! ```
//!
//! Layers are measured where they will run: weights come from where the other layers have left them, x from the step before, and the
//! copies that an algorithm needs around its operands count as its time. One compilation measures one way of every layer at once, so a
//! model costs as many compilations as its layers have candidates, not as many as there are combinations.

mod cpu;
mod database;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_codegen::native::Target;
use kiln_codegen::tuning::{Algorithm, Choice, Choices, Decision, Measurement};
use kiln_ir::{Graph, Tensor};
use kiln_runtime::{Executable, Executor, PoolHandle};

pub use cpu::cpu_name;
pub use database::{Circumstances, Database, DatabaseError};

use crate::compile::{CompileError, CompileOptions, Optimization, optimize};
use crate::measure::{Bound, Latencies, MeasureError};

/// How long to measure, and with how many threads.
#[derive(Clone, Debug)]
pub struct TuneOptions {
    /// How the model is compiled. Its target must run here; its choices are ignored.
    pub compile: CompileOptions,
    /// Threads that run the model.
    pub threads: usize,
    /// Time after which no more ways are tried. What was tried until then counts.
    pub budget: Duration,
}

/// What tuning has found.
#[derive(Clone, Debug)]
pub struct Tuned {
    /// Under which circumstances.
    pub circumstances: Circumstances,
    /// Every layer of the model, in the order in which they first run.
    pub layers: Vec<TunedLayer>,
    /// Median milliseconds of a run as estimated.
    pub estimated_ms: f64,
    /// Median milliseconds of a run with the fastest way of each layer, measured by turns with the former.
    pub tuned_ms: f64,
    /// Compilations measured.
    pub compilations: usize,
}

/// A layer that was measured.
#[derive(Clone, Debug)]
pub struct TunedLayer {
    /// Its text.
    pub layer: String,
    /// How many nodes of the model are such a layer.
    pub nodes: usize,
    /// How many ways were measured, and how many there are.
    pub tried: (usize, usize),
    /// What was found.
    pub measurement: Measurement,
}

impl Tuned {
    /// Whether the fastest ways together are faster than the estimate's.
    pub fn is_faster(&self) -> bool {
        self.tuned_ms < self.estimated_ms
    }

    /// Files what was found. Where the fastest ways together are no faster than the estimate's, only these are filed.
    pub fn file(&self, database: &mut Database) {
        for TunedLayer { layer, measurement: m, .. } in &self.layers {
            let kept = Measurement { algorithm: m.estimated, nanoseconds: m.estimated_nanoseconds, ..*m };
            database.insert(&self.circumstances, layer, if self.is_faster() { *m } else { kept });
        }
    }
}

/// Another way must be so much faster than the estimate's: differences below that are noise.
const MARGIN: f64 = 0.97;
/// What is slower than the fastest way by this factor is not measured again.
const HOPELESS: f64 = 1.25;
/// Runs of a compilation each time it is measured, at most; fewer where a run takes longer than [`TURN`].
const RUNS: usize = 12;
/// See [`RUNS`].
const TURN: Duration = Duration::from_millis(300);
/// Turns of the whole model as estimated and as tuned.
const FINAL_TURNS: usize = 7;
/// Rounds over all candidates, at most.
const ROUNDS: usize = 4;

/// Measures the ways to compute the layers of `graph` on these inputs, in signature order. `progress` is told the share of the work that is
/// done, from 0 to 1.
pub fn tune(
    graph: &Graph,
    inputs: &[Tensor],
    options: &TuneOptions,
    progress: &mut dyn FnMut(f64),
) -> Result<Tuned, MeasureError> {
    let start = Instant::now();
    let target = match &options.compile.target {
        Some(target) => target.clone(),
        None => Target::host().map_err(CompileError::from)?,
    };
    let Optimization { optimized, exact, .. } = optimize(graph, &options.compile)?;
    let bench =
        Bench { graph: &optimized.graph, exact, target: &target, pool: PoolHandle::new(options.threads), inputs };
    let (mut estimated, decisions) = bench.compile(Choices::default())?;
    let mut layers = Layers::new(&decisions);
    layers.note(&decisions, &bench.profile(&mut estimated)?);
    let mut compilations = 1;
    let budget = options.budget.as_secs_f64();
    'rounds: for round in 0..ROUNDS {
        let most = layers.most_open();
        if most < 2 && round > 0 {
            break;
        }
        for turn in 0..most {
            if start.elapsed() >= options.budget {
                break 'rounds;
            }
            let (mut program, decisions) = bench.compile(layers.prescribed(turn))?;
            layers.note(&decisions, &bench.profile(&mut program)?);
            compilations += 1;
            let done = (round as f64 + (turn + 1) as f64 / most as f64) / ROUNDS as f64;
            progress(done.max(start.elapsed().as_secs_f64() / budget).min(1.0));
        }
        layers.give_up();
    }
    let (mut tuned, _) = bench.compile(layers.fastest())?;
    let mut times = [Vec::new(), Vec::new()];
    for turn in 0..FINAL_TURNS {
        let mut pair = [(&mut estimated, 0), (&mut tuned, 1)];
        if turn % 2 == 1 {
            pair.reverse();
        }
        for (program, which) in pair {
            times[which].extend(bench.times(program)?);
        }
    }
    let [estimated_ms, tuned_ms] = times.map(|times| Latencies::new(times).map_or(0.0, |l| l.median_ms()));
    progress(1.0);
    Ok(Tuned {
        circumstances: Circumstances::here(&target, options.threads, exact),
        layers: layers.report(),
        estimated_ms,
        tuned_ms,
        compilations,
    })
}

/// Everything that all compilations have in common.
struct Bench<'a> {
    graph: &'a Graph,
    exact: bool,
    target: &'a Target,
    pool: PoolHandle,
    inputs: &'a [Tensor],
}

impl Bench<'_> {
    fn compile(&self, choices: Choices) -> Result<(Bound, Vec<Decision>), MeasureError> {
        let options = kiln_codegen::CompileOptions {
            exact: self.exact,
            choices: Arc::new(choices),
            ..kiln_codegen::CompileOptions::default()
        };
        let module = kiln_codegen::compile(self.graph, self.target, options).map_err(CompileError::from)?;
        let executable: Arc<Executable> = module.executable().map_err(CompileError::from)?;
        let mut executor = Executor::new(executable, self.pool.clone())?;
        // checks the inputs, and warms up
        executor.run_tensors(&self.inputs.iter().collect::<Vec<_>>())?;
        Ok((Bound::new(executor, self.inputs.to_vec())?, module.decisions().to_vec()))
    }

    /// Times of some runs, after one to warm up.
    fn times(&self, program: &mut Bound) -> Result<Vec<Duration>, MeasureError> {
        let first = program.run()?;
        (0..runs(first)).map(|_| Ok(program.run()?)).collect()
    }

    /// Nanoseconds of each step in each of some runs, after one to warm up.
    fn profile(&self, program: &mut Bound) -> Result<Vec<Vec<u64>>, MeasureError> {
        let first = program.run()?;
        let profiled = |_| {
            program.executor.enable_profile();
            program.run()?;
            let profile = program.executor.take_profile().unwrap_or_default();
            Ok(profile.rows.iter().map(|row| row.nanoseconds).collect())
        };
        (0..runs(first)).map(profiled).collect()
    }
}

fn runs(one: Duration) -> usize {
    let fit = TURN.as_nanos() / one.as_nanos().max(1);
    usize::try_from(fit).unwrap_or(RUNS).clamp(3, RUNS)
}

/// The layers of a model, by their text.
struct Layers {
    by_text: BTreeMap<String, Layer>,
}

struct Layer {
    /// When it first runs.
    first_step: usize,
    nodes: usize,
    estimated: Algorithm,
    /// All ways.
    candidates: usize,
    /// Those still in question.
    open: Vec<Algorithm>,
    /// Nanoseconds a node, of each run measured.
    samples: BTreeMap<Algorithm, Vec<u64>>,
}

impl Layer {
    /// What a way is compared by: the lower quartile, for what disturbs a run only makes it longer.
    fn time(&self, algorithm: &Algorithm) -> Option<u64> {
        let mut samples = self.samples.get(algorithm)?.clone();
        samples.sort_unstable();
        samples.get(samples.len() / 4).copied()
    }

    fn best(&self) -> Option<(Algorithm, u64)> {
        let times = self.samples.keys().filter_map(|a| Some((*a, self.time(a)?)));
        times.min_by_key(|(_, time)| *time)
    }

    fn measurement(&self) -> Option<Measurement> {
        let estimated = (self.estimated, self.time(&self.estimated)?);
        let best = self.best()?;
        let (algorithm, nanoseconds) = if (best.1 as f64) < MARGIN * estimated.1 as f64 { best } else { estimated };
        Some(Measurement { algorithm, nanoseconds, estimated: estimated.0, estimated_nanoseconds: estimated.1 })
    }
}

impl Layers {
    /// The layers of the program as estimated.
    fn new(decisions: &[Decision]) -> Layers {
        let mut by_text: BTreeMap<String, Layer> = BTreeMap::new();
        for d in decisions {
            let layer = by_text.entry(d.layer.clone()).or_insert_with(|| Layer {
                first_step: d.steps.start,
                nodes: 0,
                estimated: d.algorithm,
                candidates: d.candidates.len(),
                open: d.candidates.clone(),
                samples: BTreeMap::new(),
            });
            layer.nodes += 1;
        }
        Layers { by_text }
    }

    /// Files the times of a program's steps.
    fn note(&mut self, decisions: &[Decision], runs: &[Vec<u64>]) {
        for run in runs {
            let mut sums: BTreeMap<(&str, Algorithm), (u64, u64)> = BTreeMap::new();
            for d in decisions {
                let time: u64 = run.get(d.steps.clone()).unwrap_or_default().iter().sum();
                let sum = sums.entry((&d.layer, d.algorithm)).or_default();
                *sum = (sum.0 + time, sum.1 + 1);
            }
            for ((layer, algorithm), (time, nodes)) in sums {
                if let Some(layer) = self.by_text.get_mut(layer) {
                    layer.samples.entry(algorithm).or_default().push(time / nodes);
                }
            }
        }
    }

    /// The largest number of ways in question of a layer.
    fn most_open(&self) -> usize {
        self.by_text.values().map(|l| l.open.len()).max().unwrap_or(0)
    }

    /// Every layer computed its `turn`-th way; those with fewer start again.
    fn prescribed(&self, turn: usize) -> Choices {
        let mut choices = Choices::default();
        for (text, layer) in &self.by_text {
            if let Some(&way) = layer.open.get(turn % layer.open.len().max(1)) {
                choices.insert(text.as_str(), Choice::Prescribed(way));
            }
        }
        choices
    }

    /// Takes what is far behind, and what turned out to be another way, out of question.
    fn give_up(&mut self) {
        for layer in self.by_text.values_mut() {
            let Some((_, best)) = layer.best() else { continue };
            let near = |way: &Algorithm| layer.time(way).is_some_and(|time| time as f64 <= HOPELESS * best as f64);
            layer.open = layer.open.iter().copied().filter(near).collect();
        }
    }

    /// The fastest way of every layer.
    fn fastest(&self) -> Choices {
        let mut choices = Choices::default();
        for (text, measurement) in self.by_text.iter().filter_map(|(text, l)| Some((text, l.measurement()?))) {
            choices.insert(text.as_str(), Choice::Measured(measurement));
        }
        choices
    }

    fn report(&self) -> Vec<TunedLayer> {
        let mut layers: Vec<(&String, &Layer)> = self.by_text.iter().collect();
        layers.sort_by_key(|(_, l)| l.first_step);
        let row = |(text, l): (&String, &Layer)| {
            let (nodes, tried) = (l.nodes, (l.samples.len(), l.candidates));
            Some(TunedLayer { layer: text.clone(), nodes, tried, measurement: l.measurement()? })
        };
        layers.into_iter().filter_map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use kiln_codegen::tuning::Blocking;

    use super::*;

    fn way(rows: u32) -> Algorithm {
        Algorithm::Direct(Blocking { rows, vectors: 1, columns_first: false })
    }

    /// A layer whose first way is the estimated one, with the times of each.
    fn layers(times: &[(u32, &[u64])]) -> Layers {
        let open: Vec<Algorithm> = times.iter().map(|&(rows, _)| way(rows)).collect();
        let samples = times.iter().map(|&(rows, samples)| (way(rows), samples.to_vec())).collect();
        let layer = Layer { first_step: 0, nodes: 1, estimated: open[0], candidates: open.len(), open, samples };
        Layers { by_text: BTreeMap::from([("a layer".to_owned(), layer)]) }
    }

    #[test]
    fn another_way_must_be_faster_than_the_estimated_one_by_more_than_noise() {
        let found = |times: &[(u32, &[u64])]| layers(times).by_text["a layer"].measurement().expect("measured");
        let near = found(&[(1, &[100]), (2, &[98])]);
        assert_eq!((near.algorithm, near.nanoseconds, near.estimated_nanoseconds), (way(1), 100, 100));
        let far = found(&[(1, &[100]), (2, &[90]), (3, &[95])]);
        assert_eq!((far.algorithm, far.nanoseconds, far.estimated), (way(2), 90, way(1)));
        // one run that was disturbed decides nothing
        assert_eq!(found(&[(1, &[100, 900, 100, 100, 100]), (2, &[120])]).nanoseconds, 100);
        assert_eq!(layers(&[(1, &[]), (2, &[90])]).by_text["a layer"].measurement(), None, "nothing to compare with");
    }

    #[test]
    fn ways_far_behind_and_ways_that_were_another_are_not_measured_again() {
        let mut layers = layers(&[(1, &[100]), (2, &[130]), (3, &[110]), (4, &[])]);
        assert_eq!(layers.most_open(), 4);
        layers.give_up();
        assert_eq!(layers.by_text["a layer"].open, [way(1), way(3)]);
        let second = layers.prescribed(1).get("a layer");
        assert_eq!(second, Some(Choice::Prescribed(way(3))));
        assert_eq!(layers.prescribed(2).get("a layer"), Some(Choice::Prescribed(way(1))), "fewer ways start again");
    }

    #[test]
    fn what_is_no_faster_together_is_filed_as_estimated() {
        let circumstances = Circumstances { cpu: "c".into(), target: "t".into(), threads: 1, exact: false };
        let filed = |tuned_ms| {
            let layers = layers(&[(1, &[100]), (2, &[90])]).report();
            let tuned =
                Tuned { circumstances: circumstances.clone(), layers, estimated_ms: 2.0, tuned_ms, compilations: 1 };
            let mut database = Database::default();
            tuned.file(&mut database);
            database.choices(&circumstances).get("a layer").map(|choice| choice.algorithm())
        };
        assert_eq!((filed(1.0), filed(2.0)), (Some(way(2)), Some(way(1))));
    }
}
