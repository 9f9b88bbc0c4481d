//! Filetests: one textual graph a file, what to do with it in its comments, what must come of it beside it.
//!
//! ```text
//! // test: opt(without=layout)         what is done; the result is compared with the snapshot beside the file
//! // uses: fold_scale_into_conv        rules that must fire                            (opt, rewrite)
//! // idle: pad_into_conv               rules that must not fire                        (opt, rewrite)
//! // forbids: batch_norm               ops that must not be left                       (opt, rewrite)
//! // run: random(7) ~ 1e-5             runs every way on random inputs, against the interpreter in f64
//! // run: x = dense<[1.0, -2.0]> -> y = dense<[1.0, 0.0]>          … and on known values
//! kiln 1
//! graph @g(%x: f32[2]) -> (y = %0) {
//!   %0 = relu %x
//!   %1 = softmax %x {axis = 1}         //~ ERROR C1: axis < rank
//! }
//! ```
//!
//! | `test:` | does | result |
//! |---|---|---|
//! | `parse` | reads the text, prints it and reads that again | none |
//! | `print` | the same | the printed graph, with all types |
//! | `verify(stage)` | verifies at stage `primitive`, `composite` or `lowered` | none |
//! | `expand` | replaces composites by their bodies | the graph |
//! | `specialize(batch=2, …)` | binds symbolic dims; `run:` then takes this graph | the graph |
//! | `opt`, `opt(until=PASS)`, `opt(without=PASS or RULE)` | optimises; checks `uses`, `idle` and `forbids` | the graph |
//! | `rewrite(…)` | as `opt` | none |
//! | `kir`, `clif` | compiles for x86-64-v3 by Cranelift | the kernels, or their CLIF |
//! | `artifact` | compiles for x86-64-v3 by Cranelift into an artifact | what `kiln inspect` says of it, and its plan; no digests and sizes of code |
//!
//! Errors that are expected stand at the end of the line that they are reported at, after `//~ ERROR`, as a part of
//! their text (several errors: several `//~ ERROR`); errors without a line in the header, after `error:`. Each error
//! must be expected and each expected one must come.
//!
//! `run:` runs the graph by every way, and what `expand`, `opt` and `rewrite` make of it in the interpreter. It takes a tolerance after `~`, relative to the output's largest magnitude (or to 1, if that is more); without one
//! it is [`run::TOLERANCE`]. Integers and truth values are compared exactly.

mod commands;
mod compiled;
mod expect;
mod header;
pub mod run;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use header::Header;
use kiln_ir::Graph;
use kiln_ir::text::parse;
pub use run::Case;

/// The folder of all filetests.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests")
}

/// The `.kiln` files of a directory, in order.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut files: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "kiln"));
    files.sort();
    files
}

/// Runs all files of the directory `name` of [`root`].
///
/// # Panics
/// If a file fails; the message has all failures, each with its file. If there is no file.
pub fn run_directory(name: &str) {
    let directory = root().join(name);
    let files = files(&directory);
    assert!(!files.is_empty(), "no filetests in {name}");
    let failures: Vec<String> = files
        .iter()
        .filter_map(|path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // A panic of one file must not keep the others from running.
            let outcome = catch_unwind(AssertUnwindSafe(|| run_file(&directory, path)));
            let error = outcome.unwrap_or_else(|panic| Err(panic_text(&*panic))).err()?;
            Some(format!("---- {name}/{file}\n{error}"))
        })
        .collect();
    let (failed, all) = (failures.len(), files.len());
    assert!(failed == 0, "{failed} of {all} filetests failed\n{}", failures.join("\n"));
}

fn run_file(directory: &Path, path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let header = Header::read(&text)?;
    let output = commands::execute(&header, &text)?;
    if output.is_empty() { Ok(()) } else { compare_snapshot(directory, path, &output) }
}

/// The graph of the file at `path` and what its `run:` lines say of it.
pub fn cases(path: &Path) -> Result<(Graph, Vec<Case>), String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let graph = parse(&text, &path.display().to_string()).map_err(|e| e.to_string())?;
    let cases = Header::read(&text)?.runs.iter().map(|run| run.case(&graph)).collect::<Result<_, _>>()?;
    Ok((graph, cases))
}

/// What a panic said.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("no message"))
}

fn compare_snapshot(directory: &Path, path: &Path, output: &str) -> Result<(), String> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(directory);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    // insta panics at a difference, after printing it; the other files are to run too.
    let compared = catch_unwind(AssertUnwindSafe(|| settings.bind(|| insta::assert_snapshot!(stem, output))));
    compared.map_err(|_| "the result is not the snapshot (`cargo insta review` shows and accepts it)".to_owned())
}
