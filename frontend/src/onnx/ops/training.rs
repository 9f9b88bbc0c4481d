//! Steps of optimisers (`ai.onnx.preview.training`): from the learning rate, the number of the step, and tensors with their
//! gradients and states to the new tensors and states.

use kiln_ir::{DType, Op};

use super::super::emit::{Emitter, Operand};
use super::super::error::{NodeError, Result, invalid};
use super::super::node::NodeContext;
use super::Results;

/// What every optimiser is given: the learning rate R, the step T, and each role's tensors.
struct Given {
    rate: Operand,
    step: Operand,
    /// By tensor: itself, its gradient, its states.
    tensors: Vec<Vec<Operand>>,
}

/// Inputs after R and T: all tensors, then all gradients, then all of each state.
fn given(n: &NodeContext<'_>, states: usize) -> Result<Given> {
    let all = n.all_inputs("inputs")?;
    let [rate, step, rest @ ..] = all.as_slice() else {
        return Err(NodeError::MissingInput { index: 1, role: "T" });
    };
    let roles = 2 + states;
    let count = rest.len() / roles;
    if count == 0 || rest.len() != count * roles {
        return invalid(format!("{} inputs after R and T; expected a multiple of {roles}", rest.len()));
    }
    for (input, role) in [(rate, "R"), (step, "T")] {
        if input.dims().iter().product::<usize>() != 1 {
            return invalid(format!("{role} must be one number, found extents {:?}", input.dims()));
        }
    }
    let tensors: Vec<Vec<Operand>> =
        (0..count).map(|i| rest.iter().skip(i).step_by(count).cloned().collect()).collect();
    for tensor in &tensors {
        let first = &tensor[0];
        if let Some(other) = tensor.iter().find(|t| t.dims() != first.dims() || t.dtype() != first.dtype()) {
            return invalid(format!(
                "a tensor of {}{:?} with a gradient or state of {}{:?}",
                first.dtype(),
                first.dims(),
                other.dtype(),
                other.dims()
            ));
        }
    }
    Ok(Given { rate: rate.clone(), step: step.clone(), tensors })
}

/// Results in the operators' order: all new tensors, then all of each new state.
fn by_role(updated: Vec<Vec<Operand>>) -> Vec<Operand> {
    let roles = updated.first().map_or(0, Vec::len);
    (0..roles).flat_map(|role| updated.iter().filter_map(move |u| u.get(role).cloned())).collect()
}

fn scaled(e: &mut Emitter, x: &Operand, factor: f64) -> Result<Operand> {
    e.with_scalar(Op::Mul {}, x, factor)
}

/// R or T as a scalar of `dtype`.
fn scalar(e: &mut Emitter, x: &Operand, dtype: DType) -> Result<Operand> {
    let x = e.reshape(x, &[])?;
    e.convert(&x, dtype)
}

/// The gradient with that of the penalty: `norm`·x + g.
fn regularized(e: &mut Emitter, x: &Operand, g: &Operand, norm: f64) -> Result<Operand> {
    if norm == 0.0 {
        return Ok(g.clone());
    }
    let penalty = scaled(e, x, norm)?;
    e.add(&penalty, g)
}

/// √h + `epsilon`.
fn root(e: &mut Emitter, h: &Operand, epsilon: f64) -> Result<Operand> {
    let root = e.op(Op::Sqrt {}, &[h])?;
    e.with_scalar(Op::Add {}, &root, epsilon)
}

/// Whether this is a step after the first one.
fn later(e: &mut Emitter, step: &Operand) -> Result<Operand> {
    e.with_scalar(Op::Greater {}, step, 0.0)
}

/// Duchi et al. 2011: h ← h + g², x ← x − R/(1 + T·decay) · g/(√h + ε).
pub(super) fn adagrad(n: &mut NodeContext<'_>) -> Results {
    let given = given(n, 1)?;
    let decay = n.attributes.float_or("decay_factor", 0.0)?;
    let epsilon = n.attributes.float_or("epsilon", 1e-6)?;
    let norm = n.attributes.float_or("norm_coefficient", 0.0)?;
    let e = &mut *n.emit;
    let mut updated = Vec::with_capacity(given.tensors.len());
    for tensor in &given.tensors {
        let [x, g, h] = tensor.as_slice() else { continue };
        let (rate, step) = (scalar(e, &given.rate, x.dtype())?, scalar(e, &given.step, x.dtype())?);
        let slowed = scaled(e, &step, decay)?;
        let slowed = e.with_scalar(Op::Add {}, &slowed, 1.0)?;
        let rate = e.div(&rate, &slowed)?;
        let g = regularized(e, x, g, norm)?;
        let square = e.mul(&g, &g)?;
        let h = e.add(h, &square)?;
        let root = root(e, &h, epsilon)?;
        let change = e.mul(&rate, &g)?;
        let change = e.div(&change, &root)?;
        updated.push(vec![e.sub(x, &change)?, h]);
    }
    Ok(by_role(updated))
}

/// Kingma and Ba 2015: v and h are running means of g and g², whose start at 0 is made good from the second step on.
pub(super) fn adam(n: &mut NodeContext<'_>) -> Results {
    let given = given(n, 2)?;
    let (alpha, beta) = (n.attributes.float_or("alpha", 0.9)?, n.attributes.float_or("beta", 0.999)?);
    let epsilon = n.attributes.float_or("epsilon", 1e-6)?;
    let norm = n.attributes.float_or("norm_coefficient", 0.0)?;
    let post = n.attributes.float_or("norm_coefficient_post", 0.0)?;
    let e = &mut *n.emit;
    let mut updated = Vec::with_capacity(given.tensors.len());
    for tensor in &given.tensors {
        let [x, g, v, h] = tensor.as_slice() else { continue };
        let (rate, step) = (scalar(e, &given.rate, x.dtype())?, scalar(e, &given.step, x.dtype())?);
        let g = regularized(e, x, g, norm)?;
        let v = mean(e, v, &g, alpha)?;
        let square = e.mul(&g, &g)?;
        let h = mean(e, h, &square, beta)?;
        let root = root(e, &h, epsilon)?;
        // What is missing of a running mean that began at 0: 1 − factor^T.
        let missing = |e: &mut Emitter, factor: f64| {
            let factor = Operand::scalar(x.dtype(), factor)?;
            let power = e.binary(Op::Pow {}, &factor, &step)?;
            let one = Operand::scalar(x.dtype(), 1.0)?;
            e.sub(&one, &power)
        };
        let (of_v, of_h) = (missing(e, alpha)?, missing(e, beta)?);
        let of_h = e.op(Op::Sqrt {}, &[&of_h])?;
        let corrected = e.mul(&rate, &of_h)?;
        let corrected = e.div(&corrected, &of_v)?;
        let later = later(e, &step)?;
        let rate = e.select(&later, &corrected, &rate)?;
        let change = e.div(&v, &root)?;
        let change = e.mul(&rate, &change)?;
        let y = e.sub(x, &change)?;
        let y = if post == 0.0 { y } else { scaled(e, &y, 1.0 - post)? };
        updated.push(vec![y, v, h]);
    }
    Ok(by_role(updated))
}

/// factor·old + (1 − factor)·new.
fn mean(e: &mut Emitter, old: &Operand, new: &Operand, factor: f64) -> Result<Operand> {
    let (old, new) = (scaled(e, old, factor)?, scaled(e, new, 1.0 - factor)?);
    e.add(&old, &new)
}

/// v ← α·v + β·g, where β is 1 in the first step; x ← x − R·v, or with Nesterov's look ahead x − R·(g + α·v).
pub(super) fn momentum(n: &mut NodeContext<'_>) -> Results {
    let given = given(n, 1)?;
    let required = |name: &str| -> Result<f64> {
        let value = n.attributes.float(name)?;
        value.ok_or_else(|| NodeError::MissingAttribute { name: name.to_owned(), expected: "a float" })
    };
    let (alpha, beta, norm) = (required("alpha")?, required("beta")?, required("norm_coefficient")?);
    if n.attributes.string("mode")?.is_none() {
        return Err(NodeError::MissingAttribute { name: "mode".into(), expected: "standard or nesterov" });
    }
    let ahead = n.attributes.word("mode", &["standard", "nesterov"])? == "nesterov";
    let e = &mut *n.emit;
    let mut updated = Vec::with_capacity(given.tensors.len());
    for tensor in &given.tensors {
        let [x, g, v] = tensor.as_slice() else { continue };
        let (rate, step) = (scalar(e, &given.rate, x.dtype())?, scalar(e, &given.step, x.dtype())?);
        let g = regularized(e, x, g, norm)?;
        let later = later(e, &step)?;
        let (one, beta) = (Operand::scalar(x.dtype(), 1.0)?, Operand::scalar(x.dtype(), beta)?);
        let weight = e.select(&later, &beta, &one)?;
        let (old, new) = (scaled(e, v, alpha)?, e.mul(&weight, &g)?);
        let v = e.add(&old, &new)?;
        let change = if ahead {
            let further = scaled(e, &v, alpha)?;
            e.add(&g, &further)?
        } else {
            v.clone()
        };
        let change = e.mul(&rate, &change)?;
        updated.push(vec![e.sub(x, &change)?, v]);
    }
    Ok(by_role(updated))
}
