//! `kiln demo`: the embedded network reads handwritten digits.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stdout};
use std::time::Instant;

use clap::Args;
use kiln::classify::{Scored, top_k};
use kiln::compile::{CompileOptions, Compiled, compile};
use kiln::digits::{self, Sample};
use kiln::measure::{Latencies, milliseconds};
use kiln_ir::{Graph, Tensor};
use kiln_runtime::{Executor, PoolHandle};
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome};
use crate::inspect::op_counts;
use crate::output::{Output, bytes, facts, table};
use crate::picture::draw;

/// Read a handwritten digit with the embedded network, and show what compiling did to it.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Which digit to read
    #[arg(long, value_name = "0-9", default_value_t = 3, value_parser = digit, allow_negative_numbers = true)]
    digit: u8,
    /// Show every embedded digit that the network reads, not the graph
    #[arg(long, conflicts_with = "digit")]
    all: bool,
}

/// A decimal digit.
fn digit(text: &str) -> Result<u8, String> {
    text.parse().ok().filter(|digit| *digit <= 9).ok_or_else(|| "expected a digit from 0 to 9".to_owned())
}

/// Runs that the latency is measured over.
const RUNS: usize = 200;

/// Columns of a digit's picture.
const SIDE: usize = 28;

impl DemoArgs {
    /// Compiles, runs and reports.
    pub fn run(self, output: Output) -> Outcome {
        let graph = digits::graph()?;
        let start = Instant::now();
        let compiled = compile(&graph, &CompileOptions::default().dim("batch", 1))?;
        let executable = compiled.executable()?;
        let compile_ms = milliseconds(start.elapsed());
        let mut executor = Executor::new(executable, PoolHandle::new(1))?;

        let readings: Vec<Reading> =
            digits::samples()?.into_iter().map(|s| Reading::of(s, &mut executor)).collect::<Outcome<_>>()?;
        let right = readings.iter().filter(|r| r.is_right()).count();
        let Some(shown) = readings.iter().find(|r| r.sample.digit == self.digit) else {
            return Err(Failure::Work(format!("no embedded digit is a {}", self.digit)));
        };
        let latency = latency(&mut executor, &shown.sample)?;

        let object = json!({
            "digit": shown.sample.digit,
            "read": shown.best(),
            "scores": shown.scores,
            "right": right,
            "of": readings.len(),
            "readings": readings.iter().map(Reading::json).collect::<Vec<_>>(),
            "ops_before": op_counts(compiled.source()),
            "ops_after": op_counts(compiled.graph()),
            "compile_ms": compile_ms,
            "median_ms": latency.median_ms(),
            "arena_bytes": compiled.plan().arena_bytes,
        });
        let colour = stdout().is_terminal();
        output.write(&object, || {
            let figures = facts([
                (
                    "compiled in",
                    format!(
                        "{compile_ms:.1} ms: {} kernels, arena {}",
                        compiled.plan().kernel_count,
                        bytes(compiled.plan().arena_bytes as u64)
                    ),
                ),
                ("one run", format!("{:.3} ms, the median of {} on one thread", latency.median_ms(), latency.len())),
                ("read right", format!("{right} of {} digits that it was not fitted on", readings.len())),
            ]);
            if self.all {
                return format!("{}\n{figures}", gallery(&readings, colour));
            }
            format!("{}\n\n{}\n{figures}", shown.picture(colour), before_and_after(&compiled))
        })
    }
}

/// The median and friends of running one digit again and again.
fn latency(executor: &mut Executor, sample: &Sample) -> Outcome<Latencies> {
    let image = sample.tensor()?;
    let mut scores = vec![0; 10 * size_of::<f32>()];
    let times = (0..RUNS).map(|_| {
        let start = Instant::now();
        executor.run(&[image.bytes()], &mut [&mut scores])?;
        Ok(start.elapsed())
    });
    let times = Latencies::new(times.collect::<Outcome<_>>()?);
    times.ok_or_else(|| Failure::Work("nothing was measured".into()))
}

/// What the network made of a digit.
struct Reading {
    sample: Sample,
    /// One for each digit.
    scores: Vec<f64>,
    /// All digits, best first.
    ranking: Vec<Scored>,
}

impl Reading {
    fn of(sample: Sample, executor: &mut Executor) -> Outcome<Reading> {
        let image = sample.tensor()?;
        let results = executor.run_named(&[("image", &image)])?;
        let scores: &Tensor = match &results[..] {
            [(_, scores)] => scores,
            _ => return Err(Failure::Work("the embedded network has another signature than expected".into())),
        };
        let ranking = top_k(scores, 10).into_iter().next().unwrap_or_default();
        Ok(Reading { sample, scores: scores.to_f64_vec(), ranking })
    }

    /// The digit with the best score.
    fn best(&self) -> usize {
        self.ranking.first().map_or(0, |s| s.class)
    }

    fn is_right(&self) -> bool {
        self.best() == usize::from(self.sample.digit)
    }

    fn json(&self) -> Value {
        json!({ "digit": self.sample.digit, "read": self.best() })
    }

    /// The digit, with the scores beside it.
    fn picture(&self, colour: bool) -> String {
        let mut right: Vec<String> =
            vec![String::new(), format!("This is a {}.", NAMES.get(self.best()).unwrap_or(&"?")), String::new()];
        right.extend(self.scores.iter().enumerate().map(|(digit, score)| {
            let bar = "█".repeat((score.clamp(0.0, 1.0) * 20.0).round() as usize);
            format!("{digit} {score:>6.3} {bar}")
        }));
        let lines = draw(&self.sample.pixels, SIDE, colour).into_iter();
        let lines = lines.zip(right.into_iter().chain(std::iter::repeat(String::new())));
        lines.map(|(left, right)| format!("{left}   {right}").trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }
}

const NAMES: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

/// Pictures of all digits, four beside each other, with what was read below them.
fn gallery(readings: &[Reading], colour: bool) -> String {
    let mut out = String::new();
    for row in readings.chunks(4) {
        let pictures: Vec<Vec<String>> = row.iter().map(|r| draw(&r.sample.pixels, SIDE, colour)).collect();
        for line in 0..SIDE.div_ceil(2) {
            let parts: Vec<&str> = pictures.iter().filter_map(|p| p.get(line).map(String::as_str)).collect();
            out += parts.join(" ").trim_end();
            out.push('\n');
        }
        let below = row.iter().map(|r| {
            let verdict = if r.is_right() { String::new() } else { format!(", but it is a {}", r.sample.digit) };
            format!("{:<SIDE$}", format!("  {}{verdict}", r.best()))
        });
        out += below.collect::<Vec<_>>().join(" ").trim_end();
        out.push_str("\n\n");
    }
    out
}

/// What optimisation did: how many nodes of each op, and the graph that was compiled.
fn before_and_after(compiled: &Compiled) -> String {
    let (before, after) = (op_counts(compiled.source()), op_counts(compiled.graph()));
    let mut ops: Vec<&str> = before.keys().chain(after.keys()).copied().collect();
    ops.sort_unstable();
    ops.dedup();
    let mut table = table(&["op", ">before", ">after"]);
    let count =
        |counts: &BTreeMap<&str, usize>, op: &str| counts.get(op).map_or_else(|| "-".to_owned(), usize::to_string);
    table.add_rows(ops.into_iter().map(|op| [op.to_owned(), count(&before, op), count(&after, op)]));
    let total = |graph: &Graph| graph.len().to_string();
    table.add_row(["all".to_owned(), total(compiled.source()), total(compiled.graph())]);
    format!("{table}\n\n{}", compiled.graph())
}
