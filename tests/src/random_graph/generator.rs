//! The generator's core: the pool of values, choices, fresh tensors.

use std::collections::HashMap;

use kiln_ir::attribute::Real;
use kiln_ir::{Builder, DType, Dim, Graph, Initializer, Op, Tensor, TensorType, Value, random};

use super::range::Range;
use super::{Options, RandomGraph};

/// Names that some nodes get: plain ones, one of another node, ones that the text format must quote.
const NAMES: [&str; 6] = ["h", "h", "conv1/out", "h.1", "7", "a \"b\" // c"];

/// Extents of axes: 1 broadcasts, odd ones leave tails.
const EXTENTS: [usize; 7] = [2, 3, 1, 4, 5, 8, 7];

/// A graph in the making.
pub(super) struct Generator {
    pub(super) options: Options,
    builder: Builder,
    /// Values that ops may take, in order of their making.
    pool: Vec<Value>,
    ranges: HashMap<Value, Range>,
    inputs: Vec<(String, Tensor)>,
    /// Variables that are not assigned yet.
    unassigned: Vec<String>,
    choices: Choices,
    /// Number of random tensors so far: the seed of the next.
    fresh: u64,
}

/// The bytes of a step, read one after the other; then zeros.
struct Choices {
    bytes: [u8; 16],
    at: usize,
}

/// What a step may do, tried in this order from a chosen place on, until one can be done.
const FAMILIES: &[fn(&mut Generator) -> Option<()>] = &[
    Generator::unary,
    Generator::arithmetic,
    Generator::reshape,
    Generator::reduce,
    Generator::dot,
    Generator::conv,
    Generator::unary,
    Generator::compare,
    Generator::select,
    Generator::transpose,
    Generator::broadcast,
    Generator::slice,
    Generator::pad,
    Generator::concat,
    Generator::reverse,
    Generator::gather,
    Generator::scatter,
    Generator::arg_reduce,
    Generator::top_k,
    Generator::reduce_window,
    Generator::select_and_scatter,
    Generator::softmax,
    Generator::layer_norm,
    Generator::batch_norm,
    Generator::lrn,
    Generator::recurrent,
    Generator::convert,
    Generator::logic,
    Generator::prelu,
    Generator::quantize,
    Generator::dequantize,
    Generator::arithmetic,
    Generator::constant,
    Generator::iota,
    Generator::random_bits,
    Generator::variable,
    Generator::assign,
    Generator::group,
    Generator::attention,
];

/// The graph that `steps` describe.
pub(super) fn generate(options: &Options, steps: &[[u8; 16]]) -> RandomGraph {
    let mut g = Generator {
        options: options.clone(),
        builder: Builder::new("random"),
        pool: Vec::new(),
        ranges: HashMap::new(),
        inputs: Vec::new(),
        unassigned: Vec::new(),
        choices: Choices { bytes: steps.first().copied().unwrap_or_default(), at: 0 },
        fresh: 0,
    };
    g.placeholder();
    for bytes in steps {
        g.choices = Choices { bytes: *bytes, at: 0 };
        if g.choose(6) == 5 {
            g.placeholder();
        }
        let first = g.choose(FAMILIES.len());
        if options.names && g.choose(4) == 3 {
            let name = NAMES[g.choose(NAMES.len())];
            g.builder.set_name(Some(name.into()));
        }
        let families = FAMILIES.iter().cycle().skip(first).take(FAMILIES.len());
        families.map(|family| family(&mut g)).find(Option::is_some);
        g.builder.set_name(None);
    }
    g.finish()
}

impl Generator {
    fn finish(mut self) -> RandomGraph {
        let graph = self.builder.graph();
        let unused: Vec<Value> = self.pool.iter().copied().filter(|v| !is_used(graph, *v)).collect();
        for (i, v) in unused.iter().enumerate() {
            self.builder.output(&format!("y{i}"), *v);
        }
        let tolerances = unused.iter().map(|v| 2.0 * self.ranges[v].error).collect();
        let graph = self.builder.finish().expect("the generator only makes ops that fit");
        RandomGraph { graph, inputs: self.inputs, tolerances }
    }

    // ---- choices ----

    /// A number below `n`; 0 is what shrinking leads to.
    pub(super) fn choose(&mut self, n: usize) -> usize {
        let byte = self.choices.bytes.get(self.choices.at).copied().unwrap_or(0);
        self.choices.at += 1;
        usize::from(byte) % n.max(1)
    }

    pub(super) fn one_of<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        let i = self.choose(items.len());
        items.get(i).copied()
    }

    /// A value that satisfies `keep`, rather a late one.
    pub(super) fn value(&mut self, keep: impl Fn(&TensorType, &Range) -> bool) -> Option<Value> {
        let found: Vec<Value> =
            self.pool.iter().rev().copied().filter(|v| keep(self.ty(*v), &self.ranges[v])).collect();
        self.one_of(&found)
    }

    /// A float value.
    pub(super) fn float(&mut self) -> Option<Value> {
        self.value(|ty, _| ty.dtype.is_float())
    }

    /// A dtype that the options allow and `keep` too.
    pub(super) fn dtype(&mut self, keep: impl Fn(DType) -> bool) -> Option<DType> {
        let allowed: Vec<DType> = self.options.dtypes.iter().copied().filter(|&d| keep(d)).collect();
        self.one_of(&allowed)
    }

    pub(super) fn allows(&self, dtype: DType) -> bool {
        self.options.dtypes.contains(&dtype)
    }

    // ---- values ----

    pub(super) fn ty(&self, v: Value) -> &TensorType {
        self.builder.graph().ty(v)
    }

    /// The extents of a value.
    pub(super) fn dims(&self, v: Value) -> Vec<usize> {
        self.ty(v).static_dims().expect("random graphs are static")
    }

    pub(super) fn range(&self, v: Value) -> Range {
        self.ranges[&v]
    }

    /// Whether a value may have these extents.
    pub(super) fn fits(&self, dims: &[usize]) -> bool {
        dims.iter().product::<usize>() <= self.options.elements
    }

    /// Adds an op whose results have `ranges`.
    pub(super) fn add_all(&mut self, op: Op, operands: &[Value], ranges: &[Range]) -> Vec<Value> {
        let results = self.builder.add_node(op, operands, ranges.len());
        assert!(self.builder.errors().is_empty(), "the generator's mistake: {:?}", self.builder.errors());
        for (&v, range) in results.iter().zip(ranges) {
            self.offer(v, *range);
        }
        results
    }

    /// Lets later steps take a value.
    fn offer(&mut self, v: Value, range: Range) {
        self.ranges.insert(v, range);
        self.pool.push(v);
    }

    /// Adds an op whose result no other step takes: it may be infinite, and has one user.
    pub(super) fn apart(&mut self, op: Op, operands: &[Value]) -> Value {
        let result = self.builder.add_op(op, operands);
        assert!(self.builder.errors().is_empty(), "the generator's mistake: {:?}", self.builder.errors());
        result
    }

    /// An input that will be this tensor, and that no other step takes.
    pub(super) fn input(&mut self, tensor: Tensor) -> Value {
        let name = format!("x{}", self.inputs.len());
        let dims = tensor.dims().iter().copied().map(Dim::Fixed).collect();
        let v = self.apart(Op::Placeholder { name: name.clone(), dtype: tensor.dtype(), dims }, &[]);
        self.inputs.push((name, tensor));
        v
    }

    pub(super) fn add(&mut self, op: Op, operands: &[Value], range: Range) -> Option<Value> {
        self.add_all(op, operands, &[range]).pop()
    }

    /// Random extents of rank at most 4.
    fn extents(&mut self) -> Vec<usize> {
        let rank = [2, 3, 4, 1, 0, 4][self.choose(6)];
        let mut dims = Vec::new();
        for _ in 0..rank {
            let extent = EXTENTS[self.choose(EXTENTS.len())];
            dims.push(if self.fits(&[&dims[..], &[extent]].concat()) { extent } else { 1 });
        }
        dims
    }

    /// A random tensor within `low..=high` (in steps of 1/8 where the dtype is a float), and what is known of it.
    pub(super) fn tensor(&mut self, dtype: DType, dims: &[usize], low: f64, high: f64) -> (Tensor, Range) {
        self.fresh += 1;
        let step = if dtype.is_float() { 0.125 } else { 1.0 };
        let places = (high - low) / step + 1.0;
        let n = dims.iter().product();
        let values: Vec<f64> =
            random::uniform(self.fresh, n).map(|u| (low + step * (u * places).floor()).min(high)).collect();
        let tensor = Tensor::from_f64(dtype, dims, &values).expect("small");
        (tensor, Range::exact(dtype, low, high, if dtype.is_float() { 3 } else { 0 }))
    }

    /// The interval from which inputs and weights of a dtype are drawn.
    fn usual(dtype: DType) -> (f64, f64) {
        match dtype {
            DType::U8 => (0.0, 20.0),
            DType::Bool => (0.0, 1.0),
            _ if dtype.is_float() => (-2.0, 2.0),
            _ => (-10.0, 10.0),
        }
    }

    /// A random constant.
    pub(super) fn fresh(&mut self, dtype: DType, dims: &[usize]) -> Option<Value> {
        let (low, high) = Self::usual(dtype);
        self.fresh_within(dtype, dims, low, high)
    }

    /// A random constant within `low..=high`.
    pub(super) fn fresh_within(&mut self, dtype: DType, dims: &[usize], low: f64, high: f64) -> Option<Value> {
        let (tensor, range) = self.tensor(dtype, dims, low, high);
        self.add(Op::Constant { value: tensor.into() }, &[], range)
    }

    /// x broadcast to `dims` as numpy does, if it can be.
    pub(super) fn broadcast_to(&mut self, x: Value, dims: &[usize]) -> Option<Value> {
        let have = self.dims(x);
        if have == dims {
            return Some(x);
        }
        let offset = dims.len().checked_sub(have.len())?;
        let fits = have.iter().zip(&dims[offset..]).all(|(&a, &b)| a == 1 || a == b);
        let axes = (offset..dims.len()).collect();
        let range = self.range(x);
        fits.then_some(())?;
        self.add(Op::Broadcast { dims: dims.iter().copied().map(Dim::Fixed).collect(), axes }, &[x], range)
    }

    /// A value of the dtype and dims of `x`: one of the pool, broadcast where needed, or `x`.
    pub(super) fn partner(&mut self, x: Value) -> Value {
        let (dtype, dims) = (self.ty(x).dtype, self.dims(x));
        let y = self.value(|ty, _| ty.dtype == dtype).unwrap_or(x);
        self.broadcast_to(y, &dims).unwrap_or(x)
    }

    // ---- sources and state ----

    fn placeholder(&mut self) {
        let dtypes = self.options.dtypes.clone();
        // Half of the inputs are of the first float dtype.
        let usual = dtypes.iter().copied().find(|&d| d == DType::F32).or(dtypes.first().copied());
        let Some(dtype) = (if self.choose(2) == 0 { usual } else { self.one_of(&dtypes) }) else { return };
        let dims = self.extents();
        let (low, high) = Self::usual(dtype);
        let (tensor, range) = self.tensor(dtype, &dims, low, high);
        let v = self.input(tensor);
        self.offer(v, range);
    }

    pub(super) fn constant(&mut self) -> Option<()> {
        let dtype = self.dtype(|_| true)?;
        let dims = self.extents();
        self.fresh(dtype, &dims).map(drop)
    }

    pub(super) fn iota(&mut self) -> Option<()> {
        let dtype = self.dtype(|d| d != DType::Bool)?;
        let dims = self.extents();
        let axis = self.choose(dims.len());
        let high = dims.get(axis)?.saturating_sub(1) as f64;
        let range = Range::exact(dtype, 0.0, high, 0);
        self.add(Op::Iota { dtype, dims: dims.into_iter().map(Dim::Fixed).collect(), axis }, &[], range).map(drop)
    }

    pub(super) fn random_bits(&mut self) -> Option<()> {
        (self.allows(DType::I64) && self.allows(DType::I32)).then_some(())?;
        let counter = self.fresh(DType::I64, &[])?;
        let dims = self.extents().into_iter().map(Dim::Fixed).collect();
        let range = Range::exact(DType::I32, -(2f64.powi(31)), 2f64.powi(31) - 1.0, 0);
        let seed = self.choose(256) as i64 - 100;
        self.add(Op::RandomBits { dims, seed }, &[counter], range).map(drop)
    }

    pub(super) fn variable(&mut self) -> Option<()> {
        self.options.state.then_some(())?;
        let dtype = self.dtype(|_| true)?;
        let dims = self.extents();
        let name = format!("state/{}", self.fresh);
        let (low, high) = Self::usual(dtype);
        let (tensor, range) = self.tensor(dtype, &dims, low, high);
        let fill = Range::exact(dtype, 1.0, 1.0, 0);
        let (init, range) = if self.choose(2) == 0 {
            (Initializer::Value(tensor.into()), range)
        } else {
            (Initializer::Fill(Real(1.0)), fill)
        };
        let v = self.builder.variable(&name, dtype, &dims, init);
        assert!(self.builder.errors().is_empty(), "the generator's mistake: {:?}", self.builder.errors());
        self.offer(v, range);
        self.unassigned.push(name);
        Some(())
    }

    pub(super) fn assign(&mut self) -> Option<()> {
        let variable = self.unassigned.last()?.clone();
        let ty = self.builder.graph().variable(&variable)?.ty.clone();
        let value = self.value(|t, _| *t == ty)?;
        self.unassigned.pop();
        self.add(Op::Assign { variable }, &[value], self.range(value)).map(drop)
    }

    pub(super) fn group(&mut self) -> Option<()> {
        let effects: Vec<Value> = {
            let graph = self.builder.graph();
            let all = graph.effects().iter().map(|&id| graph.value(id));
            all.filter(|v| graph.contains(*v)).collect()
        };
        (self.options.state && !effects.is_empty()).then_some(())?;
        self.add_all(Op::Group {}, &effects, &[]);
        Some(())
    }
}

fn is_used(graph: &Graph, v: Value) -> bool {
    graph.users(v.node).iter().any(|(user, u)| u.result == v.result && !matches!(graph.node(*user).op, Op::Group {}))
}
