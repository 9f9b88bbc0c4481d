//! Time per step, gathered only where it was asked for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::plan::Plan;

/// What one step has cost so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileRow {
    /// The step's label: op and node name.
    pub label: String,
    /// How often it ran.
    pub calls: u64,
    /// Wall-clock nanoseconds of all calls together.
    pub nanoseconds: u64,
    /// Floating-point operations of one call.
    pub flops: u64,
    /// Bytes one call reads and writes at least.
    pub bytes: u64,
}

impl ProfileRow {
    /// Billions of floating-point operations a second, 0 where nothing was measured.
    pub fn gflops(&self) -> f64 {
        self.rate(self.flops)
    }

    /// Billions of bytes a second, 0 where nothing was measured.
    pub fn gigabytes_per_second(&self) -> f64 {
        self.rate(self.bytes)
    }

    /// Nanoseconds one call takes on average.
    pub fn mean_nanoseconds(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.nanoseconds as f64 / self.calls as f64 }
    }

    fn rate(&self, amount: u64) -> f64 {
        let mean = self.mean_nanoseconds();
        if mean == 0.0 { 0.0 } else { amount as f64 / mean }
    }
}

/// Measurements of every step of a plan, in plan order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// One row per step.
    pub rows: Vec<ProfileRow>,
}

impl Profile {
    /// A profile of `plan` with nothing measured. All it will ever need is allocated here.
    pub fn new(plan: &Plan) -> Profile {
        let row = |step: &crate::plan::Step| ProfileRow {
            label: step.label.clone(),
            calls: 0,
            nanoseconds: 0,
            flops: step.flops,
            bytes: step.bytes,
        };
        Profile { rows: plan.steps.iter().map(row).collect() }
    }

    /// Nanoseconds of all steps together.
    pub fn total_nanoseconds(&self) -> u64 {
        self.rows.iter().fold(0, |n, row| n.saturating_add(row.nanoseconds))
    }

    /// Adds one call of step `index`.
    pub(crate) fn add(&mut self, index: usize, time: Duration) {
        if let Some(row) = self.rows.get_mut(index) {
            row.calls = row.calls.saturating_add(1);
            row.nanoseconds = row.nanoseconds.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        }
    }
}
