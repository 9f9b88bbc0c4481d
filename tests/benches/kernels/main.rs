//! Kernels against the machine's peaks, measured beside them, on one thread.
//!
//! `cargo bench -p kiln-tests --bench kernels [-- PART_OF_A_NAME]`, for every width of vectors that the machine has.
//!
//! Products and convolutions are compared with the peak of fused multiply-adds of as wide vectors as the back end has, kernels
//! that only move data with the bandwidth of reads. Runs of kernel and peak alternate, so that what else runs on the machine
//! meets both alike; the medians are compared, and the fastest runs, which tell more on a busy machine. Convolutions
//! count the multiply-adds of the direct algorithm: Winograd's may be above the peak. Products and convolutions lie between two other steps, as in a
//! network: who makes x writes it where it is read, with room for the padding. Only their own step is timed.

mod peak;

use std::time::Instant;

use kiln_codegen::native::{Features, Target};
use kiln_codegen::{CompileOptions, compile};
use kiln_ir::attribute::{ConvLayout, Padding, Reducer};
use kiln_ir::{Builder, DType, Dim, Graph, Op, Tensor, Value};
use kiln_runtime::{Executor, PoolHandle};

const ROUNDS: usize = 21;

/// A kernel to measure.
struct Case {
    name: String,
    graph: Graph,
    exact: bool,
    work: Work,
}

/// What a run does.
#[derive(Clone, Copy)]
enum Work {
    /// Floating-point operations.
    Flops(f64),
    /// Bytes read and written.
    Bytes(f64),
}

/// A number of ordinary size, reproducible: subnormal ones would be slow.
fn number(i: usize) -> f32 {
    ((i * 2_654_435_761) % 1009) as f32 / 504.5 - 1.0
}

fn tensor(dims: &[usize]) -> Tensor {
    let values: Vec<f32> = (0..dims.iter().product()).map(number).collect();
    Tensor::from_slice(dims, &values).expect("as many values as elements")
}

fn case(name: String, work: Work, dims: &[usize], build: impl FnOnce(&mut Builder, Value) -> Value) -> Case {
    let mut b = Builder::new("kernel");
    let x = b.placeholder("x", DType::F32, &dims.iter().copied().map(Dim::Fixed).collect::<Vec<_>>());
    let y = match work {
        Work::Bytes(_) => build(&mut b, x),
        Work::Flops(_) => {
            let x = b.relu(x);
            let y = build(&mut b, x);
            b.reduce(y, &[0], Reducer::Max)
        }
    };
    b.output("y", y);
    Case { name, graph: b.finish().expect("the graph is well formed"), exact: false, work }
}

fn product(m: usize, n: usize, k: usize) -> Case {
    let work = match m {
        1 => Work::Bytes((n * k * 4) as f64),
        _ => Work::Flops(2.0 * (m * n * k) as f64),
    };
    case(format!("product {m}×{n}×{k}"), work, &[m, k], |b, x| {
        let w = b.constant(tensor(&[k, n]));
        b.matmul(x, w)
    })
}

/// A convolution of `pixels × pixels` results, channels last, by the algorithm that is chosen or by the direct one.
fn convolution(name: &str, pixels: usize, taps: usize, stride: usize, channels: [usize; 2], exact: bool) -> Case {
    let [inputs, outputs] = channels;
    let around = Padding { low: (taps / 2) as i64, high: (taps - 1 - taps / 2) as i64 };
    let flops = 2.0 * (pixels * pixels * taps * taps * inputs * outputs) as f64;
    let extent = pixels * stride;
    let how = if exact { "direct" } else { "chosen" };
    let name = format!("convolution {name}, {how}: {taps}×{taps} {inputs}→{outputs} @{pixels}");
    let case = case(name, Work::Flops(flops), &[1, extent, extent, inputs], |b, x| {
        let w = b.constant(tensor(&[taps, taps, inputs, outputs]));
        let op = Op::Conv {
            strides: vec![stride; 2],
            padding: vec![around; 2],
            lhs_dilation: vec![],
            rhs_dilation: vec![],
            groups: 1,
            layout: ConvLayout::ChannelsLast,
        };
        b.add_op(op, &[x, w])
    });
    Case { exact, ..case }
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        product(1024, 1024, 1024),
        product(196, 256, 2304),
        product(49, 512, 4608),
        product(3136, 64, 64),
        product(784, 128, 512),
        product(1, 4096, 4096),
    ];
    let layers: [(&str, usize, usize, usize, [usize; 2]); 8] = [
        ("VGG conv1_2", 224, 3, 1, [64, 64]),
        ("VGG conv3_2", 56, 3, 1, [256, 256]),
        ("VGG conv4_2", 28, 3, 1, [512, 512]),
        ("ResNet 3×3", 56, 3, 1, [64, 64]),
        ("ResNet 3×3", 14, 3, 1, [256, 256]),
        ("ResNet 3×3", 7, 3, 1, [512, 512]),
        ("ResNet 1×1", 28, 1, 1, [512, 128]),
        ("ResNet stem", 112, 7, 2, [3, 64]),
    ];
    for (name, pixels, taps, stride, channels) in layers {
        cases.push(convolution(name, pixels, taps, stride, channels, true));
        if taps == 3 {
            cases.push(convolution(name, pixels, taps, stride, channels, false));
        }
    }
    let large = [8 << 20];
    let bytes = |passes: usize| Work::Bytes((passes * large[0] * 4) as f64);
    cases.push(case("relu of 32 MiB".to_owned(), bytes(2), &large, |b, x| b.relu(x)));
    cases.push(case("sum of 32 MiB".to_owned(), bytes(1), &large, |b, x| b.reduce(x, &[0], Reducer::Sum)));
    cases
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Bytes per nanosecond at which one thread reads an array that no cache holds.
fn bandwidth(array: &[u64]) -> f64 {
    let start = Instant::now();
    let mut sums = [0u64; 8];
    for chunk in array.chunks_exact(8) {
        sums.iter_mut().zip(chunk).for_each(|(sum, &word)| *sum = sum.wrapping_add(word));
    }
    std::hint::black_box(sums);
    (array.len() * 8) as f64 / start.elapsed().as_secs_f64() / 1e9
}

fn measure(case: &Case, target: &Target, array: &[u64]) {
    let start = Instant::now();
    let options = CompileOptions { threads: 1, exact: case.exact, ..CompileOptions::default() };
    let module = compile(&case.graph, target, options).expect("it compiles");
    let executable = module.executable().expect("it compiles");
    let compile_ms = start.elapsed().as_secs_f64() * 1e3;
    let mut executor = Executor::new(executable, PoolHandle::new(1)).expect("there is memory");
    let input = tensor(&executor.signature().inputs[0].dims.clone());
    let mut outputs = executor.output_buffers().expect("there is memory");
    let (mut times, mut peaks) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        match case.work {
            Work::Flops(_) => peaks.extend(peak::gflops(target)),
            Work::Bytes(_) => peaks.push(bandwidth(array)),
        }
        let mut slices: Vec<&mut [u8]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        // the first run brings caches back
        for first in [true, false] {
            executor.enable_profile();
            let start = Instant::now();
            executor.run(&[&input.bytes()[..]], &mut slices).expect("the buffers fit");
            let all = start.elapsed().as_secs_f64();
            let steps = executor.take_profile().unwrap_or_default().rows;
            let largest = steps.iter().max_by_key(|step| step.flops).map_or(0, |step| step.nanoseconds);
            if !first {
                times.push(match case.work {
                    Work::Flops(_) => largest as f64 / 1e9,
                    Work::Bytes(_) => all,
                });
            }
        }
    }
    let (done, unit) = match case.work {
        Work::Flops(flops) => (flops / 1e9, "GFLOP/s"),
        Work::Bytes(bytes) => (bytes / 1e9, "GB/s"),
    };
    let (rate, best) = (done / median(&mut times), done / times[0]);
    print!("{:<52} {rate:>7.1} {unit:<7}", case.name);
    if !peaks.is_empty() {
        let peak = median(&mut peaks);
        let best_peak = peaks[peaks.len() - 1];
        print!(" {:>4.0} % of {peak:.1}", 100.0 * rate / peak);
        print!("   fastest {best:.1} of {best_peak:.1}, {:.0} %", 100.0 * best / best_peak);
    }
    println!("   compiled in {compile_ms:.1} ms");
}

fn main() {
    let part = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let array: Vec<u64> = (0..32 << 20).collect();
    let host = Target::host().expect("the host is supported");
    let mut targets = vec![host.clone()];
    if host.features() > Features::V3 {
        targets.push(Target::new(host.triple().clone(), Features::V3).expect("a level below the host's"));
    }
    if host.clone().portable().backend() != host.backend() {
        targets.push(host.portable());
    }
    for target in targets {
        println!("\n{target}, {} back end, one thread", target.backend().name());
        for case in cases().iter().filter(|case| case.name.contains(&part)) {
            measure(case, &target, &array);
        }
    }
}
