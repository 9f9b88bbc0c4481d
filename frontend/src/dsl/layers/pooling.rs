//! Pooling to given extents.

use std::panic::Location as Caller;

use kiln_ir::{DType, Tensor as TensorData};

use super::{Pool, check_image, check_positive, extents};
use crate::dsl::Tensor;

/// Means over a grid of `height` × `width` windows that cover [N, C, H, W], whose H and W are numbers: window i of n over an
/// axis of m elements goes from ⌊i·m/n⌋ to ⌈(i+1)·m/n⌉, as PyTorch's `AdaptiveAvgPool2d` has it. Windows may overlap, and repeat
/// elements where n is larger than m.
#[track_caller]
pub fn adaptive_avg_pool(x: Tensor<'_>, height: usize, width: usize) -> Tensor<'_> {
    let at = Caller::caller();
    let what = "`adaptive_avg_pool`";
    let spatial = check_positive(what, x, [("height", height), ("width", width)], at)
        .and_then(|()| check_image(what, x, at))
        .and_then(|()| extents(what, x, [2, 3], at));
    let [h, w] = match spatial {
        Ok(spatial) => spatial,
        Err(wrong) => return wrong,
    };
    if (h, w) == (height, width) {
        return x;
    }
    let window = h.checked_div(height).unwrap_or(0);
    if window > 0 && (h, w) == (window * height, window * width) {
        return Pool::new(window).avg(x);
    }
    // A product with the matrix of means for each axis.
    let dtype = x.ty().map_or(DType::F32, |t| t.dtype);
    let (columns, rows) = (means(dtype, w, width), means(dtype, h, height));
    x.scope.emit(at, |b| {
        let (columns, rows) = (b.constant(columns), b.constant(rows));
        let y = b.dot(x.value, columns, &[], &[], &[3], &[1]);
        let y = b.dot(y, rows, &[], &[], &[2], &[1]);
        b.transpose(y, &[0, 1, 3, 2])
    })
}

/// [windows, extent]: row i is 1 / length in window i, else 0.
fn means(dtype: DType, extent: usize, windows: usize) -> TensorData {
    let values = (0..windows).flat_map(|i| {
        let (start, end) = (i * extent / windows, ((i + 1) * extent).div_ceil(windows));
        (0..extent).map(move |j| if (start..end).contains(&j) { 1.0 / (end - start) as f64 } else { 0.0 })
    });
    // as many values as the dims say, each finite
    TensorData::from_f64_iter(dtype, &[windows, extent], values).unwrap_or_else(|e| unreachable!("{e}"))
}
