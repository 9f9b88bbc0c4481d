//! Which passes run, and what they did.

use clap::Args;
use kiln_passes::{Options, PASSES, Report, rule_names};
use serde_json::{Value, json};

use crate::output::table;

/// Which passes run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Passes")]
pub struct PassArgs {
    #[arg(long, value_name = "PASS", value_parser = pass, help = format!("Stop after this pass: {}", pass_names()))]
    until: Option<String>,
    /// Leave out a pass, or a rule as `kiln opt --report` names it (repeatable, or separated by commas)
    #[arg(long, value_name = "PASS|RULE", value_delimiter = ',', value_parser = pass_or_rule)]
    disable: Vec<String>,
    /// Run no pass that can be left out
    #[arg(long = "no-opt", conflicts_with_all = ["until", "disable"])]
    none: bool,
    /// Let rules fire at most this often in all; to find a harmful firing by bisection
    #[arg(long, value_name = "N")]
    fuel: Option<u64>,
}

impl PassArgs {
    /// The first of these options that the command line has, for whoever has no use for them.
    pub fn given(&self) -> Option<&'static str> {
        let options = [
            ("--until", self.until.is_some()),
            ("--disable", !self.disable.is_empty()),
            ("--no-opt", self.none),
            ("--fuel", self.fuel.is_some()),
        ];
        options.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }

    /// The pass options that the command line states.
    pub fn options(&self) -> Options {
        let mut options = if self.none { Options::none() } else { Options::default() };
        options.until.clone_from(&self.until);
        options.disable.extend(self.disable.iter().cloned());
        options.fuel = self.fuel;
        options
    }
}

fn pass_names() -> String {
    PASSES.iter().map(|p| p.name).collect::<Vec<_>>().join(", ")
}

/// The name of a pass.
fn pass(text: &str) -> Result<String, String> {
    if PASSES.iter().any(|p| p.name == text) {
        return Ok(text.to_owned());
    }
    Err(format!("there is no pass `{text}`; there are {}", pass_names()))
}

/// The name of a pass or of a rule.
fn pass_or_rule(text: &str) -> Result<String, String> {
    if rule_names().any(|rule| rule == text) {
        return Ok(text.to_owned());
    }
    pass(text).map_err(|_| {
        let rules: Vec<&str> = rule_names().collect();
        format!(
            "there is no pass or rule `{text}`; the passes are {}; the rules are {}",
            pass_names(),
            rules.join(", ")
        )
    })
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
