//! The run time: what is needed to run a compiled model, and nothing that is needed to compile one.
//!
//! A compiled model is a [`Plan`] (buffers and steps, as data), a [`KernelTable`] (leaf functions) and [`Weights`]
//! (bytes). Together they are an [`Executable`], immutable and shared. An [`Executor`] gives it an arena, scratch and
//! variables, and runs it on a thread pool. All three parts also go into and come out of one file, an [`artifact`].
//!
//! ```text
//!                     compiler (another crate)
//!                         │ Plan, KernelCode or KernelTable, Weights
//!        Artifact ◄───────┤
//!   to_bytes │ write      ▼
//!            ▼        Executable ──► Executor::run(inputs, outputs)
//!         one file ──►    ▲             │ walks the plan's steps
//!            │ load_native│             ├── kernel(args, scratch, begin, end)  on PoolHandle's threads
//!            │            │             ├── copy, fill
//!            │ load ──► PortableCompiler└── Profile: time per step, where asked for
//!            │ interpret ──► Interpreted::run_named(feeds), without any code
//!            └ inspect ──► Summary
//! ```
//!
//! A run reads inputs from the caller's slices and writes outputs to them; intermediates lie in the arena at offsets
//! the plan gives; weights are read where they lie, which after a native load is in the mapped file.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use kiln_ir::{DType, Tensor};
//! use kiln_runtime::*;
//!
//! /// `args[1][i] = 2 * args[0][i]`, i64.
//! unsafe extern "C" fn double(args: *const *mut u8, _scratch: *mut u8, begin: i64, end: i64) {
//!     for i in begin as usize..end as usize {
//!         unsafe { *(*args.add(1)).cast::<i64>().add(i) = 2 * *(*args).cast::<i64>().add(i) };
//!     }
//! }
//!
//! let plan = Plan {
//!     signature: Signature {
//!         inputs: vec![TensorSpec::new("x", DType::I64, [3])],
//!         outputs: vec![TensorSpec::new("y", DType::I64, [3])],
//!         metadata: Default::default(),
//!     },
//!     buffers: vec![Buffer::Input(0), Buffer::Output(0)],
//!     steps: vec![Step {
//!         label: "double x".to_owned(),
//!         work: Work::Kernel {
//!             kernel: 0,
//!             arguments: vec![Argument::read(0, DType::I64, 0, 24), Argument::write(1, DType::I64, 0, 24)],
//!             extent: 3,
//!             split: Split::Serial,
//!         },
//!         flops: 0,
//!         bytes: 48,
//!         scratch_bytes: 0,
//!         note: String::new(),
//!     }],
//!     kernel_count: 1,
//!     ..Plan::default()
//! };
//! let kernels = KernelTable::new(vec![double], Arc::new(()));
//! // SAFETY: the kernel touches what its two arguments declare.
//! let executable = unsafe { Executable::new(plan, kernels, Weights::default())? };
//! let mut executor = Executor::new(executable, PoolHandle::new(1))?;
//! let x = Tensor::from_slice(&[3], &[1i64, 2, 3])?;
//! assert_eq!(executor.run_named(&[("x", &x)])?[0].1.to_vec::<i64>()?, [2, 4, 6]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Invariants
//! - **No compiler.** Nothing here depends on `kiln-passes`, `kiln-codegen`, egg or Cranelift; a test reads the lock
//!   file. A compiler comes in through [`artifact::PortableCompiler`].
//! - **A plan is verified before it runs.** There is no way to an [`Executable`] but through [`Plan::validate`], which
//!   finds values that share memory while both are live, among other things.
//! - **No allocation per run.** After the first run on slices of the same alignment, a run allocates nothing on any
//!   thread; a test counts.
//! - **The same bits on any number of threads.** Threads share a loop by ranges, and a kernel computes an iteration
//!   the same way whatever range contains it.
//! - **Alignment.** Arena, weights, variables and scratch start at multiples of [`ALIGNMENT`]. The caller's slices are
//!   aligned to their elements, if need be by a copy; kernels may assume no more of them.
//! - **Bad input gives an error, all of it at once**: feeds ([`FeedError`]), plans ([`PlanError`]), files
//!   ([`ArtifactError`]). Bytes from anywhere may be inspected and loaded portably.
//! - **Unsafe code** is in four modules, each with its contract above: `call` (kernels on raw pointers),
//!   `code_memory` (bytes become functions), `mapped_file` (files as memory), `erased_job` (a borrowed closure on
//!   other threads). Four functions are `unsafe` to call, because they run code they cannot check:
//!   [`Executable::new`], [`artifact::load_native`], [`artifact::load_native_file`] and, in effect, any [`KernelFn`].
//! - **Little-endian.** Weights and tensors are stored little-endian and kernels read them in place, so big-endian
//!   machines get an error from [`Executable::new`].

pub mod artifact;
pub mod atomic_file;
mod call;
pub mod code_memory;
pub mod cpu;
mod erased_job;
pub mod executable;
pub mod executor;
pub mod feeds;
pub mod interpreted;
pub mod kernel;
mod mapped_file;
pub mod plan;
pub mod pool;
pub mod profile;
pub mod relayout;
pub mod signature;
pub mod validate;
pub mod weights;

pub use artifact::{Artifact, ArtifactError};
pub use code_memory::{KernelCode, KernelRange};
pub use executable::{Executable, ExecutableError};
pub use executor::{Executor, MemoryError, RunError};
pub use feeds::{FeedError, FeedProblem, check_feeds};
pub use interpreted::Interpreted;
pub use kernel::{KernelFn, KernelTable};
pub use plan::{ALIGNMENT, Access, Argument, Buffer, Plan, Split, StateSpec, Step, Work};
pub use pool::PoolHandle;
pub use profile::{Profile, ProfileRow};
pub use relayout::{Piece, Relayout};
pub use signature::{Signature, TensorSpec};
pub use validate::{PlanError, PlanProblem};
pub use weights::{AlignedBuffer, Weights, WeightsBuilder};
