//! Conformance with the ONNX project's own tests, by the reference interpreter, which makes `docs/onnx.md`, and compiled.
//!
//! `tests/models/fetch.py` fetches the tests. Without them this one is listed as ignored, with what to do.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use kiln::onnx::supported_operators;
use kiln_ir::{Graph, Tensor, interp};
use kiln_tests::models::folder;
use kiln_tests::onnx_nodes::{Dispute, Outcome, Run, SETS, cases, check, report};
use kiln_tests::target::chosen;
use kiln_tests::ways::Way;
use libtest_mimic::{Arguments, Failed, Trial};

/// Tests whose expected values ONNX Runtime 1.32 does not give either, or that contradict the operator's definition where it
/// does not have the operator. The values are those that it gave.
const DISPUTES: &[Dispute] = &[
    Dispute {
        name: "test_adam_multiple",
        why: "expects an epsilon of 0.01 where the node states none and the operator's default is 1e-6 (ONNX Runtime does not \
              have this operator)",
        // the first element of either tensor
        differing: 1,
        values: &[],
    },
    Dispute {
        name: "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True",
        why: "expects a division by elements that only `ceil_mode` adds, beyond the stated padding; ONNX 1.18 corrected it",
        differing: 216,
        values: &[(8, 0.10582702), (17, -0.15379284), (26, 0.07625321), (35, 0.03180645)],
    },
    Dispute { name: "test_qlinearmatmul_2D_int8_float16", why: WRAPPED, differing: 1, values: &[(5, -128.0)] },
    Dispute { name: "test_qlinearmatmul_2D_int8_float32", why: WRAPPED, differing: 1, values: &[(5, -128.0)] },
    Dispute { name: "test_qlinearmatmul_3D_int8_float16", why: WRAPPED, differing: 4, values: LEAST },
    Dispute { name: "test_qlinearmatmul_3D_int8_float32", why: WRAPPED, differing: 4, values: LEAST },
    Dispute {
        name: "test_resize_downsample_scales_cubic_align_corners",
        why: UNROUNDED,
        differing: 8,
        values: &[(1, 2.5), (2, 4.0), (3, 7.0), (4, 8.5), (5, 10.0), (6, 13.0), (7, 14.5), (8, 16.0)],
    },
    Dispute {
        name: "test_resize_downsample_scales_linear_align_corners",
        why: UNROUNDED,
        differing: 1,
        values: &[(1, 4.0)],
    },
];

/// Tests of the set `node` that pass at least, of 1,288: refusing what was read before is no way to be right.
const LEAST_PASSED: usize = 1100;

const WRAPPED: &str = "expects what is out of range to wrap; the operator's definition says that it saturates (corrected by \
                       onnx/onnx#7868)";
const LEAST: &[(usize, f64)] = &[(1, -128.0), (2, -128.0), (7, -128.0), (8, -128.0)];
const UNROUNDED: &str = "takes the product of extent and scale, before it is rounded, for the length of the resized tensor that \
                         the operator's definition speaks of; the last element then is not the corner (onnx/onnx#2462)";

fn main() {
    // `--write` is this test's own; the rest are the test runner's.
    let mut arguments: Vec<String> = std::env::args().collect();
    let write = arguments.iter().any(|a| a == "--write");
    arguments.retain(|a| a != "--write");
    let data = folder().join("onnx-tests");
    let trials = if data.is_dir() {
        let interpreted = ("onnx_tests_pass_or_are_refused_as_docs_onnx_md_says", interpret as Run);
        let compiled = ("onnx_tests_come_to_the_same_compiled", compiled as Run);
        let ways = match chosen() {
            _ if write => vec![interpreted],
            None => vec![interpreted, compiled],
            // the interpreter knows no targets
            Some(_) => vec![compiled],
        };
        let trial = |(name, run): (&str, Run)| {
            let data = data.clone();
            Trial::test(name, move || conformance(&data, run, write))
        };
        ways.into_iter().map(trial).collect()
    } else {
        let missing = "onnx_tests_fetched_with_python3_tests_models_fetch_py";
        vec![Trial::test(missing, || Ok(())).with_ignored_flag(true)]
    };
    libtest_mimic::run(&Arguments::from_iter(arguments), trials).exit();
}

fn interpret(graph: &Graph, feeds: &[(&str, Tensor)]) -> Result<Vec<(String, Tensor)>, String> {
    interp::run::<f32>(graph, feeds, None).map_err(|e| e.to_string())
}

fn compiled(graph: &Graph, feeds: &[(&str, Tensor)]) -> Result<Vec<(String, Tensor)>, String> {
    let feeds: Vec<(String, Tensor)> = feeds.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Way::Compiled(kiln_passes::Options::default()).run(graph, &feeds)
}

/// Runs every test by `run`. What comes of them must be what `docs/onnx.md` says, or with `write`, becomes it.
fn conformance(data: &Path, run: Run, write: bool) -> Result<(), Failed> {
    let mut outcomes = BTreeMap::new();
    for set in SETS {
        for case in cases(data, set) {
            let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
            outcomes.insert((set.to_owned(), name), check(&case, run, DISPUTES));
        }
    }
    let mut wrong: Vec<String> = Vec::new();
    for ((set, name), outcome) in &outcomes {
        let disputed = DISPUTES.iter().any(|d| d.name == name);
        match outcome {
            Outcome::Wrong(what) => wrong.push(format!("{set}/{name}: {what}")),
            Outcome::Passed | Outcome::Refused(_) if disputed => {
                wrong.push(format!("{set}/{name}: no longer disputed"))
            }
            _ => {}
        }
    }
    let passed = outcomes.iter().filter(|((set, _), outcome)| set == "node" && **outcome == Outcome::Passed).count();
    if passed < LEAST_PASSED {
        wrong.push(format!("node: {passed} tests pass, at least {LEAST_PASSED} must"));
    }
    let page = report(&outcomes, DISPUTES, &supported_operators());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/onnx.md");
    if write {
        fs::create_dir_all(file.parent().unwrap_or(Path::new(".")))?;
        fs::write(&file, &page)?;
    }
    if !wrong.is_empty() {
        return Err(format!("{} wrong results\n{}", wrong.len(), wrong.join("\n")).into());
    }
    if fs::read_to_string(&file)? != page {
        let first = page.lines().next().unwrap_or_default();
        return Err(format!("docs/onnx.md is not what the tests give now ({first}): `-- --write` replaces it").into());
    }
    Ok(())
}
