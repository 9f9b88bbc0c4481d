//! Elementwise ops and epilogues: a scalar expression, a block of elements at a time.

use super::array::{Array, Data, Datum, map_data, with_both, with_data, zip_data};
use super::error::EvalError;
use super::movement;
use super::number::{Number, Undefined};
use super::scalar::Scalar;
use crate::dtype::DType;
use crate::scalar::{BinaryFn, ScalarExpr, ScalarNode, UnaryFn};

/// Elements whose intermediate values are held at once: enough that choosing the function costs nothing beside
/// computing it, few enough for the cache.
const BLOCK: usize = 1024;

/// `expr` of operands whose extents are `dims`' or 1. Steps over f16 and bf16 are computed in f32; only the result,
/// and explicit conversions, are rounded.
pub fn evaluate<S: Scalar>(
    expr: &ScalarExpr,
    operands: &[Array<S>],
    dims: &[usize],
    dtype: DType,
) -> Result<Array<S>, EvalError> {
    let operands: Vec<Array<S>> = operands.iter().map(|x| movement::expanded(x, dims)).collect();
    let program = Program::new(expr, &operands.iter().map(|x| x.dtype).collect::<Vec<_>>())?;
    let count = dims.iter().product();
    let mut out = Data::with_capacity(dtype, count);
    for start in (0..count).step_by(BLOCK) {
        let length = BLOCK.min(count - start);
        let block = program.run(length, |argument| operands[argument as usize].data.block(start, length))?;
        out.append(&block, 0, length)?;
    }
    Ok(Array::new(dtype, dims, out))
}

/// An expression with its constants made.
struct Program<'a, S> {
    nodes: &'a [ScalarNode],
    constants: Vec<Option<Datum<S>>>,
}

impl<'a, S: Scalar> Program<'a, S> {
    /// `expr` for arguments of these dtypes.
    fn new(expr: &'a ScalarExpr, arguments: &[DType]) -> Result<Program<'a, S>, EvalError> {
        let types = expr.types(arguments).map_err(|_| EvalError::Bug { what: "an ill-typed scalar expression" })?;
        let constants = expr.nodes().iter().zip(types).map(|(node, dtype)| match node {
            ScalarNode::Const(v) => Datum::constant(v.0, dtype).map(Some),
            _ => Ok(None),
        });
        Ok(Program { nodes: expr.nodes(), constants: constants.collect::<Result<_, Undefined>>()? })
    }

    /// The values for `length` elements, of which `argument` gives those of each argument.
    fn run(&self, length: usize, argument: impl Fn(u32) -> Data<S>) -> Result<Data<S>, EvalError> {
        let mut steps: Vec<Data<S>> = Vec::with_capacity(self.nodes.len());
        for (node, constant) in self.nodes.iter().zip(&self.constants) {
            let at = |id: u32| &steps[id as usize];
            let value = match *node {
                ScalarNode::Arg(i) => argument(i),
                ScalarNode::Const(_) => {
                    constant.ok_or(EvalError::Bug { what: "a constant without a value" })?.repeated(length)
                }
                ScalarNode::Unary(f, x) => unary(f, at(x))?,
                ScalarNode::Binary(f, x, y) => binary(f, at(x), at(y))?,
                ScalarNode::Select(c, x, y) => select(at(c), at(x), at(y))?,
                ScalarNode::Convert(dtype, x) => convert(at(x), dtype)?,
            };
            steps.push(value);
        }
        steps.pop().ok_or(EvalError::Bug { what: "an empty scalar expression" })
    }
}

fn unary<S: Scalar>(f: UnaryFn, x: &Data<S>) -> Result<Data<S>, Undefined> {
    if f == UnaryFn::IsNan {
        return Ok(Data::Bool(with_data!(x, |v| v.iter().map(|&x| x.is_nan()).collect())));
    }
    Ok(map_data!(x, |v| v.iter().map(|&x| Number::unary(f, x)).collect::<Result<_, _>>()?))
}

fn binary<S: Scalar>(f: BinaryFn, x: &Data<S>, y: &Data<S>) -> Result<Data<S>, EvalError> {
    if f.is_comparison() {
        return compare(f, x, y);
    }
    Ok(zip_data!(x, y, |v, w| {
        v.iter().zip(w).map(|(&x, &y)| Number::binary(f, x, y)).collect::<Result<_, Undefined>>()?
    }))
}

fn compare<S: Scalar>(f: BinaryFn, x: &Data<S>, y: &Data<S>) -> Result<Data<S>, EvalError> {
    fn all<T: Number>(f: BinaryFn, x: &[T], y: &[T]) -> Result<Vec<bool>, Undefined> {
        x.iter().zip(y).map(|(&x, &y)| T::compare(f, x, y)).collect()
    }
    Ok(Data::Bool(with_both!(x, y, |v, w| all(f, v, w)?)))
}

fn select<S: Scalar>(condition: &Data<S>, x: &Data<S>, y: &Data<S>) -> Result<Data<S>, EvalError> {
    let Data::Bool(condition) = condition else { return Err(EvalError::Bug { what: "a condition that is not bool" }) };
    Ok(zip_data!(x, y, |v, w| condition
        .iter()
        .zip(v.iter().zip(w))
        .map(|(&c, (&x, &y))| if c { x } else { y })
        .collect()))
}

/// Each element in `dtype`; see [`Datum::convert`].
pub(super) fn convert<S: Scalar>(x: &Data<S>, dtype: DType) -> Result<Data<S>, EvalError> {
    let mut out = Data::with_capacity(dtype, x.count());
    for i in 0..x.count() {
        out.push(x.get(i).convert(dtype)?)?;
    }
    Ok(out)
}
