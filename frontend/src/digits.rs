//! The embedded model: a small network that reads handwritten digits.
//!
//! Its convolutions are fixed (Gabor filters, then random ones); only the last layer is fitted, in closed form
//! (ridge regression), by `examples/fit_digits.rs`. `assets/README.md` gives every number.

use std::f64::consts::PI;
use std::path::Path;

use bytes::Bytes;
use kiln_ir::{BuildErrors, Element, Graph, Initializer, Tensor as TensorData, TensorError, random};

use crate::dims;
use crate::dsl::layers::{Conv2d, Padding, Pool, dense, flatten};
use crate::dsl::{Scope, Tensor};
use crate::files::{FileError, safetensors};

/// Features that the last layer sees: 64 channels of 7 × 7.
pub const FEATURES: usize = 64 * 7 * 7;

/// Weights of the last layer, as the program that fits them wrote them.
static HEAD: &[u8] = include_bytes!("../assets/digits.safetensors");

/// Thirty held-out digits, 28 × 28 each: column d of three rows holds samples of digit d.
static SAMPLES: &[u8] = include_bytes!("../assets/digits.png");

/// The 16 filters of the first layer, [16, 1, 5, 5]: four orientations of four phases of a Gabor function (Gabor
/// 1946; Daugman 1985), of mean 0 and length 1.
pub fn gabor_filters() -> Vec<f32> {
    let mut filters = Vec::with_capacity(16 * 25);
    for (t, p) in (0..16).map(|i| (f64::from(i / 4), f64::from(i % 4))) {
        let (theta, phase) = (PI * t / 4.0, PI * p / 2.0);
        let grid = (0..25).map(|i| (f64::from(i % 5) - 2.0, f64::from(i / 5) - 2.0));
        let mut filter: Vec<f64> = grid
            .map(|(x, y)| {
                let (u, v) = (x * theta.cos() + y * theta.sin(), y * theta.cos() - x * theta.sin());
                (-(u * u + v * v) / (2.0 * 1.5 * 1.5)).exp() * (2.0 * PI * 0.2 * u + phase).cos()
            })
            .collect();
        centre(&mut filter);
        normalise(&mut filter);
        filters.extend(filter.iter().map(|&v| v as f32));
    }
    filters
}

/// The 64 filters of the second layer, [64, 16, 5, 5]: random, each 5 × 5 slice of mean 0, each filter of length 1.
pub fn random_filters() -> Vec<f32> {
    let mut values: Vec<f64> = random::uniform(1, 64 * 16 * 25).map(|u| 2.0 * u - 1.0).collect();
    values.chunks_exact_mut(25).for_each(centre);
    values.chunks_exact_mut(16 * 25).for_each(normalise);
    values.iter().map(|&v| v as f32).collect()
}

fn centre(values: &mut [f64]) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter_mut().for_each(|v| *v -= mean);
}

fn normalise(values: &mut [f64]) {
    let length = values.iter().map(|v| v * v).sum::<f64>().sqrt();
    values.iter_mut().for_each(|v| *v /= length);
}

/// What kept the embedded model from being made: its files are damaged.
#[derive(Debug, thiserror::Error)]
pub enum DigitsError {
    /// The weights cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A tensor is missing, or of another shape.
    #[error(
        "the digits network needs `{name}` of dims {expected:?} in its weights: fit it again with `cargo run --release --example fit_digits`"
    )]
    Weight {
        /// Its name.
        name: &'static str,
        /// Its dims.
        expected: Vec<usize>,
    },
    /// A tensor cannot be made.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The graph is not well formed.
    #[error(transparent)]
    Build(#[from] BuildErrors),
    /// The sample image cannot be read.
    #[error("the embedded digits: {0}")]
    Samples(String),
}

/// The fixed part: images [batch, 1, 28, 28] to [batch, [`FEATURES`]].
fn fixed(x: Tensor<'_>) -> Tensor<'_> {
    let conv = |filters: usize| Conv2d::new(filters, 5).padding(Padding::Each(2)).no_bias();
    let x = Pool::new(2).max(conv(16).apply("conv1", x).relu());
    let x = Pool::new(2).avg(conv(64).apply("conv2", x).relu());
    flatten(x)
}

/// Ends `scope` and gives the convolutions their filters.
fn finish(scope: Scope) -> Result<Graph, DigitsError> {
    let mut graph = scope.finish()?;
    for (name, dims, values) in
        [("conv1.weight", [16, 1, 5, 5], gabor_filters()), ("conv2.weight", [64, 16, 5, 5], random_filters())]
    {
        set(&mut graph, name, TensorData::from_slice(&dims, &values)?)?;
    }
    Ok(graph)
}

fn set(graph: &mut Graph, name: &'static str, value: TensorData) -> Result<(), DigitsError> {
    let expected = value.dims().to_vec();
    graph.set_initializer(name, Initializer::Value(value.into())).map_err(|_| DigitsError::Weight { name, expected })
}

/// The graph that gives the features of `image` [batch, 1, 28, 28] (pixels in 0..1) as `features`
/// [batch, [`FEATURES`]]; what the last layer is fitted on.
pub fn feature_graph() -> Result<Graph, DigitsError> {
    let scope = Scope::new("digit_features");
    let x = scope.placeholder::<f32>("image", dims!["batch", 1, 28, 28]);
    scope.output("features", fixed(x));
    finish(scope)
}

/// The graph that reads digits: `image` [batch, 1, 28, 28] (pixels in 0..1) to `scores` [batch, 10]: a digit's score
/// is near 1 where the network sees it and near 0 elsewhere.
pub fn graph() -> Result<Graph, DigitsError> {
    let scope = Scope::new("digits");
    let x = scope.placeholder::<f32>("image", dims!["batch", 1, 28, 28]);
    scope.output("scores", dense("head", fixed(x), 10));
    let mut graph = finish(scope)?;
    let mut tensors = safetensors::decode(&Bytes::from_static(HEAD), Path::new("assets/digits.safetensors"))?.tensors;
    for (name, expected) in [("head.weight", vec![10, FEATURES]), ("head.bias", vec![10])] {
        match tensors.remove(name) {
            Some(t) if t.dtype() == f32::DTYPE && t.dims() == expected => set(&mut graph, name, t)?,
            _ => return Err(DigitsError::Weight { name, expected }),
        }
    }
    Ok(graph)
}

/// A handwritten digit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Which digit it is.
    pub digit: u8,
    /// 28 rows of 28 grey values, 0 (background) to 255.
    pub pixels: Vec<u8>,
}

impl Sample {
    /// The network's input: [1, 1, 28, 28] in 0..1.
    pub fn tensor(&self) -> Result<TensorData, TensorError> {
        let values: Vec<f32> = self.pixels.iter().map(|&p| f32::from(p) / 255.0).collect();
        TensorData::from_slice(&[1, 1, 28, 28], &values)
    }
}

/// The embedded held-out digits, in the order 0, 1, … 9, three rounds of them.
pub fn samples() -> Result<Vec<Sample>, DigitsError> {
    let image = image::load_from_memory(SAMPLES).map_err(|e| DigitsError::Samples(e.to_string()))?.into_luma8();
    if image.dimensions() != (280, 84) {
        return Err(DigitsError::Samples(format!("expected 280 × 84 pixels, found {:?}", image.dimensions())));
    }
    let tile = |row: u32, digit: u8| {
        let view = image::imageops::crop_imm(&image, u32::from(digit) * 28, row * 28, 28, 28).to_image();
        Sample { digit, pixels: view.into_raw() }
    };
    Ok((0..3).flat_map(|row| (0..10).map(move |digit| (row, digit))).map(|(row, digit)| tile(row, digit)).collect())
}
