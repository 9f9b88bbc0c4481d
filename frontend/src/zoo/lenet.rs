//! LeNet-5: LeCun, Bottou, Bengio & Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998.

use crate::dsl::Tensor;
use crate::dsl::layers::{Conv2d, Padding, Pool, dense, flatten};

/// Digits [N, 1, 28, 28] to logits, in today's form: ReLU, max pooling, every map of the second layer connected to all of the
/// first, a plain last layer; hence 61,706 parameters where the paper has 60,000.
pub fn lenet5(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    let x = Conv2d::new(6, 5).padding(Padding::Each(2)).apply("conv1", x).relu();
    let x = Conv2d::new(16, 5).apply("conv2", Pool::new(2).max(x)).relu();
    let x = dense("fc1", flatten(Pool::new(2).max(x)), 120).relu();
    let x = dense("fc2", x, 84).relu();
    dense("fc3", x, classes)
}
