//! Signal processing: Fourier transforms as products with constant matrices, windows and filter banks as constants.
//!
//! A complex signal has its real and imaginary parts along a last axis of extent 2; that of a real one has extent 1.

use std::f64::consts::PI;

use kiln_ir::attribute::{ConvLayout, Padding};
use kiln_ir::{DType, Op, Tensor};

use super::super::emit::{Emitter, Operand, axis};
use super::super::error::{NodeError, Result, invalid, unsupported};
use super::super::node::NodeContext;
use super::Results;

/// Most elements of the matrix of a transform, and of a window or a filter bank.
const MOST: usize = 1 << 26;

/// Parts of a complex number along the last axis: 1 or 2.
fn parts(x: &Operand) -> Result<usize> {
    match x.dims() {
        [_, .., parts @ (1 | 2)] => Ok(*parts),
        dims => invalid(format!(
            "the signal must have a last axis of extent 1 (real) or 2 (real and imaginary parts) after others, found {dims:?}"
        )),
    }
}

/// A positive number that must be known at import.
fn positive(n: &NodeContext<'_>, index: usize, role: &'static str) -> Result<Option<usize>> {
    let Some(list) = n.integers(index, role)? else { return Ok(None) };
    match list[..] {
        [value] if value > 0 => {
            usize::try_from(value).map(Some).map_err(|_| NodeError::Invalid(format!("{role} is {value}")))
        }
        _ => invalid(format!("{role} must be one integer of at least 1, found {list:?}")),
    }
}

/// How many of `length` frequencies a transform gives: with `onesided` those that the others of a real signal mirror.
fn frequencies(n: &NodeContext<'_>, length: usize, parts: usize, default: bool) -> Result<usize> {
    if !n.attributes.flag("onesided", default)? {
        return Ok(length);
    }
    if parts == 2 {
        return invalid("onesided = 1 is for real signals (a last axis of extent 1)");
    }
    Ok(length / 2 + 1)
}

/// Entry (t, p, k, q) is what part p of sample t adds to part q of frequency k: the parts of e^(∓2πi·kt/`length`), divided
/// by `length` where the transform is the inverse one.
fn matrix(
    e: &mut Emitter,
    dtype: DType,
    [samples, parts, count]: [usize; 3],
    length: usize,
    inverse: bool,
) -> Result<Vec<f64>> {
    let elements = samples.checked_mul(parts).and_then(|n| n.checked_mul(count)).and_then(|n| n.checked_mul(2));
    if elements.is_none_or(|n| n > MOST) || length > MOST {
        return unsupported(format!(
            "a transform of {samples} samples to {count} frequencies, whose matrix has more than {MOST} elements"
        ));
    }
    e.room_for_constant(dtype, &[samples, parts, count, 2])?;
    if elements == Some(0) {
        // of any length
        return Ok(Vec::new());
    }
    let (sign, scale) = if inverse { (1.0, 1.0 / length as f64) } else { (-1.0, 1.0) };
    // The angles repeat, and are the more exact the smaller they are.
    let turns: Vec<(f64, f64)> = (0..length)
        .map(|i| (2.0 * PI * i as f64 / length as f64).sin_cos())
        .map(|(sin, cos)| (cos * scale, sin * sign * scale))
        .collect();
    let mut entries = Vec::with_capacity(elements.unwrap_or(0));
    for t in 0..samples {
        for part in 0..parts {
            for k in 0..count {
                // Within MOST, by the check above.
                let (re, im) = turns.get(t * k % length).copied().unwrap_or_default();
                entries.extend(if part == 0 { [re, im] } else { [-im, re] });
            }
        }
    }
    Ok(entries)
}

/// The discrete Fourier transform along one axis, which is cut or padded with zeros to its length.
pub(super) fn dft(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "input")?;
    let parts = parts(&x)?;
    let stated = if n.opset < 20 {
        n.attributes.int_or("axis", 1)?
    } else {
        match n.integers(2, "axis")?.as_deref() {
            None => -2,
            Some([axis]) => *axis,
            Some(other) => return invalid(format!("axis must be one integer, found {other:?}")),
        }
    };
    let at = axis(stated, x.rank())?;
    let last = x.rank() - 1;
    if at == last {
        return invalid(format!("axis {stated} is the one of real and imaginary parts"));
    }
    let length = positive(n, 1, "dft_length")?.unwrap_or(x.extent(at));
    let inverse = n.attributes.flag("inverse", false)?;
    if inverse && n.attributes.flag("onesided", false)? {
        return unsupported("onesided = 1 of an inverse transform");
    }
    let count = frequencies(n, length, parts, false)?;
    // Samples beyond the length do not count; those that are missing are 0.
    let samples = x.extent(at).min(length);
    let e = &mut *n.emit;
    let weights = matrix(e, x.dtype(), [samples, parts, count], length, inverse)?;
    let weights = Tensor::from_f64(x.dtype(), &[samples, parts, count, 2], &weights)?;
    let x = e.slice_axis(&x, at, 0, samples)?;
    let op = Op::Dot {
        lhs_batch: Vec::new(),
        rhs_batch: Vec::new(),
        lhs_contract: vec![at, last],
        rhs_contract: vec![0, 1],
    };
    // [others …, frequencies, 2] → the frequencies where the samples were.
    let y = e.op(op, &[&x, &Operand::known(weights)])?;
    let mut perm: Vec<usize> = (0..last - 1).collect();
    perm.insert(at, last - 1);
    perm.push(last);
    Ok(vec![e.transpose(&y, &perm)?])
}

/// The transform of each frame of a signal: a convolution whose filters are the rows of the matrix times the window.
pub(super) fn stft(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "signal")?;
    let parts = parts(&x)?;
    let [batch, extent, _] = *x.dims() else {
        return invalid(format!("the signal must be [batch, samples, 1 or 2], found {:?}", x.dims()));
    };
    let step = positive(n, 1, "frame_step")?.ok_or(NodeError::MissingInput { index: 1, role: "frame_step" })?;
    let window = n.optional(2);
    let stated = positive(n, 3, "frame_length")?;
    let length = match (&window, stated) {
        (Some(w), _) if w.rank() != 1 => {
            return invalid(format!("the window must have one axis, found {:?}", w.dims()));
        }
        (Some(w), Some(length)) if w.extent(0) != length => {
            return unsupported(format!("a window of {} samples for frames of {length}", w.extent(0)));
        }
        (_, Some(length)) => length,
        (Some(w), None) => w.extent(0),
        (None, None) => extent,
    };
    if length == 0 || length > extent {
        return invalid(format!("frames of {length} samples in a signal of {extent}"));
    }
    let count = frequencies(n, length, parts, true)?;
    let e = &mut *n.emit;
    let weights = matrix(e, x.dtype(), [length, parts, count], length, false)?;
    let weights = Tensor::from_f64(x.dtype(), &[length, parts, count * 2], &weights)?;
    let mut filters = e.transpose(&Operand::known(weights), &[2, 1, 0])?;
    if let Some(window) = window {
        filters = e.mul(&filters, &window)?;
    }
    let x = e.transpose(&x, &[0, 2, 1])?;
    let op = Op::Conv {
        strides: vec![step],
        padding: vec![Padding::NONE],
        lhs_dilation: Vec::new(),
        rhs_dilation: Vec::new(),
        groups: 1,
        layout: ConvLayout::ChannelsFirst,
    };
    let y = e.op(op, &[&x, &filters])?;
    let y = e.transpose(&y, &[0, 2, 1])?;
    let frames = y.extent(1);
    Ok(vec![e.reshape(&y, &[batch, frames, count, 2])?])
}

/// The element type that `output_datatype` says.
fn output_dtype(n: &NodeContext<'_>) -> Result<DType> {
    Ok(n.attributes.dtype("output_datatype")?.unwrap_or(DType::F32))
}

/// A sum of cosines: Σ `coefficients[i]`·cos(2πi·t/N), where N is the length of a periodic window, one less of a symmetric one.
pub(super) fn window(n: &mut NodeContext<'_>, coefficients: &[f64]) -> Results {
    let size = positive(n, 0, "size")?.ok_or(NodeError::MissingInput { index: 0, role: "size" })?;
    let periodic = n.attributes.flag("periodic", true)?;
    let dtype = output_dtype(n)?;
    if size > MOST {
        return unsupported(format!("a window of {size} samples (up to {MOST} are)"));
    }
    n.emit.room_for_constant(dtype, &[size])?;
    // One sample has no period.
    let period = if periodic { size } else { (size - 1).max(1) } as f64;
    let value = |t: usize| -> f64 {
        coefficients.iter().enumerate().map(|(i, c)| c * (2.0 * PI * (i * t) as f64 / period).cos()).sum()
    };
    let values: Vec<f64> = (0..size).map(value).collect();
    Ok(vec![Operand::known(Tensor::from_f64(dtype, &[size], &values)?)])
}

/// A bank of triangular filters, [frequencies, bins], whose corners are equally spaced on the mel scale
/// (2595·log₁₀(1 + f/700)) and rounded down to frequencies of the transform.
pub(super) fn mel_weights(n: &mut NodeContext<'_>) -> Results {
    let required = |index: usize, role: &'static str| -> Result<usize> {
        positive(n, index, role)?.ok_or(NodeError::MissingInput { index, role })
    };
    let hertz = |index: usize, role: &'static str| -> Result<f64> {
        let known = n.known(index, role)?.ok_or(NodeError::MissingInput { index, role })?;
        match known.to_f64_vec()[..] {
            [value] if value >= 0.0 && value.is_finite() => Ok(value),
            _ => invalid(format!("{role} must be one number of at least 0, found {known:?}")),
        }
    };
    let (bins, length) = (required(0, "num_mel_bins")?, required(1, "dft_length")?);
    let rate = required(2, "sample_rate")?;
    let (low, high) = (hertz(3, "lower_edge_hertz")?, hertz(4, "upper_edge_hertz")?);
    let dtype = output_dtype(n)?;
    let rows = length / 2 + 1;
    if rows.checked_mul(bins).is_none_or(|n| n > MOST) {
        return unsupported(format!("a bank of {bins} filters over {rows} frequencies (up to {MOST} elements are)"));
    }
    let mel = |f: f64| 2595.0 * (1.0 + f / 700.0).log10();
    let step = (mel(high) - mel(low)) / (bins + 2) as f64;
    let corner = |i: usize| {
        let f = 700.0 * (10f64.powf((mel(low) + step * i as f64) / 2595.0) - 1.0);
        ((length + 1) as f64 * f / rate as f64).floor()
    };
    let corners: Vec<f64> = (0..bins + 2).map(corner).collect();
    if let Some(beyond) = corners.iter().find(|&&c| !(0.0..=rows as f64).contains(&c)) {
        return invalid(format!(
            "the edges {low} and {high} Hz lie beyond the transform: frequency {beyond} of {rows}"
        ));
    }
    n.emit.room_for_constant(dtype, &[rows, bins])?;
    let mut weights = vec![0.0; rows * bins];
    for (bin, corners) in corners.windows(3).enumerate() {
        let &[left, centre, right] = corners else { continue };
        for row in left as usize..=right as usize {
            let f = row as f64;
            let weight = match f {
                f if f < centre => (f - left) / (centre - left),
                f if f > centre => (right - f) / (right - centre),
                _ => 1.0,
            };
            if let Some(entry) = weights.get_mut(row * bins + bin) {
                *entry = weight;
            }
        }
    }
    Ok(vec![Operand::known(Tensor::from_f64(dtype, &[rows, bins], &weights)?)])
}
