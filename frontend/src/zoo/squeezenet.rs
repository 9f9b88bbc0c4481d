//! SqueezeNet: Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size", 2016.
//! Names and numbers are torchvision's; images are [N, 3, 224, 224].

use crate::dsl::layers::{Conv2d, Padding, Pool, global_avg_pool};
use crate::dsl::{Tensor, concat};

/// The paper's network, torchvision's `squeezenet1_0`: 1,248,424 parameters.
pub fn squeezenet1_0(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    let x = x.within("features", |x| {
        let x = pool(Conv2d::new(96, 7).stride(2).apply("0", x).relu());
        let x = pool(fires(x, &[("3", 16, 64), ("4", 16, 64), ("5", 32, 128)]));
        let x = pool(fires(x, &[("7", 32, 128), ("8", 48, 192), ("9", 48, 192), ("10", 64, 256)]));
        fires(x, &[("12", 64, 256)])
    });
    classify(x, classes)
}

/// As good with less than half the arithmetic, torchvision's `squeezenet1_1`: 1,235,496 parameters.
pub fn squeezenet1_1(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    let x = x.within("features", |x| {
        let x = pool(Conv2d::new(64, 3).stride(2).apply("0", x).relu());
        let x = pool(fires(x, &[("3", 16, 64), ("4", 16, 64)]));
        let x = pool(fires(x, &[("6", 32, 128), ("7", 32, 128)]));
        fires(x, &[("9", 48, 192), ("10", 48, 192), ("11", 64, 256), ("12", 64, 256)])
    });
    classify(x, classes)
}

fn pool(x: Tensor<'_>) -> Tensor<'_> {
    Pool::new(3).stride(2).padding(Padding::Ceil(0)).max(x)
}

/// Fire modules of (name, squeezed channels, channels of each expansion).
fn fires<'g>(x: Tensor<'g>, modules: &[(&str, usize, usize)]) -> Tensor<'g> {
    modules.iter().fold(x, |x, &(name, squeeze, expand)| x.within(name, |x| fire(x, squeeze, expand)))
}

/// Few channels, then many: half of them by 1 × 1, half by 3 × 3.
fn fire(x: Tensor<'_>, squeeze: usize, expand: usize) -> Tensor<'_> {
    let x = Conv2d::new(squeeze, 1).apply("squeeze", x).relu();
    let one = Conv2d::new(expand, 1).apply("expand1x1", x).relu();
    let three = Conv2d::new(expand, 3).padding(Padding::Each(1)).apply("expand3x3", x).relu();
    concat(x.scope(), &[one, three], 1)
}

fn classify(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    global_avg_pool(Conv2d::new(classes, 1).apply("classifier.1", x).relu())
}
