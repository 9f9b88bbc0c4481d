//! What the run time itself costs: dispatch to the pool, a step, and the load of an artifact of 100 MB.
//!
//! `cargo bench -p kiln-runtime` prints medians in microseconds.

use std::sync::Arc;
use std::time::Instant;

use artifact::{Digests, NativeOptions, inspect, load_native_file};
use bytes::Bytes;
use kiln_ir::DType;
use kiln_runtime::*;

unsafe extern "C" fn nothing(_args: *const *mut u8, _scratch: *mut u8, _begin: i64, _end: i64) {}

fn median_us(runs: usize, mut body: impl FnMut()) -> f64 {
    body();
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            body();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[runs / 2]
}

/// A plan like a ResNet-50's: `steps` kernel calls, each with a weight of its own.
fn program(steps: usize, weight_bytes: usize, split: Split) -> (Plan, Weights) {
    let mut weights = WeightsBuilder::new();
    let mut plan = Plan {
        signature: Signature {
            inputs: vec![TensorSpec::new("x", DType::U8, [64])],
            outputs: vec![TensorSpec::new("y", DType::U8, [64])],
            metadata: Default::default(),
        },
        buffers: vec![Buffer::Input(0), Buffer::Output(0)],
        kernel_count: 1,
        ..Plan::default()
    };
    for step in 0..steps {
        let mut bytes = vec![step as u8; weight_bytes];
        bytes.iter_mut().zip(step.to_le_bytes()).for_each(|(to, from)| *to = from);
        let offset = weights.push(Bytes::from(bytes));
        plan.buffers.push(Buffer::Weight { offset, len: weight_bytes });
        plan.steps.push(Step {
            label: format!("nothing {step}"),
            work: Work::Kernel {
                kernel: 0,
                arguments: vec![
                    Argument::read(0, DType::U8, 0, 64),
                    Argument::read(step + 2, DType::U8, 0, weight_bytes),
                    Argument::write(1, DType::U8, 0, 64),
                ],
                extent: 64,
                split,
            },
            flops: 0,
            bytes: 0,
            scratch_bytes: 0,
            note: String::new(),
        });
    }
    let weights = weights.finish();
    plan.weight_bytes = weights.len();
    (plan, weights)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for threads in [1, cores] {
        let pool = PoolHandle::new(threads);
        let time = median_us(10_000, || pool.for_each_chunk(threads, 1, &|_, _, _| ()));
        println!("dispatch of one chunk a thread, {threads} thread(s): {time:.2} us");
    }
    for (name, split) in [("serial", Split::Serial), ("parallel", Split::Parallel { grain: 1 })] {
        let (plan, weights) = program(100, 64, split);
        let kernels = KernelTable::new(vec![nothing], Arc::new(()));
        // SAFETY: the kernel touches nothing.
        let executable = unsafe { Executable::new(plan, kernels, weights)? };
        let mut executor = Executor::new(executable, PoolHandle::new(cores))?;
        let (x, mut y) = ([0u8; 64], [0u8; 64]);
        let time = median_us(2000, || drop(executor.run(&[&x], &mut [&mut y])));
        println!("a step that does nothing, {name}, {cores} thread(s): {:.3} us", time / 100.0);
    }
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("model.kiln");
    let (plan, weights) = program(100, 1 << 20, Split::Serial);
    let mut code = KernelCode::new();
    code.push("nothing", &[0xc3]);
    let signature = plan.signature.clone();
    let part = artifact::NativePart { triple: cpu::host_triple(), features: Default::default(), plan, code, weights };
    let start = Instant::now();
    Artifact { signature, portable: None, natives: vec![part], profile: None }.write(&path)?;
    println!("write 100 MB: {:.0} us", start.elapsed().as_secs_f64() * 1e6);
    for verify_weights in [false, true] {
        let options = NativeOptions { verify_weights, ..NativeOptions::default() };
        // SAFETY: this program wrote the file, and the code in it returns at once.
        let time =
            median_us(20, || drop(unsafe { load_native_file(&path, options) }.expect("the file was just written")));
        println!("native load of 100 MB, weights compared: {verify_weights}: {time:.0} us");
    }
    let file = artifact::read_file(&path)?;
    println!("inspect 100 MB: {:.0} us", median_us(20, || drop(inspect(&file, Digests::Skip))));
    Ok(())
}
