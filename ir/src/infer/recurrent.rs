//! Inference of recurrent layers.

use super::{Checker, Inferred, show_dims};
use crate::attribute::Cell;
use crate::dtype::DType;
use crate::scalar::ScalarExpr;
use crate::types::{Dim, TensorType};

pub(super) fn recurrent(cell: Cell, activations: &[ScalarExpr], t: &[TensorType], c: &mut Checker) -> Inferred {
    let (x, w, h, more) = (&t[0], &t[1], &t[2], &t[3..]);
    let dtype = x.dtype;
    c.check("C1", dtype.is_float() && t.iter().all(|ty| ty.dtype == dtype), || {
        t.iter().map(|ty| ty.dtype.name()).collect::<Vec<_>>().join(", ")
    });
    let (fewest, most) = match cell {
        Cell::Rnn | Cell::GruResetBefore => (0, 0),
        Cell::Gru => (1, 1),
        Cell::Lstm => (1, 2),
    };
    let counted = c.check("C5", (fewest..=most).contains(&more.len()), || format!("{} operands", t.len()));
    let wanted = cell.default_activations().len();
    c.check("C6", activations.is_empty() || activations.len() == wanted, || {
        format!("{}, {} has {wanted}", activations.len(), cell.word())
    });
    for activation in activations {
        let one = activation.arity() <= 1 && activation.result_type(&[dtype]).is_ok_and(|found: DType| found == dtype);
        c.check("C6", one, || format!("`{activation}` for {dtype}"));
    }
    let shape = x.rank() == 3 && h.rank() == 2 && w.rank() == 2;
    if !c.check("C2", shape, || format!("ranks {}, {} and {}", x.rank(), w.rank(), h.rank())) {
        return None;
    }
    let (steps, batch, hidden) = (&x.dims[0], &x.dims[1], &h.dims[1]);
    let fits = h.dims[0] == *batch;
    c.check("C2", fits, || format!("x {} with h {}", show_dims(&x.dims), show_dims(&h.dims)));
    if let Some(units) = hidden.fixed().filter(|&units| units > 0) {
        let sums = Dim::Fixed(units.saturating_mul(cell.gates()));
        let fits = x.dims[2] == sums && w.dims == [sums, Dim::Fixed(units)];
        c.check("C3", fits, || format!("x {}, w {} for {units} hidden units", show_dims(&x.dims), show_dims(&w.dims)));
    } else {
        c.check("C3", false, || format!("{hidden} hidden units"));
    }
    c.check("C4", steps.fixed() != Some(0), || "no steps".to_owned());
    let rows = |i: usize| match (cell, i) {
        (Cell::Lstm, 0) => batch.clone(),
        (Cell::Lstm, _) => Dim::Fixed(3),
        _ => Dim::Fixed(1),
    };
    for (i, ty) in more.iter().enumerate().filter(|_| counted) {
        let expected = [rows(i), hidden.clone()];
        c.check("C5", ty.dims == expected, || format!("{}, expected {}", show_dims(&ty.dims), show_dims(&expected)));
    }
    let y = TensorType { dtype, dims: vec![steps.clone(), batch.clone(), hidden.clone()] };
    Some(if cell == Cell::Lstm { vec![y, h.clone()] } else { vec![y] })
}
