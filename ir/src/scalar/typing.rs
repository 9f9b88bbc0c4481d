//! Dtypes of a scalar expression's steps.

use super::{BinaryFn, ScalarExpr, ScalarNode, UnaryFn, children};
use crate::dtype::DType;

/// A scalar expression applied to dtypes it is not defined for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScalarTypeError {
    /// Two operands that must agree do not.
    #[error("`{function}` needs operands of one dtype, found {left} and {right}")]
    Mismatch {
        /// The function.
        function: String,
        /// First operand.
        left: DType,
        /// Second operand.
        right: DType,
    },
    /// A function of a dtype it is not defined for.
    #[error("`{function}` is not defined for {found}: expected {expected}")]
    Undefined {
        /// The function.
        function: String,
        /// What it takes.
        expected: &'static str,
        /// What it got.
        found: DType,
    },
    /// More arguments used than given.
    #[error("the expression uses a{used}, but has {given} arguments")]
    Arity {
        /// Highest argument used.
        used: u32,
        /// Arguments given.
        given: usize,
    },
}

impl ScalarExpr {
    /// The dtype of every step for arguments of `arguments`' dtypes. Constants take the dtype of what they
    /// meet; a constant (or an expression of constants alone) that meets nothing is f32.
    pub fn types(&self, arguments: &[DType]) -> Result<Vec<DType>, ScalarTypeError> {
        let mut types: Vec<Option<DType>> = Vec::with_capacity(self.nodes.len());
        for &node in &self.nodes {
            let at = |i: u32| types[i as usize];
            let ty = match node {
                ScalarNode::Arg(i) => match arguments.get(i as usize) {
                    Some(&d) => Some(d),
                    None => return Err(ScalarTypeError::Arity { used: i, given: arguments.len() }),
                },
                ScalarNode::Const(_) => None,
                ScalarNode::Unary(f, x) => unary(f, at(x))?,
                ScalarNode::Binary(f, x, y) => binary(f, at(x), at(y))?,
                ScalarNode::Select(c, x, y) => {
                    if let Some(found) = at(c).filter(|&d| d != DType::Bool) {
                        return Err(ScalarTypeError::Undefined {
                            function: "select".into(),
                            expected: "a bool condition",
                            found,
                        });
                    }
                    agree("select", at(x), at(y))?
                }
                ScalarNode::Convert(d, _) => Some(d),
            };
            types.push(ty);
        }
        // Constants that took no dtype so far take that of their consumer, latest consumer first.
        for i in (0..self.nodes.len()).rev() {
            let own = types[i];
            let (count, kids) = children(self.nodes[i]);
            let want = match self.nodes[i] {
                ScalarNode::Binary(f, x, y) if f.is_comparison() => types[x as usize].or(types[y as usize]),
                ScalarNode::Convert(..) => None,
                _ => own,
            };
            for (position, &k) in kids[..count].iter().enumerate() {
                let slot = &mut types[k as usize];
                let condition = matches!(self.nodes[i], ScalarNode::Select(..)) && position == 0;
                *slot = slot.or(if condition { Some(DType::Bool) } else { want });
            }
        }
        Ok(types.into_iter().map(|t| t.unwrap_or(DType::F32)).collect())
    }

    /// The dtype of the result for arguments of `arguments`' dtypes.
    pub fn result_type(&self, arguments: &[DType]) -> Result<DType, ScalarTypeError> {
        Ok(self.types(arguments)?.last().copied().unwrap_or(DType::F32))
    }
}

fn agree(function: &str, x: Option<DType>, y: Option<DType>) -> Result<Option<DType>, ScalarTypeError> {
    match (x, y) {
        (Some(left), Some(right)) if left != right => {
            Err(ScalarTypeError::Mismatch { function: function.into(), left, right })
        }
        _ => Ok(x.or(y)),
    }
}

fn unary(f: UnaryFn, x: Option<DType>) -> Result<Option<DType>, ScalarTypeError> {
    let Some(found) = x else { return Ok(if f == UnaryFn::IsNan { Some(DType::Bool) } else { None }) };
    let (ok, expected) = match f {
        UnaryFn::Neg | UnaryFn::Abs | UnaryFn::Sign => (found != DType::Bool, "a number"),
        UnaryFn::Not => (!found.is_float(), "bool or an integer"),
        _ => (found.is_float(), "a float"),
    };
    if !ok {
        return Err(ScalarTypeError::Undefined { function: f.text().into(), expected, found });
    }
    Ok(Some(if f == UnaryFn::IsNan { DType::Bool } else { found }))
}

fn binary(f: BinaryFn, x: Option<DType>, y: Option<DType>) -> Result<Option<DType>, ScalarTypeError> {
    let ty = agree(f.text(), x, y)?;
    if let Some(found) = ty {
        let (ok, expected) = match f {
            BinaryFn::Eq | BinaryFn::Ne => (true, ""),
            BinaryFn::And | BinaryFn::Or | BinaryFn::Xor => (!found.is_float(), "bool or an integer"),
            _ => (found != DType::Bool, "numbers"),
        };
        if !ok {
            return Err(ScalarTypeError::Undefined { function: f.text().into(), expected, found });
        }
    }
    Ok(if f.is_comparison() { Some(DType::Bool) } else { ty })
}
