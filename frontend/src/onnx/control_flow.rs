//! `If`, `Loop`, `Scan` and `SequenceMap`: what they decide by is known at import, so that a branch is inlined and a loop is
//! written out step by step. Subgraphs see the values around them.

use std::collections::HashMap;

use kiln_ir::{DType, Tensor};

use super::attributes::Attributes;
use super::emit::{Operand, axis};
use super::error::{NodeError, Result, invalid, unsupported};
use super::graph::{Importer, Opsets, Slot, copies};
use super::narrow::NarrowType;
use super::proto::{DimensionValue, GraphProto, NodeProto, TypeValue, ValueInfoProto};
use super::tensor::dtype_of;
use super::value::Value;

/// The operators of this file.
pub(super) const OPERATORS: [&str; 4] = ["If", "Loop", "Scan", "SequenceMap"];

/// The results of a node, or of a subgraph; `None` where something within failed, which is reported.
type Outcome = Result<Option<Vec<Value>>>;

/// How a scan walks along one operand or result.
#[derive(Clone, Copy)]
struct Walk {
    axis: i64,
    backwards: bool,
}

impl Importer<'_> {
    /// Imports a node of one of the [`OPERATORS`].
    pub(super) fn control_flow(&mut self, node: &NodeProto, inputs: &[Option<Value>], opsets: &Opsets) -> Outcome {
        let attributes = Attributes::new(&node.attribute);
        let opset = opsets.get("").copied().unwrap_or(1);
        let run = match node.op_type() {
            "If" => Importer::branch,
            "Loop" => Importer::unroll,
            "Scan" if opset < 9 => Importer::scan_batch,
            "Scan" => Importer::scan,
            _ => Importer::map,
        };
        run(self, node, &attributes, inputs, opsets)
    }

    fn branch(&mut self, node: &NodeProto, a: &Attributes<'_>, inputs: &[Option<Value>], opsets: &Opsets) -> Outcome {
        let (then, otherwise) = (a.graph("then_branch")?, a.graph("else_branch")?);
        all_taken(a, opsets)?;
        let [Some(condition)] = inputs else {
            return Err(NodeError::MissingInput { index: 0, role: "cond" });
        };
        let known = condition.tensor(0)?.tensor().ok_or(NodeError::NotConstant { index: 0, role: "cond" })?;
        let graph = if truth(known)? { then } else { otherwise };
        same_results(graph, node.output.len())?;
        self.body(graph, opsets, |importer, body| body.step(importer, Vec::new()))
    }

    /// Input 0 says how often, input 1 whether to begin; the body's first result whether to go on.
    fn unroll(&mut self, node: &NodeProto, a: &Attributes<'_>, inputs: &[Option<Value>], opsets: &Opsets) -> Outcome {
        let graph = a.graph("body")?;
        all_taken(a, opsets)?;
        let trips = match inputs.first().and_then(Option::as_ref) {
            None => None,
            Some(value) => {
                let known = value.tensor(0)?.tensor().ok_or(NodeError::NotConstant { index: 0, role: "M" })?;
                let [trips] = known.to_i64_vec()[..] else {
                    return invalid(format!("M must be one integer, found {known:?}"));
                };
                Some(trips)
            }
        };
        let mut condition = match inputs.get(1).and_then(Option::as_ref) {
            None => None,
            Some(value) => Some(value.tensor(1)?.clone()),
        };
        let mut carried = present(inputs.get(2..).unwrap_or_default(), 2)?;
        let states = carried.len();
        expect_inputs(graph, 2 + states, "iteration number, condition and carried values")?;
        let Some(scans) = graph.output.len().checked_sub(1 + states) else {
            return invalid(format!(
                "the body has {} results for a condition and {states} carried values",
                graph.output.len()
            ));
        };
        if node.output.len() > states + scans {
            return invalid(format!("{} results, but the body gives {}", node.output.len(), states + scans));
        }
        if trips.is_none() && condition.is_none() {
            return unsupported("a loop without M and cond, which does not end");
        }
        self.body(graph, opsets, |importer, body| {
            let mut stacks: Vec<Vec<Value>> = vec![Vec::new(); scans];
            for trip in 0.. {
                if trips.is_some_and(|trips| trip >= trips) {
                    break;
                }
                if let Some(condition) = &condition {
                    let Some(known) = condition.tensor() else {
                        return unsupported(format!(
                            "a condition that depends on the values of the graph's inputs (before step {trip}): loops are \
                             written out at import; let M say the number of steps"
                        ));
                    };
                    if !truth(known)? {
                        break;
                    }
                }
                let mut arguments = vec![Operand::known(Tensor::scalar(trip)).into()];
                // Without a condition to begin with, the body's is not asked either.
                let going_on = condition.clone().unwrap_or(Operand::known(Tensor::scalar(true)));
                arguments.push(going_on.into());
                arguments.append(&mut carried);
                let Some(mut results) = body.step(importer, arguments)? else { return Ok(None) };
                let found = results.split_off(1 + states);
                stacks.iter_mut().zip(found).for_each(|(stack, value)| stack.push(value));
                carried = results.split_off(1);
                if let (Some(condition), [next]) = (&mut condition, &results[..]) {
                    *condition = next.tensor(0)?.clone();
                }
            }
            let outputs = graph.output.iter().skip(1 + states);
            for (stack, output) in stacks.iter().zip(outputs) {
                carried.push(importer.stacked(stack, output, Walk { axis: 0, backwards: false })?);
            }
            Ok(Some(carried))
        })
    }

    fn scan(&mut self, node: &NodeProto, a: &Attributes<'_>, inputs: &[Option<Value>], opsets: &Opsets) -> Outcome {
        let graph = a.graph("body")?;
        let (states, scanned, scans) = scan_counts(node, a, graph, inputs.len())?;
        let walks = |axes: &str, directions: &str, count: usize| -> Result<Vec<Walk>> {
            let axes = per_value(axes, a.ints(axes)?, count, |_| true)?;
            let directions = per_value(directions, a.ints(directions)?, count, |d| (0..=1).contains(&d))?;
            Ok(axes.into_iter().zip(directions).map(|(axis, d)| Walk { axis, backwards: d == 1 }).collect())
        };
        let over = walks("scan_input_axes", "scan_input_directions", scanned)?;
        let along = walks("scan_output_axes", "scan_output_directions", scans)?;
        all_taken(a, opsets)?;
        let mut values = present(inputs, 0)?;
        let scanned = values.split_off(states);
        if let Some((i, odd)) = scanned.iter().enumerate().find(|(_, value)| value.held().is_none()) {
            odd.tensor(states + i)?;
        }
        self.body(graph, opsets, |importer, body| body.scan(importer, values, &scanned, &over, &along))
    }

    /// Before opset 9 every operand and result has a batch axis in front, each entry of which is scanned by itself.
    fn scan_batch(
        &mut self,
        node: &NodeProto,
        a: &Attributes<'_>,
        inputs: &[Option<Value>],
        opsets: &Opsets,
    ) -> Outcome {
        let graph = a.graph("body")?;
        let [lengths, inputs @ ..] = inputs else {
            return Err(NodeError::MissingInput { index: 1, role: "initial states and scan inputs" });
        };
        let (states, scanned, scans) = scan_counts(node, a, graph, inputs.len())?;
        let directions = per_value("directions", a.ints("directions")?, scanned, |d| (0..=1).contains(&d))?;
        all_taken(a, opsets)?;
        if lengths.is_some() {
            return unsupported("sequence_lens (every sequence is scanned whole)");
        }
        let values = present(inputs, 1)?;
        let operands: Vec<Operand> =
            values.iter().enumerate().map(|(i, value)| value.tensor(i).cloned()).collect::<Result<_>>()?;
        let batch = operands.first().filter(|o| o.rank() > 0).map_or(0, |o| o.extent(0));
        if batch == 0 || operands.iter().any(|o| o.rank() == 0 || o.extent(0) != batch) {
            return invalid("initial states and scan inputs must have one batch axis of the same extent, at least 1");
        }
        // also where there are no steps
        self.count_inlined(batch.saturating_mul(operands.len()))?;
        let over: Vec<Walk> = directions.iter().map(|&d| Walk { axis: 0, backwards: d == 1 }).collect();
        let along = vec![Walk { axis: 0, backwards: false }; scans];
        self.body(graph, opsets, |importer, body| {
            let mut results: Vec<Vec<Operand>> = vec![Vec::new(); states + scans];
            for entry in 0..batch {
                let own = operands.iter().map(|o| importer.emit.element(o, 0, entry)).collect::<Result<Vec<_>>>()?;
                let mut initial: Vec<Value> = own.into_iter().map(Value::Tensor).collect();
                let scanned = initial.split_off(states);
                let Some(found) = body.scan(importer, initial, &scanned, &over, &along)? else { return Ok(None) };
                for (i, (list, value)) in results.iter_mut().zip(&found).enumerate() {
                    list.push(value.tensor(i)?.clone());
                }
            }
            let stacked = results.iter().map(|list| importer.emit.stack(list, 0).map(Value::Tensor));
            stacked.collect::<Result<_>>().map(Some)
        })
    }

    /// The body for each element of input 0, with the elements of the other sequences at the same place, and tensors as they
    /// are.
    fn map(&mut self, node: &NodeProto, a: &Attributes<'_>, inputs: &[Option<Value>], opsets: &Opsets) -> Outcome {
        let graph = a.graph("body")?;
        all_taken(a, opsets)?;
        let values = present(inputs, 0)?;
        let Some(first) = values.first() else {
            return Err(NodeError::MissingInput { index: 0, role: "input_sequence" });
        };
        let count = first.sequence(0)?.elements.len();
        for (i, value) in values.iter().enumerate() {
            match value {
                Value::Sequence(other) if other.elements.len() != count => {
                    return invalid(format!("input {i} is {value}, input 0 has {count}"));
                }
                Value::Absent => value.tensor(i).map(|_| ())?,
                _ => {}
            }
        }
        expect_inputs(graph, values.len(), "one value of each input")?;
        same_results(graph, node.output.len())?;
        self.body(graph, opsets, |importer, body| {
            let mut results: Vec<Vec<Operand>> = vec![Vec::new(); graph.output.len()];
            for place in 0..count {
                let argument = |value: &Value| match value {
                    Value::Sequence(s) => s.elements.get(place).cloned().map_or(Value::Absent, Value::Tensor),
                    other => other.clone(),
                };
                let arguments = values.iter().map(argument).collect();
                let Some(found) = body.step(importer, arguments)? else { return Ok(None) };
                for (i, (list, value)) in results.iter_mut().zip(&found).enumerate() {
                    list.push(value.tensor(i)?.clone());
                }
            }
            let dtypes = graph.output.iter().map(|o| declared(o).filter(|d| d.narrow.is_none()).map(|d| d.dtype));
            let made = results.into_iter().zip(dtypes).map(|(list, dtype)| importer.emit.sequence(list, dtype));
            made.collect::<Result<_>>().map(Some)
        })
    }

    /// Runs `import` where the constants of a subgraph are known. They are read once, however often the body is repeated.
    fn body<'g>(
        &mut self,
        graph: &'g GraphProto,
        opsets: &'g Opsets,
        import: impl FnOnce(&mut Self, &Body<'g>) -> Outcome,
    ) -> Outcome {
        self.nested(self.visible, HashMap::new(), |importer| {
            importer.count_inlined(copies(&graph.node, &graph.initializer))?;
            let before = importer.problems.len();
            importer.constants(graph);
            importer.nodes(graph.node.iter().enumerate().filter(|(_, n)| is_constant(n)), opsets);
            if importer.problems.len() > before {
                return Ok(None);
            }
            import(importer, &Body { graph, opsets })
        })
    }

    /// The values that a scan output had, joined along a new axis.
    fn stacked(&mut self, values: &[Value], output: &ValueInfoProto, along: Walk) -> Result<Value> {
        let name = output.name.as_deref().unwrap_or_default();
        let mut parts = Vec::with_capacity(values.len());
        for value in values {
            let Some(part) = value.held() else {
                return invalid(format!("the body's result `{name}` must be a tensor to be stacked, found {value}"));
            };
            parts.push(part.clone());
        }
        if along.backwards {
            parts.reverse();
        }
        let Some(first) = parts.first() else {
            // No step was made: only the declaration tells the extents.
            let Some(Declared { narrow, dtype, dims: Some(mut dims) }) = declared(output) else {
                return unsupported(format!(
                    "a loop of no steps whose body does not declare the extents of `{name}`, which is then empty"
                ));
            };
            let at = axis(along.axis, dims.len() + 1)?;
            dims.insert(at, 0);
            return Ok(Value::of(narrow, Operand::known(Tensor::zeros(dtype, &dims)?)));
        };
        let narrow = values.first().and_then(Value::narrow);
        if let Some(other) = values.iter().find(|v| v.narrow() != narrow) {
            return invalid(format!(
                "the body's result `{name}` has elements of {} in one step and of {} in another: it cannot be stacked",
                values.first().map(Value::element_type).unwrap_or_default(),
                other.element_type()
            ));
        }
        if let Some(other) = parts.iter().find(|p| p.dims() != first.dims()) {
            return invalid(format!(
                "the body's result `{name}` has extents {:?} in one step and {:?} in another: it cannot be stacked",
                first.dims(),
                other.dims()
            ));
        }
        let at = axis(along.axis, first.rank() + 1)?;
        Ok(Value::of(narrow, self.emit.stack(&parts, at)?))
    }
}

/// A subgraph that is imported as often as it is run.
struct Body<'g> {
    graph: &'g GraphProto,
    opsets: &'g Opsets,
}

impl Body<'_> {
    /// Imports the body once: its inputs are `arguments`; gives its outputs.
    fn step(&self, importer: &mut Importer<'_>, arguments: Vec<Value>) -> Outcome {
        let graph = self.graph;
        importer.count_inlined(graph.node.len().max(arguments.len()).max(graph.output.len()))?;
        let before = importer.problems.len();
        let names = graph.input.iter().map(|i| i.name.clone().unwrap_or_default());
        let scope = names.zip(arguments.into_iter().map(Slot::Ready)).collect();
        importer.scoped(scope, |importer| {
            let nodes = graph.node.iter().enumerate().filter(|(_, n)| !is_constant(n));
            importer.nodes(nodes, self.opsets);
            // What is wrong in one step is wrong in the next ones too.
            if importer.problems.len() > before {
                return Ok(None);
            }
            graph.output.iter().map(|o| importer.lookup(o.name.as_deref().unwrap_or_default())).collect()
        })
    }

    /// One scan: the final states and the stacked outputs.
    fn scan(
        &self,
        importer: &mut Importer<'_>,
        mut states: Vec<Value>,
        scanned: &[Value],
        over: &[Walk],
        along: &[Walk],
    ) -> Outcome {
        let walked: Vec<&Operand> = scanned.iter().filter_map(Value::held).collect();
        let axes: Vec<usize> =
            walked.iter().zip(over).map(|(x, walk)| axis(walk.axis, x.rank())).collect::<Result<_>>()?;
        let extents: Vec<usize> = walked.iter().zip(&axes).map(|(x, &at)| x.extent(at)).collect();
        let steps = extents.first().copied().unwrap_or(0);
        if extents.iter().any(|&e| e != steps) {
            return invalid(format!("the scan inputs have {extents:?} steps; expected equally many"));
        }
        let count = states.len();
        let mut stacks: Vec<Vec<Value>> = vec![Vec::new(); along.len()];
        for step in 0..steps {
            for (((value, &x), walk), &at) in scanned.iter().zip(&walked).zip(over).zip(&axes) {
                let place = if walk.backwards { steps - 1 - step } else { step };
                states.push(Value::of(value.narrow(), importer.emit.element(x, at, place)?));
            }
            let Some(mut results) = self.step(importer, states)? else { return Ok(None) };
            let found = results.split_off(count);
            stacks.iter_mut().zip(found).for_each(|(stack, value)| stack.push(value));
            states = results;
        }
        for ((stack, output), &walk) in stacks.iter().zip(self.graph.output.iter().skip(count)).zip(along) {
            states.push(importer.stacked(stack, output, walk)?);
        }
        Ok(Some(states))
    }
}

fn is_constant(node: &NodeProto) -> bool {
    node.op_type() == "Constant" && matches!(node.domain(), "" | "ai.onnx")
}

/// The one truth value that a condition must be.
fn truth(known: &Tensor) -> Result<bool> {
    match known.to_f64_vec()[..] {
        [value] => Ok(value != 0.0),
        _ => invalid(format!("the condition must be one truth value, found {known:?}")),
    }
}

fn all_taken(a: &Attributes<'_>, opsets: &Opsets) -> Result<()> {
    let names = a.left();
    if names.is_empty() {
        return Ok(());
    }
    Err(NodeError::UnknownAttributes { names, opset: opsets.get("").copied().unwrap_or(1) })
}

/// Inputs of which none may be omitted; `first` is the place of the first one.
fn present(inputs: &[Option<Value>], first: usize) -> Result<Vec<Value>> {
    let value = |(i, value): (usize, &Option<Value>)| {
        value.clone().ok_or(NodeError::MissingInput { index: first + i, role: "a value that the body takes" })
    };
    inputs.iter().enumerate().map(value).collect()
}

fn expect_inputs(graph: &GraphProto, found: usize, what: &str) -> Result<()> {
    if graph.input.len() == found {
        return Ok(());
    }
    invalid(format!("the body has {} inputs, the node gives it {found} ({what})", graph.input.len()))
}

fn same_results(graph: &GraphProto, wanted: usize) -> Result<()> {
    if wanted <= graph.output.len() {
        return Ok(());
    }
    invalid(format!("{wanted} results, but the subgraph gives {}", graph.output.len()))
}

/// (states, scan inputs, scan outputs) of a scan whose operands are `inputs` in number.
fn scan_counts(
    node: &NodeProto,
    a: &Attributes<'_>,
    graph: &GraphProto,
    inputs: usize,
) -> Result<(usize, usize, usize)> {
    let stated = a.required_int("num_scan_inputs")?;
    let scanned =
        usize::try_from(stated).ok().filter(|&n| (1..=inputs).contains(&n)).ok_or_else(|| NodeError::Attribute {
            name: "num_scan_inputs".to_owned(),
            expected: format!("1 to {inputs}, the number of states and scan inputs"),
            found: stated.to_string(),
        })?;
    let states = inputs - scanned;
    expect_inputs(graph, inputs, "states, and one step of each scan input")?;
    let Some(scans) = graph.output.len().checked_sub(states) else {
        return invalid(format!("the body has {} results for {states} states", graph.output.len()));
    };
    same_results(graph, node.output.len())?;
    Ok((states, scanned, scans))
}

/// One entry for each of `count` values; zeros where the attribute is missing.
fn per_value(name: &str, given: Option<&[i64]>, count: usize, fits: impl Fn(i64) -> bool) -> Result<Vec<i64>> {
    let Some(list) = given else { return Ok(vec![0; count]) };
    if list.len() == count && list.iter().all(|&v| fits(v)) {
        return Ok(list.to_vec());
    }
    let kind = if name.ends_with("axes") { "an axis" } else { "0 or 1" };
    Err(NodeError::Attribute {
        name: name.to_owned(),
        expected: format!("{kind} for each of {count} values"),
        found: format!("{list:?}"),
    })
}

/// What a subgraph declares of a result.
struct Declared {
    narrow: Option<NarrowType>,
    /// The dtype, or what holds the narrow type.
    dtype: DType,
    /// Where all extents are numbers.
    dims: Option<Vec<usize>>,
}

fn declared(output: &ValueInfoProto) -> Option<Declared> {
    let Some(TypeValue::Tensor(tensor)) = output.r#type.as_ref()?.value.as_ref() else { return None };
    let stated = tensor.elem_type.unwrap_or_default();
    let narrow = NarrowType::of(stated);
    let dtype = narrow.map(NarrowType::held_in).or_else(|| dtype_of(stated).ok())?;
    let extent = |d: &super::proto::Dimension| match d.value {
        Some(DimensionValue::Value(v)) => usize::try_from(v).ok(),
        _ => None,
    };
    let dims = tensor.shape.as_ref().and_then(|s| s.dim.iter().map(extent).collect());
    Some(Declared { narrow, dtype, dims })
}
