//! Elementwise ops and epilogues: a scalar expression, element by element.

use super::array::{Array, Data, Datum};
use super::error::EvalError;
use super::movement;
use super::number::{Number, Undefined};
use super::scalar::Scalar;
use crate::dtype::DType;
use crate::scalar::{BinaryFn, ScalarExpr, ScalarNode, UnaryFn};

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
    let mut steps = Vec::with_capacity(expr.nodes().len());
    for i in 0..count {
        out.push(program.run(&mut steps, |argument| operands[argument as usize].data.get(i))?)?;
    }
    Ok(Array::new(dtype, dims, out))
}

/// An expression with its constants made.
pub struct Program<'a, S> {
    nodes: &'a [ScalarNode],
    constants: Vec<Option<Datum<S>>>,
}

impl<'a, S: Scalar> Program<'a, S> {
    /// `expr` for arguments of these dtypes.
    pub fn new(expr: &'a ScalarExpr, arguments: &[DType]) -> Result<Program<'a, S>, EvalError> {
        let types = expr.types(arguments).map_err(|_| EvalError::Bug { what: "an ill-typed scalar expression" })?;
        let constants = expr.nodes().iter().zip(types).map(|(node, dtype)| match node {
            ScalarNode::Const(v) => Datum::constant(v.0, dtype).map(Some),
            _ => Ok(None),
        });
        Ok(Program { nodes: expr.nodes(), constants: constants.collect::<Result<_, Undefined>>()? })
    }

    /// The value for one element; `steps` is scratch.
    pub fn run(&self, steps: &mut Vec<Datum<S>>, argument: impl Fn(u32) -> Datum<S>) -> Result<Datum<S>, EvalError> {
        steps.clear();
        for (node, constant) in self.nodes.iter().zip(&self.constants) {
            let at = |id: u32| steps[id as usize];
            let value = match *node {
                ScalarNode::Arg(i) => argument(i),
                ScalarNode::Const(_) => constant.ok_or(EvalError::Bug { what: "a constant without a value" })?,
                ScalarNode::Unary(UnaryFn::IsNan, x) => Datum::Bool(is_nan(at(x))),
                ScalarNode::Unary(f, x) => unary(f, at(x))?,
                ScalarNode::Binary(f, x, y) => binary(f, at(x), at(y))?,
                ScalarNode::Select(c, x, y) => match at(c) {
                    Datum::Bool(c) => at(if c { x } else { y }),
                    _ => return Err(EvalError::Bug { what: "a condition that is not bool" }),
                },
                ScalarNode::Convert(dtype, x) => at(x).convert(dtype)?,
            };
            steps.push(value);
        }
        steps.last().copied().ok_or(EvalError::Bug { what: "an empty scalar expression" })
    }
}

macro_rules! dispatch {
    ($($kind:ident),*) => {
        fn unary<S: Scalar>(f: UnaryFn, x: Datum<S>) -> Result<Datum<S>, Undefined> {
            Ok(match x { $(Datum::$kind(x) => Datum::$kind(Number::unary(f, x)?)),* })
        }

        fn binary<S: Scalar>(f: BinaryFn, x: Datum<S>, y: Datum<S>) -> Result<Datum<S>, EvalError> {
            Ok(match (x, y) {
                $(
                    (Datum::$kind(x), Datum::$kind(y)) if f.is_comparison() => Datum::Bool(Number::compare(f, x, y)?),
                    (Datum::$kind(x), Datum::$kind(y)) => Datum::$kind(Number::binary(f, x, y)?),
                )*
                _ => return Err(EvalError::Bug { what: "a function of two dtypes" }),
            })
        }

        fn is_nan<S: Scalar>(x: Datum<S>) -> bool {
            match x { $(Datum::$kind(x) => Number::is_nan(x)),* }
        }
    };
}
dispatch!(Scalar, F64, I64, I32, I8, U8, Bool);
