//! `kiln bisect`: which pass or rule makes a result wrong.

use clap::Args;
use kiln::fault::{Blame, Cause, Culprit, Finding, Step, Verdict, bisect};
use serde_json::{Value, json};

use crate::diff::{coloured, diff, named};
use crate::failure::{Failure, Outcome};
use crate::model::ModelArgs;
use crate::output::{Output, facts};
use crate::progress::watching;
use crate::trial::{TrialArgs, command_line, verdict_json};

/// Compare a compiled model with the interpreter, and find the pass or the rule's firing that makes the result wrong.
///
/// Inputs that no option gives are random, as for `kiln bench`. The exit code is 0 where results agree and 1 where they differ. --until,
/// --disable and --fuel bound the search. Once a fault is found, `kiln reduce` makes a small graph of the model that still shows it.
#[derive(Debug, Args)]
pub struct BisectArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    trial: TrialArgs,
}

impl BisectArgs {
    /// Compares, searches and reports.
    pub fn run(self, output: Output) -> Outcome {
        let graph = named(&self.model.source()?.specialized()?)?;
        let trial = self.trial.trial(&graph)?;
        let (spinner, mut observe) = watching();
        let finding = bisect(&graph, &trial, &mut observe);
        spinner.finish_and_clear();
        match finding? {
            Finding::Right { verdict } => output.write(&json!({ "comparison": verdict_json(&verdict) }), || {
                format!("the compiled model agrees with the interpreter: {verdict}")
            }),
            Finding::Wrong(culprit) => {
                let reproduce = reproduce(&culprit);
                output.write(&culprit_json(&culprit, &reproduce), || culprit_text(&culprit, &reproduce))?;
                Err(Failure::Reported(format!("`{}`: {}", self.model.path.display(), headline(&culprit))))
            }
        }
    }
}

/// What is to blame, in one line.
fn headline(culprit: &Culprit) -> String {
    let what = match culprit.verdict {
        Verdict::Fails(_) => "makes the model fail",
        _ => "makes the result wrong",
    };
    let blamed = |step: &Step| match step.blame {
        Blame::Rewriting => String::new(),
        Blame::CodeGeneration { .. } => {
            ": the graph still means the same, and code generation makes something else of it".to_owned()
        }
    };
    match &culprit.cause {
        Cause::CodeGeneration { .. } => format!("code generation {what}, without any pass"),
        Cause::Pass(step) => format!("pass `{}` {what}, without any of its rules{}", step.pass, blamed(step)),
        Cause::Rule { rules, firing, step } => {
            let rules: Vec<String> = rules.iter().map(|rule| format!("`{rule}`")).collect();
            let rules = if rules.is_empty() { "a rule".to_owned() } else { format!("rule {}", rules.join(", ")) };
            format!("{rules} of pass `{}` {what} (firing {firing}){}", step.pass, blamed(step))
        }
    }
}

/// The commands that show the fault, and that show it gone.
fn reproduce(culprit: &Culprit) -> (String, Option<String>) {
    let bounds = ["--until", "--fuel"];
    match &culprit.cause {
        Cause::CodeGeneration { .. } => (command_line(&["--until", "--fuel", "--disable"], "--no-opt"), None),
        Cause::Pass(step) => (command_line(&bounds, &format!("--until {}", step.pass)), None),
        Cause::Rule { firing, step, .. } => {
            let with = |fuel| command_line(&bounds, &format!("--until {} --fuel {fuel}", step.pass));
            (with(*firing), Some(with(firing - 1)))
        }
    }
}

fn step_of(cause: &Cause) -> Option<&Step> {
    match cause {
        Cause::CodeGeneration { .. } => None,
        Cause::Pass(step) | Cause::Rule { step, .. } => Some(step),
    }
}

fn portable_of(cause: &Cause) -> Option<&Verdict> {
    match (cause, step_of(cause).map(|step| &step.blame)) {
        (Cause::CodeGeneration { portable }, _) | (_, Some(Blame::CodeGeneration { portable })) => portable.as_ref(),
        _ => None,
    }
}

fn changes(step: &Step) -> Option<String> {
    step.after.as_ref().map(|after| diff(&step.before, after))
}

fn culprit_json(culprit: &Culprit, (with, without): &(String, Option<String>)) -> Value {
    let mut object = json!({
        "comparison": verdict_json(&culprit.verdict),
        "culprit": headline(culprit),
        "comparisons": culprit.comparisons,
        "reproduce": with,
        "right_with": without,
        "portable_backend": portable_of(&culprit.cause).map(verdict_json),
    });
    if let Some(step) = step_of(&culprit.cause) {
        object["pass"] = json!(step.pass);
        object["step"] = verdict_json(&step.verdict);
        object["rewriting_is_wrong"] = json!(matches!(step.blame, Blame::Rewriting));
        object["disabled"] = verdict_json(&step.without);
        object["diff"] = json!(changes(step));
    }
    if let Cause::Rule { rules, firing, .. } = &culprit.cause {
        object["rules"] = json!(rules);
        object["firing"] = json!(firing);
    }
    object
}

fn culprit_text(culprit: &Culprit, (with, without): &(String, Option<String>)) -> String {
    let mut rows = vec![("comparison", culprit.verdict.to_string()), ("culprit", headline(culprit))];
    let step = step_of(&culprit.cause);
    if let Some(step) = step {
        rows.push(("there", step.verdict.to_string()));
        let verdict = if step.without.agrees() { "right" } else { "still not right" };
        rows.push(("disabled", format!("the result is {verdict}: {}", step.without)));
    }
    if let Some(verdict) = portable_of(&culprit.cause) {
        let right = if verdict.agrees() { "right" } else { "not right either" };
        rows.push(("--backend cranelift", format!("the result is {right}: {verdict}")));
    }
    rows.push(("reproduce", with.clone()));
    rows.extend(without.iter().map(|line| ("right with", line.clone())));
    let changes = step.and_then(changes).filter(|changes| !changes.is_empty());
    facts(rows) + &changes.map(|changes| format!("\n{}\n", coloured(&changes))).unwrap_or_default()
}
