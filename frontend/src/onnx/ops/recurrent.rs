//! Recurrent layers: RNN, LSTM and GRU, in every direction.
//!
//! The products of the input are one product for all steps; what remains for each step is Kiln's `recurrent`. ONNX orders
//! the gates of an LSTM input, output, forget, cell and those of a GRU update, reset, new; Kiln orders them as PyTorch does.

use kiln_ir::Op;
use kiln_ir::attribute::{Cell, Real};
use kiln_ir::scalar::ScalarExpr;

use super::super::emit::{Emitter, Operand};
use super::super::error::{Result, invalid, unsupported};
use super::super::node::NodeContext;
use super::Results;

pub(super) fn rnn(n: &mut NodeContext<'_>) -> Results {
    recurrent(n, Cell::Rnn, &[0])
}

pub(super) fn lstm(n: &mut NodeContext<'_>) -> Results {
    recurrent(n, Cell::Lstm, &[0, 2, 3, 1])
}

pub(super) fn gru(n: &mut NodeContext<'_>) -> Results {
    let cell = if n.attributes.flag("linear_before_reset", false)? { Cell::Gru } else { Cell::GruResetBefore };
    recurrent(n, cell, &[1, 0, 2])
}

/// The operands of all directions.
struct Operands {
    x: Operand,
    w: Operand,
    r: Operand,
    bias: Option<Operand>,
    hidden: Option<Operand>,
    state: Option<Operand>,
    peepholes: Option<Operand>,
    units: usize,
}

fn recurrent(n: &mut NodeContext<'_>, cell: Cell, order: &[usize]) -> Results {
    let directions: &[bool] = match n.attributes.word("direction", &["forward", "reverse", "bidirectional"])? {
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        _ => &[false],
    };
    let coupled = cell == Cell::Lstm && n.attributes.flag("input_forget", false)?;
    // Before opset 7, whether Y is wanted; it is where the node names it.
    n.attributes.dismiss("output_sequence");
    let batch_first = n.opset >= 14 && n.attributes.flag("layout", false)?;
    let activations = activations(n, cell, directions.len())?;
    let mut operands = operands(n, cell, directions.len(), batch_first)?;
    if coupled {
        couple(n.emit, &mut operands, &activations)?;
    }
    let activations = match n.attributes.float("clip")? {
        Some(limit) => clipped(limit, activations, cell, directions.len())?,
        None => activations,
    };
    check_lengths(n, &operands)?;
    let e = &mut *n.emit;
    let mut ends: [Vec<Operand>; 3] = Default::default();
    for (at, &reverse) in directions.iter().enumerate() {
        let activations = activations.get(at).cloned().unwrap_or_default();
        let op = Op::Recurrent { cell, activations, reverse };
        let results = direction(e, &operands, at, op, cell, order)?;
        let Some(y) = results.first() else { return invalid("the layer has no result") };
        let steps = y.extent(0);
        let last = if reverse { 0 } else { steps.saturating_sub(1) };
        let h = e.slice_axis(y, 0, last, last + 1)?;
        let (batch, units) = (y.extent(1), y.extent(2));
        ends[0].push(e.reshape(y, &[steps, 1, batch, units])?);
        ends[1].push(h);
        if let Some(c) = results.get(1) {
            ends[2].push(e.reshape(c, &[1, batch, units])?);
        }
    }
    let [y, h, c] = ends;
    let mut joined = vec![joined(e, &y, 1)?, joined(e, &h, 0)?];
    if !c.is_empty() {
        joined.push(self::joined(e, &c, 0)?);
    }
    if batch_first {
        let perms: [&[usize]; 3] = [&[2, 0, 1, 3], &[1, 0, 2], &[1, 0, 2]];
        joined = joined.iter().zip(perms).map(|(x, perm)| e.transpose(x, perm)).collect::<Result<_>>()?;
    }
    Ok(joined)
}

fn joined(e: &mut Emitter, parts: &[Operand], axis: usize) -> Result<Operand> {
    match parts {
        [one] => Ok(one.clone()),
        _ => e.concat(&parts.iter().collect::<Vec<_>>(), axis),
    }
}

/// The operands, checked against one another; x [T, batch, inputs], states [directions, batch, H].
fn operands(n: &mut NodeContext<'_>, cell: Cell, directions: usize, batch_first: bool) -> Result<Operands> {
    let (mut x, w, r) = (n.input(0, "X")?, n.input(1, "W")?, n.input(2, "R")?);
    let (bias, mut hidden) = (n.optional(3), n.optional(5));
    let lstm = cell == Cell::Lstm;
    let (mut state, peepholes) = if lstm { (n.optional(6), n.optional(7)) } else { (None, None) };
    if x.rank() != 3 || w.rank() != 3 || r.rank() != 3 {
        return invalid(format!(
            "X, W and R must have three axes, found extents {:?}, {:?} and {:?}",
            x.dims(),
            w.dims(),
            r.dims()
        ));
    }
    if batch_first {
        let e = &mut *n.emit;
        x = e.transpose(&x, &[1, 0, 2])?;
        let turned = |e: &mut Emitter, s: Option<Operand>| match s {
            Some(s) if s.rank() == 3 => e.transpose(&s, &[1, 0, 2]).map(Some),
            other => Ok(other),
        };
        hidden = turned(e, hidden)?;
        state = turned(e, state)?;
    }
    let units = r.extent(2);
    if let Some(said) = n.attributes.int("hidden_size")?
        && usize::try_from(said) != Ok(units)
    {
        return invalid(format!("hidden_size is {said}, but R has {units} columns"));
    }
    let (batch, sums) = (x.extent(1), cell.gates() * units);
    if units == 0 || x.extent(0) == 0 {
        return unsupported(format!("a layer of {units} hidden units over {} steps", x.extent(0)));
    }
    let mut wrong = Vec::new();
    let mut expect = |what: &str, operand: Option<&Operand>, expected: &[usize]| {
        if let Some(operand) = operand.filter(|o| o.dims() != expected) {
            wrong.push(format!("{what} must have extents {expected:?}, found {:?}", operand.dims()));
        }
    };
    expect("W", Some(&w), &[directions, sums, x.extent(2)]);
    expect("R", Some(&r), &[directions, sums, units]);
    expect("B", bias.as_ref(), &[directions, 2 * sums]);
    expect("initial_h", hidden.as_ref(), &[directions, batch, units]);
    expect("initial_c", state.as_ref(), &[directions, batch, units]);
    expect("P", peepholes.as_ref(), &[directions, 3 * units]);
    if !wrong.is_empty() {
        return invalid(wrong.join("; "));
    }
    Ok(Operands { x, w, r, bias, hidden, state, peepholes, units })
}

/// Sequences of a batch that end before the others have other last states; only whole ones are supported.
fn check_lengths(n: &NodeContext<'_>, operands: &Operands) -> Result<()> {
    let steps = operands.x.extent(0);
    match n.optional(4) {
        None => Ok(()),
        Some(lengths) => match lengths.tensor() {
            Some(known) if known.to_i64_vec().iter().all(|&l| usize::try_from(l) == Ok(steps)) => Ok(()),
            Some(known) => {
                unsupported(format!("sequence_lens {:?} (only sequences of all {steps} steps are)", known.to_i64_vec()))
            }
            None => unsupported("sequence_lens that are not known at import (make them constants, or leave them out)"),
        },
    }
}

/// Makes the forget gates of an LSTM 1 less the input gates: 1 − sigmoid(z) is sigmoid(−z), so their weights, biases and peepholes
/// are those of the input gates negated.
fn couple(e: &mut Emitter, all: &mut Operands, activations: &[Vec<ScalarExpr>]) -> Result<()> {
    let cells = Cell::Lstm.default_activations();
    if activations.iter().any(|own| own.first() != cells.first()) {
        return unsupported("input_forget = 1 with another activation of the gates than the sigmoid");
    }
    let units = all.units;
    // gate `from` of `x`, whose axis 1 has gates one after the other, negated in the place of gate `to`
    let mut negated = |x: &Operand, from: usize, to: usize| -> Result<Operand> {
        let gate = e.slice_axis(x, 1, from * units, (from + 1) * units)?;
        let gate = e.op(Op::Neg {}, &[&gate])?;
        let before = e.slice_axis(x, 1, 0, to * units)?;
        let behind = e.slice_axis(x, 1, (to + 1) * units, x.extent(1))?;
        e.concat(&[&before, &gate, &behind], 1)
    };
    // input, output, forget, cell; of biases twice
    all.w = negated(&all.w, 0, 2)?;
    all.r = negated(&all.r, 0, 2)?;
    if let Some(bias) = &all.bias {
        let input = negated(bias, 0, 2)?;
        all.bias = Some(negated(&input, 4, 6)?);
    }
    if let Some(peepholes) = &all.peepholes {
        all.peepholes = Some(negated(peepholes, 0, 2)?);
    }
    Ok(())
}

/// One direction: its results.
fn direction(e: &mut Emitter, all: &Operands, at: usize, op: Op, cell: Cell, order: &[usize]) -> Results {
    let (units, sums, batch) = (all.units, all.units * order.len(), all.x.extent(1));
    let dtype = all.x.dtype();
    let of = |e: &mut Emitter, x: &Operand| {
        let part = e.slice_axis(x, 0, at, at + 1)?;
        e.reshape(&part, &x.dims()[1..])
    };
    let sorted = |e: &mut Emitter, x: &Operand, axis: usize| {
        let gates: Vec<Operand> =
            order.iter().map(|&g| e.slice_axis(x, axis, g * units, (g + 1) * units)).collect::<Result<_>>()?;
        joined(e, &gates, axis)
    };
    let (w, r) = (of(e, &all.w)?, of(e, &all.r)?);
    let (w, r) = (sorted(e, &w, 0)?, sorted(e, &r, 0)?);
    let product = Op::Dot { lhs_batch: vec![], rhs_batch: vec![], lhs_contract: vec![2], rhs_contract: vec![1] };
    let mut x = e.op(product, &[&all.x, &w])?;
    let mut candidate = None;
    if let Some(bias) = &all.bias {
        let bias = of(e, bias)?;
        let halves = [e.slice_axis(&bias, 0, 0, sums)?, e.slice_axis(&bias, 0, sums, 2 * sums)?];
        let [input, mut recurrence] = [sorted(e, &halves[0], 0)?, sorted(e, &halves[1], 0)?];
        if cell == Cell::Gru {
            // the candidate's recurrent bias is inside its reset
            candidate = Some(e.slice_axis(&recurrence, 0, 2 * units, sums)?);
            let kept = e.slice_axis(&recurrence, 0, 0, 2 * units)?;
            let none = e.broadcast_to(&Operand::scalar(dtype, 0.0)?, &[units])?;
            recurrence = e.concat(&[&kept, &none], 0)?;
        }
        let bias = e.add(&input, &recurrence)?;
        x = e.add(&x, &bias)?;
    }
    let state = |e: &mut Emitter, given: &Option<Operand>| match given {
        Some(given) => of(e, given),
        None => e.broadcast_to(&Operand::scalar(dtype, 0.0)?, &[batch, units]),
    };
    let mut operands = vec![x, r, state(e, &all.hidden)?];
    if cell == Cell::Lstm {
        operands.push(state(e, &all.state)?);
    }
    if cell == Cell::Gru {
        operands.push(match candidate {
            Some(bias) => e.reshape(&bias, &[1, units])?,
            None => e.broadcast_to(&Operand::scalar(dtype, 0.0)?, &[1, units])?,
        });
    }
    if let Some(peepholes) = &all.peepholes {
        // input, output, forget
        let p = of(e, peepholes)?;
        let rows: Vec<Operand> =
            [0, 2, 1].iter().map(|&g| e.slice_axis(&p, 0, g * units, (g + 1) * units)).collect::<Result<_>>()?;
        let p = joined(e, &rows, 0)?;
        operands.push(e.reshape(&p, &[3, units])?);
    }
    e.op_all(op, &operands.iter().collect::<Vec<_>>())
}

/// The activations of what a limit leaves of their arguments.
fn clipped(
    limit: f64,
    activations: Vec<Vec<ScalarExpr>>,
    cell: Cell,
    directions: usize,
) -> Result<Vec<Vec<ScalarExpr>>> {
    let limited = ScalarExpr::parse_named("max(min(x, limit), -limit)", &["x"], &[("limit", limit)]).ok();
    let Some(limited) = limited.filter(|_| limit > 0.0) else {
        return invalid(format!("clip must be greater than 0, found {limit}"));
    };
    let mut activations =
        if activations.is_empty() { vec![cell.default_activations(); directions] } else { activations };
    for expr in activations.iter_mut().flatten() {
        *expr = expr.substitute(std::slice::from_ref(&limited), &[vec![0]]);
    }
    Ok(activations)
}

/// The activations of each direction; none where they are the cell's own.
fn activations(n: &NodeContext<'_>, cell: Cell, directions: usize) -> Result<Vec<Vec<ScalarExpr>>> {
    let wanted = cell.default_activations().len();
    let mut alphas = n.attributes.floats("activation_alpha")?.unwrap_or_default().iter().copied().map(f64::from);
    let mut betas = n.attributes.floats("activation_beta")?.unwrap_or_default().iter().copied().map(f64::from);
    let Some(names) = n.attributes.strings("activations")? else { return Ok(Vec::new()) };
    if names.len() != wanted * directions {
        return invalid(format!("activations must be {} names, found {names:?}", wanted * directions));
    }
    let mut all = Vec::with_capacity(names.len());
    for name in &names {
        // each activation that has one takes the next alpha and the next beta
        let mut alpha = |default: f64| alphas.next().unwrap_or(default);
        let mut beta = |default: f64| betas.next().unwrap_or(default);
        let formula = |text: &str, alpha: f64, beta: f64| {
            ScalarExpr::parse_named(text, &["x"], &[("alpha", alpha), ("beta", beta)]).ok()
        };
        let expr = match name.to_ascii_lowercase().as_str() {
            "relu" => Op::Relu {}.scalar(),
            "tanh" => Op::Tanh {}.scalar(),
            "sigmoid" => Op::Sigmoid {}.scalar(),
            "softsign" => Op::Softsign {}.scalar(),
            "softplus" => Op::Softplus {}.scalar(),
            "leakyrelu" => Op::LeakyRelu { slope: Real(alpha(0.01)) }.scalar(),
            "hardsigmoid" => Op::HardSigmoid { alpha: Real(alpha(0.2)), beta: Real(beta(0.5)) }.scalar(),
            "elu" => Op::Elu { alpha: Real(alpha(1.0)) }.scalar(),
            "affine" => formula("alpha * x + beta", alpha(1.0), beta(0.0)),
            "thresholdedrelu" => formula("select(x > alpha, x, 0)", alpha(1.0), 0.0),
            "scaledtanh" => formula("alpha * tanh(beta * x)", alpha(1.0), beta(1.0)),
            _ => None,
        };
        let Some(expr) = expr else { return unsupported(format!("the activation `{name}`")) };
        all.push(expr);
    }
    Ok(all.chunks(wanted).map(<[ScalarExpr]>::to_vec).collect())
}
