//! From allocated registers to bytes.
//!
//! ```text
//! [prologue] [blocks, in order] [padding to 64] [constants]
//! ```
//!
//! The frame, from the frame pointer down: saved registers, spilled registers, the working part. Jumps are written here
//! (`E9` and `0F 8x` with 32 bits of distance), everything else by iced. A block that only jumps, with no register
//! moved on the way, has no code: who would go there goes to where it jumps.

use iced_x86::{Code, Encoder, Instruction, OpKind, Register};
use regalloc2::{Allocation, Block, Edit, InstOrEdit, Output, PReg, RegClass};

use super::function::{Function, MASK, VECTOR};
use super::inst::{Arg, Base, Flag, Flow, Inst, Mem, Size, regs};
use super::isa::Isa;
use super::op::{Op, Width};

/// Alignment of the code's first byte and of its constants.
pub(super) const ALIGN: usize = 64;

/// Finished code, and where in it the commented instructions start.
pub(super) struct Encoded {
    pub bytes: Vec<u8>,
    /// Bytes before the constants.
    pub code_len: usize,
    pub comments: Vec<(usize, String)>,
}

/// Encodes a function. `Err` is iced's refusal of an instruction: a bug here.
pub(super) fn encode(function: &Function, output: &Output) -> Result<Encoded, String> {
    let mut writer = Writer::new(function, output);
    writer.prologue()?;
    let mut comments = function.comments.iter().peekable();
    let mut marked = Vec::new();
    for at in 0..function.blocks.len() {
        if writer.skipped(at) {
            continue;
        }
        writer.starts[at] = writer.len();
        for item in output.block_insts_and_edits(function, Block::new(at)) {
            match item {
                InstOrEdit::Edit(Edit::Move { from, to }) => writer.transfer(*from, *to)?,
                InstOrEdit::Inst(inst) => {
                    while let Some((_, text)) = comments.next_if(|(owner, _)| *owner <= inst.index()) {
                        marked.push((writer.len(), text.clone()));
                    }
                    writer.inst(at, &function.insts[inst.index()], output.inst_allocs(inst))?;
                }
            }
        }
    }
    let mut encoded = writer.finish();
    encoded.comments = marked;
    Ok(encoded)
}

struct Writer<'a> {
    function: &'a Function,
    encoder: Encoder,
    bytes: Vec<u8>,
    /// Where blocks start.
    starts: Vec<usize>,
    /// Where a block's code really is: blocks that only jump are somewhere else.
    resolved: Vec<usize>,
    /// Positions of 32-bit distances to blocks.
    jumps: Vec<(usize, usize)>,
    /// Positions of 32-bit distances to constants, the constants' offsets, and the ends of the instructions.
    constants: Vec<(usize, i32, usize)>,
    saved: Vec<usize>,
    /// Bytes of the spilled part.
    spilled: u32,
    frame: u32,
}

impl<'a> Writer<'a> {
    fn new(function: &'a Function, output: &Output) -> Writer<'a> {
        let mut used = [false; 16];
        let mut note = |allocation: Allocation| {
            if let Some(reg) = allocation.as_reg().filter(|reg| reg.class() == RegClass::Int) {
                used[reg.hw_enc()] = true;
            }
        };
        output.allocs.iter().for_each(|&allocation| note(allocation));
        for (_, Edit::Move { from, to }) in &output.edits {
            note(*from);
            note(*to);
        }
        let saved: Vec<usize> = regs::SAVED.into_iter().filter(|&n| used[n]).collect();
        let spilled = output.num_spillslots as u32 * 8;
        let frame = (spilled + function.frame_bytes).next_multiple_of(16);
        let mut writer = Writer {
            function,
            encoder: Encoder::new(64),
            bytes: Vec::new(),
            starts: vec![0; function.blocks.len()],
            resolved: Vec::new(),
            jumps: Vec::new(),
            constants: Vec::new(),
            saved,
            spilled,
            frame,
        };
        writer.resolved = (0..function.blocks.len()).map(|at| writer.resolve(output, at)).collect();
        writer
    }

    /// The first block from `at` on that has code.
    fn resolve(&self, output: &Output, mut at: usize) -> usize {
        while at != 0 {
            let mut items = output.block_insts_and_edits(self.function, Block::new(at));
            let Some(InstOrEdit::Inst(first)) = items.next() else { return at };
            match &self.function.insts[first.index()].flow {
                Flow::Jump(goto) => at = goto.to.0 as usize,
                _ => return at,
            }
        }
        at
    }

    fn skipped(&self, at: usize) -> bool {
        self.resolved[at] != at
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn emit(&mut self, instruction: &Instruction) -> Result<(), String> {
        let start = self.len();
        self.encoder
            .encode(instruction, start as u64)
            .map_err(|e| format!("{:?} cannot be encoded: {e}", instruction.code()))?;
        let offsets = self.encoder.get_constant_offsets();
        self.bytes.append(&mut self.encoder.take_buffer());
        if instruction.is_ip_rel_memory_operand() {
            let target = instruction.memory_displacement64() as i64 - start as i64;
            self.constants.push((start + offsets.displacement_offset(), target as i32, self.bytes.len()));
        }
        Ok(())
    }

    fn simple(&mut self, code: Code, args: &[Arg]) -> Result<(), String> {
        let instruction = self.build(&Inst::new(code, args), &[])?;
        self.emit(&instruction)
    }

    fn with_fixed(&mut self, code: Code, fixed: &[Register], last: Option<Arg>) -> Result<(), String> {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        for (i, &reg) in fixed.iter().enumerate() {
            instruction.set_op_kind(i as u32, OpKind::Register);
            instruction.set_op_register(i as u32, reg);
        }
        if let Some(arg) = last {
            self.operand(&mut instruction, fixed.len() as u32, arg, &mut [].iter())?;
        }
        self.emit(&instruction)
    }

    fn prologue(&mut self) -> Result<(), String> {
        self.with_fixed(Code::Push_r64, &[Register::RBP], None)?;
        self.with_fixed(Code::Mov_r64_rm64, &[Register::RBP, Register::RSP], None)?;
        for n in self.saved.clone() {
            self.with_fixed(Code::Push_r64, &[Register::RAX + n as u32], None)?;
        }
        if self.frame > 0 {
            self.with_fixed(Code::Sub_rm64_imm32, &[Register::RSP], Some(Arg::Imm32To64(self.frame as i32)))?;
        }
        Ok(())
    }

    fn epilogue(&mut self) -> Result<(), String> {
        if self.frame > 0 {
            self.with_fixed(Code::Add_rm64_imm32, &[Register::RSP], Some(Arg::Imm32To64(self.frame as i32)))?;
        }
        for n in self.saved.clone().into_iter().rev() {
            self.with_fixed(Code::Pop_r64, &[Register::RAX + n as u32], None)?;
        }
        self.with_fixed(Code::Pop_r64, &[Register::RBP], None)?;
        // what runs next may use the legacy encodings, which wait for the upper halves of dirty registers
        self.simple(Code::VEX_Vzeroupper, &[])?;
        self.with_fixed(Code::Retnq, &[], None)
    }

    fn inst(&mut self, block: usize, inst: &Inst, allocations: &[Allocation]) -> Result<(), String> {
        match &inst.flow {
            Flow::Arguments => Ok(()),
            Flow::Return => self.epilogue(),
            Flow::Jump(goto) => {
                self.jump(block, goto.to.0 as usize);
                Ok(())
            }
            Flow::Branch(flag, yes, no) => {
                self.branch(block, *flag, yes.0 as usize, no.0 as usize);
                Ok(())
            }
            Flow::Next if inst.args[1].is_none() && Some(inst.code) == Op::Xor32.code(self.function.isa, Width::X) => {
                // a register xored with itself is 0, whatever it was
                let Some(Arg::Def(def, size)) = inst.args[0] else { return Err("a zero without a place".to_owned()) };
                let same = Inst::new(inst.code, &[Arg::Def(def, size), Arg::Use(def, size), Arg::Use(def, size)]);
                let instruction = self.build(&same, &[allocations[0]; 3])?;
                self.emit(&instruction)
            }
            Flow::Next => {
                let instruction = self.build(inst, allocations)?;
                self.emit(&instruction)
            }
        }
    }

    /// The block whose code comes right after that of `block`.
    fn follows(&self, block: usize, target: usize) -> bool {
        (block + 1..self.function.blocks.len()).find(|&at| !self.skipped(at)) == Some(target)
    }

    fn jump(&mut self, block: usize, to: usize) {
        let to = self.resolved[to];
        if !self.follows(block, to) {
            self.bytes.push(0xE9);
            self.distance(to);
        }
    }

    fn branch(&mut self, block: usize, flag: Flag, yes: usize, no: usize) {
        let (yes, no) = (self.resolved[yes], self.resolved[no]);
        let condition = match flag {
            Flag::Less => 0x8C,
            Flag::Negative => 0x88,
            Flag::Zero => 0x84,
        };
        let turned = self.follows(block, yes);
        // the lowest bit of a condition negates it
        self.bytes.extend([0x0F, condition ^ u8::from(turned)]);
        self.distance(if turned { no } else { yes });
        if !turned {
            self.jump(block, no);
        }
    }

    fn distance(&mut self, to: usize) {
        self.jumps.push((self.len(), to));
        self.bytes.extend([0; 4]);
    }

    /// Moves a value between registers and stack slots.
    fn transfer(&mut self, from: Allocation, to: Allocation) -> Result<(), String> {
        let class = from.as_reg().or(to.as_reg()).map(PReg::class);
        let mut instruction = Instruction::default();
        let isa = self.function.isa;
        let (load, store) = match class {
            Some(RegClass::Int) => (Some(Code::Mov_r64_rm64), Some(Code::Mov_rm64_r64)),
            Some(VECTOR) => (Op::Load32.code(isa, isa.widest()), Op::Store32.code(isa, isa.widest())),
            Some(MASK) => (Some(Code::VEX_Kmovq_kr_km64), Some(Code::VEX_Kmovq_m64_kr)),
            None => return Err("a move from the stack to the stack".to_owned()),
        };
        instruction.set_code(if to.is_reg() { load } else { store }.ok_or("a register that cannot be moved")?);
        for (i, allocation) in [to, from].into_iter().enumerate() {
            match allocation.as_reg() {
                Some(reg) => {
                    instruction.set_op_kind(i as u32, OpKind::Register);
                    instruction.set_op_register(i as u32, register(reg, whole(reg.class(), isa)));
                }
                None => {
                    let slot = allocation.as_stack().ok_or("a move of nothing")?;
                    instruction.set_op_kind(i as u32, OpKind::Memory);
                    instruction.set_memory_base(Register::RSP);
                    displacement(&mut instruction, slot.index() as i32 * 8);
                }
            }
        }
        self.emit(&instruction)
    }

    fn build(&self, inst: &Inst, allocations: &[Allocation]) -> Result<Instruction, String> {
        let mut instruction = Instruction::default();
        instruction.set_code(inst.code);
        let mut allocations = allocations.iter();
        for (i, arg) in inst.args.iter().flatten().enumerate() {
            self.operand(&mut instruction, i as u32, *arg, &mut allocations)?;
        }
        if let Some(mask) = inst.mask {
            let by = take(&mut allocations)?;
            instruction.set_op_mask(register(by, Size::K));
            instruction.set_zeroing_masking(mask.zero);
        }
        Ok(instruction)
    }

    fn operand(
        &self,
        instruction: &mut Instruction,
        i: u32,
        arg: Arg,
        allocations: &mut std::slice::Iter<'_, Allocation>,
    ) -> Result<(), String> {
        match arg {
            Arg::Def(_, size) | Arg::Use(_, size) => {
                instruction.set_op_kind(i, OpKind::Register);
                instruction.set_op_register(i, register(take(allocations)?, size));
            }
            Arg::Tied { size, .. } => {
                take(allocations)?;
                instruction.set_op_kind(i, OpKind::Register);
                instruction.set_op_register(i, register(take(allocations)?, size));
            }
            Arg::Mem(mem) => {
                instruction.set_op_kind(i, OpKind::Memory);
                self.memory(instruction, mem, allocations)?;
            }
            Arg::Imm8(number) => {
                instruction.set_op_kind(i, OpKind::Immediate8);
                instruction.set_immediate8(number);
            }
            Arg::Imm32(number) => {
                instruction.set_op_kind(i, OpKind::Immediate32);
                instruction.set_immediate32(number);
            }
            Arg::Imm32To64(number) => {
                instruction.set_op_kind(i, OpKind::Immediate32to64);
                instruction.set_immediate32to64(number.into());
            }
            Arg::Imm64(number) => {
                instruction.set_op_kind(i, OpKind::Immediate64);
                instruction.set_immediate64(number);
            }
        }
        Ok(())
    }

    fn memory(
        &self,
        instruction: &mut Instruction,
        mem: Mem,
        allocations: &mut std::slice::Iter<'_, Allocation>,
    ) -> Result<(), String> {
        instruction.set_is_broadcast(mem.broadcast);
        match mem.base {
            Base::Reg(_) => {
                instruction.set_memory_base(register(take(allocations)?, Size::R64));
                displacement(instruction, mem.disp);
            }
            Base::Frame => {
                instruction.set_memory_base(Register::RSP);
                displacement(instruction, self.spilled as i32 + mem.disp);
            }
            Base::Pool => {
                // mended at the end, when the constants have their place: until then counted from the instruction
                instruction.set_memory_base(Register::RIP);
                instruction.set_memory_displ_size(8);
                instruction.set_memory_displacement64((self.len() as i64 + i64::from(mem.disp)) as u64);
            }
        }
        if let Some((_, scale, size)) = mem.index {
            instruction.set_memory_index(register(take(allocations)?, size));
            instruction.set_memory_index_scale(scale);
        }
        Ok(())
    }

    fn finish(mut self) -> Encoded {
        let code_len = self.len();
        for &(at, to) in &self.jumps {
            let distance = self.starts[to] as i64 - (at as i64 + 4);
            self.bytes[at..at + 4].copy_from_slice(&(distance as i32).to_le_bytes());
        }
        if !self.function.pool.is_empty() {
            let pool = code_len.next_multiple_of(ALIGN);
            // int3: nobody comes here
            self.bytes.resize(pool, 0xCC);
            for &(at, offset, end) in &self.constants {
                let distance = pool as i64 + i64::from(offset) - end as i64;
                self.bytes[at..at + 4].copy_from_slice(&(distance as i32).to_le_bytes());
            }
            self.bytes.extend_from_slice(&self.function.pool);
        }
        Encoded { bytes: self.bytes, code_len, comments: Vec::new() }
    }
}

fn take(allocations: &mut std::slice::Iter<'_, Allocation>) -> Result<PReg, String> {
    allocations.next().and_then(|a| a.as_reg()).ok_or_else(|| "an operand without a register".to_owned())
}

fn whole(class: RegClass, isa: Isa) -> Size {
    match class {
        RegClass::Int => Size::R64,
        VECTOR => Size::V(isa.widest()),
        MASK => Size::K,
    }
}

fn displacement(instruction: &mut Instruction, disp: i32) {
    // 1 asks for the shortest form, whose unit is the operand's size in EVEX encodings
    instruction.set_memory_displ_size(u32::from(disp != 0));
    instruction.set_memory_displacement64(i64::from(disp) as u64);
}

fn register(reg: PReg, size: Size) -> Register {
    let first = match size {
        // the legacy names of bytes 4 to 7 are ah to bh: iced counts spl to dil separately
        Size::R8 if reg.hw_enc() >= 4 => return Register::SPL + (reg.hw_enc() as u32 - 4),
        Size::R8 => Register::AL,
        Size::R16 => Register::AX,
        Size::R32 => Register::EAX,
        Size::R64 => Register::RAX,
        Size::V(Width::X) => Register::XMM0,
        Size::V(Width::Y) => Register::YMM0,
        Size::V(Width::Z) => Register::ZMM0,
        Size::K => Register::K0,
    };
    first + reg.hw_enc() as u32
}
