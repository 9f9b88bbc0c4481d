//! Which passes run, and what they did.

use clap::Args;
use kiln_passes::{Options, PASSES, Report, rule_names};
use serde_json::{Value, json};

use crate::output::table;
use crate::values;

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
    #[arg(long, value_name = "N", value_parser = values::whole::<u64>, allow_negative_numbers = true)]
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
    known(text, "pass", PASSES.iter().map(|p| p.name), &format!("there are {}", pass_names()))
}

/// The name of a pass or of a rule.
fn pass_or_rule(text: &str) -> Result<String, String> {
    let rules: Vec<&str> = rule_names().collect();
    let all = PASSES.iter().map(|p| p.name).chain(rules.iter().copied());
    let listed = format!("the passes are {}; the rules are {}", pass_names(), rules.join(", "));
    known(text, "pass or rule", all, &listed)
}

/// `text`, if it is one of the names; or else that there is no such `what`, and the name that was meant or what is `listed`.
fn known<'n>(
    text: &str,
    what: &str,
    names: impl Iterator<Item = &'n str> + Clone,
    listed: &str,
) -> Result<String, String> {
    if names.clone().any(|name| name == text) {
        return Ok(text.to_owned());
    }
    // a list of all rules would hide the name that was meant
    Err(match near_miss(text, names) {
        Some(name) => format!("there is no {what} `{text}`; did you mean `{name}`?"),
        None => format!("there is no {what} `{text}`; {listed}"),
    })
}

/// The name that is most like `text`, if one is.
pub fn near_miss<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // what clap takes for its own suggestions
    const ALIKE: f64 = 0.7;
    let scored = names.map(|name| (strsim::jaro(text, name), name)).filter(|(score, _)| *score > ALIKE);
    scored.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
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
