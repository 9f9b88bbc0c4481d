//! The ONNX project's own tests: small models with inputs and expected results, and what Kiln makes of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kiln::onnx::proto::{
    ModelProto, OptionalProto, SequenceProto, TensorDataType, TensorProto, TypeProto, TypeValue, ValueInfoProto,
};
use kiln::onnx::{ExternalFiles, ImportError, ImportOptions, Problem, import_model, read_held, read_model};
use kiln_ir::{DType, Graph, Tensor};
use prost::Message;

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

/// A test whose expected values are not the operator's: what ONNX Runtime gives is, and Kiln must give that (or what the
/// definition says, of an operator that ONNX Runtime does not have).
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
            Ok(results) => return compare(case, &model, &results, dispute),
            Err(Outcome::Refused(reason)) => first = first.or(Some(reason)),
            Err(other) => return other,
        }
    }
    Outcome::Refused(first.unwrap_or_default())
}

/// A value of a test: a tensor, a sequence of them, or an optional without an element.
enum Given {
    Tensor(Box<TensorProto>, Tensor),
    Sequence(Vec<Tensor>),
    Absent,
}

impl Given {
    /// The tensors that Kiln has for it, by their names.
    fn tensors(&self, name: &str) -> Vec<(String, &Tensor)> {
        match self {
            Given::Tensor(_, tensor) => vec![(name.to_owned(), tensor)],
            Given::Sequence(elements) => elements.iter().enumerate().map(|(i, t)| (format!("{name}.{i}"), t)).collect(),
            Given::Absent => Vec::new(),
        }
    }
}

/// The values of the inputs that the model does not fix itself.
fn inputs(case: &Path, model: &ModelProto) -> Result<Vec<(String, Given)>, String> {
    let graph = model.graph.as_ref().ok_or("the model has no graph")?;
    let fixed = |input: &&ValueInfoProto| graph.initializer.iter().any(|t| t.name == input.name);
    let fed = graph.input.iter().filter(|i| !fixed(i)).enumerate();
    fed.map(|(i, input)| Ok((input.name.clone().unwrap_or_default(), given(case, "input", i, input)?))).collect()
}

/// The value of an input or output, which is of the type that the model declares.
fn given(case: &Path, kind: &str, i: usize, info: &ValueInfoProto) -> Result<Given, String> {
    let path = case.join("test_data_set_0").join(format!("{kind}_{i}.pb"));
    let bytes = std::fs::read(&path).map(Bytes::from).map_err(|e| format!("{}: {e}", path.display()))?;
    let ty = info.r#type.as_ref().and_then(|t| t.value.as_ref()).ok_or("a value without a type")?;
    decode(bytes, ty, info.name.as_deref().unwrap_or_default())
}

fn decode(bytes: Bytes, ty: &TypeValue, name: &str) -> Result<Given, String> {
    match ty {
        TypeValue::Tensor(_) => tensor(message(bytes)?, Some(ty), name),
        TypeValue::Sequence(of) => sequence(message(bytes)?, of.elem_type.as_deref(), name),
        TypeValue::Optional(of) => {
            let (optional, of): (OptionalProto, _) = (message(bytes)?, of.elem_type.as_deref());
            match (optional.tensor_value, optional.sequence_value) {
                (Some(proto), _) => tensor(proto, of.and_then(|t| t.value.as_ref()), name),
                (None, Some(SequenceProto { elem_type, tensor_values, .. })) => {
                    let of = match of.and_then(|t| t.value.as_ref()) {
                        Some(TypeValue::Sequence(of)) => of.elem_type.as_deref(),
                        _ => None,
                    };
                    sequence(SequenceProto { name: None, elem_type, tensor_values }, of, name)
                }
                (None, None) => Ok(Given::Absent),
            }
        }
        TypeValue::Map(_) | TypeValue::SparseTensor(_) => Err("an input is a map or sparse".to_owned()),
    }
}

fn message<M: Message + Default>(bytes: Bytes) -> Result<M, String> {
    M::decode(bytes).map_err(|e| e.to_string())
}

fn sequence(proto: SequenceProto, of: Option<&TypeProto>, name: &str) -> Result<Given, String> {
    let element = |proto| match tensor(proto, of.and_then(|t| t.value.as_ref()), name)? {
        Given::Tensor(_, tensor) => Ok(tensor),
        _ => Err("a sequence of other things than tensors".to_owned()),
    };
    proto.tensor_values.into_iter().map(element).collect::<Result<_, String>>().map(Given::Sequence)
}

fn tensor(mut proto: TensorProto, ty: Option<&TypeValue>, name: &str) -> Result<Given, String> {
    // numpy has no bfloat16: the files hold its bits as 16-bit integers.
    let bits = proto.data_type == Some(TensorDataType::Uint16 as i32);
    if let Some(TypeValue::Tensor(declared)) = ty
        && bits
        && declared.elem_type == Some(TensorDataType::Bfloat16 as i32)
    {
        proto.data_type = declared.elem_type;
    }
    let tensor =
        read_held(&proto, name, &ExternalFiles::new(None)).map_err(|e| reason_of_dtype(&proto, &e.to_string()))?;
    Ok(Given::Tensor(Box::new(proto), tensor))
}

fn reason_of_dtype(proto: &TensorProto, otherwise: &str) -> String {
    match TensorDataType::try_from(proto.data_type.unwrap_or_default()) {
        Ok(t) if otherwise.contains("is not supported") => format!("element type {}", format!("{t:?}").to_lowercase()),
        _ => otherwise.to_owned(),
    }
}

/// Imports with the first `fed` inputs fed and the other tensors constant, and runs.
fn attempt(
    model: &ModelProto,
    inputs: &[(String, Given)],
    fed: usize,
    run: Run,
) -> Result<Vec<(String, Tensor)>, Outcome> {
    let mut model = model.clone();
    let mut options = ImportOptions::default();
    let mut feeds = Vec::new();
    for (i, (name, given)) in inputs.iter().enumerate() {
        match given {
            Given::Tensor(proto, _) if i >= fed => {
                if let Some(graph) = &mut model.graph {
                    graph.initializer.push(TensorProto { name: Some(name.clone()), ..TensorProto::clone(proto) });
                }
                continue;
            }
            Given::Tensor(..) => {}
            Given::Sequence(elements) => {
                options.lengths.insert(name.clone(), elements.len());
            }
            Given::Absent => {
                options.absent.insert(name.clone());
            }
        }
        for (name, tensor) in given.tensors(name) {
            options.shapes.insert(name.clone(), tensor.dims().to_vec());
            feeds.push((name, tensor.clone()));
        }
    }
    let imported = import_model(&model, "model.onnx", &ExternalFiles::new(None), &options).map_err(|e| match e {
        ImportError::Refused { problems, .. } => Outcome::Refused(problems.first().map(reason).unwrap_or_default()),
        other => Outcome::Wrong(other.to_string()),
    })?;
    let feeds: Vec<(&str, Tensor)> = feeds.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
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
fn compare(case: &Path, model: &ModelProto, results: &[(String, Tensor)], dispute: Option<&Dispute>) -> Outcome {
    let outputs = model.graph.iter().flat_map(|g| &g.output).enumerate();
    let given =
        outputs.map(|(i, output)| Ok((output.name.clone().unwrap_or_default(), given(case, "output", i, output)?)));
    let expected: Vec<(String, Given)> = match given.collect::<Result<_, String>>() {
        Ok(expected) => expected,
        Err(e) => return Outcome::Wrong(format!("an expected value: {e}")),
    };
    let expected: Vec<(String, &Tensor)> = expected.iter().flat_map(|(name, given)| given.tensors(name)).collect();
    if !expected.iter().map(|(name, _)| name).eq(results.iter().map(|(name, _)| name)) {
        let names =
            |list: &mut dyn Iterator<Item = &String>| list.map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
        let (found, expected) =
            (names(&mut results.iter().map(|(n, _)| n)), names(&mut expected.iter().map(|(n, _)| n)));
        return Outcome::Wrong(format!("the results are {found}, expected {expected}"));
    }
    let mut outcome = Outcome::Passed;
    for ((name, found), (_, expected)) in results.iter().zip(expected) {
        if let Some(difference) = difference(found, expected) {
            if !dispute.is_some_and(|d| d.explains(found, expected)) {
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
pub fn report(outcomes: &BTreeMap<(String, String), Outcome>, disputes: &[Dispute], operators: &[String]) -> String {
    let mut text = format!("{}\n\n# ONNX\n\n", counts(outcomes.values()));
    text.push_str("These are the tests of the PyPI package `onnx==1.17.0`, run by the reference interpreter: ");
    text.push_str("`cargo test -p kiln-tests --test onnx_nodes` makes this page and fails if it is not the one\n");
    text.push_str(
        "in the repository (`-- --write` replaces it). Inputs that decide shapes are constants of the model there: ",
    );
    text.push_str("Kiln's graphs are static.\n\n");
    text.push_str("| set | outcome |\n|---|---|\n");
    for set in SETS {
        let of_set = outcomes.iter().filter(|((s, _), _)| s == set).map(|(_, outcome)| outcome);
        let _ = writeln!(text, "| {set} | {} |", counts(of_set));
    }
    text.push_str(
        "\nImport binds every symbolic extent of the inputs (`--dim NAME=N`, or `--shape INPUT=…` for a whole input): one that is \
         left open is an error\nthat names it, and what is compiled is for these extents alone. Two values of one name, and outputs \
         that are not of the element type, the rank or\nthe numbers that the model declares, are errors.\n\n",
    );
    text.push_str(
        "Conditions and numbers of steps are known at import: a branch is inlined, a loop is written out step by step. Sequences and \
         optionals are taken\napart: a sequence `x` among the inputs or outputs is the tensors `x.0`, `x.1` … (`--length x=N` says \
         how many of an input), an optional input has an\nelement unless `--absent x` says otherwise. Integers of 4 and 16 bits, unsigned ones \
         of 32 and 8-bit floats are held in wider\ntypes, exactly: casts, quantisation, what only moves or chooses elements (but not sequences of them, nor \
         `Resize` and `Upsample`)\nand, from 16 bits on, arithmetic, products and reductions of integers (but not `Gemm`, `PRelu`, and reductions to a root \
         or a logarithm) take them; what is fed for an input is cast first.\n\n\
         `DynamicQuantizeLinear` gives the scale of the operator's reference implementation, of zeros too: 1/255, where ONNX Runtime gives 1.\n\n",
    );
    text.push_str("## Operators\n\n");
    for line in wrapped(operators) {
        let _ = writeln!(text, "{line}");
    }
    text.push_str(
        "\n## Disputed\n\nHere Kiln gives what ONNX Runtime 1.32 gives, or what the operator's definition says; the tests expect something else:\n\n",
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
    text.push_str(
        "\n## Refused\n\nAll of what follows is refused by an error that names the node. No test here asks for `sequence_lens` of a recurrent layer that are \
         shorter than the\nsequences or not known at import: a layer's cell state is kept for its last step only. `input_forget` of an LSTM needs the sigmoid \
         for its gates,\nwhere 1 − sigmoid(z) is sigmoid(−z).\n\n",
    );
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

/// How many came to what.
fn counts<'o>(outcomes: impl Iterator<Item = &'o Outcome>) -> String {
    let (mut passed, mut refused, mut disputed, mut wrong) = (0, 0, 0, 0);
    for outcome in outcomes {
        *match outcome {
            Outcome::Passed => &mut passed,
            Outcome::Refused(_) => &mut refused,
            Outcome::Disputed => &mut disputed,
            Outcome::Wrong(_) => &mut wrong,
        } += 1;
    }
    let all = passed + refused + disputed + wrong;
    format!("passing {passed}, refused {refused}, disputed {disputed}, wrong {wrong} of {all}")
}

/// Names in lines of up to 100 characters.
fn wrapped(names: &[String]) -> Vec<String> {
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
