//! `docs/limits.md` says what the code says.

use std::path::Path;

const MADE: &str = "268435456 (2^28), and 4 times the bytes of the model's initializers and `Constant` nodes";

/// Number in the page, file, and the declaration that says it.
const LIMITS: &[(&str, &str, &str)] = &[
    ("2305843009213693952 (2^61)", "ir/src/graph.rs", "MOST_VALUE_BYTES: u64 = 1 << 61"),
    ("64", "ir/src/text/parse/types.rs", "MAX_RANK: usize = 64"),
    ("64", "frontend/src/onnx/emit.rs", "MOST_AXES: usize = 64"),
    ("16", "ir/src/text/parse/types.rs", "MAX_DEPTH: usize = 16"),
    ("200", "ir/src/scalar/parse.rs", "MAX_DEPTH: usize = 200"),
    ("1073741824 (2^30)", "ir/src/text/tensor.rs", "MAX_WRITTEN_BYTES: usize = 1 << 30"),
    ("100", "ir/src/text/parse/mod.rs", "MAX_ERRORS: usize = 100"),
    ("4294967296 (2^32)", "ir/src/interp/evaluate.rs", "MAX_ELEMENTS: usize = 1 << 32"),
    ("64", "frontend/src/onnx/graph.rs", "MOST_NESTED: usize = 64"),
    ("64 times the nodes of the file, or 16384", "frontend/src/onnx/graph.rs", "MOST_INLINED_TIMES: usize = 64"),
    ("64 times the nodes of the file, or 16384", "frontend/src/onnx/graph.rs", "LEAST_INLINED: usize = 1 << 14"),
    ("64 times the nodes of the file, or 16384", "frontend/src/onnx/graph.rs", "BYTES_OF_A_NODE: usize = 1 << 16"),
    ("262144 (2^18)", "frontend/src/onnx/emit.rs", "MOST_ELEMENTS: usize = 1 << 18"),
    ("4096", "frontend/src/onnx/signature.rs", "MOST_ELEMENTS: usize = 1 << 12"),
    ("1024 (2^10)", "frontend/src/onnx/ops/features.rs", "MOST_STEPS: usize = 1 << 10"),
    ("1024 (2^10)", "frontend/src/onnx/ops/features.rs", "MOST_WINDOWS: usize = 1 << 10"),
    ("268435456 (2^28)", "frontend/src/onnx/ops/features.rs", "MOST_COMPARED: usize = 1 << 28"),
    ("1048576 (2^20)", "frontend/src/onnx/ops/features.rs", "MOST_COLUMNS: usize = 1 << 20"),
    ("67108864 (2^26)", "frontend/src/onnx/ops/signal.rs", "MOST: usize = 1 << 26"),
    ("1048576 (2^20)", "frontend/src/onnx/emit.rs", "MOST_NODES: usize = 1 << 20"),
    (MADE, "frontend/src/onnx/emit.rs", "MOST_MADE: usize = 1 << 28"),
    (MADE, "frontend/src/onnx/emit.rs", "MADE_PER_BYTE: usize = 4"),
    ("16777216 (2^24)", "frontend/src/onnx/emit.rs", "MOST_FILLED: usize = 1 << 24"),
    (MADE, "frontend/src/onnx/fold.rs", "ALWAYS: usize = 1 << 10"),
    ("16777216 (2^24)", "frontend/src/onnx/ops/features.rs", "MOST_MEMBERS: usize = 1 << 24"),
    ("67108864 (2^26)", "frontend/src/onnx/ops/resize.rs", "MOST_FILTERED: usize = 1 << 26"),
    ("32", "frontend/src/onnx/ops/linear_algebra.rs", "MOST_COLUMNS: usize = 32"),
    ("16777216 (2^24)", "frontend/src/onnx/ops/selection.rs", "MOST_COMPARISONS: usize = 1 << 24"),
    ("4096", "frontend/src/onnx/ops/pool.rs", "MOST_ELEMENTS: usize = 1 << 12"),
    ("67108864 (2^26)", "frontend/src/onnx/ops/unpool.rs", "MOST_PLACES: usize = 1 << 26"),
    ("4294967296 (2^32)", "frontend/src/onnx/ops/unpool.rs", "MOST_ELEMENTS: usize = 1 << 32"),
    ("3", "frontend/src/onnx/ops/sampling.rs", "MOST_SPATIAL_AXES: usize = 3"),
    ("1000", "frontend/src/onnx/graph.rs", "MOST_PROBLEMS: usize = 1000"),
    ("65536", "frontend/src/onnx/fold.rs", "LIMIT: usize = 1 << 16"),
    ("262144 (2^18)", "codegen/src/lower/context.rs", "MOST_STEPS: usize = 1 << 18"),
    ("1024", "runtime/src/artifact/layout.rs", "MOST_SECTIONS: usize = 1024"),
    ("16", "runtime/src/artifact/contents.rs", "MOST_READS: usize = 16"),
    ("1024", "runtime/src/validate.rs", "MOST_ARGUMENTS: usize = 1024"),
    ("64", "runtime/src/validate.rs", "MOST: usize = 64"),
    ("268435456 (2^28)", "frontend/src/tune/database.rs", "MOST_BYTES: u64 = 256 << 20"),
    ("32768", "frontend/src/files/image.rs", "LARGEST: usize = 1 << 15"),
    ("1024", "runtime/src/pool.rs", "MOST_THREADS: usize = 1024"),
];

#[test]
fn the_page_of_limits_says_what_the_code_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let page = read("docs/limits.md");
    let mut rows: Vec<&str> = page.lines().filter(|l| l.starts_with("| ")).skip(1).collect();
    for (number, file, declaration) in LIMITS {
        assert!(
            read(file).contains(&format!("const {declaration};")),
            "{file} does not say `{declaration}`: mend docs/limits.md"
        );
        assert!(page.contains(&format!("| {number} |")), "docs/limits.md has no row of {number}");
    }
    let said = |row: &&str| LIMITS.iter().any(|(number, ..)| row.contains(&format!("| {number} |")));
    rows.retain(|row| !said(row) && !row.contains("(prost)"));
    assert!(rows.is_empty(), "rows of docs/limits.md that no constant is compared with: {rows:?}");
}
