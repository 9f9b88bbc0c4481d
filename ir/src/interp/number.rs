//! What the interpreter asks of a number, and the integers and truth values that answer.

use std::fmt::Debug;

use crate::scalar::{BinaryFn, UnaryFn};

/// Something that has no value in the scalar type it was asked of.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Undefined {
    /// The function means nothing for these scalars.
    #[error("`{function}` has no meaning over {scalar}")]
    Function {
        /// The function's name in scalar expressions.
        function: &'static str,
        /// What was computed with.
        scalar: &'static str,
    },
    /// A field has no inverse of zero.
    #[error("`{function}` divides by zero, which a field cannot")]
    DivisionByZero {
        /// The function's name in scalar expressions.
        function: &'static str,
    },
    /// A real number that stands for no small fraction.
    #[error(
        "{value} is neither a fraction with a small denominator nor a multiple of 2^-30, so it stands for no element \
         of the prime field: use integers or simple fractions"
    )]
    Number {
        /// The number.
        value: f64,
    },
}

/// A type that tensors hold while they are interpreted.
pub trait Number: Copy + PartialEq + Debug + 'static {
    /// What error texts call values of this type.
    const SCALAR: &'static str;
    /// 0, or false.
    const ZERO: Self;
    /// 1, or true.
    const ONE: Self;

    /// Sum; integers wrap; of truth values: or.
    fn plus(self, other: Self) -> Self;
    /// Product; integers wrap; of truth values: and.
    fn times(self, other: Self) -> Self;
    /// A function of one argument whose result is of the argument's type.
    fn unary(f: UnaryFn, x: Self) -> Result<Self, Undefined>;
    /// A function of two arguments whose result is of their type.
    fn binary(f: BinaryFn, x: Self, y: Self) -> Result<Self, Undefined>;
    /// A comparison.
    fn compare(f: BinaryFn, x: Self, y: Self) -> Result<bool, Undefined>;
    /// Whether the value is NaN.
    fn is_nan(self) -> bool;
    /// The identity of a maximum.
    fn least() -> Result<Self, Undefined>;
    /// The identity of a minimum.
    fn greatest() -> Result<Self, Undefined>;
}

/// The error of a function that `T` does not have.
pub(super) fn undefined<R, T: Number>(function: &'static str) -> Result<R, Undefined> {
    Err(Undefined::Function { function, scalar: T::SCALAR })
}

/// A comparison of ordered types, NaN unequal to everything.
pub(super) fn compare_ordered<T: Number + PartialOrd>(f: BinaryFn, x: T, y: T) -> Result<bool, Undefined> {
    Ok(match f {
        BinaryFn::Eq => x == y,
        BinaryFn::Ne => x != y,
        BinaryFn::Lt => x < y,
        BinaryFn::Le => x <= y,
        BinaryFn::Gt => x > y,
        BinaryFn::Ge => x >= y,
        _ => return undefined::<_, T>(f.text()),
    })
}

macro_rules! integers {
    ($($int:ident),*) => {$(
        impl Number for $int {
            const SCALAR: &'static str = stringify!($int);
            const ZERO: Self = 0;
            const ONE: Self = 1;

            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            fn times(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }

            fn unary(f: UnaryFn, x: Self) -> Result<Self, Undefined> {
                Ok(match f {
                    UnaryFn::Neg => x.wrapping_neg(),
                    // Going through i64 serves signed and unsigned alike: the conversion back wraps.
                    UnaryFn::Abs => (x as i64).wrapping_abs() as $int,
                    UnaryFn::Sign => (x as i64).signum() as $int,
                    UnaryFn::Not => !x,
                    _ => return undefined::<_, $int>(f.text()),
                })
            }

            fn binary(f: BinaryFn, x: Self, y: Self) -> Result<Self, Undefined> {
                Ok(match f {
                    BinaryFn::Add => x.wrapping_add(y),
                    BinaryFn::Sub => x.wrapping_sub(y),
                    BinaryFn::Mul => x.wrapping_mul(y),
                    BinaryFn::Div if y == 0 => 0,
                    BinaryFn::Div => x.wrapping_div(y),
                    BinaryFn::Rem if y == 0 => 0,
                    BinaryFn::Rem => x.wrapping_rem(y),
                    BinaryFn::Pow => integer_power(x as i64, y as i64) as $int,
                    BinaryFn::Max => x.max(y),
                    BinaryFn::Min => x.min(y),
                    BinaryFn::And => x & y,
                    BinaryFn::Or => x | y,
                    BinaryFn::Xor => x ^ y,
                    _ => return undefined::<_, $int>(f.text()),
                })
            }

            fn compare(f: BinaryFn, x: Self, y: Self) -> Result<bool, Undefined> {
                compare_ordered(f, x, y)
            }

            fn is_nan(self) -> bool {
                false
            }

            fn least() -> Result<Self, Undefined> {
                Ok($int::MIN)
            }

            fn greatest() -> Result<Self, Undefined> {
                Ok($int::MAX)
            }
        }
    )*};
}
integers!(i64, i32, i8, u8);

/// x to the power y, wrapping; a negative power truncates towards zero as a quotient does, and 0 to one is 0.
fn integer_power(x: i64, y: i64) -> i64 {
    if y < 0 {
        return match x {
            1 => 1,
            -1 if y % 2 != 0 => -1,
            -1 => 1,
            _ => 0,
        };
    }
    let (mut base, mut exponent, mut result) = (x, y, 1i64);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    result
}

impl Number for bool {
    const SCALAR: &'static str = "bool";
    const ZERO: Self = false;
    const ONE: Self = true;

    fn plus(self, other: Self) -> Self {
        self | other
    }

    fn times(self, other: Self) -> Self {
        self & other
    }

    fn unary(f: UnaryFn, x: Self) -> Result<Self, Undefined> {
        if f == UnaryFn::Not { Ok(!x) } else { undefined::<_, bool>(f.text()) }
    }

    fn binary(f: BinaryFn, x: Self, y: Self) -> Result<Self, Undefined> {
        match f {
            BinaryFn::And => Ok(x & y),
            BinaryFn::Or => Ok(x | y),
            BinaryFn::Xor => Ok(x ^ y),
            _ => undefined::<_, bool>(f.text()),
        }
    }

    fn compare(f: BinaryFn, x: Self, y: Self) -> Result<bool, Undefined> {
        match f {
            BinaryFn::Eq => Ok(x == y),
            BinaryFn::Ne => Ok(x != y),
            _ => undefined::<_, bool>(f.text()),
        }
    }

    fn is_nan(self) -> bool {
        false
    }

    fn least() -> Result<Self, Undefined> {
        Ok(false)
    }

    fn greatest() -> Result<Self, Undefined> {
        Ok(true)
    }
}
