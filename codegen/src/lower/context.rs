//! The state of a lowering: which value lies where, and the steps so far.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use kiln_ir::attribute::Padding;
use kiln_ir::ops::Literal;
use kiln_ir::scalar::ScalarExpr;
use kiln_ir::{DType, Graph, NodeId, Op, Tensor, Value};
use kiln_runtime::{Access, Relayout, Signature, TensorSpec};

use super::error::LowerError;
use super::halo::Halo;
use super::machine::Machine;
use super::scalar::TypedExpr;
use super::winograd::FilterTransform;
use crate::kir::{self, KernelBuilder};
use crate::plan::program::{DraftState, DraftStep, DraftWork, Place, Program, StorageId, Use, View, Weight};
use crate::tuning::{Algorithm, Choice, Choices, Decision};

/// Where a value goes: a dense view of its own, or a part of a wider tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The whole tensor.
    pub view: View,
    /// Elements between neighbours of the value, by axis.
    pub strides: Vec<i64>,
    /// First element.
    pub start: i64,
    /// Elements of the value; where they are not all, it is a part of the tensor.
    pub elements: usize,
}

impl Slot {
    /// All of a view.
    pub fn whole(view: View) -> Slot {
        Slot { strides: super::nest::row_major(&view.dims), elements: view.len(), view, start: 0 }
    }

    /// What a step does that makes the value.
    pub fn written(&self) -> Use {
        self.view.used_in_part(Access::Write, self.elements)
    }
}

/// A value that has been lowered.
#[derive(Clone, Debug)]
enum Held {
    /// In memory.
    View(View),
    /// In a part of a wider tensor, where its users look for it.
    Placed(StorageId),
    /// Known now; gets memory only where a kernel reads it.
    Literal(Literal),
}

/// Bytes of a result from which on stores pass the caches by, in steps that compute less than they move: what is written last has
/// driven out what was written first before anything reads it, and lines need not be read to be written.
const STREAMED_BYTES: usize = 16 << 20;

/// Marks large results without gaps that overwrite no operand.
fn stream(kernel: &mut kir::Kernel, uses: &[Use]) {
    let of_reads = kernel.buffers.iter().zip(uses).filter(|(param, _)| param.access.reads());
    let read: Vec<StorageId> = of_reads.map(|(_, u)| u.storage).collect();
    for (param, u) in kernel.buffers.iter_mut().zip(uses) {
        let large = u.touched >= STREAMED_BYTES && u.touched == u.len;
        param.streamed = large && !param.access.reads() && !read.contains(&u.storage);
    }
}

/// Steps of a program, at most: while it is compiled, each takes about a kilobyte, however little its kernel does.
pub(super) const MOST_STEPS: usize = 1 << 18;

/// A graph on its way to a program.
pub struct Lowering<'g> {
    /// The graph.
    pub graph: &'g Graph,
    /// Where it will run.
    pub machine: Machine,
    /// Whether only algorithms that multiply what the graph multiplies are used.
    pub exact: bool,
    /// What is known about layers.
    choices: &'g Choices,
    pub(super) program: Program,
    held: HashMap<Value, Held>,
    /// Where a value should be made, because what it becomes a part of lies there.
    reserved: HashMap<Value, View>,
    /// Values that are, or will be, inside a wider tensor.
    halos: HashMap<Value, Halo>,
    /// Transposes that are not made: their users read the operand.
    seen_through: HashSet<Value>,
    /// Uses of the values in a storage that are still to come.
    pending: Vec<usize>,
    /// How often each value is used.
    uses: HashMap<Value, usize>,
    live: Vec<bool>,
    outputs: Vec<StorageId>,
    /// The storage of each literal that got one.
    literals: HashMap<Literal, StorageId>,
    /// The storages of literals in another order, by that order.
    packed: HashMap<Relayout, Vec<(Tensor, StorageId)>>,
    /// The first step of the node that is being lowered.
    node_starts: usize,
    /// A value that some step looked for where it is not.
    misplaced: Option<Value>,
}

impl<'g> Lowering<'g> {
    /// Nothing lowered yet. All dims must be fixed.
    pub fn new(
        graph: &'g Graph,
        machine: Machine,
        exact: bool,
        choices: &'g Choices,
    ) -> Result<Lowering<'g>, LowerError> {
        let symbols = graph.symbols();
        if !symbols.is_empty() {
            return Err(LowerError::Symbols { names: symbols });
        }
        let spec = |name: &str, v: Value| {
            TensorSpec::new(name, graph.ty(v).dtype, graph.ty(v).static_dims().unwrap_or_default())
        };
        let signature = Signature {
            inputs: graph.input_types().zip(graph.inputs()).map(|((name, _), &n)| spec(name, graph.value(n))).collect(),
            outputs: graph.outputs().iter().map(|(name, v)| spec(name, *v)).collect(),
            metadata: graph.metadata().clone(),
        };
        let mut lowering = Lowering {
            graph,
            machine,
            exact,
            choices,
            program: Program::new(signature),
            held: HashMap::new(),
            reserved: HashMap::new(),
            halos: HashMap::new(),
            seen_through: HashSet::new(),
            pending: Vec::new(),
            uses: HashMap::new(),
            live: vec![false; graph.len()],
            outputs: Vec::new(),
            literals: HashMap::new(),
            packed: HashMap::new(),
            node_starts: 0,
            misplaced: None,
        };
        lowering.find_live();
        lowering.check_sizes()?;
        Ok(lowering)
    }

    fn find_live(&mut self) {
        let mut stack: Vec<NodeId> = self.graph.outputs().iter().map(|(_, v)| v.node).collect();
        stack.extend_from_slice(self.graph.effects());
        while let Some(id) = stack.pop() {
            if !std::mem::replace(&mut self.live[id.0 as usize], true) {
                stack.extend(self.graph.node(id).operands.iter().map(|v| v.node));
            }
        }
        for id in self.graph.node_ids().filter(|id| self.live[id.0 as usize]) {
            for &v in &self.graph.node(id).operands {
                *self.uses.entry(v).or_default() += 1;
            }
        }
        for (_, v) in self.graph.outputs() {
            *self.uses.entry(*v).or_default() += 1;
        }
    }

    fn check_sizes(&self) -> Result<(), LowerError> {
        for id in self.graph.node_ids().filter(|&id| self.is_live(id)) {
            let node = self.graph.node(id);
            for ty in &node.types {
                // half of the address space: sums of two such sizes do not overflow
                if ty.byte_count().is_none_or(|n| n > isize::MAX as usize / 2) {
                    return Err(self.too_large(id, ty.to_string()));
                }
            }
        }
        Ok(())
    }

    /// Refuses window numbers (steps, paddings …) that `elements` elements multiplied by would not fit an index.
    pub fn check_window(
        &self,
        id: NodeId,
        elements: usize,
        padding: &[Padding],
        lists: &[&[usize]],
    ) -> Result<(), LowerError> {
        let around = padding.iter().flat_map(|p| [p.low.unsigned_abs(), p.high.unsigned_abs()]);
        let most = lists.iter().flat_map(|list| list.iter().map(|&n| n as u64)).chain(around).max().unwrap_or(0);
        // an index sums one product per axis; 64 axes are more than any tensor has
        let limit = i64::MAX as u128 / 64;
        let fits = u128::from(most) * (elements.max(1) as u128) <= limit;
        if fits { Ok(()) } else { Err(self.too_large(id, format!("indices up to {most} × {elements}"))) }
    }

    /// The error for a node that gives more than memory holds.
    pub fn too_large(&self, id: NodeId, ty: String) -> LowerError {
        let node = self.graph.node(id);
        LowerError::TooLarge { op: node.op.mnemonic(), ty, location: node.location.clone() }
    }

    /// Whether anything needs the node.
    pub fn is_live(&self, id: NodeId) -> bool {
        self.live.get(id.0 as usize).copied().unwrap_or(false)
    }

    /// Extents of a value.
    pub fn dims(&self, v: Value) -> Vec<usize> {
        self.graph.ty(v).static_dims().unwrap_or_default()
    }

    /// Element type of a value.
    pub fn dtype(&self, v: Value) -> DType {
        self.graph.ty(v).dtype
    }

    /// Operand `i` of a node.
    pub fn operand(&self, id: NodeId, i: usize) -> Value {
        self.graph.node(id).operands[i]
    }

    /// The value of a tensor known at compile time.
    pub fn literal(&self, v: Value) -> Option<&Tensor> {
        match self.held.get(&v) {
            Some(Held::Literal(literal)) => Some(literal.tensor()),
            _ => None,
        }
    }

    /// Where a value lies. A literal gets memory in the weight section.
    pub fn view(&mut self, v: Value) -> View {
        let literal = match self.held.get(&v) {
            Some(Held::View(view)) => return view.clone(),
            Some(Held::Literal(literal)) => literal.clone(),
            // operands are lowered before their users, which look for a placed value where it lies
            None | Some(Held::Placed(_)) => {
                self.misplaced.get_or_insert(v);
                return self.temporary(self.dtype(v), &self.dims(v));
            }
        };
        let tensor = literal.tensor();
        let storage = match self.literals.get(&literal) {
            Some(&storage) => storage,
            None => {
                let bytes = tensor.bytes().clone();
                let len = bytes.len();
                let storage = self.add_storage(Place::Weight(Weight::Plain(bytes)), len);
                self.literals.insert(literal.clone(), storage);
                storage
            }
        };
        View { storage, offset: 0, dtype: tensor.dtype(), dims: self.dims(v) }
    }

    fn add_storage(&mut self, place: Place, bytes: usize) -> StorageId {
        self.pending.push(0);
        self.program.add_storage(place, bytes)
    }

    /// A dense tensor in the weight section: elements of a literal in another order.
    pub fn packed(&mut self, id: NodeId, tensor: &Tensor, relayout: Relayout) -> Result<View, LowerError> {
        let size = tensor.dtype().size();
        let len = relayout.packed_len().ok().filter(|len| len.checked_mul(size).is_some());
        let len = len.ok_or_else(|| self.too_large(id, format!("packed elements of a {} tensor", tensor.dtype())))?;
        let same = |a: &Tensor, b: &Tensor| a.dtype() == b.dtype() && a.shares_elements(b);
        let known = self.packed.get(&relayout).and_then(|known| known.iter().find(|(t, _)| same(t, tensor)));
        let storage = match known {
            Some(&(_, storage)) => storage,
            None => {
                let weight = Weight::Packed(tensor.clone(), relayout.clone());
                let storage = self.add_storage(Place::Weight(weight), len * size);
                self.packed.entry(relayout).or_default().push((tensor.clone(), storage));
                storage
            }
        };
        Ok(View { storage, offset: 0, dtype: tensor.dtype(), dims: vec![len] })
    }

    /// A dense tensor in the weight section that no constant of the graph is.
    pub fn constant(&mut self, dtype: DType, dims: &[usize], bytes: Vec<u8>) -> View {
        let len = bytes.len();
        let storage = self.add_storage(Place::Weight(Weight::Plain(bytes.into())), len);
        View { storage, offset: 0, dtype, dims: dims.to_vec() }
    }

    /// A convolution's filter in the weight section, transformed.
    pub fn transformed(&mut self, filter: &Tensor, transform: FilterTransform) -> View {
        let dims = vec![transform.elements()];
        let weight = Weight::Transformed(filter.clone(), transform);
        let storage = self.add_storage(Place::Weight(weight), dims[0] * DType::F32.size());
        View { storage, offset: 0, dtype: DType::F32, dims }
    }

    /// New memory of the arena.
    pub fn temporary(&mut self, dtype: DType, dims: &[usize]) -> View {
        let bytes = dims.iter().product::<usize>() * dtype.size();
        let storage = self.add_storage(Place::Temporary, bytes);
        View { storage, offset: 0, dtype, dims: dims.to_vec() }
    }

    /// Makes `v` lie at `view`.
    pub fn bind(&mut self, v: Value, view: View) {
        self.pending[view.storage.0] += self.uses(v);
        self.held.insert(v, Held::View(view));
    }

    /// Makes `v` a tensor known now.
    pub fn bind_literal(&mut self, v: Value, literal: Literal) {
        self.held.insert(v, Held::Literal(literal));
    }

    /// Memory for a value that a step is about to write.
    pub fn result(&mut self, v: Value) -> View {
        let view = match self.reserved.get(&v) {
            Some(view) => view.clone(),
            None => self.temporary(self.dtype(v), &self.dims(v)),
        };
        self.bind(v, view.clone());
        view
    }

    /// Memory for a value that is written element by element after reading the same element of `operands` (positions
    /// of the node's operands): the memory of one of these, if nothing else needs it any more.
    pub fn result_in_place(&mut self, id: NodeId, v: Value, operands: &[usize]) -> View {
        if !self.reserved.contains_key(&v) {
            let bytes = self.dims(v).iter().product::<usize>() * self.dtype(v).size();
            for &position in operands {
                let Some(Held::View(view)) = self.held.get(&self.operand(id, position)) else { continue };
                let storage = &self.program.storages[view.storage.0];
                let here = self.graph.node(id).operands.iter().filter(|&&o| self.lies_in(o, view.storage)).count();
                let dies = self.pending[view.storage.0] == here;
                let alone =
                    here == operands.iter().filter(|&&o| self.operand(id, o) == self.operand(id, position)).count();
                let fits = storage.bytes == bytes && view.offset == 0 && view.dtype.size() == self.dtype(v).size();
                if dies && alone && fits && bytes > 0 && matches!(storage.place, Place::Temporary) {
                    let view = View { dtype: self.dtype(v), dims: self.dims(v), ..view.clone() };
                    self.bind(v, view.clone());
                    return view;
                }
            }
        }
        self.result(v)
    }

    /// Memory for the result of a contraction: that of an operand of its epilogue, if it may be overwritten.
    pub fn result_over_extras(&mut self, id: NodeId, v: Value) -> View {
        let operands = self.graph.node(id).operands.len();
        let whole: Vec<usize> = (2..operands).filter(|&i| self.dims(self.operand(id, i)) == self.dims(v)).collect();
        self.result_in_place(id, v, &whole)
    }

    fn lies_in(&self, v: Value, storage: StorageId) -> bool {
        match self.held.get(&v) {
            Some(Held::View(view)) => view.storage == storage,
            Some(Held::Placed(at)) => *at == storage,
            _ => false,
        }
    }

    /// Where a value goes that is written by strides, or else over an operand as
    /// [`result_in_place`](Lowering::result_in_place) says.
    pub fn slot_in_place(&mut self, id: NodeId, v: Value, operands: &[usize]) -> Slot {
        if self.has_slot(v) { self.slot(v) } else { Slot::whole(self.result_in_place(id, v, operands)) }
    }

    /// Where a value goes that is written by strides.
    pub fn slot(&mut self, v: Value) -> Slot {
        match self.reserved_halo(v) {
            Some(halo) => {
                let slot = halo.slot();
                self.place(v, halo);
                slot
            }
            None => Slot::whole(self.result(v)),
        }
    }

    /// Whether `v` has its place in a wider tensor.
    pub fn has_slot(&self, v: Value) -> bool {
        self.halos.contains_key(&v)
    }

    /// Asks for `v`, which is written by strides, to be made inside a wider tensor, where its users find it with
    /// [`halo`](Lowering::halo). The first wish counts.
    pub fn reserve_halo(&mut self, v: Value, halo: Halo) {
        if !self.is_reserved(v) {
            self.halos.insert(v, halo);
        }
    }

    /// Whether some user of `v` has said where it is to be made.
    pub fn is_reserved(&self, v: Value) -> bool {
        self.reserved.contains_key(&v) || self.halos.contains_key(&v)
    }

    /// Where `v` is, or will be made, inside a wider tensor.
    pub fn reserved_halo(&self, v: Value) -> Option<Halo> {
        self.halos.get(&v).cloned()
    }

    /// Says that the users of `v`, a transpose, read its operand: it need not be made.
    pub fn see_through(&mut self, v: Value) {
        self.seen_through.insert(v);
    }

    /// Whether `v` need not be made.
    pub fn is_seen_through(&self, v: Value) -> bool {
        self.seen_through.contains(&v)
    }

    /// Makes `v` lie where its users find it with [`halo`](Lowering::halo).
    pub fn place(&mut self, v: Value, halo: Halo) {
        self.pending[halo.tensor.storage.0] += self.uses(v);
        self.held.insert(v, Held::Placed(halo.tensor.storage));
        self.halos.insert(v, halo);
    }

    /// Where a value lies, with the room around it.
    pub fn halo(&mut self, v: Value) -> Halo {
        match self.reserved_halo(v) {
            Some(halo) => halo,
            None => Halo::none(self.view(v)),
        }
    }

    /// How often a value is used.
    pub fn uses(&self, v: Value) -> usize {
        self.uses.get(&v).copied().unwrap_or(0)
    }

    /// Whether it is known where the value lies, or what it is.
    pub fn is_bound(&self, v: Value) -> bool {
        self.held.contains_key(&v)
    }

    /// Where `v` should be made, if that matters.
    pub fn reservation(&self, v: Value) -> Option<&View> {
        self.reserved.get(&v)
    }

    /// Asks for `v` to be made at `view`. The first wish counts.
    pub fn reserve(&mut self, v: Value, view: View) {
        if !self.is_reserved(v) {
            self.reserved.insert(v, view);
        }
    }

    /// Says that the node has been lowered: its operands have one use less.
    pub fn finish_node(&mut self, id: NodeId) {
        for v in &self.graph.node(id).operands {
            let storage = match self.held.get(v) {
                Some(Held::View(view)) => view.storage,
                Some(Held::Placed(storage)) => *storage,
                _ => continue,
            };
            let pending = &mut self.pending[storage.0];
            *pending = pending.saturating_sub(1);
        }
    }

    /// Adds the storages of inputs and outputs, and variables that are assigned.
    pub fn bind_signature(&mut self) {
        for (i, &id) in self.graph.inputs().iter().enumerate() {
            let v = self.graph.value(id);
            let (dtype, dims) = (self.dtype(v), self.dims(v));
            let bytes = dims.iter().product::<usize>() * dtype.size();
            let storage = self.add_storage(Place::Input(i), bytes);
            self.bind(v, View { storage, offset: 0, dtype, dims });
        }
        for (i, (_, v)) in self.graph.outputs().iter().enumerate() {
            let (dtype, dims) = (self.dtype(*v), self.dims(*v));
            let bytes = dims.iter().product::<usize>() * dtype.size();
            let storage = self.add_storage(Place::Output(i), bytes);
            self.outputs.push(storage);
            self.reserve(*v, View { storage, offset: 0, dtype, dims });
        }
    }

    /// The memory of output `i`, whose value is `like`.
    pub fn output(&self, i: usize, like: &View) -> View {
        View { storage: self.outputs[i], offset: 0, ..like.clone() }
    }

    /// Whether the view is the memory of a variable.
    pub fn is_state(&self, view: &View) -> bool {
        matches!(self.program.storages[view.storage.0].place, Place::State(_))
    }

    /// Binds a `read_var`: to the variable's memory where some node assigns it, to its initial value elsewhere.
    pub fn bind_variable(&mut self, v: Value, name: &str) -> Result<(), LowerError> {
        let missing = || LowerError::Variable { name: name.to_owned(), reason: "the graph does not declare it".into() };
        let variable = self.graph.variable(name).ok_or_else(missing)?;
        let dims = self.dims(v);
        let initial = variable
            .init
            .materialize(variable.ty.dtype, &dims)
            .map_err(|e| LowerError::Variable { name: name.to_owned(), reason: e.to_string() })?;
        if !self.is_assigned(name) {
            self.bind_literal(v, initial.into());
            return Ok(());
        }
        let view = self.state(name, initial);
        self.bind(v, view);
        Ok(())
    }

    fn is_assigned(&self, name: &str) -> bool {
        let assigns = |&id: &NodeId| matches!(&self.graph.node(id).op, Op::Assign { variable } if variable == name);
        self.graph.effects().iter().any(assigns)
    }

    /// The memory of a variable that is assigned.
    fn state(&mut self, name: &str, initial: Tensor) -> View {
        let (dtype, dims) = (initial.dtype(), initial.dims().to_vec());
        let known = self.program.states.iter().position(|s| s.spec.name == name);
        let place = |s: &crate::plan::program::Storage, at: usize| matches!(s.place, Place::State(i) if i == at);
        let storage = known.and_then(|at| self.program.storages.iter().position(|s| place(s, at)));
        let storage = match storage {
            Some(at) => StorageId(at),
            None => {
                let bytes = initial.bytes().len();
                self.program.states.push(DraftState { spec: TensorSpec::new(name, dtype, dims.clone()), initial });
                self.add_storage(Place::State(self.program.states.len() - 1), bytes)
            }
        };
        View { storage, offset: 0, dtype, dims }
    }

    /// The memory of a variable that is assigned, whether or not it is read.
    pub fn state_view(&mut self, name: &str) -> Result<View, LowerError> {
        let error = |reason: String| LowerError::Variable { name: name.to_owned(), reason };
        let variable = self.graph.variable(name).ok_or_else(|| error("the graph does not declare it".into()))?;
        let dims = variable.ty.static_dims().unwrap_or_default();
        let initial = variable.init.materialize(variable.ty.dtype, &dims).map_err(|e| error(e.to_string()))?;
        Ok(self.state(name, initial))
    }

    /// A scalar expression of the node for arguments of these dtypes.
    pub fn typed(&self, id: NodeId, expr: &ScalarExpr, dtypes: &[DType]) -> Result<TypedExpr, LowerError> {
        let node = self.graph.node(id);
        TypedExpr::new(expr, dtypes).map_err(|e| LowerError::Unsupported {
            op: node.op.mnemonic(),
            reason: e.to_string(),
            location: node.location.clone(),
        })
    }

    /// Op and name of a node, for people.
    pub fn label(&self, id: NodeId) -> String {
        let node = self.graph.node(id);
        match &node.name {
            Some(name) => format!("{} {name}", node.op.mnemonic()),
            None => format!("{} {}", node.op.mnemonic(), id.0),
        }
    }

    /// Appends a step that runs the kernel built by `b`, whose buffers are `views` in order.
    pub fn step(&mut self, label: String, b: KernelBuilder, views: &[&View], flops: u64) -> Result<(), LowerError> {
        let uses = views.iter().map(|v| v.used(Access::Read)).collect();
        self.step_with(label, b, uses, flops)
    }

    /// Like [`step`](Lowering::step) for uses with gaps; their access is taken from the kernel.
    pub fn step_with(
        &mut self,
        label: String,
        b: KernelBuilder,
        mut uses: Vec<Use>,
        flops: u64,
    ) -> Result<(), LowerError> {
        let bytes = uses.iter().map(|u| u.touched as u64).sum();
        let mut kernel = b.finish()?;
        if flops <= bytes {
            stream(&mut kernel, &uses);
        }
        for (u, param) in uses.iter_mut().zip(&kernel.buffers) {
            u.access = match param.access {
                kir::Access::Read => Access::Read,
                kir::Access::Write => Access::Write,
                // a kernel that reads back only what it wrote says so beforehand
                kir::Access::ReadWrite if u.access == Access::Write => Access::Write,
                kir::Access::ReadWrite => Access::ReadWrite,
            };
        }
        let kernel = self.program.add_kernel(kernel);
        self.push(label, DraftWork::Kernel { kernel, arguments: uses }, flops, bytes);
        Ok(())
    }

    /// Appends a copy of a whole view; nothing where the two are one.
    pub fn copy(&mut self, label: String, from: &View, to: &View) {
        if !to.is_empty() && (from.storage, from.offset) != (to.storage, to.offset) {
            let bytes = 2 * to.bytes() as u64;
            let work = DraftWork::Copy { from: from.used(Access::Read), to: to.used(Access::Write) };
            self.push(label, work, 0, bytes);
        }
    }

    /// Appends a fill of a whole view.
    pub fn fill(&mut self, label: String, to: &View, element: kir::Bits) {
        if !to.is_empty() {
            let work = DraftWork::Fill { to: to.used(Access::Write), element: element.0 };
            self.push(label, work, 0, to.bytes() as u64);
        }
    }

    fn push(&mut self, label: String, work: DraftWork, flops: u64, bytes: u64) {
        self.program.steps.push(DraftStep { label, work, flops, bytes, note: String::new() });
    }

    /// The number of the step that is appended next.
    pub fn next_step(&self) -> usize {
        self.program.steps.len()
    }

    /// Refuses a node that appends `steps` more steps, where the program then has more than `MOST_STEPS`.
    pub fn check_steps(&self, id: NodeId, steps: usize) -> Result<(), LowerError> {
        let steps = self.program.steps.len().saturating_add(steps);
        if steps <= MOST_STEPS {
            return Ok(());
        }
        let node = self.graph.node(id);
        Err(LowerError::TooManySteps { op: node.op.mnemonic(), steps, location: node.location.clone() })
    }

    /// Appends the steps from `third` on `times` times more, each time moved on as they are from those between `second` and `third`, and
    /// returns true; false where these are not the same but for where their operands lie.
    pub fn repeat(&mut self, id: NodeId, second: usize, third: usize, times: usize) -> bool {
        let steps = &mut self.program.steps;
        let end = steps.len();
        if end - third != third - second {
            return false;
        }
        let moves: Option<Vec<Vec<isize>>> =
            (second..third).zip(third..end).map(|(a, b)| steps[b].work.moved_from(&steps[a].work)).collect();
        let Some(moves) = moves else { return false };
        for _ in 0..times {
            for by in &moves {
                let before = &steps[steps.len() - moves.len()];
                let step = DraftStep { work: before.work.moved(by), ..before.clone() };
                steps.push(step);
            }
        }
        let appended = steps.len() - end;
        let of_node = self.program.decisions.iter_mut().rev().take_while(|d| d.node == id);
        of_node.for_each(|d| d.steps.end += appended);
        true
    }

    /// Refuses a program in which some step reads what no step has written.
    pub fn check_places(&self) -> Result<(), LowerError> {
        let Some(v) = self.misplaced else { return Ok(()) };
        let node = self.graph.node(v.node);
        Err(LowerError::Unsupported {
            op: node.op.mnemonic(),
            reason: "its result lies where one of its users does not look: this is a bug in Kiln, please report it"
                .into(),
            location: node.location.clone(),
        })
    }

    /// Says that the steps that follow are those of another node.
    pub fn start_node(&mut self) {
        self.node_starts = self.program.steps.len();
    }

    /// The text by which a convolution or a product is known: op, attributes, types of its two operands.
    pub fn layer(&self, id: NodeId) -> Option<String> {
        let node = self.graph.node(id);
        let op = node.op.contraction()?;
        let mut text = op.mnemonic().to_owned();
        for &operand in &node.operands[..2] {
            let known = if self.literal(operand).is_some() { "constant " } else { "" };
            let _ = write!(text, " {known}{}", self.graph.ty(operand));
        }
        op.shown_attributes().iter().for_each(|(name, value)| {
            // writing to a string cannot fail
            let _ = write!(text, " {name}={value}");
        });
        Some(text)
    }

    /// What is known about the node's layer.
    pub fn known(&self, id: NodeId) -> Option<Choice> {
        if self.choices.is_empty() { None } else { self.choices.get(&self.layer(id)?) }
    }

    /// Settles a layer of the node: by what is known, if that is one of `candidates`, else by the first of these, of which there is
    /// at least one.
    pub fn decide(&self, id: NodeId, layer: String, candidates: Vec<Algorithm>) -> Decision {
        let known = self.choices.get(&layer);
        let choice = known.filter(|choice| candidates.contains(&choice.algorithm()));
        let passed_over = known.filter(|_| choice.is_none()).map(|choice| choice.algorithm());
        let algorithm = choice.map_or(candidates[0], |choice| choice.algorithm());
        Decision { node: id, layer, algorithm, choice, passed_over, candidates, steps: 0..0 }
    }

    /// Records a decision; the last step is the one that it was about.
    pub fn decided(&mut self, mut decision: Decision) {
        let steps = &mut self.program.steps;
        let end = steps.len();
        if let Some(step) = steps.last_mut() {
            step.note = decision.note();
        }
        let mut own = self.program.decisions.iter_mut().rev().take_while(|d| d.node == decision.node);
        match own.find(|d| d.layer == decision.layer) {
            // another phase or time step of the same layer
            Some(known) => known.steps.end = end,
            None => {
                decision.steps = self.node_starts..end;
                self.program.decisions.push(decision);
            }
        }
    }
}
