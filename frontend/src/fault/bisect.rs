//! Which firing of which rule changes a result.
//!
//! First the passes: the result is right without any and wrong with all, so there is a pass after which it is wrong while
//! it is right before it. Then fuel: the result is right if none of that pass's rules fires and wrong if all do, so there
//! is a firing with which it is wrong while it is right without. Each step halves what is left, and what is
//! found is one firing apart, whether or not right and wrong alternate in between.

use std::collections::BTreeSet;

use kiln_ir::Graph;
use kiln_passes::{Options, Report};

use super::trial::{Reference, Trial, Verdict};
use crate::measure::MeasureError;

/// What a bisection finds.
#[derive(Debug)]
pub enum Finding {
    /// The result is right.
    Right {
        /// What the comparison says.
        verdict: Verdict,
    },
    /// The result is wrong.
    Wrong(Box<Culprit>),
}

/// What makes a result wrong.
#[derive(Debug)]
pub struct Culprit {
    /// What the comparison says of the graph with all passes.
    pub verdict: Verdict,
    /// What is to blame.
    pub cause: Cause,
    /// Comparisons that it took.
    pub comparisons: usize,
}

/// What is to blame for a wrong result.
#[derive(Debug)]
pub enum Cause {
    /// It is wrong without any pass.
    CodeGeneration {
        /// What the comparison says of it with the portable back end, where another was asked.
        portable: Option<Verdict>,
    },
    /// A pass changes it, and none of its rules does.
    Pass(Step),
    /// A firing of a rule changes it.
    Rule {
        /// The rule. Where firings are one step that fuel does not divide, all of them.
        rules: Vec<&'static str>,
        /// The firing's number: fuel for one less leaves the result right.
        firing: u64,
        /// Where.
        step: Step,
    },
}

/// What happened to the graph where its result changed.
#[derive(Debug)]
pub struct Step {
    /// The pass.
    pub pass: &'static str,
    /// The last graph of which the result is right.
    pub before: Graph,
    /// The first one of which it is wrong; `None` where the pass fails.
    pub after: Option<Graph>,
    /// What the comparison says of it.
    pub verdict: Verdict,
    /// What computes the wrong result.
    pub blame: Blame,
    /// What the comparison says of the whole with the rules (or the pass) switched off and all else on.
    pub without: Verdict,
}

/// What computes a wrong result.
#[derive(Debug)]
pub enum Blame {
    /// The graph means something else than before: the interpreter gives a wrong result, too.
    Rewriting,
    /// The graph means the same: its code computes something else.
    CodeGeneration {
        /// What the comparison says of it with the portable back end, where another was asked.
        portable: Option<Verdict>,
    },
}

/// Compares `graph` with its reference, and, where they differ, finds what makes them. The passes of the trial's own
/// options bound the search. `observe` is told what is compared.
pub fn bisect(graph: &Graph, trial: &Trial, observe: &mut dyn FnMut(&str)) -> Result<Finding, MeasureError> {
    observe("interpreting");
    let reference = trial.reference(graph)?;
    let mut search = Search { graph, trial, reference, comparisons: 0, observe };
    let all = trial.options.passes.clone();
    let verdict = search.judge(&all, "with all passes");
    if verdict.agrees() {
        return Ok(Finding::Right { verdict });
    }
    let cause = search.cause(&all);
    let comparisons = search.comparisons;
    Ok(Finding::Wrong(Box::new(Culprit { verdict, cause, comparisons })))
}

struct Search<'a> {
    graph: &'a Graph,
    trial: &'a Trial,
    reference: Reference,
    comparisons: usize,
    observe: &'a mut dyn FnMut(&str),
}

impl Search<'_> {
    fn judge(&mut self, options: &Options, what: &str) -> Verdict {
        (self.observe)(&format!("comparing {what}"));
        self.comparisons += 1;
        self.trial.judge(self.graph, options, &self.reference)
    }

    /// What is to blame, where the result is wrong with the passes of `all`.
    fn cause(&mut self, all: &Options) -> Cause {
        let run = self.names_of(all);
        // With the first n of the passes that run.
        let first = |n: usize| match n.checked_sub(1).and_then(|last| run.get(last)) {
            Some(&last) => Options { until: Some(last.to_owned()), ..all.clone() },
            None => Options { disable: self.trial.passes.iter().map(|p| p.name.to_owned()).collect(), ..all.clone() },
        };
        let none = first(0);
        let prefixes: Vec<Options> = (0..=run.len()).map(first).collect();
        if run.is_empty() || !self.judge(&none, "without passes").agrees() {
            return Cause::CodeGeneration { portable: self.portable(&none) };
        }
        let (mut right, mut wrong) = (0, run.len());
        while wrong - right > 1 {
            let middle = right.midpoint(wrong);
            let last = run[middle - 1];
            let verdict = self.judge(&prefixes[middle], &format!("with passes until {last}"));
            *(if verdict.agrees() { &mut right } else { &mut wrong }) = middle;
        }
        self.of_pass(all, run[wrong - 1], &prefixes[right], &prefixes[wrong])
    }

    /// The passes that run, by name.
    fn names_of(&self, options: &Options) -> Vec<&'static str> {
        let names = self.trial.passes.iter().map(|p| p.name);
        let last = options.until.as_deref().and_then(|last| names.clone().position(|name| name == last));
        let count = last.map_or(self.trial.passes.len(), |last| last + 1);
        names.take(count).filter(|name| !options.disable.contains(*name)).collect()
    }

    /// What in `pass` is to blame: the result is right with the passes of `before`, and wrong with those of `with`,
    /// which has this pass as well.
    fn of_pass(&mut self, all: &Options, pass: &'static str, before: &Options, with: &Options) -> Cause {
        let fuelled = |fuel: u64| Options { fuel: Some(fuel), ..with.clone() };
        let earlier = self.report(before).map_or(0, |report| report.firings());
        let firings = self.report(with).map(|report| report.firings());
        if firings == Some(earlier) || !self.judge(&fuelled(earlier), &format!("{pass} without its rules")).agrees() {
            return Cause::Pass(self.step(all, pass, before, with, &[pass]));
        }
        let mut right = earlier;
        // Of a pass that fails nobody knows how many firings it would have had: more and more of them are tried.
        let mut wrong = firings.or(all.fuel);
        let mut stride = 1;
        let wrong = loop {
            let middle = match wrong {
                Some(wrong) if wrong - right <= 1 => break wrong,
                Some(wrong) => right.midpoint(wrong),
                None if stride > MOST_FIRINGS => return Cause::Pass(self.step(all, pass, before, with, &[pass])),
                None => right + stride,
            };
            if self.judge(&fuelled(middle), &format!("{pass} with {middle} firings")).agrees() {
                right = middle;
                stride *= 2;
            } else {
                wrong = Some(middle);
            }
        };
        let (before, with) = (fuelled(right), fuelled(wrong));
        let fewer = self.report(&before);
        let rules = match (fewer, self.report(&with)) {
            (Some(fewer), Some(more)) => difference(&fewer, &more),
            _ => Vec::new(),
        };
        let named = if rules.is_empty() { vec![pass] } else { rules.clone() };
        Cause::Rule { rules, firing: wrong, step: self.step(all, pass, &before, &with, &named) }
    }

    fn report(&self, options: &Options) -> Option<Report> {
        self.trial.optimize(self.graph, options).ok().map(|optimized| optimized.report)
    }

    /// What happened between the passes of `before` and those of `with`; `names` are to blame.
    fn step(
        &mut self,
        all: &Options,
        pass: &'static str,
        before: &Options,
        with: &Options,
        names: &[&'static str],
    ) -> Step {
        let graph = |options| self.trial.optimize(self.graph, options).ok().map(|optimized| optimized.graph);
        let (before, after) = (graph(before).unwrap_or_else(|| self.graph.clone()), graph(with));
        let verdict = self.judge(with, "what differs again");
        let same = after.as_ref().is_some_and(|after| self.trial.judge_meaning(after, &self.reference).agrees());
        let blame = if same { Blame::CodeGeneration { portable: self.portable(with) } } else { Blame::Rewriting };
        let names: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let without = Options { disable: &all.disable | &names, ..all.clone() };
        let without = self.judge(&without, "without what is to blame");
        Step { pass, before, after, verdict, blame, without }
    }

    /// What the portable back end makes of it.
    fn portable(&mut self, options: &Options) -> Option<Verdict> {
        let target = self.trial.other_target()?;
        let optimized = self.trial.optimize(self.graph, options).ok()?;
        (self.observe)("comparing code of the portable back end");
        self.comparisons += 1;
        Some(self.trial.judge_code(&optimized.graph, Some(target), &self.reference))
    }
}

/// Firings looked for where a pass fails, so that there is no report of how many there are.
const MOST_FIRINGS: u64 = 1 << 32;

/// The rules that fired more often.
fn difference(fewer: &Report, more: &Report) -> Vec<&'static str> {
    let names: BTreeSet<&'static str> = more.passes.iter().flat_map(|p| p.fired.keys().copied()).collect();
    names.into_iter().filter(|rule| more.fired(rule) > fewer.fired(rule)).collect()
}
