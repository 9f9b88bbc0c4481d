//! GEMM of Cranelift's code against the machine's peak of 128-bit fused multiply-adds, one thread, interleaved.
//!
//! `cargo bench -p kiln-tests --bench gemm [-- M N K]` prints the median for the tile that the target uses;
//! `-- --tiles` tries other tiles.

use std::time::Instant;

use kiln_codegen::clif::{self, JitCode, Target};
use kiln_codegen::kernels::gemm::{Gemm, Rows, Tile, pack, packed_len};
use kiln_codegen::kir::{DType, Kernel, KernelBuilder};

/// The peak, by registers alone: no kernel of 128-bit multiply-adds can be faster.
#[cfg(target_arch = "x86_64")]
mod peak {
    use std::arch::asm;
    use std::time::Instant;

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

fn kernel(gemm: &Gemm) -> Kernel {
    let Gemm { m, n, k, tile, .. } = *gemm;
    let mut b = KernelBuilder::new(format!("gemm_{m}x{n}x{k}"));
    let a = b.input("a", DType::F32, packed_len(m, k, tile.rows));
    let weights = b.input("b", DType::F32, packed_len(n, k, tile.columns));
    let c = b.output("c", DType::F32, m * n);
    gemm.emit(&mut b, a, weights, &mut |b, sums, row, column| b.store(c, row * n + column, sums));
    b.finish().expect("the generator makes well-formed kernels")
}

struct Prepared {
    gemm: Gemm,
    code: JitCode,
    extent: i64,
    scratch: Vec<f32>,
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
    compile_ms: f64,
    bytes: usize,
}

impl Prepared {
    fn new(gemm: Gemm, target: &Target) -> Prepared {
        let start = Instant::now();
        let kernel = kernel(&gemm);
        let compiled = clif::compile_kernel(&kernel, target).expect("GEMM compiles");
        let compile_ms = start.elapsed().as_secs_f64() * 1e3;
        let bytes = compiled.code.len();
        let scratch = vec![0.0; compiled.scratch_bytes / 4 + 16];
        let code = clif::jit(&[compiled], target).expect("the host runs its own code");
        let (m, n, k) = (gemm.m as usize, gemm.n as usize, gemm.k as usize);
        let value = |i: usize| ((i * 2_654_435_761) % 1009) as f32 / 504.5 - 1.0;
        let a: Vec<f32> = (0..m * k).map(value).collect();
        let b: Vec<f32> = (0..k * n).map(|i| value(i + 77)).collect();
        let b = pack(&b, n, k, gemm.tile.columns as usize);
        let a = match gemm.rows {
            Rows::Strided { .. } => a,
            Rows::Packed => {
                let transposed: Vec<f32> = (0..m * k).map(|i| a[i % m * k + i / m]).collect();
                pack(&transposed, m, k, gemm.tile.rows as usize)
            }
        };
        Prepared { gemm, code, extent: kernel.parallel_extent(), scratch, a, b, c: vec![0.0; m * n], compile_ms, bytes }
    }

    /// Seconds of each parallel index in one run.
    fn run(&mut self) -> Vec<f64> {
        let args = [self.a.as_mut_ptr().cast::<u8>(), self.b.as_mut_ptr().cast(), self.c.as_mut_ptr().cast()];
        let scratch = self.scratch.as_mut_ptr().cast::<u8>();
        let scratch = scratch.wrapping_add(scratch.align_offset(64));
        let timed = |index: i64| {
            let start = Instant::now();
            // SAFETY: the buffers have the kernel's lengths, and the scratch its size beyond the alignment.
            unsafe { self.code.entries()[0](args.as_ptr(), scratch, index, index + 1) };
            start.elapsed().as_secs_f64()
        };
        (0..self.extent).map(timed).collect()
    }

    fn flops(&self) -> f64 {
        2.0 * (self.gemm.m * self.gemm.n * self.gemm.k) as f64
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let sizes: Vec<i64> = arguments.iter().filter_map(|a| a.parse().ok()).collect();
    let (m, n, k) = match sizes[..] {
        [m, n, k] => (m, n, k),
        _ => (1024, 1024, 1024),
    };
    let target = Target::host().expect("the host is supported");
    println!("{m}×{n}×{k} f32 on {target}, one thread");
    let tried: Vec<Tile> = match arguments.iter().any(|a| a == "--tiles") {
        false => vec![Tile::for_target(&target, m)],
        true => {
            let shapes = [(4, 8), (5, 8), (6, 8), (3, 12), (4, 12), (2, 16), (3, 16)];
            let tile = |(rows, columns)| [1, 2, 4, 8].map(|unroll| Tile { rows, columns, unroll });
            shapes.into_iter().flat_map(tile).collect()
        }
    };
    for tile in tried {
        for rows in [Rows::Strided { stride: k }, Rows::Packed] {
            let mut prepared = Prepared::new(Gemm::new(m, n, k, rows, tile), &target);
            prepared.run();
            // interleaved, and the median of each block: what else runs on the machine meets both alike
            let (mut blocks, mut peaks) = (vec![Vec::new(); prepared.extent as usize], Vec::new());
            for _ in 0..15 {
                peaks.extend(peak::gflops());
                for (all, seconds) in blocks.iter_mut().zip(prepared.run()) {
                    all.push(seconds);
                }
            }
            let seconds: f64 = blocks.iter_mut().map(|block| median(block)).sum();
            let gflops = prepared.flops() / seconds / 1e9;
            let layout = if rows == Rows::Packed { "packed A" } else { "A as it is" };
            print!(
                "{:>2}×{:<2} unrolled {} {layout:<10} compile {:4.1} ms {:5} bytes: {gflops:6.1} GFLOP/s",
                tile.rows, tile.columns, tile.unroll, prepared.compile_ms, prepared.bytes,
            );
            match peaks.is_empty() {
                true => println!(),
                false => {
                    let peak = median(&mut peaks);
                    println!(", 128-bit peak {peak:6.1}: {:4.1} %", 100.0 * gflops / peak);
                }
            }
        }
    }
}
