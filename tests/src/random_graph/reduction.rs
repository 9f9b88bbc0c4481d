//! Steps that reduce and normalise.

use kiln_ir::attribute::{Cell, Extreme, Padding, Real, Reducer};
use kiln_ir::infer::window_extent;
use kiln_ir::{DType, Op, Value};

use super::generator::Generator;
use super::range::{Range, unit_roundoff};

/// What reducing up to `n` elements gives.
fn reduced(reducer: Reducer, r: &Range, n: usize) -> Option<Range> {
    match reducer {
        Reducer::Sum => r.sum(n),
        Reducer::Prod if n <= 8 => {
            let one = Range::exact(r.dtype, 1.0, 1.0, 0);
            (0..n).try_fold(one, |p, _| {
                let inherited = p.error * r.magnitude() + r.error * p.magnitude();
                let fraction = p.fraction.zip(r.fraction).map(|(a, b)| a + b);
                let (low, high) = p.products(r);
                // A window at the edge multiplies fewer elements.
                Range::computed(r.dtype, (low.min(p.low), high.max(p.high)), fraction, inherited, (0.0, 1.0))
            })
        }
        Reducer::Prod => None,
        Reducer::Max | Reducer::Min | Reducer::And | Reducer::Or => Some(*r),
    }
}

/// A window along each axis, with its result's extents.
struct Windows {
    window: Vec<usize>,
    strides: Vec<usize>,
    padding: Vec<Padding>,
    dilation: Vec<usize>,
    result: Vec<usize>,
}

impl Generator {
    fn reducer(&mut self, dtype: DType) -> Reducer {
        if dtype == DType::Bool {
            [Reducer::And, Reducer::Or][self.choose(2)]
        } else {
            [Reducer::Sum, Reducer::Max, Reducer::Min, Reducer::Prod][self.choose(4)]
        }
    }

    pub(super) fn reduce(&mut self) -> Option<()> {
        let x = self.value(|ty, _| ty.rank() >= 1)?;
        let (dims, r) = (self.dims(x), self.range(x));
        let axes: Vec<usize> = (0..dims.len()).filter(|_| self.choose(3) != 2).collect();
        let n = axes.iter().map(|&a| dims[a]).product();
        let reducer = self.reducer(r.dtype);
        let range = reduced(reducer, &r, n)?;
        self.add(Op::Reduce { axes, reducer }, &[x], range).map(drop)
    }

    /// A number whose elements every implementation orders the same way.
    fn ordered(&mut self) -> Option<Value> {
        self.allows(DType::I64).then_some(())?;
        self.value(|ty, r| ty.rank() >= 1 && ty.dtype != DType::Bool && r.is_exact())
    }

    pub(super) fn arg_reduce(&mut self) -> Option<()> {
        let x = self.ordered()?;
        let dims = self.dims(x);
        let axis = self.choose(dims.len());
        let extreme = [Extreme::Max, Extreme::Min][self.choose(2)];
        let range = Range::exact(DType::I64, 0.0, (dims[axis] - 1) as f64, 0);
        self.add(Op::ArgReduce { axis, extreme }, &[x], range).map(drop)
    }

    pub(super) fn top_k(&mut self) -> Option<()> {
        let x = self.ordered()?;
        let dims = self.dims(x);
        let axis = self.choose(dims.len());
        let k = dims[axis] - self.choose(dims[axis]);
        let extreme = [Extreme::Max, Extreme::Min][self.choose(2)];
        let indices = Range::exact(DType::I64, 0.0, (dims[axis] - 1) as f64, 0);
        let range = self.range(x);
        self.add_all(Op::TopK { k, axis, extreme }, &[x], &[range, indices]);
        Some(())
    }

    /// Windows that hold at least one element each, so that no maximum is −∞.
    fn windows(&mut self, dims: &[usize], dilate: bool) -> Option<Windows> {
        let mut w = Windows { window: vec![], strides: vec![], padding: vec![], dilation: vec![], result: vec![] };
        for (axis, &n) in dims.iter().enumerate() {
            // The leading axes of a tensor are rarely windowed.
            let window = if axis + 2 < dims.len() && self.choose(4) != 3 { 1 } else { 1 + self.choose(3.min(n)) };
            let most = (window - 1).min(1);
            let padding = Padding { low: self.choose(most + 1) as i64, high: self.choose(most + 1) as i64 };
            let loose = dilate && padding == Padding::NONE && (window - 1) * 2 < n;
            let dilation = if loose { 1 + self.choose(2) } else { 1 };
            let stride = 1 + self.choose(2);
            w.result.push(window_extent(n, window, stride, padding, dilation)?);
            w.window.push(window);
            w.strides.push(stride);
            w.padding.push(padding);
            w.dilation.push(dilation);
        }
        Some(w)
    }

    pub(super) fn reduce_window(&mut self) -> Option<()> {
        let x = self.value(|ty, _| ty.rank() >= 1 && ty.dtype != DType::Bool)?;
        let (dims, r) = (self.dims(x), self.range(x));
        let reducer = self.reducer(r.dtype);
        let w = self.windows(&dims, true)?;
        let range = reduced(reducer, &r, w.window.iter().product())?;
        let op = Op::ReduceWindow {
            window: w.window,
            strides: w.strides,
            padding: w.padding,
            dilation: w.dilation,
            reducer,
        };
        self.add(op, &[x], range).map(drop)
    }

    pub(super) fn select_and_scatter(&mut self) -> Option<()> {
        let x = self.value(|ty, r| ty.rank() >= 1 && ty.dtype != DType::Bool && r.is_exact())?;
        let (dims, r) = (self.dims(x), self.range(x));
        let w = self.windows(&dims, false)?;
        let source = self.fresh(r.dtype, &w.result)?;
        // An element is the extreme of at most as many windows as hold it.
        let range = self.range(source).sum(w.window.iter().product())?;
        let extreme = [Extreme::Max, Extreme::Min][self.choose(2)];
        let op = Op::SelectAndScatter { window: w.window, strides: w.strides, padding: w.padding, extreme };
        self.add(op, &[x, source], range).map(drop)
    }

    pub(super) fn softmax(&mut self) -> Option<()> {
        let x = self.value(|ty, _| ty.dtype.is_float() && ty.rank() >= 1)?;
        let (dims, r) = (self.dims(x), self.range(x));
        let axis = self.choose(dims.len());
        let n = dims[axis] as f64;
        // The exponentials are at most 1 after the maximum is subtracted; their sum rounds n times.
        let (scale, roundings) = ((r.high - r.low).max(1.0), 32.0 + n);
        if self.choose(2) == 0 {
            let range = Range::computed(r.dtype, (0.0, 1.0), None, 2.0 * r.error, (scale, roundings))?;
            self.add(Op::Softmax { axis }, &[x], range).map(drop)
        } else {
            let low = r.low - r.high - n.ln();
            let range = Range::computed(r.dtype, (low, 0.0), None, 2.0 * r.error, (scale, roundings))?;
            self.add(Op::LogSoftmax { axis }, &[x], range).map(drop)
        }
    }

    pub(super) fn layer_norm(&mut self) -> Option<()> {
        let x = self.value(|ty, _| ty.dtype.is_float() && ty.rank() >= 1)?;
        let (dims, r) = (self.dims(x), self.range(x));
        let axis = self.choose(dims.len());
        let n: f64 = dims[axis..].iter().product::<usize>() as f64;
        let epsilon = [0.5, 0.1][self.choose(2)];
        let scale = self.fresh(r.dtype, &dims[axis..])?;
        let bias = self.fresh(r.dtype, &dims[axis..])?;
        let (s, top) = (self.range(scale).magnitude(), r.magnitude());
        // The deviation of an element from the mean, the variance's error that follows, and both in the quotient.
        let u = unit_roundoff(r.dtype);
        let deviation = 2.0 * r.error + (n + 4.0) * u * top;
        let variance = 4.0 * top * deviation + (n + 4.0) * u * 4.0 * top * top;
        let quotient = deviation / f64::sqrt(epsilon) + n.sqrt() * variance / (2.0 * epsilon);
        let high = n.sqrt() * s + 2.0;
        let range = Range::computed(r.dtype, (-high, high), None, s * quotient, (top * s, 16.0))?;
        self.add(Op::LayerNorm { axis, epsilon: Real(epsilon) }, &[x, scale, bias], range).map(drop)
    }

    pub(super) fn batch_norm(&mut self) -> Option<()> {
        let x = self.value(|ty, _| ty.dtype.is_float() && ty.rank() >= 2)?;
        let (dims, r) = (self.dims(x), self.range(x));
        let axis = (1 + self.choose(dims.len())) % dims.len();
        let channels = [dims[axis]];
        let scale = self.fresh(r.dtype, &channels)?;
        let bias = self.fresh(r.dtype, &channels)?;
        let mean = self.fresh(r.dtype, &channels)?;
        let variance = self.fresh_within(r.dtype, &channels, 0.25, 2.0)?;
        // |scale| ≤ 2, |bias| ≤ 2, |mean| ≤ 2, √variance ≥ 1/2.
        let high = (r.magnitude() + 2.0) * 4.0 + 2.0;
        let range = Range::computed(r.dtype, (-high, high), None, 4.0 * r.error, (high, 16.0))?;
        let op = Op::BatchNorm { axis, epsilon: Real(1e-5) };
        self.add(op, &[x, scale, bias, mean, variance], range).map(drop)
    }

    pub(super) fn recurrent(&mut self) -> Option<()> {
        let dtype = self.dtype(DType::is_float)?;
        let cell = Cell::ALL[self.choose(Cell::ALL.len())];
        let (steps, batch, units) = (1 + self.choose(2), 1 + self.choose(3), 1 + self.choose(3));
        let sums = cell.gates() * units;
        let x = self.fresh(dtype, &[steps, batch, sums])?;
        let w = self.fresh_within(dtype, &[sums, units], -0.5, 0.5)?;
        let mut operands = vec![x, w, self.fresh_within(dtype, &[batch, units], -1.0, 1.0)?];
        let lstm = cell == Cell::Lstm;
        if lstm {
            operands.push(self.fresh_within(dtype, &[batch, units], -1.0, 1.0)?);
        }
        if cell == Cell::Gru || (lstm && self.choose(2) == 1) {
            operands.push(self.fresh_within(dtype, &[if lstm { 3 } else { 1 }, units], -0.5, 0.5)?);
        }
        // with other activations than a gate's, the hidden state of a GRU is not bounded by 1
        let other = matches!(cell, Cell::Rnn | Cell::Lstm) && self.choose(2) == 1;
        let tanh = "tanh(a0)".parse().ok()?;
        let activations = if other { vec![tanh; cell.default_activations().len()] } else { Vec::new() };
        let op = Op::Recurrent { cell, activations, reverse: self.choose(2) == 1 };
        // Sums below 8 of at most 11 roundings each, functions that do not steepen errors, and a step that passes at most
        // eight times the error of the one before on: 4096 roundings of 1 are several times what that adds up to.
        let range = |high: f64| Range::computed(dtype, (-high, high), None, 0.0, (8.0, 512.0));
        let mut ranges = vec![range(1.0)?];
        if lstm {
            ranges.push(range(1.0 + steps as f64)?);
        }
        (self.add_all(op, &operands, &ranges).len() == ranges.len()).then_some(())
    }

    pub(super) fn lrn(&mut self) -> Option<()> {
        let x = self.value(|ty, _| ty.dtype.is_float() && ty.rank() >= 1)?;
        let (dims, r) = (self.dims(x), self.range(x));
        let axis = self.choose(dims.len());
        let (size, alpha, beta) = (1 + self.choose(5), 0.5, 0.75);
        let top = r.magnitude();
        // x / (1 + alpha/size · Σ x²)^beta: the base is at most 1 + alpha · top², its derivative 2 · alpha · top.
        let slope = 1.0 + beta * 2.0 * alpha * top * top;
        let range = Range::computed(r.dtype, (-top, top), None, slope * r.error, (slope * top, 32.0))?;
        let op = Op::Lrn { size, alpha: Real(alpha), beta: Real(beta), bias: Real(1.0), axis };
        self.add(op, &[x], range).map(drop)
    }
}
