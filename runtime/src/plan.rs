//! The static execution plan: what a compiled program does, as data.
//!
//! A plan is a list of *buffers* (places in memory known before the first run) and a list of *steps* that are
//! walked in order. It owns no memory and no code: [`crate::Executable`] joins it with kernels and weights,
//! [`crate::Executor`] gives it an arena. It is plain data, so it is stored in an artifact as it is.
//!
//! ```text
//!   steps:    0 kernel 3 [read x, read w, write t]   1 fill t'   2 kernel 0 [read t, write y]   ...
//!   buffers:  x = input 0     w = weights[0..9408]    t = arena[0..]    y = output 0
//! ```
//!
//! Rules, all checked by [`Plan::validate`]:
//! - an argument lies inside its buffer and starts at a multiple of its element size;
//! - arena and weight buffers start at multiples of [`ALIGNMENT`];
//! - weights and inputs are only read; every byte of an output is written;
//! - a value has one buffer: what a step reads from the arena was last written *through the same buffer*, so two
//!   values that share bytes while both are live are found. A view (reshape, slice) is the same buffer at another
//!   offset, never a second buffer;
//! - inside a step, what is written overlaps nothing else, except a read of exactly the same range (in place).

use kiln_ir::DType;
use serde::{Deserialize, Serialize};

use crate::signature::{Signature, TensorSpec};
use crate::validate::{self, PlanError};

/// Alignment in bytes of the arena, the weights, the states and the scratch, and of every buffer inside the first
/// two: one cache line, and the widest vector register of x86-64.
pub const ALIGNMENT: usize = 64;

/// The static execution plan of one compiled program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Inputs, outputs and metadata.
    pub signature: Signature,
    /// Persistent variables.
    pub states: Vec<StateSpec>,
    /// Places in memory that steps refer to by index.
    pub buffers: Vec<Buffer>,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// Kernels in the kernel table that goes with this plan.
    pub kernel_count: usize,
    /// Bytes of the weight section that goes with this plan.
    pub weight_bytes: usize,
    /// Bytes of the arena, which holds every intermediate value.
    pub arena_bytes: usize,
    /// The most bytes of intermediates that are live at one step: no arena can be smaller. Reported only.
    pub arena_lower_bound: usize,
    /// Bytes of scratch each thread needs while it runs a kernel.
    pub scratch_bytes: usize,
}

/// A variable that keeps its value from run to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSpec {
    /// Name, element type and extents.
    pub spec: TensorSpec,
    /// Offset in the weight section of the value it starts with.
    pub initial: usize,
}

/// A place in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Buffer {
    /// The caller's memory of the input with this index: read in place. Aligned to its element size only.
    Input(usize),
    /// The caller's memory of the output with this index: written in place. Aligned to its element size only.
    Output(usize),
    /// A range of the weight section; read only.
    Weight {
        /// First byte, a multiple of [`ALIGNMENT`].
        offset: usize,
        /// Length in bytes.
        len: usize,
    },
    /// A range of the arena.
    Arena {
        /// First byte, a multiple of [`ALIGNMENT`].
        offset: usize,
        /// Length in bytes.
        len: usize,
    },
    /// The persistent variable with this index.
    State(usize),
}

/// How a step uses an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Only reads it.
    Read,
    /// Writes it, and reads nothing from it that it did not write.
    Write,
    /// Reads what was there and writes.
    ReadWrite,
}

impl Access {
    /// Whether the step sees bytes that were there before it.
    pub fn reads(self) -> bool {
        matches!(self, Access::Read | Access::ReadWrite)
    }

    /// Whether the step changes bytes.
    pub fn writes(self) -> bool {
        matches!(self, Access::Write | Access::ReadWrite)
    }
}

/// A view of a buffer that a step gets a pointer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Argument {
    /// Index into [`Plan::buffers`].
    pub buffer: usize,
    /// Element type behind the pointer; `offset` is a multiple of its size.
    pub dtype: DType,
    /// First byte, from the start of the buffer.
    pub offset: usize,
    /// Bytes from the first one touched to the last, inclusive.
    pub len: usize,
    /// What the step does with it.
    pub access: Access,
    /// Whether the bytes touched have gaps between them (a channel slice of a wider tensor, say). Overlap with
    /// such an argument cannot be told from its range, so it is not reported as a hazard.
    pub strided: bool,
}

impl Argument {
    /// A dense view that is only read.
    pub fn read(buffer: usize, dtype: DType, offset: usize, len: usize) -> Argument {
        Argument { buffer, dtype, offset, len, access: Access::Read, strided: false }
    }

    /// A dense view that is written.
    pub fn write(buffer: usize, dtype: DType, offset: usize, len: usize) -> Argument {
        Argument { access: Access::Write, ..Argument::read(buffer, dtype, offset, len) }
    }

    /// A dense view that is updated.
    pub fn read_write(buffer: usize, dtype: DType, offset: usize, len: usize) -> Argument {
        Argument { access: Access::ReadWrite, ..Argument::read(buffer, dtype, offset, len) }
    }

    /// The same view, with gaps between the bytes it touches.
    pub fn with_gaps(self) -> Argument {
        Argument { strided: true, ..self }
    }
}

/// One thing to do, with what the profile says about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Op and node name, for people: `fused_conv layer1/conv2`.
    pub label: String,
    /// What to do.
    pub work: Work,
    /// Floating-point operations, a multiply-add counting as two.
    pub flops: u64,
    /// Bytes read and written at least once.
    pub bytes: u64,
    /// Bytes of scratch that each thread needs for it.
    pub scratch_bytes: usize,
    /// By which algorithm it is computed and why, for people; empty where there was no choice.
    pub note: String,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Calls a kernel over `0..extent` of its one parallel loop.
    Kernel {
        /// Index into the kernel table.
        kernel: usize,
        /// Pointers that the kernel gets, in order.
        arguments: Vec<Argument>,
        /// Iterations of the kernel's parallel loop.
        extent: usize,
        /// How the iterations may be shared between threads.
        split: Split,
    },
    /// Copies `to.len` bytes, which `from.len` equals. The two ranges may overlap.
    Copy {
        /// Source, [`Access::Read`].
        from: Argument,
        /// Destination, [`Access::Write`].
        to: Argument,
    },
    /// Sets every element of a view to one value.
    Fill {
        /// Destination, [`Access::Write`]; `len` is a multiple of the element size.
        to: Argument,
        /// The element's little-endian bits, in the low `dtype.size()` bytes.
        element: u64,
    },
}

impl Work {
    /// The views this step touches, in kernel argument order (copy: source, destination).
    pub fn arguments(&self) -> impl Iterator<Item = &Argument> {
        let (list, pair) = match self {
            Work::Kernel { arguments, .. } => (arguments.as_slice(), [None, None]),
            Work::Copy { from, to } => (&[][..], [Some(from), Some(to)]),
            Work::Fill { to, .. } => (&[][..], [Some(to), None]),
        };
        list.iter().chain(pair.into_iter().flatten())
    }
}

/// How a kernel's parallel loop is shared between threads. No choice changes a result: a kernel computes each
/// iteration the same way whatever range it is called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Split {
    /// One call on one thread: too small to pay for a dispatch.
    Serial,
    /// Calls on any threads, each beginning at a multiple of `grain`.
    Parallel {
        /// The fewest iterations worth a call of their own, at least 1.
        grain: usize,
    },
}

impl Plan {
    /// Checks every rule in the module documentation and reports all that are broken.
    pub fn validate(&self) -> Result<(), PlanError> {
        validate::validate(self)
    }

    /// Floating-point operations of one run.
    pub fn flops(&self) -> u64 {
        self.steps.iter().fold(0, |n, s| n.saturating_add(s.flops))
    }
}
