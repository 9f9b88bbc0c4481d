//! Layers: composites with variables. Images are [N, C, H, W].
//!
//! A layer is a small description with defaults; applying it to a tensor under a name declares its variables
//! (`name/weight`, `name/bias` …) and adds its nodes. Weight shapes are those of PyTorch, so that its checkpoints load.

use std::panic::Location as Caller;

use kiln_ir::attribute::Padding as AxisPadding;
use kiln_ir::infer::window_extent;
use kiln_ir::{ConvOptions, DType, Dim, Initializer, WindowOptions};

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
    /// ((top, bottom), (left, right)).
    Explicit((usize, usize), (usize, usize)),
}

impl Padding {
    fn of_axis(self, axis: usize, extent: usize, window: usize, stride: usize) -> AxisPadding {
        let pair = |(low, high): (usize, usize)| AxisPadding { low: low as i64, high: high as i64 };
        match self {
            Padding::Valid => AxisPadding::NONE,
            Padding::Each(n) => pair((n, n)),
            Padding::Explicit(h, w) => pair(if axis == 0 { h } else { w }),
            Padding::Same => {
                let covered = (extent.div_ceil(stride.max(1)).saturating_sub(1)) * stride + window;
                let total = covered.saturating_sub(extent);
                pair((total / 2, total - total / 2))
            }
        }
    }
}

/// The extent of axis `i` of x; 0 (which no layer accepts) where it is symbolic or missing.
fn extent(x: Tensor<'_>, i: usize) -> usize {
    x.dims().get(i).and_then(Dim::fixed).unwrap_or(0)
}

fn dtype(x: Tensor<'_>) -> DType {
    x.ty().map_or(DType::F32, |t| t.dtype)
}

/// x plus a vector along `axis`.
fn add_bias<'g>(x: Tensor<'g>, bias: Tensor<'g>, axis: usize, at: &Caller<'_>) -> Tensor<'g> {
    let dims = x.dims();
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

/// Fully connected layer: x · Wᵀ + b over the last axis; `name/weight` [units, inputs], `name/bias` `[units]`.
#[track_caller]
pub fn dense<'g>(name: &str, x: Tensor<'g>, units: usize) -> Tensor<'g> {
    let (at, scope) = (Caller::caller(), x.scope);
    let rank = x.dims().len();
    let inputs = extent(x, rank.wrapping_sub(1));
    scope.named(name, || {
        let init = Initializer::Xavier { fan_in: inputs, fan_out: units, seed: scope.seed_of(name) };
        let w = variable(scope, at, format!("{name}/weight"), x, &[units, inputs], init);
        let b = variable(scope, at, format!("{name}/bias"), x, &[units], Initializer::ZEROS);
        let last = rank.saturating_sub(1);
        let y = scope.emit(at, |g| g.dot(x.value, w.value, &[], &[], &[last], &[1]));
        add_bias(y, b, last, at)
    })
}

/// 2-D convolution of [N, C, H, W]; `name/weight` [filters, C / groups, kh, kw], `name/bias` `[filters]`.
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
        let (at, scope) = (Caller::caller(), x.scope);
        let per_group = extent(x, 1) / self.groups.max(1);
        let fan_in = per_group * self.kernel.0 * self.kernel.1;
        let dims = [self.filters, per_group, self.kernel.0, self.kernel.1];
        let span = |k: usize, d: usize| k.saturating_sub(1) * d + 1;
        let options = ConvOptions {
            strides: vec![self.stride.0, self.stride.1],
            padding: vec![
                self.padding.of_axis(0, extent(x, 2), span(self.kernel.0, self.dilation.0), self.stride.0),
                self.padding.of_axis(1, extent(x, 3), span(self.kernel.1, self.dilation.1), self.stride.1),
            ],
            rhs_dilation: vec![self.dilation.0, self.dilation.1],
            groups: self.groups,
            ..ConvOptions::default()
        };
        scope.named(name, || {
            let init = Initializer::He { fan_in, seed: scope.seed_of(name) };
            let w = variable(scope, at, format!("{name}/weight"), x, &dims, init);
            let y = scope.emit(at, |b| b.conv(x.value, w.value, &options));
            if !self.bias {
                return y;
            }
            let bias = variable(scope, at, format!("{name}/bias"), x, &[self.filters], Initializer::ZEROS);
            add_bias(y, bias, 1, at)
        })
    }
}

/// Depthwise 2-D convolution: one `kernel` × `kernel` window a channel, without bias.
#[track_caller]
pub fn depthwise<'g>(name: &str, x: Tensor<'g>, kernel: usize, stride: usize, padding: Padding) -> Tensor<'g> {
    let channels = extent(x, 1);
    Conv2d::new(channels, kernel).stride(stride).padding(padding).groups(channels).no_bias().apply(name, x)
}

/// Batch normalisation over axis 1 by stored statistics; `name/weight`, `name/bias`, `name/running_mean`,
/// `name/running_var`, each `[C]`.
#[track_caller]
pub fn batch_norm<'g>(name: &str, x: Tensor<'g>, epsilon: f64) -> Tensor<'g> {
    let (at, scope) = (Caller::caller(), x.scope);
    let c = [extent(x, 1)];
    scope.named(name, || {
        let part = |suffix: &str, init| variable(scope, at, format!("{name}/{suffix}"), x, &c, init).value;
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

    fn options(&self, x: Tensor<'_>) -> WindowOptions {
        let of = |axis: usize| self.padding.of_axis(axis, extent(x, axis + 2), self.window, self.stride);
        WindowOptions {
            window: vec![1, 1, self.window, self.window],
            strides: vec![1, 1, self.stride, self.stride],
            padding: vec![AxisPadding::NONE, AxisPadding::NONE, of(0), of(1)],
            dilation: Vec::new(),
        }
    }

    /// Largest element of each window.
    #[track_caller]
    pub fn max<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let options = self.options(x);
        x.scope.emit(Caller::caller(), |b| b.max_pool(x.value, &options))
    }

    /// Mean of each window.
    #[track_caller]
    pub fn avg<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let options = self.options(x);
        x.scope.emit(Caller::caller(), |b| b.avg_pool(x.value, &options, false))
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

/// [N, …] to [N, product of the rest].
#[track_caller]
pub fn flatten(x: Tensor<'_>) -> Tensor<'_> {
    let dims = x.dims();
    let rest: usize = dims.iter().skip(1).map(|d| d.fixed().unwrap_or(0)).product();
    let first = dims.first().cloned().unwrap_or(Dim::Fixed(1));
    x.reshape([first, Dim::Fixed(rest)])
}

/// Repeats each pixel `scale` × `scale` times (nearest-neighbour upsampling).
#[track_caller]
pub fn upsample(x: Tensor<'_>, scale: usize) -> Tensor<'_> {
    let dims = x.dims();
    let [n, c, h, w] = dims.as_slice() else {
        // Not an image: the convolution-shaped reshape below reports it with the tensor's type.
        return x.reshape([Dim::Fixed(0)]);
    };
    let (h_in, w_in) = (h.fixed().unwrap_or(0), w.fixed().unwrap_or(0));
    let spread = [n.clone(), c.clone(), h.clone(), Dim::Fixed(scale), w.clone(), Dim::Fixed(scale)];
    let result = [n.clone(), c.clone(), Dim::Fixed(h_in * scale), Dim::Fixed(w_in * scale)];
    x.scope.emit(Caller::caller(), |b| {
        let wide = b.broadcast(x.value, &spread, &[0, 1, 2, 4]);
        b.reshape(wide, &result)
    })
}
