//! The thread pool that executors share.
//!
//! A pool of `n` threads is the caller plus `n - 1` workers. [`PoolHandle::for_each_chunk`] deals each thread a run of the
//! range: the same one every time, so what a thread read or wrote in one dispatch is in the caches of its core in the next. Runs are done in
//! chunks, and who is done with its own takes chunks of the others', so a thread that the system takes away delays nobody but its
//! own chunk.
//! Workers spin for some microseconds after a job, then park; a dispatch allocates nothing and takes a few
//! microseconds when the workers are awake.
//!
//! Several executors may share a pool. One dispatch runs at a time; a second one that comes meanwhile, or from
//! inside the first, runs on its own thread alone rather than oversubscribe the cores. Results never depend on any of
//! this, because a chunk is computed the same way wherever it runs.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};

use crate::erased_job::Slot;

/// Rounds a worker spins before it parks; about 50 µs where a pause takes 40 ns.
const SPINS: u32 = 1200;

/// The most threads of a pool. Far above it, a system grants threads that then find no memory to start with.
pub const MOST_THREADS: usize = 1024;

/// A shared handle to a thread pool; the threads end when the last handle is dropped.
#[derive(Clone)]
pub struct PoolHandle(Arc<Pool>);

struct Pool {
    shared: Arc<Shared>,
    /// One per worker.
    workers: Vec<Worker>,
}

struct Worker {
    thread: Thread,
    /// Taken when the pool is dropped.
    join: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    slot: Slot,
    /// One flag per worker, set while it is parked or about to be.
    parked: Vec<AtomicBool>,
    /// Workers that have come as far as waiting for jobs.
    started: AtomicUsize,
    stop: AtomicBool,
    spins: u32,
}

impl PoolHandle {
    /// A pool of `threads` threads, the caller included; 0 counts as 1, and more than [`MOST_THREADS`] as that.
    ///
    /// Where the system refuses a thread, the pool has fewer: [`PoolHandle::threads`] tells.
    pub fn new(threads: usize) -> PoolHandle {
        let wanted = threads.min(MOST_THREADS).saturating_sub(1);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(Shared {
            slot: Slot::new(),
            parked: (0..wanted).map(|_| AtomicBool::new(false)).collect(),
            started: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            // With more threads than cores, a spinning worker keeps a working one from running.
            spins: if threads > cores { 0 } else { SPINS },
        });
        let mut workers = Vec::with_capacity(wanted);
        for index in 0..wanted {
            let of_worker = Arc::clone(&shared);
            let name = format!("kiln-worker-{}", index + 1);
            match std::thread::Builder::new().name(name).spawn(move || of_worker.work(index)) {
                Ok(join) => workers.push(Worker { thread: join.thread().clone(), join: Mutex::new(Some(join)) }),
                Err(_) => break,
            }
        }
        // A thread allocates while it starts: have that done before the first run.
        while shared.started.load(Ordering::Acquire) < workers.len() {
            std::thread::yield_now();
        }
        PoolHandle(Arc::new(Pool { shared, workers }))
    }

    /// Threads that take part in a dispatch, the caller included.
    pub fn threads(&self) -> usize {
        self.0.workers.len() + 1
    }

    /// Calls `body(thread, begin, end)` for consecutive chunks that make up `0..extent`, each beginning at a multiple of `grain`
    /// (0 counts as 1), on any of the threads, and returns when all are done; or `body(0, 0, extent)` where the caller has to do
    /// everything alone. `thread` is less than [`PoolHandle::threads`], and no two of the calls run at once with the same one.
    ///
    /// A panic in `body` stops the claiming of further chunks and comes out of this call.
    pub fn for_each_chunk(&self, extent: usize, grain: usize, body: &(dyn Fn(usize, usize, usize) + Sync)) {
        let grain = grain.max(1);
        if extent <= grain || self.0.workers.is_empty() {
            return run_alone(extent, body);
        }
        let grains = extent.div_ceil(grain);
        let runs = Runs::deal(grains, self.threads());
        let panicked = Mutex::new(None);
        let job = |thread: usize| {
            while let Some(claimed) = runs.claim(thread) {
                let end = extent.min(claimed.end.saturating_mul(grain));
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(thread, claimed.start * grain, end))) {
                    runs.give_up();
                    panicked.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
                    return;
                }
            }
        };
        if !self.0.shared.slot.lend(&job, || self.0.wake(grains - 1)) {
            return run_alone(extent, body);
        }
        if let Some(panic) = panicked.into_inner().unwrap_or_else(PoisonError::into_inner) {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Default for PoolHandle {
    /// A pool of as many threads as this process may use cores.
    fn default() -> PoolHandle {
        PoolHandle::new(std::thread::available_parallelism().map_or(1, usize::from))
    }
}

impl std::fmt::Debug for PoolHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PoolHandle({} threads)", self.threads())
    }
}

/// The most runs into which a dispatch is dealt: they lie on the caller's stack.
const MOST_RUNS: usize = 32;
/// Chunks that a run is cut into: more balance load better, fewer cost less.
const CHUNKS_PER_RUN: usize = 4;

/// What there is to do in a dispatch, as a run for each thread; threads beyond [`MOST_RUNS`] share runs.
struct Runs {
    runs: [Run; MOST_RUNS],
    dealt: usize,
}

/// Consecutive grains, on a cache line of their own.
#[repr(align(64))]
struct Run {
    next: AtomicUsize,
    end: usize,
    /// Grains of a chunk.
    chunk: usize,
}

impl Runs {
    fn deal(grains: usize, threads: usize) -> Runs {
        let dealt = threads.min(MOST_RUNS);
        // no run is larger than another by more than a grain
        let first = |run: usize| grains / dealt * run + (grains % dealt).min(run);
        let run = |run: usize| {
            let (start, end) = if run < dealt { (first(run), first(run + 1)) } else { (0, 0) };
            Run { next: AtomicUsize::new(start), end, chunk: (end - start).div_ceil(CHUNKS_PER_RUN) }
        };
        Runs { runs: std::array::from_fn(run), dealt }
    }

    /// What `thread` does next: a chunk of its own run, then of the runs that follow.
    fn claim(&self, thread: usize) -> Option<Range<usize>> {
        (0..self.dealt).find_map(|after| {
            let run = &self.runs[(thread + after) % self.dealt];
            // asking first keeps the counter from running away, however often a run is found empty
            let open = run.next.load(Ordering::Relaxed) < run.end;
            let start =
                open.then(|| run.next.fetch_add(run.chunk, Ordering::Relaxed)).filter(|&start| start < run.end)?;
            Some(start..run.end.min(start + run.chunk))
        })
    }

    /// Leaves nothing to claim.
    fn give_up(&self) {
        self.runs.iter().for_each(|run| run.next.store(run.end, Ordering::Relaxed));
    }
}

fn run_alone(extent: usize, body: &(dyn Fn(usize, usize, usize) + Sync)) {
    if extent > 0 {
        body(0, 0, extent);
    }
}

impl Pool {
    /// Unparks up to `wanted` parked workers.
    fn wake(&self, wanted: usize) {
        for (worker, parked) in self.workers.iter().zip(&self.shared.parked).take(wanted) {
            if parked.load(Ordering::SeqCst) && parked.swap(false, Ordering::SeqCst) {
                worker.thread.unpark();
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in &self.workers {
            worker.thread.unpark();
        }
        for worker in &self.workers {
            let join = worker.join.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(join) = join {
                // A worker catches every panic of a job, so there is nothing to report.
                let _ = join.join();
            }
        }
    }
}

impl Shared {
    fn work(&self, index: usize) {
        let mut done = self.slot.peek().0.wrapping_sub(1);
        self.started.fetch_add(1, Ordering::Release);
        loop {
            match self.await_job(index, done) {
                Some(epoch) => {
                    self.slot.help(epoch, index + 1);
                    done = epoch;
                }
                None => return,
            }
        }
    }

    /// The epoch of an open job other than `done`; `None` when the pool ends.
    fn await_job(&self, index: usize, done: u32) -> Option<u32> {
        let ready = || {
            let (epoch, open) = self.slot.peek();
            (open && epoch != done).then_some(epoch)
        };
        loop {
            for _ in 0..self.spins {
                if let Some(epoch) = ready() {
                    return Some(epoch);
                }
                std::hint::spin_loop();
            }
            let parked = self.parked.get(index)?;
            parked.store(true, Ordering::SeqCst);
            if ready().is_none() && !self.stop.load(Ordering::SeqCst) {
                std::thread::park();
            }
            parked.store(false, Ordering::SeqCst);
            if self.stop.load(Ordering::SeqCst) {
                return None;
            }
            if let Some(epoch) = ready() {
                return Some(epoch);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_has_no_more_threads_than_a_system_has_memory_to_start() {
        let pool = PoolHandle::new(usize::MAX);
        assert!((1..=MOST_THREADS).contains(&pool.threads()), "{}", pool.threads());
    }

    #[test]
    fn every_iteration_runs_exactly_once_whatever_the_grain() {
        let pool = PoolHandle::new(3);
        for extent in [0, 1, 2, 7, 64, 1000] {
            for grain in [0, 1, 3, 64, 5000] {
                let hits: Vec<AtomicUsize> = (0..extent).map(|_| AtomicUsize::new(0)).collect();
                pool.for_each_chunk(extent, grain, &|thread, begin, end| {
                    assert!(thread < pool.threads() && begin < end && end <= extent);
                    assert!(begin % grain.max(1) == 0);
                    for hit in &hits[begin..end] {
                        hit.fetch_add(1, Ordering::Relaxed);
                    }
                });
                assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1), "extent {extent}, grain {grain}");
            }
        }
    }

    #[test]
    fn runs_are_even_and_each_grain_is_claimed_once_by_whoever_comes() {
        for threads in [1, 2, 3, 7, MOST_RUNS, MOST_RUNS + 9] {
            for grains in [1, 2, 3, 31, 32, 100] {
                let runs = Runs::deal(grains, threads);
                let own: Vec<Range<usize>> =
                    runs.runs[..runs.dealt].iter().map(|r| r.next.load(Ordering::Relaxed)..r.end).collect();
                let sizes = || own.iter().map(ExactSizeIterator::len);
                assert!(sizes().max() <= sizes().min().map(|least| least + 1), "{grains} for {threads}: {own:?}");
                let last = threads - 1;
                let mut claimed: Vec<usize> = std::iter::from_fn(|| runs.claim(last)).flatten().collect();
                let first = own[last % runs.dealt].clone();
                assert_eq!(claimed[..first.len()], Vec::from_iter(first)[..], "its own run first");
                claimed.sort_unstable();
                assert_eq!(claimed, Vec::from_iter(0..grains));
            }
        }
    }

    #[test]
    fn a_thread_that_nobody_holds_up_does_the_same_part_every_time() {
        let pool = PoolHandle::new(2);
        for _ in 0..50 {
            let both = [AtomicBool::new(false), AtomicBool::new(false)];
            pool.for_each_chunk(2, 1, &|thread, begin, _| {
                // each waits for the other, so neither can take the other's chunk
                both[thread].store(true, Ordering::SeqCst);
                while !both[1 - thread].load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                assert_eq!(thread, begin);
            });
        }
    }

    #[test]
    fn no_two_calls_run_at_once_with_the_same_thread_number() {
        let pool = PoolHandle::new(4);
        let busy: Vec<AtomicBool> = (0..pool.threads()).map(|_| AtomicBool::new(false)).collect();
        for _ in 0..200 {
            pool.for_each_chunk(64, 1, &|thread, _, _| {
                assert!(!busy[thread].swap(true, Ordering::SeqCst));
                std::hint::spin_loop();
                busy[thread].store(false, Ordering::SeqCst);
            });
        }
    }

    #[test]
    fn a_dispatch_from_inside_another_runs_on_its_own_thread() {
        let pool = PoolHandle::new(3);
        let total = AtomicUsize::new(0);
        pool.for_each_chunk(8, 1, &|_, _, _| {
            pool.for_each_chunk(10, 1, &|_, begin, end| {
                total.fetch_add(end - begin, Ordering::Relaxed);
            });
        });
        assert_eq!(total.load(Ordering::Relaxed), 80);
    }

    #[test]
    fn a_pool_shared_by_several_callers_loses_no_iteration() {
        let pool = PoolHandle::new(3);
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        pool.for_each_chunk(100, 7, &|_, begin, end| {
                            total.fetch_add(end - begin, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(total.load(Ordering::Relaxed), 4 * 500 * 100);
    }

    #[test]
    fn a_panic_in_a_body_comes_out_of_the_call_and_leaves_the_pool_usable() {
        let pool = PoolHandle::new(2);
        for _ in 0..50 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.for_each_chunk(64, 1, &|_, begin, _| assert!(begin != 20, "on purpose"));
            }));
            assert!(result.is_err());
        }
        let total = AtomicUsize::new(0);
        pool.for_each_chunk(64, 1, &|_, begin, end| {
            total.fetch_add(end - begin, Ordering::Relaxed);
        });
        assert_eq!(total.load(Ordering::Relaxed), 64);
    }

    #[test]
    fn workers_that_have_parked_wake_up_for_the_next_dispatch() {
        let pool = PoolHandle::new(2);
        for _ in 0..5 {
            // Long enough for the spin phase to end.
            std::thread::sleep(std::time::Duration::from_millis(5));
            let seen = [AtomicBool::new(false), AtomicBool::new(false)];
            // Each chunk waits for the other, so that this ends only where both threads take part.
            pool.for_each_chunk(2, 1, &|_, begin, _| {
                seen[begin].store(true, Ordering::SeqCst);
                while !seen[1 - begin].load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
            });
        }
    }
}
