//! Counts what the global allocator is asked for. Without the test harness, whose own threads would be counted.

mod common;
mod counting;

use common::{N, Placed, executable, input};
use counting::calls;
use kiln_runtime::{Executor, PoolHandle};

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
            let before = calls();
            for _ in 0..200 {
                run();
            }
            assert_eq!(calls(), before, "{threads} threads, misaligned by {misalignment}");
        }
    }
}
