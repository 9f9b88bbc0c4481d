//! MobileNetV2: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018.

use super::{channels, conv_norm};
use crate::dsl::Tensor;
use crate::dsl::layers::{Conv2d, Padding, dense, global_avg_pool};

/// Images [N, 3, 224, 224] to logits, with the names of torchvision's `mobilenet_v2`: 3,504,872 parameters.
pub fn mobilenet_v2(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    // Table 2 of the paper: expansion, channels, repeats, stride of the first.
    let table =
        [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];
    let x = x.within("features", |x| {
        let mut x = x.within("0", |x| conv(Conv2d::new(32, 3).stride(2).padding(Padding::Each(1)), x));
        let blocks = table.into_iter().flat_map(|(expansion, filters, repeats, stride)| {
            (0..repeats).map(move |i| (expansion, filters, if i == 0 { stride } else { 1 }))
        });
        for (i, (expansion, filters, stride)) in (1..).zip(blocks) {
            x = x.within(&format!("{i}.conv"), |x| inverted_residual(x, expansion, filters, stride));
        }
        x.within("18", |x| conv(Conv2d::new(1280, 1), x))
    });
    dense("classifier.1", global_avg_pool(x), classes)
}

/// More channels, a depthwise convolution, fewer channels without activation.
fn inverted_residual(x: Tensor<'_>, expansion: usize, filters: usize, stride: usize) -> Tensor<'_> {
    let (from, inner) = (channels(x), channels(x) * expansion);
    let depthwise = Conv2d::new(inner, 3).stride(stride).padding(Padding::Each(1)).groups(inner);
    let mut position = 0;
    let mut next = || {
        position += 1;
        (position - 1).to_string()
    };
    let y = if expansion == 1 { x } else { x.within(&next(), |x| conv(Conv2d::new(inner, 1), x)) };
    let y = y.within(&next(), |y| conv(depthwise, y));
    let y = conv_norm(Conv2d::new(filters, 1), &next(), &next(), y);
    if stride == 1 && from == filters { x + y } else { y }
}

fn conv(layer: Conv2d, x: Tensor<'_>) -> Tensor<'_> {
    conv_norm(layer, "0", "1", x).clip(0.0, 6.0)
}
