//! Scalar expressions to kernel instructions.

use kiln_ir::DType;
use kiln_ir::scalar::{BinaryFn, ScalarBuilder, ScalarExpr, ScalarNode, ScalarTypeError, UnaryFn};

use crate::kir::{BinaryOp, Buffer, CompareOp, Index, KernelBuilder, UnaryOp, VType, Value};

/// The dtype that values of `dtype` are computed in: `f32` for the 16-bit floats, which are storage formats.
pub fn compute_dtype(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}

/// Loads lanes `stride` elements apart, in the dtype they are computed in. Stride 0 reads one element.
pub fn load(b: &mut KernelBuilder, buffer: Buffer, at: &Index, stride: i64, lanes: u32) -> Value {
    let dtype = compute_dtype(b.dtype_of(buffer));
    if stride == 0 {
        if b.dtype_of(buffer) == dtype {
            return b.load_splat(buffer, at, lanes);
        }
        let value = b.load(buffer, at, 1);
        let value = b.convert(value, dtype);
        return b.splat(value, lanes);
    }
    let value = b.load_strided(buffer, at, stride, lanes);
    b.convert(value, dtype)
}

/// Stores lanes `stride` elements apart, rounding to the buffer's dtype.
pub fn store(b: &mut KernelBuilder, buffer: Buffer, at: &Index, stride: i64, value: Value) {
    let value = b.convert(value, b.dtype_of(buffer));
    // the stride of a single lane says nothing, and must not be 0
    let stride = if b.type_of(value).lanes == 1 { 1 } else { stride };
    b.store_strided(buffer, at, stride, value);
}

/// A function of arguments `x` and `y`.
pub fn of_two(f: BinaryFn, x: u32, y: u32) -> ScalarExpr {
    let mut b = ScalarBuilder::default();
    let (x, y) = (b.arg(x), b.arg(y));
    let root = b.node(ScalarNode::Binary(f, x, y));
    b.finish(root)
}

/// An expression with the dtypes of its steps.
#[derive(Clone, Debug)]
pub struct TypedExpr {
    expr: ScalarExpr,
    types: Vec<DType>,
}

impl TypedExpr {
    /// The argument itself.
    pub fn identity(dtype: DType) -> TypedExpr {
        TypedExpr { expr: ScalarExpr::identity(), types: vec![dtype] }
    }

    /// `expr` over arguments of these dtypes.
    pub fn new(expr: &ScalarExpr, arguments: &[DType]) -> Result<TypedExpr, ScalarTypeError> {
        Ok(TypedExpr { expr: expr.clone(), types: expr.types(arguments)? })
    }

    /// Instructions that a back end makes of one evaluation, roughly: functions without an instruction count as many.
    pub fn cost(&self) -> u64 {
        self.expr.nodes().iter().map(|node| if is_costly(node) { 20 } else { 1 }).sum()
    }

    /// Whether some step is expanded to a polynomial, which takes registers.
    pub fn is_heavy(&self) -> bool {
        self.expr.nodes().iter().any(is_costly)
    }

    /// Emits the expression; `arguments` are in their compute dtypes, all of one lane count, and so is the result.
    pub fn emit(&self, b: &mut KernelBuilder, arguments: &[Value]) -> Value {
        let lanes = arguments.first().map_or(1, |&v| b.type_of(v).lanes);
        let mut values: Vec<Value> = Vec::with_capacity(self.types.len());
        for (node, &dtype) in self.expr.nodes().iter().zip(&self.types) {
            let ty = VType::new(compute_dtype(dtype), lanes);
            let at = |i: u32| values[i as usize];
            let value = match *node {
                ScalarNode::Arg(i) => arguments[i as usize],
                ScalarNode::Const(c) => b.constant(ty, c.0),
                ScalarNode::Unary(f, x) => unary(b, f, at(x)),
                ScalarNode::Binary(f, x, y) => binary(b, f, at(x), at(y)),
                ScalarNode::Select(c, x, y) => b.select(at(c), at(x), at(y)),
                ScalarNode::Convert(to, x) => {
                    // a conversion to a 16-bit float rounds, even where computation goes on in f32
                    let rounded = b.convert(at(x), to);
                    b.convert(rounded, compute_dtype(to))
                }
            };
            values.push(value);
        }
        match values.last() {
            Some(&value) => value,
            None => b.constant(VType::new(DType::F32, lanes), 0.0),
        }
    }
}

fn is_costly(node: &ScalarNode) -> bool {
    use UnaryFn::*;
    match node {
        ScalarNode::Unary(f, _) => matches!(f, Exp | Log | Log1p | Sin | Cos | Atan | Tanh | Erf),
        ScalarNode::Binary(f, ..) => matches!(f, BinaryFn::Pow | BinaryFn::Rem),
        _ => false,
    }
}

fn unary(b: &mut KernelBuilder, f: UnaryFn, x: Value) -> Value {
    let ty = b.type_of(x);
    let op = match f {
        UnaryFn::Neg => UnaryOp::Neg,
        UnaryFn::Abs => UnaryOp::Abs,
        UnaryFn::Floor => UnaryOp::Floor,
        UnaryFn::Ceil => UnaryOp::Ceil,
        UnaryFn::Round => UnaryOp::Round,
        UnaryFn::Trunc => UnaryOp::Trunc,
        UnaryFn::Sqrt => UnaryOp::Sqrt,
        UnaryFn::Exp => UnaryOp::Exp,
        UnaryFn::Log => UnaryOp::Log,
        UnaryFn::Log1p => UnaryOp::Log1p,
        UnaryFn::Sin => UnaryOp::Sin,
        UnaryFn::Cos => UnaryOp::Cos,
        UnaryFn::Atan => UnaryOp::Atan,
        UnaryFn::Tanh => UnaryOp::Tanh,
        UnaryFn::Erf => UnaryOp::Erf,
        UnaryFn::Not => UnaryOp::Not,
        UnaryFn::Sign => return sign(b, x),
        UnaryFn::IsNan => {
            // only a NaN differs from itself
            return b.compare(CompareOp::Ne, x, x);
        }
        UnaryFn::Rsqrt => {
            let root = b.sqrt(x);
            let one = b.constant(ty, 1.0);
            return b.div(one, root);
        }
        UnaryFn::Reciprocal => {
            let one = b.constant(ty, 1.0);
            return b.div(one, x);
        }
    };
    b.unary(op, x)
}

/// −1 or 1 where x is negative or positive, else x itself: a zero keeps its sign, a NaN stays.
fn sign(b: &mut KernelBuilder, x: Value) -> Value {
    let ty = b.type_of(x);
    let zero = b.constant(ty, 0.0);
    let one = b.constant(ty, 1.0);
    let positive = b.compare(CompareOp::Gt, x, zero);
    if ty.dtype == DType::U8 {
        return b.select(positive, one, zero);
    }
    let minus_one = b.constant(ty, -1.0);
    let negative = b.compare(CompareOp::Lt, x, zero);
    let otherwise = b.select(negative, minus_one, x);
    b.select(positive, one, otherwise)
}

fn binary(b: &mut KernelBuilder, f: BinaryFn, x: Value, y: Value) -> Value {
    let op = match f {
        BinaryFn::Add => BinaryOp::Add,
        BinaryFn::Sub => BinaryOp::Sub,
        BinaryFn::Mul => BinaryOp::Mul,
        BinaryFn::Div => BinaryOp::Div,
        BinaryFn::Rem => BinaryOp::Rem,
        BinaryFn::Pow => BinaryOp::Pow,
        BinaryFn::Max => BinaryOp::Max,
        BinaryFn::Min => BinaryOp::Min,
        BinaryFn::And => BinaryOp::And,
        BinaryFn::Or => BinaryOp::Or,
        BinaryFn::Xor => BinaryOp::Xor,
        BinaryFn::Eq => return b.compare(CompareOp::Eq, x, y),
        BinaryFn::Ne => return b.compare(CompareOp::Ne, x, y),
        BinaryFn::Lt => return b.compare(CompareOp::Lt, x, y),
        BinaryFn::Le => return b.compare(CompareOp::Le, x, y),
        BinaryFn::Gt => return b.compare(CompareOp::Gt, x, y),
        BinaryFn::Ge => return b.compare(CompareOp::Ge, x, y),
    };
    b.binary(op, x, y)
}
