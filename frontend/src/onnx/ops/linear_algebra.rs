//! Of matrices as a whole.

use kiln_ir::attribute::{Extreme, Reducer};
use kiln_ir::{DType, Op};

use super::super::emit::{Emitter, Operand, fixed};
use super::super::error::{Result, invalid, unsupported};
use super::super::node::NodeContext;
use super::Results;

/// Elimination is written out, column by column.
const MOST_COLUMNS: usize = 32;

/// The determinants of a stack of square matrices, by Gaussian elimination with partial pivoting.
pub(super) fn determinant(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "X")?;
    let [outer @ .., rows, columns] = x.dims() else {
        return invalid(format!("X must be a stack of matrices, found extents {:?}", x.dims()));
    };
    if rows != columns {
        return invalid(format!("only square matrices have a determinant, found {rows} × {columns}"));
    }
    if !x.dtype().is_float() {
        return invalid(format!("X must be a float tensor, found {}", x.dtype()));
    }
    if *rows > MOST_COLUMNS {
        return unsupported(format!("a determinant of {rows} × {rows} (up to {MOST_COLUMNS} × {MOST_COLUMNS} is)"));
    }
    let e = &mut *n.emit;
    let count = outer.iter().product();
    let mut rest = e.reshape(&x, &[count, *rows, *rows])?;
    let one = Operand::scalar(x.dtype(), 1.0)?;
    let mut product = e.broadcast_to(&one, &[count])?;
    for _ in 0..*rows {
        let (pivot, smaller) = eliminate(e, &rest)?;
        product = e.mul(&product, &pivot)?;
        rest = smaller;
    }
    Ok(vec![e.reshape(&product, outer)?])
}

/// One step: of [count, n, n], the pivot of the first column with the sign that exchanging its row for the first gives the
/// determinant, and what is left [count, n − 1, n − 1].
fn eliminate(e: &mut Emitter, x: &Operand) -> Result<(Operand, Operand)> {
    let (count, n) = (x.extent(0), x.extent(1));
    let column = e.slice_axis(x, 2, 0, 1)?;
    let column = e.reshape(&column, &[count, n])?;
    let magnitude = e.op(Op::Abs {}, &[&column])?;
    let at = e.op(Op::ArgReduce { axis: 1, extreme: Extreme::Max }, &[&magnitude])?;
    let place = e.op(Op::Iota { dtype: DType::I64, dims: fixed(&[n]), axis: 0 }, &[])?;
    let at_column = e.reshape(&at, &[count, 1])?;
    let chosen = e.binary(Op::Equal {}, &place, &at_column)?;
    let chosen = e.reshape(&chosen, &[count, n, 1])?;
    // a sum of one element and zeros, whatever the other rows hold
    let zero = Operand::scalar(x.dtype(), 0.0)?;
    let only = e.select(&chosen, x, &zero)?;
    let pivot_row = e.reduce_keep(&only, &[1], Reducer::Sum)?;
    let pivot = e.slice_axis(&pivot_row, 2, 0, 1)?;

    // the first row takes the place of the pivot's
    let first = e.slice_axis(x, 1, 0, 1)?;
    let exchanged = e.select(&chosen, &first, x)?;
    let below = e.slice_axis(&exchanged, 1, 1, n)?;
    let below_pivot = e.slice_axis(&below, 2, 0, 1)?;
    // a column of zeros has nothing to eliminate
    let none = e.with_scalar(Op::Equal {}, &pivot, 0.0)?;
    let quotient = e.div(&below_pivot, &pivot)?;
    let factor = e.select(&none, &zero, &quotient)?;
    let (right, pivot_right) = (e.slice_axis(&below, 2, 1, n)?, e.slice_axis(&pivot_row, 2, 1, n)?);
    let taken = e.mul(&factor, &pivot_right)?;
    let rest = e.sub(&right, &taken)?;

    let pivot = e.reshape(&pivot, &[count])?;
    let moved = e.with_scalar(Op::NotEqual {}, &at, 0.0)?;
    let negative = e.op(Op::Neg {}, &[&pivot])?;
    Ok((e.select(&moved, &negative, &pivot)?, rest))
}
