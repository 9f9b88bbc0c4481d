//! Products with small constant matrices, as instructions.

use super::cook_toom::Matrix;
use crate::kir::{KernelBuilder, Value};

/// `matrix · values`. Two rows that agree in some columns and are opposite in the others cost as much as one: the sum
/// and the difference of their parts.
pub fn apply(b: &mut KernelBuilder, matrix: &Matrix, values: &[Value]) -> Vec<Value> {
    let mut results: Vec<Option<Value>> = vec![None; matrix.len()];
    for at in 0..matrix.len() {
        if results[at].is_some() {
            continue;
        }
        let partner = (at + 1..matrix.len())
            .find(|&other| results[other].is_none() && split(&matrix[at], &matrix[other]).is_some());
        match partner.and_then(|other| Some((other, split(&matrix[at], &matrix[other])?))) {
            Some((other, (even, odd))) => {
                let (even, odd) = (sum(b, &even, values), sum(b, &odd, values));
                results[at] = Some(b.add(even, odd));
                results[other] = Some(b.sub(even, odd));
            }
            None => results[at] = Some(sum(b, &matrix[at], values)),
        }
    }
    results.into_iter().flatten().collect()
}

/// The part that two rows share and the part in which they are opposite, where both have two terms together and neither is
/// empty.
fn split(a: &[f64], b: &[f64]) -> Option<(Vec<f64>, Vec<f64>)> {
    let suits = a.iter().zip(b).all(|(x, y)| x.abs() == y.abs());
    let part = |same: bool| -> Vec<f64> {
        a.iter().zip(b).map(|(&x, &y)| if (x == y) == same && x != 0.0 { x } else { 0.0 }).collect()
    };
    let (even, odd) = (part(true), part(false));
    let some = |row: &[f64]| row.iter().any(|&c| c != 0.0);
    (suits && some(&even) && some(&odd)).then_some((even, odd))
}

/// `Σ row · values`, starting from a term without a factor if there is one.
fn sum(b: &mut KernelBuilder, row: &[f64], values: &[Value]) -> Value {
    let mut terms: Vec<(f64, Value)> = row.iter().copied().zip(values.iter().copied()).filter(|t| t.0 != 0.0).collect();
    terms.sort_by_key(|&(factor, _)| (factor != 1.0, factor != -1.0));
    let ty = b.type_of(values[0]);
    let mut total = None;
    for (factor, value) in terms {
        total = Some(match (total, factor) {
            (None, 1.0) => value,
            (None, _) => {
                let factor = b.constant(ty, factor);
                b.mul(value, factor)
            }
            (Some(total), 1.0) => b.add(total, value),
            (Some(total), -1.0) => b.sub(total, value),
            (Some(total), _) => {
                let factor = b.constant(ty, factor);
                b.fma(value, factor, total)
            }
        });
    }
    total.unwrap_or_else(|| b.constant(ty, 0.0))
}

/// `matrix · x`, column by column, of the array `x` whose elements `load` gives by row and column. Each is asked for when its
/// column's turn comes, and rows are best used one by one ([`row`]): no machine has registers for a whole array.
pub fn columns(
    b: &mut KernelBuilder,
    matrix: &Matrix,
    mut load: impl FnMut(&mut KernelBuilder, i64, i64) -> Value,
) -> Vec<Vec<Value>> {
    let n = matrix.first().map_or(0, Vec::len) as i64;
    (0..n)
        .map(|j| {
            let column: Vec<Value> = (0..n).map(|i| load(b, i, j)).collect();
            apply(b, matrix, &column)
        })
        .collect()
}

/// Row `i` of `x · matrixᵀ` of an array of columns.
pub fn row(b: &mut KernelBuilder, matrix: &Matrix, columns: &[Vec<Value>], i: usize) -> Vec<Value> {
    let row: Vec<Value> = columns.iter().map(|column| column[i]).collect();
    apply(b, matrix, &row)
}
