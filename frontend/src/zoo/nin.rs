//! Network in network: Lin, Chen & Yan, 2013, with the layers and names of the two models that its authors published for Caffe.

use crate::dsl::Tensor;
use crate::dsl::layers::{Conv2d, Padding, Pool, global_avg_pool};

/// A convolution, then what the paper calls a multilayer perceptron: two convolutions of 1 × 1 (`cccp`).
fn mlp_conv<'g>(x: Tensor<'g>, conv: (&str, Conv2d), cccp: [(&str, usize); 2]) -> Tensor<'g> {
    let x = conv.1.apply(conv.0, x).relu();
    cccp.into_iter().fold(x, |x, (name, filters)| Conv2d::new(filters, 1).apply(name, x).relu())
}

fn conv(filters: usize, kernel: usize, padding: usize) -> Conv2d {
    Conv2d::new(filters, kernel).padding(Padding::Each(padding))
}

/// ImageNet's model: images [N, 3, 224, 224] to logits, 7,595,176 parameters.
pub fn nin_imagenet(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    let pool = |x| Pool::new(3).stride(2).padding(Padding::Ceil(0)).max(x);
    let x = pool(mlp_conv(x, ("conv1", conv(96, 11, 0).stride(4)), [("cccp1", 96), ("cccp2", 96)]));
    let x = pool(mlp_conv(x, ("conv2", conv(256, 5, 2)), [("cccp3", 256), ("cccp4", 256)]));
    let x = pool(mlp_conv(x, ("conv3", conv(384, 3, 1)), [("cccp5", 384), ("cccp6", 384)]));
    let x = mlp_conv(x, ("conv4-1024", conv(1024, 3, 1)), [("cccp7-1024", 1024), ("cccp8-1024", classes)]);
    global_avg_pool(x)
}

/// CIFAR-10's model: images [N, 3, 32, 32] to logits, 966,986 parameters.
pub fn nin_cifar10(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    let pool = Pool::new(3).stride(2).padding(Padding::Ceil(0));
    let x = pool.max(mlp_conv(x, ("conv1", conv(192, 5, 2)), [("cccp1", 160), ("cccp2", 96)]));
    let x = pool.avg(mlp_conv(x, ("conv2", conv(192, 5, 2)), [("cccp3", 192), ("cccp4", 192)]));
    let x = mlp_conv(x, ("conv3", conv(192, 3, 1)), [("cccp5", 192), ("cccp6", classes)]);
    global_avg_pool(x)
}
