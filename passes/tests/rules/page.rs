//! `docs/rules.md`, generated from the tables of rules, of their proofs, and of their filetests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use kiln_passes::{PASSES, Statement, statements};

use crate::{How, refusals, rows};

const INTRODUCTION: &str = "# Rules

Generated from the tables of rules by `UPDATE_DOCS=1 cargo test -p kiln-passes --test rules`; a test keeps it true.

A rule states that two graphs are the same function of real numbers. Each can be switched off by its name (`--disable RULE`), and
`kiln explain --nodes` says which ones made a node. Passes run in the order of this page; `tidy` runs the rules of `canonicalise` again.

Rules that compute with constants at compile time (those that merge scales or shifts, or move them into weights) or put sums, products and functions into
another form (those that merge, decompose, recognise and fuse) are exact over the real numbers and change results by rounding only: a value that lies just at
a step of `floor`, `round`, `quantize` or a comparison may therefore fall on its other side.

Each rule is tested alone on random graphs that satisfy its precondition: it must fire, and what it makes must be equal. *Field*: all
sums and products are computed in the prime field 2³¹ − 1, where they are exact, so results must be equal; *f64*: results in f64 must be
equal bit by bit, or up to the relative difference that follows (1e-12: the order of roundings; 1e-6: constants that it makes are rounded to f32). The comparison
must notice graphs with one mistake in what the rule made. Two filetests show it: one in which it fires, and one that violates its
precondition, as random graphs do that it must leave alone.
";

/// The page.
fn markdown() -> String {
    let mut out = INTRODUCTION.to_owned();
    let (fires, idle) = (filetests("uses"), filetests("idle"));
    let all = statements();
    for pass in PASSES {
        let rules: Vec<&Statement> = all.iter().filter(|r| r.pass == pass.name).collect();
        if rules.is_empty() {
            continue;
        }
        let _ = write!(out, "\n## {}\n\n{}.\n\n", pass.name, sentence(pass.doc));
        out.push_str("| rule | statement | when | why it is cheaper | compared | fires | does not |\n");
        out.push_str("|---|---|---|---|---|---|---|\n");
        for rule in rules {
            let how = rows().find(|row| row.rule == rule.name).map_or("", |row| compared(row.how));
            let [fires, idle] =
                [&fires, &idle].map(|list| list.get(rule.name).map_or(String::new(), |path| link(path)));
            let cell = |text: &str| text.replace('|', "\\|");
            let _ = writeln!(
                out,
                "| `{}` | {} | {} | {} | {how} | {fires} | {idle} |",
                rule.name,
                cell(rule.statement),
                cell(rule.when),
                cell(rule.why)
            );
        }
    }
    out
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn compared(how: How) -> &'static str {
    match how {
        How::Exactly => "field",
        How::Identically => "f64",
        How::Closely(tolerance) if tolerance > 1e-9 => "f64, 1e-6",
        How::Closely(_) => "f64, 1e-12",
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn link(name: &str) -> String {
    format!("[{name}](../tests/filetests/rewrite/{name}.kiln)")
}

/// By rule: the file of `tests/filetests/rewrite` with the shortest name whose header lists it after `key`.
fn filetests(key: &str) -> BTreeMap<String, String> {
    let mut names: Vec<String> = std::fs::read_dir(root().join("tests/filetests/rewrite"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".kiln").map(str::to_owned))
        .collect();
    names.sort_by_key(|name| (name.len(), name.clone()));
    let mut first = BTreeMap::new();
    for name in names {
        let text = std::fs::read_to_string(root().join(format!("tests/filetests/rewrite/{name}.kiln"))).unwrap();
        let lists = text.lines().filter_map(|l| l.strip_prefix("// ")?.strip_prefix(key)?.strip_prefix(':'));
        for rule in lists.flat_map(|l| l.split(',')) {
            first.entry(rule.trim().to_owned()).or_insert_with(|| name.clone());
        }
    }
    first
}

#[test]
fn docs_rules_md_is_what_the_tables_say() {
    let (path, text) = (root().join("docs/rules.md"), markdown());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/rules.md is out of date: run `UPDATE_DOCS=1 cargo test -p kiln-passes --test rules`");
}

#[test]
fn every_rule_has_a_statement_a_proof_and_both_filetests() {
    let stated: BTreeSet<&str> = statements().iter().map(|r| r.name).collect();
    let proved: BTreeSet<&str> = rows().map(|row| row.rule).collect();
    let (fires, idle) = (filetests("uses"), filetests("idle"));
    let missing: Vec<&str> = kiln_passes::rule_names()
        .filter(|rule| {
            let listed = fires.contains_key(*rule) && idle.contains_key(*rule);
            !(stated.contains(rule) && proved.contains(rule) && listed)
        })
        .collect();
    assert!(missing.is_empty(), "no statement, row or filetests for {missing:?}");
    let known: BTreeSet<&str> = kiln_passes::rule_names().collect();
    assert_eq!(stated, known, "statements of no rule");
    for rule in statements() {
        assert!(!rule.statement.is_empty() && !rule.why.is_empty(), "{}", rule.name);
    }
    let refused: BTreeSet<&str> = refusals::all().map(|(rule, _)| *rule).collect();
    assert_eq!(refused, known, "every rule has graphs that it must leave alone");
}
