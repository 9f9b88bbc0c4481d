//! The elementwise ops as one pattern, so that a match that treats them alike need not list them and is exhaustive.

/// A pattern of the elementwise ops that the table gives a formula (and `convert`, whose attribute is its formula):
/// [`Op::scalar`](crate::Op::scalar) says what each computes. `fused_elementwise`, whose operands broadcast, is none
/// of them. With a word in the parentheses, a part:
///
/// | pattern | ops |
/// |---|---|
/// | `elementwise_op!()` | all |
/// | `elementwise_op!(primitive)` | those of L0 |
/// | `elementwise_op!(composite)` | those of L1 |
/// | `elementwise_op!(arithmetic)` | of two operands, L0: arithmetic and comparisons |
///
/// ```
/// use kiln_ir::{Op, elementwise_op};
///
/// assert!(matches!(Op::Relu {}, elementwise_op!()));
/// assert!(!matches!(Op::Relu {}, elementwise_op!(primitive)));
/// ```
#[macro_export]
macro_rules! elementwise_op {
    () => {
        $crate::elementwise_op!(primitive) | $crate::elementwise_op!(composite)
    };
    (primitive) => {
        $crate::Op::Neg {}
            | $crate::Op::Abs {}
            | $crate::Op::Sign {}
            | $crate::Op::Floor {}
            | $crate::Op::Ceil {}
            | $crate::Op::Round {}
            | $crate::Op::Sqrt {}
            | $crate::Op::Rsqrt {}
            | $crate::Op::Reciprocal {}
            | $crate::Op::Exp {}
            | $crate::Op::Log {}
            | $crate::Op::Log1p {}
            | $crate::Op::Sin {}
            | $crate::Op::Cos {}
            | $crate::Op::Atan {}
            | $crate::Op::Tanh {}
            | $crate::Op::Erf {}
            | $crate::Op::Not {}
            | $crate::Op::IsNan {}
            | $crate::Op::Convert { .. }
            | $crate::elementwise_op!(arithmetic)
            | $crate::Op::And {}
            | $crate::Op::Or {}
            | $crate::Op::Xor {}
            | $crate::Op::Select {}
    };
    (arithmetic) => {
        $crate::Op::Add {}
            | $crate::Op::Sub {}
            | $crate::Op::Mul {}
            | $crate::Op::Div {}
            | $crate::Op::Rem {}
            | $crate::Op::Pow {}
            | $crate::Op::Maximum {}
            | $crate::Op::Minimum {}
            | $crate::Op::Equal {}
            | $crate::Op::NotEqual {}
            | $crate::Op::Less {}
            | $crate::Op::LessEqual {}
            | $crate::Op::Greater {}
            | $crate::Op::GreaterEqual {}
    };
    (composite) => {
        $crate::Op::Relu {}
            | $crate::Op::Clip { .. }
            | $crate::Op::LeakyRelu { .. }
            | $crate::Op::PRelu {}
            | $crate::Op::Elu { .. }
            | $crate::Op::Sigmoid {}
            | $crate::Op::HardSigmoid { .. }
            | $crate::Op::HardSwish {}
            | $crate::Op::Silu {}
            | $crate::Op::Gelu {}
            | $crate::Op::GeluTanh {}
            | $crate::Op::Softplus {}
            | $crate::Op::Mish {}
            | $crate::Op::Softsign {}
            | $crate::Op::Asin {}
            | $crate::Op::Acos {}
            | $crate::Op::Asinh {}
            | $crate::Op::Acosh {}
            | $crate::Op::Atanh {}
    };
}

#[cfg(test)]
mod tests {
    use crate::ops::{Level, Op, ROWS};

    #[test]
    fn the_pattern_has_every_row_with_a_formula_and_its_parts_are_the_levels() {
        let rows: Vec<_> = ROWS.iter().filter(|row| row.formula.is_some()).collect();
        assert!(rows.len() > 40, "{} rows have a formula", rows.len());
        for row in rows {
            let op = Op::from_attributes(row.mnemonic, &[]).expect("attributes of elementwise ops have defaults");
            assert!(matches!(op, elementwise_op!()), "{} is not in the pattern", row.mnemonic);
            assert_eq!(matches!(op, elementwise_op!(primitive)), row.level == Level::L0, "{}", row.mnemonic);
            assert_eq!(matches!(op, elementwise_op!(composite)), row.level == Level::L1, "{}", row.mnemonic);
            assert!(!matches!(op, elementwise_op!(arithmetic)) || row.operands.len() == 2, "{}", row.mnemonic);
        }
    }
}
