//! ZFNet: Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", 2013, figure 3.

use crate::dsl::Tensor;
use crate::dsl::layers::{Conv2d, Padding, Pool, dense, flatten, lrn};

/// Images [N, 3, 224, 224] to logits. The layers of figure 3 have 62,357,608 parameters. The paper does not say how it normalises the
/// contrast across feature maps: this is Caffe's AlexNet's way. The last layers take what 224 × 224 pixels leave, 6 × 6; other sizes
/// are other networks.
pub fn zfnet(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    let conv = |filters, kernel, padding| Conv2d::new(filters, kernel).padding(Padding::Each(padding));
    let pool = |x| Pool::new(3).stride(2).padding(Padding::Each(1)).max(x);
    let norm = |x| lrn(x, 5, 1e-4, 0.75);
    let x = norm(pool(conv(96, 7, 1).stride(2).apply("conv1", x).relu()));
    let x = norm(pool(conv(256, 5, 0).stride(2).apply("conv2", x).relu()));
    let x = conv(384, 3, 1).apply("conv3", x).relu();
    let x = conv(384, 3, 1).apply("conv4", x).relu();
    let x = conv(256, 3, 1).apply("conv5", x).relu();
    let x = dense("fc6", flatten(Pool::new(3).stride(2).max(x)), 4096).relu();
    let x = dense("fc7", x, 4096).relu();
    dense("fc8", x, classes)
}
