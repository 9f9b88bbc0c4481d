//! A whole graph: feeds in, results out, state from run to run.

use std::collections::BTreeMap;
use std::collections::btree_map::Iter;

use super::array::Array;
use super::error::{EvalError, FeedError, InterpError};
use super::evaluate::evaluate;
use super::scalar::Scalar;
use crate::graph::{Graph, NodeId, Value, Variable};
use crate::ops::Op;
use crate::tensor::Tensor;
use crate::types::TensorType;

/// The values of variables between runs. A variable that is not here has its initialiser's value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State(BTreeMap<String, Tensor>);

impl State {
    /// Every variable at its initialiser.
    pub fn new() -> State {
        State::default()
    }

    /// The value that a run or [`State::set`] gave a variable.
    pub fn get(&self, variable: &str) -> Option<&Tensor> {
        self.0.get(variable)
    }

    /// Gives a variable a value; the next run checks it.
    pub fn set(&mut self, variable: &str, value: Tensor) {
        self.0.insert(variable.to_owned(), value);
    }

    /// The values by name.
    pub fn iter(&self) -> Iter<'_, String, Tensor> {
        self.0.iter()
    }
}

/// Runs `graph`: the outputs by name, in signature order.
///
/// Reads see variables as they were before the run; assigned values are in `state` after it (without a state,
/// variables have their initialisers' values and assignments are lost). Feeds, state and results are in the
/// declared dtypes, or, for floats, in the exchange dtype of `S`: f64 where `S` is f64, i64 residues where it is
/// [`super::Fp`]; results then always are.
///
/// Everything that is wrong with feeds and state is reported at once; then the first node that fails.
pub fn run<S: Scalar>(
    graph: &Graph,
    feeds: &[(&str, Tensor)],
    state: Option<&mut State>,
) -> Result<Vec<(String, Tensor)>, InterpError> {
    let names = graph.symbols();
    if !names.is_empty() {
        return Err(InterpError::Symbolic { names });
    }
    let empty = State::new();
    let (sources, problems) = sources::<S>(graph, feeds, state.as_deref().unwrap_or(&empty));
    if !problems.is_empty() {
        return Err(InterpError::Feeds(problems));
    }
    let wanted: Vec<Value> = graph.outputs().iter().map(|(_, v)| *v).collect();
    let Evaluated { values, assigned } = evaluate_graph(graph, &sources, &wanted)?;
    let mut results = Vec::with_capacity(values.len());
    for ((name, value), array) in graph.outputs().iter().zip(values) {
        results.push((name.clone(), array.to_tensor().map_err(|e| at(graph, value.node, e))?));
    }
    if let Some(state) = state {
        for (variable, node, array) in assigned {
            state.set(&variable, array.to_tensor().map_err(|e| at(graph, node, e))?);
        }
    }
    Ok(results)
}

/// The outputs of `body`, a graph without state, whose inputs are `inputs` in signature order.
pub(super) fn results<S: Scalar>(body: &Graph, inputs: &[Array<S>]) -> Result<Vec<Array<S>>, EvalError> {
    let wanted: Vec<Value> = body.outputs().iter().map(|(_, v)| *v).collect();
    let sources = body.inputs().iter().copied().zip(inputs.iter().cloned()).collect();
    match evaluate_graph(body, &sources, &wanted) {
        Ok(Evaluated { values, .. }) => Ok(values),
        Err(InterpError::Node { error, .. }) => Err(error),
        Err(_) => Err(EvalError::Bug { what: "a composite whose body cannot be run" }),
    }
}

/// Values of placeholders and variable reads.
type Sources<S> = BTreeMap<NodeId, Array<S>>;

fn sources<S: Scalar>(graph: &Graph, feeds: &[(&str, Tensor)], state: &State) -> (Sources<S>, Vec<FeedError>) {
    let mut problems = unknown_feeds(graph, feeds);
    let mut sources = Sources::new();
    for id in graph.node_ids() {
        let ty = graph.node(id).types.first();
        let (what, name, given) = match (&graph.node(id).op, ty) {
            (Op::Placeholder { name, .. }, Some(ty)) => match feeds.iter().find(|(n, _)| n == name) {
                Some((_, t)) => ("input", name, t.clone()),
                None => {
                    problems.push(FeedError::Missing { name: name.clone(), expected: ty.clone() });
                    continue;
                }
            },
            (Op::ReadVar { variable, .. }, _) => match graph.variable(variable).map(|v| (v, state.get(variable))) {
                Some((_, Some(t))) => ("variable", variable, t.clone()),
                Some((v, None)) => match initial(v) {
                    Ok(t) => ("variable", variable, t),
                    Err(problem) => {
                        problems.push(problem);
                        continue;
                    }
                },
                None => continue,
            },
            _ => continue,
        };
        let Some(ty) = ty else { continue };
        match accept::<S>(what, name, ty, &given) {
            Ok(array) => {
                sources.insert(id, array);
            }
            // A variable may be read more than once.
            Err(problem) if !problems.contains(&problem) => problems.push(problem),
            Err(_) => {}
        }
    }
    (sources, problems)
}

fn unknown_feeds(graph: &Graph, feeds: &[(&str, Tensor)]) -> Vec<FeedError> {
    let known: Vec<&str> = graph.input_types().map(|(n, _)| n).collect();
    let shown = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let mut problems = Vec::new();
    for (i, (name, _)) in feeds.iter().enumerate() {
        if !known.contains(name) {
            problems.push(FeedError::Unknown { name: (*name).to_owned(), known: shown.clone() });
        } else if feeds[..i].iter().any(|(n, _)| n == name) {
            problems.push(FeedError::Twice { name: (*name).to_owned() });
        }
    }
    problems
}

fn initial(v: &Variable) -> Result<Tensor, FeedError> {
    let dims = v.ty.static_dims().unwrap_or_default();
    v.init.materialize(v.ty.dtype, &dims).map_err(|e| FeedError::Value {
        what: "variable",
        name: v.name.clone(),
        error: e.to_string(),
    })
}

/// A given tensor as the value of something of type `ty`.
fn accept<S: Scalar>(what: &'static str, name: &str, ty: &TensorType, given: &Tensor) -> Result<Array<S>, FeedError> {
    let exchange = S::EXCHANGE.filter(|d| ty.dtype.is_float() && *d != ty.dtype);
    let dtype_fits = given.dtype() == ty.dtype || Some(given.dtype()) == exchange;
    if !dtype_fits || ty.static_dims().as_deref() != Some(given.dims()) {
        return Err(FeedError::Type {
            what,
            name: name.to_owned(),
            expected: ty.clone(),
            exchange,
            found: TensorType::fixed(given.dtype(), given.dims()),
        });
    }
    Array::from_tensor(given, ty.dtype).map_err(|e| FeedError::Value {
        what,
        name: name.to_owned(),
        error: e.to_string(),
    })
}

/// `error` at a node.
fn at(graph: &Graph, id: NodeId, error: EvalError) -> InterpError {
    let node = graph.node(id);
    InterpError::Node {
        mnemonic: node.op.mnemonic(),
        name: node.name.as_deref().map(str::to_owned),
        location: node.location.clone(),
        error,
    }
}

/// What a pass over a graph gives.
struct Evaluated<S> {
    /// The wanted values.
    values: Vec<Array<S>>,
    /// Each assigned variable, by which node, and its new value.
    assigned: Vec<(String, NodeId, Array<S>)>,
}

/// The `wanted` values, and what the effects assign. Only what these need is computed, and a value is dropped after
/// its last use.
fn evaluate_graph<S: Scalar>(
    graph: &Graph,
    sources: &Sources<S>,
    wanted: &[Value],
) -> Result<Evaluated<S>, InterpError> {
    let uses_left = &mut count_uses(graph, wanted);
    let mut live: BTreeMap<NodeId, Vec<Array<S>>> = BTreeMap::new();
    let mut assigned = Vec::new();
    let lost = |id| at(graph, id, EvalError::Bug { what: "a value that was dropped before its last use" });
    for id in graph.node_ids() {
        let node = graph.node(id);
        if uses_left[id.0 as usize] == 0 {
            continue;
        }
        let results = match sources.get(&id) {
            Some(array) => vec![array.clone()],
            None => {
                let take = |v: &Value| live.get(&v.node)?.get(v.result as usize).cloned();
                let operands: Option<Vec<Array<S>>> = node.operands.iter().map(take).collect();
                let operands = operands.ok_or_else(|| lost(id))?;
                evaluate(&node.op, &operands, &node.types).map_err(|e| at(graph, id, e))?
            }
        };
        if let (Op::Assign { variable }, Some(value)) = (&node.op, results.first()) {
            assigned.push((variable.clone(), id, value.clone()));
        }
        live.insert(id, results);
        for v in &node.operands {
            release(v.node, uses_left, &mut live);
        }
        if node.op.has_effect() {
            // The use that an effect has of itself.
            release(id, uses_left, &mut live);
        }
    }
    let take = |v: &Value| live.get(&v.node)?.get(v.result as usize).cloned();
    let values = wanted.iter().map(|v| take(v).ok_or_else(|| lost(v.node))).collect::<Result<_, _>>()?;
    Ok(Evaluated { values, assigned })
}

/// How often each node is used by nodes that are needed, by `wanted`, and (once) for being an effect.
fn count_uses(graph: &Graph, wanted: &[Value]) -> Vec<usize> {
    let mut uses = vec![0usize; graph.len()];
    wanted.iter().for_each(|v| uses[v.node.0 as usize] += 1);
    graph.effects().iter().for_each(|id| uses[id.0 as usize] += 1);
    for id in graph.node_ids().rev() {
        if uses[id.0 as usize] > 0 {
            graph.node(id).operands.iter().for_each(|v| uses[v.node.0 as usize] += 1);
        }
    }
    uses
}

fn release<S>(id: NodeId, uses_left: &mut [usize], live: &mut BTreeMap<NodeId, Vec<Array<S>>>) {
    let left = &mut uses_left[id.0 as usize];
    *left = left.saturating_sub(1);
    if *left == 0 {
        live.remove(&id);
    }
}
