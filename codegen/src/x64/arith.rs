//! Instructions on values.

use iced_x86::Code;
use regalloc2::{RegClass, VReg};

use super::emit::{Def, Emitter};
use super::function::VECTOR;
use super::inst::{Arg, Inst, Size};
use super::isa::{Isa, is_wide};
use super::lanes::{Parts, Source};
use super::mask::Logic;
use super::op::{Lowest, Op, Width};
use crate::kir::{self, BinaryOp, Bits, DType, Index, ReduceOp, UnaryOp, VType, Value};

/// Rounding modes of `vrndscale`, inexactness not reported.
mod rounding {
    pub const NEAREST: u8 = 8;
    pub const DOWN: u8 = 9;
    pub const UP: u8 = 10;
    pub const TRUNCATE: u8 = 11;
}

/// The predicate of `vcmp` that holds where an operand is NaN.
pub(super) const UNORDERED: u8 = 3;

impl Emitter<'_> {
    /// What an instruction defines.
    pub(super) fn inst(&mut self, value: Value, inst: &kir::Inst) -> Def {
        let ty = self.kernel.type_of(value);
        Def::Parts(match inst {
            kir::Inst::Const(bits) => return Def::Constant(*bits),
            kir::Inst::Load { buffer, index, stride } => return self.load(value, *buffer, index, *stride),
            kir::Inst::Gather { buffer, index, offsets, .. } => self.gather(ty, *buffer, index, *offsets),
            kir::Inst::IndexValue { index, step } => self.index_value(ty, index, *step),
            kir::Inst::Splat(scalar) => match self.known_element(*scalar) {
                Some(bits) => return Def::Constant(bits),
                None => {
                    let scalar = self.parts(*scalar)[0];
                    self.splat(ty, scalar)
                }
            },
            kir::Inst::Shuffle { value, lanes } => {
                let from = self.kernel.type_of(*value);
                let parts = self.parts(*value);
                let places = self.lane_places(from, &parts);
                let lanes: Vec<(VReg, u32)> = lanes.iter().map(|&lane| places[lane as usize]).collect();
                self.gather_places(ty.dtype, &lanes)
            }
            kir::Inst::Concat(values) => self.concat(ty.dtype, values),
            kir::Inst::Unary(op, a) => self.unary(*op, ty, *a),
            kir::Inst::Binary(op, a, b) => self.binary(*op, ty, *a, *b),
            kir::Inst::Fma(a, b, c) => self.fma(ty, *a, *b, *c),
            kir::Inst::DotBytes(a, b, c) => self.dot_bytes(ty, *a, *b, *c),
            kir::Inst::Compare(op, a, b) => {
                let from = self.kernel.type_of(*a);
                let (a, b) = (self.parts(*a), self.sources_of(*b, from));
                self.compare(*op, from, &a, &b)
            }
            kir::Inst::Select(mask, a, b) => self.select(ty, *mask, *a, *b),
            kir::Inst::Convert(from) => {
                let parts = self.parts(*from);
                self.convert(self.kernel.type_of(*from), ty, &parts)
            }
            kir::Inst::Bitcast(from) => {
                let parts = self.parts(*from);
                match ty.dtype {
                    DType::I8 | DType::U8 => self.each(ty, &parts, |e, w, a| e.normalise(ty.dtype, w, a)),
                    _ => parts,
                }
            }
            kir::Inst::Reduce(op, from) => {
                let parts = self.parts(*from);
                vec![self.reduce(*op, self.kernel.type_of(*from), parts)]
            }
        })
    }

    /// The sources of an operand: in registers for masks.
    fn sources_of(&mut self, value: Value, ty: VType) -> Vec<Source> {
        match ty.dtype {
            DType::Bool => self.parts(value).into_iter().map(Source::Reg).collect(),
            _ => self.sources(value),
        }
    }

    /// Applies an instruction to each register of a value.
    pub(super) fn each(&mut self, ty: VType, a: &[VReg], mut f: impl FnMut(&mut Self, Width, VReg) -> VReg) -> Parts {
        a.iter().enumerate().map(|(i, &a)| f(self, self.isa.width(ty, i), a)).collect()
    }

    /// Applies an instruction to each register of one value and each operand of another.
    pub(super) fn zip(
        &mut self,
        ty: VType,
        a: &[VReg],
        b: &[Source],
        mut f: impl FnMut(&mut Self, Width, VReg, Source) -> VReg,
    ) -> Parts {
        a.iter().zip(b).enumerate().map(|(i, (&a, &b))| f(self, self.isa.width(ty, i), a, b)).collect()
    }

    fn index_value(&mut self, ty: VType, index: &Index, step: i64) -> Parts {
        let mut base = self.affine(index);
        for term in &index.dynamic {
            let value = self.scalar_int(term.value);
            let offset = self.times(value, term.stride);
            base = self.add(base, offset);
        }
        if ty.lanes == 1 {
            return vec![self.vector(Lowest::Load64.code(self.isa), Width::X, &[Arg::Use(base, Size::R64)])];
        }
        let splat = self.splat_number(true, self.isa.width(ty, 0), base);
        let per_part = i64::from(self.isa.lanes_per_part(ty.dtype));
        let part = |e: &mut Self, i: usize| {
            let steps = (0..per_part).map(|lane| step.wrapping_mul(i as i64 * per_part + lane) as u64);
            let steps = e.lanes_constant(steps, 8);
            e.op2(Op::AddI64, e.isa.width(ty, i), splat, Source::Reg(steps))
        };
        (0..self.isa.parts(ty)).map(|i| part(self, i)).collect()
    }

    fn concat(&mut self, dtype: DType, values: &[Value]) -> Parts {
        let per_part = self.isa.lanes_per_part(dtype);
        let aligned = values.iter().rev().skip(1).all(|&v| self.kernel.type_of(v).lanes.is_multiple_of(per_part));
        if aligned {
            return values.iter().flat_map(|&v| self.parts(v)).collect();
        }
        let mut lanes = Vec::new();
        for &value in values {
            let parts = self.parts(value);
            lanes.extend(self.lane_places(self.kernel.type_of(value), &parts));
        }
        self.gather_places(dtype, &lanes)
    }

    /// Brings the low bits of a 32-bit lane into the form that narrow integers have.
    pub(super) fn normalise(&mut self, dtype: DType, w: Width, reg: VReg) -> VReg {
        match dtype {
            DType::I8 => {
                let amount = Source::Mem(self.constant_source(DType::I32, Bits(24)));
                let high = self.op2(Op::Shl32, w, reg, amount);
                self.op2(Op::Shr32, w, high, amount)
            }
            DType::U8 => self.and_bits(w, reg, 0xFF),
            _ => reg,
        }
    }

    /// Bitwise and of 32-bit lanes with a constant.
    pub(super) fn and_bits(&mut self, w: Width, reg: VReg, bits: u32) -> VReg {
        let bits = Source::Mem(self.constant_source(DType::I32, Bits(bits.into())));
        self.op2(Op::And32, w, reg, bits)
    }

    /// `op` of 32-bit lanes and a constant.
    pub(super) fn with_bits(&mut self, op: Op, w: Width, reg: VReg, bits: u32) -> VReg {
        let bits = Source::Mem(self.constant_source(DType::I32, Bits(bits.into())));
        self.op2(op, w, reg, bits)
    }

    // Arithmetic

    fn unary(&mut self, op: UnaryOp, ty: VType, a: Value) -> Parts {
        let a = self.parts(a);
        let (dtype, wide) = (ty.dtype, is_wide(ty.dtype));
        if dtype == DType::Bool {
            return a.iter().map(|&a| self.not(a)).collect();
        }
        let pick = |narrow: Op, wide_op: Op| if wide { wide_op } else { narrow };
        let float = dtype.is_float();
        let sign = if wide { 1u64 << 63 } else { 1 << 31 };
        let bits_type = if wide { DType::I64 } else { DType::I32 };
        let round = |mode: u8| (pick(Op::RoundF32, Op::RoundF64), mode);
        self.each(ty, &a, |e, w, a| match op {
            UnaryOp::Neg if float => {
                let sign = Source::Mem(e.constant_source(bits_type, Bits(sign)));
                e.op2(pick(Op::Xor32, Op::Xor64), w, a, sign)
            }
            UnaryOp::Abs if float => {
                let magnitude = Source::Mem(e.constant_source(bits_type, Bits(sign - 1)));
                e.op2(pick(Op::And32, Op::And64), w, a, magnitude)
            }
            UnaryOp::Neg => {
                let zero = e.constant_register(DType::I32, Bits(0));
                let negated = e.op2(pick(Op::SubI32, Op::SubI64), w, zero, Source::Reg(a));
                e.normalise(dtype, w, negated)
            }
            UnaryOp::Abs => {
                let absolute = e.op1(pick(Op::AbsI32, Op::AbsI64), w, Source::Reg(a));
                e.normalise(dtype, w, absolute)
            }
            UnaryOp::Not => {
                let ones = Source::Mem(e.constant_source(bits_type, Bits(u64::MAX)));
                let complement = e.op2(pick(Op::Xor32, Op::Xor64), w, a, ones);
                e.normalise(dtype, w, complement)
            }
            UnaryOp::Sqrt => e.op1(pick(Op::SqrtF32, Op::SqrtF64), w, Source::Reg(a)),
            UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Trunc | UnaryOp::Round => {
                let (op, mode) = round(match op {
                    UnaryOp::Floor => rounding::DOWN,
                    UnaryOp::Ceil => rounding::UP,
                    UnaryOp::Trunc => rounding::TRUNCATE,
                    _ => rounding::NEAREST,
                });
                e.op_imm(op, w, Source::Reg(a), mode)
            }
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

    fn binary(&mut self, op: BinaryOp, ty: VType, a: Value, b: Value) -> Parts {
        // what commutes takes its second operand from memory
        let commutes = matches!(op, BinaryOp::Add | BinaryOp::Mul | BinaryOp::And | BinaryOp::Or | BinaryOp::Xor);
        let (a, b) = if commutes && self.in_memory(a) && !self.in_memory(b) { (b, a) } else { (a, b) };
        match op {
            BinaryOp::Shl | BinaryOp::Shr | BinaryOp::ShrLogical => {
                let amount = self.known_element(b).map(|bits| bits.to_i64(ty.dtype));
                let parts = self.parts(a);
                match amount {
                    Some(amount) => {
                        let amount = amount as u64 & (8 * ty.dtype.size() as u64 - 1);
                        let by = if is_wide(ty.dtype) { DType::I64 } else { DType::I32 };
                        let by = vec![Source::Mem(self.constant_source(by, Bits(amount))); parts.len()];
                        self.shift(op, ty, &parts, &by)
                    }
                    None => {
                        let by = self.parts(b);
                        let by = self.shift_amounts(ty, &by);
                        self.shift(op, ty, &parts, &by)
                    }
                }
            }
            BinaryOp::Min | BinaryOp::Max if ty.dtype.is_float() => {
                let a_is_not_nan = self.known_element(a).is_some_and(|bits| !bits.to_f64(ty.dtype).is_nan());
                let (a, b) = (self.parts(a), self.sources(b));
                self.zip(ty, &a, &b, |e, w, a, b| e.float_extremum(op, ty.dtype, w, a, b, a_is_not_nan))
            }
            BinaryOp::Div | BinaryOp::Rem if !ty.dtype.is_float() => self.divide(op, ty, a, b),
            _ => {
                let (a, b) = (self.parts(a), self.sources_of(b, ty));
                self.combine(op, ty, &a, &b)
            }
        }
    }

    /// Shift amounts modulo the dtype's bits.
    fn shift_amounts(&mut self, ty: VType, by: &[VReg]) -> Vec<Source> {
        let most = 8 * ty.dtype.size() as u64 - 1;
        let (op, dtype) = if is_wide(ty.dtype) { (Op::And64, DType::I64) } else { (Op::And32, DType::I32) };
        let most = Source::Mem(self.constant_source(dtype, Bits(most)));
        self.each(ty, by, |e, w, by| e.op2(op, w, by, most)).into_iter().map(Source::Reg).collect()
    }

    fn shift(&mut self, op: BinaryOp, ty: VType, a: &[VReg], by: &[Source]) -> Parts {
        let wide = is_wide(ty.dtype);
        let code = match (op, wide) {
            (BinaryOp::Shl, false) => Op::Shl32,
            (BinaryOp::Shl, true) => Op::Shl64,
            (BinaryOp::Shr, false) => Op::Shr32,
            (BinaryOp::Shr, true) => Op::Shr64,
            (_, false) => Op::ShrLogical32,
            (_, true) => Op::ShrLogical64,
        };
        let narrow = ty.dtype.size() == 1;
        self.zip(ty, a, by, |e, w, a, by| {
            let a = if narrow && op == BinaryOp::ShrLogical { e.and_bits(w, a, 0xFF) } else { a };
            let shifted = e.op2(code, w, a, by);
            e.normalise(ty.dtype, w, shifted)
        })
    }

    /// A binary instruction that is one machine instruction, but for narrow integers.
    fn combine(&mut self, op: BinaryOp, ty: VType, a: &[VReg], b: &[Source]) -> Parts {
        let dtype = ty.dtype;
        if dtype == DType::Bool {
            let logic = match op {
                BinaryOp::And => Logic::And,
                BinaryOp::Or => Logic::Or,
                BinaryOp::Xor => Logic::Xor,
                _ => unreachable!("the verifier allows no {op:?} of booleans"),
            };
            return self.zip(ty, a, b, |e, w, a, b| {
                let b = e.in_register(w, b);
                e.logic(logic, a, b)
            });
        }
        let wide = is_wide(dtype);
        let pick = |narrow: Op, wide_op: Op| if wide { wide_op } else { narrow };
        let code = match (dtype.is_float(), op) {
            (true, BinaryOp::Add) => pick(Op::AddF32, Op::AddF64),
            (true, BinaryOp::Sub) => pick(Op::SubF32, Op::SubF64),
            (true, BinaryOp::Mul) => pick(Op::MulF32, Op::MulF64),
            (true, BinaryOp::Div) => pick(Op::DivF32, Op::DivF64),
            (false, BinaryOp::Add) => pick(Op::AddI32, Op::AddI64),
            (false, BinaryOp::Sub) => pick(Op::SubI32, Op::SubI64),
            (false, BinaryOp::Mul) => pick(Op::MulI32, Op::MulI64),
            (false, BinaryOp::Min) => pick(Op::MinI32, Op::MinI64),
            (false, BinaryOp::Max) => pick(Op::MaxI32, Op::MaxI64),
            (false, BinaryOp::And) => pick(Op::And32, Op::And64),
            (false, BinaryOp::Or) => pick(Op::Or32, Op::Or64),
            (false, BinaryOp::Xor) => pick(Op::Xor32, Op::Xor64),
            _ => unreachable!("the verifier and math::expand leave no {op:?} of {dtype}"),
        };
        let overflows = matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul);
        self.zip(ty, a, b, |e, w, a, b| {
            let result = e.op2(code, w, a, b);
            if overflows { e.normalise(dtype, w, result) } else { result }
        })
    }

    /// Any associative instruction of registers, as reductions need it.
    fn combine_registers(&mut self, op: BinaryOp, ty: VType, a: &[VReg], b: &[VReg]) -> Parts {
        let b: Vec<Source> = b.iter().map(|&b| Source::Reg(b)).collect();
        match op {
            BinaryOp::Min | BinaryOp::Max if ty.dtype.is_float() => {
                self.zip(ty, a, &b, |e, w, a, b| e.float_extremum(op, ty.dtype, w, a, b, false))
            }
            _ => self.combine(op, ty, a, &b),
        }
    }

    fn fma(&mut self, ty: VType, a: Value, b: Value, c: Value) -> Parts {
        let (a, b) = if self.in_memory(a) && !self.in_memory(b) { (b, a) } else { (a, b) };
        let wide = is_wide(ty.dtype);
        // one operand may be in memory: a factor, or a constant that is added, as in polynomials (a register of zeros
        // costs nothing); the result takes the place of another
        let adds_constant = self.known_element(c).is_some_and(|bits| bits.0 != 0) && !self.in_memory(b);
        let (op, tied, factor, last) = match adds_constant {
            true => (if wide { Op::FmaAdd64 } else { Op::FmaAdd32 }, self.parts(a), self.parts(b), self.sources(c)),
            false => {
                let (a, b) = (self.parts(a), self.sources(b));
                (if wide { Op::FmaAcc64 } else { Op::FmaAcc32 }, self.parts(c), a, b)
            }
        };
        let one = |e: &mut Self, i: usize| {
            let w = e.isa.width(ty, i);
            let (def, size) = (e.f.reg(VECTOR), Size::V(w));
            let tied = Arg::Tied { def, from: tied[i], size };
            e.f.push(Inst::new(e.code(op, w), &[tied, Arg::Use(factor[i], size), last[i].arg(size)]));
            def
        };
        (0..self.isa.parts(ty)).map(|i| one(self, i)).collect()
    }

    /// Minimum or maximum where NaN wins. The instruction takes its second operand where either is NaN, so only a NaN in
    /// the first must be put back.
    fn float_extremum(&mut self, op: BinaryOp, dtype: DType, w: Width, a: VReg, b: Source, a_is_not_nan: bool) -> VReg {
        let wide = is_wide(dtype);
        let code = match (op, wide) {
            (BinaryOp::Min, false) => Op::MinF32,
            (BinaryOp::Min, true) => Op::MinF64,
            (_, false) => Op::MaxF32,
            (_, true) => Op::MaxF64,
        };
        let best = self.op2(code, w, a, b);
        if a_is_not_nan {
            return best;
        }
        let nan = self.compare_floats(wide, w, a, Source::Reg(a), UNORDERED);
        self.blend(wide, w, nan, best, Source::Reg(a))
    }

    /// Quotients or remainders of integers, lane by lane, defined for every divisor.
    fn divide(&mut self, op: BinaryOp, ty: VType, a: Value, b: Value) -> Parts {
        let (a, b) = (self.parts(a), self.parts(b));
        self.spill_lanes(0, ty, &a);
        self.spill_lanes(1, ty, &b);
        for lane in 0..ty.lanes {
            let dividend = self.load_frame_lane(0, ty.dtype, lane);
            let divisor = self.load_frame_lane(1, ty.dtype, lane);
            // by 0, and the smallest number by −1, would trap: both are divided by 1 instead
            let one = self.number(1);
            let safe = self.choose_equal(divisor, 0, one, divisor);
            let safe = self.choose_equal(divisor, -1, one, safe);
            let (quotient, remainder) = self.divide_registers(dividend, safe);
            let result = match op {
                BinaryOp::Div => {
                    let zero = self.number(0);
                    let negated = self.tied(Code::Sub_r64_rm64, zero, dividend);
                    let quotient = self.choose_equal(divisor, -1, negated, quotient);
                    self.choose_equal(divisor, 0, zero, quotient)
                }
                // by 1 the remainder is 0, which is right for both
                _ => remainder,
            };
            self.store_frame_lane(0, ty.dtype, lane, result);
        }
        let result = self.reload_lanes(0, ty);
        self.each(ty, &result, |e, w, reg| e.normalise(ty.dtype, w, reg))
    }

    /// `reg == number ? yes : no` of general registers.
    fn choose_equal(&mut self, reg: VReg, number: i64, yes: VReg, no: VReg) -> VReg {
        self.compare_number(reg, number);
        let def = self.f.reg(RegClass::Int);
        let tied = Arg::Tied { def, from: no, size: Size::R64 };
        self.f.push(Inst::new(Code::Cmove_r64_rm64, &[tied, Arg::Use(yes, Size::R64)]));
        def
    }

    fn select(&mut self, ty: VType, mask: Value, a: Value, b: Value) -> Parts {
        let masks = self.parts(mask);
        if ty.dtype == DType::Bool {
            let (a, b) = (self.parts(a), self.parts(b));
            return (0..masks.len()).map(|i| self.choose(masks[i], a[i], b[i])).collect();
        }
        let masks = self.masks_for(ty, &masks);
        let (a, b) = (self.sources(a), self.parts(b));
        let wide = is_wide(ty.dtype);
        (0..masks.len()).map(|i| self.blend(wide, self.isa.width(ty, i), masks[i], b[i], a[i])).collect()
    }

    // Reductions

    /// Combines all lanes in the order that [`kir::Inst::Reduce`] gives.
    fn reduce(&mut self, op: ReduceOp, ty: VType, mut registers: Parts) -> VReg {
        let per_part = self.isa.lanes_per_part(ty.dtype);
        let wide = is_wide(ty.dtype);
        let mut lanes = ty.lanes;
        while lanes > 1 {
            let (half, rest) = (lanes.div_ceil(2), lanes / 2);
            let now = ty.with_lanes(lanes);
            let high = if half.is_multiple_of(per_part) {
                registers[(half / per_part) as usize..].to_vec()
            } else if lanes <= per_part && self.isa.class(ty.dtype) == VECTOR {
                let size = if wide { 2 } else { 1 };
                vec![self.rotate(registers[0], half * size, lanes * size)]
            } else {
                let places = self.lane_places(now, &registers);
                self.gather_places(ty.dtype, &places[half as usize..])
            };
            let kept = ty.with_lanes(half);
            registers.truncate(self.isa.parts(kept));
            let low = registers.clone();
            let combined =
                self.combine_registers(op.binary(), ty.with_lanes(rest), &low[..high.len().min(low.len())], &high);
            registers = combined;
            registers.extend_from_slice(&low[registers.len()..]);
            // an odd lane is left as it was
            if rest < half && rest % per_part != 0 {
                let at = (rest / per_part) as usize;
                let w = self.isa.width(kept, at);
                let valid = self.isa.lanes_of_part(ty.with_lanes(rest), at);
                registers[at] = match self.isa.class(ty.dtype) {
                    VECTOR => self.blend_first(wide, w, valid, registers[at], low[at]),
                    _ => {
                        let mask = self.first_lanes(valid, 4);
                        self.choose(mask, registers[at], low[at])
                    }
                };
            }
            lanes = half;
        }
        registers[0]
    }

    /// The 32-bit lanes of a register, of which `lanes` count, `by` lanes further down.
    fn rotate(&mut self, reg: VReg, by: u32, lanes: u32) -> VReg {
        let w = self.isa.widest();
        let args = [Arg::Use(reg, Size::V(w)), Arg::Use(reg, Size::V(w)), Arg::Imm8(by as u8)];
        match self.isa {
            Isa::Avx512 => self.vector(self.code(Op::Align32, w), w, &args),
            Isa::Avx2 if by == 4 => self.upper_half(reg),
            Isa::Avx2 if lanes <= 4 => {
                let order = (0..4).map(|i| ((i + by as u8) & 3) << (2 * i)).sum();
                self.op_imm(Op::Shuffle32, Width::X, Source::Reg(reg), order)
            }
            Isa::Avx2 => {
                let order: Vec<(VReg, u32)> = (0..8).map(|i| (reg, (i + by) % 8)).collect();
                self.permute(false, &order)[0]
            }
        }
    }
}
