//! Recurrent layers: at each step the product of the hidden state with the recurrent weights, which are packed once,
//! then the cell's updates, each a walk over the hidden units. The kernels of all steps are the same ones: from the fourth step on they
//! are those of the step before, moved on.

use kiln_ir::attribute::Cell;
use kiln_ir::recurrence::{Source, Target, Update};
use kiln_ir::scalar::ScalarExpr;
use kiln_ir::{NodeId, Value};

use super::context::{Lowering, Slot};
use super::contraction::{Contraction, Input, Right, Roles, emit};
use super::dot::transposed;
use super::elementwise::{Operand, pointwise};
use super::error::LowerError;
use super::nest::Axis;
use crate::plan::program::View;

/// Steps that are lowered one by one: the second and the third show how all others move.
const LOWERED: usize = 3;

/// Lowers a layer.
pub fn recurrent(
    l: &mut Lowering<'_>,
    id: NodeId,
    cell: Cell,
    activations: &[ScalarExpr],
    reverse: bool,
) -> Result<(), LowerError> {
    let operands: Vec<Value> = l.graph.node(id).operands.to_vec();
    let dims = l.dims(l.graph.value(id));
    let (steps, batch, units) = (dims[0], dims[1], dims[2]);
    let vectors = operands.get(if cell == Cell::Lstm { 4 } else { 3 }).map(|&v| l.view(v));
    let updates = cell.updates(activations, vectors.is_some());
    let (x, first) = (l.view(operands[0]), l.view(operands[2]));
    let y = l.result(Value { node: id, result: 0 });
    let state = match cell {
        Cell::Lstm => {
            let (before, state) = (l.view(operands[3]), l.result(Value { node: id, result: 1 }));
            l.copy(format!("{} start", l.label(id)), &before, &state);
            Some(state)
        }
        _ => None,
    };
    if y.is_empty() {
        return Ok(());
    }
    let gates = cell.gates();
    // gates from the last on wait for the reset state
    let early = if updates.iter().any(|u| u.target == Target::Reset) { gates - 1 } else { gates };
    let product = Product::new(l, id, operands[1], (batch, units), 0..early)?;
    let late = if early < gates { Some(Product::new(l, id, operands[1], (batch, units), early..gates)?) } else { None };
    let reset = l.temporary(y.dtype, &[batch, units]);
    let at = |view: &View, step: usize| {
        let dims = view.dims[1..].to_vec();
        let bytes = dims.iter().product::<usize>() * view.dtype.size();
        View { offset: view.offset + step * bytes, dims, ..view.clone() }
    };
    let mut hidden = first;
    let mut starts: Vec<usize> = Vec::new();
    for step in 0..steps {
        if let [.., second, third] = *starts
            && step == LOWERED
        {
            // each of those that are left takes as many steps as the last one
            l.check_steps(id, (l.next_step() - third).saturating_mul(steps - step))?;
            if l.repeat(id, second, third, steps - step) {
                break;
            }
        }
        starts.push(l.next_step());
        let step = if reverse { steps - 1 - step } else { step };
        let (sums, next) = (at(&x, step), at(&y, step));
        product.emit(l, id, &hidden)?;
        for Update { target, sources, expr } in &updates {
            let read = |source: &Source| match *source {
                Source::Input(gate) => columns(&sums, gate * units),
                Source::Product(gate) => match &late {
                    Some(late) if gate >= early => columns(&late.result, (gate - early) * units),
                    _ => columns(&product.result, gate * units),
                },
                Source::Hidden => Operand::dense(&hidden),
                // a cell without a state does not read it
                Source::Cell => Operand::dense(state.as_ref().unwrap_or(&hidden)),
                Source::Vector(n) => {
                    let view = vectors.as_ref().unwrap_or(&hidden);
                    Operand { view: view.clone(), strides: vec![0, 1], start: (n * units) as i64 }
                }
            };
            let inputs: Vec<Operand> = sources.iter().map(read).collect();
            let result = match target {
                Target::Hidden => &next,
                Target::Reset => &reset,
                Target::Cell => state.as_ref().unwrap_or(&next),
            };
            let label = l.label(id);
            pointwise(l, (id, label), &[batch, units], Slot::whole(result.clone()), &inputs, expr)?;
            if let (Target::Reset, Some(late)) = (target, &late) {
                late.emit(l, id, &reset)?;
            }
        }
        hidden = next;
    }
    Ok(())
}

/// The columns of a matrix from `first` on.
fn columns(matrix: &View, first: usize) -> Operand {
    Operand { view: matrix.clone(), strides: super::nest::row_major(&matrix.dims), start: first as i64 }
}

/// The product of a hidden state with the weights of some gates, for any step.
struct Product {
    right: Right,
    roles: Roles,
    result: View,
}

impl Product {
    fn new(
        l: &mut Lowering<'_>,
        id: NodeId,
        weights: Value,
        (batch, units): (usize, usize),
        gates: std::ops::Range<usize>,
    ) -> Result<Product, LowerError> {
        let sums = gates.len() * units;
        let result = l.temporary(l.dtype(weights), &[batch, sums]);
        let row = units as i64;
        let start = gates.start as i64 * row * row;
        let mut roles = Roles {
            outer: Vec::new(),
            rows: vec![Axis::new(batch, [sums as i64, row, 0])],
            columns: vec![Axis::new(sums, [1, 0, row])],
            reduce: vec![Axis::new(units, [0, 1, 1])],
        };
        let right = match l.literal(weights) {
            Some(tensor) => Right::Constant { tensor: tensor.clone(), start },
            None => {
                let view = l.view(weights);
                let offset = view.offset + start as usize * view.dtype.size();
                let view = View { offset, dims: vec![sums, units], ..view };
                // one hidden unit is a column already
                let contiguous = units == 1;
                let input = if contiguous { Input::whole(view) } else { transposed(l, id, view, &mut roles)? };
                Right::Strided(input)
            }
        };
        Ok(Product { right, roles, result })
    }

    /// Appends the product of one hidden state.
    fn emit(&self, l: &mut Lowering<'_>, id: NodeId, hidden: &View) -> Result<(), LowerError> {
        let contraction = Contraction {
            name: "recurrence",
            result: Input::whole(self.result.clone()),
            left: Input::whole(hidden.clone()),
            right: self.right.clone(),
            extras: Vec::new(),
            guards: Vec::new(),
            epilogue: &ScalarExpr::identity(),
            others: Vec::new(),
        };
        emit(l, id, contraction, self.roles.clone())
    }
}
