//! Products of 8-bit integers that files spell out in 32 bits: what machines multiply in fours.
//!
//! A quantised layer is `Σ (x − z) · w` over 8-bit x and constant w, computed in i32. The zero point comes out of the sum, as z · Σ w,
//! which is a constant for each output where z is one; signed x become unsigned ones with another zero point, as machines
//! multiply unsigned by signed bytes. All of this is exact: i32 wraps.

use kiln_ir::attribute::{Padding, Real, Reducer};
use kiln_ir::infer::{conv_dims, dot_dims};
use kiln_ir::{DType, Op, Tensor, Value};

use super::{Canonicaliser, Rewritten, Rule};
use crate::evaluate::{View, fold};

type C<'x, 'r, 'a, 'o> = &'x mut Canonicaliser<'r, 'a, 'o>;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "unsigned_factor",
        doc: "Σ (x + a) · w over i8 x is Σ (u + (a − 128)) · w over u8 u, which is x with its sign bit flipped",
        apply: unsigned_factor,
    },
    Rule {
        name: "zero_point_behind_product",
        doc: "Σ (x + a) · w = Σ x · w + a · Σ w for u8 x, a number a and constant w of 8 bits; padding is with −a before it",
        apply: zero_point_behind_product,
    },
    Rule {
        name: "multiply_bytes",
        doc: "u8 x and constant w that i8 holds are multiplied as they are, not as the i32 that they are converted to",
        apply: multiply_bytes,
    },
];

/// What is added to a factor, or taken from it, in i32: a number.
type Shift = Option<(Op, Value)>;

/// A product or convolution in i32 of 8-bit x and constant w of 8 bits.
struct Bytes {
    /// u8 or i8.
    x: Value,
    /// What is added to x.
    shift: Shift,
    /// The weights, as i8.
    weights: Value,
}

fn multiply_bytes(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let Some(Bytes { x, weights, .. }) = bytes(c, op, operands, DType::U8, |shift| shift.is_none())? else {
        return Ok(None);
    };
    Ok(Some(c.emit(op.clone(), &[x, weights])?))
}

fn zero_point_behind_product(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let found = bytes(c, op, operands, DType::U8, |shift| shift.is_some())?;
    let Some(Bytes { mut x, shift: Some((shift, number)), weights }) = found else { return Ok(None) };
    let mut op = op.clone();
    if let Op::Conv { padding, layout, .. } = &mut op
        && padding.iter().any(|p| *p != Padding::NONE)
    {
        let Some(zero) = zero_point(c, Some(&(shift.clone(), number))) else { return Ok(None) };
        let rank = c.ty(x).rank();
        let (_, first, ..) = conv_dims(*layout, rank);
        let mut around = vec![Padding::NONE; rank];
        around[first..first + rank - 2].copy_from_slice(padding);
        padding.clear();
        x = c.emit(Op::Pad { padding: around, interior: Vec::new(), value: Real(zero) }, &[x])?;
    }
    let sums = sums_of(c, &op, operands, weights)?;
    let Some((sums, axes)) = sums else { return Ok(None) };
    let x = c.emit(Op::Convert { dtype: DType::I32 }, &[x])?;
    let weights = c.emit(Op::Convert { dtype: DType::I32 }, &[weights])?;
    let product = c.emit(op, &[x, weights])?;
    let (dims, of_sums) = (c.ty(product).dims.clone(), c.ty(sums).dims.clone());
    let number = c.emit(Op::Broadcast { dims: of_sums, axes: Vec::new() }, &[number])?;
    let moved = c.emit(Op::Mul {}, &[sums, number])?;
    let moved = c.emit(Op::Broadcast { dims, axes }, &[moved])?;
    Ok(Some(c.emit(shift, &[product, moved])?))
}

fn unsigned_factor(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let Some(Bytes { x, shift, weights }) = bytes(c, op, operands, DType::I8, |_| true)? else { return Ok(None) };
    let ty = c.ty(x).clone();
    let Some(sign) = c.fill(&ty, -128.0)? else { return Ok(None) };
    let flipped = c.emit(Op::Xor {}, &[x, sign])?;
    let unsigned = c.emit(Op::Convert { dtype: DType::U8 }, &[flipped])?;
    let wide = c.emit(Op::Convert { dtype: DType::I32 }, &[unsigned])?;
    let (shift, number) = match shift {
        None => (Op::Add {}, scalar(c, -128)?),
        Some((shift, number)) => {
            let by = if matches!(shift, Op::Add {}) { -128 } else { 128 };
            let moved = match c.splat(number) {
                Some(known) => scalar(c, (known as i32).wrapping_add(by))?,
                None => {
                    let by = scalar(c, by)?;
                    c.emit(Op::Add {}, &[number, by])?
                }
            };
            (shift, moved)
        }
    };
    let number = c.emit(Op::Broadcast { dims: ty.dims, axes: Vec::new() }, &[number])?;
    let shifted = c.emit(shift, &[wide, number])?;
    let weights = c.emit(Op::Convert { dtype: DType::I32 }, &[weights])?;
    Ok(Some(c.emit(op.clone(), &[shifted, weights])?))
}

fn scalar(c: C<'_, '_, '_, '_>, number: i32) -> Result<Value, kiln_ir::GraphError> {
    c.constant(Tensor::scalar(number))
}

/// The factors of a contraction for which all three rules hold, if x is of that dtype and its shift is wanted: weights are looked at last.
fn bytes(
    c: C<'_, '_, '_, '_>,
    op: &Op,
    operands: &[Value],
    dtype: DType,
    wanted: impl Fn(&Shift) -> bool,
) -> Result<Option<Bytes>, kiln_ir::GraphError> {
    let &[left, right] = operands else { return Ok(None) };
    let padding: &[Padding] = match op {
        Op::Dot { lhs_batch, .. } if lhs_batch.is_empty() => &[],
        Op::Conv { padding, lhs_dilation, .. } if lhs_dilation.iter().all(|&d| d == 1) => padding,
        _ => return Ok(None),
    };
    let Some((x, shift)) = factor(c, left).filter(|(x, shift)| c.ty(*x).dtype == dtype && wanted(shift)) else {
        return Ok(None);
    };
    if padding.iter().any(|p| *p != Padding::NONE) && (shift.is_some() || c.ty(x).dtype == DType::I8) {
        let unsigned = if c.ty(x).dtype == DType::I8 { 128.0 } else { 0.0 };
        let zero = zero_point(c, shift.as_ref()).map(|zero| zero + unsigned);
        let grows = padding.iter().all(|p| p.low >= 0 && p.high >= 0);
        if !grows || !zero.is_some_and(|zero| (0.0..=255.0).contains(&zero)) {
            return Ok(None);
        }
    }
    Ok(narrow(c, right)?.map(|weights| Bytes { x, shift, weights }))
}

/// The number for which x stands for 0.
fn zero_point(c: &Canonicaliser<'_, '_, '_>, shift: Option<&(Op, Value)>) -> Option<f64> {
    match shift {
        None => Some(0.0),
        Some((Op::Add {}, number)) => c.splat(*number).map(|number| -number),
        Some((_, number)) => c.splat(*number),
    }
}

/// The 8-bit integers that `v` is converted from, and the number by which it is shifted afterwards.
fn factor(c: &Canonicaliser<'_, '_, '_>, v: Value) -> Option<(Value, Shift)> {
    let converted = |v: Value| match c.made_by(&[v])? {
        (Op::Convert { dtype: DType::I32 }, kids) => {
            Some(kids[0]).filter(|&x| matches!(c.ty(x).dtype, DType::U8 | DType::I8))
        }
        _ => None,
    };
    match c.made_by(&[v])? {
        (shift @ (Op::Add {} | Op::Sub {}), kids) => {
            let (Op::Broadcast { axes, .. }, number) = c.made_by(&[kids[1]])? else { return None };
            axes.is_empty().then_some((converted(kids[0])?, Some((shift, number[0]))))
        }
        _ => Some((converted(v)?, None)),
    }
}

/// Constant weights of i32 as i8, where that holds all of them.
fn narrow(c: C<'_, '_, '_, '_>, w: Value) -> Rewritten {
    if c.ty(w).dtype != DType::I32 {
        return Ok(None);
    }
    if let Some((Op::Convert { .. }, kids)) = c.made_by(&[w])
        && c.ty(kids[0]).dtype == DType::I8
    {
        return Ok(c.is_constant(kids[0]).then_some(kids[0]));
    }
    let Some(wide) = known(c, w, 4).and_then(|view| view.store()) else { return Ok(None) };
    let (numbers, _) = wide.bytes().as_chunks::<4>();
    let narrow: Result<Vec<i8>, _> = numbers.iter().map(|&n| i8::try_from(i32::from_le_bytes(n))).collect();
    let tensor = narrow.ok().and_then(|narrow| Tensor::from_slice(wide.dims(), &narrow).ok());
    tensor.map(|tensor| c.constant(tensor)).transpose()
}

/// What constants and at most `depth` ops of them give.
fn known(c: &Canonicaliser<'_, '_, '_>, v: Value, depth: usize) -> Option<View> {
    if let Some(view) = c.view(v) {
        return Some(view);
    }
    let (op, kids) = c.made_by(&[v])?;
    if depth == 0 || !matches!(op, Op::Convert { .. } | Op::Add {} | Op::Sub {}) {
        return None;
    }
    let views = kids.iter().map(|&kid| known(c, kid, depth - 1)).collect::<Option<Vec<View>>>()?;
    fold(&op, &views)?.first().map(View::of)
}

/// The sums of the weights for each output, in i32, and the axes of the result along which they lie.
fn sums_of(
    c: C<'_, '_, '_, '_>,
    op: &Op,
    operands: &[Value],
    weights: Value,
) -> Result<Option<(Value, Vec<usize>)>, kiln_ir::GraphError> {
    let (x, w) = (c.ty(operands[0]).rank(), c.ty(weights).rank());
    let (summed, axes) = match op {
        Op::Dot { lhs_contract, rhs_contract, .. } => {
            let free = dot_dims(x, w, (&[], lhs_contract), (&[], rhs_contract));
            let from = free.lhs_free.len();
            (rhs_contract.clone(), (from..from + free.rhs_free.len()).collect())
        }
        Op::Conv { layout, .. } => {
            let (channel, _, output, ..) = conv_dims(*layout, w);
            ((0..w).filter(|&axis| axis != output).collect(), vec![channel])
        }
        _ => return Ok(None),
    };
    let sum = |axes: Vec<usize>| Op::Reduce { axes, reducer: Reducer::Sum };
    let wide = c.view(weights).and_then(|view| fold(&Op::Convert { dtype: DType::I32 }, &[view]));
    let sums = wide.and_then(|wide| fold(&sum(summed), &[View::of(wide.first()?)]));
    let sums = sums.and_then(|sums| sums.into_iter().next());
    Ok(sums.map(|sums| c.constant(sums)).transpose()?.map(|sums| (sums, axes)))
}
