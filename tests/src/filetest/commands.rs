//! What the commands of a filetest do.

use kiln_ir::expand::expand_graph;
use kiln_ir::ops::Level;
use kiln_ir::text::{ParseErrors, parse};
use kiln_ir::{Graph, Location, VerifyError, specialize, verify};

use super::compiled;
use super::expect::check_errors;
use super::header::{Command, Header};

/// The file name in locations.
const FILE: &str = "test";

/// Does what `header` says with `text`. What is to be compared with the snapshot; nothing where there is none.
pub(super) fn execute(header: &Header, text: &str) -> Result<String, String> {
    let mut errors: Vec<(u32, String)> = Vec::new();
    let mut output = String::new();
    match parse(text, FILE) {
        Err(ParseErrors(all)) => errors.extend(all.iter().map(|e| (e.line, e.kind.to_string()))),
        Ok(mut graph) => {
            round_trip(&graph)?;
            let mut made = Vec::new();
            for command in &header.commands {
                match apply(command, header, &mut graph, &mut made, &mut output) {
                    Ok(()) => {}
                    Err(Failure::Reported(reported)) => errors.extend(reported),
                    Err(Failure::Check(problem)) => return Err(problem),
                }
            }
            if errors.is_empty() {
                for run in &header.runs {
                    run.check(&graph, &made, &header.uses)?;
                }
            }
        }
    }
    check_errors(text, &header.errors, &errors)?;
    Ok(output)
}

/// Why a command gave no graph.
enum Failure {
    /// Errors that the file may expect, with their lines.
    Reported(Vec<(u32, String)>),
    /// What the file cannot expect.
    Check(String),
}

/// An error without a line.
fn unplaced(e: impl std::fmt::Display) -> Failure {
    Failure::Reported(vec![(0, e.to_string())])
}

/// Does one command. `graph` is what later commands and runs take; `made` gets graphs that must compute the same.
fn apply(
    command: &Command,
    header: &Header,
    graph: &mut Graph,
    made: &mut Vec<Graph>,
    output: &mut String,
) -> Result<(), Failure> {
    match command {
        Command::Parse => {}
        Command::Print => output.push_str(&graph.to_string()),
        Command::Compile(stage) => output.push_str(&compiled::show(graph, *stage).map_err(unplaced)?),
        Command::Verify(stage) => verify(graph, *stage).map_err(placed)?,
        Command::Expand => {
            let expanded = expand_graph(graph, Level::L0).map_err(unplaced)?;
            output.push_str(&expanded.to_string());
            made.push(expanded);
        }
        Command::Specialize(dims) => {
            let all =
                |e: kiln_ir::SpecializeErrors| Failure::Reported(e.0.iter().map(|e| (0, e.to_string())).collect());
            *graph = specialize(graph, dims).map_err(all)?;
            output.push_str(&graph.to_string());
        }
        Command::Optimize(options, snapshot) => {
            let optimized = kiln_passes::optimize(graph, options).map_err(unplaced)?;
            check_rules(header, &optimized).map_err(Failure::Check)?;
            if *snapshot {
                output.push_str(&optimized.graph.to_string());
            }
            made.push(optimized.graph);
        }
    }
    Ok(())
}

/// Whether the rules fired that the header says, and the ops are gone.
fn check_rules(header: &Header, optimized: &kiln_passes::Optimized) -> Result<(), String> {
    let (result, fired) = (&optimized.graph, |rule: &&String| optimized.report.fired(rule) > 0);
    let mut problems: Vec<String> = Vec::new();
    problems.extend(header.uses.iter().filter(|rule| !fired(rule)).map(|rule| format!("rule `{rule}` did not fire")));
    problems.extend(header.idle.iter().filter(fired).map(|rule| format!("rule `{rule}` fired")));
    let left = |op: &&String| result.node_ids().any(|id| result.node(id).op.mnemonic() == op.as_str());
    problems.extend(header.forbids.iter().filter(left).map(|op| format!("a `{op}` is left")));
    if problems.is_empty() { Ok(()) } else { Err(format!("{}\n{}\n{result}", problems.join("\n"), optimized.report)) }
}

fn placed(errors: Vec<VerifyError>) -> Failure {
    let line = |e: &VerifyError| match &e.location {
        Some(Location::Source { line, .. }) => *line,
        _ => 0,
    };
    Failure::Reported(errors.iter().map(|e| (line(e), e.to_string())).collect())
}

/// Every graph that a filetest has prints and reads back as itself.
fn round_trip(graph: &Graph) -> Result<(), String> {
    let mut weights = kiln_ir::text::WeightStore::new();
    let text = kiln_ir::text::print_into(graph, &Default::default(), &mut weights);
    let again = kiln_ir::text::parse_with(&text, FILE, &|id| weights.get(id).cloned())
        .map_err(|e| format!("the printed graph does not read back:\n{e}\n{text}"))?;
    if again != *graph || again.to_string() != text {
        return Err(format!("the printed graph reads back as another:\n{text}\nand\n{again}"));
    }
    Ok(())
}
