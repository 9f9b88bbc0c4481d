//! AlexNet: Krizhevsky, Sutskever & Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012, as on one
//! GPU: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.

use crate::dsl::Tensor;
use crate::dsl::layers::{Conv2d, Padding, Pool, adaptive_avg_pool, dense, flatten};

/// Images [N, 3, 224, 224] to logits, with the names and numbers of torchvision's `alexnet`: 61,100,840 parameters.
pub fn alexnet(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    let conv = |filters, kernel, padding| Conv2d::new(filters, kernel).padding(Padding::Each(padding));
    let pool = Pool::new(3).stride(2);
    let x = x.within("features", |x| {
        let x = pool.max(conv(64, 11, 2).stride(4).apply("0", x).relu());
        let x = pool.max(conv(192, 5, 2).apply("3", x).relu());
        let x = conv(384, 3, 1).apply("6", x).relu();
        let x = conv(256, 3, 1).apply("8", x).relu();
        pool.max(conv(256, 3, 1).apply("10", x).relu())
    });
    flatten(adaptive_avg_pool(x, 6, 6)).within("classifier", |x| {
        let x = dense("1", x, 4096).relu();
        let x = dense("4", x, 4096).relu();
        dense("6", x, classes)
    })
}
