//! The manifest of fetched models; see `tests/models/README.md` for its schema.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln::files::npz;
use kiln_ir::Tensor;
use serde::Deserialize;
use serde_json::Value as Json;

/// The folder of fetched models: `KILN_MODELS`, else `target/models` of the workspace.
pub fn folder() -> PathBuf {
    match std::env::var_os("KILN_MODELS") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/models"),
    }
}

/// A model with its cases.
#[derive(Clone, Debug, Deserialize)]
pub struct Model {
    /// Name, unique in the manifest.
    pub name: String,
    /// ONNX file, relative to the manifest.
    pub file: String,
    /// Largest allowed max |a − b| / max |b| of an output.
    #[serde(default = "default_tolerance")]
    pub tolerance: f64,
    /// What holds over all cases.
    #[serde(default)]
    pub expect: Json,
    /// Inputs, reference outputs and answers.
    #[serde(default)]
    pub cases: Vec<Case>,
    /// Inputs and outputs of a model of one case, in place of `cases`.
    #[serde(flatten)]
    pub only: Option<Arrays>,
    /// File of class names.
    pub labels: Option<String>,
    /// File of characters.
    pub dictionary: Option<String>,
}

/// f32 against f32 by another order of summation, over networks of up to 200 layers.
fn default_tolerance() -> f64 {
    1e-4
}

/// One run of a model.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    /// Name, unique in the model.
    pub name: String,
    /// Where the arrays are.
    #[serde(flatten)]
    pub arrays: Arrays,
    /// The picture the input was made of.
    pub image: Option<String>,
    /// The answer.
    #[serde(default)]
    pub expect: Json,
}

/// Inputs and reference outputs in a file.
#[derive(Clone, Debug, Deserialize)]
pub struct Arrays {
    /// The file.
    pub npz: String,
    /// Inputs in the model's order.
    pub inputs: Vec<Array>,
    /// Outputs in the model's order.
    pub outputs: Vec<Array>,
}

/// One array of a case.
#[derive(Clone, Debug, Deserialize)]
pub struct Array {
    /// Name in the model.
    pub name: String,
    /// Name in the `.npz`.
    pub array: String,
    /// Extents.
    pub shape: Vec<usize>,
}

#[derive(Deserialize)]
struct Manifest {
    models: Vec<Model>,
}

/// The models of `folder/manifest.json`; `None` where nothing was fetched.
pub fn manifest(folder: &Path) -> Option<Result<Vec<Model>, String>> {
    let path = folder.join("manifest.json");
    let text = std::fs::read_to_string(&path).ok()?;
    let parsed = serde_json::from_str::<Manifest>(&text).map_err(|e| format!("{}: {e}", path.display()));
    Some(parsed.map(|m| {
        let mut models = m.models;
        for model in &mut models {
            if let (true, Some(arrays)) = (model.cases.is_empty(), model.only.take()) {
                model.cases.push(Case { name: "reference".into(), arrays, image: None, expect: Json::Null });
            }
        }
        models
    }))
}

impl Arrays {
    /// The extents of every input, by name.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.inputs.iter().map(|a| (a.name.clone(), a.shape.clone())).collect()
    }

    /// Inputs and reference outputs, by name in the model.
    pub fn read(&self, folder: &Path) -> Result<(Named, Named), String> {
        let mut arrays = npz::read(&folder.join(&self.npz)).map_err(|e| e.to_string())?;
        let mut take = |list: &[Array]| {
            list.iter()
                .map(|a| {
                    let missing = || format!("{} has no array `{}`", self.npz, a.array);
                    Ok((a.name.clone(), arrays.remove(&a.array).ok_or_else(missing)?))
                })
                .collect::<Result<Named, String>>()
        };
        Ok((take(&self.inputs)?, take(&self.outputs)?))
    }
}

/// Tensors by name, in order.
pub type Named = Vec<(String, Tensor)>;

/// max |a − b| / max |b|; ∞ where dims or dtypes differ, or where one is NaN or infinite and the other is not the same.
pub fn relative_error(a: &Tensor, b: &Tensor) -> f64 {
    if a.dtype() != b.dtype() || a.dims() != b.dims() {
        return f64::INFINITY;
    }
    let (mut error, mut scale) = (0f64, 0f64);
    for (x, y) in a.to_f64_vec().into_iter().zip(b.to_f64_vec()) {
        if x.is_finite() && y.is_finite() {
            error = error.max((x - y).abs());
            scale = scale.max(y.abs());
        } else if x.to_bits() != y.to_bits() && !(x.is_nan() && y.is_nan()) {
            return f64::INFINITY;
        }
    }
    if error == 0.0 { 0.0 } else { error / scale }
}
