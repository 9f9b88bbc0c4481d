//! Adding nodes to the graph, or evaluating them at once where every operand is known.
//!
//! ONNX computes shapes with ordinary nodes. Once the inputs' dims are bound, all of that is
//! arithmetic on constants: an [`Operand`] is known or it is a value of the graph, and an op over
//! small known operands is evaluated by the interpreter instead of being added. A known tensor
//! becomes a constant of the graph only when a node that stays needs it.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use kiln_ir::attribute::{Padding, Reducer};
use kiln_ir::tensor::element_count;
use kiln_ir::{BuildErrors, Builder, DType, Dim, Graph, Location, Op, Tensor, TensorType, Value};

use super::error::{NodeError, Result, invalid, unsupported};
use super::fold;
use super::value::{self, Sequence};

/// Most axes of a tensor, as in numpy: work on axes grows faster than their number.
pub(super) const MOST_AXES: usize = 64;

/// Most nodes of the graph that a model makes: one operator may become thousands of them.
const MOST_NODES: usize = 1 << 20;

/// Most elements of all sequences that import makes, together: a sequence that grows is made anew at every step.
pub(super) const MOST_ELEMENTS: usize = 1 << 18;

/// Most bytes of the constants that import works out, in all, besides [`MADE_PER_BYTE`] times those that the file holds: a
/// node of some bytes can ask for a window or a range of any length.
const MOST_MADE: usize = 1 << 28;

/// See [`MOST_MADE`].
const MADE_PER_BYTE: usize = 4;

/// Most bytes of the constants of one repeated value that are known, in all: shapes are made of them. The passes make of larger
/// ones a broadcast anyway.
const MOST_FILLED: usize = 1 << 24;

/// A tensor during import: a result of the graph, or a tensor known already.
#[derive(Clone, Debug)]
pub(super) struct Operand(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    dtype: DType,
    dims: Vec<usize>,
    known: Option<Tensor>,
    /// The node; of a known tensor, once something needed it.
    value: OnceCell<Value>,
    /// What the model calls a known tensor.
    name: Option<Arc<str>>,
    /// The smaller known tensor that a known one repeats, and the axes its own become.
    repeats: Option<(Operand, Vec<usize>)>,
}

impl Operand {
    pub fn known(tensor: Tensor) -> Operand {
        Operand::named(tensor, None)
    }

    pub fn named(tensor: Tensor, name: Option<Arc<str>>) -> Operand {
        Operand(Rc::new(Inner {
            dtype: tensor.dtype(),
            dims: tensor.dims().to_vec(),
            known: Some(tensor),
            value: OnceCell::new(),
            name,
            repeats: None,
        }))
    }

    pub fn scalar(dtype: DType, value: f64) -> Result<Operand> {
        Ok(Operand::known(Tensor::from_f64(dtype, &[], &[value])?))
    }

    pub fn integers(values: &[i64]) -> Result<Operand> {
        Ok(Operand::known(Tensor::from_slice(&[values.len()], values)?))
    }

    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    pub fn dims(&self) -> &[usize] {
        &self.0.dims
    }

    pub fn rank(&self) -> usize {
        self.0.dims.len()
    }

    pub fn tensor(&self) -> Option<&Tensor> {
        self.0.known.as_ref()
    }

    /// The extent of an axis that [`Emitter::axis`] gave.
    pub fn extent(&self, axis: usize) -> usize {
        self.0.dims.get(axis).copied().unwrap_or(1)
    }

    fn ty(&self) -> TensorType {
        TensorType::fixed(self.0.dtype, &self.0.dims)
    }
}

/// Grows the graph.
pub(super) struct Emitter {
    graph: Graph,
    name: Option<Arc<str>>,
    location: Option<Location>,
    /// Elements of the sequences made.
    elements: usize,
    /// Bytes of the constants made, and how many there may be.
    made: usize,
    most_made: usize,
    /// Bytes of the constants of one repeated value.
    filled: usize,
}

pub(super) fn fixed(dims: &[usize]) -> Vec<Dim> {
    dims.iter().copied().map(Dim::Fixed).collect()
}

/// The dims that numpy's broadcasting gives.
pub(super) fn joint_dims(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |d: &[usize], i: usize| (i + d.len()).checked_sub(rank).and_then(|i| d.get(i)).copied().unwrap_or(1);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (p, q) if p == q || q == 1 => Ok(p),
            (1, q) => Ok(q),
            _ => invalid(format!("extents {a:?} and {b:?} do not broadcast")),
        })
        .collect()
}

impl Emitter {
    pub fn new(graph: Graph) -> Emitter {
        Emitter { graph, name: None, location: None, elements: 0, made: 0, most_made: MOST_MADE, filled: 0 }
    }

    pub fn graph(&mut self) -> &mut Graph {
        &mut self.graph
    }

    pub fn finish(self) -> Graph {
        self.graph
    }

    /// What the nodes added from now on are called and where they come from.
    pub fn at(&mut self, name: Arc<str>, location: Location) {
        self.name = Some(name);
        self.location = Some(location);
    }

    /// Adds a node of one result, or evaluates it.
    pub fn op(&mut self, op: Op, operands: &[&Operand]) -> Result<Operand> {
        let mut results = self.op_all(op, operands)?;
        results.pop().ok_or_else(|| NodeError::Invalid("the op has no result".to_owned()))
    }

    /// Adds a node, or evaluates it; gives all results.
    pub fn op_all(&mut self, op: Op, operands: &[&Operand]) -> Result<Vec<Operand>> {
        if let Some(x) = operands.iter().find(|o| o.rank() > MOST_AXES) {
            return unsupported(format!("a tensor of {} axes (up to {MOST_AXES} are)", x.rank()));
        }
        let known: Option<Vec<&Tensor>> = operands.iter().map(|o| o.tensor()).collect();
        if let Some(known) = known {
            let types: Vec<TensorType> = operands.iter().map(|o| o.ty()).collect();
            let room = self.most_made.saturating_sub(self.made);
            if let Some(results) = fold::evaluate(&op, &types, &known, room)? {
                self.made += results.iter().map(Tensor::byte_len).sum::<usize>();
                return Ok(results.into_iter().map(Operand::known).collect());
            }
        }
        if self.graph.len() >= MOST_NODES {
            return unsupported(format!("a model that makes a graph of more than {MOST_NODES} nodes"));
        }
        let values = operands.iter().map(|o| self.value(o)).collect::<Result<Vec<Value>>>()?;
        let node = self.graph.add(op, &values, self.name.clone(), self.location.clone())?;
        let types = self.graph.node(node).types.clone();
        types.iter().zip(0..).map(|(ty, result)| of_graph(Value { node, result }, ty)).collect()
    }

    /// What `build` makes of the operands with the builder that the DSL uses, node by node: what is known is evaluated.
    pub fn compose(
        &mut self,
        operands: &[&Operand],
        build: impl FnOnce(&mut Builder, &[Value]) -> Value,
    ) -> Result<Operand> {
        let mut b = Builder::new("composition");
        let inputs = operands.iter().zip(0..).map(|(o, i)| b.placeholder(&format!("a{i}"), o.dtype(), &o.ty().dims));
        let inputs: Vec<Value> = inputs.collect();
        let result = build(&mut b, &inputs);
        let graph = b.finish().map_err(|BuildErrors(errors)| match errors.into_iter().next() {
            Some(error) => error.into(),
            None => NodeError::Invalid("the composition has errors".to_owned()),
        })?;
        let mut made: HashMap<Value, Operand> = inputs.into_iter().zip(operands.iter().map(|&o| o.clone())).collect();
        for id in graph.node_ids() {
            let node = graph.node(id);
            let operands: Vec<&Operand> = node.operands.iter().filter_map(|v| made.get(v)).collect();
            let results = match (&node.op, operands.as_slice()) {
                (Op::Placeholder { .. }, _) => continue,
                (Op::Constant { value }, _) => vec![Operand::known(value.tensor().clone())],
                (Op::Broadcast { axes, .. }, &[x]) => {
                    let dims = node.types.first().and_then(TensorType::static_dims).unwrap_or_default();
                    vec![self.broadcast(x, &dims, axes)?]
                }
                (op, operands) => self.op_all(op.clone(), operands)?,
            };
            made.extend(results.into_iter().zip(0..).map(|(o, result)| (Value { node: id, result }, o)));
        }
        made.remove(&result).ok_or_else(|| NodeError::Invalid("the composition has no result".to_owned()))
    }

    /// The graph's value of an operand; a known one becomes a constant.
    pub fn value(&mut self, operand: &Operand) -> Result<Value> {
        let inner = &operand.0;
        if let Some(&value) = inner.value.get() {
            return Ok(value);
        }
        let Some(tensor) = &inner.known else {
            return invalid("an operand that is neither known nor in the graph");
        };
        let (op, operands) = match &inner.repeats {
            Some((source, axes)) => {
                (Op::Broadcast { dims: fixed(&inner.dims), axes: axes.clone() }, vec![self.value(source)?])
            }
            None => (Op::Constant { value: tensor.clone().into() }, Vec::new()),
        };
        let name = inner.name.clone().or_else(|| self.name.clone());
        let node = self.graph.add(op, &operands, name, self.location.clone())?;
        let value = self.graph.value(node);
        // Set once: the cell was empty above, and nothing between can fill it.
        let _ = inner.value.set(value);
        Ok(value)
    }

    pub fn placeholder(&mut self, name: &str, dtype: DType, dims: &[usize]) -> Result<Operand> {
        self.op(Op::Placeholder { name: name.to_owned(), dtype, dims: fixed(dims) }, &[])
    }

    /// Makes a sequence, or refuses where sequences have become too many. `dtype` is that of an empty one.
    pub fn sequence(&mut self, elements: Vec<Operand>, dtype: Option<DType>) -> Result<value::Value> {
        self.room_for(elements.len())?;
        self.elements += elements.len();
        let dtype = elements.first().map(Operand::dtype).or(dtype);
        if let Some(odd) = elements.iter().find(|e| Some(e.dtype()) != dtype) {
            let of = dtype.map_or_else(String::new, |d| d.to_string());
            return invalid(format!("an element of {} in a sequence of {of}", odd.dtype()));
        }
        Ok(value::Value::Sequence(Sequence { dtype, elements: elements.into() }))
    }

    /// Refuses so many more elements of sequences where they would be too many.
    pub fn room_for(&self, more: usize) -> Result<()> {
        if more <= MOST_ELEMENTS - self.elements {
            return Ok(());
        }
        unsupported(format!("sequences of more than {MOST_ELEMENTS} elements together: stack them into tensors"))
    }

    /// Lets import work out more, for a constant that the file holds.
    pub fn holds(&mut self, constant: &Tensor) {
        self.most_made = self.most_made.saturating_add(constant.byte_len().saturating_mul(MADE_PER_BYTE));
    }

    /// Counts a constant of these extents before import works it out; refuses it where constants have become too large.
    pub fn room_for_constant(&mut self, dtype: DType, dims: &[usize]) -> Result<()> {
        let fits = |&made: &usize| made <= self.most_made.max(self.made.saturating_add(fold::ALWAYS));
        if let Some(made) = bytes_beside(self.made, dtype, dims).filter(fits) {
            self.made = made;
            return Ok(());
        }
        unsupported(format!(
            "a constant {} that import would have to work out, beside {} bytes of others (up to {} are in all); store it in the \
             file as an initializer, or make it an input of the model",
            TensorType::fixed(dtype, dims),
            self.made,
            self.most_made
        ))
    }

    /// A tensor of one repeated value, known as long as there is room; beyond, the value is broadcast in the graph, which takes no
    /// memory.
    pub fn filled(&mut self, value: &Tensor, dims: &[usize]) -> Result<Operand> {
        let filled = bytes_beside(self.filled, value.dtype(), dims).filter(|&filled| filled <= MOST_FILLED);
        let Some(filled) = filled.filter(|_| self.room_for_constant(value.dtype(), dims).is_ok()) else {
            return self.broadcast_to(&Operand::known(value.reshape(&[])?), dims);
        };
        let bytes = value.bytes().repeat((filled - self.filled) / value.dtype().size());
        self.filled = filled;
        Ok(Operand::known(Tensor::from_bytes(value.dtype(), dims, Bytes::from(bytes))?))
    }

    // ---- elementwise ----

    /// A binary op under numpy's broadcasting.
    pub fn binary(&mut self, op: Op, x: &Operand, y: &Operand) -> Result<Operand> {
        let dims = joint_dims(x.dims(), y.dims())?;
        let (x, y) = (self.broadcast_to(x, &dims)?, self.broadcast_to(y, &dims)?);
        self.op(op, &[&x, &y])
    }

    pub fn add(&mut self, x: &Operand, y: &Operand) -> Result<Operand> {
        self.binary(Op::Add {}, x, y)
    }

    pub fn sub(&mut self, x: &Operand, y: &Operand) -> Result<Operand> {
        self.binary(Op::Sub {}, x, y)
    }

    pub fn mul(&mut self, x: &Operand, y: &Operand) -> Result<Operand> {
        self.binary(Op::Mul {}, x, y)
    }

    pub fn div(&mut self, x: &Operand, y: &Operand) -> Result<Operand> {
        self.binary(Op::Div {}, x, y)
    }

    /// A binary op with a constant of x's dtype.
    pub fn with_scalar(&mut self, op: Op, x: &Operand, value: f64) -> Result<Operand> {
        let y = Operand::scalar(x.dtype(), value)?;
        self.binary(op, x, &y)
    }

    pub fn select(&mut self, condition: &Operand, then: &Operand, otherwise: &Operand) -> Result<Operand> {
        let dims = joint_dims(condition.dims(), &joint_dims(then.dims(), otherwise.dims())?)?;
        let condition = self.broadcast_to(condition, &dims)?;
        let (then, otherwise) = (self.broadcast_to(then, &dims)?, self.broadcast_to(otherwise, &dims)?);
        self.op(Op::Select {}, &[&condition, &then, &otherwise])
    }

    pub fn convert(&mut self, x: &Operand, dtype: DType) -> Result<Operand> {
        if x.dtype() == dtype { Ok(x.clone()) } else { self.op(Op::Convert { dtype }, &[x]) }
    }

    // ---- movement; each is nothing where it changes nothing ----

    pub fn reshape(&mut self, x: &Operand, dims: &[usize]) -> Result<Operand> {
        if x.dims() == dims {
            return Ok(x.clone());
        }
        if let Some(tensor) = x.tensor() {
            // Whatever its size: the bytes are shared.
            return Ok(Operand::named(tensor.reshape(dims)?, x.0.name.clone()));
        }
        self.op(Op::Reshape { dims: fixed(dims) }, &[x])
    }

    pub fn transpose(&mut self, x: &Operand, perm: &[usize]) -> Result<Operand> {
        if perm.iter().copied().eq(0..x.rank()) {
            return Ok(x.clone());
        }
        self.op(Op::Transpose { perm: perm.to_vec() }, &[x])
    }

    /// Axis i of x becomes axis `axes[i]` of `dims`. A known result remembers what it repeats, so that a
    /// bias stays a vector in the graph, whatever it is added to.
    pub fn broadcast(&mut self, x: &Operand, dims: &[usize], axes: &[usize]) -> Result<Operand> {
        if x.dims() == dims {
            return Ok(x.clone());
        }
        let y = self.op(Op::Broadcast { dims: fixed(dims), axes: axes.to_vec() }, &[x])?;
        let Some(tensor) = y.tensor() else { return Ok(y) };
        Ok(Operand(Rc::new(Inner {
            dtype: y.dtype(),
            dims: dims.to_vec(),
            known: Some(tensor.clone()),
            value: OnceCell::new(),
            name: x.0.name.clone(),
            repeats: Some((x.clone(), axes.to_vec())),
        })))
    }

    /// Broadcasts as numpy does: trailing axes aligned.
    pub fn broadcast_to(&mut self, x: &Operand, dims: &[usize]) -> Result<Operand> {
        let Some(offset) = dims.len().checked_sub(x.rank()) else {
            return invalid(format!("extents {:?} do not broadcast to {dims:?}", x.dims()));
        };
        self.broadcast(x, dims, &(offset..dims.len()).collect::<Vec<_>>())
    }

    pub fn slice(&mut self, x: &Operand, start: &[usize], limit: &[usize], stride: &[usize]) -> Result<Operand> {
        let whole = start.iter().all(|&s| s == 0) && limit == x.dims() && stride.iter().all(|&s| s == 1);
        if whole {
            return Ok(x.clone());
        }
        self.op(Op::Slice { start: start.to_vec(), limit: limit.to_vec(), stride: stride.to_vec() }, &[x])
    }

    /// Elements start..limit of one axis.
    pub fn slice_axis(&mut self, x: &Operand, axis: usize, start: usize, limit: usize) -> Result<Operand> {
        let mut starts = vec![0; x.rank()];
        let mut limits = x.dims().to_vec();
        set(&mut starts, axis, start);
        set(&mut limits, axis, limit);
        self.slice(x, &starts, &limits, &[])
    }

    pub fn reverse(&mut self, x: &Operand, axes: &[usize]) -> Result<Operand> {
        if axes.is_empty() { Ok(x.clone()) } else { self.op(Op::Reverse { axes: axes.to_vec() }, &[x]) }
    }

    pub fn pad(&mut self, x: &Operand, padding: &[Padding], value: f64) -> Result<Operand> {
        if padding.iter().all(|p| *p == Padding::NONE) {
            return Ok(x.clone());
        }
        self.op(Op::Pad { padding: padding.to_vec(), interior: Vec::new(), value: value.into() }, &[x])
    }

    pub fn concat(&mut self, parts: &[&Operand], axis: usize) -> Result<Operand> {
        match parts {
            [one] => Ok((*one).clone()),
            _ => self.op(Op::Concat { axis }, parts),
        }
    }

    /// Joins tensors of equal extents along a new axis.
    pub fn stack(&mut self, parts: &[Operand], axis: usize) -> Result<Operand> {
        let widen = |part: &Operand| {
            let mut dims = part.dims().to_vec();
            dims.insert(axis.min(dims.len()), 1);
            self.reshape(part, &dims)
        };
        let parts = parts.iter().map(widen).collect::<Result<Vec<_>>>()?;
        self.concat(&parts.iter().collect::<Vec<_>>(), axis)
    }

    /// Element `at` of one axis, which vanishes.
    pub fn element(&mut self, x: &Operand, axis: usize, at: usize) -> Result<Operand> {
        let mut dims = x.dims().to_vec();
        if axis < dims.len() {
            dims.remove(axis);
        }
        let part = self.slice_axis(x, axis, at, at + 1)?;
        self.reshape(&part, &dims)
    }

    pub fn gather(&mut self, x: &Operand, indices: &Operand, axis: usize) -> Result<Operand> {
        self.op(Op::Gather { axis }, &[x, indices])
    }

    // ---- reductions ----

    /// Reduces along `axes`, which vanish; nothing for no axes.
    pub fn reduce(&mut self, x: &Operand, axes: &[usize], reducer: Reducer) -> Result<Operand> {
        if axes.is_empty() {
            return Ok(x.clone());
        }
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        self.op(Op::Reduce { axes, reducer }, &[x])
    }

    /// Reduces along `axes`, which stay with extent 1.
    pub fn reduce_keep(&mut self, x: &Operand, axes: &[usize], reducer: Reducer) -> Result<Operand> {
        let kept = kept_dims(x.dims(), axes);
        let r = self.reduce(x, axes, reducer)?;
        self.reshape(&r, &kept)
    }

    /// Mean along `axes`, which stay with extent 1.
    pub fn mean_keep(&mut self, x: &Operand, axes: &[usize]) -> Result<Operand> {
        let count: f64 = axes.iter().map(|&a| x.extent(a) as f64).product();
        let sum = self.reduce_keep(x, axes, Reducer::Sum)?;
        if count == 1.0 { Ok(sum) } else { self.with_scalar(Op::Div {}, &sum, count) }
    }
}

/// `others` and the bytes of a tensor; `None` beyond what can be counted.
fn bytes_beside(others: usize, dtype: DType, dims: &[usize]) -> Option<usize> {
    element_count(dims)?.checked_mul(dtype.size())?.checked_add(others)
}

/// The operand of a value in the graph.
fn of_graph(value: Value, ty: &TensorType) -> Result<Operand> {
    let dims = ty.static_dims().ok_or_else(|| NodeError::Invalid(format!("{ty} has an unbound extent")))?;
    Ok(Operand(Rc::new(Inner {
        dtype: ty.dtype,
        dims,
        known: None,
        value: OnceCell::from(value),
        name: None,
        repeats: None,
    })))
}

/// `dims` with 1 at `axes`.
pub(super) fn kept_dims(dims: &[usize], axes: &[usize]) -> Vec<usize> {
    dims.iter().enumerate().map(|(i, &d)| if axes.contains(&i) { 1 } else { d }).collect()
}

/// Replaces an entry where there is one.
pub(super) fn set(list: &mut [usize], at: usize, value: usize) {
    if let Some(entry) = list.get_mut(at) {
        *entry = value;
    }
}

/// An axis that may count from the end, as a position.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize> {
    let n = rank as i64;
    let at = if axis < 0 { axis.saturating_add(n) } else { axis };
    match usize::try_from(at) {
        Ok(at) if at < rank => Ok(at),
        _ => invalid(format!("axis {axis} is out of range for rank {rank}")),
    }
}

/// Axes that may count from the end, sorted and distinct.
pub(super) fn axes(list: &[i64], rank: usize) -> Result<Vec<usize>> {
    let mut positions = list.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<usize>>>()?;
    positions.sort_unstable();
    if positions.windows(2).any(|w| w[0] == w[1]) {
        return invalid(format!("axes {list:?} name one axis twice (rank {rank})"));
    }
    Ok(positions)
}
