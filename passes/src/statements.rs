//! What every rule states, for people: `docs/rules.md` is made of it.

use crate::{canonicalise, egraph, fusion, layout, materialise, variables};

/// What a rule states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The pass that has it.
    pub pass: &'static str,
    /// Its name, as `disable` uses it.
    pub name: &'static str,
    /// The identity, or what it does.
    pub statement: &'static str,
    /// When it holds, where the statement does not say so.
    pub when: &'static str,
    /// What makes the result cheaper.
    pub why: &'static str,
}

/// All rules, each once, in the order of the passes.
pub fn statements() -> Vec<Statement> {
    let of = |pass, name, statement, when, why| Statement { pass, name, statement, when, why };
    let mut all: Vec<Statement> = Vec::new();
    let (name, doc) = variables::STATEMENT;
    all.push(of("variables", name, doc, "", "constants fold, and are packed at compile time"));
    let (name, doc) = canonicalise::constant::CSE_STATEMENT;
    all.push(of("canonicalise", name, doc, "", "it is computed once"));
    for rule in canonicalise::RULES.iter().copied().flatten() {
        all.push(of("canonicalise", rule.name, rule.doc, "", "never worse, and one form for other rules"));
    }
    for rule in egraph::rules::RULES.iter().copied().flatten() {
        all.push(of("rewrite", rule.name, rule.doc, rule.when, rule.why));
    }
    for (name, doc, when) in egraph::siblings::STATEMENTS {
        all.push(of("rewrite", name, doc, when, "one kernel reads x once"));
    }
    for (name, doc) in layout::STATEMENTS {
        all.push(of("layout", name, doc, "", "transposes move no memory, and vectors hold channels"));
    }
    for (name, doc) in materialise::STATEMENTS {
        all.push(of("materialise", name, doc, "", "it is stored as it is read, once"));
    }
    for (name, doc) in fusion::RULES {
        all.push(of("fusion", name, doc, "", "what lies between is neither written nor read"));
    }
    all
}
