//! DenseNet: Huang, Liu, van der Maaten & Weinberger, "Densely Connected Convolutional Networks", 2016.

use super::{channels, conv_norm};
use crate::dsl::layers::{Conv2d, Padding, Pool, batch_norm, dense, global_avg_pool};
use crate::dsl::{Tensor, concat};

/// Channels that each layer adds.
const GROWTH: usize = 32;

/// Images [N, 3, 224, 224] to logits, with the names of torchvision's `densenet121`: 7,978,856 parameters.
pub fn densenet121(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    let x = x.within("features", |x| {
        let stem = Conv2d::new(64, 7).stride(2).padding(Padding::Each(3));
        let x = conv_norm(stem, "conv0", "norm0", x).relu();
        let mut x = Pool::new(3).stride(2).padding(Padding::Each(1)).max(x);
        for (block, layers) in (1..).zip([6, 12, 24, 16]) {
            for layer in 1..=layers {
                let y = x.within(&format!("denseblock{block}.denselayer{layer}"), dense_layer);
                x = concat(x.scope(), &[x, y], 1);
            }
            if block < 4 {
                x = x.within(&format!("transition{block}"), transition);
            }
        }
        batch_norm("norm5", x, 1e-5).relu()
    });
    dense("classifier", global_avg_pool(x), classes)
}

/// New channels, made of all that there are.
fn dense_layer(x: Tensor<'_>) -> Tensor<'_> {
    let x = batch_norm("norm1", x, 1e-5).relu();
    let x = conv_norm(Conv2d::new(4 * GROWTH, 1), "conv1", "norm2", x).relu();
    Conv2d::new(GROWTH, 3).padding(Padding::Each(1)).no_bias().apply("conv2", x)
}

/// Half the channels, half the height and width.
fn transition(x: Tensor<'_>) -> Tensor<'_> {
    let conv = Conv2d::new(channels(x) / 2, 1).no_bias();
    Pool::new(2).avg(conv.apply("conv", batch_norm("norm", x, 1e-5).relu()))
}
