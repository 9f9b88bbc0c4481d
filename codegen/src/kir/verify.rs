//! The verifier. Every kernel that a back end sees satisfies these invariants:
//!
//! - **K1** Buffer lengths are ≥ 0 and their sizes fit in memory.
//! - **K2** Every variable is bound by exactly one loop or parallel dimension, its extent is ≥ 0, the parallel extent
//!   fits in an `i64`, and it is used only inside its loop.
//! - **K3** Every value is defined exactly once, and used only after that, in the same block or one inside it.
//! - **K4** Values have 1 to [`MAX_LANES`] lanes.
//! - **K5** Operand types fit the instruction, and the result's type is what the instruction gives.
//! - **K6** A loop yields one value per carried value, a conditional one per result, of equal types; a kernel none.
//! - **K7** Loads and stores name a buffer that exists, of the value's dtype, that may be accessed this way; a load of `i32` may
//!   name one of bytes; a store of several lanes has a stride other than 0.
//! - **K8** Every access stays inside its buffer, over all iterations and within the guards around it.
//! - **K9** A conditional asks for indices without run-time summands, or a `bool` scalar.
//!
//! That parallel iterations are independent is the lowering's promise and not checked.

use std::fmt;

use kiln_ir::DType;

use super::bounds::Bounds;
use super::index::{Index, Var};
use super::kernel::{
    BinaryOp, Block, Buffer, CompareOp, Condition, For, If, Inst, Kernel, ReduceOp, Statement, UnaryOp, Value,
};
use super::types::{MAX_LANES, VType};

/// The invariants, numbered as in the [module's documentation](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Rule {
    K1,
    K2,
    K3,
    K4,
    K5,
    K6,
    K7,
    K8,
    K9,
}

/// One broken invariant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule:?} at {place}: {message}")]
pub struct VerifyError {
    /// Which one.
    pub rule: Rule,
    /// The statement, as the printer names it.
    pub place: String,
    /// What was expected and what was found.
    pub message: String,
}

/// Everything wrong with a kernel. This is a bug of whoever built it, never the user's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct VerifyErrors {
    /// The kernel's name.
    pub kernel: String,
    /// All broken invariants, in program order.
    pub errors: Vec<VerifyError>,
}

impl fmt::Display for VerifyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel `{}` is malformed (a bug in Kiln, please report it):", self.kernel)?;
        self.errors.iter().try_for_each(|e| write!(f, "\n  {e}"))
    }
}

/// Checks all invariants and reports every violation.
pub fn verify(kernel: &Kernel) -> Result<(), VerifyErrors> {
    let mut verifier = Verifier {
        kernel,
        bounds: Bounds::new(kernel),
        place: "the kernel".to_owned(),
        defined: vec![false; kernel.values.len()],
        visible: vec![false; kernel.values.len()],
        bound: vec![false; kernel.vars.len()],
        in_scope: vec![false; kernel.vars.len()],
        dead: 0,
        errors: Vec::new(),
    };
    verifier.kernel();
    match verifier.errors.is_empty() {
        true => Ok(()),
        false => Err(VerifyErrors { kernel: kernel.name.clone(), errors: verifier.errors }),
    }
}

struct Verifier<'k> {
    kernel: &'k Kernel,
    bounds: Bounds<'k>,
    place: String,
    defined: Vec<bool>,
    visible: Vec<bool>,
    bound: Vec<bool>,
    in_scope: Vec<bool>,
    /// Loops of extent 0 around the current statement.
    dead: usize,
    errors: Vec<VerifyError>,
}

impl Verifier<'_> {
    fn error(&mut self, rule: Rule, message: impl Into<String>) {
        self.errors.push(VerifyError { rule, place: self.place.clone(), message: message.into() });
    }

    fn expect(&mut self, rule: Rule, holds: bool, message: impl FnOnce() -> String) {
        if !holds {
            self.error(rule, message());
        }
    }

    fn kernel(&mut self) {
        let kernel = self.kernel;
        let params = kernel.buffers.iter().map(|b| (&b.name, b.dtype, b.len));
        let scratch = kernel.scratch.iter().map(|b| (&b.name, b.dtype, b.len));
        for (name, dtype, len) in params.chain(scratch) {
            let bytes = len.checked_mul(dtype.size() as i64);
            self.expect(Rule::K1, len >= 0 && bytes.is_some_and(|b| b <= isize::MAX as i64 / 2), || {
                format!("buffer `{name}` has {len} elements of {dtype}: not between 0 and what memory can hold")
            });
        }
        let product = kernel.parallel.iter().try_fold(1i64, |n, &var| n.checked_mul(kernel.extent(var)));
        self.expect(Rule::K2, product.is_some(), || "the parallel extent does not fit in an i64".to_owned());
        for &var in &kernel.parallel {
            self.bind(var);
        }
        self.dead += usize::from(product == Some(0));
        self.block(&kernel.body, &[], "the kernel's body");
        self.place = "the kernel".to_owned();
        for var in 0..kernel.vars.len() {
            self.expect(Rule::K2, self.bound[var], || format!("variable i{var} belongs to no loop"));
        }
    }

    fn bind(&mut self, var: Var) {
        let at = var.0 as usize;
        if at >= self.bound.len() {
            return self.error(Rule::K2, format!("variable i{at} does not exist"));
        }
        self.expect(Rule::K2, !self.bound[at], || format!("variable i{at} belongs to two loops"));
        let extent = self.kernel.extent(var);
        self.expect(Rule::K2, extent >= 0, || format!("variable i{at} has the negative extent {extent}"));
        self.bound[at] = true;
        self.in_scope[at] = true;
    }

    fn define(&mut self, value: Value) -> Option<VType> {
        let at = value.0 as usize;
        let Some(&ty) = self.kernel.values.get(at) else {
            self.error(Rule::K3, format!("value %{at} does not exist"));
            return None;
        };
        self.expect(Rule::K3, !self.defined[at], || format!("value %{at} is defined twice"));
        self.expect(Rule::K4, (1..=MAX_LANES).contains(&ty.lanes), || {
            format!("value %{at} has {} lanes, not 1 to {MAX_LANES}", ty.lanes)
        });
        self.defined[at] = true;
        self.visible[at] = true;
        Some(ty)
    }

    fn operand(&mut self, value: Value) -> Option<VType> {
        let at = value.0 as usize;
        let visible = self.visible.get(at).copied().unwrap_or(false);
        self.expect(Rule::K3, visible, || format!("value %{at} is used where it is not defined"));
        self.kernel.values.get(at).copied()
    }

    /// Verifies a block, its `params` being defined inside; what it defines is forgotten afterwards.
    fn block(&mut self, block: &Block, results: &[VType], what: &str) {
        let before = self.visible.clone();
        for statement in &block.statements {
            self.statement(statement);
        }
        self.place = what.to_owned();
        let yields: Vec<VType> = block.yields.iter().filter_map(|&v| self.operand(v)).collect();
        self.expect(Rule::K6, yields == results, || {
            format!("it yields {}, expected {}", type_list(&yields), type_list(results))
        });
        self.visible = before;
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Let(value, inst) => {
                self.place = format!("%{}", value.0);
                // operands first: an instruction cannot use itself
                let ty = self.kernel.values.get(value.0 as usize).copied();
                if let Some(ty) = ty {
                    self.inst(ty, inst);
                }
                self.define(*value);
            }
            Statement::Store { buffer, index, stride, value } => {
                self.place = format!("store of %{}", value.0);
                if let Some(ty) = self.operand(*value) {
                    self.expect(Rule::K7, *stride != 0 || ty.lanes == 1, || "a store's stride is 0".to_owned());
                    self.access(*buffer, ty.dtype, true);
                    self.in_bounds(*buffer, index, ty.lanes, *stride, 0);
                }
            }
            Statement::Scatter { buffer, index, offsets, extent, value } => {
                self.place = format!("scatter of %{}", value.0);
                if let Some(ty) = self.operand(*value) {
                    self.access(*buffer, ty.dtype, true);
                    self.offsets(*buffer, index, *offsets, *extent, ty.lanes);
                }
            }
            Statement::Prefetch { buffer, index } => {
                self.place = "prefetch".to_owned();
                let exists = self.kernel.buffer_shape(*buffer).is_some();
                self.expect(Rule::K7, exists, || format!("buffer {buffer:?} does not exist"));
                self.index(index);
            }
            Statement::For(inner) => self.for_loop(inner),
            Statement::If(inner) => self.conditional(inner),
        }
    }

    fn for_loop(&mut self, inner: &For) {
        let place = format!("loop i{}", inner.var.0);
        self.place.clone_from(&place);
        self.bind(inner.var);
        let init: Vec<Option<VType>> = inner.carried.iter().map(|c| self.operand(c.init)).collect();
        let before = self.visible.clone();
        let mut types = Vec::new();
        for (carried, init) in inner.carried.iter().zip(init) {
            let param = self.define(carried.param);
            self.expect(Rule::K6, init.is_none() || init == param, || {
                format!("%{} and %{} have different types", carried.init.0, carried.param.0)
            });
            types.extend(param);
        }
        let dead = usize::from(self.kernel.extent(inner.var) == 0);
        self.dead += dead;
        self.block(&inner.body, &types, &place);
        self.dead -= dead;
        self.visible = before;
        if let Some(in_scope) = self.in_scope.get_mut(inner.var.0 as usize) {
            *in_scope = false;
        }
        self.place = place;
        for (carried, ty) in inner.carried.iter().zip(types) {
            let result = self.define(carried.result);
            self.expect(Rule::K6, result == Some(ty), || {
                format!("%{} and %{} have different types", carried.param.0, carried.result.0)
            });
        }
    }

    fn conditional(&mut self, inner: &If) {
        self.place = "conditional".to_owned();
        let types: Vec<VType> =
            inner.results.iter().filter_map(|v| self.kernel.values.get(v.0 as usize).copied()).collect();
        let mark = self.bounds.mark();
        match &inner.condition {
            Condition::Value(value) => {
                let ty = self.operand(*value);
                self.expect(Rule::K9, ty.is_none() || ty == Some(VType::scalar(DType::Bool)), || {
                    format!("%{} is no bool scalar", value.0)
                });
            }
            Condition::NonNegative(indices) => {
                for index in indices {
                    self.index(index);
                    self.expect(Rule::K9, index.dynamic.is_empty(), || "an index has run-time summands".to_owned());
                    self.bounds.assume_non_negative(index);
                }
            }
        }
        self.block(&inner.then, &types, "conditional, first branch");
        self.bounds.forget(mark);
        if let Condition::NonNegative(indices) = &inner.condition
            && let [index] = &indices[..]
        {
            self.bounds.assume_non_negative(&(-index.clone() - 1));
        }
        self.block(&inner.otherwise, &types, "conditional, second branch");
        self.bounds.forget(mark);
        self.place = "conditional".to_owned();
        for &result in &inner.results {
            self.define(result);
        }
    }

    // Memory

    fn access(&mut self, buffer: Buffer, dtype: DType, store: bool) {
        let (found, allowed) = match (buffer, self.kernel.buffer_shape(buffer)) {
            (_, None) => return self.error(Rule::K7, format!("{buffer:?} does not exist")),
            (Buffer::Scratch(_), Some((found, _))) => (found, true),
            (Buffer::Param(i), Some((found, _))) => {
                let access = self.kernel.buffers[i as usize].access;
                (found, if store { access.writes() } else { access.reads() })
            }
        };
        let name = self.buffer_name(buffer);
        self.expect(Rule::K7, found == dtype, || format!("the buffer {name} holds {found}, the value is {dtype}"));
        let mode = if store { "stored to" } else { "loaded from" };
        self.expect(Rule::K7, allowed, || format!("the buffer {name} must not be {mode}"));
    }

    fn buffer_name(&self, buffer: Buffer) -> String {
        let name = match buffer {
            Buffer::Param(i) => self.kernel.buffers.get(i as usize).map(|b| &b.name),
            Buffer::Scratch(i) => self.kernel.scratch.get(i as usize).map(|b| &b.name),
        };
        name.map_or_else(|| format!("{buffer:?}"), |name| format!("`{name}`"))
    }

    fn index(&mut self, index: &Index) {
        for &(var, _) in &index.terms {
            let in_scope = self.in_scope.get(var.0 as usize).copied().unwrap_or(false);
            self.expect(Rule::K2, in_scope, || format!("variable i{} is used outside its loop", var.0));
        }
        for term in &index.dynamic {
            let ty = self.operand(term.value);
            self.expect(Rule::K5, ty.is_none() || ty == Some(VType::scalar(DType::I64)), || {
                format!("the run-time index %{} is no i64 scalar", term.value.0)
            });
        }
    }

    /// `more`: elements of a lane after its first.
    fn in_bounds(&mut self, buffer: Buffer, index: &Index, lanes: u32, stride: i64, more: i128) {
        self.index(index);
        let reach = i128::from(lanes.saturating_sub(1)) * i128::from(stride);
        self.check_range(buffer, index, reach.min(0), reach.max(0) + more);
    }

    fn offsets(&mut self, buffer: Buffer, index: &Index, offsets: Value, extent: i64, lanes: u32) {
        self.index(index);
        let ty = self.operand(offsets);
        self.expect(Rule::K5, ty.is_none() || ty == Some(VType::new(DType::I64, lanes)), || {
            format!("the offsets %{} are not i64x{lanes}", offsets.0)
        });
        self.check_range(buffer, index, 0, i128::from(extent) - 1);
    }

    fn check_range(&mut self, buffer: Buffer, index: &Index, below: i128, above: i128) {
        let Some((_, len)) = self.kernel.buffer_shape(buffer) else {
            return;
        };
        if self.dead > 0 || self.bounds.unreachable() {
            return;
        }
        let range = self.bounds.range(index);
        let (low, high) = (range.low.saturating_add(below), range.high.saturating_add(above));
        if low < 0 || high >= i128::from(len) {
            let name = self.buffer_name(buffer);
            self.error(Rule::K8, format!("it touches elements {low}..={high} of the buffer {name}, which has {len}"));
        }
    }

    // Instructions

    fn inst(&mut self, ty: VType, inst: &Inst) {
        match inst {
            Inst::Const(bits) => {
                let fits = match ty.dtype.size() {
                    8 => true,
                    size => bits.0 >> (size * 8) == 0,
                };
                self.expect(Rule::K5, fits && (ty.dtype != DType::Bool || bits.0 <= 1), || {
                    format!("the bits {:#x} are no {}", bits.0, ty.dtype)
                });
            }
            Inst::Load { buffer, index, stride } => {
                let bytes = |found| matches!(found, DType::I8 | DType::U8);
                let stored = self.kernel.buffer_shape(*buffer).map(|(found, _)| found);
                match stored.filter(|&found| bytes(found) && ty.dtype == DType::I32) {
                    Some(found) => {
                        self.access(*buffer, found, false);
                        self.in_bounds(*buffer, index, ty.lanes, *stride, 3);
                    }
                    None => {
                        self.access(*buffer, ty.dtype, false);
                        self.in_bounds(*buffer, index, ty.lanes, *stride, 0);
                    }
                }
            }
            Inst::Gather { buffer, index, offsets, extent } => {
                self.access(*buffer, ty.dtype, false);
                self.offsets(*buffer, index, *offsets, *extent, ty.lanes);
            }
            Inst::IndexValue { index, .. } => {
                self.index(index);
                self.result(ty, ty.with_dtype(DType::I64));
            }
            Inst::Splat(value) => self.takes(*value, ty.with_lanes(1)),
            Inst::Shuffle { value, lanes } => {
                if let Some(from) = self.operand(*value) {
                    self.result(ty, from.with_lanes(lanes.len() as u32));
                    let outside = lanes.iter().find(|&&lane| lane >= from.lanes);
                    self.expect(Rule::K5, outside.is_none(), || {
                        format!("lane {} of {from} does not exist", outside.copied().unwrap_or(0))
                    });
                }
            }
            Inst::Concat(values) => {
                let mut lanes = 0u32;
                for &value in values {
                    if let Some(from) = self.operand(value) {
                        lanes = lanes.saturating_add(from.lanes);
                        self.expect(Rule::K5, from.dtype == ty.dtype, || format!("%{} is {from}", value.0));
                    }
                }
                self.result(ty, ty.with_lanes(lanes));
            }
            Inst::Unary(op, value) => {
                self.takes(*value, ty);
                self.supports(unary_takes(*op, ty.dtype), format!("{op:?}"), ty.dtype);
            }
            Inst::Binary(op, a, b) => {
                self.takes(*a, ty);
                self.takes(*b, ty);
                self.supports(binary_takes(*op, ty.dtype), format!("{op:?}"), ty.dtype);
            }
            Inst::Fma(a, b, c) => {
                [a, b, c].into_iter().for_each(|&v| self.takes(v, ty));
                self.supports(is_arithmetic_float(ty.dtype), "Fma".to_owned(), ty.dtype);
            }
            Inst::DotBytes(a, b, c) => {
                [a, b, c].into_iter().for_each(|&v| self.takes(v, ty));
                self.supports(ty.dtype == DType::I32, "DotBytes".to_owned(), ty.dtype);
            }
            Inst::Compare(op, a, b) => {
                if let Some(from) = self.operand(*a) {
                    self.takes(*b, from);
                    self.result(ty, from.mask());
                    let ordered = !matches!(op, CompareOp::Eq | CompareOp::Ne);
                    let fits = is_arithmetic(from.dtype) || (from.dtype == DType::Bool && !ordered);
                    self.supports(fits, format!("{op:?}"), from.dtype);
                }
            }
            Inst::Select(mask, a, b) => {
                self.takes(*mask, ty.mask());
                self.takes(*a, ty);
                self.takes(*b, ty);
            }
            Inst::Convert(value) => {
                if let Some(from) = self.operand(*value) {
                    self.result(ty, from.with_dtype(ty.dtype));
                    let half = |d| matches!(d, DType::F16 | DType::BF16);
                    let fits = (!half(from.dtype) || ty.dtype == DType::F32)
                        && (!half(ty.dtype) || from.dtype == DType::F32)
                        && from.dtype != ty.dtype;
                    self.expect(Rule::K5, fits, || format!("no conversion from {} to {}", from.dtype, ty.dtype));
                }
            }
            Inst::Bitcast(value) => {
                if let Some(from) = self.operand(*value) {
                    self.result(ty, from.with_dtype(ty.dtype));
                    let fits = from.dtype.size() == ty.dtype.size() && ty.dtype != DType::Bool;
                    self.expect(Rule::K5, fits && from.dtype != DType::Bool, || {
                        format!("{} does not have the bits of {}", from.dtype, ty.dtype)
                    });
                }
            }
            Inst::Reduce(op, value) => {
                if let Some(from) = self.operand(*value) {
                    self.result(ty, from.with_lanes(1));
                    let fits = match (op, from.dtype) {
                        (ReduceOp::And | ReduceOp::Or, DType::Bool) => true,
                        (_, DType::Bool) => false,
                        (op, dtype) => binary_takes(op.binary(), dtype),
                    };
                    self.supports(fits, format!("{op:?}"), from.dtype);
                }
            }
        }
    }

    fn takes(&mut self, value: Value, expected: VType) {
        if let Some(found) = self.operand(value) {
            self.expect(Rule::K5, found == expected, || {
                format!("operand %{} is {found}, expected {expected}", value.0)
            });
        }
    }

    fn result(&mut self, found: VType, expected: VType) {
        self.expect(Rule::K5, found == expected, || format!("its type is {found}, the instruction gives {expected}"));
    }

    fn supports(&mut self, fits: bool, op: String, dtype: DType) {
        self.expect(Rule::K5, fits, || match dtype {
            DType::F16 | DType::BF16 => {
                format!("{op} does not work on {dtype}: convert to f32 first")
            }
            _ => format!("{op} does not work on {dtype}"),
        });
    }
}

fn is_arithmetic_float(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F64)
}

fn is_arithmetic(dtype: DType) -> bool {
    is_arithmetic_float(dtype) || dtype.is_integer()
}

fn unary_takes(op: UnaryOp, dtype: DType) -> bool {
    match op {
        UnaryOp::Neg | UnaryOp::Abs => is_arithmetic(dtype),
        UnaryOp::Not => dtype.is_integer() || dtype == DType::Bool,
        _ => is_arithmetic_float(dtype),
    }
}

fn binary_takes(op: BinaryOp, dtype: DType) -> bool {
    match op {
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => dtype.is_integer() || dtype == DType::Bool,
        BinaryOp::Shl | BinaryOp::Shr | BinaryOp::ShrLogical => dtype.is_integer(),
        _ => is_arithmetic(dtype),
    }
}

fn type_list(types: &[VType]) -> String {
    let names: Vec<String> = types.iter().map(VType::to_string).collect();
    format!("({})", names.join(", "))
}
