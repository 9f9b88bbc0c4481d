//! Matrix products over any axes.

use kiln_ir::infer::{DotDims, dot_dims, sum_dtype};
use kiln_ir::scalar::{BinaryFn, ScalarExpr};
use kiln_ir::{NodeId, Value};

use super::context::Lowering;
use super::contraction::{Contraction, Input, Right, Roles, accumulator, emit};
use super::elementwise::Operand;
use super::error::LowerError;
use super::movement::copy_into;
use super::nest::{self, Axis, volume};
use super::reduce::{Reduction, horizontal};
use super::scalar::of_two;
use crate::kir::{BinaryOp, Bits};
use crate::plan::program::View;

/// The axes of a product.
#[derive(Clone, Copy, Debug)]
pub struct DotAxes<'a> {
    /// Batch axes of lhs.
    pub lhs_batch: &'a [usize],
    /// Batch axes of rhs.
    pub rhs_batch: &'a [usize],
    /// Contracted axes of lhs.
    pub lhs_contract: &'a [usize],
    /// Contracted axes of rhs.
    pub rhs_contract: &'a [usize],
}

/// Below this many rows, a right operand that is contiguous along the contraction is read as it lies instead of being
/// transposed first: every row reads it again.
const FEW_ROWS: i64 = 4;

/// Lowers a product and its epilogue.
pub fn lower(l: &mut Lowering<'_>, id: NodeId, axes: DotAxes<'_>, epilogue: &ScalarExpr) -> Result<(), LowerError> {
    let v = l.graph.value(id);
    let operands: Vec<Value> = l.graph.node(id).operands.to_vec();
    let (lhs, rhs) = (operands[0], operands[1]);
    let (lhs_dims, rhs_dims) = (l.dims(lhs), l.dims(rhs));
    let free = dot_dims(
        lhs_dims.len(),
        rhs_dims.len(),
        (axes.lhs_batch, axes.lhs_contract),
        (axes.rhs_batch, axes.rhs_contract),
    );
    let extras: Vec<View> = operands[2..].iter().map(|&e| l.view(e)).collect();
    let mut roles = roles(l, v, &lhs_dims, &rhs_dims, axes, &free, &extras);
    let columns_empty = volume(&roles.columns) == 1;
    // a matrix times a vector: the matrix gives the columns
    let swapped = columns_empty && volume(&roles.rows) > 1;
    let (left, right) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
    if swapped {
        std::mem::swap(&mut roles.rows, &mut roles.columns);
        let all = [&mut roles.outer, &mut roles.rows, &mut roles.columns, &mut roles.reduce];
        all.into_iter().flatten().for_each(|a| a.strides.swap(1, 2));
    }
    // the contraction's loops in the order in which the left operand lies
    roles.reduce.sort_by_key(|a| std::cmp::Reverse(a.strides[1]));
    let result = l.result_over_extras(id, v);
    if result.is_empty() {
        return Ok(());
    }
    let left_view = l.view(left);
    let columns = nest::collapse(&roles.columns);
    let column_stride = columns.last().map_or(0, |a| a.strides[2]);
    let along = |operand: usize| roles.reduce.last().is_some_and(|a| a.strides[operand] == 1);
    let right = match l.literal(right) {
        Some(tensor) if !columns.is_empty() => Right::Constant { tensor: tensor.clone(), start: 0 },
        _ => {
            let view = l.view(right);
            let few = volume(&roles.rows) < FEW_ROWS && along(1) && along(2);
            if columns.is_empty() || (column_stride != 1 && few) {
                return by_rows(l, id, &result, [left_view, view], &extras, &roles, epilogue);
            }
            let input = if column_stride == 1 { Input::whole(view) } else { transposed(l, id, view, &mut roles)? };
            Right::Strided(input)
        }
    };
    let input = Input::whole;
    let contraction = Contraction {
        name: "dot",
        result: input(result),
        left: input(left_view),
        right,
        extras: extras.into_iter().map(input).collect(),
        guards: Vec::new(),
        epilogue,
        others: Vec::new(),
    };
    emit(l, id, contraction, roles)
}

fn roles(
    l: &Lowering<'_>,
    v: Value,
    lhs_dims: &[usize],
    rhs_dims: &[usize],
    axes: DotAxes<'_>,
    free: &DotDims,
    extras: &[View],
) -> Roles {
    let dims = l.dims(v);
    let (out, a, b) = (nest::row_major(&dims), nest::row_major(lhs_dims), nest::row_major(rhs_dims));
    let extras: Vec<Vec<i64>> = extras.iter().map(|e| nest::broadcast_strides(&e.dims)).collect();
    let axis = |at: usize, a: i64, b: i64| {
        let mut strides = vec![out[at], a, b];
        strides.extend(extras.iter().map(|e| e[at]));
        Axis::new(dims[at], strides)
    };
    let batch = axes.lhs_batch.iter().zip(axes.rhs_batch).enumerate();
    let (rows_from, columns_from) = (axes.lhs_batch.len(), axes.lhs_batch.len() + free.lhs_free.len());
    let contract = |(&i, &j): (&usize, &usize)| {
        let mut strides = vec![0, a[i], b[j]];
        strides.resize(3 + extras.len(), 0);
        Axis::new(lhs_dims[i], strides)
    };
    Roles {
        outer: batch.map(|(at, (&i, &j))| axis(at, a[i], b[j])).collect(),
        rows: free.lhs_free.iter().enumerate().map(|(n, &i)| axis(rows_from + n, a[i], 0)).collect(),
        columns: free.rhs_free.iter().enumerate().map(|(n, &j)| axis(columns_from + n, 0, b[j])).collect(),
        reduce: axes.lhs_contract.iter().zip(axes.rhs_contract).map(contract).collect(),
    }
}

/// The right operand with its columns contiguous.
pub fn transposed(l: &mut Lowering<'_>, id: NodeId, view: View, roles: &mut Roles) -> Result<Input, LowerError> {
    const W: usize = 2;
    let all: Vec<&mut Axis> =
        roles.outer.iter_mut().chain(&mut roles.reduce).chain(&mut roles.columns).filter(|a| a.extent != 1).collect();
    let dims: Vec<usize> = all.iter().map(|a| a.extent as usize).collect();
    let strides = all.iter().map(|a| a.strides[W]).collect();
    let result = l.temporary(view.dtype, &dims);
    for (axis, stride) in all.into_iter().zip(nest::row_major(&dims)) {
        axis.strides[W] = stride;
    }
    copy_into(l, id, &result, &dims, Operand { view, strides, start: 0 })?;
    Ok(Input::whole(result))
}

/// Every element as a dot product of two rows.
fn by_rows(
    l: &mut Lowering<'_>,
    id: NodeId,
    result: &View,
    inputs: [View; 2],
    extras: &[View],
    roles: &Roles,
    epilogue: &ScalarExpr,
) -> Result<(), LowerError> {
    let kept: Vec<Axis> = roles.outer.iter().chain(&roles.rows).chain(&roles.columns).cloned().collect();
    let [x, w] = inputs;
    let dtype = sum_dtype(x.dtype, w.dtype).unwrap_or(x.dtype);
    let product = of_two(BinaryFn::Mul, 0, 1);
    let reduction = Reduction {
        name: "dot",
        result,
        inputs: &[x, w],
        extras,
        kept,
        reduce: roles.reduce.clone(),
        op: BinaryOp::Add,
        identity: Bits(0),
        prologue: &product,
        accumulator: accumulator(dtype),
        reduced: dtype,
        epilogue,
    };
    horizontal(l, id, reduction)
}
