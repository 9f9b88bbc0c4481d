//! U-Net: Ronneberger, Fischer & Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015. Names are those of
//! the widespread implementation `milesial/Pytorch-UNet`.

use kiln_ir::Dim;

use super::conv_norm;
use crate::dsl::layers::{Conv2d, ConvTranspose2d, Padding, Pool, crop};
use crate::dsl::{Tensor, concat};

/// The paper's figure 1: images [N, 1, 572, 572] to logits [N, classes, 388, 388], 31,030,658 parameters for two classes.
pub fn unet(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    UNet { filters: 64, levels: 5, padded: false }.apply(x, classes)
}

/// As implementations have it, with padding and batch normalisation: images [N, 3, H, W], H and W multiples of 16, to logits
/// [N, classes, H, W]; 31,037,698 parameters for two classes.
pub fn unet_padded(x: Tensor<'_>, classes: usize) -> Tensor<'_> {
    UNet { filters: 64, levels: 5, padded: true }.apply(x, classes)
}

/// A U-Net of other numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UNet {
    /// Filters at full resolution; twice as many in each level below.
    pub filters: usize,
    /// Resolutions.
    pub levels: usize,
    /// Whether convolutions keep an image's extents, and batch normalisation follows them.
    pub padded: bool,
}

impl UNet {
    /// Logits of every pixel.
    pub fn apply<'g>(&self, x: Tensor<'g>, classes: usize) -> Tensor<'g> {
        let depth = self.levels.saturating_sub(1);
        let mut x = x.within("inc.double_conv", |x| self.double_conv(x, self.filters));
        let mut skipped = Vec::new();
        for level in 1..=depth {
            skipped.push(x);
            let name = format!("down{level}.maxpool_conv.1.double_conv");
            x = Pool::new(2).max(x).within(&name, |x| self.double_conv(x, self.filters << level));
        }
        for (i, skip) in (1..).zip(skipped.into_iter().rev()) {
            x = x.within(&format!("up{i}"), |x| self.up(x, skip, self.filters << (depth - i)));
        }
        Conv2d::new(classes, 1).apply("outc.conv", x)
    }

    fn double_conv<'g>(&self, x: Tensor<'g>, filters: usize) -> Tensor<'g> {
        if self.padded {
            let conv = Conv2d::new(filters, 3).padding(Padding::Each(1));
            let x = conv_norm(conv.clone(), "0", "1", x).relu();
            return conv_norm(conv, "3", "4", x).relu();
        }
        let conv = Conv2d::new(filters, 3);
        conv.apply("2", conv.apply("0", x).relu()).relu()
    }

    /// Twice the resolution, beside the middle of what had it before.
    fn up<'g>(&self, x: Tensor<'g>, skip: Tensor<'g>, filters: usize) -> Tensor<'g> {
        let x = ConvTranspose2d::new(filters, 2).stride(2).apply("up", x);
        concat(x.scope(), &[middle(skip, x), x], 1).within("conv.double_conv", |x| self.double_conv(x, filters))
    }
}

/// The middle of x, as high and wide as `like`.
fn middle<'g>(x: Tensor<'g>, like: Tensor<'g>) -> Tensor<'g> {
    let extent = |t: Tensor<'_>, axis: usize| t.dims().get(axis).and_then(Dim::fixed);
    let margin = |axis| Some((extent(x, axis)?.saturating_sub(extent(like, axis)?) / 2, extent(like, axis)?));
    match (margin(2), margin(3)) {
        (Some((top, height)), Some((left, width))) => crop(x, (top, left), (height, width)),
        // something is wrong with one of them, and is reported where it was made
        _ => x,
    }
}
