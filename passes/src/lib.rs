//! Graph-to-graph passes: a graph as the user wrote it becomes the graph that is lowered.
//!
//! ```text
//! variables → canonicalise → rewrite (e-graph) → layout → materialise → fusion
//! ```
//!
//! Every pass is a function from a graph to a graph; none changes the graph it is given. The driver verifies after
//! each pass and names the guilty one; it can stop after a pass, leave passes and single rules out, and stop all
//! rules after a number of firings. Rules are exact over the reals: they may change rounding, never the function.

mod axes;
pub mod canonicalise;
pub mod driver;
pub mod egraph;
pub mod evaluate;
pub mod fusion;
pub mod layout;
pub mod materialise;
pub mod provenance;
pub mod recognise;
pub mod rewrite;
mod statements;
pub mod variables;

use std::collections::BTreeSet;

use kiln_ir::Graph;

pub use driver::{Context, Growth, Optimized, Options, Pass, PassError, PassFailure, PassReport, Report};
pub use provenance::{Firing, Origin, Provenance};
pub use statements::{Statement, statements};

/// The passes of [`optimize`], in order.
pub const PASSES: &[Pass] = &[
    Pass {
        name: "variables",
        doc: "variables that nothing assigns become constants",
        rules: || vec![variables::RULE],
        run: variables::run,
    },
    Pass {
        name: "canonicalise",
        doc: "every value in its simplest form",
        rules: canonicalise::rule_names,
        run: canonicalise::run,
    },
    Pass {
        name: "rewrite",
        doc: "the cheapest of all graphs that the exact rules reach",
        rules: egraph::rule_names,
        run: egraph::run,
    },
    Pass {
        name: "layout",
        doc: "convolutions channels-last, transposes only where nothing can avoid them",
        rules: || vec![layout::CHANNELS_LAST, layout::RELABEL],
        run: layout::run,
    },
    Pass {
        name: "tidy",
        doc: "canonicalise what layout left",
        rules: canonicalise::rule_names,
        run: canonicalise::run,
    },
    Pass {
        name: "materialise",
        doc: "transposed and repeated constants are stored where they are read",
        rules: || vec![materialise::TRANSPOSED, materialise::BROADCAST],
        run: materialise::run,
    },
    Pass {
        name: "fusion",
        doc: "elementwise work joins contractions, reductions and other elementwise work",
        rules: || fusion::RULES.iter().map(|(name, _)| *name).collect(),
        run: fusion::run,
    },
];

/// The names of all rules, for `disable`: each once, in the order of the passes.
pub fn rule_names() -> impl Iterator<Item = &'static str> {
    let mut seen = BTreeSet::new();
    PASSES.iter().flat_map(|pass| (pass.rules)()).filter(move |rule| seen.insert(*rule))
}

/// Optimises a graph: runs [`PASSES`] as `options` say.
pub fn optimize(graph: &Graph, options: &Options) -> Result<Optimized, PassError> {
    driver::run(PASSES, graph, options, &mut |_, _| {})
}

/// As [`optimize`]; `observe` sees the graph after each pass.
pub fn optimize_observed(
    graph: &Graph,
    options: &Options,
    observe: &mut dyn FnMut(&Pass, &Graph),
) -> Result<Optimized, PassError> {
    driver::run(PASSES, graph, options, observe)
}
