//! Transposed convolution.

use std::panic::Location as Caller;

use kiln_ir::attribute::Padding as AxisPadding;
use kiln_ir::{ConvOptions, Initializer, Op};

use super::{add_bias, check_image, extents, layer, variable};
use crate::dsl::Tensor;

/// 2-D transposed convolution of [N, C, H, W] (the gradient of a convolution, "deconvolution"); `name.weight`
/// [C, filters, k, k], `name.bias` `[filters]`. An axis of n elements becomes (n − 1) · stride + k − 2 · padding long.
///
/// ```
/// use kiln::prelude::*;
///
/// let scope = Scope::new("twice_as_large");
/// let x = scope.placeholder::<f32>("x", dims!["batch", 16, 7, 7]);
/// let y = ConvTranspose2d::new(8, 2).stride(2).apply("up", x);
/// assert_eq!(y.dims(), dims!["batch", 8, 14, 14]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvTranspose2d {
    /// Output channels.
    pub filters: usize,
    /// Window extent.
    pub kernel: usize,
    /// Distance in the result of what neighbours in x become.
    pub stride: usize,
    /// Elements cut off at each side of the result.
    pub padding: usize,
    /// Whether there is a bias.
    pub bias: bool,
}

impl ConvTranspose2d {
    /// `filters` windows of `kernel` × `kernel`, stride 1, nothing cut off, with bias.
    pub fn new(filters: usize, kernel: usize) -> ConvTranspose2d {
        ConvTranspose2d { filters, kernel, stride: 1, padding: 0, bias: true }
    }

    /// The same step along both axes.
    pub fn stride(self, stride: usize) -> ConvTranspose2d {
        ConvTranspose2d { stride, ..self }
    }

    /// Elements cut off at each side.
    pub fn padding(self, padding: usize) -> ConvTranspose2d {
        ConvTranspose2d { padding, ..self }
    }

    /// Leaves the bias out.
    pub fn no_bias(self) -> ConvTranspose2d {
        ConvTranspose2d { bias: false, ..self }
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
        let [channels] = extents(&what, x, [1], at)?;
        let k = self.kernel;
        // As a convolution of x spread out, with the window turned around.
        let edge = k as i64 - 1 - self.padding as i64;
        let options = ConvOptions {
            padding: vec![AxisPadding { low: edge, high: edge }; 2],
            lhs_dilation: vec![self.stride; 2],
            ..ConvOptions::default()
        };
        Ok(scope.named(name, || {
            // each result sums about (k / stride)² products of each channel
            let taps = (k / self.stride.max(1)).max(1);
            let init = Initializer::He { fan_in: channels * taps * taps, seed: scope.seed_of(name) };
            let w = variable(scope, at, format!("{name}.weight"), x, &[channels, self.filters, k, k], init);
            let y = scope.emit(at, |b| {
                let w = b.transpose(w.value, &[1, 0, 2, 3]);
                let w = b.add_op(Op::Reverse { axes: vec![2, 3] }, &[w]);
                b.conv(x.value, w, &options)
            });
            if !self.bias {
                return y;
            }
            let bias = variable(scope, at, format!("{name}.bias"), x, &[self.filters], Initializer::ZEROS);
            add_bias(y, bias, 1, at)
        }))
    }
}
