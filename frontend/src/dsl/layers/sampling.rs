//! Reading images between their pixels: grids of points, regions of interest, deformable convolution.
//!
//! Every function here is a composition of gathers and elementwise ops. A point is a few *taps* along each axis, each with the
//! index of a pixel and its weight; the pixels around a point are all combinations of its taps. Pixels are gathered as rows
//! of channels, so that one index serves all of them.

mod deform;
mod grid;
mod roi;
mod taps;

use std::panic::Location as Caller;

use kiln_ir::{Dim, GraphError, Location};

use super::extents;
use crate::dsl::Tensor;

pub(crate) use deform::{DeformConv, deform_conv};
pub use grid::{GridSample, Interpolation, Outside, affine_grid};
pub(crate) use grid::{affine_points, grid_sample};
pub(crate) use roi::roi_align;
pub use roi::{RoiAlign, RoiPooling};

fn numbers(x: Tensor<'_>) -> Vec<usize> {
    x.dims().iter().filter_map(Dim::fixed).collect()
}

/// Whether there are images [N, C, …], and they have pixels.
fn has_pixels(x: Tensor<'_>) -> bool {
    numbers(x).iter().enumerate().all(|(axis, &extent)| axis == 1 || extent > 0)
}

fn is_float(x: Tensor<'_>) -> bool {
    x.ty().is_some_and(|t| t.dtype.is_float())
}

/// An error for each extent of x that is not a number.
fn check_numbers<'g>(what: &str, x: Tensor<'g>, at: &Caller<'_>) -> Result<(), Tensor<'g>> {
    let mut all = x.ty().map(|_| ()).ok_or(x);
    for axis in 0..x.dims().len() {
        if let Err(wrong) = extents(what, x, [axis], at) {
            all = Err(wrong);
        }
    }
    all
}

fn check<'g>(
    what: &str,
    x: Tensor<'g>,
    holds: bool,
    expected: &'static str,
    at: &Caller<'_>,
) -> Result<(), Tensor<'g>> {
    match x.ty() {
        None => Err(x),
        Some(_) if holds => Ok(()),
        Some(found) => {
            let location = Some(Location::caller(at));
            Err(x.scope.emit(at, |b| {
                b.fail(GraphError::Rank { what: what.to_owned(), expected: expected.into(), found, location })
            }))
        }
    }
}
