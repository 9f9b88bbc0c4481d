//! From a kernel to machine instructions: loops, conditionals and values.

use std::collections::HashMap;

use iced_x86::Code;
use regalloc2::{Operand, RegClass, VReg};

use super::dot::Extension;
use super::fold::foldable_loads;
use super::function::{Builder, Function};
use super::inst::{Arg, Flag, Flow, Inst, Label, Mem, Size, regs};
use super::isa::Isa;
use super::lanes::Parts;
use super::memory::LINE;
use super::op::{Lowest, Width};
use crate::kir::address::{AddressPlan, Chain};
use crate::kir::{Bits, Block, Buffer, Condition, DType, For, If, Index, Kernel, LoopKind, Statement, Value, Var};
use crate::native::Features;

/// What a loop variable is at the place that is being emitted.
#[derive(Clone, Copy)]
enum Binding {
    /// Its loop is not being emitted.
    Unbound,
    /// A number: the loop is unrolled, or has one iteration.
    Known(i64),
    /// A run-time value.
    Variable(VReg),
}

/// How a value exists.
#[derive(Clone, Debug)]
pub(super) enum Def {
    /// Not yet.
    Missing,
    /// In registers.
    Parts(Parts),
    /// As a number, which becomes a memory operand or a register where it is used.
    Constant(Bits),
    /// In memory, to be read by the one instruction that uses it: the places of its parts.
    Memory(Vec<Mem>),
}

/// Emits one kernel.
pub(super) struct Emitter<'a> {
    pub f: Builder,
    pub isa: Isa,
    pub kernel: &'a Kernel,
    pub values: Vec<Def>,
    /// Registers that hold a constant in every lane, in the block that is being emitted.
    pub materialised: HashMap<(u32, u64), VReg>,
    /// Mask registers, in the block that is being emitted.
    pub masks: HashMap<u64, VReg>,
    /// Masks of the first lanes, for the whole function.
    pub first_lanes: HashMap<u32, VReg>,
    /// Whether the stores of streamed buffers pass the caches by, in the loop that is being emitted.
    pub streaming: bool,
    /// The even and odd bytes of registers as 16-bit numbers, in the block that is being emitted.
    pub words: HashMap<(VReg, Extension), [VReg; 2]>,
    /// Whether the CPU has an instruction for products of bytes.
    pub vnni: bool,
    plan: AddressPlan,
    pointers: HashMap<Chain, VReg>,
    scratch_offsets: Vec<usize>,
    folds: Vec<bool>,
    bases: Vec<VReg>,
    scratch: VReg,
    vars: Vec<Binding>,
    listing: bool,
}

/// Emits a verified kernel of primitive instructions; with comments for people where `listing`.
pub(super) fn emit(kernel: &Kernel, features: Features, listing: bool) -> Function {
    let isa = Isa::of(features);
    let mut f = Builder::new(isa);
    let entry = f.block();
    f.fill(entry);
    let arguments = regs::ARGUMENTS.map(|fixed| (f.reg(RegClass::Int), fixed));
    let mut inst = Inst::control(Flow::Arguments);
    inst.implicit = arguments.iter().map(|&(reg, fixed)| Operand::reg_fixed_def(reg, fixed)).collect();
    f.push(inst);
    let [args, scratch, begin, end] = arguments.map(|(reg, _)| reg);
    let mut emitter = Emitter {
        f,
        isa,
        kernel,
        values: vec![Def::Missing; kernel.values.len()],
        materialised: HashMap::new(),
        masks: HashMap::new(),
        first_lanes: HashMap::new(),
        streaming: false,
        words: HashMap::new(),
        vnni: features.has_vnni(),
        plan: AddressPlan::new(kernel),
        pointers: HashMap::new(),
        scratch_offsets: kernel.scratch_offsets(),
        folds: foldable_loads(kernel, isa, features.has_vnni()),
        bases: Vec::new(),
        scratch,
        vars: vec![Binding::Unbound; kernel.vars.len()],
        listing,
    };
    for i in 0..kernel.buffers.len() {
        let base = emitter.int(Code::Mov_r64_rm64, &[Arg::Mem(Mem::at(args, 8 * i as i32))]);
        emitter.bases.push(base);
    }
    emitter.loops(begin, end);
    emitter.f.finish()
}

impl Emitter<'_> {
    /// Whether a load is read straight from memory by what uses it.
    pub(super) fn folds(&self, value: Value) -> bool {
        self.folds[value.0 as usize]
    }

    /// Emits an instruction that writes a new general register, its first operand.
    pub(super) fn int(&mut self, code: Code, rest: &[Arg]) -> VReg {
        let def = self.f.reg(RegClass::Int);
        let mut args = vec![Arg::Def(def, Size::R64)];
        args.extend_from_slice(rest);
        self.f.push(Inst::new(code, &args));
        def
    }

    /// A number in a general register.
    pub(super) fn number(&mut self, value: i64) -> VReg {
        match u32::try_from(value) {
            Ok(small) => {
                let def = self.f.reg(RegClass::Int);
                self.f.push(Inst::new(Code::Mov_r32_imm32, &[Arg::Def(def, Size::R32), Arg::Imm32(small)]));
                def
            }
            Err(_) => self.int(Code::Mov_r64_imm64, &[Arg::Imm64(value as u64)]),
        }
    }

    /// A register plus a number.
    pub(super) fn add_number(&mut self, reg: VReg, by: i64) -> VReg {
        match i32::try_from(by) {
            Ok(0) => reg,
            Ok(disp) => self.int(Code::Lea_r64_m, &[Arg::Mem(Mem::at(reg, disp))]),
            Err(_) => {
                let number = self.number(by);
                self.add(reg, number)
            }
        }
    }

    /// The sum of two registers.
    pub(super) fn add(&mut self, a: VReg, b: VReg) -> VReg {
        let sum = Mem { index: Some((b, 1, Size::R64)), ..Mem::at(a, 0) };
        self.int(Code::Lea_r64_m, &[Arg::Mem(sum)])
    }

    /// A register times a number.
    pub(super) fn times(&mut self, reg: VReg, by: i64) -> VReg {
        if by == 1 {
            return reg;
        }
        match i32::try_from(by) {
            Ok(by) => self.int(Code::Imul_r64_rm64_imm32, &[Arg::Use(reg, Size::R64), Arg::Imm32To64(by)]),
            Err(_) => {
                let number = self.number(by);
                let def = self.f.reg(RegClass::Int);
                let tied = Arg::Tied { def, from: number, size: Size::R64 };
                self.f.push(Inst::new(Code::Imul_r64_rm64, &[tied, Arg::Use(reg, Size::R64)]));
                def
            }
        }
    }

    /// Quotient and remainder of a signed division; the divisor must be neither 0 nor make it overflow.
    pub(super) fn divide_registers(&mut self, a: VReg, by: VReg) -> (VReg, VReg) {
        let [high, quotient, remainder] = [(); 3].map(|()| self.f.reg(RegClass::Int));
        let mut extend = Inst::new(Code::Cqo, &[]);
        extend.implicit = vec![Operand::reg_fixed_use(a, regs::RAX), Operand::reg_fixed_def(high, regs::RDX)];
        self.f.push(extend);
        let mut divide = Inst::new(Code::Idiv_rm64, &[Arg::Use(by, Size::R64)]);
        divide.implicit = vec![
            Operand::reg_fixed_use(a, regs::RAX),
            Operand::reg_fixed_use(high, regs::RDX),
            Operand::reg_fixed_def(quotient, regs::RAX),
            Operand::reg_fixed_def(remainder, regs::RDX),
        ];
        self.f.push(divide);
        (quotient, remainder)
    }

    /// Sets the flags by comparing a register with a number.
    pub(super) fn compare_number(&mut self, reg: VReg, number: i64) {
        let inst = match i32::try_from(number) {
            Ok(number) => Inst::new(Code::Cmp_rm64_imm32, &[Arg::Use(reg, Size::R64), Arg::Imm32To64(number)]),
            Err(_) => {
                let number = self.number(number);
                Inst::new(Code::Cmp_r64_rm64, &[Arg::Use(reg, Size::R64), Arg::Use(number, Size::R64)])
            }
        };
        self.f.push(inst);
    }

    /// Branches on the flags.
    fn branch(&mut self, flag: Flag, yes: Label, no: Label) {
        self.f.push(Inst::control(Flow::Branch(flag, yes, no)));
    }

    /// Fills a block; what was kept in registers for the last one only is forgotten.
    fn fill(&mut self, block: Label) {
        self.f.fill(block);
        self.materialised.clear();
        self.masks.clear();
        self.words.clear();
    }

    // Structure

    /// The parallel loop. Of a kernel with streamed buffers there are two, and their addresses decide: stores past the caches
    /// need the alignment of vectors, and lines are written whole where they begin with one.
    fn loops(&mut self, begin: VReg, end: VReg) {
        let streamed = self.kernel.buffers.iter().zip(&self.bases).filter(|(param, _)| param.streamed);
        let mut bases = streamed.map(|(_, &base)| base).collect::<Vec<_>>().into_iter();
        let Some(first) = bases.next() else { return self.parallel_loop(begin, end) };
        let any = bases.fold(first, |any, base| {
            let def = self.f.reg(RegClass::Int);
            let tied = Arg::Tied { def, from: any, size: Size::R64 };
            self.f.push(Inst::new(Code::Or_r64_rm64, &[tied, Arg::Use(base, Size::R64)]));
            def
        });
        let inside = Arg::Imm32To64(LINE as i32 - 1);
        self.f.push(Inst::new(Code::Test_rm64_imm32, &[Arg::Use(any, Size::R64), inside]));
        let (aligned, other) = (self.f.block(), self.f.block());
        self.branch(Flag::Zero, aligned, other);
        for (block, streaming) in [(aligned, true), (other, false)] {
            self.fill(block);
            self.pointers.clear();
            self.streaming = streaming;
            self.parallel_loop(begin, end);
        }
    }

    fn parallel_loop(&mut self, begin: VReg, end: VReg) {
        let (enter, body, again, skip, exit) =
            (self.f.block(), self.f.block(), self.f.block(), self.f.block(), self.f.block());
        let index = self.f.param(body, RegClass::Int);
        let compare = |a, b| Inst::new(Code::Cmp_r64_rm64, &[Arg::Use(a, Size::R64), Arg::Use(b, Size::R64)]);
        self.f.push(compare(begin, end));
        self.branch(Flag::Less, enter, skip);
        self.fill(enter);
        self.f.jump(body, vec![begin]);

        self.fill(body);
        self.bind_parallel(index);
        let kernel = self.kernel;
        self.block(&kernel.body);
        let next = self.add_number(index, 1);
        self.f.push(compare(next, end));
        let done = self.f.block();
        self.branch(Flag::Less, again, done);
        self.fill(again);
        self.f.jump(body, vec![next]);
        self.fill(done);
        self.f.jump(exit, Vec::new());
        self.fill(skip);
        self.f.jump(exit, Vec::new());
        self.fill(exit);
        if self.streaming {
            // what other threads are told is done has to be in memory
            self.f.push(Inst::new(Code::Sfence, &[]));
        }
        self.f.push(Inst::control(Flow::Return));
    }

    /// Takes the parallel index apart into the parallel variables.
    fn bind_parallel(&mut self, index: VReg) {
        let kernel = self.kernel;
        let outermost = kernel.parallel.iter().position(|&var| kernel.extent(var) > 1);
        let mut rest = index;
        for (at, &var) in kernel.parallel.iter().enumerate().rev() {
            let extent = kernel.extent(var);
            self.vars[var.0 as usize] = if extent <= 1 {
                Binding::Known(0)
            } else if outermost == Some(at) {
                Binding::Variable(rest)
            } else {
                let by = self.number(extent);
                let (quotient, remainder) = self.divide_registers(rest, by);
                rest = quotient;
                Binding::Variable(remainder)
            };
        }
        for &var in &kernel.parallel {
            for chain in self.plan.chains(var) {
                let pointer = self.pointer(&chain);
                self.pointers.insert(chain, pointer);
            }
        }
    }

    fn block(&mut self, block: &Block) {
        for statement in &block.statements {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &Statement) {
        if self.listing {
            match statement {
                Statement::Let(value, inst) => {
                    let text = self.kernel.describe(*value, inst);
                    self.f.comment(text);
                }
                Statement::Store { buffer, value, .. } | Statement::Scatter { buffer, value, .. } => {
                    self.f.comment(format!("store {} <- %{}", self.kernel.buffer_name(*buffer), value.0));
                }
                Statement::Prefetch { buffer, .. } => {
                    self.f.comment(format!("prefetch {}", self.kernel.buffer_name(*buffer)));
                }
                Statement::For(inner) => {
                    self.f.comment(format!("for i{} in 0..{}", inner.var.0, self.kernel.extent(inner.var)));
                }
                Statement::If(_) => self.f.comment("if".to_owned()),
            }
        }
        match statement {
            Statement::Let(value, inst) => {
                let def = self.inst(*value, inst);
                self.values[value.0 as usize] = def;
            }
            Statement::Store { buffer, index, stride, value } => self.store(*buffer, index, *stride, *value),
            Statement::Scatter { buffer, index, offsets, value, .. } => {
                self.scatter(*buffer, index, *offsets, *value);
            }
            Statement::Prefetch { buffer, index } => {
                let size = self.kernel.buffer_shape(*buffer).map_or(1, |(dtype, _)| dtype.size() as i64);
                let place = self.address(*buffer, index, size, 0);
                // into the second level: what is used now needs the first
                self.f.push(Inst::new(Code::Prefetcht1_m8, &[Arg::Mem(place)]));
            }
            Statement::For(inner) => self.for_loop(inner),
            Statement::If(inner) => self.conditional(inner),
        }
    }

    fn define(&mut self, value: Value, def: Def) {
        self.values[value.0 as usize] = def;
    }

    /// Adds block parameters for a value and makes them its parts.
    fn define_by_params(&mut self, block: Label, value: Value) {
        let ty = self.kernel.type_of(value);
        let class = self.isa.class(ty.dtype);
        let parts = (0..self.isa.parts(ty)).map(|_| self.f.param(block, class)).collect();
        self.define(value, Def::Parts(parts));
    }

    fn arguments(&mut self, values: &[Value]) -> Vec<VReg> {
        values.iter().flat_map(|&value| self.parts(value)).collect()
    }

    fn for_loop(&mut self, inner: &For) {
        let extent = self.kernel.extent(inner.var);
        if inner.kind == LoopKind::Unrolled || extent <= 1 {
            self.unrolled(inner, extent);
        } else {
            self.serial(inner, extent);
        }
    }

    fn unrolled(&mut self, inner: &For, extent: i64) {
        let mut current: Vec<Def> = inner.carried.iter().map(|c| self.values[c.init.0 as usize].clone()).collect();
        for i in 0..extent {
            self.vars[inner.var.0 as usize] = Binding::Known(i);
            for (carried, def) in inner.carried.iter().zip(current) {
                self.define(carried.param, def);
            }
            self.block(&inner.body);
            current = inner.body.yields.iter().map(|&v| self.values[v.0 as usize].clone()).collect();
        }
        for (carried, def) in inner.carried.iter().zip(current) {
            self.define(carried.result, def);
        }
    }

    /// Emits `do { body } while (++var < extent)`; the extent is at least 2.
    fn serial(&mut self, inner: &For, extent: i64) {
        let chains = self.plan.chains(inner.var);
        let mut entering = vec![self.number(0)];
        for chain in &chains {
            entering.push(self.pointer(&chain.prefix()));
        }
        let init: Vec<Value> = inner.carried.iter().map(|c| c.init).collect();
        entering.extend(self.arguments(&init));

        let (body, again, exit) = (self.f.block(), self.f.block(), self.f.block());
        self.f.jump(body, entering);
        self.fill(body);
        let variable = self.f.param(body, RegClass::Int);
        self.vars[inner.var.0 as usize] = Binding::Variable(variable);
        let pointers: Vec<VReg> = chains.iter().map(|_| self.f.param(body, RegClass::Int)).collect();
        self.pointers.extend(chains.iter().cloned().zip(pointers.iter().copied()));
        for carried in &inner.carried {
            self.define_by_params(body, carried.param);
        }

        self.block(&inner.body);

        let last = self.arguments(&inner.body.yields);
        let next = self.add_number(variable, 1);
        let mut repeating = vec![next];
        for (chain, &pointer) in chains.iter().zip(&pointers) {
            let stride = chain.terms.last().map_or(0, |&(_, stride)| stride);
            repeating.push(self.add_number(pointer, stride));
        }
        repeating.extend_from_slice(&last);
        self.compare_number(next, extent);
        self.branch(Flag::Less, again, exit);
        self.fill(again);
        self.f.jump(body, repeating);
        self.fill(exit);
        let mut last = last.into_iter();
        for carried in &inner.carried {
            let parts = self.isa.parts(self.kernel.type_of(carried.result));
            let result = last.by_ref().take(parts).collect();
            self.define(carried.result, Def::Parts(result));
        }
        for chain in &chains {
            self.pointers.remove(chain);
        }
        self.vars[inner.var.0 as usize] = Binding::Unbound;
    }

    fn conditional(&mut self, inner: &If) {
        let (then, otherwise, after) = (self.f.block(), self.f.block(), self.f.block());
        match &inner.condition {
            Condition::Value(value) => {
                if let Some(bits) = self.known_element(*value) {
                    return self.taken(inner, if bits.0 != 0 { &inner.then } else { &inner.otherwise });
                }
                let mask = self.parts(*value)[0];
                let bits = self.int_of_mask(mask);
                self.f.push(Inst::new(Code::Test_rm32_imm32, &[Arg::Use(bits, Size::R32), Arg::Imm32(1)]));
                self.branch(Flag::Zero, otherwise, then);
            }
            Condition::NonNegative(indices) => {
                let (known, open): (Vec<&Index>, Vec<&Index>) =
                    indices.iter().partition(|index| self.constant_index(index).is_some());
                let fails = known.iter().any(|index| self.constant_index(index).is_some_and(|i| i < 0));
                if fails || open.is_empty() {
                    return self.taken(inner, if fails { &inner.otherwise } else { &inner.then });
                }
                // a bitwise or is negative where any operand is
                let mut all = None;
                for index in open {
                    let value = self.affine(index);
                    all = Some(match all {
                        None => value,
                        Some(all) => self.tied(Code::Or_r64_rm64, all, value),
                    });
                }
                let all = all.unwrap_or_else(|| self.number(0));
                self.f.push(Inst::new(Code::Test_rm64_r64, &[Arg::Use(all, Size::R64), Arg::Use(all, Size::R64)]));
                self.branch(Flag::Negative, otherwise, then);
            }
        }
        for (block, branch) in [(then, &inner.then), (otherwise, &inner.otherwise)] {
            self.fill(block);
            self.block(branch);
            let arguments = self.arguments(&branch.yields);
            self.f.jump(after, arguments);
        }
        self.fill(after);
        for &result in &inner.results {
            self.define_by_params(after, result);
        }
    }

    /// Emits the one branch that is ever taken.
    fn taken(&mut self, inner: &If, branch: &Block) {
        self.block(branch);
        for (&result, &value) in inner.results.iter().zip(&branch.yields) {
            let def = self.values[value.0 as usize].clone();
            self.define(result, def);
        }
    }

    /// An instruction whose first operand is read and written: the result.
    pub(super) fn tied(&mut self, code: Code, a: VReg, b: VReg) -> VReg {
        let def = self.f.reg(RegClass::Int);
        self.f.push(Inst::new(code, &[Arg::Tied { def, from: a, size: Size::R64 }, Arg::Use(b, Size::R64)]));
        def
    }

    // Addresses

    fn known(&self, var: Var) -> Option<i64> {
        match self.vars[var.0 as usize] {
            Binding::Known(value) => Some(value),
            _ => None,
        }
    }

    fn variable(&mut self, var: Var) -> VReg {
        match self.vars[var.0 as usize] {
            Binding::Variable(value) => value,
            Binding::Known(value) => self.number(value),
            Binding::Unbound => unreachable!("the verifier keeps variables inside their loops"),
        }
    }

    /// A chain's pointer where the emitter stands.
    fn pointer(&mut self, chain: &Chain) -> VReg {
        if let Some(&pointer) = self.pointers.get(chain) {
            return pointer;
        }
        match chain.terms.last() {
            None => match chain.buffer {
                Buffer::Param(i) => self.bases[i as usize],
                // all scratch buffers share one pointer and differ in displacement
                Buffer::Scratch(_) => self.scratch,
            },
            Some(&(var, stride)) => {
                let prefix = self.pointer(&chain.prefix());
                let variable = self.variable(var);
                let offset = self.times(variable, stride);
                self.add(prefix, offset)
            }
        }
    }

    /// The place of an access; `reach` is how far its lanes extend beyond it, in bytes.
    pub(super) fn address(&mut self, buffer: Buffer, index: &Index, size: i64, reach: i64) -> Mem {
        let chain = self.plan.chain(buffer, index, size);
        let mut pointer = self.pointer(&chain);
        let mut displacement = index.known_part(|var| self.known(var)).wrapping_mul(size);
        if let Buffer::Scratch(i) = buffer {
            displacement = displacement.wrapping_add(self.scratch_offsets[i as usize] as i64);
        }
        for term in &index.dynamic {
            let value = self.scalar_int(term.value);
            let offset = self.times(value, term.stride.wrapping_mul(size));
            pointer = self.add(pointer, offset);
        }
        let fits = |at: i64| i32::try_from(at).is_ok();
        if !fits(displacement) || !fits(displacement.wrapping_add(reach)) {
            pointer = self.add_number(pointer, displacement);
            displacement = 0;
        }
        Mem::at(pointer, displacement as i32)
    }

    /// An index without run-time summands as a number.
    pub(super) fn affine(&mut self, index: &Index) -> VReg {
        let constant = index.known_part(|var| self.known(var));
        let mut sum: Option<VReg> = None;
        for &(var, stride) in &index.terms {
            if self.known(var).is_none() {
                let variable = self.variable(var);
                let term = self.times(variable, stride);
                sum = Some(match sum {
                    None => term,
                    Some(sum) => self.add(sum, term),
                });
            }
        }
        match sum {
            None => self.number(constant),
            Some(sum) => self.add_number(sum, constant),
        }
    }

    /// An index's number where it is a constant.
    fn constant_index(&self, index: &Index) -> Option<i64> {
        index.as_number(|var| self.known(var))
    }

    /// The element that every lane of a value has, where it is known.
    pub(super) fn known_element(&self, value: Value) -> Option<Bits> {
        match self.values[value.0 as usize] {
            Def::Constant(bits) => Some(bits),
            _ => None,
        }
    }

    /// An `i64` scalar in a general register.
    pub(super) fn scalar_int(&mut self, value: Value) -> VReg {
        if let Some(bits) = self.known_element(value) {
            return self.number(bits.to_i64(DType::I64));
        }
        let part = self.parts(value)[0];
        self.int(Lowest::Store64.code(self.isa), &[Arg::Use(part, Size::V(Width::X))])
    }
}
