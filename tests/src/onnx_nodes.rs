//! The ONNX project's own tests: small models with inputs and expected results, and what Kiln makes of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use kiln::onnx::proto::{ModelProto, TensorDataType, TensorProto};
use kiln::onnx::{
    ExternalFiles, ImportError, ImportOptions, Problem, import_model, read_model, read_tensor, read_tensor_file,
};
use kiln_ir::{DType, Graph, Tensor};

/// The sets of the `onnx` package that carry their data.
pub const SETS: [&str; 4] = ["node", "simple", "pytorch-converted", "pytorch-operator"];

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Every result has the expected type and values.
    Passed,
    /// The result is the one that a [`Dispute`] says, not the expected one.
    Disputed,
    /// Kiln says that it does not do this, and why.
    Refused(String),
    /// Another result, or a failure other than a refusal.
    Wrong(String),
}

/// A test whose expected values are not the operator's: what ONNX Runtime gives is, and Kiln must give that.
#[derive(Clone, Copy, Debug)]
pub struct Dispute {
    /// Folder of the test.
    pub name: &'static str,
    /// What is wrong with the expected values, and where that is said.
    pub why: &'static str,
    /// How many elements differ from the expected ones.
    pub differing: usize,
    /// Places among these and ONNX Runtime's values; all of them where they are few.
    pub values: &'static [(usize, f64)],
}

impl Dispute {
    /// Whether `found` differs from `expected` in the way that is disputed, and in no other.
    fn explains(&self, found: &Tensor, expected: &Tensor) -> bool {
        let agree = agreement(found.dtype());
        let (f, e) = (found.to_f64_vec(), expected.to_f64_vec());
        found.dtype() == expected.dtype()
            && found.dims() == expected.dims()
            && f.iter().zip(&e).filter(|(f, e)| !agree(**f, **e)).count() == self.differing
            && self.values.iter().all(|&(at, value)| f.get(at).is_some_and(|&f| agree(f, value)))
    }
}

/// Runs a graph on named feeds.
pub type Run = fn(&Graph, &[(&str, Tensor)]) -> Result<Vec<(String, Tensor)>, String>;

/// The folders of the tests of one set, sorted.
pub fn cases(folder: &Path, set: &str) -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder.join(set))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.join("model.onnx").is_file())
        .collect();
    cases.sort();
    cases
}

/// Imports and runs one test.
///
/// The inputs are fed; where import needs to know some of them (shapes, axes, counts …), all but the first are
/// constants, and where that does not help, all are.
pub fn check(case: &Path, run: Run, disputes: &[Dispute]) -> Outcome {
    let dispute = disputes.iter().find(|d| case.file_name().is_some_and(|name| name == d.name));
    let model = match read_model(&case.join("model.onnx")) {
        Ok(model) => model,
        Err(e) => return Outcome::Wrong(e.to_string()),
    };
    let inputs = match inputs(case, &model) {
        Ok(inputs) => inputs,
        Err(e) => return Outcome::Refused(e),
    };
    let mut first = None;
    for fed in [inputs.len(), 1, 0] {
        match attempt(&model, &inputs, fed.min(inputs.len()), run) {
            Ok(results) => return compare(case, &results, dispute),
            Err(Outcome::Refused(reason)) => first = first.or(Some(reason)),
            Err(other) => return other,
        }
    }
    Outcome::Refused(first.unwrap_or_default())
}

/// The values of the inputs that the model does not fix itself.
fn inputs(case: &Path, model: &ModelProto) -> Result<Vec<(String, TensorProto, Tensor)>, String> {
    let graph = model.graph.as_ref().ok_or("the model has no graph")?;
    let fixed = |name: &str| graph.initializer.iter().any(|t| t.name.as_deref() == Some(name));
    let names = graph.input.iter().filter_map(|i| i.name.clone()).filter(|n| !fixed(n));
    let read = |(i, name): (usize, String)| {
        let proto = read_tensor_file(&data(case, "input", i))
            .map_err(|_| "an input is not a tensor (a sequence, a map or an optional)".to_owned())?;
        let tensor = read_tensor(&proto, &name, &ExternalFiles::new(None))
            .map_err(|e| reason_of_dtype(&proto, &e.to_string()))?;
        Ok((name, proto, tensor))
    };
    names.enumerate().map(read).collect()
}

fn data(case: &Path, kind: &str, i: usize) -> PathBuf {
    case.join("test_data_set_0").join(format!("{kind}_{i}.pb"))
}

fn reason_of_dtype(proto: &TensorProto, otherwise: &str) -> String {
    match TensorDataType::try_from(proto.data_type.unwrap_or_default()) {
        Ok(t) if otherwise.contains("is not supported") => format!("element type {}", format!("{t:?}").to_lowercase()),
        // What looks like nonsense extents is another message: a sequence or an optional.
        _ => "an input is not a tensor (a sequence, a map or an optional)".to_owned(),
    }
}

/// Imports with the first `fed` inputs fed and the others constant, and runs.
fn attempt(
    model: &ModelProto,
    inputs: &[(String, TensorProto, Tensor)],
    fed: usize,
    run: Run,
) -> Result<Vec<(String, Tensor)>, Outcome> {
    let mut model = model.clone();
    let mut options = ImportOptions::default();
    let mut feeds = Vec::new();
    for (i, (name, proto, tensor)) in inputs.iter().enumerate() {
        if i < fed {
            options.shapes.insert(name.clone(), tensor.dims().to_vec());
            feeds.push((name.as_str(), tensor.clone()));
        } else if let Some(graph) = &mut model.graph {
            graph.initializer.push(TensorProto { name: Some(name.clone()), ..proto.clone() });
        }
    }
    let imported = import_model(&model, "model.onnx", &ExternalFiles::new(None), &options).map_err(|e| match e {
        ImportError::Refused { problems, .. } => Outcome::Refused(problems.first().map(reason).unwrap_or_default()),
        other => Outcome::Wrong(other.to_string()),
    })?;
    run(&imported.graph, &feeds).map_err(Outcome::Wrong)
}

/// A problem without the names that are this model's own.
fn reason(problem: &Problem) -> String {
    match problem {
        Problem::UnsupportedOp { domain, op_type, .. } if domain.is_empty() => format!("operator {op_type}"),
        Problem::UnsupportedOp { domain, op_type, .. } => format!("operator {domain}.{op_type}"),
        Problem::Node { op_type, error, .. } => format!("{op_type}: {error}"),
        Problem::Signature(text) => match text.split_once(": ") {
            Some((_, what)) => what.to_owned(),
            None => text.clone(),
        },
        other => other.to_string(),
    }
}

/// Compares results with the expected ones.
fn compare(case: &Path, results: &[(String, Tensor)], dispute: Option<&Dispute>) -> Outcome {
    let mut outcome = Outcome::Passed;
    for (i, (name, found)) in results.iter().enumerate() {
        let Ok(mut proto) = read_tensor_file(&data(case, "output", i)) else {
            return Outcome::Wrong(format!("`{name}` has no expected value"));
        };
        // numpy has no bfloat16: the files hold its bits as 16-bit integers.
        if found.dtype() == DType::BF16 && proto.data_type == Some(TensorDataType::Uint16 as i32) {
            proto.data_type = Some(TensorDataType::Bfloat16 as i32);
        }
        let expected = match read_tensor(&proto, name, &ExternalFiles::new(None)) {
            Ok(expected) => expected,
            Err(e) => return Outcome::Wrong(format!("`{name}`: {e}")),
        };
        if let Some(difference) = difference(found, &expected) {
            if !dispute.is_some_and(|d| d.explains(found, &expected)) {
                return Outcome::Wrong(format!("`{name}`: {difference}"));
            }
            outcome = Outcome::Disputed;
        }
    }
    outcome
}

/// Whether a found element is an expected one.
///
/// The tolerance is the ONNX project's own for its backends, relative and absolute (1e-3 and 1e-7), but absolute
/// 1e-5 since Kiln sums in another order, and one part in 100 for 16-bit floats.
fn agreement(dtype: DType) -> impl Fn(f64, f64) -> bool {
    let (relative, absolute) = match dtype {
        DType::F16 | DType::BF16 => (1e-2, 1e-2),
        t if t.is_float() => (1e-3, 1e-5),
        _ => (0.0, 0.0),
    };
    move |f, e| f == e || (f.is_nan() && e.is_nan()) || (f - e).abs() <= absolute + relative * e.abs()
}

/// The first way in which a result differs from what is expected.
fn difference(found: &Tensor, expected: &Tensor) -> Option<String> {
    if found.dtype() != expected.dtype() || found.dims() != expected.dims() {
        let ty = |t: &Tensor| format!("{}{:?}", t.dtype(), t.dims());
        return Some(format!("{} for {}", ty(found), ty(expected)));
    }
    let agree = agreement(found.dtype());
    let (f, e) = (found.to_f64_vec(), expected.to_f64_vec());
    let at = f.iter().zip(&e).position(|(f, e)| !agree(*f, *e))?;
    Some(format!("element {at} is {}, expected {}", f[at], e[at]))
}

/// The page that says what passes: `docs/onnx.md`.
pub fn report(outcomes: &BTreeMap<(String, String), Outcome>, disputes: &[Dispute], operators: &[&str]) -> String {
    let count = |kind: fn(&Outcome) -> bool| outcomes.values().filter(|o| kind(o)).count();
    let mut text = format!(
        "passing {}, refused {}, disputed {}, wrong {} of {}\n\n",
        count(|o| *o == Outcome::Passed),
        count(|o| matches!(o, Outcome::Refused(_))),
        count(|o| *o == Outcome::Disputed),
        count(|o| matches!(o, Outcome::Wrong(_))),
        outcomes.len()
    );
    text.push_str("# ONNX\n\n");
    text.push_str("These are the tests of the PyPI package `onnx==1.17.0`, run by the reference interpreter: ");
    text.push_str("`cargo test -p kiln-tests --test onnx_nodes` makes this page and fails if it is not the one\n");
    text.push_str(
        "in the repository (`-- --write` replaces it). Inputs that decide shapes are constants of the model there: ",
    );
    text.push_str("Kiln's graphs are static.\n\n## Operators\n\n");
    for line in wrapped(operators) {
        let _ = writeln!(text, "{line}");
    }
    text.push_str(
        "\n## Disputed\n\nHere Kiln gives what ONNX Runtime 1.32 gives; the tests expect something else:\n\n",
    );
    for dispute in disputes {
        let _ = writeln!(text, "- `{}`: {}", dispute.name, dispute.why);
    }
    let wrong = |o: &Outcome| if let Outcome::Wrong(what) = o { Some(what.clone()) } else { None };
    if outcomes.values().any(|o| wrong(o).is_some()) {
        text.push_str("\n## Wrong\n\n");
    }
    for ((set, name), outcome) in outcomes {
        if let Some(what) = wrong(outcome) {
            let _ = writeln!(text, "- `{set}/{name}`: {what}");
        }
    }
    text.push_str("\n## Refused\n\n");
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for ((_, name), outcome) in outcomes {
        if let Outcome::Refused(reason) = outcome {
            reasons.entry(reason).or_default().push(name.strip_prefix("test_").unwrap_or(name));
        }
    }
    for (reason, names) in reasons {
        let _ = writeln!(text, "- {reason}: {}", names.join(", "));
    }
    text
}

/// Names in lines of up to 100 characters.
fn wrapped(names: &[&str]) -> Vec<String> {
    let mut lines = vec![String::new()];
    for (i, name) in names.iter().enumerate() {
        let end = if i + 1 == names.len() { "." } else { "," };
        if lines.last().is_some_and(|l| l.len() + name.len() > 100) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(name);
            line.push_str(end);
        }
    }
    lines
}
