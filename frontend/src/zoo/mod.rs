//! Classic networks in the [DSL](crate::dsl): to use, and to learn it from.
//!
//! Each model is a function from a batch of images to logits, in the file of its family. Variables have the names of the
//! implementation that publishes weights (torchvision's, where there is one), so that its safetensors load by name with
//! [`weights::load`](crate::weights::load). Networks are built for inference: batch normalisation uses stored statistics, and dropout,
//! which does nothing then, is left out.
//!
//! ```
//! use kiln::prelude::*;
//! use kiln::zoo;
//!
//! // A whole network, by name:
//! let resnet = zoo::model("resnet18").ok_or("a model of the zoo")?;
//! let graph = resnet.graph(&zoo::Images { batch: "batch".into(), size: (64, 64), classes: 10 })?;
//!
//! // or as a function, part of a larger graph:
//! let scope = Scope::new("two_heads");
//! let image = scope.placeholder::<f32>("image", dims!["batch", 3, 64, 64]);
//! let [digit, colour] = ["digit", "colour"].map(|head| image.within(head, |x| zoo::squeezenet::squeezenet1_1(x, 10)));
//! scope.output("digit", digit.softmax(-1));
//! scope.output("colour", colour.softmax(-1));
//! # scope.finish()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod alexnet;
pub mod bert;
pub mod densenet;
pub mod fcn;
pub mod fractalnet;
pub mod googlenet;
pub mod lenet;
pub mod mobilenet;
pub mod nin;
pub mod preact_resnet;
pub mod resnet;
pub mod squeezenet;
mod table;
pub mod unet;
pub mod vgg;
pub mod zfnet;

pub use table::{MODELS, Model, model, parameters, summary};

use kiln_ir::Dim;

use crate::dsl::Tensor;
use crate::dsl::layers::{Conv2d, batch_norm};

/// What a network is built for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Images at a time: a number, or the name of a symbolic dim.
    pub batch: Dim,
    /// Height and width of an image.
    pub size: (usize, usize),
    /// Classes told apart.
    pub classes: usize,
}

/// A convolution without bias and the batch normalisation behind it, each under its name.
#[track_caller]
fn conv_norm<'g>(layer: Conv2d, conv: &str, norm: &str, x: Tensor<'g>) -> Tensor<'g> {
    batch_norm(norm, layer.no_bias().apply(conv, x), 1e-5)
}

/// Channels of [N, C, …]; 0 where something was wrong with x, which then is reported.
fn channels(x: Tensor<'_>) -> usize {
    x.dims().get(1).and_then(Dim::fixed).unwrap_or(0)
}
