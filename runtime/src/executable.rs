//! A compiled program: plan, kernels and weights, immutable and shared.

use std::sync::Arc;

use crate::kernel::KernelTable;
use crate::plan::{ALIGNMENT, Buffer, Plan};
use crate::signature::Signature;
use crate::validate::PlanError;
use crate::weights::Weights;

/// A compiled program. Any number of [`crate::Executor`]s run it, at the same time too.
#[derive(Debug)]
pub struct Executable {
    plan: Plan,
    kernels: KernelTable,
    weights: Weights,
}

/// Plan, kernels and weights that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecutableError {
    /// The plan breaks its own rules.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The kernel table has another length than the plan says.
    #[error("the plan expects {expected} kernels, found {found}; compile the model again")]
    Kernels {
        /// Kernels the plan refers to.
        expected: usize,
        /// Kernels in the table.
        found: usize,
    },
    /// The weight section is too short, or a buffer straddles two of its pieces.
    #[error(
        "the plan expects weight bytes {start}..{end}, which the weight section of {found} bytes has not in one piece; compile the model again"
    )]
    Weights {
        /// First byte expected.
        start: usize,
        /// One past the last byte expected.
        end: usize,
        /// Length of the section.
        found: usize,
    },
    /// Weights are stored little-endian and kernels read them in place.
    #[error(
        "native code runs on little-endian machines only, and this one is big-endian; interpret the portable graph instead"
    )]
    BigEndian,
}

impl Executable {
    /// Joins a plan with its kernels and weights, after checking all that can be checked.
    ///
    /// # Safety
    /// The caller vouches for what cannot be checked: each kernel obeys the contract of [`crate::KernelFn`], and
    /// touches, when called with the arguments and any part of the extent its steps give, only the bytes those
    /// arguments declare, in the way they declare, and [`Plan::scratch_bytes`] of scratch.
    pub unsafe fn new(plan: Plan, kernels: KernelTable, weights: Weights) -> Result<Arc<Executable>, ExecutableError> {
        if cfg!(target_endian = "big") {
            return Err(ExecutableError::BigEndian);
        }
        plan.validate()?;
        if kernels.len() != plan.kernel_count {
            return Err(ExecutableError::Kernels { expected: plan.kernel_count, found: kernels.len() });
        }
        let executable = Executable { plan, kernels, weights };
        let initials = executable.plan.states.iter().map(|s| (s.initial, s.spec.byte_len().unwrap_or(0)));
        let buffers = executable.plan.buffers.iter().filter_map(|b| match *b {
            Buffer::Weight { offset, len } => Some((offset, len)),
            _ => None,
        });
        for (start, len) in buffers.chain(initials) {
            let there = executable.weights.get(start, len);
            if there.is_none_or(|b| len > 0 && !b.as_ptr().addr().is_multiple_of(ALIGNMENT)) {
                let (end, found) = (start.saturating_add(len), executable.weights.len());
                return Err(ExecutableError::Weights { start, end, found });
            }
        }
        Ok(Arc::new(executable))
    }

    /// What is done, in order.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Inputs, outputs and metadata.
    pub fn signature(&self) -> &Signature {
        &self.plan.signature
    }

    /// The kernels.
    pub fn kernels(&self) -> &KernelTable {
        &self.kernels
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }
}
