//! The files of `filetests/`, a test for each directory.

use std::collections::BTreeSet;

use kiln_ir::GraphError;
use kiln_ir::ops::ROWS;
use kiln_ir::text::{ParseErrorKind, parse};
use kiln_tests::filetest::{files, root, run_directory};

/// The directories that have a test below.
const DIRECTORIES: [&str; 9] = ["parse", "infer", "verify", "specialize", "rewrite", "kir", "clif", "artifact", "run"];

#[test]
fn texts_read_or_fail_where_they_say() {
    run_directory("parse");
}

#[test]
fn types_are_inferred_and_each_violated_constraint_is_named() {
    run_directory("infer");
}

#[test]
fn graphs_verify_at_the_stages_that_admit_their_ops() {
    run_directory("verify");
}

#[test]
fn symbolic_dims_are_bound() {
    run_directory("specialize");
}

#[test]
fn rules_fire_and_give_the_graphs_that_they_promise() {
    run_directory("rewrite");
}

#[test]
fn graphs_lower_to_these_kernels() {
    run_directory("kir");
}

#[test]
fn kernels_become_this_clif() {
    run_directory("clif");
}

#[test]
fn artifacts_hold_these_weights_and_this_plan() {
    run_directory("artifact");
}

#[test]
fn graphs_give_the_same_results_by_every_way() {
    run_directory("run");
}

#[test]
fn every_directory_has_a_test() {
    let entries = std::fs::read_dir(root()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert_eq!(entries.collect::<BTreeSet<_>>(), DIRECTORIES.map(str::to_owned).into());
}

/// `run:` runs a graph unoptimised, with each pass off and in full ([`kiln_tests::ways::Way::all`]), so a file without it is in no such matrix.
#[test]
fn every_graph_that_is_optimised_is_run_by_every_way() {
    let mut without = Vec::new();
    for directory in ["rewrite", "kir", "run"] {
        for path in files(&root().join(directory)) {
            let text = std::fs::read_to_string(&path).unwrap();
            if !text.lines().any(|l| l.starts_with("// run:")) {
                without.push(path.file_stem().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    assert!(without.is_empty(), "no `run:` line in {without:?}");
}

#[test]
fn every_constraint_of_every_op_has_a_case_that_violates_it() {
    let mut violated: BTreeSet<(String, &str)> = BTreeSet::new();
    for path in files(&root().join("infer")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let Err(errors) = parse(&text, "test") else { continue };
        for e in &errors.0 {
            let ParseErrorKind::Graph(error) = &e.kind else { continue };
            match &**error {
                GraphError::Infer { error, .. } => {
                    violated.extend(error.violations.iter().map(|(v, _)| (error.mnemonic.to_owned(), v.label)));
                }
                // The ops of state: their constraints are about the graph, not about their operands alone.
                GraphError::Variable { found, .. } => {
                    let line = text.lines().nth(e.line as usize - 1).unwrap();
                    let label = if found.contains("second assignment") { "C2" } else { "C1" };
                    for op in ["read_var", "assign"].into_iter().filter(|op| line.contains(op)) {
                        violated.insert((op.to_owned(), label));
                    }
                }
                _ => {}
            }
        }
    }
    let all = ROWS.iter().flat_map(|row| row.constraints.iter().map(|(label, _)| (row.mnemonic.to_owned(), *label)));
    let missing: Vec<(String, &str)> = all.filter(|c| !violated.contains(c)).collect();
    assert!(missing.is_empty(), "no negative case in filetests/infer for {missing:?}");
}

/// Rules that the headers of the files of `rewrite` list after `key`.
fn listed(key: &str) -> BTreeSet<String> {
    let mut rules = BTreeSet::new();
    for path in files(&root().join("rewrite")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let lists = text.lines().filter_map(|l| l.strip_prefix("// ")?.strip_prefix(key)?.strip_prefix(':'));
        rules.extend(lists.flat_map(|l| l.split(',')).map(|rule| rule.trim().to_owned()));
    }
    rules
}

#[test]
fn every_rule_has_a_filetest_where_it_fires_and_one_where_it_must_not() {
    for (key, what) in [("uses", "it must fire"), ("idle", "it must not fire")] {
        let listed = listed(key);
        let missing: Vec<&str> = kiln_passes::rule_names().filter(|rule| !listed.contains(*rule)).collect();
        assert!(missing.is_empty(), "no file of filetests/rewrite says where {what}, of {missing:?}");
        let known: BTreeSet<&str> = kiln_passes::rule_names().collect();
        let unknown: Vec<&String> = listed.iter().filter(|rule| !known.contains(rule.as_str())).collect();
        assert!(unknown.is_empty(), "files of filetests/rewrite name {unknown:?}, which are no rules");
    }
}
