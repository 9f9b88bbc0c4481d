//! The model's inputs, and the extents they get.

use std::collections::{BTreeMap, BTreeSet};

use kiln_ir::DType;

use super::ImportOptions;
use super::error::Problem;
use super::narrow::NarrowType;
use super::proto::{DimensionValue, GraphProto, TensorTypeProto, TypeValue, ValueInfoProto};
use super::tensor::dtype_of;

/// An input of the graph, whose extents are all known.
pub(super) struct TensorInput {
    pub name: String,
    pub dtype: DType,
    pub dims: Vec<usize>,
}

/// An input of the model.
pub(super) struct Input {
    pub name: String,
    pub value: InputValue,
}

/// What an input of the model is.
pub(super) enum InputValue {
    Tensor(TensorInput),
    /// A tensor of a type that no dtype of Kiln is, fed in the one that holds it.
    Narrow(NarrowType, TensorInput),
    /// One tensor for each element.
    Sequence {
        dtype: DType,
        elements: Vec<TensorInput>,
    },
    /// An optional without an element.
    Absent,
}

/// Most elements of an input that is a sequence.
const MOST_ELEMENTS: usize = 1 << 12;

/// What the graph's input for an element of a sequence is called, and its output.
pub(super) fn element_name(sequence: &str, place: usize) -> String {
    format!("{sequence}.{place}")
}

/// An extent as the model states it.
#[derive(Clone)]
enum Extent<'a> {
    Fixed(usize),
    Symbol(&'a str),
    Unknown,
}

/// A tensor that an input of the model is, or holds.
#[derive(Clone)]
struct Declared<'a> {
    name: String,
    /// Of a sequence, whose elements need not have equal extents: its shape binds no symbol.
    element: bool,
    dtype: DType,
    /// `None` where even the rank is unknown.
    extents: Option<Vec<Extent<'a>>>,
}

/// The inputs that are fed, in the model's order. An initializer of an input's name is its value: such
/// an input is a constant, not fed.
pub(super) fn inputs(graph: &GraphProto, options: &ImportOptions, problems: &mut Vec<Problem>) -> Vec<Input> {
    let constants: BTreeSet<&str> = graph.initializer.iter().filter_map(|t| t.name.as_deref()).collect();
    let fed: Vec<&ValueInfoProto> =
        graph.input.iter().filter(|i| !constants.contains(i.name.as_deref().unwrap_or_default())).collect();
    check_options(&fed, options, problems);
    // Of each input, the tensors that it is or holds.
    let declared: Vec<(&str, Kind, Vec<Declared<'_>>)> = fed
        .iter()
        .filter_map(|input| declare(input, options).map_err(|p| problems.push(Problem::Signature(p))).ok())
        .collect();
    let tensors: Vec<&Declared<'_>> = declared.iter().flat_map(|(_, _, tensors)| tensors).collect();
    let bound = bind(&tensors, options, problems);
    let mut inputs = Vec::with_capacity(declared.len());
    for (name, kind, tensors) in &declared {
        let mut resolved: Vec<TensorInput> =
            tensors.iter().filter_map(|d| resolve(d, options, &bound, problems)).collect();
        let value = match kind {
            Kind::Absent => InputValue::Absent,
            Kind::Sequence(dtype) => InputValue::Sequence { dtype: *dtype, elements: resolved },
            Kind::Tensor(narrow) => match (resolved.pop(), narrow) {
                (Some(tensor), None) => InputValue::Tensor(tensor),
                (Some(tensor), Some(ty)) => InputValue::Narrow(*ty, tensor),
                (None, _) => continue,
            },
        };
        inputs.push(Input { name: (*name).to_owned(), value });
    }
    inputs
}

enum Kind {
    Tensor(Option<NarrowType>),
    Sequence(DType),
    Absent,
}

/// Numbers of elements and absences that are given for inputs of other kinds.
fn check_options(fed: &[&ValueInfoProto], options: &ImportOptions, problems: &mut Vec<Problem>) {
    let ty = |name: &str| {
        let input = fed.iter().find(|i| i.name.as_deref() == Some(name))?;
        input.r#type.as_ref().and_then(|t| t.value.as_ref())
    };
    for (name, &length) in &options.lengths {
        if !matches!(ty(name).map(present), Some(TypeValue::Sequence(_))) {
            problems.push(Problem::Option(format!(
                "a number of elements is given for `{name}`, but no input of this name is a sequence"
            )));
        }
        if length > MOST_ELEMENTS {
            problems.push(Problem::Option(format!(
                "`{name}` would have {length} elements; up to {MOST_ELEMENTS} are supported"
            )));
        }
    }
    for name in &options.absent {
        if !matches!(ty(name), Some(TypeValue::Optional(_))) {
            problems.push(Problem::Option(format!("`{name}` is to be absent, but no input of this name is optional")));
        }
    }
}

/// The type of a value, or that of the element of an optional.
pub(super) fn present(ty: &TypeValue) -> &TypeValue {
    match ty {
        TypeValue::Optional(of) => of.elem_type.as_ref().and_then(|t| t.value.as_ref()).unwrap_or(ty),
        other => other,
    }
}

/// An input's name, what it is, and the tensors that it is or holds.
fn declare<'a>(
    input: &'a ValueInfoProto,
    options: &ImportOptions,
) -> Result<(&'a str, Kind, Vec<Declared<'a>>), String> {
    let name = input.name.as_deref().unwrap_or_default();
    if name.is_empty() {
        return Err("an input has no name".to_owned());
    }
    let Some(ty) = input.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
        return Err(format!("input `{name}` has no type"));
    };
    if options.absent.contains(name) {
        return Ok((name, Kind::Absent, Vec::new()));
    }
    match present(ty) {
        TypeValue::Tensor(tensor) => {
            let narrow = NarrowType::of(tensor.elem_type.unwrap_or_default());
            Ok((name, Kind::Tensor(narrow), vec![declare_tensor(name.to_owned(), tensor, narrow)?]))
        }
        TypeValue::Sequence(of) => {
            let Some(TypeValue::Tensor(tensor)) = of.elem_type.as_ref().and_then(|t| t.value.as_ref()) else {
                return Err(format!("input `{name}` is a sequence of other things than tensors"));
            };
            let Some(&length) = options.lengths.get(name) else {
                return Err(format!(
                    "input `{name}` is a sequence: the number of its elements is not stated; give it with `--length {name}=…`"
                ));
            };
            let element = declare_tensor(name.to_owned(), tensor, None)?;
            let elements = (0..length.min(MOST_ELEMENTS))
                .map(|i| Declared { name: element_name(name, i), element: true, ..element.clone() })
                .collect();
            Ok((name, Kind::Sequence(element.dtype), elements))
        }
        TypeValue::Map(_) => Err(format!("input `{name}` is a map: only tensors are supported")),
        TypeValue::SparseTensor(_) => Err(format!("input `{name}` is sparse: only dense tensors are supported")),
        TypeValue::Optional(_) => Err(format!("input `{name}` is an optional of other things than tensors")),
    }
}

fn declare_tensor(name: String, tensor: &TensorTypeProto, narrow: Option<NarrowType>) -> Result<Declared<'_>, String> {
    let dtype = match narrow {
        Some(ty) => ty.held_in(),
        None => dtype_of(tensor.elem_type.unwrap_or_default())
            .map_err(|found| format!("input `{name}`: element type {found} is not supported"))?,
    };
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
    Ok(Declared { name, element: false, dtype, extents })
}

/// What every symbol is bound to: by name, or by the whole shape of an input that has it.
fn bind(declared: &[&Declared<'_>], options: &ImportOptions, problems: &mut Vec<Problem>) -> BTreeMap<String, usize> {
    let names = || declared.iter().map(|d| format!("`{}`", d.name)).collect::<Vec<_>>().join(", ");
    for name in options.shapes.keys() {
        if !declared.iter().any(|d| d.name == *name) {
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
    for d in declared.iter().filter(|d| !d.element) {
        let (Some(shape), Some(extents)) = (options.shapes.get(&d.name), &d.extents) else { continue };
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
) -> Option<TensorInput> {
    let given = options.shapes.get(&d.name);
    let Some(extents) = &d.extents else {
        if given.is_none() {
            problems.push(Problem::Signature(format!(
                "input `{0}` has no shape in the model; give it with `--shape {0}=…`",
                d.name
            )));
        }
        return given.map(|dims| TensorInput { name: d.name.clone(), dtype: d.dtype, dims: dims.clone() });
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
                    problems.push(Problem::UnboundDim { input: d.name.clone(), axis, symbol: Some((*s).to_owned()) })
                }
            },
            (Extent::Unknown, None) => {
                problems.push(Problem::UnboundDim { input: d.name.clone(), axis, symbol: None });
            }
        }
    }
    (dims.len() == extents.len()).then(|| TensorInput { name: d.name.clone(), dtype: d.dtype, dims })
}
