//! Sliding windows.

use kiln_ir::NodeId;
use kiln_ir::attribute::{Padding, Reducer};
use kiln_ir::infer::{filled, padding_or_none};

use super::context::Lowering;
use super::error::LowerError;
use super::halo::Halo;
use super::movement::padded;
use super::nest::{self, Axis};
use super::reduce::combiner;
use super::scalar::{TypedExpr, compute_dtype};
use super::tile::{Combine, Guard, Tile, TileBuffer};

/// Lowers `reduce_window`: the last axis (channels, where they are last) in vectors. Padding is skipped, except along
/// the vectors, where a padded copy is made.
pub fn reduce_window(
    l: &mut Lowering<'_>,
    id: NodeId,
    window: &[usize],
    strides: &[usize],
    padding: &[Padding],
    dilation: &[usize],
    reducer: Reducer,
) -> Result<(), LowerError> {
    let v = l.graph.value(id);
    let rank = window.len();
    let (strides, dilation) = (filled(strides, rank, 1), filled(dilation, rank, 1));
    let mut padding = padding_or_none(padding, rank);
    let dims = l.dims(v);
    let mut x = l.halo(l.operand(id, 0));
    if dims.contains(&0) {
        l.slot(v);
        return Ok(());
    }
    l.check_window(id, x.tensor.len(), &padding, &[&strides, &dilation, window])?;
    let of = x.tensor.dtype;
    let dtype = compute_dtype(of);
    let (op, identity) = combiner(reducer, dtype);
    // vectors run along the last axis that is not 1: there is no asking in the middle of a vector
    let vector = (0..rank).rev().find(|&i| dims[i] != 1).unwrap_or(0);
    if padding.get(vector).is_some_and(|p| *p != Padding::NONE) {
        let mut here = vec![Padding::NONE; rank];
        here[vector] = std::mem::take(&mut padding[vector]);
        x = Halo::none(padded(l, id, &x, &here, &vec![1; rank], identity.to_f64(dtype))?);
    }
    let slot = l.slot(v);
    let result = &slot.view;
    let guarded: Vec<usize> = (0..rank).filter(|&i| padding[i] != Padding::NONE).collect();
    let x_dims = x.dims();
    let guards =
        guarded.iter().map(|&i| Guard { extent: x_dims[i] as i64, start: -padding[i].low }).collect::<Vec<_>>();
    let (ys, xs) = (slot.strides.clone(), x.strides());
    let axis = |i: usize, extent: usize, y: i64, step: usize| {
        let mut moves = vec![y, xs[i] * step as i64];
        moves.extend(guarded.iter().map(|&g| if g == i { step as i64 } else { 0 }));
        Axis::new(extent, moves)
    };
    let kept: Vec<Axis> = (0..rank).map(|i| axis(i, dims[i], ys[i], strides[i])).collect();
    let reduce: Vec<Axis> = (0..rank).map(|i| axis(i, window[i], 0, dilation[i])).collect();
    let start = x.start() - guarded.iter().map(|&i| padding[i].low * xs[i]).sum::<i64>();
    let operands = 2 + guards.len();
    let mut outer = nest::collapse(&kept);
    let column = outer.pop().unwrap_or_else(|| Axis::unit(operands));
    let row = outer.pop().unwrap_or_else(|| Axis::unit(operands));
    let tile = Tile {
        name: "window",
        buffers: vec![
            TileBuffer { dtype: result.dtype, len: result.len() as i64, start: slot.start },
            TileBuffer { dtype: of, len: x.tensor.len() as i64, start },
        ],
        inputs: 1,
        guards,
        outer,
        row,
        column,
        reduce: nest::collapse(&reduce),
        combine: Combine::Fold { op, identity, prologue: TypedExpr::identity(of) },
        accumulator: dtype,
        reduced: of,
        epilogue: TypedExpr::identity(of),
        panels: false,
        lanes: l.machine.stream_lanes(dtype, false),
        rows: 1,
        columns_first: false,
        narrow: None,
        inside: None,
        fetch: Vec::new(),
    };
    let uses = vec![slot.written(), x.read()];
    l.step_with(l.label(id), tile.emit(), uses, tile.flops())
}
