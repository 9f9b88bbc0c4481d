//! FCN-8s: Long, Shelhamer & Darrell, "Fully Convolutional Networks for Semantic Segmentation", 2014, on VGG-16. Names are those of
//! the authors' Caffe model, and of `wkentaro/pytorch-fcn`.

use kiln_ir::Dim;

use crate::dsl::Tensor;
use crate::dsl::layers::{Conv2d, ConvTranspose2d, Padding, Pool, crop};

/// Images [N, 3, H, W] to logits [N, classes, H, W]. For 21 classes it has 134,489,759 parameters; the paper says 134 million.
pub fn fcn8s(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    Fcn8s { filters: 64, hidden: 4096 }.apply(x, classes)
}

/// An FCN-8s of other numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fcn8s {
    /// Filters of the first stage of VGG.
    pub filters: usize,
    /// Channels of the two convolutions that were VGG's fully connected layers.
    pub hidden: usize,
}

impl Fcn8s {
    /// Logits of every pixel.
    pub fn apply<'g>(&self, image: Tensor<'g>, classes: usize) -> Tensor<'g> {
        let mut x = image;
        let mut pooled = Vec::new();
        for (stage, (count, width)) in (1..).zip([(2, 1), (2, 2), (3, 4), (3, 8), (3, 8)]) {
            for i in 1..=count {
                // 100 more pixels around the image, so that the last windows of 7 × 7 fit whatever is small
                let padding = if (stage, i) == (1, 1) { 100 } else { 1 };
                let conv = Conv2d::new(self.filters * width, 3).padding(Padding::Each(padding));
                x = conv.apply(&format!("conv{stage}_{i}"), x).relu();
            }
            x = Pool::new(2).padding(Padding::Ceil(0)).max(x);
            pooled.push(x);
        }
        let x = Conv2d::new(self.hidden, 7).apply("fc6", x).relu();
        let x = Conv2d::new(self.hidden, 1).apply("fc7", x).relu();
        // Scores of coarse maps, made finer and added to those of finer maps. The offsets follow from the padding of 100.
        let score = |name, x| Conv2d::new(classes, 1).apply(name, x);
        let finer =
            |name, kernel, stride, x| ConvTranspose2d::new(classes, kernel).stride(stride).no_bias().apply(name, x);
        let x = finer("upscore2", 4, 2, score("score_fr", x));
        let x = finer("upscore_pool4", 4, 2, x + crop_to(x, score("score_pool4", pooled[3]), 5));
        let x = finer("upscore8", 16, 8, x + crop_to(x, score("score_pool3", pooled[2]), 9));
        crop_to(image, x, 31)
    }
}

/// The part of x from `offset` on, as high and wide as `like`.
fn crop_to<'g>(like: Tensor<'g>, x: Tensor<'g>, offset: usize) -> Tensor<'g> {
    match like.dims()[..] {
        [_, _, Dim::Fixed(height), Dim::Fixed(width)] => crop(x, (offset, offset), (height, width)),
        // something is wrong with it, and is reported where it was made
        _ => x,
    }
}
