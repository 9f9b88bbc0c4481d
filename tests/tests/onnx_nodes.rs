//! Conformance with the ONNX project's own tests, by the reference interpreter; makes `docs/onnx.md`.
//!
//! `tests/models/fetch.py` fetches the tests. Without them this one is listed as ignored, with what to do.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use kiln::onnx::supported_operators;
use kiln_ir::{Graph, Tensor, interp};
use kiln_tests::models::folder;
use kiln_tests::onnx_nodes::{Outcome, SETS, cases, check, report};
use libtest_mimic::{Arguments, Failed, Trial};

/// Tests whose expected values ONNX Runtime 1.32 does not give either; Kiln gives what ONNX Runtime does.
const DISPUTED: &[(&str, &str)] = &[
    (
        "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True",
        "counts elements that only `ceil_mode` adds; ONNX Runtime and Kiln count the input and its stated padding",
    ),
    ("test_qlinearmatmul_2D_int8_float16", WRAPPED),
    ("test_qlinearmatmul_2D_int8_float32", WRAPPED),
    ("test_qlinearmatmul_3D_int8_float16", WRAPPED),
    ("test_qlinearmatmul_3D_int8_float32", WRAPPED),
    (
        "test_resize_downsample_scales_cubic_align_corners",
        "takes the extent before rounding as the resized one; ONNX Runtime and Kiln take the result's",
    ),
    (
        "test_resize_downsample_scales_linear_align_corners",
        "takes the extent before rounding as the resized one; ONNX Runtime and Kiln take the result's",
    ),
];

const WRAPPED: &str = "wraps what is out of range; ONNX Runtime and Kiln saturate, as the operator's definition says";

fn main() {
    // `--write` is this test's own; the rest are the test runner's.
    let mut arguments: Vec<String> = std::env::args().collect();
    let write = arguments.iter().any(|a| a == "--write");
    arguments.retain(|a| a != "--write");
    let data = folder().join("onnx-tests");
    let trial = if data.is_dir() {
        Trial::test("onnx_tests_pass_or_are_refused_as_docs_onnx_md_says", move || conformance(&data, write))
    } else {
        Trial::test("onnx_tests_fetched_with_python3_tests_models_fetch_py", || Ok(())).with_ignored_flag(true)
    };
    libtest_mimic::run(&Arguments::from_iter(arguments), vec![trial]).exit();
}

fn interpret(graph: &Graph, feeds: &[(&str, Tensor)]) -> Result<Vec<(String, Tensor)>, String> {
    interp::run::<f32>(graph, feeds, None).map_err(|e| e.to_string())
}

fn conformance(data: &Path, write: bool) -> Result<(), Failed> {
    let mut outcomes = BTreeMap::new();
    for set in SETS {
        for case in cases(data, set) {
            let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
            outcomes.insert((set.to_owned(), name), check(&case, interpret));
        }
    }
    let wrong: Vec<String> = outcomes
        .iter()
        .filter(|((_, name), _)| !DISPUTED.iter().any(|(n, _)| n == name))
        .filter_map(
            |((set, name), o)| if let Outcome::Wrong(what) = o { Some(format!("{set}/{name}: {what}")) } else { None },
        )
        .collect();
    let page = report(&outcomes, DISPUTED, &supported_operators());
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
