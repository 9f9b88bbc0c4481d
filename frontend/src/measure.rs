//! Figures about running time and memory.

use std::time::{Duration, Instant};

use kiln_ir::{BuildErrors, Tensor, TensorError};
use kiln_runtime::signature::UnboundError;
use kiln_runtime::{Executor, FeedError, MemoryError, RunError};

use crate::compile::CompileError;

/// Why a model, or a layer of it, cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// A layer alone is no graph.
    #[error(transparent)]
    Graph(#[from] BuildErrors),
    /// Some of its extents are names.
    #[error(transparent)]
    Unbound(#[from] UnboundError),
    /// It cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// It needs more memory than there is.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// It does not run on these inputs.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl From<FeedError> for MeasureError {
    fn from(error: FeedError) -> MeasureError {
        MeasureError::Run(error.into())
    }
}

impl From<TensorError> for MeasureError {
    fn from(error: TensorError) -> MeasureError {
        MeasureError::Run(error.into())
    }
}

/// A program with memory for what goes in and out, so that a run does nothing but run.
pub struct Bound {
    /// The program.
    pub executor: Executor,
    inputs: Vec<Tensor>,
    outputs: Vec<Vec<u8>>,
}

impl Bound {
    /// `inputs` are in signature order.
    pub fn new(executor: Executor, inputs: Vec<Tensor>) -> Result<Bound, FeedError> {
        let outputs = executor.output_buffers()?;
        Ok(Bound { executor, inputs, outputs })
    }

    /// Runs once, and says how long it took.
    pub fn run(&mut self) -> Result<Duration, FeedError> {
        let inputs: Vec<&[u8]> = self.inputs.iter().map(|t| &t.bytes()[..]).collect();
        let mut outputs: Vec<&mut [u8]> = self.outputs.iter_mut().map(Vec::as_mut_slice).collect();
        let start = Instant::now();
        self.executor.run(&inputs, &mut outputs)?;
        Ok(start.elapsed())
    }
}

/// Times of single runs, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// Sorts measured times; `None` where there are none.
    pub fn new(mut times: Vec<Duration>) -> Option<Latencies> {
        times.sort_unstable();
        (!times.is_empty()).then_some(Latencies(times))
    }

    /// The shortest, in milliseconds.
    pub fn min_ms(&self) -> f64 {
        self.at(0)
    }

    /// The middle one, or the mean of the two in the middle, in milliseconds.
    pub fn median_ms(&self) -> f64 {
        let n = self.0.len();
        (self.at((n - 1) / 2) + self.at(n / 2)) / 2.0
    }

    /// The time, in milliseconds, that `percent` % of the runs did not exceed (nearest rank).
    pub fn percentile_ms(&self, percent: usize) -> f64 {
        self.at((self.0.len() * percent).div_ceil(100).saturating_sub(1))
    }

    /// How many runs were measured.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: there is at least one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn at(&self, index: usize) -> f64 {
        self.0.get(index).or(self.0.last()).map_or(0.0, |time| milliseconds(*time))
    }
}

/// A time in milliseconds.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The most memory this process has had resident so far, in bytes; `None` where the system does not tell.
pub fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    peak_of(&status)
}

/// `VmHWM` of a Linux process status, proc(5).
fn peak_of(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ms: &[u64]) -> Latencies {
        Latencies::new(ms.iter().map(|&m| Duration::from_millis(m)).collect()).expect("some times")
    }

    #[test]
    fn figures_of_ten_runs() {
        let l = of(&[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!((l.min_ms(), l.median_ms(), l.percentile_ms(90), l.percentile_ms(100)), (1.0, 5.5, 9.0, 10.0));
    }

    #[test]
    fn one_run_is_all_its_figures_and_none_has_none() {
        let l = of(&[3]);
        assert_eq!((l.min_ms(), l.median_ms(), l.percentile_ms(90), l.percentile_ms(0)), (3.0, 3.0, 3.0, 3.0));
        assert_eq!(Latencies::new(Vec::new()), None);
    }

    #[test]
    fn the_peak_is_read_from_a_process_status() {
        assert_eq!(peak_of("VmPeak:\t  10 kB\nVmHWM:\t   3 kB\n"), Some(3072));
        assert_eq!(peak_of("VmPeak:\t  10 kB\n"), None);
        assert_eq!(peak_of("VmHWM:\t x kB\n"), None);
    }
}
