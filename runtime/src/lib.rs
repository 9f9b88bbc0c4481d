//! kiln-runtime
mod call;
mod erased_job;
pub mod executable;
pub mod executor;
pub mod feeds;
pub mod kernel;
pub mod plan;
pub mod pool;
pub mod profile;
pub mod signature;
pub mod validate;
pub mod weights;

pub use executable::{Executable, ExecutableError};
pub use executor::{Executor, MemoryError, RunError};
pub use feeds::{FeedError, FeedProblem};
pub use kernel::{KernelFn, KernelTable};
pub use plan::{ALIGNMENT, Access, Argument, Buffer, Plan, Split, StateSpec, Step, Work};
pub use pool::PoolHandle;
pub use profile::{Profile, ProfileRow};
pub use signature::{Signature, TensorSpec};
pub use validate::{PlanError, PlanProblem};
pub use weights::{Weights, WeightsBuilder};
