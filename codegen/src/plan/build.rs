//! Building the execution plan of a lowered graph.

use std::collections::HashMap;

use kiln_ir::Tensor;
use kiln_runtime::artifact::PackedWeight;
use kiln_runtime::{Argument, Buffer, Plan, StateSpec, Step, Weights, WeightsBuilder, Work};

use super::arena::{Layout, Life, lay_out};
use super::cost;
use super::program::{DraftWork, Place, Program, StorageId, Use, Weight};
use crate::kir::Kernel;
use crate::lower::LowerError;
use crate::parallel::in_parallel;

/// A plan with what goes with it.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What is done.
    pub plan: Plan,
    /// Kernels, in the plan's order.
    pub kernels: Vec<Kernel>,
    /// The weight section.
    pub weights: Weights,
    /// Constants whose elements the weight section holds in another order, and where.
    pub packed: Vec<(Tensor, PackedWeight)>,
}

/// Gives every storage an address and every step its arguments. The error: weights that cannot be packed as the
/// lowering says, which would be its fault.
pub fn build(program: Program, threads: usize) -> Result<Planned, LowerError> {
    let lives = lives(&program);
    let temporaries: Vec<StorageId> =
        (0..program.storages.len()).map(StorageId).filter(|id| lives.contains_key(id)).collect();
    let layout = lay_out(&temporaries.iter().map(|id| lives[id]).collect::<Vec<_>>());
    let Collected { weights, offsets: weight_offsets, initial, packed } = collect_weights(&program, threads)?;
    let mut buffers = Vec::new();
    let mut buffer_of: HashMap<StorageId, usize> = HashMap::new();
    let arena: HashMap<StorageId, usize> = temporaries.iter().copied().zip(layout.offsets.iter().copied()).collect();
    let mut steps = Vec::with_capacity(program.steps.len());
    let mut argument = |u: &Use| {
        let next = buffers.len();
        let buffer = *buffer_of.entry(u.storage).or_insert(next);
        if buffer == next {
            let len = program.storages[u.storage.0].bytes;
            buffers.push(match program.storages[u.storage.0].place {
                Place::Input(i) => Buffer::Input(i),
                Place::Output(i) => Buffer::Output(i),
                Place::State(i) => Buffer::State(i),
                Place::Weight(_) => {
                    Buffer::Weight { offset: weight_offsets.get(&u.storage).copied().unwrap_or(0), len }
                }
                Place::Temporary => Buffer::Arena { offset: arena.get(&u.storage).copied().unwrap_or(0), len },
            });
        }
        Argument { buffer, dtype: u.dtype, offset: u.offset, len: u.len, access: u.access, strided: u.touched < u.len }
    };
    let mut most_scratch = 0;
    for step in &program.steps {
        let mut scratch_bytes = 0;
        let work = match &step.work {
            DraftWork::Kernel { kernel, arguments } => {
                let code = &program.kernels[*kernel];
                scratch_bytes = code.scratch_bytes();
                let extent = usize::try_from(code.parallel_extent()).unwrap_or(0);
                let split = cost::split(extent, step.flops, step.bytes);
                Work::Kernel {
                    kernel: *kernel,
                    arguments: arguments.iter().map(&mut argument).collect(),
                    extent,
                    split,
                }
            }
            DraftWork::Copy { from, to } => Work::Copy { from: argument(from), to: argument(to) },
            DraftWork::Fill { to, element } => Work::Fill { to: argument(to), element: *element },
        };
        steps.push(Step {
            label: step.label.clone(),
            work,
            flops: step.flops,
            bytes: step.bytes,
            scratch_bytes,
            note: step.note.clone(),
        });
        most_scratch = most_scratch.max(scratch_bytes);
    }
    let states = program.states.iter().zip(initial).map(|(s, initial)| StateSpec { spec: s.spec.clone(), initial });
    let Layout { bytes: arena_bytes, lower_bound: arena_lower_bound, .. } = layout;
    let plan = Plan {
        states: states.collect(),
        buffers,
        steps,
        kernel_count: program.kernels.len(),
        weight_bytes: weights.len(),
        arena_bytes,
        arena_lower_bound,
        scratch_bytes: most_scratch,
        signature: program.signature,
    };
    Ok(Planned { plan, kernels: program.kernels, weights, packed })
}

/// The life of every temporary that some step touches.
fn lives(program: &Program) -> HashMap<StorageId, Life> {
    let mut lives: HashMap<StorageId, Life> = HashMap::new();
    for (index, step) in program.steps.iter().enumerate() {
        for u in step.work.uses() {
            let storage = &program.storages[u.storage.0];
            if matches!(storage.place, Place::Temporary) {
                let life = Life { first: index, last: index, bytes: storage.bytes };
                lives.entry(u.storage).or_insert(life).last = index;
            }
        }
    }
    lives
}

/// The weight section, and where things are in it.
struct Collected {
    weights: Weights,
    offsets: HashMap<StorageId, usize>,
    /// First values of the states.
    initial: Vec<usize>,
    packed: Vec<(Tensor, PackedWeight)>,
}

/// The weight section: every weight that some step reads, packed on `threads` threads, and the states' first values.
fn collect_weights(program: &Program, threads: usize) -> Result<Collected, LowerError> {
    let mut used: Vec<(StorageId, &Weight, &str)> = Vec::new();
    let mut seen = vec![false; program.storages.len()];
    for (step, u) in program.steps.iter().flat_map(|s| s.work.uses().into_iter().map(|u| (s.label.as_str(), u))) {
        if let Place::Weight(weight) = &program.storages[u.storage.0].place
            && !std::mem::replace(&mut seen[u.storage.0], true)
        {
            used.push((u.storage, weight, step));
        }
    }
    let contents = in_parallel(&used, threads, Vec::new, |scratch, (_, weight, _)| match weight {
        Weight::Plain(bytes) => Ok(bytes.clone()),
        Weight::Packed(tensor, relayout) => relayout.pack(tensor.bytes_in(scratch), tensor.dtype().size()),
        Weight::Transformed(filter, transform) => Ok(transform.apply(filter.bytes_in(scratch))),
    });
    let mut builder = WeightsBuilder::new();
    let mut offsets = HashMap::new();
    let mut packed = Vec::new();
    for ((id, weight, step), bytes) in used.iter().zip(contents) {
        let bytes = bytes.map_err(|_| LowerError::Mismatch { step: (*step).to_owned() })?;
        let len = bytes.len();
        let offset = builder.push(bytes);
        offsets.insert(*id, offset);
        if let Weight::Packed(plain, relayout) = weight {
            packed.push((plain.clone(), PackedWeight { native: 0, offset, len, relayout: relayout.clone() }));
        }
    }
    let initial = program.states.iter().map(|s| builder.push(s.initial.bytes().clone())).collect();
    Ok(Collected { weights: builder.finish(), offsets, initial, packed })
}
