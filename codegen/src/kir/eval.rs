//! What primitive instructions compute, one lane at a time: the reference of every back end.

use half::{bf16, f16};
use kiln_ir::DType;

use super::kernel::{BinaryOp, CompareOp, UnaryOp};
use super::types::Bits;

/// Arithmetic of a float or integer type. `None`: the operation is no primitive of that type.
trait Lane: Copy + PartialOrd {
    fn from_bits(bits: Bits) -> Self;
    fn to_bits(self) -> Bits;
    fn unary(op: UnaryOp, x: Self) -> Option<Self>;
    fn binary(op: BinaryOp, a: Self, b: Self) -> Option<Self>;
}

macro_rules! float_lane {
    ($ty:ty, $raw:ty) => {
        impl Lane for $ty {
            fn from_bits(bits: Bits) -> Self {
                <$ty>::from_bits(bits.0 as $raw)
            }
            fn to_bits(self) -> Bits {
                Bits(self.to_bits().into())
            }
            fn unary(op: UnaryOp, x: Self) -> Option<Self> {
                Some(match op {
                    UnaryOp::Neg => -x,
                    UnaryOp::Abs => x.abs(),
                    UnaryOp::Sqrt => x.sqrt(),
                    UnaryOp::Floor => x.floor(),
                    UnaryOp::Ceil => x.ceil(),
                    UnaryOp::Trunc => x.trunc(),
                    UnaryOp::Round => x.round_ties_even(),
                    _ => return None,
                })
            }
            fn binary(op: BinaryOp, a: Self, b: Self) -> Option<Self> {
                Some(match op {
                    BinaryOp::Add => a + b,
                    BinaryOp::Sub => a - b,
                    BinaryOp::Mul => a * b,
                    BinaryOp::Div => a / b,
                    BinaryOp::Min => {
                        if a < b || a.is_nan() {
                            a
                        } else {
                            b
                        }
                    }
                    BinaryOp::Max => {
                        if a > b || a.is_nan() {
                            a
                        } else {
                            b
                        }
                    }
                    _ => return None,
                })
            }
        }
    };
}
float_lane!(f32, u32);
float_lane!(f64, u64);

macro_rules! integer_lane {
    ($ty:ty, $unsigned:ty) => {
        impl Lane for $ty {
            fn from_bits(bits: Bits) -> Self {
                bits.0 as $ty
            }
            fn to_bits(self) -> Bits {
                Bits((self as $unsigned).into())
            }
            fn unary(op: UnaryOp, x: Self) -> Option<Self> {
                Some(match op {
                    UnaryOp::Neg => x.wrapping_neg(),
                    UnaryOp::Abs if <$ty>::MIN == 0 => x,
                    UnaryOp::Abs => {
                        if (x as i64) < 0 {
                            x.wrapping_neg()
                        } else {
                            x
                        }
                    }
                    UnaryOp::Not => !x,
                    _ => return None,
                })
            }
            fn binary(op: BinaryOp, a: Self, b: Self) -> Option<Self> {
                Some(match op {
                    BinaryOp::Add => a.wrapping_add(b),
                    BinaryOp::Sub => a.wrapping_sub(b),
                    BinaryOp::Mul => a.wrapping_mul(b),
                    BinaryOp::Div => {
                        if b == 0 {
                            0
                        } else {
                            a.wrapping_div(b)
                        }
                    }
                    BinaryOp::Rem => {
                        if b == 0 {
                            0
                        } else {
                            a.wrapping_rem(b)
                        }
                    }
                    BinaryOp::Min => {
                        if a < b {
                            a
                        } else {
                            b
                        }
                    }
                    BinaryOp::Max => {
                        if a > b {
                            a
                        } else {
                            b
                        }
                    }
                    BinaryOp::And => a & b,
                    BinaryOp::Or => a | b,
                    BinaryOp::Xor => a ^ b,
                    BinaryOp::Shl => a.wrapping_shl(b as u32),
                    BinaryOp::Shr => a.wrapping_shr(b as u32),
                    BinaryOp::ShrLogical => (a as $unsigned).wrapping_shr(b as u32) as $ty,
                    BinaryOp::Pow => return None,
                })
            }
        }
    };
}
integer_lane!(i64, u64);
integer_lane!(i32, u32);
integer_lane!(i8, u8);
integer_lane!(u8, u8);

/// Calls `$body` with `$lane` standing for the Rust type of an arithmetic dtype.
macro_rules! with_lane {
    ($dtype:expr, $lane:ident => $body:expr) => {
        match $dtype {
            DType::F64 => {
                type $lane = f64;
                $body
            }
            DType::F32 => {
                type $lane = f32;
                $body
            }
            DType::I64 => {
                type $lane = i64;
                $body
            }
            DType::I32 => {
                type $lane = i32;
                $body
            }
            DType::I8 => {
                type $lane = i8;
                $body
            }
            DType::U8 => {
                type $lane = u8;
                $body
            }
            DType::F16 | DType::BF16 | DType::Bool => None,
        }
    };
}

/// One operand; `None` where the dtype does not have the operation as a primitive.
pub fn unary(op: UnaryOp, dtype: DType, x: Bits) -> Option<Bits> {
    if dtype == DType::Bool {
        return (op == UnaryOp::Not).then_some(Bits(x.0 ^ 1));
    }
    with_lane!(dtype, L => L::unary(op, <L as Lane>::from_bits(x)).map(Lane::to_bits))
}

/// Two operands; `None` where the dtype does not have the operation as a primitive.
pub fn binary(op: BinaryOp, dtype: DType, a: Bits, b: Bits) -> Option<Bits> {
    if dtype == DType::Bool {
        return Some(match op {
            BinaryOp::And => Bits(a.0 & b.0),
            BinaryOp::Or => Bits(a.0 | b.0),
            BinaryOp::Xor => Bits(a.0 ^ b.0),
            _ => return None,
        });
    }
    with_lane!(dtype, L => {
        L::binary(op, <L as Lane>::from_bits(a), <L as Lane>::from_bits(b)).map(Lane::to_bits)
    })
}

/// `a * b + c`, rounded once where `fused`.
pub fn fma(dtype: DType, a: Bits, b: Bits, c: Bits, fused: bool) -> Option<Bits> {
    macro_rules! fma {
        ($ty:ty) => {{
            let (a, b, c) = (<$ty as Lane>::from_bits(a), <$ty as Lane>::from_bits(b), <$ty as Lane>::from_bits(c));
            Some(Lane::to_bits(if fused { a.mul_add(b, c) } else { a * b + c }))
        }};
    }
    match dtype {
        DType::F32 => fma!(f32),
        DType::F64 => fma!(f64),
        _ => None,
    }
}

/// `c` plus the products of the bytes of `a`, unsigned, and of `b`, signed.
pub fn dot_bytes(a: Bits, b: Bits, c: Bits) -> Bits {
    let bytes = |bits: Bits| (bits.0 as u32).to_le_bytes();
    let products = bytes(a).into_iter().zip(bytes(b)).map(|(a, b)| i32::from(a) * i32::from(b as i8));
    Bits(u64::from(products.fold(c.0 as i32, i32::wrapping_add) as u32))
}

/// A comparison of two elements of one dtype.
pub fn compare(op: CompareOp, dtype: DType, a: Bits, b: Bits) -> Option<bool> {
    if dtype == DType::Bool {
        return Some(holds(op, a.0, b.0));
    }
    with_lane!(dtype, L => Some(holds(op, <L as Lane>::from_bits(a), <L as Lane>::from_bits(b))))
}

fn holds<T: PartialOrd>(op: CompareOp, a: T, b: T) -> bool {
    match op {
        CompareOp::Eq => a == b,
        CompareOp::Ne => a != b,
        CompareOp::Lt => a < b,
        CompareOp::Le => a <= b,
        CompareOp::Gt => a > b,
        CompareOp::Ge => a >= b,
    }
}

/// A conversion that the verifier accepts.
pub fn convert(from: DType, to: DType, x: Bits) -> Bits {
    match (from, to) {
        (DType::F16, _) => Bits(f16::from_bits(x.0 as u16).to_f32().to_bits().into()),
        (DType::BF16, _) => Bits(bf16::from_bits(x.0 as u16).to_f32().to_bits().into()),
        (DType::F32, DType::F16) => Bits(f16::from_f32(f32::from_bits(x.0 as u32)).to_bits().into()),
        (DType::F32, DType::BF16) => Bits(bf16::from_f32(f32::from_bits(x.0 as u32)).to_bits().into()),
        (DType::F32 | DType::F64, _) => Bits::from_f64(to, x.to_f64(from)),
        _ => Bits::from_i64(to, x.to_i64(from)),
    }
}
