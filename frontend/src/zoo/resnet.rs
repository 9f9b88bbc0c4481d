//! Residual networks: He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition", 2015; and two that are wider:
//! Zagoruyko & Komodakis, "Wide Residual Networks", 2016; Xie et al., "Aggregated Residual Transformations for Deep Neural
//! Networks" (ResNeXt), 2016.
//!
//! Names and numbers are torchvision's, which halves an image in the 3 × 3 convolution of a bottleneck ("version 1.5"). All
//! take images [N, 3, 224, 224] to logits.

use super::{channels, conv_norm};
use crate::dsl::Tensor;
use crate::dsl::layers::{Conv2d, Padding, Pool, dense, global_avg_pool};

/// torchvision's `resnet18`: 11,689,512 parameters.
pub fn resnet18(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    resnet(x, classes, [2, 2, 2, 2], basic)
}

/// torchvision's `resnet34`: 21,797,672 parameters.
pub fn resnet34(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    resnet(x, classes, [3, 4, 6, 3], basic)
}

/// torchvision's `resnet50`: 25,557,032 parameters.
pub fn resnet50(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    resnet(x, classes, [3, 4, 6, 3], |x, planes, stride| bottleneck(x, planes, stride, (1, 64)))
}

/// torchvision's `resnet101`: 44,549,160 parameters.
pub fn resnet101(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    resnet(x, classes, [3, 4, 23, 3], |x, planes, stride| bottleneck(x, planes, stride, (1, 64)))
}

/// torchvision's `resnet152`: 60,192,808 parameters.
pub fn resnet152(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    resnet(x, classes, [3, 8, 36, 3], |x, planes, stride| bottleneck(x, planes, stride, (1, 64)))
}

/// Bottlenecks twice as wide, torchvision's `wide_resnet50_2`: 68,883,240 parameters.
pub fn wide_resnet50_2(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    resnet(x, classes, [3, 4, 6, 3], |x, planes, stride| bottleneck(x, planes, stride, (1, 128)))
}

/// Bottlenecks of 32 groups that begin 4 wide, torchvision's `resnext50_32x4d`: 25,028,904 parameters.
pub fn resnext50_32x4d(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    resnet(x, classes, [3, 4, 6, 3], |x, planes, stride| bottleneck(x, planes, stride, (32, 4)))
}

/// Four stages of blocks `block(x, planes, stride)`; the first of each but the first stage halves the image.
fn resnet<'g>(
    x: Tensor<'g>,
    classes: usize,
    stages: [usize; 4],
    block: impl Fn(Tensor<'g>, usize, usize) -> Tensor<'g>,
) -> Tensor<'g> {
    let x = conv_norm(Conv2d::new(64, 7).stride(2).padding(Padding::Each(3)), "conv1", "bn1", x).relu();
    let mut x = Pool::new(3).stride(2).padding(Padding::Each(1)).max(x);
    for (stage, count) in stages.into_iter().enumerate() {
        for i in 0..count {
            let stride = if stage > 0 && i == 0 { 2 } else { 1 };
            x = x.within(&format!("layer{}.{i}", stage + 1), |x| block(x, 64 << stage, stride));
        }
    }
    dense("fc", global_avg_pool(x), classes)
}

/// Two convolutions of 3 × 3 and what they are added to.
fn basic(x: Tensor<'_>, planes: usize, stride: usize) -> Tensor<'_> {
    let conv = Conv2d::new(planes, 3).padding(Padding::Each(1));
    let y = conv_norm(conv.clone().stride(stride), "conv1", "bn1", x).relu();
    let y = conv_norm(conv, "conv2", "bn2", y);
    (y + shortcut(x, planes, stride)).relu()
}

/// A convolution of 3 × 3 in `groups` of `width` channels (for 64 planes) between two of 1 × 1.
fn bottleneck(x: Tensor<'_>, planes: usize, stride: usize, (groups, width): (usize, usize)) -> Tensor<'_> {
    let inner = planes * width / 64 * groups;
    let conv = Conv2d::new(inner, 3).stride(stride).padding(Padding::Each(1)).groups(groups);
    let y = conv_norm(Conv2d::new(inner, 1), "conv1", "bn1", x).relu();
    let y = conv_norm(conv, "conv2", "bn2", y).relu();
    let y = conv_norm(Conv2d::new(4 * planes, 1), "conv3", "bn3", y);
    (y + shortcut(x, 4 * planes, stride)).relu()
}

/// x itself, or a projection where the block changes its extents.
fn shortcut(x: Tensor<'_>, planes: usize, stride: usize) -> Tensor<'_> {
    if stride == 1 && channels(x) == planes {
        return x;
    }
    conv_norm(Conv2d::new(planes, 1).stride(stride), "downsample.0", "downsample.1", x)
}
