//! The object file: kernels, weights, and the functions that a plan becomes.
//!
//! ```text
//!   NAME_init ──► NAME_cpu (x86-64), NAME_copy             NAME_weights   read only
//!   NAME_run ──► NAME_truth, NAME_part_0 … ──► NAME_kernel_0 …, NAME_copy, NAME_fill
//! ```
//!
//! A part is a straight line of a few hundred steps, so that no function grows with the model. Two of the four bases come as
//! arguments (inputs, outputs), one is the arena, and the weights are an address in the object or one that `init` left in the arena.

use std::convert::Infallible;

use cranelift_codegen::Context;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8, I8X16, I32, I64};
use cranelift_codegen::ir::{
    self, AbiParam, BlockArg, ExternalName, GlobalValueData, InstBuilder, MemFlagsData, Signature, StackSlotData,
    StackSlotKind, UserExternalName, Value,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataId, FuncId, Linkage, Module, ModuleError, default_libcall_names};
use cranelift_object::object::SymbolScope;
use cranelift_object::object::write::{Object, StandardSection};
use cranelift_object::{ObjectBuilder, ObjectModule};
use kiln_ir::DType;
use kiln_runtime::{ALIGNMENT, Argument, Buffer, Step, Work};
use target_lexicon::{Architecture, BinaryFormat};

use super::{EmbedError, Embedding, FILE_HEADER, FILE_MAGIC, WeightPlace, cpu_check, memory, pieces, status};

/// What Cranelift's module gives, its errors boxed: they are large.
type Outcome<T = ()> = Result<T, Box<ModuleError>>;

/// Steps in one function.
const STEPS_OF_A_PART: usize = 256;

/// The object of `embedding`.
pub(super) fn object(embedding: &Embedding<'_>) -> Result<Object<'static>, EmbedError> {
    let target = embedding.module.module().target();
    let triple = target.triple();
    let format = |reason: String| EmbedError::Format { target: target.to_string(), reason };
    if triple.binary_format == BinaryFormat::Coff && matches!(triple.architecture, Architecture::Aarch64(_)) {
        return Err(format("addresses of data cannot be linked in COFF objects for aarch64 yet".to_owned()));
    }
    let isa = target.baseline_isa()?;
    let builder = ObjectBuilder::new(isa, embedding.name.as_str(), default_libcall_names());
    let mut module = ObjectModule::new(builder.map_err(|e| format(e.to_string()))?);
    let failed = |e| embedding.module_error(&e);
    let symbols = Symbols::declare(embedding, &mut module).map_err(|e| failed(*e))?;
    for (&id, kernel) in symbols.kernels.iter().zip(embedding.module.code()) {
        module.define_function_bytes(id, kernel.align().into(), kernel.code(), &[]).map_err(failed)?;
    }
    if let Some(id) = symbols.cpu {
        let code = cpu_check::function(embedding.module.module().feature_names())
            .map_err(|feature| EmbedError::Feature { feature, target: target.to_string() })?;
        module.define_function_bytes(id, 16, &code, &[]).map_err(failed)?;
    }
    define_all(embedding, &symbols, &mut module).map_err(|e| failed(*e))?;
    Ok(with_weights(embedding, &symbols, module))
}

/// What the object has by name.
struct Symbols {
    /// Where the weights are in the object; `None` where they are a file, or there are none.
    weights: Option<DataId>,
    kernels: Vec<FuncId>,
    parts: Vec<FuncId>,
    /// `() -> status`; none where the code needs nothing that a CPU may lack.
    cpu: Option<FuncId>,
    /// `(to, from, bytes)`, which may overlap.
    copy: FuncId,
    /// `(to, bytes, pattern of 8 bytes)`
    fill: FuncId,
    /// `(from, bytes) -> 0 where all bytes are 0 or 1`
    truth: FuncId,
    init: FuncId,
    run: FuncId,
}

impl Symbols {
    fn declare(embedding: &Embedding<'_>, module: &mut ObjectModule) -> Outcome<Symbols> {
        let (name, program) = (embedding.name.as_str(), embedding.module.module());
        let call_conv = module.isa().default_call_conv();
        let mut function = |what: &str, linkage, params: usize, returns: Option<ir::Type>| {
            let mut signature = Signature::new(call_conv);
            signature.params = vec![AbiParam::new(I64); params];
            signature.returns = returns.map(AbiParam::new).into_iter().collect();
            Outcome::Ok(module.declare_function(&format!("{name}_{what}"), linkage, &signature)?)
        };
        let init_params = if embedding.place == WeightPlace::File { 3 } else { 1 };
        let init = function("init", Linkage::Export, init_params, Some(I32))?;
        let run = function("run", Linkage::Export, 3, Some(I32))?;
        let copy = function("copy", Linkage::Local, 3, None)?;
        let fill = function("fill", Linkage::Local, 3, None)?;
        let truth = function("truth", Linkage::Local, 2, Some(I64))?;
        let asks = !program.feature_names().is_empty();
        let cpu = asks.then(|| function("cpu", Linkage::Local, 0, Some(I32))).transpose()?;
        let count = program.plan().steps.len().div_ceil(STEPS_OF_A_PART);
        let parts = (0..count).map(|i| function(&format!("part_{i}"), Linkage::Local, 3, None));
        let parts = parts.collect::<Outcome<_>>()?;
        let count = embedding.module.code().len();
        let kernels = (0..count).map(|i| function(&format!("kernel_{i}"), Linkage::Local, 4, None));
        let kernels = kernels.collect::<Outcome<_>>()?;
        // Imported as far as Cranelift's module knows, which would copy the bytes; `with_weights` puts them in.
        let inside = embedding.place == WeightPlace::Object && !program.weights().is_empty();
        let mut declare =
            || Outcome::Ok(module.declare_data(&format!("{name}_weights"), Linkage::Import, false, false)?);
        let weights = if inside { Some(declare()?) } else { None };
        Ok(Symbols { weights, kernels, parts, cpu, copy, fill, truth, init, run })
    }
}

/// The finished object: `module` with the weights.
fn with_weights(embedding: &Embedding<'_>, symbols: &Symbols, module: ObjectModule) -> Object<'static> {
    let product = module.finish();
    let symbol = symbols.weights.map(|id| product.data_symbol(id));
    let mut object = product.object;
    if let Some(symbol) = symbol {
        let name = format!("{}_weights", embedding.name);
        let section = object.add_subsection(StandardSection::ReadOnlyData, name.as_bytes());
        let weights = embedding.module.module().weights();
        let mut bytes = Vec::with_capacity(weights.len());
        let Ok(()) = pieces(weights, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok::<(), Infallible>(())
        });
        object.symbol_mut(symbol).scope = SymbolScope::Compilation;
        object.set_symbol_data(symbol, section, 0, bytes.len() as u64);
        object.set_section_data(section, bytes, ALIGNMENT as u64);
    }
    object
}

fn define_all(embedding: &Embedding<'_>, symbols: &Symbols, module: &mut ObjectModule) -> Outcome {
    let mut context = Context::new();
    let mut functions = FunctionBuilderContext::new();
    let frontend = module.isa().frontend_config();
    let mut define = |id: FuncId, emit: &dyn Fn(&mut Body<'_>)| {
        module.clear_context(&mut context);
        context.func.signature = module.declarations().get_function_decl(id).signature.clone();
        let mut b = FunctionBuilder::new(&mut context.func, &mut functions);
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        let params = b.block_params(entry).to_vec();
        let mut body = Body { b, params, module, symbols, embedding };
        emit(&mut body);
        let mut b = body.b;
        b.seal_all_blocks();
        b.finalize(frontend);
        Outcome::Ok(module.define_function(id, &mut context)?)
    };
    define(symbols.copy, &copy)?;
    define(symbols.fill, &fill)?;
    define(symbols.truth, &truth)?;
    define(symbols.init, &init)?;
    define(symbols.run, &run)?;
    let steps = embedding.module.module().plan().steps.chunks(STEPS_OF_A_PART);
    symbols.parts.iter().zip(steps).try_for_each(|(&id, steps)| define(id, &|body| part(body, steps)))
}

/// A function in the making.
struct Body<'f> {
    b: FunctionBuilder<'f>,
    params: Vec<Value>,
    module: &'f mut ObjectModule,
    symbols: &'f Symbols,
    embedding: &'f Embedding<'f>,
}

/// Memory accesses of the driver: nothing is known of alignment, and nothing traps that was checked.
fn flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap().with_endianness(ir::Endianness::Little)
}

impl Body<'_> {
    /// The first parameters.
    fn params<const N: usize>(&self) -> [Value; N] {
        std::array::from_fn(|i| self.params[i])
    }

    fn number(&mut self, number: i64) -> Value {
        self.b.ins().iconst(I64, number)
    }

    fn plus(&mut self, base: Value, offset: usize) -> Value {
        if offset == 0 { base } else { self.b.ins().iadd_imm_s(base, offset as i64) }
    }

    fn call(&mut self, function: FuncId, arguments: &[Value]) -> Option<Value> {
        let function = self.module.declare_func_in_func(function, self.b.func);
        let call = self.b.ins().call(function, arguments);
        self.b.inst_results(call).first().copied()
    }

    /// The address of the weights, which is `anywhere` where there are none.
    fn weights(&mut self, arena: Value, anywhere: Value) -> Value {
        if let Some(data) = self.symbols.weights {
            let name = UserExternalName { namespace: 1, index: data.as_u32() };
            let name = ExternalName::user(self.b.func.declare_imported_user_function(name));
            let symbol = GlobalValueData::Symbol { name, offset: 0.into(), colocated: true, tls: false };
            let symbol = self.b.func.create_global_value(symbol);
            return self.b.ins().symbol_value(I64, symbol);
        }
        match self.embedding.place {
            WeightPlace::File => self.b.ins().load(I64, flags(), arena, memory::WEIGHTS),
            WeightPlace::Object => anywhere,
        }
    }

    /// Returns `code` unless `a` compares to `b` as `condition` says.
    fn require(&mut self, condition: IntCC, a: Value, b: Value, code: i32) {
        let fine = self.b.ins().icmp(condition, a, b);
        let [go_on, give_up] = [self.b.create_block(), self.b.create_block()];
        self.b.set_cold_block(give_up);
        self.b.ins().brif(fine, go_on, &[], give_up, &[]);
        self.b.switch_to_block(give_up);
        self.give(code);
        self.b.switch_to_block(go_on);
    }

    /// Returns `code` where `pointer` is null.
    fn require_pointer(&mut self, pointer: Value, code: i32) {
        let null = self.number(0);
        self.require(IntCC::NotEqual, pointer, null, code);
    }

    /// Returns `code` where `pointer` is no multiple of `alignment`, a power of two.
    fn require_alignment(&mut self, pointer: Value, alignment: usize, code: i32) {
        let rest = self.b.ins().band_imm_u(pointer, alignment as i64 - 1);
        let zero = self.number(0);
        self.require(IntCC::Equal, rest, zero, code);
    }

    fn give(&mut self, code: i32) {
        let code = self.b.ins().iconst(I32, i64::from(code));
        self.b.ins().return_(&[code]);
    }

    /// A loop while `state[counter]` is at least `least`: `step` makes the next state of the last. Gives the last state.
    fn repeat<const N: usize>(
        &mut self,
        state: [Value; N],
        counter: usize,
        least: i64,
        step: impl FnOnce(&mut Self, [Value; N]) -> [Value; N],
    ) -> [Value; N] {
        let [head, body, end] = [self.b.create_block(), self.b.create_block(), self.b.create_block()];
        let types = state.map(|value| self.b.func.dfg.value_type(value));
        let now: [Value; N] = types.map(|ty| self.b.append_block_param(head, ty));
        self.b.ins().jump(head, &state.map(BlockArg::Value));
        self.b.switch_to_block(head);
        let least = self.number(least);
        let more = self.b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, now[counter], least);
        self.b.ins().brif(more, body, &[], end, &[]);
        self.b.switch_to_block(body);
        let next = step(self, now);
        self.b.ins().jump(head, &next.map(BlockArg::Value));
        self.b.switch_to_block(end);
        now
    }
}

/// Copies up or down, so that what is overwritten was read before.
fn copy(body: &mut Body<'_>) {
    let [to, from, bytes] = body.params();
    let [up, down] = [body.b.create_block(), body.b.create_block()];
    let below = body.b.ins().icmp(IntCC::UnsignedLessThanOrEqual, to, from);
    body.b.ins().brif(below, up, &[], down, &[]);
    let widths = [(I8X16, 16), (I8, 1)];

    body.b.switch_to_block(up);
    let mut state = [to, from, bytes];
    for (ty, width) in widths {
        state = body.repeat(state, 2, width, |body, [to, from, left]| {
            let value = body.b.ins().load(ty, flags(), from, 0);
            body.b.ins().store(flags(), value, to, 0);
            let [to, from] = [to, from].map(|pointer| body.b.ins().iadd_imm_s(pointer, width));
            [to, from, body.b.ins().iadd_imm_s(left, -width)]
        });
    }
    body.b.ins().return_(&[]);

    body.b.switch_to_block(down);
    let mut state = [bytes];
    for (ty, width) in widths {
        state = body.repeat(state, 0, width, |body, [left]| {
            let left = body.b.ins().iadd_imm_s(left, -width);
            let [to, from] = [to, from].map(|pointer| body.b.ins().iadd(pointer, left));
            let value = body.b.ins().load(ty, flags(), from, 0);
            body.b.ins().store(flags(), value, to, 0);
            [left]
        });
    }
    body.b.ins().return_(&[]);
}

/// Stores the pattern again and again, the last time perhaps its first bytes only.
fn fill(body: &mut Body<'_>) {
    let [to, bytes, pattern] = body.params();
    let [to, left, _] = body.repeat([to, bytes, pattern], 1, 8, |body, [to, left, pattern]| {
        body.b.ins().store(flags(), pattern, to, 0);
        [body.b.ins().iadd_imm_s(to, 8), body.b.ins().iadd_imm_s(left, -8), pattern]
    });
    body.repeat([to, left, pattern], 1, 1, |body, [to, left, pattern]| {
        body.b.ins().istore8(flags(), pattern, to, 0);
        let rest = body.b.ins().ushr_imm_u(pattern, 8);
        [body.b.ins().iadd_imm_s(to, 1), body.b.ins().iadd_imm_s(left, -1), rest]
    });
    body.b.ins().return_(&[]);
}

/// The bits that no truth value has, of all bytes together.
fn truth(body: &mut Body<'_>) {
    let [from, bytes] = body.params();
    let none = body.number(0);
    let state = body.repeat([from, bytes, none], 1, 8, |body, [from, left, found]| {
        let word = body.b.ins().load(I64, flags(), from, 0);
        let found = body.b.ins().bor(found, word);
        [body.b.ins().iadd_imm_s(from, 8), body.b.ins().iadd_imm_s(left, -8), found]
    });
    let [_, _, found] = body.repeat(state, 1, 1, |body, [from, left, found]| {
        let byte = body.b.ins().uload8(I64, flags(), from, 0);
        let found = body.b.ins().bor(found, byte);
        [body.b.ins().iadd_imm_s(from, 1), body.b.ins().iadd_imm_s(left, -1), found]
    });
    let wrong = body.number(i64::from_le_bytes([0xFE; 8]));
    let wrong = body.b.ins().band(found, wrong);
    body.b.ins().return_(&[wrong]);
}

/// Null and misaligned arenas.
fn require_arena(body: &mut Body<'_>, arena: Value) {
    body.require_pointer(arena, status::ARENA_NULL);
    body.require_alignment(arena, ALIGNMENT, status::ARENA_ALIGNMENT);
}

/// Looks at CPU, arena and weights; sets the variables; marks the arena.
fn init(body: &mut Body<'_>) {
    let [arena] = body.params();
    if let Some(cpu) = body.symbols.cpu {
        let lacks = body.call(cpu, &[]).map(|lacks| body.b.ins().uextend(I64, lacks));
        if let Some(lacks) = lacks {
            let no = body.number(0);
            body.require(IntCC::Equal, lacks, no, status::CPU);
        }
    }
    require_arena(body, arena);
    if body.embedding.place == WeightPlace::File {
        let [_, file, bytes] = body.params();
        let expected = body.number(body.embedding.weights_file_bytes() as i64);
        body.require_pointer(file, status::WEIGHTS_NULL);
        body.require_alignment(file, ALIGNMENT, status::WEIGHTS_ALIGNMENT);
        body.require(IntCC::Equal, bytes, expected, status::WEIGHTS_BYTES);
        let beginning = [FILE_MAGIC.as_slice(), &body.embedding.weights_id].concat();
        for (at, word) in beginning.chunks_exact(8).enumerate() {
            let word = word.iter().rev().fold(0, |word, &byte| word << 8 | i64::from(byte));
            let expected = body.number(word);
            let found = body.b.ins().load(I64, flags(), file, 8 * at as i32);
            body.require(IntCC::Equal, found, expected, status::WEIGHTS_CONTENT);
        }
        let weights = body.plus(file, FILE_HEADER);
        body.b.ins().store(flags(), weights, arena, memory::WEIGHTS);
    }
    let embedding = body.embedding;
    let weights = body.weights(arena, arena);
    let states = &embedding.module.module().plan().states;
    for (&offset, state) in embedding.memory.variables.iter().zip(states) {
        let bytes = state.spec.byte_len().unwrap_or(0);
        if bytes > 0 {
            let [to, from] = [body.plus(arena, offset), body.plus(weights, state.initial)];
            let bytes = body.number(bytes as i64);
            body.call(body.symbols.copy, &[to, from, bytes]);
        }
    }
    let mark = body.number(embedding.mark);
    body.b.ins().store(flags(), mark, arena, memory::MARK);
    body.give(status::OK);
}

/// Looks at everything that the caller gives, then does part after part.
fn run(body: &mut Body<'_>) {
    let [arena, inputs, outputs] = body.params();
    require_arena(body, arena);
    let mark = body.b.ins().load(I64, flags(), arena, memory::MARK);
    let expected = body.number(body.embedding.mark);
    body.require(IntCC::Equal, mark, expected, status::ARENA_UNINITIALISED);
    let embedding = body.embedding;
    let groups = [
        (&embedding.inputs, inputs, [status::INPUTS_NULL, status::INPUT_NULL, status::INPUT_ALIGNMENT]),
        (&embedding.outputs, outputs, [status::OUTPUTS_NULL, status::OUTPUT_NULL, status::OUTPUT_ALIGNMENT]),
    ];
    for (members, pointers, [all_null, null, alignment]) in groups {
        if !members.is_empty() {
            body.require_pointer(pointers, all_null);
        }
        // codes fit: `Embedding::new` has counted
        for ((_, spec), at) in members.iter().zip(0i32..) {
            let bytes = spec.byte_len().unwrap_or(0);
            if bytes == 0 {
                continue;
            }
            let pointer = body.b.ins().load(I64, flags(), pointers, 8 * at);
            body.require_pointer(pointer, null + at);
            if spec.dtype.size() > 1 {
                body.require_alignment(pointer, spec.dtype.size(), alignment + at);
            }
            if spec.dtype == DType::Bool && null == status::INPUT_NULL {
                let bytes = body.number(bytes as i64);
                if let Some(wrong) = body.call(body.symbols.truth, &[pointer, bytes]) {
                    let none = body.number(0);
                    body.require(IntCC::Equal, wrong, none, status::INPUT_TRUTH + at);
                }
            }
        }
    }
    for &part in &body.symbols.parts {
        body.call(part, &[arena, inputs, outputs]);
    }
    body.give(status::OK);
}

/// Some steps, one after the other.
fn part(body: &mut Body<'_>, steps: &[Step]) {
    let [arena, inputs, outputs] = body.params();
    let weights = body.weights(arena, arena);
    let scratch = body.plus(arena, body.embedding.memory.scratch);
    let bases = Bases { arena, inputs, outputs, weights };
    let most = steps.iter().map(|step| step.work.arguments().count()).max().unwrap_or(0);
    let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, 8 * most as u32, 3);
    let slot = body.b.create_sized_stack_slot(slot);
    for step in steps {
        match &step.work {
            Work::Kernel { extent: 0, .. } => {}
            Work::Kernel { kernel, arguments, extent, .. } => {
                for (argument, at) in arguments.iter().zip(0i32..) {
                    let pointer = bases.address(body, argument);
                    body.b.ins().stack_store(I64, pointer, slot, 8 * at);
                }
                let arguments = body.b.ins().stack_addr(I64, slot, 0);
                let [begin, end] = [0, *extent as i64].map(|bound| body.number(bound));
                body.call(body.symbols.kernels[*kernel], &[arguments, scratch, begin, end]);
            }
            Work::Copy { from, to } => {
                let [target, source] = [to, from].map(|argument| bases.address(body, argument));
                let bytes = body.number(to.len as i64);
                body.call(body.symbols.copy, &[target, source, bytes]);
            }
            Work::Fill { to, element } => {
                let target = bases.address(body, to);
                let (bytes, pattern) = (body.number(to.len as i64), body.number(repeated(*element, to.dtype.size())));
                body.call(body.symbols.fill, &[target, bytes, pattern]);
            }
        }
    }
    body.b.ins().return_(&[]);
}

/// Eight bytes of elements that are the low `size` bytes of `element`.
fn repeated(element: u64, size: usize) -> i64 {
    let bytes = element.to_le_bytes();
    i64::from_le_bytes(std::array::from_fn(|i| bytes[i % size]))
}

/// What addresses are relative to.
#[derive(Clone, Copy)]
struct Bases {
    arena: Value,
    inputs: Value,
    outputs: Value,
    weights: Value,
}

impl Bases {
    /// The address of an argument of a validated plan.
    fn address(&self, body: &mut Body<'_>, argument: &Argument) -> Value {
        let memory = &body.embedding.memory;
        let (base, offset) = match body.embedding.module.module().plan().buffers[argument.buffer] {
            Buffer::Input(index) => (body.b.ins().load(I64, flags(), self.inputs, 8 * index as i32), 0),
            Buffer::Output(index) => (body.b.ins().load(I64, flags(), self.outputs, 8 * index as i32), 0),
            Buffer::Weight { offset, .. } => (self.weights, offset),
            Buffer::Arena { offset, .. } => (self.arena, memory.intermediates + offset),
            Buffer::State(index) => (self.arena, memory.variables[index]),
        };
        body.plus(base, offset + argument.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::repeated;

    #[test]
    fn an_element_of_any_size_is_repeated_to_eight_bytes() {
        assert_eq!(repeated(0x1122_3344_5566_77AB, 1), i64::from_le_bytes([0xAB; 8]));
        assert_eq!(repeated(0x77AB, 2), 0x77AB_77AB_77AB_77AB);
        assert_eq!(repeated(0x5566_77AB, 4), 0x5566_77AB_5566_77AB);
        assert_eq!(repeated(0x1122_3344_5566_77AB, 8), 0x1122_3344_5566_77AB);
    }
}
