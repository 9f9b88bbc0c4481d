//! What the zoo has, and its sizes.

use std::fmt::Write;

use kiln_ir::cost::multiply_accumulates;
use kiln_ir::{BuildErrors, Dim, Graph};

use super::{
    Images, alexnet, bert::Bert, densenet, fcn, fractalnet, googlenet, lenet, mobilenet, nin, preact_resnet, resnet,
    squeezenet, unet, vgg, zfnet,
};
use crate::dsl::{Scope, Tensor};

/// A network that takes images.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// Its name.
    pub name: &'static str,
    /// Who described it, and when.
    pub paper: &'static str,
    /// Channels, height and width of the images it was described for.
    pub image: [usize; 3],
    /// The classes it was described for.
    pub classes: usize,
    /// Images [N, C, H, W] to logits of so many classes.
    pub build: for<'g> fn(Tensor<'g>, usize) -> Tensor<'g>,
}

impl Model {
    /// What it was described for, any number of images at a time (the symbolic dim `batch`).
    pub fn images(&self) -> Images {
        Images { batch: "batch".into(), size: (self.image[1], self.image[2]), classes: self.classes }
    }

    /// The network: `image` [batch, C, H, W] to `logits`. What is wrong with the extents is said of the layers that they do not fit.
    pub fn graph(&self, images: &Images) -> Result<Graph, BuildErrors> {
        let scope = Scope::new(self.name);
        let (height, width) = images.size;
        let dims = [images.batch.clone(), self.image[0].into(), height.into(), width.into()];
        let x = scope.placeholder::<f32>("image", dims);
        scope.output("logits", (self.build)(x, images.classes));
        scope.finish()
    }
}

/// Every network that takes images.
pub const MODELS: &[Model] = &[
    Model { name: "lenet5", paper: "LeCun et al. 1998", image: [1, 28, 28], classes: 10, build: lenet::lenet5 },
    imagenet("alexnet", "Krizhevsky 2014", alexnet::alexnet),
    imagenet("zfnet", "Zeiler & Fergus 2013", zfnet::zfnet),
    cifar("nin_cifar10", "Lin et al. 2013", nin::nin_cifar10),
    imagenet("nin_imagenet", "Lin et al. 2013", nin::nin_imagenet),
    imagenet("vgg16", "Simonyan & Zisserman 2014", vgg::vgg16),
    imagenet("vgg19", "Simonyan & Zisserman 2014", vgg::vgg19),
    imagenet("googlenet", "Szegedy et al. 2014", googlenet::googlenet),
    imagenet("resnet18", "He et al. 2015", resnet::resnet18),
    imagenet("resnet34", "He et al. 2015", resnet::resnet34),
    imagenet("resnet50", "He et al. 2015", resnet::resnet50),
    imagenet("resnet101", "He et al. 2015", resnet::resnet101),
    imagenet("resnet152", "He et al. 2015", resnet::resnet152),
    cifar("preact_resnet164", "He et al. 2016", preact_resnet::preact_resnet164),
    cifar("preact_resnet1001", "He et al. 2016", preact_resnet::preact_resnet1001),
    imagenet("preact_resnet50", "He et al. 2016", preact_resnet::preact_resnet50),
    imagenet("wide_resnet50_2", "Zagoruyko & Komodakis 2016", resnet::wide_resnet50_2),
    imagenet("resnext50_32x4d", "Xie et al. 2016", resnet::resnext50_32x4d),
    imagenet("densenet121", "Huang et al. 2016", densenet::densenet121),
    imagenet("squeezenet1_0", "Iandola et al. 2016", squeezenet::squeezenet1_0),
    imagenet("squeezenet1_1", "Iandola et al. 2016", squeezenet::squeezenet1_1),
    cifar("fractalnet20", "Larsson et al. 2016", fractalnet::fractalnet20),
    imagenet("mobilenet_v2", "Sandler et al. 2018", mobilenet::mobilenet_v2),
    Model { name: "unet", paper: "Ronneberger et al. 2015", image: [1, 572, 572], classes: 2, build: unet::unet },
    Model {
        name: "unet_padded",
        paper: "Ronneberger et al. 2015",
        image: [3, 512, 512],
        classes: 2,
        build: unet::unet_padded,
    },
    Model { name: "fcn8s", paper: "Long et al. 2014", image: [3, 500, 500], classes: 21, build: fcn::fcn8s },
];

const fn imagenet(
    name: &'static str,
    paper: &'static str,
    build: for<'g> fn(Tensor<'g>, usize) -> Tensor<'g>,
) -> Model {
    Model { name, paper, image: [3, 224, 224], classes: 1000, build }
}

const fn cifar(name: &'static str, paper: &'static str, build: for<'g> fn(Tensor<'g>, usize) -> Tensor<'g>) -> Model {
    Model { name, paper, image: [3, 32, 32], classes: 10, build }
}

/// The model of this name.
pub fn model(name: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| model.name == name)
}

/// What training fits: the elements of all variables but the statistics that batch normalisation keeps.
pub fn parameters(graph: &Graph) -> usize {
    let fitted =
        graph.variables().iter().filter(|v| !v.name.ends_with(".running_mean") && !v.name.ends_with(".running_var"));
    fitted.filter_map(|v| v.ty.element_count()).sum()
}

/// `docs/zoo.md`'s table: every model with its size for one input.
pub fn summary() -> Result<String, BuildErrors> {
    let mut table =
        String::from("| model | input | parameters | multiply-accumulates | paper |\n|---|---|---:|---:|---|\n");
    let mut row = |name: &str, input: &str, graph: &Graph, paper: &str| {
        let macs = multiply_accumulates(graph).map_or_else(String::new, |n| grouped(n as usize));
        let _ = writeln!(table, "| {name} | {input} | {} | {macs} | {paper} |", grouped(parameters(graph)));
    };
    for model in MODELS {
        let graph = model.graph(&Images { batch: Dim::Fixed(1), ..model.images() })?;
        let [c, h, w] = model.image;
        row(model.name, &format!("{c} × {h} × {w}"), &graph, model.paper);
    }
    row("bert base", "128 tokens", &Bert::base().graph(1, 128)?, "Devlin et al. 2018");
    Ok(table)
}

/// 1234567 as `1,234,567`.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
