//! The kernel ABI and the table that a plan's kernel indices refer to.
//!
//! A kernel is a *leaf*: position-independent bytes that call nothing and need no relocations. So kernels can come
//! from a JIT that lives in another crate, from a mapped artifact, or (in tests) from Rust functions.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A compiled kernel.
///
/// - `args`: one pointer per argument of the step, in order. A pointer is aligned to its element size; one into the
///   arena, the weights or a state is the buffer's 64-byte aligned start plus the argument's offset.
/// - `scratch`: the calling thread's scratch of [`crate::Plan::scratch_bytes`], 64-byte aligned, with unspecified
///   contents.
/// - `begin..end`: which iterations of the parallel loop to run; `0 <= begin < end <= extent`.
///
/// A kernel reads and writes only inside its arguments' declared ranges and its scratch, neither unwinds nor blocks,
/// and computes an iteration the same way whatever range contains it.
pub type KernelFn = unsafe extern "C" fn(args: *const *mut u8, scratch: *mut u8, begin: i64, end: i64);

/// Kernels of one program, and what keeps their code in memory.
#[derive(Clone)]
pub struct KernelTable {
    entries: Vec<KernelFn>,
    /// Dropped after the entries; never looked into.
    _owner: Arc<dyn Any + Send + Sync>,
}

impl KernelTable {
    /// A table of kernels whose code lives as long as `owner` (a JIT's code arena, mapped memory, `Arc::new(())`
    /// for functions of this program).
    pub fn new(entries: Vec<KernelFn>, owner: Arc<dyn Any + Send + Sync>) -> KernelTable {
        KernelTable { entries, _owner: owner }
    }

    /// Number of kernels.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no kernels.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The kernel at `index`.
    pub fn get(&self, index: usize) -> Option<KernelFn> {
        self.entries.get(index).copied()
    }
}

impl fmt::Debug for KernelTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KernelTable({} kernels)", self.entries.len())
    }
}
