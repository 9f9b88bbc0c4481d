//! Unsafe: raw pointers into arena, weights, states and the caller's slices, and the calls of kernels with them.
//!
//! **Contract.** A [`Frame`] turns every argument of a verified plan into an address once, when it is made; what
//! changes from run to run (the caller's slices) is patched in before the first step of each run. So every address a
//! kernel gets is valid for the bytes its plan declares because
//! - the plan passed its verifier ([`Executable::new`] is the only way to have one): arguments lie inside their
//!   buffers, buffers inside their sections;
//! - arena, states and scratch are owned by the frame, are as large as the plan says, and never move;
//! - weights are kept by the executable, which the frame keeps, and the plan never writes to them;
//! - the caller's slices are checked for length at the top of [`Frame::run`], which borrows them until it returns;
//!   slices that are not aligned to their elements are replaced by aligned copies;
//! - each thread gets scratch of its own, because a pool never runs two calls with one thread number at a time.
//!
//! What kernels do with these addresses is vouched for by whoever called [`Executable::new`].

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use memmap2::MmapMut;

use crate::executable::Executable;
use crate::feeds::{FeedError, FeedProblem, check_slices, finish, zeros};
use crate::kernel::KernelFn;
use crate::plan::{ALIGNMENT, Argument, Buffer, Split, Work};
use crate::pool::PoolHandle;
use crate::profile::Profile;
use crate::signature::TensorSpec;

/// Memory that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The system refused memory.
    #[error(
        "cannot get {bytes} bytes for the {what}: {source}; free memory, or compile for smaller extents or fewer threads"
    )]
    Refused {
        /// What the memory is for.
        what: &'static str,
        /// How much was asked for.
        bytes: usize,
        /// What the system said.
        source: io::Error,
    },
    /// A verified plan whose arguments do not resolve: a fault of ours.
    #[error(
        "argument of step {step} does not resolve although the plan was verified: this is a bug in Kiln, please report it"
    )]
    Unresolved {
        /// Position in the plan.
        step: usize,
    },
}

/// A step, ready to perform. `first` and friends index [`Frame::pointers`].
enum Action {
    /// A loop of no iterations; keeps actions and plan steps in step.
    Nothing,
    Kernel {
        entry: KernelFn,
        first: usize,
        extent: usize,
        /// The extent where the kernel is not shared.
        grain: usize,
    },
    Copy {
        from: usize,
        to: usize,
        len: usize,
    },
    Fill {
        to: usize,
        len: usize,
        element: u64,
        size: usize,
    },
}

/// An address to patch at each run.
struct Binding {
    slot: usize,
    index: usize,
    offset: usize,
}

/// Memory and addresses of one executor.
pub(crate) struct Frame {
    executable: Arc<Executable>,
    pool: PoolHandle,
    actions: Vec<Action>,
    pointers: Vec<*mut u8>,
    inputs: Vec<Binding>,
    outputs: Vec<Binding>,
    /// Where an input or output goes whose slice cannot be used in place.
    input_staging: Vec<Staging>,
    output_staging: Vec<Staging>,
    /// Where each input and output lies in this run; dead between runs.
    input_starts: Vec<*mut u8>,
    output_starts: Vec<*mut u8>,
    arena: MmapMut,
    states: MmapMut,
    state_ranges: Vec<Range<usize>>,
    scratch: MmapMut,
    scratch_stride: usize,
}

// SAFETY: the pointers go to memory the frame owns or keeps alive, or are dead between runs; nothing is thread-bound.
unsafe impl Send for Frame {}

/// Bytes of a huge page, on most systems that have any.
const HUGE_PAGE: usize = 2 << 20;
/// Bytes from which memory is given whole huge pages: transforms touch more small ones at once than a TLB has entries.
const WORTH_A_HUGE_PAGE: usize = 512 << 10;

fn anonymous(what: &'static str, bytes: usize) -> Result<MmapMut, MemoryError> {
    let refused = |source| MemoryError::Refused { what, bytes, source };
    if isize::try_from(bytes).is_err() {
        return Err(refused(io::Error::from(io::ErrorKind::OutOfMemory)));
    }
    let huge = cfg!(target_os = "linux") && bytes >= WORTH_A_HUGE_PAGE;
    // Linux aligns a mapping to huge pages only where it is whole ones long.
    let whole = if huge { bytes.div_ceil(HUGE_PAGE).saturating_mul(HUGE_PAGE) } else { bytes.max(1) };
    let map = MmapMut::map_anon(whole).map_err(refused)?;
    #[cfg(target_os = "linux")]
    if huge {
        // Advice only: fewer TLB misses where the system grants it.
        let _ = map.advise(memmap2::Advice::HugePage);
    }
    Ok(map)
}

impl Frame {
    pub(crate) fn new(executable: Arc<Executable>, pool: PoolHandle) -> Result<Frame, MemoryError> {
        let plan = executable.plan();
        let mut state_ranges = Vec::with_capacity(plan.states.len());
        let mut state_bytes = 0usize;
        for state in &plan.states {
            let end = state_bytes.saturating_add(state.spec.byte_len().unwrap_or(usize::MAX));
            state_ranges.push(state_bytes..end);
            state_bytes = end.saturating_add(ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        }
        // Twice the line size: processors prefetch lines in pairs.
        let scratch_stride = plan.scratch_bytes.saturating_add(2 * ALIGNMENT - 1) / (2 * ALIGNMENT) * (2 * ALIGNMENT);
        let mut frame = Frame {
            actions: Vec::with_capacity(plan.steps.len()),
            pointers: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            input_staging: plan.signature.inputs.iter().map(|_| Staging::default()).collect(),
            output_staging: plan.signature.outputs.iter().map(|_| Staging::default()).collect(),
            input_starts: vec![std::ptr::null_mut(); plan.signature.inputs.len()],
            output_starts: vec![std::ptr::null_mut(); plan.signature.outputs.len()],
            arena: anonymous("arena", plan.arena_bytes)?,
            states: anonymous("states", state_bytes)?,
            state_ranges,
            scratch: anonymous("scratch", scratch_stride.saturating_mul(pool.threads()))?,
            scratch_stride,
            executable: Arc::clone(&executable),
            pool,
        };
        for (index, step) in plan.steps.iter().enumerate() {
            frame.add(&step.work).ok_or(MemoryError::Unresolved { step: index })?;
        }
        frame.reset_states();
        Ok(frame)
    }

    /// Appends a step; `None` where it does not resolve.
    fn add(&mut self, work: &Work) -> Option<()> {
        let first = self.pointers.len();
        for argument in work.arguments() {
            let pointer = self.resolve(argument)?;
            self.pointers.push(pointer);
        }
        self.actions.push(match *work {
            Work::Kernel { extent: 0, .. } => Action::Nothing,
            Work::Kernel { kernel, extent, split, .. } => {
                let entry = self.executable.kernels().get(kernel)?;
                Action::Kernel {
                    entry,
                    first,
                    extent,
                    grain: if let Split::Parallel { grain } = split { grain } else { extent },
                }
            }
            Work::Copy { to, .. } => Action::Copy { from: first, to: first + 1, len: to.len },
            Work::Fill { to, element } => Action::Fill { to: first, len: to.len, element, size: to.dtype.size() },
        });
        Some(())
    }

    fn resolve(&mut self, argument: &Argument) -> Option<*mut u8> {
        let slot = self.pointers.len();
        let executable = Arc::clone(&self.executable);
        let plan = executable.plan();
        let within = |start: usize, len: usize, size: usize| {
            let first = start.checked_add(argument.offset)?;
            (argument.offset.checked_add(argument.len)? <= len && start.checked_add(len)? <= size).then_some(first)
        };
        let dangling = std::ptr::without_provenance_mut::<u8>(ALIGNMENT);
        Some(match *plan.buffers.get(argument.buffer)? {
            Buffer::Input(index) => {
                let len = plan.signature.inputs.get(index)?.byte_len()?;
                self.inputs.push(Binding { slot, index, offset: within(0, len, len)? });
                dangling
            }
            Buffer::Output(index) => {
                let len = plan.signature.outputs.get(index)?.byte_len()?;
                self.outputs.push(Binding { slot, index, offset: within(0, len, len)? });
                dangling
            }
            Buffer::Weight { offset, len } => {
                let weight = self.executable.weights().get(offset, len)?;
                let first = within(0, len, weight.len())?;
                if weight.is_empty() { dangling } else { weight.as_ptr().wrapping_add(first).cast_mut() }
            }
            Buffer::Arena { offset, len } => {
                let first = within(offset, len, self.arena.len())?;
                self.arena.as_mut_ptr().wrapping_add(first)
            }
            Buffer::State(index) => {
                let range = self.state_ranges.get(index)?;
                let first = within(range.start, range.len(), self.states.len())?;
                self.states.as_mut_ptr().wrapping_add(first)
            }
        })
    }

    pub(crate) fn executable(&self) -> &Arc<Executable> {
        &self.executable
    }

    pub(crate) fn pool(&self) -> &PoolHandle {
        &self.pool
    }

    /// Gives every state the value it started with.
    pub(crate) fn reset_states(&mut self) {
        let executable = Arc::clone(&self.executable);
        for (range, state) in self.state_ranges.iter().zip(&executable.plan().states) {
            let initial = executable.weights().get(state.initial, range.len());
            if let (Some(to), Some(from)) = (self.states.get_mut(range.clone()), initial) {
                to.copy_from_slice(from);
            }
        }
    }

    /// The bytes of state `index`.
    pub(crate) fn state(&self, index: usize) -> Option<&[u8]> {
        self.states.get(self.state_ranges.get(index)?.clone())
    }

    /// The bytes of state `index`, to change between runs.
    pub(crate) fn state_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        self.states.get_mut(self.state_ranges.get(index)?.clone())
    }

    /// Runs every step once. Allocates nothing after the first run with slices of the same alignment.
    pub(crate) fn run(
        &mut self,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        profile: Option<&mut Profile>,
    ) -> Result<(), FeedError> {
        let executable = Arc::clone(&self.executable);
        let signature = executable.signature();
        check_slices(signature, inputs, outputs)?;
        // One address per slice and run: every argument that lies in the slice is derived from it.
        let fed = inputs.iter().zip(&signature.inputs).zip(&mut self.input_staging).zip(&mut self.input_starts);
        let mut problems = Vec::new();
        for (((slice, spec), staging), start) in fed {
            match staging.take_input(spec, slice) {
                Ok(staged) => *start = staged.unwrap_or(slice.as_ptr().cast_mut()),
                Err(problem) => problems.push(problem),
            }
        }
        let filled =
            outputs.iter_mut().zip(&signature.outputs).zip(&mut self.output_staging).zip(&mut self.output_starts);
        for (((slice, spec), staging), start) in filled {
            match staging.take_output(spec, slice) {
                Ok(staged) => *start = staged.unwrap_or(slice.as_mut_ptr()),
                Err(problem) => problems.push(problem),
            }
        }
        finish(problems)?;
        for (bindings, starts) in [(&self.inputs, &self.input_starts), (&self.outputs, &self.output_starts)] {
            for binding in bindings {
                if let (Some(start), Some(slot)) = (starts.get(binding.index), self.pointers.get_mut(binding.slot)) {
                    *slot = start.wrapping_add(binding.offset);
                }
            }
        }
        match profile {
            None => self.actions.iter().for_each(|action| self.perform(action)),
            Some(profile) => {
                let mut before = Instant::now();
                for (index, action) in self.actions.iter().enumerate() {
                    self.perform(action);
                    let now = Instant::now();
                    profile.add(index, now.duration_since(before));
                    before = now;
                }
            }
        }
        for (slice, staging) in outputs.iter_mut().zip(&self.output_staging) {
            staging.give_output(slice);
        }
        Ok(())
    }

    /// Performs one step. Called only from [`Frame::run`], after this run's addresses were patched in.
    fn perform(&self, action: &Action) {
        let at = |index: usize| self.pointers.as_ptr().wrapping_add(index);
        match *action {
            Action::Nothing => {}
            Action::Kernel { entry, first, extent, grain } => {
                let call = Call { entry, arguments: at(first), scratch: self.scratch.as_ptr().cast_mut() };
                let stride = self.scratch_stride;
                if grain >= extent {
                    // SAFETY: see the module's contract; thread 0's scratch is this thread's.
                    unsafe { call.run(0, 0, extent) };
                } else {
                    self.pool.for_each_chunk(extent, grain, &|thread, begin, end| {
                        // SAFETY: as above; `thread` is less than the pool's threads, for which there is scratch.
                        unsafe { call.run(thread * stride, begin, end) }
                    });
                }
            }
            Action::Copy { from, to, len } => {
                // SAFETY: both indices were pushed together with the action; both ranges are valid for `len` bytes.
                unsafe { std::ptr::copy((*at(from)).cast_const(), *at(to), len) };
            }
            Action::Fill { to, len, element, size } => {
                // SAFETY: the range is valid for `len` bytes and aligned to `size`, of which `len` is a multiple.
                unsafe {
                    let start = *at(to);
                    match size {
                        1 => std::slice::from_raw_parts_mut(start, len).fill(element as u8),
                        2 => std::slice::from_raw_parts_mut(start.cast(), len / 2).fill(element as u16),
                        4 => std::slice::from_raw_parts_mut(start.cast(), len / 4).fill(element as u32),
                        _ => std::slice::from_raw_parts_mut(start.cast(), len / 8).fill(element),
                    }
                }
            }
        }
    }
}

/// A kernel with its addresses, to be called from several threads.
struct Call {
    entry: KernelFn,
    arguments: *const *mut u8,
    scratch: *mut u8,
}

// SAFETY: what the pointers lead to outlives the dispatch that shares this, and threads write to disjoint parts: that
// calls over disjoint iterations may run at once is part of the kernel contract.
unsafe impl Sync for Call {}

impl Call {
    /// # Safety
    /// The addresses are valid as the plan declares, and `scratch_offset` is that of a scratch nobody else uses.
    unsafe fn run(&self, scratch_offset: usize, begin: usize, end: usize) {
        // SAFETY: by this function's contract; the verifier bounds the extent by `i64::MAX`.
        unsafe { (self.entry)(self.arguments, self.scratch.add(scratch_offset), begin as i64, end as i64) };
    }
}

/// An aligned stand-in for a caller's slice; in use only in runs whose slice cannot be used in place.
#[derive(Default)]
struct Staging {
    bytes: Vec<u8>,
    range: Option<Range<usize>>,
}

impl Staging {
    /// Makes room for `len` bytes aligned to `size`: a whole `what`, which is `spec`.
    fn reserve(
        &mut self,
        len: usize,
        size: usize,
        what: &'static str,
        spec: &TensorSpec,
    ) -> Result<&mut [u8], FeedProblem> {
        if self.bytes.len() < len.saturating_add(size) {
            self.bytes = zeros(len.saturating_add(size), what, spec)?;
        }
        let padding = (size - self.bytes.as_ptr().addr() % size) % size;
        let range = padding..padding + len;
        self.range = Some(range.clone());
        Ok(self.bytes.get_mut(range).unwrap_or_default())
    }

    /// Copies an input that is not aligned, or whose truth values are not 0 or 1: kernels rely on both. Returns
    /// where the copy is, if there is one.
    fn take_input(&mut self, spec: &TensorSpec, slice: &[u8]) -> Result<Option<*mut u8>, FeedProblem> {
        self.range = None;
        let truth = spec.dtype == kiln_ir::DType::Bool;
        if truth && slice.iter().any(|&b| b > 1) {
            let staged = self.reserve(slice.len(), 1, "input", spec)?;
            staged.iter_mut().zip(slice).for_each(|(to, &from)| *to = u8::from(from != 0));
            return Ok(Some(staged.as_mut_ptr()));
        }
        if slice.as_ptr().addr().is_multiple_of(spec.dtype.size()) {
            return Ok(None);
        }
        let staged = self.reserve(slice.len(), spec.dtype.size(), "input", spec)?;
        staged.copy_from_slice(slice);
        Ok(Some(staged.as_mut_ptr()))
    }

    /// Makes room for an output whose slice is not aligned. Returns where, if so.
    fn take_output(&mut self, spec: &TensorSpec, slice: &[u8]) -> Result<Option<*mut u8>, FeedProblem> {
        self.range = None;
        if slice.as_ptr().addr().is_multiple_of(spec.dtype.size()) {
            return Ok(None);
        }
        Ok(Some(self.reserve(slice.len(), spec.dtype.size(), "output", spec)?.as_mut_ptr()))
    }

    /// Copies a staged output to the caller.
    fn give_output(&self, slice: &mut [u8]) {
        if let Some(staged) = self.range.clone().and_then(|range| self.bytes.get(range)) {
            slice.copy_from_slice(staged);
        }
    }
}
