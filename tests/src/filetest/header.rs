//! The comments of a filetest that say what to do.

use std::collections::BTreeMap;

use kiln_ir::Stage;

use super::compiled;
use super::run::Run;

/// What is done with the graph.
#[derive(Clone, Debug)]
pub(super) enum Command {
    Parse,
    Print,
    Verify(Stage),
    Expand,
    Specialize(BTreeMap<String, usize>),
    /// With whether the result is compared with a snapshot.
    Optimize(kiln_passes::Options, bool),
    /// With what is compared with the snapshot.
    Compile(compiled::Stage),
}

/// All that a file's comments say.
#[derive(Debug, Default)]
pub(super) struct Header {
    pub(super) commands: Vec<Command>,
    /// Rules that must fire.
    pub(super) uses: Vec<String>,
    /// Rules that must not fire.
    pub(super) idle: Vec<String>,
    /// Ops that must not be left.
    pub(super) forbids: Vec<String>,
    /// Parts of errors that have no line.
    pub(super) errors: Vec<String>,
    pub(super) runs: Vec<Run>,
}

impl Header {
    pub(super) fn read(text: &str) -> Result<Header, String> {
        let mut header = Header::default();
        for line in text.lines() {
            let Some((key, value)) = line.strip_prefix("// ").and_then(|l| l.split_once(':')) else { continue };
            let (value, list) = (value.trim(), || value.split(',').map(|s| s.trim().to_owned()));
            match key {
                "test" => {
                    let commands: Result<Vec<Command>, String> = split_commands(value).map(Command::read).collect();
                    header.commands.extend(commands?);
                }
                "uses" => header.uses.extend(list()),
                "idle" => header.idle.extend(list()),
                "forbids" => header.forbids.extend(list()),
                "error" => header.errors.push(value.to_owned()),
                "run" => header.runs.push(Run::read(value)?),
                // A comment, unless it looks like a key.
                _ if !key.chars().all(|c| c.is_ascii_lowercase()) => {}
                _ => return Err(format!("unknown key `{key}`: test, uses, idle, forbids, error or run")),
            }
        }
        let needs =
            |found: bool, what: &str, by: &str| if found { Ok(()) } else { Err(format!("`{what}` needs {by}")) };
        let optimizes = header.commands.iter().any(|c| matches!(c, Command::Optimize(..)));
        let about_rules = [&header.uses, &header.idle, &header.forbids].iter().any(|list| !list.is_empty());
        needs(optimizes || !about_rules, "uses, idle, forbids", "`test: opt` or `test: rewrite`")?;
        needs(!header.commands.is_empty() || !header.runs.is_empty(), "a filetest", "`test:` or `run:`")?;
        Ok(header)
    }
}

/// `a, b(c, d)` → `a`, `b(c, d)`
fn split_commands(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
}

impl Command {
    fn read(text: &str) -> Result<Command, String> {
        let (name, arguments) = match text.split_once('(') {
            Some((name, rest)) => (name, rest.strip_suffix(')').ok_or_else(|| format!("`{text}`: missing `)`"))?),
            None => (text, ""),
        };
        let pairs: Vec<(&str, &str)> = arguments
            .split(',')
            .filter(|a| !a.trim().is_empty())
            .map(|a| a.split_once('=').map_or((a.trim(), ""), |(k, v)| (k.trim(), v.trim())))
            .collect();
        match (name, pairs.as_slice()) {
            ("parse", []) => Ok(Command::Parse),
            ("print", []) => Ok(Command::Print),
            ("kir", []) => Ok(Command::Compile(compiled::Stage::Kir)),
            ("clif", []) => Ok(Command::Compile(compiled::Stage::Clif)),
            ("artifact", []) => Ok(Command::Compile(compiled::Stage::Artifact)),
            ("expand", []) => Ok(Command::Expand),
            ("verify", [("primitive", "")]) => Ok(Command::Verify(Stage::Primitive)),
            ("verify", [("composite", "")]) => Ok(Command::Verify(Stage::Composite)),
            ("verify", [("lowered", "")]) => Ok(Command::Verify(Stage::Lowered)),
            ("specialize", pairs) => {
                let bind = |(name, n): &(&str, &str)| Some(((*name).to_owned(), n.parse().ok()?));
                let dims: Option<BTreeMap<String, usize>> = pairs.iter().map(bind).collect();
                dims.map(Command::Specialize)
                    .ok_or_else(|| format!("`{text}`: expected `specialize(symbol=extent, …)`"))
            }
            ("opt" | "rewrite", pairs) => {
                let mut options = kiln_passes::Options::default();
                for (key, value) in pairs {
                    options = match *key {
                        "until" => options.until(value),
                        "without" => options.without(value),
                        _ => return Err(format!("`{text}`: expected `until=PASS` or `without=PASS or RULE`")),
                    };
                }
                Ok(Command::Optimize(options, name == "opt"))
            }
            _ => Err(format!("unknown command `{text}`: see the module page of the filetest driver")),
        }
    }
}
