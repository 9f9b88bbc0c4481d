//! `run:` lines: a graph on given or random inputs, by every way there is.

use kiln_ir::ops::Op;
use kiln_ir::text::parse;
use kiln_ir::{Graph, Initializer, Tensor, TensorType};

use crate::compare::check_close;
use crate::ways::{Way, interpret};

/// Relative tolerance where a file gives none: 16 roundings of f32, as elementwise chains and short sums make.
pub const TOLERANCE: f64 = 16.0 / (1 << 24) as f64;

/// A `run:` line.
#[derive(Debug)]
pub(super) struct Run {
    inputs: Inputs,
    tolerance: f64,
}

/// What a `run:` line says of a graph.
#[derive(Clone, Debug)]
pub struct Case {
    /// A tensor for each input, by name.
    pub feeds: Vec<(String, Tensor)>,
    /// What must come out.
    pub expected: Vec<(String, Tensor)>,
    /// How far an element of each output may be off.
    pub tolerances: Vec<f64>,
}

#[derive(Debug)]
enum Inputs {
    /// Normal floats and small integers from this seed; the interpreter in f64 says what is right.
    Random(u64),
    /// Tensors by name as the text format writes them, of inputs and of outputs.
    Given(Vec<(String, String)>, Vec<(String, String)>),
}

impl Run {
    /// `random(SEED) [~ TOLERANCE]` or `INPUT = TENSOR; … -> OUTPUT = TENSOR; … [~ TOLERANCE]`
    pub(super) fn read(text: &str) -> Result<Run, String> {
        let wrong = || {
            format!(
                "`run: {text}`: expected `random(SEED)` or `x = dense<…>; … -> y = dense<…>; …`, then perhaps `~ 1e-5`"
            )
        };
        let (what, tolerance) = match text.split_once('~') {
            Some((what, t)) => (what.trim(), t.trim().parse().map_err(|_| wrong())?),
            None => (text.trim(), TOLERANCE),
        };
        let seed = what.strip_prefix("random(").and_then(|r| r.strip_suffix(')'));
        let inputs = match seed {
            Some(seed) => Inputs::Random(seed.parse().map_err(|_| wrong())?),
            None => {
                let (inputs, outputs) = what.split_once("->").ok_or_else(wrong)?;
                let pairs = |list: &str| -> Option<Vec<(String, String)>> {
                    let items = list.split(';').map(str::trim).filter(|s| !s.is_empty());
                    items.map(|s| s.split_once('=').map(|(n, t)| (n.trim().to_owned(), t.trim().to_owned()))).collect()
                };
                Inputs::Given(pairs(inputs).ok_or_else(wrong)?, pairs(outputs).ok_or_else(wrong)?)
            }
        };
        Ok(Run { inputs, tolerance })
    }

    /// Feeds for `graph`, and what is right.
    pub(super) fn case(&self, graph: &Graph) -> Result<Case, String> {
        let (feeds, expected) = match &self.inputs {
            Inputs::Random(seed) => {
                let feeds = random_feeds(graph, *seed)?;
                let expected = interpret::<f64>(graph, &feeds)?;
                (feeds, expected)
            }
            Inputs::Given(inputs, outputs) => {
                let of_input = |name: &str| graph.input_types().find(|(n, _)| *n == name).map(|(_, t)| t.clone());
                let of_output =
                    |name: &str| graph.outputs().iter().find(|(n, _)| n == name).map(|(_, v)| graph.ty(*v).clone());
                (tensors(inputs, "input", of_input)?, tensors(outputs, "output", of_output)?)
            }
        };
        let scale =
            |t: &Tensor| t.to_f64_vec().into_iter().filter(|v| v.is_finite()).fold(1.0, |m: f64, v| m.max(v.abs()));
        let tolerances = expected.iter().map(|(_, t)| self.tolerance * scale(t)).collect();
        Ok(Case { feeds, expected, tolerances })
    }

    /// Runs `graph` by every way, and with each of the `rules` off, and the graphs `made` of it in the interpreter. The error
    /// lists all that are off.
    pub(super) fn check(&self, graph: &Graph, made: &[Graph], rules: &[String]) -> Result<(), String> {
        let Case { feeds, expected, tolerances } = self.case(graph)?;
        let mut problems = Vec::new();
        let mut check = |name: String, outcome: crate::ways::Outcome| {
            let outcome = outcome.and_then(|found| check_close(&expected, &found, &tolerances));
            problems.extend(outcome.err().map(|e| format!("{name}: {e}")));
        };
        check("interpreted".into(), interpret::<f32>(graph, &feeds));
        for other in made {
            check(format!("interpreted:\n{other}"), interpret::<f32>(other, &feeds));
        }
        let without_one = rules.iter().map(|rule| Way::Compiled(kiln_passes::Options::default().without(rule)));
        for way in Way::all().into_iter().chain(without_one) {
            check(format!("{way:?}"), way.run(graph, &feeds));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
    }
}

/// A random value for each input: normal floats, integers from −5 to 4.
fn random_feeds(graph: &Graph, seed: u64) -> Result<Vec<(String, Tensor)>, String> {
    let feed = |((name, ty), i): ((&str, &TensorType), u64)| {
        let dims = ty.static_dims().ok_or_else(|| format!("input `{name}` has symbolic dims: specialize first"))?;
        let seed = seed.wrapping_mul(1000) + i;
        let init = if ty.dtype.is_float() {
            Initializer::Normal { mean: 0.0.into(), std: 1.0.into(), seed }
        } else {
            let low = if ty.dtype == kiln_ir::DType::U8 { 0.0 } else { -5.0 };
            Initializer::Uniform { low: low.into(), high: 5.0.into(), seed }
        };
        let tensor = init.materialize(ty.dtype, &dims).map_err(|e| e.to_string())?;
        Ok((name.to_owned(), tensor))
    };
    graph.input_types().zip(0..).map(feed).collect()
}

/// Tensors from their text. All names must be there, in any order; the result is in the order given.
fn tensors(
    given: &[(String, String)],
    what: &str,
    type_of: impl Fn(&str) -> Option<TensorType>,
) -> Result<Vec<(String, Tensor)>, String> {
    let read = |(name, text): &(String, String)| {
        let ty = type_of(name).ok_or_else(|| format!("the graph has no {what} `{name}`"))?;
        let source = format!("kiln 1\ngraph @t() -> (t = %t) {{\n  %t = constant {text} : {ty}\n}}");
        let graph = parse(&source, "run").map_err(|e| e.to_string())?;
        match graph.outputs().first().map(|(_, v)| &graph.node(v.node).op) {
            Some(Op::Constant { value }) => Ok((name.clone(), value.tensor().clone())),
            _ => Err(format!("`{text}` is no tensor")),
        }
    };
    given.iter().map(read).collect()
}
