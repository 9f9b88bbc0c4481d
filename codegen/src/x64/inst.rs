//! Machine instructions over virtual registers.

use iced_x86::Code;
use regalloc2::{Operand, PReg, RegClass, VReg};

use super::op::Width;

/// What of a register an instruction names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// The lowest byte of a general register.
    R8,
    /// The lowest two bytes of a general register.
    R16,
    /// The low half of a general register.
    R32,
    /// A general register.
    R64,
    /// A vector register, or the low part of one.
    V(Width),
    /// A mask register.
    K,
}

/// What an address counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// A general register.
    Reg(VReg),
    /// The function's constants.
    Pool,
    /// The part of the frame that instructions without a vector form work in.
    Frame,
}

/// A memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mem {
    /// What `disp` counts from.
    pub base: Base,
    /// A register times a scale (1, 2, 4 or 8), and what of it is read.
    pub index: Option<(VReg, u32, Size)>,
    /// Bytes.
    pub disp: i32,
    /// One element, for every lane.
    pub broadcast: bool,
}

impl Mem {
    /// `disp` bytes after a register.
    pub fn at(base: VReg, disp: i32) -> Mem {
        Mem { base: Base::Reg(base), index: None, disp, broadcast: false }
    }

    /// `disp` bytes into the frame.
    pub fn frame(disp: i32) -> Mem {
        Mem { base: Base::Frame, index: None, disp, broadcast: false }
    }

    /// The same place, read as one element for every lane.
    pub fn broadcast(self) -> Mem {
        Mem { broadcast: true, ..self }
    }

    /// A place `bytes` further on.
    pub fn plus(self, bytes: i32) -> Mem {
        Mem { disp: self.disp + bytes, ..self }
    }
}

/// An operand, in the order of the instruction's manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arg {
    /// Written.
    Def(VReg, Size),
    /// Read.
    Use(VReg, Size),
    /// Written, in the register of the value that is read there.
    Tied {
        /// Afterwards.
        def: VReg,
        /// Before.
        from: VReg,
        /// What of the register.
        size: Size,
    },
    /// In memory.
    Mem(Mem),
    /// A number of 8 bits.
    Imm8(u8),
    /// A number of 32 bits, for a 32-bit operation.
    Imm32(u32),
    /// A number of 32 bits, sign-extended for a 64-bit operation.
    Imm32To64(i32),
    /// A number of 64 bits.
    Imm64(u64),
}

/// A mask on an instruction's lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Masked {
    /// The mask register.
    pub by: VReg,
    /// Lanes outside the mask become 0; otherwise they stay (the first operand is tied).
    pub zero: bool,
    /// The instruction clears the mask as it goes (gathers): what it is afterwards.
    pub consumed: Option<VReg>,
}

/// A basic block, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Label(pub u32);

/// Where control goes, and the values that the block there takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Goto {
    /// The block.
    pub to: Label,
    /// One for each of its parameters.
    pub args: Vec<VReg>,
}

/// When a branch is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    /// Signed less.
    Less,
    /// The sign is set.
    Negative,
    /// Zero.
    Zero,
}

/// What an instruction does to control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Nothing.
    Next,
    /// Emits nothing: the function's arguments appear in their registers.
    Arguments,
    /// Goes elsewhere.
    Jump(Goto),
    /// Goes to one of two blocks, neither of which takes values.
    Branch(Flag, Label, Label),
    /// Leaves the function.
    Return,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inst {
    /// What.
    pub code: Code,
    /// On what.
    pub args: [Option<Arg>; 4],
    /// In which lanes.
    pub mask: Option<Masked>,
    /// Registers beside the named ones.
    pub implicit: Vec<Operand>,
    /// What follows.
    pub flow: Flow,
}

impl Inst {
    /// An instruction that only computes.
    pub fn new(code: Code, args: &[Arg]) -> Inst {
        let mut all = [None; 4];
        for (to, &from) in all.iter_mut().zip(args) {
            *to = Some(from);
        }
        Inst { code, args: all, mask: None, implicit: Vec::new(), flow: Flow::Next }
    }

    /// An instruction that directs control.
    pub fn control(flow: Flow) -> Inst {
        Inst { code: Code::INVALID, args: [None; 4], mask: None, implicit: Vec::new(), flow }
    }

    /// The same, in lanes of a mask only.
    pub fn masked(mut self, by: VReg, zero: bool) -> Inst {
        self.mask = Some(Masked { by, zero, consumed: None });
        self
    }

    /// Registers, in the order in which the encoder takes them back from the register allocator.
    pub fn operands(&self, out: &mut Vec<Operand>) {
        let first = out.len();
        for arg in self.args.iter().flatten() {
            match *arg {
                Arg::Def(reg, _) => out.push(Operand::reg_def(reg)),
                Arg::Use(reg, _) => out.push(Operand::reg_use(reg)),
                Arg::Tied { def, from, .. } => {
                    out.push(Operand::reg_use(from));
                    out.push(Operand::reg_reuse_def(def, out.len() - 1 - first));
                }
                Arg::Mem(mem) => {
                    if let Base::Reg(reg) = mem.base {
                        out.push(Operand::reg_use(reg));
                    }
                    if let Some((reg, ..)) = mem.index {
                        out.push(Operand::reg_use(reg));
                    }
                }
                Arg::Imm8(_) | Arg::Imm32(_) | Arg::Imm32To64(_) | Arg::Imm64(_) => {}
            }
        }
        if let Some(mask) = self.mask {
            out.push(Operand::reg_use(mask.by));
            if let Some(after) = mask.consumed {
                out.push(Operand::reg_reuse_def(after, out.len() - 1 - first));
            }
        }
        out.extend_from_slice(&self.implicit);
    }
}

/// Registers by the numbers that instructions encode.
pub(super) mod regs {
    use super::{PReg, RegClass};

    /// Allocatable general registers that a callee may overwrite: rax, rcx, rdx, rsi, rdi, r8 to r11.
    pub const SCRATCH: [usize; 9] = [0, 1, 2, 6, 7, 8, 9, 10, 11];
    /// Allocatable general registers that a callee must bring back: rbx, r12 to r15.
    pub const SAVED: [usize; 5] = [3, 12, 13, 14, 15];
    /// rax and rdx: dividend, quotient and remainder.
    pub const RAX: PReg = PReg::new(0, RegClass::Int);
    /// See [`RAX`].
    pub const RDX: PReg = PReg::new(2, RegClass::Int);
    /// Arguments of a System V function.
    pub const ARGUMENTS: [PReg; 4] = [
        PReg::new(7, RegClass::Int),
        PReg::new(6, RegClass::Int),
        PReg::new(2, RegClass::Int),
        PReg::new(1, RegClass::Int),
    ];
}
