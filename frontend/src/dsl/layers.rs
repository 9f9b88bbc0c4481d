//! Layers: composites with variables. Images are [N, C, H, W].
//!
//! A layer is a small description with defaults; applying it to a tensor under a name declares its variables
//! (`name.weight`, `name.bias` …) and adds its nodes. Names and shapes of weights are those of PyTorch, so that its checkpoints
//! load ([`crate::weights`]). [`Scope::within`] puts the name of a block before those of its layers.

mod conv_transpose;
mod pooling;
mod regions;
pub(crate) mod sampling;
mod text;

pub use conv_transpose::ConvTranspose2d;
pub use pooling::adaptive_avg_pool;
pub use regions::{crop, lrn};
pub use sampling::{GridSample, Interpolation, Outside, RoiAlign, RoiPooling, affine_grid};
pub use text::{embedding, layer_norm};

use std::panic::Location as Caller;

use kiln_ir::attribute::Padding as AxisPadding;
use kiln_ir::attribute::{Cell, Extreme, Real};
use kiln_ir::infer::window_extent;
use kiln_ir::{ConvOptions, DType, Dim, GraphError, Initializer, Location, Op, WindowOptions};

use super::{Scope, Tensor};

/// Padding of the two spatial axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Padding {
    /// None: the window stays inside.
    #[default]
    Valid,
    /// As much as makes the output ⌈extent / stride⌉ long; the odd element goes after.
    Same,
    /// So many on each side of both axes.
    Each(usize),
    /// So many on each side, and after that what a last window needs that begins inside: PyTorch's `ceil_mode`.
    Ceil(usize),
    /// ((top, bottom), (left, right)).
    Explicit((usize, usize), (usize, usize)),
}

impl Padding {
    /// For both spatial axes of x, of which only [`Padding::Same`] and [`Padding::Ceil`] need to know the extents.
    fn of_image<'g>(
        self,
        what: &str,
        x: Tensor<'g>,
        (window, stride): ((usize, usize), (usize, usize)),
        at: &Caller<'_>,
    ) -> Result<[AxisPadding; 2], Tensor<'g>> {
        let known = matches!(self, Padding::Same | Padding::Ceil(_));
        let [height, width] = if known { extents(what, x, [2, 3], at)? } else { [0; 2] };
        Ok([self.of_axis(0, height, window.0, stride.0), self.of_axis(1, width, window.1, stride.1)])
    }

    fn of_axis(self, axis: usize, extent: usize, window: usize, stride: usize) -> AxisPadding {
        let pair = |(low, high): (usize, usize)| AxisPadding { low: low as i64, high: high as i64 };
        match self {
            Padding::Valid => AxisPadding::NONE,
            Padding::Each(n) => pair((n, n)),
            Padding::Ceil(n) => {
                // windows that begin in the padding before x or in x itself
                let (stride, beginnings) = (stride.max(1), extent + n);
                let wanted = (beginnings + n).saturating_sub(window).div_ceil(stride) + 1;
                let windows = wanted.min(beginnings.div_ceil(stride));
                let covered = windows.saturating_sub(1) * stride + window;
                pair((n, n.max(covered.saturating_sub(beginnings))))
            }
            Padding::Explicit(h, w) => pair(if axis == 0 { h } else { w }),
            Padding::Same => {
                let covered = (extent.div_ceil(stride.max(1)).saturating_sub(1)) * stride + window;
                let total = covered.saturating_sub(extent);
                pair((total / 2, total - total / 2))
            }
        }
    }
}

/// The extents of `axes` of x, numbers that `what` is built with. Every symbolic one is reported; what comes of the layer
/// is poisoned then, as it is where x is.
fn extents<'g, const N: usize>(
    what: &str,
    x: Tensor<'g>,
    axes: [usize; N],
    at: &Caller<'_>,
) -> Result<[usize; N], Tensor<'g>> {
    let mut wrong = x.ty().is_none().then_some(x);
    let dims = x.dims();
    let numbers = axes.map(|axis| match dims.get(axis) {
        Some(Dim::Fixed(n)) => *n,
        Some(Dim::Symbol(name)) => {
            let location = Some(Location::caller(at));
            let error = GraphError::SymbolicExtent { what: what.to_owned(), axis, dim: name.to_string(), location };
            wrong = Some(x.scope.emit(at, |b| b.fail(error)));
            0
        }
        None => 0,
    });
    wrong.map_or(Ok(numbers), Err)
}

/// An error unless x has as many axes as `expected` shows, at least `least` and at most `most`.
fn check_rank<'g>(
    what: &str,
    x: Tensor<'g>,
    (least, most): (usize, usize),
    expected: &'static str,
    at: &Caller<'_>,
) -> Result<(), Tensor<'g>> {
    match x.ty() {
        None => Err(x),
        Some(found) if found.rank() < least || found.rank() > most => {
            let location = Some(Location::caller(at));
            let error = GraphError::Rank { what: what.to_owned(), expected: expected.into(), found, location };
            Err(x.scope.emit(at, |b| b.fail(error)))
        }
        Some(_) => Ok(()),
    }
}

/// An error for each argument that is 0.
fn check_positive<'g, const N: usize>(
    what: &str,
    x: Tensor<'g>,
    arguments: [(&'static str, usize); N],
    at: &Caller<'_>,
) -> Result<(), Tensor<'g>> {
    let mut all = Ok(());
    for (argument, found) in arguments.into_iter().filter(|&(_, found)| found == 0) {
        let (what, location) = (what.to_owned(), Some(Location::caller(at)));
        let error = GraphError::TooSmall { what, argument, least: 1, found, location };
        all = Err(x.scope.emit(at, |b| b.fail(error)));
    }
    all
}

/// An error unless x is a state of so many units for each example.
fn check_state<'g>(what: &str, x: Tensor<'g>, units: usize, at: &Caller<'_>) -> Result<(), Tensor<'g>> {
    check_rank(what, x, (2, 2), "[batch, units]", at)?;
    match (x.ty(), &x.dims()[1]) {
        (Some(found), Dim::Fixed(n)) if *n != units => {
            let (what, location) = (what.to_owned(), Some(Location::caller(at)));
            let expected = "[batch, units] of the layer's units".into();
            let error = GraphError::Rank { what, expected, found, location };
            Err(x.scope.emit(at, |b| b.fail(error)))
        }
        _ => Ok(()),
    }
}

/// An error unless x is a batch of images.
fn check_image<'g>(what: &str, x: Tensor<'g>, at: &Caller<'_>) -> Result<(), Tensor<'g>> {
    check_rank(what, x, (4, 4), "[N, C, H, W]", at)
}

/// What errors call the layer `name`.
fn layer(name: &str) -> String {
    format!("layer `{name}`")
}

fn dtype(x: Tensor<'_>) -> DType {
    x.ty().map_or(DType::F32, |t| t.dtype)
}

/// x plus a vector along `axis`.
fn add_bias<'g>(x: Tensor<'g>, bias: Tensor<'g>, axis: usize, at: &Caller<'_>) -> Tensor<'g> {
    let dims = x.dims();
    if x.ty().is_none() {
        return x;
    }
    x.scope.emit(at, |b| {
        let spread = b.broadcast_vector(bias.value, &dims, axis);
        b.add(x.value, spread)
    })
}

fn variable<'g>(
    scope: &'g Scope,
    at: &Caller<'_>,
    name: String,
    x: Tensor<'g>,
    dims: &[usize],
    init: Initializer,
) -> Tensor<'g> {
    scope.variable_of(at, &name, dtype(x), dims, init)
}

/// Fully connected layer: x · Wᵀ + b over the last axis, whose extent is a number; `name.weight` [units, inputs],
/// `name.bias` `[units]`.
#[track_caller]
pub fn dense<'g>(name: &str, x: Tensor<'g>, units: usize) -> Tensor<'g> {
    let at = Caller::caller();
    build_dense(name, x, units, at).unwrap_or_else(|wrong| wrong)
}

fn build_dense<'g>(name: &str, x: Tensor<'g>, units: usize, at: &Caller<'_>) -> Result<Tensor<'g>, Tensor<'g>> {
    let (scope, name) = (x.scope, &x.scope.path(name));
    let what = layer(name);
    check_rank(&what, x, (1, usize::MAX), "[…, inputs]", at)?;
    let last = x.dims().len() - 1;
    let [inputs] = extents(&what, x, [last], at)?;
    Ok(scope.named(name, || {
        let init = Initializer::Xavier { fan_in: inputs, fan_out: units, seed: scope.seed_of(name) };
        let w = variable(scope, at, format!("{name}.weight"), x, &[units, inputs], init);
        let b = variable(scope, at, format!("{name}.bias"), x, &[units], Initializer::ZEROS);
        let y = scope.emit(at, |g| g.dot(x.value, w.value, &[], &[], &[last], &[1]));
        add_bias(y, b, last, at)
    }))
}

/// A recurrent layer over a sequence [steps, batch, inputs], one direction; the variables are PyTorch's:
/// `name.weight_ih` [gates · units, inputs], `name.weight_hh` [gates · units, units], and unless there is no bias
/// `name.bias_ih` and `name.bias_hh` [gates · units], all drawn from ±1/√units.
///
/// ```
/// use kiln::prelude::*;
///
/// let scope = Scope::new("tagger");
/// let x = scope.placeholder::<f32>("x", dims![20, "batch", 64]);
/// let (forward, _) = Recurrent::lstm(32).apply("forward", x);
/// let (backward, last) = Recurrent::lstm(32).reverse().apply("backward", x);
/// scope.output("y", concat(&scope, &[forward, backward], 2));
/// scope.output("last", last.hidden);
/// # scope.finish()?;
/// # Ok::<(), kiln::ir::BuildErrors>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recurrent {
    /// What a step does.
    pub cell: Cell,
    /// Hidden units.
    pub units: usize,
    /// Whether the last step of the sequence comes first.
    pub reverse: bool,
    /// Whether there are biases.
    pub bias: bool,
}

/// What a recurrent layer keeps from step to step.
#[derive(Clone, Copy, Debug)]
pub struct RecurrentState<'g> {
    /// The hidden state [batch, units].
    pub hidden: Tensor<'g>,
    /// An LSTM's cell state [batch, units].
    pub cell: Option<Tensor<'g>>,
}

impl Recurrent {
    fn new(cell: Cell, units: usize) -> Recurrent {
        Recurrent { cell, units, reverse: false, bias: true }
    }

    /// Elman's layer, with tanh.
    pub fn rnn(units: usize) -> Recurrent {
        Recurrent::new(Cell::Rnn, units)
    }

    /// Long short-term memory.
    pub fn lstm(units: usize) -> Recurrent {
        Recurrent::new(Cell::Lstm, units)
    }

    /// Gated recurrent units, in the form of PyTorch and cuDNN.
    pub fn gru(units: usize) -> Recurrent {
        Recurrent::new(Cell::Gru, units)
    }

    /// From the last step to the first; results stay in the order of the sequence.
    pub fn reverse(self) -> Recurrent {
        Recurrent { reverse: true, ..self }
    }

    /// Without biases.
    pub fn no_bias(self) -> Recurrent {
        Recurrent { bias: false, ..self }
    }

    /// The layer over x from a state of zeros: the hidden states [steps, batch, units], and the state after the last step.
    #[track_caller]
    pub fn apply<'g>(&self, name: &str, x: Tensor<'g>) -> (Tensor<'g>, RecurrentState<'g>) {
        let at = Caller::caller();
        self.build(name, x, None, at).unwrap_or_else(|wrong| self.poisoned(wrong))
    }

    /// The layer over x from `state`, as [`Recurrent::apply`] gives one. An LSTM's cell state is zeros where it has none.
    #[track_caller]
    pub fn apply_from<'g>(
        &self,
        name: &str,
        x: Tensor<'g>,
        state: RecurrentState<'g>,
    ) -> (Tensor<'g>, RecurrentState<'g>) {
        let at = Caller::caller();
        self.build(name, x, Some(state), at).unwrap_or_else(|wrong| self.poisoned(wrong))
    }

    fn poisoned<'g>(&self, wrong: Tensor<'g>) -> (Tensor<'g>, RecurrentState<'g>) {
        (wrong, RecurrentState { hidden: wrong, cell: (self.cell == Cell::Lstm).then_some(wrong) })
    }

    fn build<'g>(
        &self,
        name: &str,
        x: Tensor<'g>,
        state: Option<RecurrentState<'g>>,
        at: &Caller<'_>,
    ) -> Result<(Tensor<'g>, RecurrentState<'g>), Tensor<'g>> {
        let (scope, name) = (x.scope, &x.scope.path(name));
        let what = layer(name);
        check_rank(&what, x, (3, 3), "[steps, batch, inputs]", at)?;
        let [steps, inputs] = extents(&what, x, [0, 2], at)?;
        let (units, sums) = (self.units, self.units * self.cell.gates());
        if let Some(RecurrentState { hidden, cell }) = state {
            check_state(&format!("the hidden state of {what}"), hidden, units, at)?;
            if let Some(cell) = cell {
                check_state(&format!("the cell state of {what}"), cell, units, at)?;
            }
        }
        Ok(scope.named(name, || {
            let limit = 1.0 / (units.max(1) as f64).sqrt();
            let drawn = |part: &str, dims: &[usize]| {
                let name = format!("{name}.{part}");
                let seed = scope.seed_of(&name);
                let init = Initializer::Uniform { low: Real(-limit), high: Real(limit), seed };
                variable(scope, at, name, x, dims, init)
            };
            let (w, r) = (drawn("weight_ih", &[sums, inputs]), drawn("weight_hh", &[sums, units]));
            let biases = self.bias.then(|| (drawn("bias_ih", &[sums]), drawn("bias_hh", &[sums])));
            let dims = x.dims();
            let batch = [dims[1].clone(), Dim::Fixed(units)];
            let (cell, reverse) = (self.cell, self.reverse);
            let mut last = None;
            let y = scope.emit(at, |b| {
                let zeros = |b: &mut kiln_ir::Builder, dims: &[Dim]| {
                    let zero = b.scalar_like(x.value, 0.0);
                    b.broadcast(zero, dims, &[])
                };
                let mut sums_of_x = b.dot(x.value, w.value, &[], &[], &[2], &[1]);
                let mut candidate = None;
                if let Some((input, recurrence)) = biases {
                    let mut recurrence = recurrence.value;
                    if cell == Cell::Gru {
                        // the candidate's recurrent bias is inside its reset
                        candidate = Some(b.slice(recurrence, &[2 * units], &[sums], &[]));
                        let kept = b.slice(recurrence, &[0], &[2 * units], &[]);
                        let none = zeros(b, &[Dim::Fixed(units)]);
                        recurrence = b.concat(&[kept, none], 0);
                    }
                    let bias = b.add(input.value, recurrence);
                    sums_of_x = b.add(sums_of_x, bias);
                }
                let hidden = state.map_or_else(|| zeros(b, &batch), |s| s.hidden.value);
                let mut operands = vec![sums_of_x, r.value, hidden];
                if cell == Cell::Lstm {
                    operands.push(match state.and_then(|s| s.cell) {
                        Some(c) => c.value,
                        None => zeros(b, &batch),
                    });
                }
                if cell == Cell::Gru {
                    let row = [Dim::Fixed(1), Dim::Fixed(units)];
                    operands.push(match candidate {
                        Some(bias) => b.reshape(bias, &row),
                        None => zeros(b, &row),
                    });
                }
                let op = Op::Recurrent { cell, activations: Vec::new(), reverse };
                let results = b.add_node(op, &operands, if cell == Cell::Lstm { 2 } else { 1 });
                last = results.get(1).copied();
                results[0]
            });
            let end = if reverse { 0 } else { steps.saturating_sub(1) };
            let index = scope.emit(at, |b| b.scalar(DType::I64, end as f64));
            let hidden = scope.emit(at, |b| b.gather(y.value, index.value, 0));
            let state = RecurrentState { hidden, cell: last.map(|value| Tensor { value, ..y }) };
            (y, state)
        }))
    }
}

/// 2-D convolution of [N, C, H, W]; `name.weight` [filters, C / groups, kh, kw], `name.bias` `[filters]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv2d {
    /// Output channels.
    pub filters: usize,
    /// Window (height, width).
    pub kernel: (usize, usize),
    /// Steps (vertical, horizontal).
    pub stride: (usize, usize),
    /// Padding.
    pub padding: Padding,
    /// Distance between the elements of the window.
    pub dilation: (usize, usize),
    /// Groups; `groups = channels` is a depthwise convolution.
    pub groups: usize,
    /// Whether there is a bias.
    pub bias: bool,
}

impl Conv2d {
    /// `filters` windows of `kernel` × `kernel`, stride 1, no padding, with bias.
    pub fn new(filters: usize, kernel: usize) -> Conv2d {
        Conv2d {
            filters,
            kernel: (kernel, kernel),
            stride: (1, 1),
            padding: Padding::Valid,
            dilation: (1, 1),
            groups: 1,
            bias: true,
        }
    }

    /// The same step along both axes.
    pub fn stride(self, stride: usize) -> Conv2d {
        Conv2d { stride: (stride, stride), ..self }
    }

    /// Padding.
    pub fn padding(self, padding: Padding) -> Conv2d {
        Conv2d { padding, ..self }
    }

    /// The same dilation along both axes.
    pub fn dilation(self, dilation: usize) -> Conv2d {
        Conv2d { dilation: (dilation, dilation), ..self }
    }

    /// Groups.
    pub fn groups(self, groups: usize) -> Conv2d {
        Conv2d { groups, ..self }
    }

    /// Leaves the bias out.
    pub fn no_bias(self) -> Conv2d {
        Conv2d { bias: false, ..self }
    }

    /// Adds the layer to the graph.
    #[track_caller]
    pub fn apply<'g>(&self, name: &str, x: Tensor<'g>) -> Tensor<'g> {
        self.build(name, x, Caller::caller()).unwrap_or_else(|wrong| wrong)
    }

    fn build<'g>(&self, name: &str, x: Tensor<'g>, at: &Caller<'_>) -> Result<Tensor<'g>, Tensor<'g>> {
        let (scope, name) = (x.scope, &x.scope.path(name));
        let what = layer(name);
        check_image(&what, x, at)?;
        let span = |k: usize, d: usize| k.saturating_sub(1) * d + 1;
        let windows = (span(self.kernel.0, self.dilation.0), span(self.kernel.1, self.dilation.1));
        let (channels, padding) =
            (extents(&what, x, [1], at), self.padding.of_image(&what, x, (windows, self.stride), at));
        let ([channels], padding) = (channels?, padding?);
        let per_group = channels / self.groups.max(1);
        let fan_in = per_group * self.kernel.0 * self.kernel.1;
        let dims = [self.filters, per_group, self.kernel.0, self.kernel.1];
        let options = ConvOptions {
            strides: vec![self.stride.0, self.stride.1],
            padding: padding.to_vec(),
            rhs_dilation: vec![self.dilation.0, self.dilation.1],
            groups: self.groups,
            ..ConvOptions::default()
        };
        Ok(scope.named(name, || {
            let init = Initializer::He { fan_in, seed: scope.seed_of(name) };
            let w = variable(scope, at, format!("{name}.weight"), x, &dims, init);
            let y = scope.emit(at, |b| b.conv(x.value, w.value, &options));
            if !self.bias {
                return y;
            }
            let bias = variable(scope, at, format!("{name}.bias"), x, &[self.filters], Initializer::ZEROS);
            add_bias(y, bias, 1, at)
        }))
    }
}

/// Depthwise 2-D convolution: one `kernel` × `kernel` window a channel, without bias.
#[track_caller]
pub fn depthwise<'g>(name: &str, x: Tensor<'g>, kernel: usize, stride: usize, padding: Padding) -> Tensor<'g> {
    let (at, what) = (Caller::caller(), layer(&x.scope.path(name)));
    let build = || {
        check_image(&what, x, at)?;
        let [channels] = extents(&what, x, [1], at)?;
        let conv = Conv2d::new(channels, kernel).stride(stride).padding(padding).groups(channels).no_bias();
        conv.build(name, x, at)
    };
    build().unwrap_or_else(|wrong| wrong)
}

/// Batch normalisation over axis 1 by stored statistics; `name.weight`, `name.bias`, `name.running_mean`,
/// `name.running_var`, each `[C]`.
#[track_caller]
pub fn batch_norm<'g>(name: &str, x: Tensor<'g>, epsilon: f64) -> Tensor<'g> {
    let (at, scope, name) = (Caller::caller(), x.scope, &x.scope.path(name));
    let what = layer(name);
    let channels = check_rank(&what, x, (2, usize::MAX), "[N, C, …]", at).and_then(|()| extents(&what, x, [1], at));
    let c = match channels {
        Ok(channels) => channels,
        Err(wrong) => return wrong,
    };
    scope.named(name, || {
        let part = |suffix: &str, init| variable(scope, at, format!("{name}.{suffix}"), x, &c, init).value;
        let statistics = [
            part("weight", Initializer::ONES),
            part("bias", Initializer::ZEROS),
            part("running_mean", Initializer::ZEROS),
            part("running_var", Initializer::ONES),
        ];
        scope.emit(at, |b| b.batch_norm(x.value, statistics, 1, epsilon))
    })
}

/// A square pooling window over [N, C, H, W].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Window extent.
    pub window: usize,
    /// Step.
    pub stride: usize,
    /// Padding; never counted in an average.
    pub padding: Padding,
}

impl Pool {
    /// A window that moves by its own extent, without padding.
    pub fn new(window: usize) -> Pool {
        Pool { window, stride: window, padding: Padding::Valid }
    }

    /// Another step.
    pub fn stride(self, stride: usize) -> Pool {
        Pool { stride, ..self }
    }

    /// Padding.
    pub fn padding(self, padding: Padding) -> Pool {
        Pool { padding, ..self }
    }

    fn options<'g>(&self, x: Tensor<'g>, at: &Caller<'_>) -> Result<WindowOptions, Tensor<'g>> {
        check_image("`Pool`", x, at)?;
        let (window, stride) = ((self.window, self.window), (self.stride, self.stride));
        let [vertical, horizontal] = self.padding.of_image("`Pool`", x, (window, stride), at)?;
        Ok(WindowOptions {
            window: vec![1, 1, self.window, self.window],
            strides: vec![1, 1, self.stride, self.stride],
            padding: vec![AxisPadding::NONE, AxisPadding::NONE, vertical, horizontal],
            dilation: Vec::new(),
        })
    }

    /// Largest element of each window.
    #[track_caller]
    pub fn max<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let at = Caller::caller();
        let pooled = |options| x.scope.emit(at, |b| b.max_pool(x.value, &options));
        self.options(x, at).map_or_else(|wrong| wrong, pooled)
    }

    /// Mean of each window.
    #[track_caller]
    pub fn avg<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let at = Caller::caller();
        let pooled = |options| x.scope.emit(at, |b| b.avg_pool(x.value, &options, false));
        self.options(x, at).map_or_else(|wrong| wrong, pooled)
    }

    /// Undoes [`Pool::max`] as far as that goes (Zeiler et al. 2011): each element of `y`, which has the extents of the pooled `x`, goes to
    /// the place of its window's first maximum in `x`; zeros are elsewhere. Where windows overlap, elements of one place are added.
    #[track_caller]
    pub fn max_unpool<'g>(&self, y: Tensor<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let (at, what) = (Caller::caller(), "`max_unpool`");
        let y = x.scope.own(y, at);
        let placed = |o: WindowOptions| {
            let images = check_image(what, y, at).and_then(|()| extents(what, x, [2, 3], at));
            let pooled = match images {
                Ok(spatial) => spatial.map(|n| self.places(n).map(Dim::Fixed)),
                Err(wrong) => return wrong,
            };
            // where no window fits, the op below says so
            let maxima = x.dims().into_iter().take(2).map(Some).chain(pooled).collect::<Option<Vec<_>>>();
            if let (Some(found), Some(maxima)) = (y.ty(), maxima)
                && y.dims() != maxima
            {
                let dims = maxima.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ");
                let (what, location) = (what.to_owned(), Some(Location::caller(at)));
                let expected = format!("y of [{dims}], the extents of x's maxima").into();
                let error = GraphError::Rank { what, expected, found, location };
                return x.scope.emit(at, |b| b.fail(error));
            }
            let op = Op::SelectAndScatter {
                window: o.window,
                strides: o.strides,
                padding: o.padding,
                extreme: Extreme::Max,
            };
            x.scope.emit(at, |b| b.add_op(op, &[x.value, y.value]))
        };
        self.options(x, at).map_or_else(|wrong| wrong, placed)
    }

    /// How many windows fit an axis of `extent` elements; `None` where none does.
    pub fn places(&self, extent: usize) -> Option<usize> {
        window_extent(extent, self.window, self.stride, self.padding.of_axis(0, extent, self.window, self.stride), 1)
    }
}

/// Mean over both spatial axes: [N, C, H, W] to [N, C].
#[track_caller]
pub fn global_avg_pool(x: Tensor<'_>) -> Tensor<'_> {
    x.mean(&[2, 3])
}

/// [N, …] to [N, product of the rest]. N may be symbolic, the rest are numbers.
#[track_caller]
pub fn flatten(x: Tensor<'_>) -> Tensor<'_> {
    let at = Caller::caller();
    let dims = x.dims();
    let (mut rest, mut wrong) = (1usize, None);
    for axis in 1..dims.len() {
        match extents("`flatten`", x, [axis], at) {
            Ok([n]) => rest = n.saturating_mul(rest),
            Err(symbolic) => wrong = Some(symbolic),
        }
    }
    let first = dims.first().cloned().unwrap_or(Dim::Fixed(1));
    wrong.unwrap_or_else(|| x.reshape([first, Dim::Fixed(rest)]))
}

/// Repeats each pixel `scale` × `scale` times (nearest-neighbour upsampling). H and W are numbers.
#[track_caller]
pub fn upsample(x: Tensor<'_>, scale: usize) -> Tensor<'_> {
    let (at, what) = (Caller::caller(), "`upsample`");
    let spatial = check_positive(what, x, [("scale", scale)], at)
        .and_then(|()| check_image(what, x, at))
        .and_then(|()| extents(what, x, [2, 3], at));
    let [height, width] = match spatial {
        Ok(spatial) => spatial,
        Err(wrong) => return wrong,
    };
    let batch = x.dims().into_iter().take(2).collect::<Vec<_>>();
    let (h, w, times) = (Dim::Fixed(height), Dim::Fixed(width), Dim::Fixed(scale));
    let spread = [&batch[..], &[h, times.clone(), w, times]].concat();
    let result =
        [&batch[..], &[Dim::Fixed(height.saturating_mul(scale)), Dim::Fixed(width.saturating_mul(scale))]].concat();
    x.scope.emit(at, |b| {
        let wide = b.broadcast(x.value, &spread, &[0, 1, 2, 4]);
        b.reshape(wide, &result)
    })
}
