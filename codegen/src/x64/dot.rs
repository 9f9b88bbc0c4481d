//! Products of bytes, summed in 32-bit lanes.

use regalloc2::VReg;

use super::emit::Emitter;
use super::function::VECTOR;
use super::inst::{Arg, Inst, Size};
use super::lanes::{Parts, Source};
use super::op::{Op, Width};
use crate::kir::{Bits, DType, VType, Value};

/// How the bytes of a register are extended to 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Extension {
    Zero,
    Sign,
}

impl Emitter<'_> {
    /// `c` plus the products of the bytes of `a`, unsigned, and of `b`, signed: one instruction where the CPU has it. Else both
    /// become 16-bit numbers, whose products in pairs are exact; what multiplies bytes in pairs would saturate.
    pub(super) fn dot_bytes(&mut self, ty: VType, a: Value, b: Value, c: Value) -> Parts {
        let (c, a, b) = (self.parts(c), self.parts(a), self.sources(b));
        let one = |e: &mut Self, i: usize| {
            let w = e.isa.width(ty, i);
            if e.vnni {
                let (def, size) = (e.f.reg(VECTOR), Size::V(w));
                let tied = Arg::Tied { def, from: c[i], size };
                e.f.push(Inst::new(e.code(Op::DotBytes, w), &[tied, Arg::Use(a[i], size), b[i].arg(size)]));
                return def;
            }
            let b = e.in_register(w, b[i]);
            let [[a_even, a_odd], [b_even, b_odd]] =
                [e.words(w, a[i], Extension::Zero), e.words(w, b, Extension::Sign)];
            let even = e.op2(Op::MulAddWords, w, a_even, Source::Reg(b_even));
            let odd = e.op2(Op::MulAddWords, w, a_odd, Source::Reg(b_odd));
            let both = e.op2(Op::AddI32, w, even, Source::Reg(odd));
            e.op2(Op::AddI32, w, both, Source::Reg(c[i]))
        };
        (0..self.isa.parts(ty)).map(|i| one(self, i)).collect()
    }

    /// The even and the odd bytes of a register as 16-bit numbers; kept for the other products that it is in.
    fn words(&mut self, w: Width, reg: VReg, extension: Extension) -> [VReg; 2] {
        if let Some(&words) = self.words.get(&(reg, extension)) {
            return words;
        }
        let source = Source::Reg(reg);
        let words = match extension {
            Extension::Zero => {
                let low = Source::Mem(self.constant_source(DType::I32, Bits(0x00FF_00FF)));
                [self.op2(Op::And32, w, reg, low), self.op_imm(Op::ShrLogicalFixed16, w, source, 8)]
            }
            Extension::Sign => {
                let raised = Source::Reg(self.op_imm(Op::ShlFixed16, w, source, 8));
                [self.op_imm(Op::ShrFixed16, w, raised, 8), self.op_imm(Op::ShrFixed16, w, source, 8)]
            }
        };
        self.words.insert((reg, extension), words);
        words
    }
}
