//! Building graphs by hand: one method an op, with broadcasting made explicit and errors collected.
//!
//! An op that does not fit is recorded, and its result is a *poisoned* value: whatever uses it is skipped without
//! a word, so that one mistake is reported once, and every independent mistake is. [`Builder::finish`] gives the
//! graph or all the errors.

use std::sync::Arc;

use crate::attribute::{ConvLayout, Padding, Real, Reducer, ScatterMode};
use crate::dtype::DType;
use crate::graph::{Graph, GraphError, Location, NodeId, Value, Variable};
use crate::initializer::Initializer;
use crate::ops::Op;
use crate::tensor::Tensor;
use crate::types::{Dim, TensorType};

/// The value of an op that could not be added.
const POISON: Value = Value { node: NodeId(u32::MAX), result: 0 };

/// Builds a [`Graph`]; see the module page.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    graph: Graph,
    errors: Vec<GraphError>,
    location: Option<Location>,
    name: Option<Arc<str>>,
}

/// Every error of a graph under construction. Never empty.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub struct BuildErrors(pub Vec<GraphError>);

impl std::fmt::Display for BuildErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let n = self.0.len();
        write!(f, "the graph has {n} error{}", if n == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|e| write!(f, "\n{e}"))
    }
}

/// Attributes of a convolution, with the usual defaults; see `conv_general` in `docs/ops.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvOptions {
    /// Steps per spatial axis; empty means 1.
    pub strides: Vec<usize>,
    /// Padding per spatial axis; empty means none.
    pub padding: Vec<Padding>,
    /// Dilation of x; empty means 1.
    pub lhs_dilation: Vec<usize>,
    /// Dilation of the window; empty means 1.
    pub rhs_dilation: Vec<usize>,
    /// Groups.
    pub groups: usize,
    /// Where the channels are.
    pub layout: ConvLayout,
}

impl Default for ConvOptions {
    fn default() -> ConvOptions {
        ConvOptions {
            strides: Vec::new(),
            padding: Vec::new(),
            lhs_dilation: Vec::new(),
            rhs_dilation: Vec::new(),
            groups: 1,
            layout: ConvLayout::ChannelsFirst,
        }
    }
}

/// A sliding window over all axes of a tensor; empty lists mean 1, or no padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowOptions {
    /// Window extents, per axis.
    pub window: Vec<usize>,
    /// Steps.
    pub strides: Vec<usize>,
    /// Padding.
    pub padding: Vec<Padding>,
    /// Distance between the elements of a window.
    pub dilation: Vec<usize>,
}

macro_rules! unary_ops {
    ($($method:ident $variant:ident $doc:literal),* $(,)?) => {$(
        #[doc = $doc]
        pub fn $method(&mut self, x: Value) -> Value {
            self.add_op(Op::$variant {}, &[x])
        }
    )*};
}

macro_rules! binary_ops {
    ($($method:ident $variant:ident $doc:literal),* $(,)?) => {$(
        #[doc = $doc]
        #[doc = "Operands broadcast as in numpy."]
        pub fn $method(&mut self, x: Value, y: Value) -> Value {
            let (x, y) = self.join(x, y);
            self.add_op(Op::$variant {}, &[x, y])
        }
    )*};
}

impl Builder {
    /// A builder of an empty graph.
    pub fn new(name: &str) -> Builder {
        Builder::extend(Graph::new(name))
    }

    /// A builder that goes on with `graph`.
    pub fn extend(graph: Graph) -> Builder {
        Builder { graph, ..Builder::default() }
    }

    /// The graph so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Changes the graph's signature or metadata directly; values stay valid.
    pub fn graph_mut(&mut self) -> &mut Graph {
        &mut self.graph
    }

    /// The graph, or all errors.
    pub fn finish(self) -> Result<Graph, BuildErrors> {
        if self.errors.is_empty() { Ok(self.graph) } else { Err(BuildErrors(self.errors)) }
    }

    /// The errors so far.
    pub fn errors(&self) -> &[GraphError] {
        &self.errors
    }

    /// Records an error of the caller's own; the value to go on with is poisoned.
    pub fn fail(&mut self, error: GraphError) -> Value {
        self.errors.push(error);
        POISON
    }

    /// Where the nodes added from now on come from.
    pub fn set_location(&mut self, location: Option<Location>) {
        self.location = location;
    }

    /// Name of the nodes added from now on.
    pub fn set_name(&mut self, name: Option<Arc<str>>) {
        self.name = name;
    }

    /// Whether `v` came of an error already recorded.
    pub fn is_poisoned(&self, v: Value) -> bool {
        v == POISON
    }

    /// The type of a value; `None` where it is poisoned or of another graph.
    pub fn ty(&self, v: Value) -> Option<&TensorType> {
        self.graph.contains(v).then(|| self.graph.ty(v))
    }

    /// Dims of a value; empty where it is poisoned.
    pub fn dims(&self, v: Value) -> Vec<Dim> {
        self.ty(v).map(|t| t.dims.clone()).unwrap_or_default()
    }

    /// Adds any op; gives all its results. Poisoned operands give poisoned results.
    pub fn add_node(&mut self, op: Op, operands: &[Value], results: usize) -> Vec<Value> {
        if operands.contains(&POISON) {
            return vec![POISON; results];
        }
        match self.graph.add(op, operands, self.name.clone(), self.location.clone()) {
            Ok(node) => (0..results as u32).map(|result| Value { node, result }).collect(),
            Err(e) => {
                self.errors.push(e);
                vec![POISON; results]
            }
        }
    }

    /// Adds an op of one result.
    pub fn add_op(&mut self, op: Op, operands: &[Value]) -> Value {
        self.add_node(op, operands, 1).pop().unwrap_or(POISON)
    }

    /// Names a result of the graph.
    pub fn output(&mut self, name: &str, v: Value) {
        if v != POISON
            && let Err(e) = self.graph.add_output(name, v)
        {
            self.errors.push(e.located(self.location.clone()));
        }
    }

    // ---- sources and state ----

    /// A value fed at run time.
    pub fn placeholder(&mut self, name: &str, dtype: DType, dims: &[Dim]) -> Value {
        self.add_op(Op::Placeholder { name: name.to_owned(), dtype, dims: dims.to_vec() }, &[])
    }

    /// A constant.
    pub fn constant(&mut self, value: Tensor) -> Value {
        self.add_op(Op::Constant { value: value.into() }, &[])
    }

    /// A rank-0 constant of `dtype`. A float rounds to it; a number that an integer dtype does not hold is an error.
    pub fn scalar(&mut self, dtype: DType, value: f64) -> Value {
        match Tensor::from_f64(dtype, &[], &[value]) {
            Ok(t) if dtype.is_float() || t.to_f64_vec() == [value] => self.constant(t),
            Ok(_) => {
                let location = self.location.clone();
                self.fail(GraphError::Inexact { value: Real(value), dtype, location })
            }
            Err(_) => POISON,
        }
    }

    /// A rank-0 constant of the dtype of `like`.
    pub fn scalar_like(&mut self, like: Value, value: f64) -> Value {
        match self.ty(like).map(|t| t.dtype) {
            Some(dtype) => self.scalar(dtype, value),
            None => POISON,
        }
    }

    /// Declares a variable and reads it.
    pub fn variable(&mut self, name: &str, dtype: DType, dims: &[usize], init: Initializer) -> Value {
        let ty = TensorType::fixed(dtype, dims);
        if let Err(e) = self.graph.add_variable(Variable { name: name.to_owned(), ty: ty.clone(), init }) {
            return self.fail(e.located(self.location.clone()));
        }
        self.add_op(Op::ReadVar { variable: name.to_owned(), dtype, dims: ty.dims }, &[])
    }

    /// Gives a variable its value for the runs after this one.
    pub fn assign(&mut self, variable: &str, value: Value) -> Value {
        self.add_op(Op::Assign { variable: variable.to_owned() }, &[value])
    }

    // ---- elementwise ----

    unary_ops! {
        neg Neg "−x.", abs Abs "|x|.", sign Sign "−1, 0 or 1.", floor Floor "Greatest integer not above x.",
        ceil Ceil "Least integer not below x.", round Round "Nearest integer, ties to even.",
        sqrt Sqrt "Square root.", rsqrt Rsqrt "Reciprocal square root.", reciprocal Reciprocal "1/x.",
        exp Exp "eˣ.", log Log "Natural logarithm.", log1p Log1p "ln(1 + x).", sin Sin "Sine.", cos Cos "Cosine.",
        atan Atan "Inverse tangent.", asin Asin "Inverse sine.", acos Acos "Inverse cosine.",
        asinh Asinh "Inverse hyperbolic sine.", acosh Acosh "Inverse hyperbolic cosine.",
        atanh Atanh "Inverse hyperbolic tangent.",
        tanh Tanh "Hyperbolic tangent.", erf Erf "Error function.", not Not "Not.", is_nan IsNan "Whether NaN.",
        relu Relu "max(x, 0).", sigmoid Sigmoid "Logistic function.", hard_swish HardSwish "x · relu6(x + 3) / 6.",
        silu Silu "x · sigmoid(x).", gelu Gelu "Exact GELU.", gelu_tanh GeluTanh "GELU, tanh approximation.",
        softplus Softplus "log(1 + eˣ).", mish Mish "x · tanh(softplus(x)).", softsign Softsign "x / (1 + |x|).",
    }

    binary_ops! {
        add Add "x + y.", sub Sub "x − y.", mul Mul "x · y.", div Div "x / y.", rem Rem "Remainder, sign of x.",
        pow Pow "Power.", maximum Maximum "Larger.", minimum Minimum "Smaller.", equal Equal "x = y.",
        not_equal NotEqual "x ≠ y.", less Less "x < y.", less_equal LessEqual "x ≤ y.", greater Greater "x > y.",
        greater_equal GreaterEqual "x ≥ y.", and And "And.", or Or "Or.", xor Xor "Exclusive or.",
        prelu PRelu "x, or slope · x below 0.",
    }

    /// `then` where the condition holds, else `otherwise`. Operands broadcast as in numpy.
    pub fn select(&mut self, condition: Value, then: Value, otherwise: Value) -> Value {
        let (then, otherwise) = self.join(then, otherwise);
        let (condition, then) = self.join(condition, then);
        let (then, otherwise) = self.join(then, otherwise);
        self.add_op(Op::Select {}, &[condition, then, otherwise])
    }

    /// Converts to `dtype`; nothing where x has it.
    pub fn convert(&mut self, x: Value, dtype: DType) -> Value {
        if self.ty(x).is_some_and(|t| t.dtype == dtype) { x } else { self.add_op(Op::Convert { dtype }, &[x]) }
    }

    /// Limits x to [min, max].
    pub fn clip(&mut self, x: Value, min: f64, max: f64) -> Value {
        self.add_op(Op::Clip { min: Real(min), max: Real(max) }, &[x])
    }

    // ---- movement ----

    /// Other extents, same elements; nothing where the extents are the same.
    pub fn reshape(&mut self, x: Value, dims: &[Dim]) -> Value {
        if self.ty(x).is_some_and(|t| t.dims == dims) {
            x
        } else {
            self.add_op(Op::Reshape { dims: dims.to_vec() }, &[x])
        }
    }

    /// Permutes axes; nothing for the identity.
    pub fn transpose(&mut self, x: Value, perm: &[usize]) -> Value {
        let identity = perm.iter().copied().eq(0..perm.len());
        if identity && self.ty(x).is_some_and(|t| t.rank() == perm.len()) {
            x
        } else {
            self.add_op(Op::Transpose { perm: perm.to_vec() }, &[x])
        }
    }

    /// Repeats x: axis i becomes axis `axes[i]` of `dims`; nothing where that is the identity.
    pub fn broadcast(&mut self, x: Value, dims: &[Dim], axes: &[usize]) -> Value {
        if self.ty(x).is_some_and(|t| t.dims == dims) {
            x
        } else {
            self.add_op(Op::Broadcast { dims: dims.to_vec(), axes: axes.to_vec() }, &[x])
        }
    }

    /// Broadcasts x to `dims` as numpy does: trailing axes aligned.
    pub fn broadcast_to(&mut self, x: Value, dims: &[Dim]) -> Value {
        let rank = self.dims(x).len();
        let offset = dims.len().saturating_sub(rank);
        self.broadcast(x, dims, &(offset..offset + rank).collect::<Vec<_>>())
    }

    /// Broadcasts a vector along `axis` of `dims`.
    pub fn broadcast_vector(&mut self, x: Value, dims: &[Dim], axis: usize) -> Value {
        self.broadcast(x, dims, &[axis])
    }

    /// Both values with the dims that numpy's broadcasting gives them.
    pub fn join(&mut self, x: Value, y: Value) -> (Value, Value) {
        let (a, b) = (self.dims(x), self.dims(y));
        if a == b || x == POISON || y == POISON {
            return (x, y);
        }
        let rank = a.len().max(b.len());
        let at = |d: &[Dim], i: usize| (i + d.len()).checked_sub(rank).map_or(Dim::Fixed(1), |i| d[i].clone());
        let dims: Vec<Dim> = (0..rank)
            .map(|i| {
                let (p, q) = (at(&a, i), at(&b, i));
                if p == Dim::Fixed(1) { q } else { p }
            })
            .collect();
        // Dims that do not fit are left to inference, which says so in terms of the op the user wrote.
        let fits = |d: &[Dim]| (0..rank).all(|i| at(d, i) == Dim::Fixed(1) || at(d, i) == dims[i]);
        if fits(&a) && fits(&b) { (self.broadcast_to(x, &dims), self.broadcast_to(y, &dims)) } else { (x, y) }
    }

    /// Elements start … limit of each axis in steps of `stride` (empty means 1).
    pub fn slice(&mut self, x: Value, start: &[usize], limit: &[usize], stride: &[usize]) -> Value {
        self.add_op(Op::Slice { start: start.to_vec(), limit: limit.to_vec(), stride: stride.to_vec() }, &[x])
    }

    /// Elements start..limit of one axis.
    pub fn slice_axis(&mut self, x: Value, axis: usize, start: usize, limit: usize) -> Value {
        let dims = self.dims(x);
        let mut starts = vec![0; dims.len()];
        let mut limits: Vec<usize> = dims.iter().map(|d| d.fixed().unwrap_or(0)).collect();
        if let (Some(s), Some(l)) = (starts.get_mut(axis), limits.get_mut(axis)) {
            *s = start;
            *l = limit;
        }
        self.slice(x, &starts, &limits, &[])
    }

    /// Surrounds x with `value`.
    pub fn pad(&mut self, x: Value, padding: &[Padding], value: f64) -> Value {
        self.add_op(Op::Pad { padding: padding.to_vec(), interior: Vec::new(), value: Real(value) }, &[x])
    }

    /// Joins along an axis.
    pub fn concat(&mut self, parts: &[Value], axis: usize) -> Value {
        self.add_op(Op::Concat { axis }, parts)
    }

    /// Slices of x along `axis` picked by `indices`.
    pub fn gather(&mut self, x: Value, indices: Value, axis: usize) -> Value {
        self.add_op(Op::Gather { axis }, &[x, indices])
    }

    /// Combines updates into x at `indices` along `axis`.
    pub fn scatter(&mut self, x: Value, indices: Value, updates: Value, axis: usize, mode: ScatterMode) -> Value {
        self.add_op(Op::Scatter { axis, mode }, &[x, indices, updates])
    }

    // ---- reductions and windows ----

    /// Reduces along `axes`, which vanish.
    pub fn reduce(&mut self, x: Value, axes: &[usize], reducer: Reducer) -> Value {
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        self.add_op(Op::Reduce { axes, reducer }, &[x])
    }

    /// Reduces along `axes`, which stay with extent 1.
    pub fn reduce_keep(&mut self, x: Value, axes: &[usize], reducer: Reducer) -> Value {
        let kept: Vec<Dim> = self
            .dims(x)
            .into_iter()
            .enumerate()
            .map(|(i, d)| if axes.contains(&i) { Dim::Fixed(1) } else { d })
            .collect();
        let r = self.reduce(x, axes, reducer);
        self.reshape(r, &kept)
    }

    /// Mean along `axes` (of fixed extent), which stay with extent 1.
    pub fn mean_keep(&mut self, x: Value, axes: &[usize]) -> Value {
        let dims = self.dims(x);
        let mut count = 1.0;
        for &axis in axes {
            match dims.get(axis) {
                Some(Dim::Fixed(n)) => count *= *n as f64,
                Some(dim @ Dim::Symbol(_)) => {
                    let location = self.location.clone();
                    let (what, dim) = ("a mean".to_owned(), dim.to_string());
                    return self.fail(GraphError::SymbolicExtent { what, axis, dim, location });
                }
                // An axis out of range is reported by the sum.
                None => {}
            }
        }
        let sum = self.reduce_keep(x, axes, Reducer::Sum);
        let n = self.scalar_like(x, count);
        self.div(sum, n)
    }

    /// Reduces each window of a sliding window.
    pub fn reduce_window(&mut self, x: Value, o: &WindowOptions, reducer: Reducer) -> Value {
        let o = o.clone();
        let op = Op::ReduceWindow {
            window: o.window,
            strides: o.strides,
            padding: o.padding,
            dilation: o.dilation,
            reducer,
        };
        self.add_op(op, &[x])
    }

    /// Largest element of each window.
    pub fn max_pool(&mut self, x: Value, o: &WindowOptions) -> Value {
        self.reduce_window(x, o, Reducer::Max)
    }

    /// Mean of each window; padding counts as elements only where `count_padding` is set.
    pub fn avg_pool(&mut self, x: Value, o: &WindowOptions, count_padding: bool) -> Value {
        let sum = self.reduce_window(x, o, Reducer::Sum);
        let padded = o.padding.iter().any(|p| *p != Padding::NONE);
        let count = if count_padding || !padded {
            self.scalar_like(x, o.window.iter().product::<usize>() as f64)
        } else {
            // The windows of a tensor of ones count their elements; symbolic axes are not windowed.
            let one = self.scalar_like(x, 1.0);
            let dims: Vec<Dim> = self.dims(x).iter().map(|d| Dim::Fixed(d.fixed().unwrap_or(1))).collect();
            let ones = self.broadcast(one, &dims, &[]);
            self.reduce_window(ones, o, Reducer::Sum)
        };
        self.div(sum, count)
    }

    // ---- contractions ----

    /// Matrix product as numpy's `matmul`: batch axes broadcast; a vector operand's missing axis is added and dropped.
    pub fn matmul(&mut self, x: Value, y: Value) -> Value {
        let (a, b) = (self.dims(x), self.dims(y));
        match (a.len(), b.len()) {
            (1, 1) => self.dot(x, y, &[], &[], &[0], &[0]),
            // One side without batch axes needs no broadcasting: its free axis is just an outer or inner one.
            (n, 1 | 2) if n >= 1 => self.dot(x, y, &[], &[], &[n - 1], &[0]),
            (1, m) if m >= 2 => {
                // [k] × [batch…, k, n] = [batch…, n]: as y's transpose times x.
                self.dot(y, x, &[], &[], &[m - 2], &[0])
            }
            (n, m) if n >= 2 && m >= 2 => self.batched_matmul(x, y, &a, &b),
            _ => self.dot(x, y, &[], &[], &[0], &[0]),
        }
    }

    fn batched_matmul(&mut self, x: Value, y: Value, a: &[Dim], b: &[Dim]) -> Value {
        let (n, m) = (a.len(), b.len());
        let batch = n.max(m) - 2;
        let at = |d: &[Dim], i: usize| (i + d.len()).checked_sub(batch + 2).map_or(Dim::Fixed(1), |i| d[i].clone());
        let dims: Vec<Dim> = (0..batch).map(|i| if at(a, i) == Dim::Fixed(1) { at(b, i) } else { at(a, i) }).collect();
        let x = self.broadcast_to(x, &[&dims[..], &a[n - 2..]].concat());
        let y = self.broadcast_to(y, &[&dims[..], &b[m - 2..]].concat());
        let axes: Vec<usize> = (0..batch).collect();
        self.dot(x, y, &axes, &axes, &[batch + 1], &[batch])
    }

    /// General product; see `dot_general`.
    pub fn dot(&mut self, x: Value, y: Value, lb: &[usize], rb: &[usize], lc: &[usize], rc: &[usize]) -> Value {
        let op = Op::Dot {
            lhs_batch: lb.to_vec(),
            rhs_batch: rb.to_vec(),
            lhs_contract: lc.to_vec(),
            rhs_contract: rc.to_vec(),
        };
        self.add_op(op, &[x, y])
    }

    /// Convolution without bias.
    pub fn conv(&mut self, x: Value, w: Value, o: &ConvOptions) -> Value {
        let o = o.clone();
        let op = Op::Conv {
            strides: o.strides,
            padding: o.padding,
            lhs_dilation: o.lhs_dilation,
            rhs_dilation: o.rhs_dilation,
            groups: o.groups,
            layout: o.layout,
        };
        self.add_op(op, &[x, w])
    }

    // ---- normalisation ----

    /// Softmax along an axis.
    pub fn softmax(&mut self, x: Value, axis: usize) -> Value {
        self.add_op(Op::Softmax { axis }, &[x])
    }

    /// Layer normalisation over the axes from `axis` on.
    pub fn layer_norm(&mut self, x: Value, scale: Value, bias: Value, axis: usize, epsilon: f64) -> Value {
        self.add_op(Op::LayerNorm { axis, epsilon: Real(epsilon) }, &[x, scale, bias])
    }

    /// Batch normalisation by given statistics: `[scale, bias, mean, variance]`.
    pub fn batch_norm(&mut self, x: Value, statistics: [Value; 4], axis: usize, epsilon: f64) -> Value {
        let [scale, bias, mean, variance] = statistics;
        self.add_op(Op::BatchNorm { axis, epsilon: Real(epsilon) }, &[x, scale, bias, mean, variance])
    }
}
