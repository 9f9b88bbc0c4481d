//! The model's inputs, and the extents they get.

use std::collections::{BTreeMap, BTreeSet};

use kiln_ir::DType;

use super::ImportOptions;
use super::error::Problem;
use super::proto::{DimensionValue, GraphProto, TensorTypeProto, TypeValue, ValueInfoProto};
use super::tensor::dtype_of;

/// An input whose extents are all known.
pub(super) struct Input {
    pub name: String,
    pub dtype: DType,
    pub dims: Vec<usize>,
}

/// An extent as the model states it.
enum Extent<'a> {
    Fixed(usize),
    Symbol(&'a str),
    Unknown,
}

struct Declared<'a> {
    name: &'a str,
    dtype: DType,
    /// `None` where even the rank is unknown.
    extents: Option<Vec<Extent<'a>>>,
}

/// The inputs that are fed, in the model's order. An initializer of an input's name is its value: such
/// an input is a constant, not fed.
pub(super) fn inputs(graph: &GraphProto, options: &ImportOptions, problems: &mut Vec<Problem>) -> Vec<Input> {
    let constants: BTreeSet<&str> = graph.initializer.iter().filter_map(|t| t.name.as_deref()).collect();
    let declared: Vec<Declared<'_>> = graph
        .input
        .iter()
        .filter(|i| !constants.contains(i.name.as_deref().unwrap_or_default()))
        .filter_map(|i| declare(i).map_err(|p| problems.push(Problem::Signature(p))).ok())
        .collect();
    let bound = bind(&declared, options, problems);
    declared.iter().filter_map(|d| resolve(d, options, &bound, problems)).collect()
}

fn declare(input: &ValueInfoProto) -> Result<Declared<'_>, String> {
    let name = input.name.as_deref().unwrap_or_default();
    if name.is_empty() {
        return Err("an input has no name".to_owned());
    }
    let tensor: &TensorTypeProto = match input.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(TypeValue::Tensor(tensor)) => tensor,
        Some(TypeValue::Sequence(_)) => {
            return Err(format!("input `{name}` is a sequence: only tensors are supported"));
        }
        Some(TypeValue::Map(_)) => return Err(format!("input `{name}` is a map: only tensors are supported")),
        Some(TypeValue::SparseTensor(_)) => {
            return Err(format!("input `{name}` is sparse: only dense tensors are supported"));
        }
        Some(TypeValue::Optional(_)) => return Err(format!("input `{name}` is optional: only tensors are supported")),
        None => return Err(format!("input `{name}` has no type")),
    };
    let dtype = dtype_of(tensor.elem_type.unwrap_or_default())
        .map_err(|found| format!("input `{name}`: element type {found} is not supported"))?;
    let extents = match &tensor.shape {
        None => None,
        Some(shape) => Some(
            shape
                .dim
                .iter()
                .map(|d| match &d.value {
                    // A question mark is no name: two of them need not be equal.
                    Some(DimensionValue::Param(s)) if !s.is_empty() && s != "?" => Ok(Extent::Symbol(s)),
                    // Some exporters write −1 or 0 for an extent that they do not know.
                    Some(DimensionValue::Value(-1 | 0)) | Some(DimensionValue::Param(_)) | None => Ok(Extent::Unknown),
                    Some(DimensionValue::Value(v)) => usize::try_from(*v)
                        .map(Extent::Fixed)
                        .map_err(|_| format!("input `{name}` has an extent of {v}")),
                })
                .collect::<Result<Vec<_>, String>>()?,
        ),
    };
    Ok(Declared { name, dtype, extents })
}

/// What every symbol is bound to: by name, or by the whole shape of an input that has it.
fn bind(declared: &[Declared<'_>], options: &ImportOptions, problems: &mut Vec<Problem>) -> BTreeMap<String, usize> {
    let names = || declared.iter().map(|d| format!("`{}`", d.name)).collect::<Vec<_>>().join(", ");
    for name in options.shapes.keys() {
        if !declared.iter().any(|d| d.name == name) {
            problems.push(Problem::Option(format!("a shape is given for `{name}`, but the inputs are {}", names())));
        }
    }
    let symbols: BTreeSet<&str> = declared
        .iter()
        .flat_map(|d| d.extents.iter().flatten())
        .filter_map(|e| if let Extent::Symbol(s) = e { Some(*s) } else { None })
        .collect();
    let mut bound = BTreeMap::new();
    for (symbol, &extent) in &options.dims {
        if symbols.contains(symbol.as_str()) {
            bound.insert(symbol.clone(), extent);
        } else {
            let known: Vec<String> = symbols.iter().map(|s| format!("`{s}`")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            problems
                .push(Problem::Option(format!("dim `{symbol}` is bound, but the inputs' symbolic dims are: {known}")));
        }
    }
    for d in declared {
        let (Some(shape), Some(extents)) = (options.shapes.get(d.name), &d.extents) else { continue };
        for (extent, &given) in extents.iter().zip(shape) {
            if let Extent::Symbol(s) = extent {
                let first = *bound.entry((*s).to_owned()).or_insert(given);
                if first != given {
                    problems.push(Problem::Option(format!(
                        "dim `{s}` would be both {first} and {given} (in the shape given for `{}`)",
                        d.name
                    )));
                }
            }
        }
    }
    bound
}

fn resolve(
    d: &Declared<'_>,
    options: &ImportOptions,
    bound: &BTreeMap<String, usize>,
    problems: &mut Vec<Problem>,
) -> Option<Input> {
    let given = options.shapes.get(d.name);
    let Some(extents) = &d.extents else {
        if given.is_none() {
            problems.push(Problem::Signature(format!(
                "input `{0}` has no shape in the model; give it with `--shape {0}=…`",
                d.name
            )));
        }
        return given.map(|dims| Input { name: d.name.to_owned(), dtype: d.dtype, dims: dims.clone() });
    };
    if let Some(given) = given
        && given.len() != extents.len()
    {
        problems.push(Problem::Option(format!(
            "input `{}` has rank {}, but the shape given is {given:?}",
            d.name,
            extents.len()
        )));
        return None;
    }
    let mut dims = Vec::with_capacity(extents.len());
    for (axis, extent) in extents.iter().enumerate() {
        let stated = given.and_then(|g| g.get(axis)).copied();
        match (extent, stated) {
            (Extent::Fixed(n), Some(s)) if s != *n => problems.push(Problem::Option(format!(
                "input `{}`, axis {axis}: the model fixes the extent at {n}, but the shape given is {:?}",
                d.name,
                given.map(Vec::as_slice).unwrap_or_default()
            ))),
            (Extent::Fixed(n), _) => dims.push(*n),
            (_, Some(s)) => dims.push(s),
            (Extent::Symbol(s), None) => match bound.get(*s) {
                Some(&n) => dims.push(n),
                None => {
                    problems.push(Problem::UnboundDim { input: d.name.to_owned(), axis, symbol: Some((*s).to_owned()) })
                }
            },
            (Extent::Unknown, None) => {
                problems.push(Problem::UnboundDim { input: d.name.to_owned(), axis, symbol: None });
            }
        }
    }
    (dims.len() == extents.len()).then(|| Input { name: d.name.to_owned(), dtype: d.dtype, dims })
}
