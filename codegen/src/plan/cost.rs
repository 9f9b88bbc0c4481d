//! Estimates of what a step takes, to decide whether threads pay.

use kiln_runtime::Split;

/// Arithmetic operations per nanosecond that one core manages in ordinary kernels.
const FLOPS_PER_NS: f64 = 20.0;
/// Bytes per nanosecond that one core moves, caches helping.
const BYTES_PER_NS: f64 = 12.0;
/// Least time worth handing to other threads.
const WORTH_SHARING_NS: f64 = 20_000.0;
/// Least time of one call on one thread.
const WORTH_A_CALL_NS: f64 = 5_000.0;

/// Time a step takes on one thread, roughly.
pub fn nanoseconds(flops: u64, bytes: u64) -> f64 {
    (flops as f64 / FLOPS_PER_NS).max(bytes as f64 / BYTES_PER_NS)
}

/// How a parallel loop of `extent` iterations is shared.
pub fn split(extent: usize, flops: u64, bytes: u64) -> Split {
    let total = nanoseconds(flops, bytes);
    if extent < 2 || total < WORTH_SHARING_NS {
        return Split::Serial;
    }
    let each = total / extent as f64;
    let grain = (WORTH_A_CALL_NS / each).ceil().clamp(1.0, extent as f64);
    Split::Parallel { grain: grain as usize }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_steps_stay_on_one_thread() {
        assert_eq!(split(100, 1000, 1000), Split::Serial);
        assert_eq!(split(1, 1 << 40, 0), Split::Serial);
    }

    #[test]
    fn the_grain_is_worth_a_call() {
        let Split::Parallel { grain } = split(1_000_000, 0, 12_000_000) else {
            panic!("a millisecond is worth sharing");
        };
        assert_eq!(grain, 5000);
    }
}
