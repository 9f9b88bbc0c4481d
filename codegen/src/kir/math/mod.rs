//! Expansion of mathematical functions into primitive instructions, so that every back end and the interpreter
//! compute the same thing and no kernel ever calls a library.
//!
//! Bounds, in units in the last place, over all finite arguments (tests sweep them against f64 or, for f64, against
//! the system's library); infinities, NaN, zeros and subnormals give what IEEE 754 and C's `math.h` say:
//!
//! | function | f32 | f64 | method |
//! |---|---|---|---|
//! | `exp` | 2 | 2 | range reduction by ln 2, Taylor polynomial |
//! | `log` | 2 | 2 | exponent and √½…√2, series of artanh |
//! | `log1p` | 3 | 3 | `log` of the rounded sum, and what rounding lost |
//! | `tanh` | 4 | 4 | through `exp(2x) − 1` |
//! | `erf` | 2 | 4 | polynomial; beyond 1, `1 − exp(polynomial)` |
//! | `atan` | 2 | 2 | reduction to tan(π/8), polynomial |
//! | `sin`, `cos` | 2 | 3 | reduction by π/2 in three parts, or with 1,170 bits of 2/π where large |
//! | `pow` | 1 | `3 + 2·\|y ln x\|` | `exp(y ln x)`, for f32 computed in f64 |
//! | `rem` | exact | exact | long division of significands |
//!
//! Integer `pow` multiplies by repeated squaring. Where the target has no fused multiply-add the same polynomials are
//! used, with a rounding more in each step; the bounds hold for both.

mod arctangent;
mod erf;
mod exponential;
mod power;
mod remainder;
mod trigonometric;

use std::collections::HashMap;

use kiln_ir::DType;

use super::builder::KernelBuilder;
use super::kernel::{BinaryOp, Block, CompareOp, Inst, Kernel, Statement, UnaryOp, Value};
use super::types::{Bits, VType};

/// The kernel with every function replaced by primitive instructions.
pub fn expand(kernel: &Kernel) -> Kernel {
    if !block_has_function(kernel, &kernel.body) {
        return kernel.clone();
    }
    let mut target = kernel.clone();
    let body = std::mem::take(&mut target.body);
    let mut expander = Expander { b: KernelBuilder::resume(target), renamed: HashMap::new() };
    expander.statements(body.statements);
    expander.b.finish_unverified()
}

fn is_function(kernel: &Kernel, value: Value, inst: &Inst) -> bool {
    let float = kernel.type_of(value).dtype.is_float();
    match inst {
        Inst::Unary(op, _) => function_of(*op).is_some(),
        Inst::Binary(BinaryOp::Pow, ..) => true,
        Inst::Binary(BinaryOp::Rem, ..) => float,
        _ => false,
    }
}

fn block_has_function(kernel: &Kernel, block: &Block) -> bool {
    block.statements.iter().any(|statement| match statement {
        Statement::Let(value, inst) => is_function(kernel, *value, inst),
        Statement::For(inner) => block_has_function(kernel, &inner.body),
        Statement::If(inner) => block_has_function(kernel, &inner.then) || block_has_function(kernel, &inner.otherwise),
        Statement::Store { .. } | Statement::Scatter { .. } | Statement::Prefetch { .. } => false,
    })
}

/// The expansion of an operation of floats that is no primitive.
fn function_of(op: UnaryOp) -> Option<fn(Math<'_>, Value) -> Value> {
    Some(match op {
        UnaryOp::Exp => |mut m, x| m.exp(x),
        UnaryOp::Log => |mut m, x| m.log(x),
        UnaryOp::Log1p => |mut m, x| m.log_1p(x),
        UnaryOp::Tanh => |mut m, x| m.tanh(x),
        UnaryOp::Erf => |mut m, x| m.erf(x),
        UnaryOp::Sin => |mut m, x| m.sin(x),
        UnaryOp::Cos => |mut m, x| m.cos(x),
        UnaryOp::Atan => |mut m, x| m.atan(x),
        UnaryOp::Neg
        | UnaryOp::Abs
        | UnaryOp::Sqrt
        | UnaryOp::Floor
        | UnaryOp::Ceil
        | UnaryOp::Trunc
        | UnaryOp::Round
        | UnaryOp::Not => return None,
    })
}

/// Copies a kernel, statement by statement, with expansions in place of functions.
struct Expander {
    b: KernelBuilder,
    /// Results of functions, and the values that their expansions ended in.
    renamed: HashMap<Value, Value>,
}

impl Expander {
    fn operand(&self, value: &mut Value) {
        *value = self.renamed.get(value).copied().unwrap_or(*value);
    }

    fn block(&mut self, block: &mut Block) {
        self.b.open_block();
        self.statements(std::mem::take(&mut block.statements));
        block.statements = self.b.close_block();
        block.yields.iter_mut().for_each(|value| self.operand(value));
    }

    fn statements(&mut self, statements: Vec<Statement>) {
        for mut statement in statements {
            statement.operands_mut(|value| self.operand(value));
            match &mut statement {
                Statement::Let(value, inst) => {
                    if let Some(result) = self.function(*value, inst) {
                        self.renamed.insert(*value, result);
                        continue;
                    }
                }
                Statement::Store { .. } | Statement::Scatter { .. } | Statement::Prefetch { .. } => {}
                Statement::For(inner) => self.block(&mut inner.body),
                Statement::If(inner) => {
                    self.block(&mut inner.then);
                    self.block(&mut inner.otherwise);
                }
            }
            self.b.push(statement);
        }
    }

    fn function(&mut self, value: Value, inst: &Inst) -> Option<Value> {
        let ty = self.b.type_of(value);
        let mut math = Math { b: &mut self.b, ty };
        match inst {
            Inst::Unary(op, x) => function_of(*op).map(|expand| expand(math, *x)),
            Inst::Binary(BinaryOp::Pow, x, y) if ty.dtype.is_float() => Some(math.pow(*x, *y)),
            Inst::Binary(BinaryOp::Pow, x, y) => Some(math.integer_pow(*x, *y)),
            Inst::Binary(BinaryOp::Rem, x, y) if ty.dtype.is_float() => Some(math.remainder(*x, *y)),
            _ => None,
        }
    }
}

/// Shorthand for building expansions over values of one type.
struct Math<'b> {
    b: &'b mut KernelBuilder,
    ty: VType,
}

impl Math<'_> {
    /// The same functions over another dtype.
    fn of(&mut self, dtype: DType) -> Math<'_> {
        Math { ty: self.ty.with_dtype(dtype), b: self.b }
    }

    fn is_f32(&self) -> bool {
        self.ty.dtype == DType::F32
    }

    /// The integer dtype of the float's size.
    fn integer(&self) -> DType {
        if self.is_f32() { DType::I32 } else { DType::I64 }
    }

    /// Bits of the significand that are stored.
    fn significand_bits(&self) -> i64 {
        if self.is_f32() { 23 } else { 52 }
    }

    fn exponent_bias(&self) -> i64 {
        if self.is_f32() { 127 } else { 1023 }
    }

    /// `f32` where the type is f32, else `f64`.
    fn either<T>(&self, f32: T, f64: T) -> T {
        if self.is_f32() { f32 } else { f64 }
    }

    fn constant(&mut self, value: f64) -> Value {
        self.b.constant(self.ty, value)
    }

    fn int(&mut self, value: i64) -> Value {
        let ty = self.ty.with_dtype(self.integer());
        self.b.constant_int(ty, value)
    }

    fn add_constant(&mut self, x: Value, constant: f64) -> Value {
        let constant = self.constant(constant);
        self.b.add(x, constant)
    }

    fn times(&mut self, x: Value, constant: f64) -> Value {
        let constant = self.constant(constant);
        self.b.mul(x, constant)
    }

    /// `x * constant + y`.
    fn fma_constant(&mut self, x: Value, constant: f64, y: Value) -> Value {
        let constant = self.constant(constant);
        self.b.fma(x, constant, y)
    }

    /// `Σ coefficients[i] xⁱ`, by Horner's rule.
    fn polynomial(&mut self, x: Value, coefficients: &[f64]) -> Value {
        let mut rest = coefficients.iter().rev();
        let mut sum = self.constant(rest.next().copied().unwrap_or(0.0));
        for &coefficient in rest {
            let coefficient = self.constant(coefficient);
            sum = self.b.fma(sum, x, coefficient);
        }
        sum
    }

    fn is(&mut self, op: CompareOp, x: Value, constant: f64) -> Value {
        let constant = self.constant(constant);
        self.b.compare(op, x, constant)
    }

    /// `mask ? constant : x`.
    fn replace(&mut self, mask: Value, constant: f64, x: Value) -> Value {
        let constant = self.constant(constant);
        self.b.select(mask, constant, x)
    }

    fn is_nan(&mut self, x: Value) -> Value {
        self.b.compare(CompareOp::Ne, x, x)
    }

    fn bits(&mut self, x: Value) -> Value {
        let integer = self.integer();
        self.b.bitcast(x, integer)
    }

    fn float(&mut self, bits: Value) -> Value {
        self.b.bitcast(bits, self.ty.dtype)
    }

    /// The sign bit, everything else 0.
    fn sign_bit(&mut self, x: Value) -> Value {
        let bits = self.bits(x);
        let ty = self.ty.with_dtype(self.integer());
        let mask = self.b.constant_bits(ty, Bits(self.either(1 << 31, 1 << 63)));
        self.b.and(bits, mask)
    }

    /// `x` (whose sign is positive) with a sign bit.
    fn with_sign(&mut self, x: Value, sign: Value) -> Value {
        let bits = self.bits(x);
        let signed = self.b.xor(bits, sign);
        self.float(signed)
    }

    /// The float 2ᵏ, for `k` within the exponents of normal numbers.
    fn power_of_two(&mut self, k: Value) -> Value {
        let bias = self.int(self.exponent_bias());
        let shift = self.int(self.significand_bits());
        let biased = self.b.add(k, bias);
        let bits = self.b.shl(biased, shift);
        self.float(bits)
    }

    /// `x · 2ᵏ` in two steps, each a product with a normal number: it overflows and becomes subnormal as it should.
    fn scale(&mut self, x: Value, k: Value) -> Value {
        let one = self.int(1);
        let half = self.b.shr(k, one);
        let rest = self.b.sub(k, half);
        let (a, b) = (self.power_of_two(half), self.power_of_two(rest));
        let scaled = self.b.mul(x, a);
        self.b.mul(scaled, b)
    }

    /// a + b, and what rounding lost (Knuth).
    fn two_sum(&mut self, a: Value, b: Value) -> (Value, Value) {
        let sum = self.b.add(a, b);
        let b_part = self.b.sub(sum, a);
        let a_part = self.b.sub(sum, b_part);
        let a_lost = self.b.sub(a, a_part);
        let b_lost = self.b.sub(b, b_part);
        (sum, self.b.add(a_lost, b_lost))
    }

    /// The nearest integer to `x · factor`, as a float and as an integer, for products far below 2²² (2⁵¹): adding
    /// 1.5 · 2²³ (2⁵²) leaves it in the low bits.
    fn nearest(&mut self, x: Value, factor: f64) -> (Value, Value) {
        let magic = self.either(1.5 * 2f64.powi(23), 1.5 * 2f64.powi(52));
        let magic = self.constant(magic);
        let factor = self.constant(factor);
        let sum = self.b.fma(x, factor, magic);
        let float = self.b.sub(sum, magic);
        let (low, zero) = (self.bits(sum), self.bits(magic));
        (float, self.b.sub(low, zero))
    }
}

/// `1/n!`, correctly rounded as far as `n!` is exact in f64 (to n = 22).
fn inverse_factorial(n: u32) -> f64 {
    1.0 / (1..=n).map(f64::from).product::<f64>()
}
