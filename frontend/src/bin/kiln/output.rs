//! What commands write to stdout: tables for people, one JSON object for programs.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use indicatif::HumanBytes;
use kiln_ir::DType;
use serde::Serialize;
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome};

/// Where and how results are written.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Whether to write one JSON object instead of text.
    pub json: bool,
}

impl Output {
    /// Writes the result: `object` as JSON, or the text that `text` makes.
    pub fn write(self, object: &impl Serialize, text: impl FnOnce() -> String) -> Outcome {
        if self.json { print(&serde_json::to_string_pretty(object)?) } else { print(text().trim_end()) }
    }
}

/// Writes a text and a line end to stdout, whole. A reader that has seen enough is no failure.
pub fn print(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    match written {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Reported(format!("cannot write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// Writes a text and a line end to stderr. Where nobody can read it, the work is the same.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes a failure: the message to stderr, its first line beginning with `error: `, and with `json` an object to stdout.
pub fn print_failure(failure: &Failure, json: bool) {
    note(format_args!("error: {failure}"));
    if json && failure.is_unreported() {
        print_error(&failure.to_string());
    }
}

/// Says on stdout, as one JSON object, what went wrong.
pub fn print_error(text: &str) {
    // The failure itself is what counts now, not whether stdout can be written to.
    let _ = print(&json!({ "error": text }).to_string());
}

/// Columns that a table takes at most; longer cells are wrapped.
const WIDTH: u16 = 110;

/// No lines but one below the headings.
const RULED: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A table with these headings. Columns whose heading begins with `>` are aligned to the right.
pub fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .load_style(RULED)
        .set_header(headings.iter().map(|h| h.trim_start_matches('>')));
    for (column, _) in table.column_iter_mut().zip(headings).filter(|(_, h)| h.starts_with('>')) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Lines of `name  value`, the values under each other.
pub fn facts<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let rows: Vec<_> = rows.into_iter().collect();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// A number of bytes, for people.
pub fn bytes(n: u64) -> String {
    HumanBytes(n).to_string()
}

/// A tensor type, as the text format writes it.
pub fn tensor_type(dtype: DType, dims: &[usize]) -> String {
    let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
    format!("{dtype}[{}]", dims.join(", "))
}

/// A number for JSON, which has no NaN and no infinity: those become strings.
pub fn number(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or_else(|| Value::String(value.to_string()), Value::Number)
}
