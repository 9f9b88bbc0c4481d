//! Matrix products.

use kiln_ir::Op;

use super::super::emit::{Emitter, Operand, joint_dims};
use super::super::error::{Result, invalid};
use super::super::node::NodeContext;
use super::Results;
use super::conv::centred;

/// alpha · A′ · B′ + beta · C, where ′ transposes if asked to.
pub(super) fn gemm(n: &mut NodeContext<'_>) -> Results {
    let (a, b, c) = (n.input(0, "A")?, n.input(1, "B")?, n.optional(2));
    let (alpha, beta) = (n.attributes.float_or("alpha", 1.0)?, n.attributes.float_or("beta", 1.0)?);
    let (trans_a, trans_b) = (n.attributes.flag("transA", false)?, n.attributes.flag("transB", false)?);
    if n.opset < 7 {
        // Whether C broadcasts; it does by numpy's rule from opset 7 on.
        n.attributes.flag("broadcast", false)?;
    }
    if a.rank() != 2 || b.rank() != 2 {
        return invalid(format!("A and B must be matrices, found extents {:?} and {:?}", a.dims(), b.dims()));
    }
    let e = &mut *n.emit;
    let op = Op::Dot {
        lhs_batch: Vec::new(),
        rhs_batch: Vec::new(),
        lhs_contract: vec![usize::from(!trans_a)],
        rhs_contract: vec![usize::from(trans_b)],
    };
    let mut y = e.op(op, &[&a, &b])?;
    if alpha != 1.0 {
        y = e.with_scalar(Op::Mul {}, &y, alpha)?;
    }
    if let Some(c) = c.filter(|_| beta != 0.0) {
        let c = if beta == 1.0 { c } else { e.with_scalar(Op::Mul {}, &c, beta)? };
        if joint_dims(c.dims(), y.dims())? != y.dims() {
            return invalid(format!("C of extents {:?} does not broadcast to {:?}", c.dims(), y.dims()));
        }
        y = e.add(&y, &c)?;
    }
    Ok(vec![y])
}

pub(super) fn matmul(n: &mut NodeContext<'_>) -> Results {
    let (a, b) = (n.input(0, "A")?, n.input(1, "B")?);
    Ok(vec![product(n.emit, &a, &b)?])
}

/// Integers of 8 bits, each less its zero point, multiplied exactly in i32.
pub(super) fn matmul_integer(n: &mut NodeContext<'_>) -> Results {
    let (a, b) = (n.input(0, "A")?, n.input(1, "B")?);
    let (a_zero, b_zero) = (n.optional(2), n.optional(3));
    let (rows, columns) = (a.rank().checked_sub(2), b.rank().checked_sub(1));
    let a = centred(n.emit, &a, a_zero, rows)?;
    let b = centred(n.emit, &b, b_zero, columns)?;
    Ok(vec![product(n.emit, &a, &b)?])
}

/// numpy's `matmul`: vectors are rows on the left and columns on the right, leading axes broadcast.
pub(super) fn product(e: &mut Emitter, a: &Operand, b: &Operand) -> Result<Operand> {
    if a.rank() == 0 || b.rank() == 0 {
        return invalid("operands must not be scalars");
    }
    if a.rank() == 1 || b.rank() == 1 {
        let left = if a.rank() == 1 { e.reshape(a, &[1, a.extent(0)])? } else { a.clone() };
        let right = if b.rank() == 1 { e.reshape(b, &[b.extent(0), 1])? } else { b.clone() };
        let y = product(e, &left, &right)?;
        let mut dims = y.dims().to_vec();
        if b.rank() == 1 {
            dims.pop();
        }
        if a.rank() == 1 {
            dims.remove(dims.len() - usize::from(b.rank() != 1) - 1);
        }
        return e.reshape(&y, &dims);
    }
    let (a_batch, b_batch) = (&a.dims()[..a.rank() - 2], &b.dims()[..b.rank() - 2]);
    if b_batch.iter().all(|&d| d == 1) && b.rank() <= a.rank() {
        // One matrix for the whole batch: no batch axes at all.
        let b = e.reshape(b, &b.dims()[b.rank() - 2..])?;
        return e.op(dot(0, a.rank() - 1, 0), &[a, &b]);
    }
    let batch = joint_dims(a_batch, b_batch)?;
    let full = |x: &Operand| [batch.as_slice(), &x.dims()[x.rank() - 2..]].concat();
    let (a, b) = (e.broadcast_to(a, &full(a))?, e.broadcast_to(b, &full(b))?);
    let k = batch.len();
    e.op(dot(k, k + 1, k), &[&a, &b])
}

/// A product over `batch` leading axes, contracting one axis of each side.
fn dot(batch: usize, lhs: usize, rhs: usize) -> Op {
    Op::Dot {
        lhs_batch: (0..batch).collect(),
        rhs_batch: (0..batch).collect(),
        lhs_contract: vec![lhs],
        rhs_contract: vec![rhs],
    }
}
