//! Counts what the global allocator is asked for. Without the test harness, whose own threads would be counted.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{N, Placed, executable, input};
use kiln_runtime::{Executor, PoolHandle};

struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::SeqCst);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        CALLS.fetch_add(1, Ordering::SeqCst);
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::SeqCst);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    a_run_after_the_first_touches_no_allocator_on_any_thread();
}

fn a_run_after_the_first_touches_no_allocator_on_any_thread() {
    let x = input();
    for threads in [1, 3] {
        let mut executor = Executor::new(executable(), PoolHandle::new(threads)).unwrap();
        executor.enable_profile();
        // Misaligned by 1: the aligned copies are made in the first run and kept.
        for misalignment in [0, 1] {
            let fed = Placed::new(&x, misalignment);
            let (mut y, mut copy) = (Placed::new(&[0.0; N], misalignment), Placed::new(&[0.0; N], 0));
            let mut run = || executor.run(&[fed.get()], &mut [y.get_mut(), copy.get_mut()]).unwrap();
            run();
            let before = CALLS.load(Ordering::SeqCst);
            for _ in 0..200 {
                run();
            }
            assert_eq!(CALLS.load(Ordering::SeqCst), before, "{threads} threads, misaligned by {misalignment}");
        }
    }
}
