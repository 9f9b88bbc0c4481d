//! Fits the last layer of the digits network in closed form and writes `assets/digits.safetensors`.
//!
//! Needs the digits, `mnist.npz`, which `tests/models/fetch.py --only mnist` fetches:
//!
//! ```text
//! KILN_MODELS=target/models cargo run --release --example fit_digits
//! ```
//!
//! The features come from the compiled fixed part of the network; the rest is ridge regression (Hoerl and Kennard
//! 1970) in doubles. `assets/README.md` gives every formula.

use std::error::Error;
use std::path::{Path, PathBuf};

use kiln::compile::{CompileOptions, compile};
use kiln::digits::{self, FEATURES};
use kiln::files::npz;
use kiln::files::safetensors::{self, Contents};
use kiln_ir::Tensor;
use kiln_runtime::{Executor, PoolHandle};
use ndarray::{Array1, Array2, ArrayView2, Axis, s};

/// Images that the features are computed for at once.
const BATCH: usize = 100;
/// Strength of the ridge penalty, as a multiple of the features' mean variance.
const RIDGE: f64 = 100.0;
/// Held-out digits that must be read right.
const TARGET: f64 = 0.97;

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let models = std::env::var_os("KILN_MODELS").map_or_else(|| PathBuf::from("target/models"), PathBuf::from);
    let digits = Digits::read(&models.join("mnist.npz"))?;
    let features = features(&digits.images)?;
    let (train, held_out) = digits.split();
    println!("{} digits to fit, {} held out", train.len(), held_out.len());

    let fit = Fit::new(features.select(Axis(0), &train), &digits.labels_of(&train))?;
    // Judged as it will be used: with weights rounded to f32.
    let fit = fit.rounded();
    let accuracy = |rows: &[usize]| fit.accuracy(&features.select(Axis(0), rows), &digits.labels_of(rows));
    println!("read right: {:.2} % of the fitted digits", 100.0 * accuracy(&train));
    let held_out_accuracy = accuracy(&held_out);
    println!("read right: {:.2} % of the held-out digits", 100.0 * held_out_accuracy);
    if held_out_accuracy < TARGET {
        return Err(format!("fewer than {} % of the held-out digits are read right", 100.0 * TARGET).into());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/digits.safetensors");
    fit.write(&path)?;
    println!("wrote {}", path.display());
    Ok(())
}

/// The data set: digits sorted by class.
struct Digits {
    /// Pixels, 28 × 28 each.
    images: Vec<u8>,
    labels: Vec<u8>,
}

impl Digits {
    fn read(path: &Path) -> Result<Digits, Failure> {
        let mut arrays = npz::read(path).map_err(|e| {
            format!("{e}; fetch it with `python3 tests/models/fetch.py --only mnist` and set KILN_MODELS")
        })?;
        let mut array =
            |name: &str| arrays.remove(name).ok_or_else(|| format!("{} has no array {name}", path.display()));
        let (images, labels) = (array("images")?, array("labels")?);
        if images.dims() != [labels.len(), 28, 28] {
            return Err(format!("expected images [{}, 28, 28], found {:?}", labels.len(), images.dims()).into());
        }
        Ok(Digits { images: images.to_vec()?, labels: labels.to_vec()? })
    }

    /// Positions of the digits to fit and of those held out: the fifth of every five of a class.
    fn split(&self) -> (Vec<usize>, Vec<usize>) {
        let mut seen = [0usize; 256];
        (0..self.labels.len()).partition(|&i| {
            let count = &mut seen[usize::from(self.labels[i])];
            *count += 1;
            !count.is_multiple_of(5)
        })
    }

    fn labels_of(&self, rows: &[usize]) -> Vec<usize> {
        rows.iter().map(|&i| usize::from(self.labels[i])).collect()
    }
}

/// The features of every image, one row each.
fn features(images: &[u8]) -> Result<Array2<f64>, Failure> {
    let compiled = compile(&digits::feature_graph()?, &CompileOptions::default().dim("batch", BATCH))?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut executor = Executor::new(compiled.executable()?, PoolHandle::new(threads))?;
    let mut features = Array2::zeros((images.len() / (28 * 28), FEATURES));
    for (batch, mut rows) in images.chunks(BATCH * 28 * 28).zip(features.axis_chunks_iter_mut(Axis(0), BATCH)) {
        let mut pixels: Vec<f32> = batch.iter().map(|&p| f32::from(p) / 255.0).collect();
        pixels.resize(BATCH * 28 * 28, 0.0);
        let results = executor.run_named(&[("image", &Tensor::from_slice(&[BATCH, 1, 28, 28], &pixels)?)])?;
        let values = results.first().ok_or("the feature graph has no output")?.1.to_f64_vec();
        let values = ArrayView2::from_shape((BATCH, FEATURES), &values)?;
        let n = rows.nrows();
        rows.assign(&values.slice(s![..n, ..]));
    }
    Ok(features)
}

/// A fitted last layer.
struct Fit {
    /// [features, 10]
    weight: Array2<f64>,
    /// \[10\]
    bias: Array1<f64>,
}

impl Fit {
    /// Ridge regression of one-hot labels on centred features.
    fn new(mut features: Array2<f64>, labels: &[usize]) -> Result<Fit, Failure> {
        let mean = features.mean_axis(Axis(0)).ok_or("there are no digits to fit")?;
        features -= &mean;
        let mut targets = Array2::zeros((labels.len(), 10));
        for (mut row, &label) in targets.rows_mut().into_iter().zip(labels) {
            *row.get_mut(label).ok_or("a label is above 9")? = 1.0;
        }
        let mean_target = targets.mean_axis(Axis(0)).ok_or("there are no digits to fit")?;
        targets -= &mean_target;

        let mut gram = features.t().dot(&features);
        // The trace is the sum of the features' squared deviations.
        let variance = gram.diag().sum() / (features.nrows() * FEATURES) as f64;
        gram.diag_mut().map_inplace(|d| *d += RIDGE * variance);
        let mut weight = features.t().dot(&targets);
        solve(&mut gram, &mut weight)?;
        let bias = mean_target - mean.dot(&weight);
        Ok(Fit { weight, bias })
    }

    /// The same in the precision that is stored.
    fn rounded(self) -> Fit {
        let round = |v: f64| f64::from(v as f32);
        Fit { weight: self.weight.mapv(round), bias: self.bias.mapv(round) }
    }

    /// The part of the digits whose best score is their label's.
    fn accuracy(&self, features: &Array2<f64>, labels: &[usize]) -> f64 {
        let scores = features.dot(&self.weight) + &self.bias;
        let best = |row: ndarray::ArrayView1<f64>| {
            row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(digit, _)| digit)
        };
        let right = scores.rows().into_iter().zip(labels).filter(|(row, label)| best(row.view()) == **label).count();
        right as f64 / labels.len().max(1) as f64
    }

    fn write(&self, path: &Path) -> Result<(), Failure> {
        let mut contents = Contents::default();
        let tensor = |dims: &[usize], values: &mut dyn Iterator<Item = &f64>| {
            Tensor::from_slice(dims, &values.map(|&v| v as f32).collect::<Vec<_>>())
        };
        // The layer's weight is [out, in].
        contents.tensors.insert("head.weight".into(), tensor(&[10, FEATURES], &mut self.weight.t().iter())?);
        contents.tensors.insert("head.bias".into(), tensor(&[10], &mut self.bias.iter())?);
        Ok(safetensors::write(path, &contents)?)
    }
}

/// Solves `a x = b` for a symmetric positive definite `a`, by Cholesky factors (Golub and Van Loan, algorithm 4.2.2);
/// `a` is overwritten by its factor and `b` by `x`.
fn solve(a: &mut Array2<f64>, b: &mut Array2<f64>) -> Result<(), Failure> {
    let n = a.nrows();
    for i in 0..n {
        for j in 0..=i {
            let rest = a[[i, j]] - a.slice(s![i, ..j]).dot(&a.slice(s![j, ..j]));
            if i > j {
                a[[i, j]] = rest / a[[j, j]];
            } else if rest > 0.0 {
                a[[i, i]] = rest.sqrt();
            } else {
                return Err(format!("the features are linearly dependent (pivot {i} is {rest})").into());
            }
        }
    }
    for i in 0..n {
        let known = a.slice(s![i, ..i]).dot(&b.slice(s![..i, ..]));
        let row = (&b.row(i) - &known) / a[[i, i]];
        b.row_mut(i).assign(&row);
    }
    for i in (0..n).rev() {
        let known = a.slice(s![i + 1.., i]).dot(&b.slice(s![i + 1.., ..]));
        let row = (&b.row(i) - &known) / a[[i, i]];
        b.row_mut(i).assign(&row);
    }
    Ok(())
}
