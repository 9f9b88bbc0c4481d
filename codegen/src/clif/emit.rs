//! From a kernel to a CLIF function: loops, conditionals and values.

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8, I64};
use cranelift_codegen::ir::{self, AbiParam, BlockArg, Function, InstBuilder, MemFlagsData, Signature};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

use super::lanes::{Parts, part_types};
use crate::kir::address::{AddressPlan, Chain};
use crate::kir::{Bits, Block, Buffer, Condition, For, If, Inst, Kernel, LoopKind, Statement, Value, Var};
use crate::native::Target;

/// What a loop variable is at the place that is being emitted.
#[derive(Clone, Copy)]
enum Binding {
    /// Its loop is not being emitted.
    Unbound,
    /// A number: the loop is unrolled, or has one iteration.
    Known(i64),
    /// A run-time value.
    Variable(ir::Value),
}

/// Emits one kernel.
pub(super) struct Emitter<'a> {
    pub b: FunctionBuilder<'a>,
    pub kernel: &'a Kernel,
    pub plan: AddressPlan,
    /// Pointers kept up to date, where they are.
    pub pointers: HashMap<Chain, ir::Value>,
    pub scratch_offsets: Vec<usize>,
    pub has_fma: bool,
    bases: Vec<ir::Value>,
    scratch: ir::Value,
    vars: Vec<Binding>,
    values: Vec<Parts>,
    constants: Vec<Option<Bits>>,
}

/// Memory accesses: elements are aligned to their size only, and stay inside their buffers.
pub(super) fn memory_flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap().with_endianness(ir::Endianness::Little)
}

/// The machine signature of every kernel.
pub(crate) fn signature(target: &Target) -> Signature {
    let mut signature = Signature::new(target.isa().default_call_conv());
    signature.params = vec![AbiParam::new(I64); 4];
    signature
}

/// Emits a verified kernel of primitive instructions into `function`.
pub(super) fn emit(kernel: &Kernel, target: &Target, function: &mut Function, context: &mut FunctionBuilderContext) {
    function.signature = signature(target);
    let mut b = FunctionBuilder::new(function, context);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let &[args, scratch, begin, end] = b.block_params(entry) else { unreachable!("the signature has four parameters") };
    let flags = memory_flags().with_aligned().with_readonly();
    let bases = (0..kernel.buffers.len()).map(|i| b.ins().load(I64, flags, args, 8 * i as i32)).collect();
    let mut emitter = Emitter {
        b,
        kernel,
        plan: AddressPlan::new(kernel),
        pointers: HashMap::new(),
        scratch_offsets: kernel.scratch_offsets(),
        has_fma: target.has_fma(),
        bases,
        scratch,
        vars: vec![Binding::Unbound; kernel.vars.len()],
        values: vec![Parts::new(); kernel.values.len()],
        constants: vec![None; kernel.values.len()],
    };
    emitter.parallel_loop(begin, end);
    emitter.b.seal_all_blocks();
    emitter.b.finalize(target.isa().frontend_config());
}

impl Emitter<'_> {
    /// The parts of a value.
    pub(super) fn parts(&self, value: Value) -> Parts {
        self.values[value.0 as usize].clone()
    }

    /// The element that every lane of a value has, where it is known.
    pub(super) fn known_element(&self, value: Value) -> Option<Bits> {
        self.constants[value.0 as usize]
    }

    /// A buffer's pointer; scratch buffers share one and differ in displacement.
    pub(super) fn base(&self, buffer: Buffer) -> ir::Value {
        match buffer {
            Buffer::Param(i) => self.bases[i as usize],
            Buffer::Scratch(_) => self.scratch,
        }
    }

    /// A variable's number, where it is a constant.
    pub(super) fn known(&self, var: Var) -> Option<i64> {
        match self.vars[var.0 as usize] {
            Binding::Known(value) => Some(value),
            _ => None,
        }
    }

    /// A variable's value.
    pub(super) fn variable(&mut self, var: Var) -> ir::Value {
        match self.vars[var.0 as usize] {
            Binding::Variable(value) => value,
            Binding::Known(value) => self.b.ins().iconst(I64, value),
            Binding::Unbound => unreachable!("the verifier keeps variables inside their loops"),
        }
    }

    fn define(&mut self, value: Value, parts: Parts) {
        self.values[value.0 as usize] = parts;
    }

    /// Adds block parameters for a value and makes them its parts.
    fn define_by_params(&mut self, block: ir::Block, value: Value) {
        let types = part_types(self.kernel.type_of(value));
        let parts = types.map(|ty| self.b.append_block_param(block, ty)).collect();
        self.define(value, parts);
    }

    fn arguments(&self, values: &[Value]) -> Vec<BlockArg> {
        values.iter().flat_map(|v| &self.values[v.0 as usize]).map(|&part| BlockArg::Value(part)).collect()
    }

    fn parallel_loop(&mut self, begin: ir::Value, end: ir::Value) {
        let (body, exit) = (self.b.create_block(), self.b.create_block());
        let index = self.b.append_block_param(body, I64);
        let any = self.b.ins().icmp(IntCC::SignedLessThan, begin, end);
        self.b.ins().brif(any, body, &[BlockArg::Value(begin)], exit, &[]);
        self.b.switch_to_block(body);
        self.bind_parallel(index);
        let kernel = self.kernel;
        self.block(&kernel.body);
        let next = self.b.ins().iadd_imm_s(index, 1);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, next, end);
        self.b.ins().brif(more, body, &[BlockArg::Value(next)], exit, &[]);
        self.b.switch_to_block(exit);
        self.b.ins().return_(&[]);
    }

    /// Takes the parallel index apart into the parallel variables.
    fn bind_parallel(&mut self, index: ir::Value) {
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
                let quotient = self.b.ins().udiv_imm_u(rest, extent);
                let whole = self.b.ins().imul_imm_u(quotient, extent);
                let remainder = self.b.ins().isub(rest, whole);
                rest = quotient;
                Binding::Variable(remainder)
            };
        }
        for &var in &kernel.parallel {
            self.compute_pointers(var);
        }
    }

    fn block(&mut self, block: &Block) {
        for statement in &block.statements {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Let(value, inst) => {
                self.constants[value.0 as usize] = match inst {
                    Inst::Const(bits) => Some(*bits),
                    Inst::Splat(scalar) => self.known_element(*scalar),
                    _ => None,
                };
                let parts = self.inst(self.kernel.type_of(*value), inst);
                self.define(*value, parts);
            }
            Statement::Store { buffer, index, stride, value } => self.store(*buffer, index, *stride, *value),
            Statement::Scatter { buffer, index, offsets, value, .. } => {
                self.scatter(*buffer, index, *offsets, *value);
            }
            // Cranelift has no such instruction
            Statement::Prefetch { .. } => {}
            Statement::For(inner) => self.for_loop(inner),
            Statement::If(inner) => self.conditional(inner),
        }
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
        let mut current: Vec<Parts> = inner.carried.iter().map(|c| self.parts(c.init)).collect();
        for i in 0..extent {
            self.vars[inner.var.0 as usize] = Binding::Known(i);
            for (carried, parts) in inner.carried.iter().zip(current) {
                self.define(carried.param, parts);
            }
            self.block(&inner.body);
            current = inner.body.yields.iter().map(|&v| self.parts(v)).collect();
        }
        for (carried, parts) in inner.carried.iter().zip(current) {
            self.define(carried.result, parts);
        }
    }

    /// Emits `do { body } while (++var < extent)`; the extent is at least 2.
    fn serial(&mut self, inner: &For, extent: i64) {
        let chains = self.plan.chains(inner.var);
        let mut entering = vec![BlockArg::Value(self.b.ins().iconst(I64, 0))];
        for chain in &chains {
            entering.push(BlockArg::Value(self.pointer(&chain.prefix())));
        }
        let init: Vec<Value> = inner.carried.iter().map(|c| c.init).collect();
        entering.extend(self.arguments(&init));

        let (body, exit) = (self.b.create_block(), self.b.create_block());
        self.b.ins().jump(body, &entering);
        self.b.switch_to_block(body);
        let variable = self.b.append_block_param(body, I64);
        self.vars[inner.var.0 as usize] = Binding::Variable(variable);
        let pointers: Vec<ir::Value> = chains.iter().map(|_| self.b.append_block_param(body, I64)).collect();
        self.pointers.extend(chains.iter().cloned().zip(pointers.iter().copied()));
        for carried in &inner.carried {
            self.define_by_params(body, carried.param);
        }

        self.block(&inner.body);

        let next = self.b.ins().iadd_imm_s(variable, 1);
        let mut repeating = vec![BlockArg::Value(next)];
        for (chain, &pointer) in chains.iter().zip(&pointers) {
            let stride = chain.terms.last().map_or(0, |&(_, stride)| stride);
            repeating.push(BlockArg::Value(self.b.ins().iadd_imm_s(pointer, stride)));
        }
        repeating.extend(self.arguments(&inner.body.yields));
        let more = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, next, extent);
        self.b.ins().brif(more, body, &repeating, exit, &[]);
        self.b.switch_to_block(exit);
        for (carried, &last) in inner.carried.iter().zip(&inner.body.yields) {
            let parts = self.parts(last);
            self.define(carried.result, parts);
        }
        for chain in &chains {
            self.pointers.remove(chain);
        }
        self.vars[inner.var.0 as usize] = Binding::Unbound;
    }

    fn conditional(&mut self, inner: &If) {
        let condition = match &inner.condition {
            Condition::Value(value) => self.parts(*value)[0],
            Condition::NonNegative(indices) => {
                let (known, open): (Vec<_>, Vec<_>) =
                    indices.iter().partition(|index| self.constant_index(index).is_some());
                let fails = known.iter().any(|index| self.constant_index(index).is_some_and(|i| i < 0));
                if fails || open.is_empty() {
                    return self.taken(inner, if fails { &inner.otherwise } else { &inner.then });
                }
                let mut all = None;
                for index in open {
                    let value = self.affine(index);
                    let holds = self.b.ins().icmp_imm_s(IntCC::SignedGreaterThanOrEqual, value, 0);
                    all = Some(all.map_or(holds, |all| self.b.ins().band(all, holds)));
                }
                all.unwrap_or_else(|| self.b.ins().iconst(I8, 1))
            }
        };
        let (then, otherwise, after) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.ins().brif(condition, then, &[], otherwise, &[]);
        for (block, branch) in [(then, &inner.then), (otherwise, &inner.otherwise)] {
            self.b.switch_to_block(block);
            self.block(branch);
            let arguments = self.arguments(&branch.yields);
            self.b.ins().jump(after, &arguments);
        }
        self.b.switch_to_block(after);
        for &result in &inner.results {
            self.define_by_params(after, result);
        }
    }

    /// Emits the one branch that is ever taken.
    fn taken(&mut self, inner: &If, branch: &Block) {
        self.block(branch);
        for (&result, &value) in inner.results.iter().zip(&branch.yields) {
            let parts = self.parts(value);
            self.define(result, parts);
        }
    }
}
