//! VGG: Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014.

use crate::dsl::Tensor;
use crate::dsl::layers::{Conv2d, Padding, Pool, adaptive_avg_pool, dense, flatten};

/// Images [N, 3, 224, 224] to logits, with the names of torchvision's `vgg16` (configuration D): 138,357,544 parameters.
pub fn vgg16(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    vgg(x, classes, [2, 2, 3, 3, 3])
}

/// As [`vgg16`], torchvision's `vgg19` (configuration E): 143,667,240 parameters.
pub fn vgg19(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    vgg(x, classes, [2, 2, 4, 4, 4])
}

/// Five stages of convolutions of 3 × 3, each ended by pooling.
fn vgg(mut x: Tensor<'_>, classes: usize, stages: [usize; 5]) -> Tensor<'_> {
    let mut position = 0;
    for (count, filters) in stages.into_iter().zip([64, 128, 256, 512, 512]) {
        for _ in 0..count {
            x = Conv2d::new(filters, 3).padding(Padding::Each(1)).apply(&format!("features.{position}"), x).relu();
            position += 2; // torchvision numbers activations and poolings, too
        }
        x = Pool::new(2).max(x);
        position += 1;
    }
    flatten(adaptive_avg_pool(x, 7, 7)).within("classifier", |x| {
        let x = dense("0", x, 4096).relu();
        let x = dense("3", x, 4096).relu();
        dense("6", x, classes)
    })
}
