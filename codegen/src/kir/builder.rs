//! Building kernels.
//!
//! ```
//! use kiln_codegen::kir::{DType, KernelBuilder, VType};
//!
//! // y[i] = max(x[i], 0) over 1,000 elements, 8 at a time
//! let mut b = KernelBuilder::new("relu");
//! let x = b.input("x", DType::F32, 1000);
//! let y = b.output("y", DType::F32, 1000);
//! let i = b.parallel(125);
//! let f32x8 = VType::new(DType::F32, 8);
//! let zero = b.constant(f32x8, 0.0);
//! let value = b.load(x, i * 8, f32x8.lanes);
//! let result = b.max(zero, value);
//! b.store(y, i * 8, result);
//! let kernel = b.finish()?;
//! assert_eq!(kernel.parallel_extent(), 125);
//! # Ok::<(), kiln_codegen::kir::VerifyErrors>(())
//! ```

use std::collections::HashMap;

use kiln_ir::DType;

use super::index::{Index, Var};
use super::kernel::{
    Access, BinaryOp, Block, Buffer, BufferParam, Carried, CompareOp, Condition, For, If, Inst, Kernel, LoopKind,
    ReduceOp, ScratchBuffer, Statement, UnaryOp, Value,
};
use super::types::{Bits, VType};
use super::verify::{VerifyErrors, verify};

/// Builds one [`Kernel`]. Mistakes (types that do not match, accesses out of bounds …) are collected by the verifier
/// when [`finish`](KernelBuilder::finish) is called; until then every call succeeds.
#[derive(Debug)]
pub struct KernelBuilder {
    kernel: Kernel,
    /// Statements of the blocks being built, innermost last.
    open: Vec<Vec<Statement>>,
    /// What each `f32` that was widened from a 16-bit float was before.
    widened: HashMap<Value, Value>,
}

impl KernelBuilder {
    /// An empty kernel.
    pub fn new(name: impl Into<String>) -> KernelBuilder {
        KernelBuilder {
            kernel: Kernel {
                name: name.into(),
                buffers: Vec::new(),
                scratch: Vec::new(),
                vars: Vec::new(),
                values: Vec::new(),
                parallel: Vec::new(),
                body: Block::default(),
            },
            open: vec![Vec::new()],
            widened: HashMap::new(),
        }
    }

    /// Verifies the kernel and hands it over.
    pub fn finish(self) -> Result<Kernel, VerifyErrors> {
        let kernel = self.finish_unverified();
        verify(&kernel)?;
        Ok(kernel)
    }

    /// Hands the kernel over as it is.
    pub fn finish_unverified(mut self) -> Kernel {
        self.kernel.body.statements = self.open.pop().unwrap_or_default();
        self.kernel
    }

    // Buffers and loops

    /// Says of a buffer that its stores may pass the caches by; see [`BufferParam::streamed`].
    pub fn stream(&mut self, buffer: Buffer) {
        if let Buffer::Param(at) = buffer
            && let Some(param) = self.kernel.buffers.get_mut(at as usize)
        {
            param.streamed = true;
        }
    }

    /// Adds a buffer argument of `len` elements.
    pub fn buffer(&mut self, name: impl Into<String>, dtype: DType, len: i64, access: Access) -> Buffer {
        self.kernel.buffers.push(BufferParam { name: name.into(), dtype, len, access, streamed: false });
        Buffer::Param(self.kernel.buffers.len() as u32 - 1)
    }

    /// Adds a buffer argument that is only loaded from.
    pub fn input(&mut self, name: impl Into<String>, dtype: DType, len: i64) -> Buffer {
        self.buffer(name, dtype, len, Access::Read)
    }

    /// Adds a buffer argument that is only stored to.
    pub fn output(&mut self, name: impl Into<String>, dtype: DType, len: i64) -> Buffer {
        self.buffer(name, dtype, len, Access::Write)
    }

    /// Adds a per-thread buffer of `len` elements.
    pub fn scratch(&mut self, name: impl Into<String>, dtype: DType, len: i64) -> Buffer {
        self.kernel.scratch.push(ScratchBuffer { name: name.into(), dtype, len });
        Buffer::Scratch(self.kernel.scratch.len() as u32 - 1)
    }

    /// Adds a dimension to the parallel loop, inside the ones added before, and gives its variable.
    pub fn parallel(&mut self, extent: i64) -> Var {
        let var = self.new_var(extent);
        self.kernel.parallel.push(var);
        var
    }

    /// A serial loop with carried values: `body` gets the variable and the values as of the previous iteration, and
    /// returns the next ones. Gives the values after the last iteration.
    pub fn for_loop(
        &mut self,
        extent: i64,
        init: &[Value],
        body: impl FnOnce(&mut Self, Var, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        self.loop_of(LoopKind::Serial, extent, init, body)
    }

    /// Like [`for_loop`](KernelBuilder::for_loop), emitted as `extent` copies of the body.
    pub fn unrolled_loop(
        &mut self,
        extent: i64,
        init: &[Value],
        body: impl FnOnce(&mut Self, Var, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        self.loop_of(LoopKind::Unrolled, extent, init, body)
    }

    /// A serial loop that carries nothing.
    pub fn for_each(&mut self, extent: i64, body: impl FnOnce(&mut Self, Var)) {
        self.for_loop(extent, &[], |b, var, _| {
            body(b, var);
            Vec::new()
        });
    }

    /// An unrolled loop that carries nothing.
    pub fn unrolled(&mut self, extent: i64, body: impl FnOnce(&mut Self, Var)) {
        self.unrolled_loop(extent, &[], |b, var, _| {
            body(b, var);
            Vec::new()
        });
    }

    /// A loop of the given kind; see [`for_loop`](KernelBuilder::for_loop).
    pub fn loop_of(
        &mut self,
        kind: LoopKind,
        extent: i64,
        init: &[Value],
        body: impl FnOnce(&mut Self, Var, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let var = self.new_var(extent);
        let params: Vec<Value> = init.iter().map(|&v| self.new_value(self.type_of(v))).collect();
        let body = self.block(|b| body(b, var, &params));
        let results: Vec<Value> = init.iter().map(|&v| self.new_value(self.type_of(v))).collect();
        let carried = init.iter().zip(&params).zip(&results);
        let carried = carried.map(|((&init, &param), &result)| Carried { init, param, result }).collect();
        self.push(Statement::For(Box::new(For { var, kind, carried, body })));
        results
    }

    /// A conditional whose branches give values of equal types.
    pub fn if_else(
        &mut self,
        condition: Condition,
        then: impl FnOnce(&mut Self) -> Vec<Value>,
        otherwise: impl FnOnce(&mut Self) -> Vec<Value>,
    ) -> Vec<Value> {
        let then = self.block(then);
        let otherwise = self.block(otherwise);
        let results: Vec<Value> = then.yields.iter().map(|&v| self.new_value(self.type_of(v))).collect();
        self.push(Statement::If(Box::new(If { condition, results: results.clone(), then, otherwise })));
        results
    }

    /// Runs `then` where all of `indices` are ≥ 0.
    pub fn when_non_negative(&mut self, indices: Vec<Index>, then: impl FnOnce(&mut Self)) {
        let then = |b: &mut Self| {
            then(b);
            Vec::new()
        };
        self.if_else(Condition::NonNegative(indices), then, |_| Vec::new());
    }

    /// Runs `then` where a `bool` scalar is true.
    pub fn when(&mut self, condition: Value, then: impl FnOnce(&mut Self)) {
        let then = |b: &mut Self| {
            then(b);
            Vec::new()
        };
        self.if_else(Condition::Value(condition), then, |_| Vec::new());
    }

    // Memory

    /// Loads `lanes` elements from `index` on.
    pub fn load(&mut self, buffer: Buffer, index: impl Into<Index>, lanes: u32) -> Value {
        self.load_strided(buffer, index, 1, lanes)
    }

    /// Loads `lanes` lanes of four bytes each from a buffer of bytes, `stride` bytes apart; see [`Inst::Load`].
    pub fn load_words(&mut self, buffer: Buffer, index: impl Into<Index>, stride: i64, lanes: u32) -> Value {
        self.inst(VType::new(DType::I32, lanes), Inst::Load { buffer, index: index.into(), stride })
    }

    /// Loads `lanes` elements, `stride` elements apart.
    pub fn load_strided(&mut self, buffer: Buffer, index: impl Into<Index>, stride: i64, lanes: u32) -> Value {
        let ty = VType::new(self.dtype_of(buffer), lanes);
        self.inst(ty, Inst::Load { buffer, index: index.into(), stride })
    }

    /// Loads one element into every lane.
    pub fn load_splat(&mut self, buffer: Buffer, index: impl Into<Index>, lanes: u32) -> Value {
        self.load_strided(buffer, index, 0, lanes)
    }

    /// Loads the elements `index + offsets[lane]`; `offsets` are `i64` in `0..extent`.
    pub fn gather(&mut self, buffer: Buffer, index: impl Into<Index>, offsets: Value, extent: i64) -> Value {
        let ty = self.type_of(offsets).with_dtype(self.dtype_of(buffer));
        self.inst(ty, Inst::Gather { buffer, index: index.into(), offsets, extent })
    }

    /// Stores all lanes from `index` on.
    pub fn store(&mut self, buffer: Buffer, index: impl Into<Index>, value: Value) {
        self.store_strided(buffer, index, 1, value);
    }

    /// Stores all lanes, `stride` elements apart.
    pub fn store_strided(&mut self, buffer: Buffer, index: impl Into<Index>, stride: i64, value: Value) {
        self.push(Statement::Store { buffer, index: index.into(), stride, value });
    }

    /// Stores lane `l` to element `index + offsets[l]`; `offsets` are `i64` in `0..extent`.
    pub fn scatter(&mut self, buffer: Buffer, index: impl Into<Index>, offsets: Value, extent: i64, value: Value) {
        self.push(Statement::Scatter { buffer, index: index.into(), offsets, extent, value });
    }

    /// Asks for the cache line of an element that will be read soon; the index may lie outside the buffer.
    pub fn prefetch(&mut self, buffer: Buffer, index: impl Into<Index>) {
        self.push(Statement::Prefetch { buffer, index: index.into() });
    }

    // Values

    /// `value` in every lane, rounded to the dtype ([`Bits::from_f64`]).
    pub fn constant(&mut self, ty: VType, value: f64) -> Value {
        self.inst(ty, Inst::Const(Bits::from_f64(ty.dtype, value)))
    }

    /// `value` in every lane; integers wrap ([`Bits::from_i64`]).
    pub fn constant_int(&mut self, ty: VType, value: i64) -> Value {
        self.inst(ty, Inst::Const(Bits::from_i64(ty.dtype, value)))
    }

    /// The same bits in every lane.
    pub fn constant_bits(&mut self, ty: VType, bits: Bits) -> Value {
        self.inst(ty, Inst::Const(bits))
    }

    /// An index as an `i64` scalar.
    pub fn index_value(&mut self, index: impl Into<Index>) -> Value {
        self.iota(index, 0, 1)
    }

    /// `i64` lanes `index, index + step, index + 2 step …`.
    pub fn iota(&mut self, index: impl Into<Index>, step: i64, lanes: u32) -> Value {
        self.inst(VType::new(DType::I64, lanes), Inst::IndexValue { index: index.into(), step })
    }

    /// A scalar in every one of `lanes` lanes; for one lane the scalar itself.
    pub fn splat(&mut self, value: Value, lanes: u32) -> Value {
        match lanes {
            1 => value,
            _ => self.inst(self.type_of(value).with_lanes(lanes), Inst::Splat(value)),
        }
    }

    /// Lanes `lanes` of a value.
    pub fn shuffle(&mut self, value: Value, lanes: Vec<u32>) -> Value {
        let ty = self.type_of(value).with_lanes(lanes.len() as u32);
        self.inst(ty, Inst::Shuffle { value, lanes })
    }

    /// One lane of a value, as a scalar.
    pub fn extract(&mut self, value: Value, lane: u32) -> Value {
        self.shuffle(value, vec![lane])
    }

    /// The lanes of several values one after another.
    pub fn concat(&mut self, values: &[Value]) -> Value {
        let lanes = values.iter().map(|&v| self.type_of(v).lanes).sum();
        let dtype = values.first().map_or(DType::F32, |&v| self.type_of(v).dtype);
        self.inst(VType::new(dtype, lanes), Inst::Concat(values.to_vec()))
    }

    /// A one-operand instruction.
    pub fn unary(&mut self, op: UnaryOp, value: Value) -> Value {
        self.inst(self.type_of(value), Inst::Unary(op, value))
    }

    /// A two-operand instruction.
    pub fn binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Value {
        self.inst(self.type_of(a), Inst::Binary(op, a, b))
    }

    /// `a * b + c`; see [`Inst::Fma`].
    pub fn fma(&mut self, a: Value, b: Value, c: Value) -> Value {
        self.inst(self.type_of(c), Inst::Fma(a, b, c))
    }

    /// `c` plus the products of bytes; see [`Inst::DotBytes`].
    pub fn dot_bytes(&mut self, a: Value, b: Value, c: Value) -> Value {
        self.inst(self.type_of(c), Inst::DotBytes(a, b, c))
    }

    /// The mask of lanes where the comparison holds.
    pub fn compare(&mut self, op: CompareOp, a: Value, b: Value) -> Value {
        self.inst(self.type_of(a).mask(), Inst::Compare(op, a, b))
    }

    /// `mask ? a : b`.
    pub fn select(&mut self, mask: Value, a: Value, b: Value) -> Value {
        self.inst(self.type_of(a), Inst::Select(mask, a, b))
    }

    /// Converts to another dtype; goes through `f32` where `f16` or `bf16` is involved, and is the value itself where
    /// it has the dtype already. Numbers are rounded once, whatever they go through; a 16-bit float that was widened
    /// narrows to itself, so that moving one converts nothing.
    pub fn convert(&mut self, value: Value, dtype: DType) -> Value {
        let half = |d| matches!(d, DType::F16 | DType::BF16);
        let from = self.type_of(value).dtype;
        if from == dtype {
            return value;
        }
        if let Some(&source) = self.widened.get(&value).filter(|&&source| self.type_of(source).dtype == dtype) {
            return source;
        }
        let value = match (from, dtype) {
            (DType::F64, DType::F16 | DType::BF16) => self.round_to_odd(value),
            // Integers that an f32 does not hold are beyond f16, so it needs no more than others do.
            (DType::I32 | DType::I64, DType::BF16) => {
                let value = if from == DType::I64 { self.fold_low_bits(value) } else { value };
                let wide = self.convert(value, DType::F64);
                self.round_to_odd(wide)
            }
            _ if (half(from) && dtype != DType::F32) || (half(dtype) && from != DType::F32) => {
                self.convert(value, DType::F32)
            }
            _ => value,
        };
        let converted = self.inst(self.type_of(value).with_dtype(dtype), Inst::Convert(value));
        if half(self.type_of(value).dtype) {
            self.widened.insert(converted, value);
        }
        converted
    }

    /// An f64 as the f32 that says, in its last bit, whether it was rounded, so that it can be rounded again: the next
    /// one towards zero, then odd unless it is exact (see [`kiln_ir::narrow`]).
    fn round_to_odd(&mut self, wide: Value) -> Value {
        let nearest = self.convert(wide, DType::F32);
        let found = self.convert(nearest, DType::F64);
        let (found, wanted) = (self.unary(UnaryOp::Abs, found), self.unary(UnaryOp::Abs, wide));
        // NaN is neither above nor below.
        let [above, below] = [CompareOp::Gt, CompareOp::Lt].map(|op| {
            let mask = self.compare(op, found, wanted);
            self.convert(mask, DType::I32)
        });
        let bits = self.bitcast(nearest, DType::I32);
        let towards_zero = self.binary(BinaryOp::Sub, bits, above);
        let inexact = self.binary(BinaryOp::Or, above, below);
        let odd = self.binary(BinaryOp::Or, towards_zero, inexact);
        self.bitcast(odd, DType::F32)
    }

    /// An i64 of which an f64 holds every bit: where there are too many, the last ten become one that says whether
    /// they were 0.
    fn fold_low_bits(&mut self, value: Value) -> Value {
        let ty = self.type_of(value);
        let [zero, low, sticky, limit] = [0, 0x3FF, 0x400, 1 << 53].map(|v| self.constant_int(ty, v));
        let dropped = self.binary(BinaryOp::And, value, low);
        let kept = self.binary(BinaryOp::Sub, value, dropped);
        let marked = self.binary(BinaryOp::Or, kept, sticky);
        let exact = self.compare(CompareOp::Eq, dropped, zero);
        let folded = self.select(exact, kept, marked);
        let negated = self.unary(UnaryOp::Neg, limit);
        let [small, large] =
            [(negated, CompareOp::Gt), (limit, CompareOp::Lt)].map(|(limit, op)| self.compare(op, value, limit));
        let short = self.binary(BinaryOp::And, small, large);
        self.select(short, value, folded)
    }

    /// The same bits as a dtype of equal size.
    pub fn bitcast(&mut self, value: Value, dtype: DType) -> Value {
        self.inst(self.type_of(value).with_dtype(dtype), Inst::Bitcast(value))
    }

    /// All lanes combined; see [`Inst::Reduce`] for the order.
    pub fn reduce(&mut self, op: ReduceOp, value: Value) -> Value {
        self.inst(self.type_of(value).with_lanes(1), Inst::Reduce(op, value))
    }

    /// Type of a value made by this builder.
    ///
    /// # Panics
    /// On a value of another builder.
    pub fn type_of(&self, value: Value) -> VType {
        self.kernel.type_of(value)
    }

    /// Element type of a buffer made by this builder (`f32` for one that is not: the verifier reports it).
    pub fn dtype_of(&self, buffer: Buffer) -> DType {
        self.kernel.buffer_shape(buffer).map_or(DType::F32, |(dtype, _)| dtype)
    }

    /// Adds an instruction with a result of type `ty`.
    pub fn inst(&mut self, ty: VType, inst: Inst) -> Value {
        let value = self.new_value(ty);
        self.push(Statement::Let(value, inst));
        value
    }

    /// Goes on with a kernel whose body is empty.
    pub(super) fn resume(kernel: Kernel) -> KernelBuilder {
        KernelBuilder { kernel, open: vec![Vec::new()], widened: HashMap::new() }
    }

    /// Starts a block; what is built from now on goes into it.
    pub(super) fn open_block(&mut self) {
        self.open.push(Vec::new());
    }

    /// Ends the block started last and gives its statements.
    pub(super) fn close_block(&mut self) -> Vec<Statement> {
        self.open.pop().unwrap_or_default()
    }

    fn block(&mut self, build: impl FnOnce(&mut Self) -> Vec<Value>) -> Block {
        self.open_block();
        let yields = build(self);
        Block { statements: self.close_block(), yields }
    }

    /// Adds a statement to the block being built.
    pub(super) fn push(&mut self, statement: Statement) {
        if let Some(block) = self.open.last_mut() {
            block.push(statement);
        }
    }

    fn new_value(&mut self, ty: VType) -> Value {
        self.kernel.values.push(ty);
        Value(self.kernel.values.len() as u32 - 1)
    }

    fn new_var(&mut self, extent: i64) -> Var {
        self.kernel.vars.push(extent);
        Var(self.kernel.vars.len() as u32 - 1)
    }
}

macro_rules! unary_methods {
    ($($method:ident => $op:ident),* $(,)?) => {
        /// One-operand instructions by name.
        impl KernelBuilder {$(
            #[doc = concat!("[`UnaryOp::", stringify!($op), "`].")]
            pub fn $method(&mut self, value: Value) -> Value {
                self.unary(UnaryOp::$op, value)
            }
        )*}
    };
}
unary_methods! {
    neg => Neg, abs => Abs, sqrt => Sqrt, floor => Floor, ceil => Ceil, trunc => Trunc, round => Round, not => Not,
    exp => Exp, log => Log, log_1p => Log1p, tanh => Tanh, erf => Erf, sin => Sin, cos => Cos, atan => Atan,
}

macro_rules! binary_methods {
    ($($method:ident => $op:ident),* $(,)?) => {
        /// Two-operand instructions by name.
        impl KernelBuilder {$(
            #[doc = concat!("[`BinaryOp::", stringify!($op), "`].")]
            pub fn $method(&mut self, a: Value, b: Value) -> Value {
                self.binary(BinaryOp::$op, a, b)
            }
        )*}
    };
}
binary_methods! {
    add => Add, sub => Sub, mul => Mul, div => Div, rem => Rem, min => Min, max => Max, pow => Pow,
    and => And, or => Or, xor => Xor, shl => Shl, shr => Shr, shr_logical => ShrLogical,
}
