//! What lowering makes: steps over storages that have no address yet.

use std::collections::HashMap;

use bytes::Bytes;
use kiln_ir::{DType, Tensor};
use kiln_runtime::{Access, Relayout, Signature, TensorSpec};

use crate::kir::Kernel;
use crate::lower::FilterTransform;
use crate::tuning::Decision;

/// Index of a [`Storage`] of one [`Program`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorageId(pub usize);

/// What a storage is.
#[derive(Clone, Debug)]
pub enum Place {
    /// The caller's memory of an input.
    Input(usize),
    /// The caller's memory of an output.
    Output(usize),
    /// A variable that lives from run to run.
    State(usize),
    /// Bytes known at compile time.
    Weight(Weight),
    /// Memory of the arena: planned from its uses.
    Temporary,
}

/// Bytes known at compile time, made when the plan is built.
#[derive(Clone, Debug)]
pub enum Weight {
    /// As they are.
    Plain(Bytes),
    /// A tensor's elements in another order.
    Packed(Tensor, Relayout),
    /// A convolution's filter, transformed for Winograd's minimal filtering.
    Transformed(Tensor, FilterTransform),
}

/// A piece of memory that several values may share.
#[derive(Clone, Debug)]
pub struct Storage {
    /// What it is.
    pub place: Place,
    /// Its size.
    pub bytes: usize,
}

/// A dense row-major tensor somewhere in a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Where.
    pub storage: StorageId,
    /// First byte.
    pub offset: usize,
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub dims: Vec<usize>,
}

impl View {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.len() * self.dtype.size()
    }

    /// The same elements under other extents.
    pub fn reshaped(&self, dims: &[usize]) -> View {
        View { dims: dims.to_vec(), ..self.clone() }
    }

    /// A use of the whole view.
    pub fn used(&self, access: Access) -> Use {
        let (storage, offset, dtype) = (self.storage, self.offset, self.dtype);
        Use { storage, offset, len: self.bytes(), dtype, access, touched: self.bytes() }
    }

    /// A use of `elements` elements of the view, with gaps between them if these are not all.
    pub fn used_in_part(&self, access: Access, elements: usize) -> Use {
        let touched = elements.saturating_mul(self.dtype.size()).min(self.bytes());
        Use { touched, ..self.used(access) }
    }
}

/// How a step uses a range of a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// Which storage.
    pub storage: StorageId,
    /// First byte.
    pub offset: usize,
    /// Bytes.
    pub len: usize,
    /// Element type.
    pub dtype: DType,
    /// What is done.
    pub access: Access,
    /// Bytes of these that are read or written; those between are left alone.
    pub touched: usize,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum DraftWork {
    /// Runs a kernel of the program.
    Kernel {
        /// Which.
        kernel: usize,
        /// Its arguments.
        arguments: Vec<Use>,
    },
    /// Copies bytes.
    Copy {
        /// Source.
        from: Use,
        /// Destination, of equal length.
        to: Use,
    },
    /// Sets all elements.
    Fill {
        /// Destination.
        to: Use,
        /// Bits of the element.
        element: u64,
    },
}

impl DraftWork {
    /// The ranges it touches.
    pub fn uses(&self) -> Vec<&Use> {
        match self {
            DraftWork::Kernel { arguments, .. } => arguments.iter().collect(),
            DraftWork::Copy { from, to } => vec![from, to],
            DraftWork::Fill { to, .. } => vec![to],
        }
    }

    /// By how many bytes each use lies further than that of `before`; `None` where the two differ in more than that.
    pub fn moved_from(&self, before: &DraftWork) -> Option<Vec<isize>> {
        let same = match (self, before) {
            (DraftWork::Kernel { kernel, .. }, DraftWork::Kernel { kernel: other, .. }) => kernel == other,
            (DraftWork::Copy { .. }, DraftWork::Copy { .. }) => true,
            (DraftWork::Fill { element, .. }, DraftWork::Fill { element: other, .. }) => element == other,
            _ => false,
        };
        let (uses, earlier) = (self.uses(), before.uses());
        let by = |(a, b): (&&Use, &&Use)| {
            let moved = Use { offset: a.offset, ..(*b).clone() };
            (**a == moved).then_some(a.offset as isize - b.offset as isize)
        };
        if same && uses.len() == earlier.len() { uses.iter().zip(&earlier).map(by).collect() } else { None }
    }

    /// The same with each use so many bytes further.
    pub fn moved(&self, by: &[isize]) -> DraftWork {
        let mut work = self.clone();
        let uses: Vec<&mut Use> = match &mut work {
            DraftWork::Kernel { arguments, .. } => arguments.iter_mut().collect(),
            DraftWork::Copy { from, to } => vec![from, to],
            DraftWork::Fill { to, .. } => vec![to],
        };
        uses.into_iter().zip(by).for_each(|(u, &by)| u.offset = u.offset.wrapping_add_signed(by));
        work
    }
}

/// One step.
#[derive(Clone, Debug)]
pub struct DraftStep {
    /// For people.
    pub label: String,
    /// What it does.
    pub work: DraftWork,
    /// Arithmetic operations.
    pub flops: u64,
    /// Bytes read and written at least once.
    pub bytes: u64,
    /// How it is computed and why, where there was a choice.
    pub note: String,
}

/// A variable and what it starts as.
#[derive(Clone, Debug)]
pub struct DraftState {
    /// Name and type.
    pub spec: TensorSpec,
    /// First value.
    pub initial: Tensor,
}

/// A lowered graph.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Inputs, outputs and metadata.
    pub signature: Signature,
    /// Variables that are assigned.
    pub states: Vec<DraftState>,
    /// Memory.
    pub storages: Vec<Storage>,
    /// What is done, in order.
    pub steps: Vec<DraftStep>,
    /// Kernels, each once.
    pub kernels: Vec<Kernel>,
    /// What was decided.
    pub decisions: Vec<Decision>,
    /// Position of a kernel in `kernels`, by the kernel without its names.
    by_content: HashMap<Kernel, usize>,
}

impl Program {
    /// Nothing yet but an interface.
    pub fn new(signature: Signature) -> Program {
        Program { signature, ..Program::default() }
    }

    /// Adds a storage.
    pub fn add_storage(&mut self, place: Place, bytes: usize) -> StorageId {
        self.storages.push(Storage { place, bytes });
        StorageId(self.storages.len() - 1)
    }

    /// The index of `kernel`, which is added unless an equal one is there.
    pub fn add_kernel(&mut self, kernel: Kernel) -> usize {
        let at = self.kernels.len();
        let found = *self.by_content.entry(kernel.canonical()).or_insert(at);
        if found == at {
            self.kernels.push(kernel);
        }
        found
    }
}
