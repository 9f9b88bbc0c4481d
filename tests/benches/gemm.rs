//! GEMM of Cranelift's code against the machine's peak of 128-bit fused multiply-adds, one thread, interleaved.
//!
//! `cargo bench -p kiln-tests --bench gemm [-- M N K]`

use std::time::Instant;

use kiln_codegen::native::{self, JitCode, Target};
use kiln_codegen::{CompileOptions, compile};
use kiln_ir::{Builder, DType, Dim, Tensor};

/// The peak, by registers alone: no kernel of 128-bit multiply-adds can be faster.
#[cfg(target_arch = "x86_64")]
mod peak {
    use std::arch::asm;
    use std::time::Instant;

    /// GFLOP/s of independent 512-bit multiply-adds, each of 32 operations.
    pub fn gflops_512() -> Option<f64> {
        if !std::arch::is_x86_feature_detected!("avx512f") {
            return None;
        }
        const ROUNDS: u64 = 200_000;
        let start = Instant::now();
        // SAFETY: the CPU has AVX-512; only the named registers and no memory are touched.
        unsafe {
            asm!(
                "2:",
                "vfmadd231ps zmm0, zmm14, zmm15", "vfmadd231ps zmm1, zmm14, zmm15",
                "vfmadd231ps zmm2, zmm14, zmm15", "vfmadd231ps zmm3, zmm14, zmm15",
                "vfmadd231ps zmm4, zmm14, zmm15", "vfmadd231ps zmm5, zmm14, zmm15",
                "vfmadd231ps zmm6, zmm14, zmm15", "vfmadd231ps zmm7, zmm14, zmm15",
                "vfmadd231ps zmm8, zmm14, zmm15", "vfmadd231ps zmm9, zmm14, zmm15",
                "vfmadd231ps zmm10, zmm14, zmm15", "vfmadd231ps zmm11, zmm14, zmm15",
                "dec {n}",
                "jnz 2b",
                n = inout(reg) ROUNDS => _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm14") _, out("xmm15") _,
                options(nomem, nostack),
            );
        }
        Some((ROUNDS * 12 * 32) as f64 / start.elapsed().as_secs_f64() / 1e9)
    }

    /// GFLOP/s of independent 128-bit multiply-adds, each of 8 operations.
    pub fn gflops() -> Option<f64> {
        if !std::arch::is_x86_feature_detected!("fma") {
            return None;
        }
        const ROUNDS: u64 = 200_000;
        let start = Instant::now();
        // SAFETY: the CPU has FMA; only the named registers and no memory are touched.
        unsafe {
            asm!(
                "2:",
                "vfmadd231ps xmm0, xmm14, xmm15", "vfmadd231ps xmm1, xmm14, xmm15",
                "vfmadd231ps xmm2, xmm14, xmm15", "vfmadd231ps xmm3, xmm14, xmm15",
                "vfmadd231ps xmm4, xmm14, xmm15", "vfmadd231ps xmm5, xmm14, xmm15",
                "vfmadd231ps xmm6, xmm14, xmm15", "vfmadd231ps xmm7, xmm14, xmm15",
                "vfmadd231ps xmm8, xmm14, xmm15", "vfmadd231ps xmm9, xmm14, xmm15",
                "vfmadd231ps xmm10, xmm14, xmm15", "vfmadd231ps xmm11, xmm14, xmm15",
                "dec {n}",
                "jnz 2b",
                n = inout(reg) ROUNDS => _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm14") _, out("xmm15") _,
                options(nomem, nostack),
            );
        }
        Some((ROUNDS * 12 * 8) as f64 / start.elapsed().as_secs_f64() / 1e9)
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod peak {
    /// Measured on x86-64 only.
    pub fn gflops() -> Option<f64> {
        None
    }
}

/// A product with constant weights, as a graph that contains one is compiled.
struct Prepared {
    code: JitCode,
    extent: i64,
    buffers: Vec<Vec<u8>>,
    scratch: Vec<u8>,
    flops: f64,
    compile_ms: f64,
    bytes: usize,
}

impl Prepared {
    fn new(m: usize, n: usize, k: usize, target: &Target) -> Prepared {
        let value = |i: usize| ((i * 2_654_435_761) % 1009) as f32 / 504.5 - 1.0;
        let mut b = Builder::new("gemm");
        let x = b.placeholder("x", DType::F32, &[Dim::Fixed(m), Dim::Fixed(k)]);
        let weights: Vec<f32> = (0..k * n).map(value).collect();
        let weights = b.constant(Tensor::from_slice(&[k, n], &weights).expect("k·n elements"));
        let y = b.matmul(x, weights);
        b.output("y", y);
        let graph = b.finish().expect("the graph is well formed");
        let module = compile(&graph, target, CompileOptions { threads: 1, exact: false }).expect("a product compiles");
        let [kernel] = module.kernels() else { panic!("a product is one kernel:\n{}", module.dump()) };
        let start = Instant::now();
        let compiled = native::compile_kernel(kernel, target).expect("a product compiles");
        let compile_ms = start.elapsed().as_secs_f64() * 1e3;
        let bytes = compiled.code().len();
        let scratch = vec![0; compiled.scratch_bytes() + 64];
        let code = native::jit(&[compiled], target).expect("the host runs its own code");
        // numbers of ordinary size in every buffer: subnormal ones would be slow
        let fill = |len: i64| (0..len as usize + 16).flat_map(|i| value(i).to_le_bytes()).collect();
        let buffers = kernel.buffers.iter().map(|p| fill(p.len)).collect();
        let flops = 2.0 * (m * n * k) as f64;
        Prepared { code, extent: kernel.parallel_extent(), buffers, scratch, flops, compile_ms, bytes }
    }

    /// Seconds of each parallel index in one run.
    fn run(&mut self) -> Vec<f64> {
        let aligned = |bytes: &mut Vec<u8>| bytes.as_mut_ptr().wrapping_add(bytes.as_ptr().align_offset(64));
        let args: Vec<*mut u8> = self.buffers.iter_mut().map(aligned).collect();
        let scratch = aligned(&mut self.scratch);
        let timed = |index: i64| {
            let start = Instant::now();
            // SAFETY: the buffers have the kernel's lengths, and the scratch its size, beyond the alignment.
            unsafe { self.code.entries()[0](args.as_ptr(), scratch, index, index + 1) };
            start.elapsed().as_secs_f64()
        };
        (0..self.extent).map(timed).collect()
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let shapes = match sizes[..] {
        [m, n, k] => vec![(m, n, k)],
        _ => vec![(1024, 1024, 1024), (196, 256, 2304), (49, 512, 4608), (3136, 64, 64), (784, 128, 512)],
    };
    let target = Target::host().expect("the host is supported");
    let wide = target.backend() == native::Backend::Wide;
    println!("f32 products with constant weights on {target}, one thread");
    for (m, n, k) in shapes {
        let mut prepared = Prepared::new(m, n, k, &target);
        prepared.run();
        // interleaved, and the median of each block: what else runs on the machine meets both alike
        let (mut blocks, mut peaks) = (vec![Vec::new(); prepared.extent as usize], Vec::new());
        for _ in 0..15 {
            peaks.extend(if wide { peak::gflops_512() } else { peak::gflops() });
            for (all, seconds) in blocks.iter_mut().zip(prepared.run()) {
                all.push(seconds);
            }
        }
        let seconds: f64 = blocks.iter_mut().map(|block| median(block)).sum();
        let gflops = prepared.flops / seconds / 1e9;
        // on a busy machine a block is often interrupted, and its fastest run tells more; sorted by `median`
        let fastest: f64 = blocks.iter().map(|block| block[0]).sum();
        let best = prepared.flops / fastest / 1e9;
        print!(
            "{m:>4}×{n}×{k}: compiled in {:.1} ms to {} bytes, {gflops:.1} GFLOP/s",
            prepared.compile_ms, prepared.bytes,
        );
        match peaks.is_empty() {
            true => println!(" (fastest runs: {best:.1})"),
            false => {
                let peak = median(&mut peaks);
                let best_peak = peaks[peaks.len() - 1];
                println!(
                    "; FMA peak {peak:.1}: {:.0} % (fastest runs: {best:.1} of {best_peak:.1}, {:.0} %)",
                    100.0 * gflops / peak,
                    100.0 * best / best_peak,
                );
            }
        }
    }
}
