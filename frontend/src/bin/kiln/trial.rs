//! What `kiln bisect` and `kiln reduce` compare, and how.

use clap::Args;
use kiln::fault::Trial;
use kiln::random_feeds::random_feeds;
use kiln_ir::{Graph, Tensor};
use kiln_runtime::{PoolHandle, Signature, check_feeds};
use serde_json::{Value, json};

use crate::code::CodeArgs;
use crate::engine::{available_threads, threads};
use crate::failure::Outcome;
use crate::inputs::InputArgs;
use crate::output::number;
use crate::passes::PassArgs;
use crate::touched::Touched;
use crate::values;

/// How a compiled model is compared with the interpreter.
#[derive(Debug, Args)]
#[command(next_help_heading = "Comparison")]
pub struct TrialArgs {
    /// The error that is no fault, relative to the largest number of an output; without it 1e-4, 1e-9 where all floats are f64,
    /// 1e-2 where some are f16, 5e-2 where some are bf16, and 0 where there are none
    #[arg(long, value_name = "ERROR", value_parser = values::tolerance, allow_negative_numbers = true)]
    pub tolerance: Option<f64>,
    /// Seed of the random inputs
    #[arg(long, value_name = "SEED", default_value_t = 0, value_parser = values::whole::<u64>, allow_negative_numbers = true)]
    pub seed: u64,
    /// Threads to run on; all cores where it is not given
    #[arg(long, value_name = "N", value_parser = threads, allow_negative_numbers = true)]
    threads: Option<usize>,
    #[command(flatten)]
    pub inputs: InputArgs,
    #[command(flatten)]
    code: CodeArgs,
    #[command(flatten)]
    passes: PassArgs,
}

impl TrialArgs {
    /// Counts the files that are read.
    pub fn touch(&self, touched: &mut Touched) {
        self.inputs.touch(touched);
        self.code.touch(touched);
    }

    /// What the options state, for a graph whose dims are numbers.
    pub fn trial(&self, graph: &Graph) -> Outcome<Trial> {
        let threads = self.threads.unwrap_or_else(available_threads);
        let options = self.code.options(self.code.target("host")?, threads, &self.passes)?;
        let signature = Signature::of(graph)?;
        let given = self.inputs.read(&signature)?;
        // smaller graphs take of the feeds what fits, so that it must be known here whether all of it does
        let random = random_feeds(&signature, &given, self.seed)?;
        let all: Vec<(&str, &Tensor)> = given.iter().chain(&random).map(|(name, t)| (name.as_str(), t)).collect();
        check_feeds(&signature, &all)?;
        let pool = PoolHandle::new(threads);
        Ok(Trial { options, given, seed: self.seed, tolerance: self.tolerance, pool, ..Trial::default() })
    }
}

/// A verdict for programs.
pub fn verdict_json(verdict: &kiln::fault::Verdict) -> Value {
    use kiln::fault::Verdict;
    let (kind, difference) = match verdict {
        Verdict::Agrees(largest) => ("agrees", largest.as_ref()),
        Verdict::Differs(worst) => ("differs", Some(worst)),
        Verdict::Fails(error) => return json!({ "verdict": "fails", "error": error.to_string() }),
    };
    let Some(d) = difference else { return json!({ "verdict": kind }) };
    json!({
        "verdict": kind,
        "output": d.output,
        "element": d.element,
        "found": number(d.found),
        "expected": number(d.expected),
        "relative_error": number(d.error),
    })
}

/// This command's line again, without the options `valued`, which have a value each, and with `more`.
pub fn command_line(valued: &[&str], more: &str) -> String {
    again(std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()), valued, more)
}

fn again(words: impl Iterator<Item = String>, valued: &[&str], more: &str) -> String {
    let mut line = "kiln".to_owned();
    let mut is_value = false;
    for word in words {
        if std::mem::take(&mut is_value) || word == "--json" || word == "--no-opt" {
            continue;
        }
        match word.split_once('=') {
            Some((option, _)) if valued.contains(&option) => {}
            _ if valued.contains(&word.as_str()) => is_value = true,
            _ => line += &format!(" {}", quoted(&word)),
        }
    }
    format!("{line} {more}")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::again;

    #[test]
    fn a_line_is_given_again_with_other_bounds() {
        let line = |text: &str| again(text.split(' ').map(str::to_owned), &["--until", "--fuel"], "--fuel 7");
        assert_eq!(line("bisect m.kiln --fuel 9 --json --seed 1"), "kiln bisect m.kiln --seed 1 --fuel 7");
        assert_eq!(line("--json bisect --no-opt --until=layout m.kiln"), "kiln bisect m.kiln --fuel 7");
        assert_eq!(line("bisect it's.kiln --fuel 9"), "kiln bisect 'it'\\''s.kiln' --fuel 7");
    }
}
