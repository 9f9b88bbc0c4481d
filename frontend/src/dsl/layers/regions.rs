//! Layers without variables over neighbourhoods: of channels, and of the image.

use std::panic::Location as Caller;

use kiln_ir::attribute::Real;
use kiln_ir::{GraphError, Location, Op, Tensor as TensorData};

use super::{check_image, check_rank, extents};
use crate::dsl::Tensor;

/// Local response normalisation across the channels of [N, C, …] (Krizhevsky et al. 2012, section 3.3):
/// x / (1 + alpha / size · Σ x² over the `size` nearest channels)^beta.
#[track_caller]
pub fn lrn(x: Tensor<'_>, size: usize, alpha: f64, beta: f64) -> Tensor<'_> {
    let at = Caller::caller();
    let op = Op::Lrn { size, alpha: Real(alpha), beta: Real(beta), bias: Real(1.0), axis: 1 };
    match check_rank("`lrn`", x, (2, usize::MAX), "[N, C, …]", at) {
        Ok(()) => x.scope.emit(at, |b| b.add_op(op, &[x.value])),
        Err(wrong) => wrong,
    }
}

/// The part of [N, C, H, W] of `height` × `width` elements whose first row is `top` and first column `left`. H and W are numbers.
#[track_caller]
pub fn crop(x: Tensor<'_>, (top, left): (usize, usize), (height, width): (usize, usize)) -> Tensor<'_> {
    let (at, what) = (Caller::caller(), "`crop`");
    let spatial = check_image(what, x, at).and_then(|()| extents(what, x, [2, 3], at));
    let [h, w] = match spatial {
        Ok(spatial) => spatial,
        Err(wrong) => return wrong,
    };
    let (bottom, right) = (top.saturating_add(height), left.saturating_add(width));
    let Some(found) = x.ty() else { return x };
    if (top, left, height, width) == (0, 0, h, w) {
        return x;
    }
    if bottom > h || right > w {
        let what = format!("`crop` to rows {top}..{bottom} and columns {left}..{right}");
        let (expected, location) = ("[N, C, H, W] with these rows and columns", Some(Location::caller(at)));
        return x.scope.emit(at, |b| b.fail(GraphError::Rank { what, expected: expected.into(), found, location }));
    }
    x.scope.emit(at, |b| {
        if found.static_dims().is_some() {
            let rows = b.slice_axis(x.value, 2, top, bottom);
            return b.slice_axis(rows, 3, left, right);
        }
        // a slice wants every axis to be a number, a gather only its own
        let indices = |range: std::ops::Range<usize>| {
            let values: Vec<i64> = range.map(|i| i as i64).collect();
            TensorData::from_slice(&[values.len()], &values).unwrap_or_else(|e| unreachable!("{e}"))
        };
        let (rows, columns) = (b.constant(indices(top..bottom)), b.constant(indices(left..right)));
        let rows = b.gather(x.value, rows, 2);
        b.gather(rows, columns, 3)
    })
}
