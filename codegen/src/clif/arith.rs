//! Instructions on values.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{self, InstBuilder};
use kiln_ir::DType;

use super::emit::Emitter;
use super::lanes::{GROUP, Layout, Parts, is_wide, vector_type};
use crate::kir::{BinaryOp, CompareOp, Inst, ReduceOp, UnaryOp, VType, Value};

impl Emitter<'_> {
    /// The parts of an instruction's result.
    pub(super) fn inst(&mut self, ty: VType, inst: &Inst) -> Parts {
        match inst {
            Inst::Const(bits) => self.constant(ty, *bits),
            Inst::Load { buffer, index, stride } => self.load(ty, *buffer, index, *stride),
            Inst::Gather { buffer, index, offsets, .. } => self.gather(ty, *buffer, index, *offsets),
            Inst::IndexValue { index, step } => self.index_value(ty, index, *step),
            Inst::Splat(value) => match self.known_element(*value) {
                Some(bits) => self.constant(ty, bits),
                None => {
                    let scalar = self.parts(*value)[0];
                    self.splat(ty, scalar)
                }
            },
            Inst::Shuffle { value, lanes } => self.shuffle(*value, lanes),
            Inst::Concat(values) => self.concat(ty, values),
            Inst::Unary(op, a) => {
                let a = self.parts(*a);
                self.unary(*op, ty, &a)
            }
            Inst::Binary(op, a, b) => self.binary_values(*op, ty, *a, *b),
            Inst::Fma(a, b, c) => {
                let (a, b, c) = (self.parts(*a), self.parts(*b), self.parts(*c));
                a.iter().zip(&b).zip(&c).map(|((&a, &b), &c)| self.fma(a, b, c)).collect()
            }
            Inst::DotBytes(a, b, c) => {
                let (a, b, c) = (self.parts(*a), self.parts(*b), self.parts(*c));
                a.iter().zip(&b).zip(&c).map(|((&a, &b), &c)| self.dot_bytes(a, b, c)).collect()
            }
            Inst::Compare(op, a, b) => {
                let from = self.kernel.type_of(*a);
                let (a, b) = (self.parts(*a), self.parts(*b));
                self.compare(*op, from, &a, &b)
            }
            Inst::Select(mask, a, b) => {
                let (mask, a, b) = (self.parts(*mask), self.parts(*a), self.parts(*b));
                self.select(ty, &mask, &a, &b)
            }
            Inst::Convert(value) => {
                let parts = self.parts(*value);
                self.convert(self.kernel.type_of(*value), ty, &parts)
            }
            Inst::Bitcast(value) => {
                let parts = self.parts(*value);
                self.bitcast(self.kernel.type_of(*value).dtype, ty, &parts)
            }
            Inst::Reduce(op, value) => {
                let parts = self.parts(*value);
                vec![self.reduce(*op, self.kernel.type_of(*value), parts)]
            }
        }
    }

    fn map(&mut self, a: &[ir::Value], mut f: impl FnMut(&mut Self, ir::Value) -> ir::Value) -> Parts {
        a.iter().map(|&a| f(self, a)).collect()
    }

    fn zip(
        &mut self,
        a: &[ir::Value],
        b: &[ir::Value],
        mut f: impl FnMut(&mut Self, ir::Value, ir::Value) -> ir::Value,
    ) -> Parts {
        a.iter().zip(b).map(|(&a, &b)| f(self, a, b)).collect()
    }

    fn is_vector(&self, part: ir::Value) -> bool {
        self.b.func.dfg.value_type(part).is_vector()
    }

    fn index_value(&mut self, ty: VType, index: &crate::kir::Index, step: i64) -> Parts {
        let mut base = self.affine(index);
        for term in &index.dynamic {
            let value = self.parts(term.value)[0];
            let offset = self.b.ins().imul_imm_s(value, term.stride);
            base = self.b.ins().iadd(base, offset);
        }
        let layout = Layout::of(ty);
        let mut parts = Parts::new();
        if layout.groups > 0 {
            let splat = self.b.ins().splat(vector_type(DType::I64), base);
            for register in 0..layout.vectors() as i64 {
                let steps = [2 * register, 2 * register + 1].map(|lane| step.wrapping_mul(lane).to_le_bytes());
                let steps = self.vector_constant(vector_type(DType::I64), steps.as_flattened());
                parts.push(self.b.ins().iadd(splat, steps));
            }
        }
        for lane in i64::from(ty.lanes - ty.lanes % GROUP)..i64::from(ty.lanes) {
            parts.push(self.b.ins().iadd_imm_s(base, step.wrapping_mul(lane)));
        }
        parts
    }

    // Lanes

    fn shuffle(&mut self, value: Value, lanes: &[u32]) -> Parts {
        let from = self.kernel.type_of(value);
        let source = self.parts(value);
        let (layout, target) = (Layout::of(from), Layout::of(from.with_lanes(lanes.len() as u32)));
        let grouped = layout.groups * GROUP as usize;
        let mut parts = Parts::with_capacity(target.parts());
        let (heads, tail) = lanes.split_at(target.groups * GROUP as usize);
        for chunk in heads.chunks(layout.lanes_per_register()) {
            let register = self.shuffle_register(from, &source, grouped, chunk);
            parts.push(register);
        }
        for &lane in tail {
            parts.push(self.lane(from, &source, lane as usize));
        }
        parts
    }

    /// One register of a shuffle: taken whole, from two registers' bytes, or lane by lane.
    fn shuffle_register(&mut self, from: VType, source: &[ir::Value], grouped: usize, lanes: &[u32]) -> ir::Value {
        let per_register = lanes.len();
        let registers: Vec<usize> = lanes.iter().map(|&lane| lane as usize / per_register).collect();
        let (first, last) = (registers[0], registers[per_register - 1]);
        let all_grouped = lanes.iter().all(|&lane| (lane as usize) < grouped);
        if all_grouped && registers.iter().all(|r| [first, last].contains(r)) {
            let aligned = lanes.iter().enumerate().all(|(i, &lane)| lane as usize == first * per_register + i);
            if aligned {
                return source[first];
            }
            let lane_bytes = 16 / per_register;
            let bytes = lanes.iter().zip(&registers).flat_map(|(&lane, &register)| {
                let side = if register == first { 0 } else { 16 };
                let at = side + (lane as usize % per_register) * lane_bytes;
                at as u8..(at + lane_bytes) as u8
            });
            let bytes: Vec<u8> = bytes.collect();
            return self.byte_shuffle(vector_type(from.dtype), source[first], source[last], &bytes);
        }
        let mut scalars: Vec<ir::Value> = lanes.iter().map(|&lane| self.lane(from, source, lane as usize)).collect();
        if from.dtype == DType::Bool {
            scalars = scalars.into_iter().map(|lane| self.b.ins().bmask(I32, lane)).collect();
        }
        let mut register = self.b.ins().scalar_to_vector(vector_type(from.dtype), scalars[0]);
        for (i, &scalar) in scalars.iter().enumerate().skip(1) {
            register = self.b.ins().insertlane(register, scalar, i as u8);
        }
        register
    }

    fn concat(&mut self, ty: VType, values: &[Value]) -> Parts {
        let aligned = values.iter().rev().skip(1).all(|&v| self.kernel.type_of(v).lanes.is_multiple_of(GROUP));
        if aligned {
            return values.iter().flat_map(|&v| self.parts(v)).collect();
        }
        let mut lanes = Vec::new();
        for &value in values {
            let parts = self.parts(value);
            lanes.extend(self.lanes(self.kernel.type_of(value), &parts));
        }
        self.gather_lanes(ty.dtype, &lanes)
    }

    fn bitcast(&mut self, from: DType, ty: VType, parts: &[ir::Value]) -> Parts {
        let halves = |d| matches!(d, DType::F16 | DType::BF16);
        if halves(from) {
            return parts.to_vec();
        }
        if ty.dtype.size() == 1 {
            return self.map(parts, |e, part| e.normalise(ty.dtype, part));
        }
        let layout = Layout::of(ty);
        let mut cast = Parts::with_capacity(parts.len());
        for (i, &part) in parts.iter().enumerate() {
            let to = if i < layout.vectors() { vector_type(ty.dtype) } else { super::lanes::scalar_type(ty.dtype) };
            cast.push(self.cast(to, part));
        }
        cast
    }

    /// Brings the low bits of a 32-bit lane into the form that narrow integers have.
    pub(super) fn normalise(&mut self, dtype: DType, part: ir::Value) -> ir::Value {
        match dtype {
            DType::I8 => {
                let high = self.shift_constant(BinaryOp::Shl, part, 24);
                self.shift_constant(BinaryOp::Shr, high, 24)
            }
            DType::U8 => self.and_constant(part, 0xFF),
            _ => part,
        }
    }

    /// Bitwise and of 32-bit lanes with a constant.
    pub(super) fn and_constant(&mut self, part: ir::Value, mask: u32) -> ir::Value {
        if self.is_vector(part) {
            let mask = self.splat_i32(mask);
            self.b.ins().band(part, mask)
        } else {
            self.b.ins().band_imm_u(part, i64::from(mask))
        }
    }

    /// A shift of every lane by a constant; `Shr` is arithmetic.
    pub(super) fn shift_constant(&mut self, op: BinaryOp, part: ir::Value, amount: u32) -> ir::Value {
        let amount = self.b.ins().iconst(I32, i64::from(amount));
        match op {
            BinaryOp::Shl => self.b.ins().ishl(part, amount),
            BinaryOp::Shr => self.b.ins().sshr(part, amount),
            _ => self.b.ins().ushr(part, amount),
        }
    }

    // Arithmetic

    fn unary(&mut self, op: UnaryOp, ty: VType, a: &[ir::Value]) -> Parts {
        let dtype = ty.dtype;
        let float = dtype.is_float();
        self.map(a, |e, a| match op {
            UnaryOp::Neg if float => e.b.ins().fneg(a),
            UnaryOp::Abs if float => e.b.ins().fabs(a),
            UnaryOp::Neg => {
                let negated = e.b.ins().ineg(a);
                e.normalise(dtype, negated)
            }
            UnaryOp::Abs => {
                let absolute = e.b.ins().iabs(a);
                e.normalise(dtype, absolute)
            }
            UnaryOp::Not if dtype == DType::Bool && !e.is_vector(a) => e.b.ins().bxor_imm_u(a, 1),
            UnaryOp::Not => {
                let complement = e.b.ins().bnot(a);
                e.normalise(dtype, complement)
            }
            UnaryOp::Sqrt => e.b.ins().sqrt(a),
            UnaryOp::Floor => e.b.ins().floor(a),
            UnaryOp::Ceil => e.b.ins().ceil(a),
            UnaryOp::Trunc => e.b.ins().trunc(a),
            UnaryOp::Round => e.b.ins().nearest(a),
            UnaryOp::Exp
            | UnaryOp::Log
            | UnaryOp::Log1p
            | UnaryOp::Tanh
            | UnaryOp::Erf
            | UnaryOp::Sin
            | UnaryOp::Cos
            | UnaryOp::Atan => {
                unreachable!("math::expand replaced {op:?}")
            }
        })
    }

    fn binary_values(&mut self, op: BinaryOp, ty: VType, a: Value, b: Value) -> Parts {
        let (parts, others) = (self.parts(a), self.parts(b));
        let not_nan = self.known_element(a).is_some_and(|bits| !bits.to_f64(ty.dtype).is_nan());
        match op {
            BinaryOp::Shl | BinaryOp::Shr | BinaryOp::ShrLogical => {
                let amount = self.known_element(b).map(|bits| bits.to_i64(ty.dtype));
                self.shift(op, ty, &parts, &others, amount)
            }
            BinaryOp::Min | BinaryOp::Max if ty.dtype.is_float() => {
                self.zip(&parts, &others, |e, a, b| e.float_extremum(op, a, b, not_nan))
            }
            _ => self.binary(op, ty, &parts, &others),
        }
    }

    /// A binary instruction of any operands; shifts go through [`Self::shift`].
    fn binary(&mut self, op: BinaryOp, ty: VType, a: &[ir::Value], b: &[ir::Value]) -> Parts {
        let dtype = ty.dtype;
        if dtype.is_float() {
            return self.zip(a, b, |e, a, b| match op {
                BinaryOp::Add => e.b.ins().fadd(a, b),
                BinaryOp::Sub => e.b.ins().fsub(a, b),
                BinaryOp::Mul => e.b.ins().fmul(a, b),
                BinaryOp::Div => e.b.ins().fdiv(a, b),
                BinaryOp::Min | BinaryOp::Max => e.float_extremum(op, a, b, false),
                _ => unreachable!("the verifier and math::expand leave no {op:?} of floats"),
            });
        }
        match op {
            BinaryOp::Div | BinaryOp::Rem => self.by_lane_pair(ty, a, b, |e, a, b| e.divide(op, dtype, a, b)),
            _ => self.zip(a, b, |e, a, b| {
                let result = match op {
                    BinaryOp::Add => e.b.ins().iadd(a, b),
                    BinaryOp::Sub => e.b.ins().isub(a, b),
                    BinaryOp::Mul => e.b.ins().imul(a, b),
                    BinaryOp::And => e.b.ins().band(a, b),
                    BinaryOp::Or => e.b.ins().bor(a, b),
                    BinaryOp::Xor => e.b.ins().bxor(a, b),
                    BinaryOp::Min | BinaryOp::Max => e.integer_extremum(op, a, b),
                    _ => unreachable!("math::expand leaves no {op:?} of integers"),
                };
                match op {
                    BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul => e.normalise(dtype, result),
                    _ => result,
                }
            }),
        }
    }

    fn fma(&mut self, a: ir::Value, b: ir::Value, c: ir::Value) -> ir::Value {
        if self.has_fma {
            return self.b.ins().fma(a, b, c);
        }
        let product = self.b.ins().fmul(a, b);
        self.b.ins().fadd(product, c)
    }

    /// `c` plus the products of the bytes of `a`, unsigned, and of `b`, signed.
    fn dot_bytes(&mut self, a: ir::Value, b: ir::Value, c: ir::Value) -> ir::Value {
        (0..4).fold(c, |sum, byte| {
            let [up, down] = [24 - 8 * byte, 24].map(|by| self.b.ins().iconst(I32, by));
            let [a, b] = [a, b].map(|bytes| self.b.ins().ishl(bytes, up));
            let (a, b) = (self.b.ins().ushr(a, down), self.b.ins().sshr(b, down));
            let product = self.b.ins().imul(a, b);
            self.b.ins().iadd(sum, product)
        })
    }

    /// Minimum or maximum where NaN wins. With a first operand that is not NaN this is one `minps` or `maxps`.
    fn float_extremum(&mut self, op: BinaryOp, a: ir::Value, b: ir::Value, a_is_not_nan: bool) -> ir::Value {
        let (less, greater) = if op == BinaryOp::Min { (a, b) } else { (b, a) };
        let first = self.b.ins().fcmp(FloatCC::LessThan, less, greater);
        let ty = self.b.func.dfg.value_type(a);
        if !ty.is_vector() {
            let best = self.b.ins().select(first, a, b);
            if a_is_not_nan {
                return best;
            }
            let nan = self.b.ins().fcmp(FloatCC::Unordered, a, a);
            return self.b.ins().select(nan, a, best);
        }
        let first = self.cast(ty, first);
        let best = self.b.ins().bitselect(first, a, b);
        if a_is_not_nan {
            return best;
        }
        let nan = self.b.ins().fcmp(FloatCC::Unordered, a, a);
        let nan = self.cast(ty, nan);
        self.b.ins().bitselect(nan, a, best)
    }

    fn integer_extremum(&mut self, op: BinaryOp, a: ir::Value, b: ir::Value) -> ir::Value {
        let ty = self.b.func.dfg.value_type(a);
        if ty.is_vector() && ty.lane_bits() < 64 {
            return match op {
                BinaryOp::Min => self.b.ins().smin(a, b),
                _ => self.b.ins().smax(a, b),
            };
        }
        let order = if op == BinaryOp::Min { IntCC::SignedLessThan } else { IntCC::SignedGreaterThan };
        let first = self.b.ins().icmp(order, a, b);
        match ty.is_vector() {
            true => self.b.ins().bitselect(first, a, b),
            false => self.b.ins().select(first, a, b),
        }
    }

    /// Quotient or remainder of scalars, defined for every divisor.
    fn divide(&mut self, op: BinaryOp, dtype: DType, a: ir::Value, b: ir::Value) -> ir::Value {
        let by_zero = self.b.ins().icmp_imm_s(IntCC::Equal, b, 0);
        if dtype == DType::I64 {
            // the smallest number by −1 would trap: the quotient is the negated dividend, the remainder 0
            let by_minus_one = self.b.ins().icmp_imm_s(IntCC::Equal, b, -1);
            let one = self.b.ins().iconst(I64, 1);
            let zero = self.b.ins().iconst(I64, 0);
            let special = self.b.ins().bor(by_zero, by_minus_one);
            let divisor = self.b.ins().select(special, one, b);
            let (result, of_minus_one) = match op {
                BinaryOp::Div => (self.b.ins().sdiv(a, divisor), self.b.ins().ineg(a)),
                _ => (self.b.ins().srem(a, divisor), zero),
            };
            let result = self.b.ins().select(by_minus_one, of_minus_one, result);
            return self.b.ins().select(by_zero, zero, result);
        }
        let wide = self.b.ins().sextend(I64, a);
        let divisor = self.b.ins().sextend(I64, b);
        let one = self.b.ins().iconst(I64, 1);
        let divisor = self.b.ins().select(by_zero, one, divisor);
        let result = match op {
            BinaryOp::Div => self.b.ins().sdiv(wide, divisor),
            _ => self.b.ins().srem(wide, divisor),
        };
        let result = self.b.ins().ireduce(I32, result);
        let zero = self.b.ins().iconst(I32, 0);
        let result = self.b.ins().select(by_zero, zero, result);
        self.normalise(dtype, result)
    }

    fn shift(&mut self, op: BinaryOp, ty: VType, a: &[ir::Value], b: &[ir::Value], amount: Option<i64>) -> Parts {
        let dtype = ty.dtype;
        let bits = 8 * dtype.size() as u32;
        let narrow = dtype.size() == 1;
        if let Some(amount) = amount {
            let amount = amount as u32 & (bits - 1);
            return self.map(a, |e, a| {
                let a = if narrow && op == BinaryOp::ShrLogical { e.and_constant(a, 0xFF) } else { a };
                let shifted = e.shift_constant(op, a, amount);
                e.normalise(dtype, shifted)
            });
        }
        // amounts that differ between lanes: CLIF shifts vectors by one amount only
        self.by_lane_pair(ty, a, b, |e, a, b| {
            let a = if narrow && op == BinaryOp::ShrLogical { e.and_constant(a, 0xFF) } else { a };
            let amount = e.b.ins().band_imm_u(b, i64::from(bits - 1));
            let shifted = match op {
                BinaryOp::Shl => e.b.ins().ishl(a, amount),
                BinaryOp::Shr => e.b.ins().sshr(a, amount),
                _ => e.b.ins().ushr(a, amount),
            };
            e.normalise(dtype, shifted)
        })
    }

    // Masks

    /// A mask of the lanes where a comparison holds.
    pub(super) fn compare(&mut self, op: CompareOp, from: VType, a: &[ir::Value], b: &[ir::Value]) -> Parts {
        let masks = self.zip(a, b, |e, a, b| match from.dtype.is_float() {
            true => e.b.ins().fcmp(float_order(op), a, b),
            false => e.b.ins().icmp(integer_order(op), a, b),
        });
        if !is_wide(from.dtype) {
            return masks;
        }
        let (registers, tail) = masks.split_at(Layout::of(from).vectors());
        let mut parts: Parts = registers.chunks(2).map(|pair| self.narrow_pair(pair[0], pair[1])).collect();
        parts.extend_from_slice(tail);
        parts
    }

    fn select(&mut self, ty: VType, mask: &[ir::Value], a: &[ir::Value], b: &[ir::Value]) -> Parts {
        let layout = Layout::of(ty);
        let mut masks = Vec::with_capacity(layout.parts());
        for (i, &part) in mask.iter().enumerate() {
            match i < layout.groups && layout.registers == 2 {
                true => masks.extend(self.widen_mask(part)),
                false => masks.push(part),
            }
        }
        let choices = masks.iter().zip(a).zip(b);
        choices
            .map(|((&mask, &a), &b)| {
                if !self.is_vector(a) {
                    return self.b.ins().select(mask, a, b);
                }
                // in the mask's own type: that is where Cranelift sees that its lanes are all ones or zeros
                let (ty, mask_ty) = (self.b.func.dfg.value_type(a), self.b.func.dfg.value_type(mask));
                let (a, b) = (self.cast(mask_ty, a), self.cast(mask_ty, b));
                let chosen = self.b.ins().bitselect(mask, a, b);
                self.cast(ty, chosen)
            })
            .collect()
    }

    // Reductions

    /// Combines all lanes in the order that [`Inst::Reduce`] gives.
    fn reduce(&mut self, op: ReduceOp, ty: VType, mut parts: Parts) -> ir::Value {
        let registers = Layout::of(ty).registers;
        let mut lanes = ty.lanes;
        // whole groups combine with whole groups while the number of lanes is a multiple of eight
        while lanes.is_multiple_of(2 * GROUP) {
            let half = parts.split_off(parts.len() / 2);
            lanes /= 2;
            parts = self.binary(op.binary(), ty.with_lanes(lanes), &parts, &half);
        }
        if lanes == GROUP && registers == 1 {
            let register = parts[0];
            let halves_swapped: Vec<u8> = (8..16).chain(0..8).collect();
            let swapped = self.byte_shuffle(vector_type(ty.dtype), register, register, &halves_swapped);
            let pairs = self.binary(op.binary(), ty.with_lanes(GROUP), &[register], &[swapped])[0];
            let low = self.lane(ty.with_lanes(GROUP), &[pairs], 0);
            let high = self.lane(ty.with_lanes(GROUP), &[pairs], 1);
            return self.binary(op.binary(), ty.with_lanes(1), &[low], &[high])[0];
        }
        let mut scalars = self.lanes(ty.with_lanes(lanes), &parts);
        while scalars.len() > 1 {
            let half = scalars.len().div_ceil(2);
            for i in 0..scalars.len() - half {
                scalars[i] = self.binary(op.binary(), ty.with_lanes(1), &[scalars[i]], &[scalars[i + half]])[0];
            }
            scalars.truncate(half);
        }
        scalars[0]
    }
}

fn float_order(op: CompareOp) -> FloatCC {
    match op {
        CompareOp::Eq => FloatCC::Equal,
        CompareOp::Ne => FloatCC::NotEqual,
        CompareOp::Lt => FloatCC::LessThan,
        CompareOp::Le => FloatCC::LessThanOrEqual,
        CompareOp::Gt => FloatCC::GreaterThan,
        CompareOp::Ge => FloatCC::GreaterThanOrEqual,
    }
}

fn integer_order(op: CompareOp) -> IntCC {
    match op {
        CompareOp::Eq => IntCC::Equal,
        CompareOp::Ne => IntCC::NotEqual,
        CompareOp::Lt => IntCC::SignedLessThan,
        CompareOp::Le => IntCC::SignedLessThanOrEqual,
        CompareOp::Gt => IntCC::SignedGreaterThan,
        CompareOp::Ge => IntCC::SignedGreaterThanOrEqual,
    }
}
