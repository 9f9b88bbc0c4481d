//! What it costs to hand work to threads: `cargo bench -p kiln-tests --bench dispatch`.
//!
//! Each dispatch has one chunk of no work for each thread, so its time is that of waking, claiming and waiting. *Awake*: one after
//! another, as the steps of a model. *Asleep*: after a pause in which the workers have parked.

use std::hint::black_box;
use std::time::{Duration, Instant};

use kiln_runtime::PoolHandle;

/// Dispatches of workers that are awake.
const AWAKE: usize = 100_000;
/// Dispatches of workers that sleep, each after [`PAUSE`].
const ASLEEP: usize = 500;
/// Far longer than workers spin.
const PAUSE: Duration = Duration::from_millis(2);

/// Microseconds of each of `count` dispatches in ascending order, the first hundredth left out.
fn dispatches(pool: &PoolHandle, count: usize, pause: Option<Duration>) -> Vec<f64> {
    let body = |thread: usize, begin: usize, end: usize| {
        black_box((thread, begin, end));
    };
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        pause.into_iter().for_each(std::thread::sleep);
        let start = Instant::now();
        pool.for_each_chunk(pool.threads(), 1, &body);
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    let mut times = times.split_off(count / 100);
    times.sort_by(f64::total_cmp);
    times
}

fn main() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let start = Instant::now();
    (0..AWAKE).for_each(|_| {
        black_box(Instant::now());
    });
    println!(
        "Reading the clock takes {:.3} µs of each time below.\n",
        start.elapsed().as_secs_f64() * 1e6 / AWAKE as f64
    );
    println!("| threads | workers | median, µs | 90 % below | 99 % below |");
    println!("| ---: | --- | ---: | ---: | ---: |");
    for threads in (0..).map(|n| 1 << n).take_while(|&n| n <= cores) {
        let pool = PoolHandle::new(threads);
        for (state, count, pause) in [("awake", AWAKE, None), ("asleep", ASLEEP, Some(PAUSE))] {
            let times = dispatches(&pool, count, pause);
            let at = |share: f64| times[(share * (times.len() - 1) as f64) as usize];
            println!("| {threads} | {state} | {:.2} | {:.2} | {:.2} |", at(0.5), at(0.9), at(0.99));
        }
    }
}
