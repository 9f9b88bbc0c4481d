//! `kiln bench`: how long a model takes to load, compile and run, and what memory it takes.

use clap::Args;
use kiln::measure::{Bound, Latencies, peak_rss_bytes};
use kiln_runtime::{Profile, ProfileRow};
use serde_json::{Value, json};

use crate::engine::EngineArgs;
use crate::failure::{Failure, Outcome};
use crate::inputs::{InputArgs, borrowed, fill_randomly, in_order};
use crate::model::ModelArgs;
use crate::output::{Output, bytes, facts, table};
use crate::progress::bar;
use crate::values;

/// Measure how long a model takes to load, compile and run, and the memory it takes.
///
/// Inputs that no option gives are random: floats in [-1, 1), bytes over their range, other integers 0 or 1.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Runs before measuring
    #[arg(long, value_name = "W", default_value_t = 10, value_parser = values::whole::<usize>, allow_negative_numbers = true)]
    warmup: usize,
    /// Runs measured
    #[arg(long, value_name = "R", default_value_t = 100, value_parser = values::at_least_one, allow_negative_numbers = true)]
    runs: usize,
    /// Measure every kernel too, in as many runs again
    #[arg(long)]
    profile: bool,
    /// Seed of the random inputs
    #[arg(long, value_name = "SEED", default_value_t = 0, value_parser = values::whole::<u64>, allow_negative_numbers = true)]
    seed: u64,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    inputs: InputArgs,
}

impl BenchArgs {
    /// Measures and reports.
    pub fn run(self, output: Output) -> Outcome {
        let engine = self.engine.load(&self.model)?;
        let signature = engine.executable.signature();
        let mut feeds = self.inputs.read(signature)?;
        fill_randomly(signature, &mut feeds, self.seed)?;
        let mut executor = self.engine.executor(&engine.executable)?;
        // Checks the feeds, all at once, and warms up.
        executor.run_named(&borrowed(&feeds))?;
        let inputs = in_order(executor.signature(), feeds);
        let mut bound = Bound::new(executor, inputs)?;

        let progress =
            bar("measuring", self.warmup.saturating_add(self.runs.saturating_mul(1 + usize::from(self.profile))));
        let run = |bound: &mut Bound| {
            let time = bound.run();
            progress.inc(1);
            time
        };
        for _ in 1..self.warmup {
            run(&mut bound)?;
        }
        let latencies = Latencies::new((0..self.runs).map(|_| run(&mut bound)).collect::<Result<_, _>>()?);
        let profile = if self.profile {
            bound.executor.enable_profile();
            (0..self.runs).try_for_each(|_| run(&mut bound).map(drop))?;
            bound.executor.take_profile()
        } else {
            None
        };
        progress.finish_and_clear();

        let Some(latencies) = latencies else { return Err(Failure::Usage("--runs must be at least 1".into())) };
        let plan = engine.executable.plan();
        let peak = peak_rss_bytes();
        let mut object = json!({
            "median_ms": latencies.median_ms(),
            "min_ms": latencies.min_ms(),
            "p90_ms": latencies.percentile_ms(90),
            "load_ms": engine.load_ms,
            "compile_ms": engine.compile_ms,
            "arena_bytes": plan.arena_bytes,
            "weight_bytes": plan.weight_bytes,
            "peak_rss_bytes": peak,
            "threads": bound.executor.pool().threads(),
            "warmup": self.warmup,
            "runs": self.runs,
            "flops": plan.flops(),
        });
        if let Some(profile) = &profile {
            object["profile"] = profile_json(profile);
        }
        output.write(&object, || {
            let gflops = plan.flops() as f64 / 1e6 / latencies.median_ms();
            let mut text = facts([
                ("median", format!("{:.3} ms ({gflops:.1} GFLOP/s)", latencies.median_ms())),
                ("minimum", format!("{:.3} ms", latencies.min_ms())),
                ("90 % below", format!("{:.3} ms", latencies.percentile_ms(90))),
                ("load", format!("{:.3} ms", engine.load_ms)),
                ("compile", format!("{:.3} ms", engine.compile_ms)),
                ("arena", bytes(plan.arena_bytes as u64)),
                ("weights", bytes(plan.weight_bytes as u64)),
                ("peak memory", peak.map_or("unknown".to_owned(), bytes)),
                ("threads", bound.executor.pool().threads().to_string()),
                ("runs", format!("{} after {} to warm up", self.runs, self.warmup)),
            ]);
            if let Some(profile) = &profile {
                text += &format!("\n{}", profile_text(profile));
            }
            text
        })
    }
}

/// Part of the whole, in percent.
fn share(row: &ProfileRow, profile: &Profile) -> f64 {
    100.0 * row.nanoseconds as f64 / (profile.total_nanoseconds() as f64).max(1.0)
}

fn profile_json(profile: &Profile) -> Value {
    let rows = profile.rows.iter().map(|row| {
        json!({
            "step": row.label,
            "ms": row.mean_nanoseconds() / 1e6,
            "share_percent": share(row, profile),
            "gflops": row.gflops(),
            "gb_per_s": row.gigabytes_per_second(),
        })
    });
    rows.collect()
}

fn profile_text(profile: &Profile) -> String {
    let mut rows: Vec<&ProfileRow> = profile.rows.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.nanoseconds));
    let mut table = table(&["step", ">ms", ">share", ">GFLOP/s", ">GB/s"]);
    table.add_rows(rows.into_iter().map(|row| {
        [
            row.label.clone(),
            format!("{:.4}", row.mean_nanoseconds() / 1e6),
            format!("{:.1} %", share(row, profile)),
            format!("{:.2}", row.gflops()),
            format!("{:.2}", row.gigabytes_per_second()),
        ]
    }));
    table.to_string()
}
