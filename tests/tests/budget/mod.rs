//! What a piece of work costs: bytes, by a global allocator that counts, and time on its processor.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

struct Counting;

static NOW: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

/// More than this is refused, as a system with less memory would: a case must not take the tests down with it.
const REFUSED: u64 = 6 << 30;

/// A single allocation of more than this ends the process, so that a debugger shows who asks for it.
static TRAP: AtomicU64 = AtomicU64::new(u64::MAX);

/// Ends the process at the first allocation of more than `bytes` from now on.
pub fn trap(bytes: u64) {
    TRAP.store(bytes, Ordering::Relaxed);
}

fn grow(by: usize) -> bool {
    if by as u64 > TRAP.load(Ordering::Relaxed) {
        std::process::abort();
    }
    let now = NOW.fetch_add(by as u64, Ordering::Relaxed) + by as u64;
    PEAK.fetch_max(now, Ordering::Relaxed);
    if now > REFUSED {
        NOW.fetch_sub(by as u64, Ordering::Relaxed);
    }
    now <= REFUSED
}

fn shrink(by: usize) {
    NOW.fetch_sub(by as u64, Ordering::Relaxed);
}

// SAFETY: passes everything on to the system's allocator, or refuses it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if grow(layout.size()) { unsafe { System.alloc(layout) } } else { std::ptr::null_mut() }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if grow(layout.size()) { unsafe { System.alloc_zeroed(layout) } } else { std::ptr::null_mut() }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        shrink(layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !grow(size) {
            return std::ptr::null_mut();
        }
        shrink(layout.size());
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The result of `work`, and the most bytes that were allocated during it beyond those that were before. A refused allocation
/// counts as if it had been made: asking for it is what must not happen.
pub fn measured<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = work();
    (result, PEAK.load(Ordering::Relaxed).saturating_sub(before))
}

/// Time that this thread has had on a processor; `None` where the system does not say.
pub fn thread_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}
