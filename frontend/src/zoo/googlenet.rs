//! GoogLeNet: Szegedy et al., "Going Deeper with Convolutions", 2014, with the batch normalisation and the numbers of torchvision's
//! `googlenet` (whose third branch has windows of 3 × 3, not of 5 × 5).

use crate::dsl::layers::{Conv2d, Padding, Pool, adaptive_avg_pool, batch_norm, dense, flatten, global_avg_pool};
use crate::dsl::{Tensor, concat};

/// Images [N, 3, 224, 224] to logits: 6,624,904 parameters. torchvision's weights take what its `transform_input` makes of an image.
pub fn googlenet(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    dense("fc", global_avg_pool(body(x).2), classes)
}

/// Logits, and those of the two auxiliary classifiers, which train the lower layers: 13,004,888 parameters.
pub fn googlenet_with_auxiliary(x: Tensor<'_>, classes: usize) -> [Tensor<'_>; 3] {
    let (lower, upper, last) = body(x);
    [
        dense("fc", global_avg_pool(last), classes),
        lower.within("aux1", |x| auxiliary(x, classes)),
        upper.within("aux2", |x| auxiliary(x, classes)),
    ]
}

/// What the auxiliary classifiers see (behind 4a and 4d), and the last maps.
fn body(x: Tensor<'_>) -> (Tensor<'_>, Tensor<'_>, Tensor<'_>) {
    let pool = |window, x| Pool::new(window).stride(2).padding(Padding::Ceil(0)).max(x);
    let x = pool(3, conv("conv1", Conv2d::new(64, 7).stride(2).padding(Padding::Each(3)), x));
    let x = conv("conv3", same(192), conv("conv2", Conv2d::new(64, 1), x));
    let x = inception("inception3a", pool(3, x), [64, 96, 128, 16, 32, 32]);
    let x = inception("inception3b", x, [128, 128, 192, 32, 96, 64]);
    let lower = inception("inception4a", pool(3, x), [192, 96, 208, 16, 48, 64]);
    let x = inception("inception4b", lower, [160, 112, 224, 24, 64, 64]);
    let x = inception("inception4c", x, [128, 128, 256, 24, 64, 64]);
    let upper = inception("inception4d", x, [112, 144, 288, 32, 64, 64]);
    let x = inception("inception4e", upper, [256, 160, 320, 32, 128, 128]);
    let x = inception("inception5a", pool(2, x), [256, 160, 320, 32, 128, 128]);
    (lower, upper, inception("inception5b", x, [384, 192, 384, 48, 128, 128]))
}

/// Four views of x side by side: 1 × 1, 3 × 3 twice behind fewer channels, and the neighbourhood's maximum.
fn inception<'g>(name: &str, x: Tensor<'g>, filters: [usize; 6]) -> Tensor<'g> {
    let [direct, reduce2, branch2, reduce3, branch3, pooled] = filters;
    let one = |filters| Conv2d::new(filters, 1);
    x.within(name, |x| {
        let branch1 = conv("branch1", one(direct), x);
        let branch2 = conv("branch2.1", same(branch2), conv("branch2.0", one(reduce2), x));
        let branch3 = conv("branch3.1", same(branch3), conv("branch3.0", one(reduce3), x));
        let nearby = Pool::new(3).stride(1).padding(Padding::Each(1)).max(x);
        let branch4 = conv("branch4.1", one(pooled), nearby);
        concat(x.scope(), &[branch1, branch2, branch3, branch4], 1)
    })
}

fn auxiliary(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    let x = conv("conv", Conv2d::new(128, 1), adaptive_avg_pool(x, 4, 4));
    let x = dense("fc1", flatten(x), 1024).relu();
    dense("fc2", x, classes)
}

fn same(filters: usize) -> Conv2d {
    Conv2d::new(filters, 3).padding(Padding::Each(1))
}

fn conv<'g>(name: &str, layer: Conv2d, x: Tensor<'g>) -> Tensor<'g> {
    x.within(name, |x| batch_norm("bn", layer.no_bias().apply("conv", x), 1e-3).relu())
}
