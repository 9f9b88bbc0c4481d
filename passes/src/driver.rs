//! The driver: runs passes in order, checks the graph after each, and says what happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use kiln_ir::{Dim, Graph, GraphError, Stage, TensorType, verify};

use crate::provenance::{Firing, Origin, Provenance};

/// A graph-to-graph transformation with a name.
#[derive(Clone, Copy)]
pub struct Pass {
    /// Name, as `until` and `disable` use it.
    pub name: &'static str,
    /// One line for people.
    pub doc: &'static str,
    /// The names of its rules, as `disable` uses them.
    pub rules: fn() -> Vec<&'static str>,
    /// The transformation.
    pub run: fn(&Graph, &mut Context<'_>) -> Result<Graph, PassFailure>,
}

/// What to do, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Passes and rules that must not run, by name.
    pub disable: BTreeSet<String>,
    /// Stop after this pass.
    pub until: Option<String>,
    /// How many times rules may fire in all; to find by bisection the firing that does harm.
    pub fuel: Option<u64>,
    /// The most e-nodes that the e-graph may grow to, as a multiple of the graph's nodes.
    pub egraph_growth: usize,
    /// The most rounds of rules over the e-graph.
    pub egraph_iterations: usize,
}

impl Default for Options {
    fn default() -> Options {
        // Linear-growth rules end below 3 e-nodes a node after 4 to 6 rounds (measured on chains of residual
        // blocks): the limits leave room and stop only a rule that is wrong.
        Options { disable: BTreeSet::new(), until: None, fuel: None, egraph_growth: 16, egraph_iterations: 12 }
    }
}

impl Options {
    /// No optimisation: every pass is off.
    pub fn none() -> Options {
        Options { disable: crate::PASSES.iter().map(|p| p.name.to_owned()).collect(), ..Options::default() }
    }

    /// With a pass or a rule switched off.
    pub fn without(mut self, name: &str) -> Options {
        self.disable.insert(name.to_owned());
        self
    }

    /// Ending after a pass.
    pub fn until(mut self, pass: &str) -> Options {
        self.until = Some(pass.to_owned());
        self
    }
}

/// What a pass may ask and must record.
pub struct Context<'o> {
    options: &'o Options,
    fuel: Option<u64>,
    fired: BTreeMap<&'static str, usize>,
    firings: u64,
    pub(crate) origins: Vec<Origin>,
    pub(crate) growth: Option<Growth>,
}

/// How far an e-graph grew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// E-nodes of the graph as it came in.
    pub before: usize,
    /// E-nodes when rules had nothing to add.
    pub after: usize,
    /// Classes then.
    pub classes: usize,
    /// Rounds of rules over the e-graph.
    pub rounds: usize,
}

impl<'o> Context<'o> {
    /// A context for a graph as the user wrote it.
    pub fn new(options: &'o Options, graph: &Graph) -> Context<'o> {
        Context {
            options,
            fuel: options.fuel,
            fired: BTreeMap::new(),
            firings: 0,
            origins: graph.node_ids().map(Origin::of).collect(),
            growth: None,
        }
    }

    /// The options.
    pub fn options(&self) -> &'o Options {
        self.options
    }

    /// Whether a rule may fire: it is not disabled, and there is fuel.
    pub fn may_fire(&self, rule: &str) -> bool {
        self.fuel != Some(0) && !self.options.disable.contains(rule)
    }

    /// Records that a rule fired.
    pub fn fired(&mut self, rule: &'static str) {
        *self.fired.entry(rule).or_insert(0) += 1;
        self.firings += 1;
        if let Some(fuel) = &mut self.fuel {
            *fuel = fuel.saturating_sub(1);
        }
    }

    /// The latest firing, as one of `rule`.
    pub fn latest(&self, rule: &'static str) -> Firing {
        Firing { number: self.firings, rule }
    }

    /// The firing that comes next, as one of `rule`.
    pub fn next(&self, rule: &'static str) -> Firing {
        Firing { number: self.firings + 1, rule }
    }
}

/// What one pass did.
#[derive(Clone, Debug, PartialEq)]
pub struct PassReport {
    /// The pass.
    pub name: &'static str,
    /// Time it took, verification aside.
    pub time: Duration,
    /// Nodes before.
    pub nodes_before: usize,
    /// Nodes after.
    pub nodes_after: usize,
    /// How often each rule fired.
    pub fired: BTreeMap<&'static str, usize>,
    /// How far its e-graph grew, if it has one.
    pub growth: Option<Growth>,
}

impl PassReport {
    /// How often its rules fired.
    pub fn firings(&self) -> u64 {
        self.fired.values().map(|&n| n as u64).sum()
    }
}

/// What the driver did, pass by pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The passes that ran, in order.
    pub passes: Vec<PassReport>,
    /// Time spent on checking the graph after passes.
    pub verification: Duration,
}

impl Report {
    /// Time of all passes together.
    pub fn time(&self) -> Duration {
        self.passes.iter().map(|p| p.time).sum()
    }

    /// How often a rule fired in all.
    pub fn fired(&self, rule: &str) -> usize {
        self.passes.iter().filter_map(|p| p.fired.get(rule)).sum()
    }

    /// How often rules fired in all: the fuel that was used.
    pub fn firings(&self) -> u64 {
        self.passes.iter().map(PassReport::firings).sum()
    }

    /// The pass in which the firing of this number was, counted from 1.
    pub fn pass_of(&self, firing: u64) -> Option<&PassReport> {
        let mut before = 0;
        self.passes.iter().find(|p| {
            before += p.firings();
            firing <= before
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<14} {:>9} {:>7} {:>7}  rules", "pass", "ms", "nodes", "after")?;
        for p in &self.passes {
            let rules: Vec<String> = p.fired.iter().map(|(rule, n)| format!("{rule} ×{n}")).collect();
            writeln!(
                f,
                "{:<14} {:>9.3} {:>7} {:>7}  {}",
                p.name,
                p.time.as_secs_f64() * 1e3,
                p.nodes_before,
                p.nodes_after,
                rules.join(", ")
            )?;
        }
        write!(
            f,
            "{:<14} {:>9.3} (verification {:.3} ms more)",
            "all",
            self.time().as_secs_f64() * 1e3,
            self.verification.as_secs_f64() * 1e3
        )
    }
}

/// Why a pass failed: a bug of the pass.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PassFailure {
    /// It made a node that does not fit.
    #[error(transparent)]
    Graph(#[from] Box<GraphError>),
    /// A rule of the e-graph gave a value of another type.
    #[error("rule `{rule}` made {found} of {expected}")]
    Rule {
        /// The rule.
        rule: &'static str,
        /// The type it was asked about.
        expected: TensorType,
        /// The type it gave.
        found: TensorType,
    },
    /// No acyclic graph could be taken out of the e-graph.
    #[error("no graph could be extracted: {what}")]
    Extraction {
        /// What was missing.
        what: String,
    },
}

impl From<GraphError> for PassFailure {
    fn from(error: GraphError) -> PassFailure {
        PassFailure::Graph(Box::new(error))
    }
}

/// Why a graph could not be optimised.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PassError {
    /// A name that no pass and no rule has.
    #[error("there is no pass{} `{name}`; there are {}", if *.rules { " or rule" } else { "" }, .known.join(", "))]
    UnknownName {
        /// The name.
        name: String,
        /// Whether rules were looked at too.
        rules: bool,
        /// The names there are.
        known: Vec<&'static str>,
    },
    /// A pass made a node that does not fit: a bug of the pass.
    #[error("pass `{pass}` failed (a bug in Kiln; disabling the pass may avoid it): {error}")]
    Pass {
        /// The pass.
        pass: &'static str,
        /// What went wrong.
        error: Box<PassFailure>,
    },
    /// A pass made a graph that does not verify: a bug of the pass.
    #[error("the graph is invalid after pass `{pass}` (a bug in Kiln; disabling the pass may avoid it):\n{errors}")]
    Invalid {
        /// The pass.
        pass: &'static str,
        /// What the verifier says.
        errors: String,
    },
    /// The graph was invalid to begin with.
    #[error("the graph to optimise is invalid:\n{errors}")]
    InvalidInput {
        /// What the verifier says.
        errors: String,
    },
}

/// An optimised graph, and how it came about.
#[derive(Clone, Debug)]
pub struct Optimized {
    /// The graph.
    pub graph: Graph,
    /// What each pass did.
    pub report: Report,
    /// Which source nodes and rules each node comes from.
    pub provenance: Provenance,
}

/// Runs `passes` over `graph`; `observe` sees the graph after each of them.
pub fn run(
    passes: &[Pass],
    graph: &Graph,
    options: &Options,
    observe: &mut dyn FnMut(&Pass, &Graph),
) -> Result<Optimized, PassError> {
    check_names(passes, options)?;
    check(graph).map_err(|errors| PassError::InvalidInput { errors })?;
    let mut context = Context::new(options, graph);
    let mut report = Report::default();
    let mut current = graph.clone();
    for pass in passes {
        if !options.disable.contains(pass.name) {
            let start = Instant::now();
            let next = (pass.run)(&current, &mut context)
                .map_err(|error| PassError::Pass { pass: pass.name, error: Box::new(error) })?;
            let time = start.elapsed();
            let start = Instant::now();
            check(&next)
                .and_then(|()| same_outputs(&current, &next))
                .map_err(|errors| PassError::Invalid { pass: pass.name, errors })?;
            report.verification += start.elapsed();
            report.passes.push(PassReport {
                name: pass.name,
                time,
                nodes_before: current.len(),
                nodes_after: next.len(),
                fired: std::mem::take(&mut context.fired),
                growth: context.growth.take(),
            });
            current = next;
            observe(pass, &current);
        }
        if options.until.as_deref() == Some(pass.name) {
            break;
        }
    }
    Ok(Optimized { graph: current, report, provenance: Provenance::new(context.origins) })
}

fn check_names(passes: &[Pass], options: &Options) -> Result<(), PassError> {
    let known: Vec<&'static str> = passes.iter().map(|p| p.name).collect();
    if let Some(name) = options.until.as_ref().filter(|n| !known.contains(&n.as_str())) {
        return Err(PassError::UnknownName { name: name.clone(), rules: false, known });
    }
    // A part of the passes takes the options of all.
    let all = passes.iter().chain(crate::PASSES);
    let mut names: Vec<&'static str> = known;
    for name in all.clone().map(|p| p.name).chain(all.flat_map(|p| (p.rules)())) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let known = names;
    match options.disable.iter().find(|n| !known.contains(&n.as_str())) {
        Some(name) => Err(PassError::UnknownName { name: name.clone(), rules: true, known }),
        None => Ok(()),
    }
}

/// Whether the outputs are those that they were: the same names, dtypes and, where they are known, extents.
fn same_outputs(before: &Graph, after: &Graph) -> Result<(), String> {
    let typed = |graph: &Graph| -> Vec<(String, TensorType)> {
        graph.outputs().iter().map(|(name, v)| (name.clone(), graph.ty(*v).clone())).collect()
    };
    let (before, after) = (typed(before), typed(after));
    let alike = |(a, b): (&Dim, &Dim)| a.fixed().is_none() || b.fixed().is_none() || a == b;
    let same = |((name, a), (other, b)): (&(String, TensorType), &(String, TensorType))| {
        name == other && a.dtype == b.dtype && a.dims.len() == b.dims.len() && a.dims.iter().zip(&b.dims).all(alike)
    };
    if before.len() == after.len() && before.iter().zip(&after).all(same) {
        return Ok(());
    }
    let shown = |all: &[(String, TensorType)]| {
        all.iter().map(|(name, ty)| format!("%{name}: {ty}")).collect::<Vec<_>>().join(", ")
    };
    Err(format!("the outputs were {}, and are {}", shown(&before), shown(&after)))
}

fn check(graph: &Graph) -> Result<(), String> {
    verify(graph, Stage::Lowered)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}
