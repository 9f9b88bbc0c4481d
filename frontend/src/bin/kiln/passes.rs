//! Which passes run, and what they did.

use clap::Args;
use kiln_passes::{Options, Report};
use serde_json::{Value, json};

use crate::output::table;

/// Which passes run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Passes")]
pub struct PassArgs {
    /// Stop after this pass
    #[arg(long, value_name = "PASS")]
    until: Option<String>,
    /// Leave out a pass or a rule (repeatable, or separated by commas)
    #[arg(long, value_name = "PASS|RULE", value_delimiter = ',')]
    disable: Vec<String>,
    /// Run no pass that can be left out
    #[arg(long = "no-opt", conflicts_with_all = ["until", "disable"])]
    none: bool,
    /// Let rules fire at most this often in all; to find a harmful firing by bisection
    #[arg(long, value_name = "N")]
    fuel: Option<u64>,
}

impl PassArgs {
    /// The pass options that the command line states.
    pub fn options(&self) -> Options {
        let mut options = if self.none { Options::none() } else { Options::default() };
        options.until.clone_from(&self.until);
        options.disable.extend(self.disable.iter().cloned());
        options.fuel = self.fuel;
        options
    }
}

/// What each pass did, for programs.
pub fn report_json(report: &Report) -> Value {
    let passes = report.passes.iter().map(|p| {
        json!({
            "pass": p.name,
            "ms": p.time.as_secs_f64() * 1e3,
            "nodes_before": p.nodes_before,
            "nodes_after": p.nodes_after,
            "rules": p.fired,
        })
    });
    passes.collect()
}

/// What each pass did, for people.
pub fn report_text(report: &Report) -> String {
    let mut table = table(&["pass", ">ms", ">nodes", ">after", "rules that fired"]);
    for p in &report.passes {
        let rules: Vec<String> = p.fired.iter().map(|(rule, n)| format!("{rule} ×{n}")).collect();
        let ms = format!("{:.3}", p.time.as_secs_f64() * 1e3);
        table.add_row([p.name.to_owned(), ms, p.nodes_before.to_string(), p.nodes_after.to_string(), rules.join(", ")]);
    }
    let (all, verification) = (report.time().as_secs_f64() * 1e3, report.verification.as_secs_f64() * 1e3);
    format!("{table}\nall passes {all:.3} ms, verification {verification:.3} ms")
}
