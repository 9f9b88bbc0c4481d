//! The data structures of the kernel IR.

use kiln_ir::DType;

use super::index::{Index, Var};
use super::types::{Bits, VType};

/// One SSA value of a kernel; its type is `kernel.values[id]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub u32);

/// What a kernel does with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Loads only.
    Read,
    /// Stores only.
    Write,
    /// Loads and stores.
    ReadWrite,
}

impl Access {
    /// Whether loads are allowed.
    pub const fn reads(self) -> bool {
        matches!(self, Access::Read | Access::ReadWrite)
    }

    /// Whether stores are allowed.
    pub const fn writes(self) -> bool {
        matches!(self, Access::Write | Access::ReadWrite)
    }
}

/// A buffer that the caller passes in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BufferParam {
    /// What people call it; no part of a kernel's identity.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Number of elements.
    pub len: i64,
    /// Loads, stores or both.
    pub access: Access,
    /// A hint: what is stored is large and not soon read, so stores may pass the caches by.
    pub streamed: bool,
}

/// A buffer of the calling thread, in its scratch block. Its content is undefined when a kernel starts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScratchBuffer {
    /// What people call it; no part of a kernel's identity.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Number of elements.
    pub len: i64,
}

/// Memory that a kernel may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Buffer {
    /// `kernel.buffers[i]`, argument `i` of the machine code.
    Param(u32),
    /// `kernel.scratch[i]`.
    Scratch(u32),
}

/// Alignment in bytes of the scratch block and of every scratch buffer in it.
pub const SCRATCH_ALIGN: usize = 64;

/// One kernel: a parallel loop whose iterations are independent.
///
/// Compiled, it is `extern "C" fn(args: *const *mut u8, scratch: *mut u8, begin: i64, end: i64)` and runs the body for
/// the parallel indices `begin..end`. Pointers are aligned to their element size; `scratch` has
/// [`Kernel::scratch_bytes`] bytes, aligned to [`SCRATCH_ALIGN`]. A buffer may be the same memory as another one: loads
/// and stores happen in program order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// What people call it; no part of a kernel's identity.
    pub name: String,
    /// Buffers, in argument order.
    pub buffers: Vec<BufferParam>,
    /// Per-thread buffers.
    pub scratch: Vec<ScratchBuffer>,
    /// Extents of loop variables, by [`Var`].
    pub vars: Vec<i64>,
    /// Types of values, by [`Value`].
    pub values: Vec<VType>,
    /// Variables of the one parallel loop, outermost first. The machine's parallel index counts their combinations in
    /// row-major order. Empty: a single iteration.
    pub parallel: Vec<Var>,
    /// What one parallel index does. It yields nothing.
    pub body: Block,
}

impl Kernel {
    /// Number of parallel indices: the product of the parallel variables' extents.
    pub fn parallel_extent(&self) -> i64 {
        self.parallel.iter().map(|&var| self.extent(var)).product()
    }

    /// Extent of a variable; 0 for one that does not exist (the verifier reports it).
    pub fn extent(&self, var: Var) -> i64 {
        self.vars.get(var.0 as usize).copied().unwrap_or(0)
    }

    /// Type of a value.
    ///
    /// # Panics
    /// On a value of another kernel.
    pub fn type_of(&self, value: Value) -> VType {
        self.values[value.0 as usize]
    }

    /// Dtype and length of a buffer, or `None` where it does not exist.
    pub fn buffer_shape(&self, buffer: Buffer) -> Option<(DType, i64)> {
        match buffer {
            Buffer::Param(i) => self.buffers.get(i as usize).map(|b| (b.dtype, b.len)),
            Buffer::Scratch(i) => self.scratch.get(i as usize).map(|b| (b.dtype, b.len)),
        }
    }

    /// Bytes of a buffer's element; 1 where the buffer does not exist (the verifier reports it).
    pub fn element_size(&self, buffer: Buffer) -> i64 {
        self.buffer_shape(buffer).map_or(1, |(dtype, _)| dtype.size() as i64)
    }

    /// Whether it has products of bytes ([`Inst::DotBytes`]), for which a CPU may have an instruction.
    pub fn multiplies_bytes(&self) -> bool {
        fn inside(block: &Block) -> bool {
            block.statements.iter().any(|statement| match statement {
                Statement::Let(_, inst) => matches!(inst, Inst::DotBytes(..)),
                Statement::For(inner) => inside(&inner.body),
                Statement::If(inner) => inside(&inner.then) || inside(&inner.otherwise),
                Statement::Store { .. } | Statement::Scatter { .. } | Statement::Prefetch { .. } => false,
            })
        }
        inside(&self.body)
    }

    /// Byte offset of each scratch buffer in the scratch block.
    pub fn scratch_offsets(&self) -> Vec<usize> {
        let mut at = 0usize;
        let place = |buffer: &ScratchBuffer| {
            let offset = at;
            let bytes = usize::try_from(buffer.len).unwrap_or(0).saturating_mul(buffer.dtype.size());
            at = at.saturating_add(bytes).next_multiple_of(SCRATCH_ALIGN);
            offset
        };
        self.scratch.iter().map(place).collect()
    }

    /// Bytes of scratch that each thread running this kernel needs.
    pub fn scratch_bytes(&self) -> usize {
        let bytes = |b: &ScratchBuffer| {
            (usize::try_from(b.len).unwrap_or(0).saturating_mul(b.dtype.size())).next_multiple_of(SCRATCH_ALIGN)
        };
        self.scratch.iter().map(bytes).sum()
    }
}

/// Statements in order, and the values that the enclosing loop or conditional passes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Block {
    /// Statements.
    pub statements: Vec<Statement>,
    /// Values passed on, one per result of the enclosing statement.
    pub yields: Vec<Value>,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Statement {
    /// Defines a value.
    Let(Value, Inst),
    /// Lane `l` of `value` goes to element `index + l * stride`. Stride 0 is refused.
    Store {
        /// Where to.
        buffer: Buffer,
        /// Element of lane 0.
        index: Index,
        /// Elements between lanes.
        stride: i64,
        /// What.
        value: Value,
    },
    /// Lane `l` of `value` goes to element `index + offsets[l]`, lane 0 first.
    Scatter {
        /// Where to.
        buffer: Buffer,
        /// Added to every lane's offset.
        index: Index,
        /// `i64` lanes, each kept in `0..extent` by the kernel.
        offsets: Value,
        /// One more than the largest offset.
        extent: i64,
        /// What.
        value: Value,
    },
    /// Says that the cache line of element `index` will be read soon. It changes nothing that a kernel computes, and the
    /// index may lie outside the buffer.
    Prefetch {
        /// Where from.
        buffer: Buffer,
        /// Element.
        index: Index,
    },
    /// A counted loop.
    For(Box<For>),
    /// A conditional.
    If(Box<If>),
}

/// How a loop is emitted. It never changes what a kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoopKind {
    /// As a loop.
    Serial,
    /// As `extent` copies of the body, with constant indices.
    Unrolled,
}

/// A value carried from one iteration of a loop to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Carried {
    /// Before the first iteration.
    pub init: Value,
    /// Inside the body, as its predecessor yielded it.
    pub param: Value,
    /// After the last iteration; `init` where the extent is 0.
    pub result: Value,
}

/// A counted loop: `var` runs over `0..extent`, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct For {
    /// Its variable; no other loop has the same.
    pub var: Var,
    /// How to emit it.
    pub kind: LoopKind,
    /// Values passed between iterations; `body.yields` has one for each.
    pub carried: Vec<Carried>,
    /// What one iteration does.
    pub body: Block,
}

/// What a conditional asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// All of these indices are ≥ 0; they have no run-time summands. The bounds check knows it inside the branch.
    NonNegative(Vec<Index>),
    /// A `bool` scalar.
    Value(Value),
}

/// A conditional. Both branches yield one value per result.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct If {
    /// What it asks.
    pub condition: Condition,
    /// Its values.
    pub results: Vec<Value>,
    /// Where the condition holds.
    pub then: Block,
    /// Where it does not.
    pub otherwise: Block,
}

/// What defines a value. Operands of elementwise instructions have the result's lane count: there is no implicit
/// broadcasting ([`Inst::Splat`] is explicit).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Inst {
    /// The same element in every lane.
    Const(Bits),
    /// Lane `l` is element `index + l * stride`. Stride 0 reads one element and broadcasts it. A buffer of `u8` or `i8` may be
    /// read as `i32`: a lane is then the four elements from that one on, the first in its lowest byte.
    Load {
        /// Where from.
        buffer: Buffer,
        /// Element of lane 0.
        index: Index,
        /// Elements between lanes.
        stride: i64,
    },
    /// Lane `l` is element `index + offsets[l]`.
    Gather {
        /// Where from.
        buffer: Buffer,
        /// Added to every lane's offset.
        index: Index,
        /// `i64` lanes, each kept in `0..extent` by the kernel.
        offsets: Value,
        /// One more than the largest offset.
        extent: i64,
    },
    /// Lane `l` is `index + l * step`, an `i64`.
    IndexValue {
        /// Lane 0.
        index: Index,
        /// Difference between lanes.
        step: i64,
    },
    /// A scalar in every lane.
    Splat(Value),
    /// Lane `l` is lane `lanes[l]` of the operand.
    Shuffle {
        /// The operand.
        value: Value,
        /// Its lanes to take.
        lanes: Vec<u32>,
    },
    /// The operands' lanes one after another.
    Concat(Vec<Value>),
    /// One operand, same type as the result.
    Unary(UnaryOp, Value),
    /// Two operands, same type as the result.
    Binary(BinaryOp, Value, Value),
    /// `a * b + c` of floats: rounded once where the target has fused multiply-add, twice elsewhere.
    Fma(Value, Value, Value),
    /// `c + Σ aᵢ * bᵢ` over the four bytes of each `i32` lane, those of `a` unsigned, those of `b` signed; exact, but that the sum
    /// wraps.
    DotBytes(Value, Value, Value),
    /// Mask of the lanes where the comparison holds.
    Compare(CompareOp, Value, Value),
    /// `mask ? a : b`, lane by lane.
    Select(Value, Value, Value),
    /// Between dtypes. To a float: rounds to nearest even. Float to integer: truncates, saturates, NaN is 0. Between
    /// integers: wraps. To `bool`: is not 0 (so NaN is true). From `bool`: 0 or 1. `f16` and `bf16` convert only from and to `f32`.
    Convert(Value),
    /// The same bits as a dtype of equal size.
    Bitcast(Value),
    /// All lanes combined into a scalar, always in this order: while more than one lane is left, with `h = ⌈n / 2⌉`, lane
    /// `i` becomes `op(lane i, lane i + h)` for `i < n - h`, and `h` lanes are left.
    Reduce(ReduceOp, Value),
}

/// Instructions of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UnaryOp {
    /// `-x`; flips the sign bit of floats, wraps for integers.
    Neg,
    /// Absolute value; wraps for the smallest integer.
    Abs,
    /// Square root of floats, correctly rounded.
    Sqrt,
    /// Largest integral float ≤ x.
    Floor,
    /// Smallest integral float ≥ x.
    Ceil,
    /// Integral float towards zero.
    Trunc,
    /// Nearest integral float, halves to even.
    Round,
    /// Bitwise complement of integers; logical of `bool`.
    Not,
    /// eˣ.
    Exp,
    /// Natural logarithm.
    Log,
    /// ln(1 + x).
    Log1p,
    /// Hyperbolic tangent.
    Tanh,
    /// Error function.
    Erf,
    /// Sine, in radians.
    Sin,
    /// Cosine, in radians.
    Cos,
    /// Inverse tangent, in radians.
    Atan,
}

/// Instructions of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BinaryOp {
    /// Sum; integers wrap.
    Add,
    /// Difference; integers wrap.
    Sub,
    /// Product; integers wrap.
    Mul,
    /// Quotient. Integers truncate towards zero; by 0 gives 0; the smallest by −1 wraps.
    Div,
    /// Remainder with the dividend's sign (C's `fmod` and `%`), exact. Integers by 0 give 0.
    Rem,
    /// `a < b or a is NaN ? a : b`: NaN wins, and of two equal operands (zeros of either sign) the second is taken.
    Min,
    /// `a > b or a is NaN ? a : b`: NaN wins, and of two equal operands (zeros of either sign) the second is taken.
    Max,
    /// Power. Integers wrap; a negative exponent gives the truncated quotient (0 but for bases 1 and −1; base 0 gives 0).
    Pow,
    /// Bitwise, or logical of `bool`.
    And,
    /// Bitwise, or logical of `bool`.
    Or,
    /// Bitwise, or logical of `bool`.
    Xor,
    /// Shift left; the amount counts modulo the dtype's bits.
    Shl,
    /// Shift right, filling with the sign (`u8`: zeros); the amount counts modulo the dtype's bits.
    Shr,
    /// Shift right, filling with zeros; the amount counts modulo the dtype's bits.
    ShrLogical,
}

/// Comparisons. With a NaN operand only `Ne` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CompareOp {
    /// a = b.
    Eq,
    /// a ≠ b.
    Ne,
    /// a < b.
    Lt,
    /// a ≤ b.
    Le,
    /// a > b.
    Gt,
    /// a ≥ b.
    Ge,
}

/// Reductions over lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReduceOp {
    /// Sum.
    Add,
    /// Product.
    Mul,
    /// As [`BinaryOp::Min`].
    Min,
    /// As [`BinaryOp::Max`].
    Max,
    /// As [`BinaryOp::And`].
    And,
    /// As [`BinaryOp::Or`].
    Or,
}

impl ReduceOp {
    /// The instruction that combines two lanes.
    pub const fn binary(self) -> BinaryOp {
        match self {
            ReduceOp::Add => BinaryOp::Add,
            ReduceOp::Mul => BinaryOp::Mul,
            ReduceOp::Min => BinaryOp::Min,
            ReduceOp::Max => BinaryOp::Max,
            ReduceOp::And => BinaryOp::And,
            ReduceOp::Or => BinaryOp::Or,
        }
    }
}

impl Statement {
    /// Calls `visit` on every value that the statement itself reads, those inside indices too; not on those that the
    /// statements of its blocks read, nor on what the blocks yield.
    pub fn operands_mut(&mut self, mut visit: impl FnMut(&mut Value)) {
        match self {
            Statement::Let(_, inst) => inst.operands_mut(visit),
            Statement::Store { index, value, .. } => {
                index.operands_mut(&mut visit);
                visit(value);
            }
            Statement::Scatter { index, offsets, value, .. } => {
                index.operands_mut(&mut visit);
                visit(offsets);
                visit(value);
            }
            Statement::Prefetch { index, .. } => index.operands_mut(visit),
            Statement::For(inner) => inner.carried.iter_mut().for_each(|carried| visit(&mut carried.init)),
            Statement::If(inner) => match &mut inner.condition {
                Condition::Value(value) => visit(value),
                Condition::NonNegative(indices) => indices.iter_mut().for_each(|i| i.operands_mut(&mut visit)),
            },
        }
    }

    /// Calls `visit` on every index of the statement itself; not on those inside its blocks.
    pub fn indices_mut(&mut self, mut visit: impl FnMut(&mut Index)) {
        match self {
            Statement::Let(_, inst) => inst.indices_mut(visit),
            Statement::Store { index, .. } | Statement::Scatter { index, .. } | Statement::Prefetch { index, .. } => {
                visit(index);
            }
            Statement::For(_) => {}
            Statement::If(inner) => match &mut inner.condition {
                Condition::Value(_) => {}
                Condition::NonNegative(indices) => indices.iter_mut().for_each(visit),
            },
        }
    }
}

impl Inst {
    /// Calls `visit` on every operand, those inside indices too.
    pub fn operands_mut(&mut self, mut visit: impl FnMut(&mut Value)) {
        self.indices_mut(|index| index.operands_mut(&mut visit));
        match self {
            Inst::Const(_) | Inst::Load { .. } | Inst::IndexValue { .. } => {}
            Inst::Gather { offsets: value, .. }
            | Inst::Splat(value)
            | Inst::Shuffle { value, .. }
            | Inst::Unary(_, value)
            | Inst::Convert(value)
            | Inst::Bitcast(value)
            | Inst::Reduce(_, value) => visit(value),
            Inst::Concat(values) => values.iter_mut().for_each(visit),
            Inst::Binary(_, a, b) | Inst::Compare(_, a, b) => {
                visit(a);
                visit(b);
            }
            Inst::Fma(a, b, c) | Inst::DotBytes(a, b, c) | Inst::Select(a, b, c) => {
                visit(a);
                visit(b);
                visit(c);
            }
        }
    }

    /// Calls `visit` on the index, where there is one.
    pub fn indices_mut(&mut self, mut visit: impl FnMut(&mut Index)) {
        if let Inst::Load { index, .. } | Inst::Gather { index, .. } | Inst::IndexValue { index, .. } = self {
            visit(index);
        }
    }
}
