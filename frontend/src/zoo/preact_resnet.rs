//! Residual networks with normalisation and activation before each convolution: He, Zhang, Ren & Sun, "Identity Mappings in Deep
//! Residual Networks", 2016. Names are those of timm's `resnetv2_50`.

use crate::dsl::Tensor;
use crate::dsl::layers::{Conv2d, Padding, Pool, adaptive_avg_pool, batch_norm, flatten};

/// ImageNet's form: images [N, 3, 224, 224] to logits, timm's `resnetv2_50`: 25,549,352 parameters.
pub fn preact_resnet50(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    let x = Conv2d::new(64, 7).stride(2).padding(Padding::Each(3)).no_bias().apply("stem.conv", x);
    let x = Pool::new(3).stride(2).padding(Padding::Each(1)).max(x);
    head(stages(x, &[3, 4, 6, 3], 64), classes)
}

/// The paper's ResNet-164 for CIFAR: images [N, 3, 32, 32] to logits, 1,703,258 parameters; the paper's table 4
/// says 1.7 million.
pub fn preact_resnet164(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    let x = Conv2d::new(16, 3).padding(Padding::Each(1)).no_bias().apply("stem.conv", x);
    head(stages(x, &[18, 18, 18], 16), classes)
}

/// The paper's ResNet-1001 for CIFAR: 10,327,706 parameters; the paper's table 4 says 10.2 million, without normalisations.
pub fn preact_resnet1001(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    let x = Conv2d::new(16, 3).padding(Padding::Each(1)).no_bias().apply("stem.conv", x);
    head(stages(x, &[111, 111, 111], 16), classes)
}

/// Bottlenecks of `width` channels in the first stage, twice as many in each next one.
fn stages<'g>(mut x: Tensor<'g>, counts: &[usize], width: usize) -> Tensor<'g> {
    for (stage, &count) in counts.iter().enumerate() {
        for i in 0..count {
            let stride = if stage > 0 && i == 0 { 2 } else { 1 };
            let name = format!("stages.{stage}.blocks.{i}");
            x = x.within(&name, |x| bottleneck(x, width << stage, stride, i == 0));
        }
    }
    x
}

fn bottleneck(x: Tensor<'_>, width: usize, stride: usize, project: bool) -> Tensor<'_> {
    let one = |filters| Conv2d::new(filters, 1).no_bias();
    let y = norm_relu("norm1", x);
    let shortcut = if project { one(4 * width).stride(stride).apply("downsample.conv", y) } else { x };
    let y = norm_relu("norm2", one(width).apply("conv1", y));
    let y = Conv2d::new(width, 3).stride(stride).padding(Padding::Each(1)).no_bias().apply("conv2", y);
    one(4 * width).apply("conv3", norm_relu("norm3", y)) + shortcut
}

fn head(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    let x = adaptive_avg_pool(norm_relu("norm", x), 1, 1);
    flatten(Conv2d::new(classes, 1).apply("head.fc", x))
}

fn norm_relu<'g>(name: &str, x: Tensor<'g>) -> Tensor<'g> {
    batch_norm(name, x, 1e-5).relu()
}
