//! Tensors in the text: `dense<…>` and its elements, both ways.

use half::{bf16, f16};

use crate::dtype::DType;
use crate::narrow::{bf16_from_f64, f16_from_f64};
use crate::tensor::{Element, Tensor};

/// Bytes that the tensors written in one text may take together: what keeps a short hostile text from asking for
/// all memory.
pub(super) const MAX_WRITTEN_BYTES: usize = 1 << 30;

/// `dense<…>` for a tensor of at most `elements` elements or of one value throughout. `None` where it must go by
/// content id: it is larger, the budget of bytes is spent, or a NaN has bits that `nan` does not stand for.
pub(super) fn dense(tensor: &Tensor, elements: usize, budget: &mut usize) -> Option<String> {
    let size = tensor.dtype().size();
    let bytes = tensor.bytes();
    let left = budget.checked_sub(bytes.len())?;
    let uniform = !bytes.is_empty() && bytes[size..] == bytes[..bytes.len() - size];
    if !uniform && tensor.len() > elements {
        return None;
    }
    let written: Vec<String> = if uniform {
        vec![element_text(tensor.dtype(), &bytes[..size])]
    } else {
        bytes.chunks_exact(size).map(|b| element_text(tensor.dtype(), b)).collect()
    };
    let mut read = Vec::with_capacity(written.len() * size);
    let exact = written.iter().all(|text| read_element(tensor.dtype(), text, &mut read)) && bytes.starts_with(&read);
    *budget = if exact { left } else { return None };
    Some(if uniform { format!("dense<{}>", written[0]) } else { format!("dense<[{}]>", written.join(", ")) })
}

/// One element from its little-endian bytes.
fn element_text(dtype: DType, bytes: &[u8]) -> String {
    fn float(text: String) -> String {
        // Rust writes `NaN`; the format's words are lower case.
        text.to_ascii_lowercase()
    }
    match dtype {
        DType::F64 => float(format!("{:?}", f64::read(bytes))),
        DType::F32 => float(format!("{:?}", f32::read(bytes))),
        DType::F16 => float(format!("{:?}", f32::from(f16::read(bytes)))),
        DType::BF16 => float(format!("{:?}", f32::from(bf16::read(bytes)))),
        DType::I64 => i64::read(bytes).to_string(),
        DType::I32 => i32::read(bytes).to_string(),
        DType::I8 => i8::read(bytes).to_string(),
        DType::U8 => u8::read(bytes).to_string(),
        DType::Bool => bool::read(bytes).to_string(),
    }
}

/// Appends the bytes of one element; `false` where the dtype has no such element.
pub(super) fn read_element(dtype: DType, text: &str, out: &mut Vec<u8>) -> bool {
    fn append<T: Element>(value: Option<T>, out: &mut Vec<u8>) -> bool {
        value.map(|v| v.write(out)).is_some()
    }
    match dtype {
        DType::F64 => append(text.parse::<f64>().ok(), out),
        DType::F32 => append(text.parse::<f32>().ok(), out),
        // The text is rounded to f64 and then to 16 bits. What `element_text` writes is within an f64 ulp of an
        // exact 16-bit value, so that it comes back.
        DType::F16 => append(text.parse().ok().map(f16_from_f64), out),
        DType::BF16 => append(text.parse().ok().map(bf16_from_f64), out),
        DType::I64 => append(text.parse::<i64>().ok(), out),
        DType::I32 => append(text.parse::<i32>().ok(), out),
        DType::I8 => append(text.parse::<i8>().ok(), out),
        DType::U8 => append(text.parse::<u8>().ok(), out),
        DType::Bool => append(text.parse::<bool>().ok(), out),
    }
}
