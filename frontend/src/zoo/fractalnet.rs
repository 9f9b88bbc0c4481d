//! FractalNet: Larsson, Maire & Shakhnarovich, "FractalNet: Ultra-Deep Neural Networks without Residuals", 2016.

use super::conv_norm;
use crate::dsl::Tensor;
use crate::dsl::layers::{Conv2d, Padding, Pool, dense, flatten};

/// The 20 layers for CIFAR: images [N, 3, 32, 32] to logits. Five blocks of three columns with the filters of section 4 have
/// 33,724,618 parameters: 33,698,880 of convolutions, 20,608 of normalisations, 5,130 of the last layer. (Table 1 of the paper says
/// 38.6 million, which the layers it describes do not add up to.)
pub fn fractalnet20(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    let mut x = x;
    for (block, filters) in (1..).zip([64, 128, 256, 512, 512]) {
        x = x.within(&format!("block{block}"), |x| Pool::new(2).max(join(&columns(x, 3, filters))));
    }
    dense("fc", flatten(x), classes)
}

/// The paper's expansion rule, up to the join at its end: `count` columns are `count` − 1 columns twice, beside one convolution.
fn columns(x: Tensor<'_>, count: usize, filters: usize) -> Vec<Tensor<'_>> {
    let mut ends = Vec::new();
    if count > 1 {
        let half = join(&x.within("first", |x| columns(x, count - 1, filters)));
        ends = half.within("second", |x| columns(x, count - 1, filters));
    }
    ends.push(conv_norm(Conv2d::new(filters, 3).padding(Padding::Each(1)), "conv", "bn", x).relu());
    ends
}

/// The mean of columns that end at one place.
fn join<'g>(ends: &[Tensor<'g>]) -> Tensor<'g> {
    let [first, rest @ ..] = ends else { unreachable!("a block has a column") };
    rest.iter().fold(*first, |sum, &end| sum + end) / ends.len() as f64
}
