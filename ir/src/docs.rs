//! `docs/ops.md`, generated from the op table.

use std::fmt::Write;

use crate::ops::{Level, ROWS, Row};
use crate::text::said_by_type;

const INTRODUCTION: &str = "# Ops

Generated from the op table (`ir/src/ops/mod.rs`) by `UPDATE_DOCS=1 cargo test -p kiln-ir docs`; a test keeps it true.

A graph is made of these ops. **L0** ops are primitive. **L1** ops are composites: each has a body in L0, and means what its body
means. **L2** ops are made by passes and by nobody else; they fuse ops of the other levels into what one kernel computes.

An op is shown as the text format writes it: operands after the name, attributes in braces, the type of the result after a
colon. Attributes with a default may be left out. `dtype` and `dims` are said by the type of the result. There is no implicit broadcasting:
elementwise operands have one dtype and the same dims, and the result has those dims too. Constraints are numbered; an
error names each one that is violated.

Scalar formulas say what an elementwise op computes for one element. `f(NaN)` is NaN unless said otherwise; integers wrap.
";

/// The sections: title, level, and whether elementwise ops belong there.
const SECTIONS: [(&str, Level, bool); 5] = [
    ("L0: elementwise", Level::L0, true),
    ("L0: sources, movement, reductions, contractions, state", Level::L0, false),
    ("L1: elementwise composites", Level::L1, true),
    ("L1: other composites", Level::L1, false),
    ("L2: made by passes", Level::L2, false),
];

/// The op reference as Markdown.
pub fn ops_markdown() -> String {
    let mut out = INTRODUCTION.to_owned();
    let rows = |level: Level, elementwise: bool| {
        ROWS.iter().filter(move |r| r.level == level && is_elementwise(r) == elementwise)
    };
    for (title, level, elementwise) in SECTIONS {
        let links: Vec<String> = rows(level, elementwise).map(|r| format!("[`{0}`](#{0})", r.mnemonic)).collect();
        let _ = write!(out, "\n**{title}**: {}\n", links.join(" · "));
    }
    for (title, level, elementwise) in SECTIONS {
        let _ = write!(out, "\n## {title}\n");
        rows(level, elementwise).for_each(|row| section(&mut out, row));
    }
    out
}

/// Whether the op is a function of single elements: by its formula, or (`convert`) by its meaning.
fn is_elementwise(row: &Row) -> bool {
    row.formula.is_some() || row.mnemonic == "convert"
}

fn section(out: &mut String, row: &Row) {
    let doc: Vec<&str> = row.doc.iter().map(|line| line.trim()).collect();
    let _ = write!(out, "\n### {}\n\n{}\n\n```text\n{}\n```\n", row.mnemonic, doc.join("\n"), usage(row));
    if let Some(formula) = row.formula {
        let _ = write!(out, "\nFor one element: `{formula}`\n");
    }
    if !row.attributes.is_empty() {
        out.push_str("\n| attribute | is | default | |\n|---|---|---|---|\n");
        for a in row.attributes {
            let default = (a.default)().map_or("required".to_owned(), |v| format!("`{v}`"));
            let doc: Vec<&str> = a.doc.iter().map(|line| line.trim()).collect();
            let _ = writeln!(out, "| `{}` | {} | {default} | {} |", a.name, a.expected, doc.join(" "));
        }
    }
    if !row.constraints.is_empty() {
        out.push('\n');
        for (label, text) in row.constraints {
            let _ = writeln!(out, "- **{label}**: {text}");
        }
    }
}

/// `%result = op %x, %y {axis = …} : …`
fn usage(row: &Row) -> String {
    let mut operands: Vec<String> = row.operands.iter().map(|name| format!("%{name}")).collect();
    operands.extend(row.variadic.map(|name| format!("%{name}…")));
    let attributes: Vec<String> = row
        .attributes
        .iter()
        .filter(|a| !said_by_type(a.name) && (a.default)().is_none() && row.mnemonic != "constant")
        .map(|a| format!("{} = …", a.name))
        .collect();
    let results = match row.mnemonic {
        "group" => "",
        "top_k" => "%values, %indices = ",
        _ => "%result = ",
    };
    let mut text = format!("{results}{}", row.mnemonic);
    if row.mnemonic == "constant" {
        text.push_str(" dense<…>");
    }
    if !operands.is_empty() {
        let _ = write!(text, " {}", operands.join(", "));
    }
    if !attributes.is_empty() {
        let _ = write!(text, " {{{}}}", attributes.join(", "));
    }
    if row.mnemonic == "constant" || row.attributes.iter().any(|a| said_by_type(a.name)) {
        text.push_str(" : type");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::attribute::Attribute;
    use crate::dtype::DType;
    use crate::scalar::ScalarExpr;

    #[test]
    fn docs_ops_md_is_what_the_table_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ops.md");
        let text = ops_markdown();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == text, "docs/ops.md is out of date: run `UPDATE_DOCS=1 cargo test -p kiln-ir docs`");
    }

    #[test]
    fn every_op_is_documented_once() {
        let text = ops_markdown();
        for row in ROWS {
            assert_eq!(text.matches(&format!("\n### {}\n", row.mnemonic)).count(), 1, "{}", row.mnemonic);
            assert!(!row.doc.is_empty(), "{} has no documentation", row.mnemonic);
            let undocumented: Vec<&str> = row.attributes.iter().filter(|a| a.doc.is_empty()).map(|a| a.name).collect();
            assert_eq!(undocumented, Vec::<&str>::new(), "{}", row.mnemonic);
        }
    }

    #[test]
    fn every_formula_parses_and_types_for_f32_or_for_the_dtypes_it_is_made_for() {
        for row in ROWS {
            let Some(formula) = row.formula else { continue };
            // `min` and `max` are functions of the formula language: attributes of that name end in `_` there.
            let constant =
                |name: &str| if matches!(name, "min" | "max") { format!("{name}_") } else { name.to_owned() };
            let constants: Vec<(String, f64)> = row
                .attributes
                .iter()
                .map(|a| match (a.default)() {
                    Some(Attribute::Real(v)) => (constant(a.name), v),
                    _ => (constant(a.name), 1.0),
                })
                .collect();
            let constants: Vec<(&str, f64)> = constants.iter().map(|(n, v)| (n.as_str(), *v)).collect();
            let e = ScalarExpr::parse_named(formula, row.operands, &constants).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(e.arity(), row.operands.len(), "{}", row.mnemonic);
            let (arguments, result) = match row.mnemonic {
                "not" | "and" | "or" | "xor" => (vec![DType::Bool; e.arity()], DType::Bool),
                "select" => (vec![DType::Bool, DType::F32, DType::F32], DType::F32),
                "is_nan" | "equal" | "not_equal" | "less" | "less_equal" | "greater" | "greater_equal" => {
                    (vec![DType::F32; e.arity()], DType::Bool)
                }
                _ => (vec![DType::F32; e.arity()], DType::F32),
            };
            assert_eq!(e.result_type(&arguments), Ok(result), "{}", row.mnemonic);
        }
    }
}
