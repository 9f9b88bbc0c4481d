//! What a model says of its outputs' types, beside what they are.

use super::narrow::NarrowType;
use super::proto::{Dimension, DimensionValue, TensorTypeProto, TypeValue, ValueInfoProto};
use super::signature::present;
use super::tensor::{dtype_of, onnx_name};
use super::value::Value;

/// How a tensor contradicts the type that the model declares of it, which may leave open its element type, its rank and extents.
pub(super) fn contradiction(value: &Value, declared: &ValueInfoProto) -> Option<String> {
    let Some(TypeValue::Tensor(tensor)) = declared.r#type.as_ref()?.value.as_ref().map(present) else { return None };
    let dims = value.held()?.dims();
    let element = element_type(tensor.elem_type.unwrap_or_default());
    let other_element = element.as_ref().is_some_and(|element| *element != value.element_type());
    let extents = tensor.shape.as_ref().map(|shape| shape.dim.as_slice());
    let other_dims = extents.is_some_and(|extents| {
        extents.len() != dims.len()
            || extents.iter().zip(dims).any(|(extent, &found)| fixed(extent).is_some_and(|stated| stated != found))
    });
    (other_element || other_dims).then(|| {
        format!("the model declares {}, but it is {}{dims:?}", text(element.as_deref(), tensor), value.element_type())
    })
}

/// What the model calls an element type. `None` where it is left open.
fn element_type(stated: i32) -> Option<String> {
    let narrow = || NarrowType::of(stated).map(|narrow| narrow.name().to_owned());
    let other = || dtype_of(stated).map_or_else(|found| found, |dtype| onnx_name(dtype).to_owned());
    (stated != 0).then(|| narrow().unwrap_or_else(other))
}

/// The extent, where it is a number. Some exporters write −1 or 0 for an extent that they do not know.
fn fixed(extent: &Dimension) -> Option<usize> {
    match extent.value {
        Some(DimensionValue::Value(n)) => usize::try_from(n).ok().filter(|&n| n > 0),
        _ => None,
    }
}

fn text(element: Option<&str>, tensor: &TensorTypeProto) -> String {
    let extent = |extent: &Dimension| match &extent.value {
        Some(DimensionValue::Param(name)) if !name.is_empty() => name.clone(),
        _ => fixed(extent).map_or_else(|| "?".to_owned(), |n| n.to_string()),
    };
    let dims = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(extent).collect::<Vec<_>>().join(", "));
    format!("{}{}", element.unwrap_or("a tensor "), dims.map_or(String::new(), |dims| format!("[{dims}]")))
}
