//! Unsafe: a borrowed closure handed to other threads.
//!
//! A dispatch lends its closure to the workers for as long as it runs, without allocating. The lifetime is erased
//! here, and the protocol that makes this sound is kept here too, in one atomic word:
//!
//! ```text
//!   state = epoch << 32 | OPEN | workers inside
//!   caller:  publish (store the closure, open a new epoch) ... close (clear OPEN, wait until nobody is inside)
//!   worker:  enter   (only while OPEN: count itself in)    ... use the closure ... leave (count itself out)
//! ```
//!
//! **Contract.** The closure is read only between `enter` and `leave`; `publish` is called only when the slot is
//! closed and nobody is inside; and whoever publishes closes, even when unwinding, before the closure dies.
//! [`Slot::lend`] is the only way in, and does all three, so everything outside this file is safe.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU64, Ordering};

const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;

/// A job: called once by the caller and at most once by each worker, each with its thread's number.
pub(crate) type Job<'a> = &'a (dyn Fn(usize) + Sync);

/// Where a dispatch puts its closure.
pub(crate) struct Slot {
    state: AtomicU64,
    job: UnsafeCell<Option<Job<'static>>>,
}

// SAFETY: `job` is written only by `lend`, while its claim on the closed slot excludes every other writer and reader;
// it is read only by workers counted inside the open slot. The closure itself is `Sync`.
unsafe impl Sync for Slot {}

/// Closes the slot and waits for the workers inside, also when the caller unwinds.
struct Closing<'a> {
    slot: &'a Slot,
    epoch: u64,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.slot.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0u32;
        loop {
            let state = self.slot.state.load(Ordering::Acquire);
            // A later epoch means that another caller has found the slot empty meanwhile.
            if state & INSIDE == 0 || state >> 32 != self.epoch {
                return;
            }
            // Whoever is inside runs its last chunk; if the scheduler took its core away, give it ours.
            spins = spins.saturating_add(1);
            if spins < 4096 {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}

impl Slot {
    pub(crate) fn new() -> Slot {
        Slot { state: AtomicU64::new(0), job: UnsafeCell::new(None) }
    }

    /// Opens the slot with `job`, runs `wake` and then `job(0)`, and returns when no worker uses `job` any more.
    ///
    /// Returns false, having run nothing, where the slot is already lent (by another thread, or by `job` itself).
    pub(crate) fn lend(&self, job: Job<'_>, wake: impl FnOnce()) -> bool {
        // Claiming counts the caller itself as inside a closed slot, so that no other caller can claim.
        let old = self.state.load(Ordering::Relaxed);
        if old & (OPEN | INSIDE) != 0 {
            return false;
        }
        let epoch = (old >> 32).wrapping_add(1) & u64::from(u32::MAX);
        let claimed = (epoch << 32) | 1;
        if self.state.compare_exchange(old, claimed, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return false;
        }
        // SAFETY: the claim excludes every other writer, and no worker reads while the slot is closed. The reference
        // outlives its use: `closing` below is dropped before this function returns or unwinds, and it waits for
        // every worker that entered; none enters afterwards.
        unsafe { *self.job.get() = Some(std::mem::transmute::<Job<'_>, Job<'static>>(job)) };
        let closing = Closing { slot: self, epoch };
        // Opens, and counts the caller out again, in one store. SeqCst: a worker about to park checks the state after
        // it has said so, and `wake` looks for parked workers after this store.
        self.state.store((epoch << 32) | OPEN, Ordering::SeqCst);
        wake();
        job(0);
        drop(closing);
        true
    }

    /// The epoch of the last job, and whether it can still be entered.
    pub(crate) fn peek(&self) -> (u32, bool) {
        let state = self.state.load(Ordering::SeqCst);
        ((state >> 32) as u32, state & OPEN != 0)
    }

    /// Runs the job of `epoch` as worker `number`, if it can still be entered.
    pub(crate) fn help(&self, epoch: u32, number: usize) {
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            if (state >> 32) as u32 != epoch || state & OPEN == 0 {
                return;
            }
            match self.state.compare_exchange_weak(state, state + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        struct Leaving<'a>(&'a Slot);
        impl Drop for Leaving<'_> {
            fn drop(&mut self) {
                self.0.state.fetch_sub(1, Ordering::Release);
            }
        }
        let _leaving = Leaving(self);
        // SAFETY: this worker is counted inside an open slot, so the job was published before (Acquire above) and the
        // caller waits for `_leaving` before it lets the closure die or the slot be written again.
        if let Some(job) = unsafe { *self.job.get() } {
            job(number);
        }
    }
}
