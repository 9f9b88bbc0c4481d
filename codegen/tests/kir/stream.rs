//! Stores past the caches: the same results as plain stores, where the memory has their alignment and where it has not.

use kiln_codegen::kir::*;
use kiln_codegen::native::{self, Backend, Features, Target};
use proptest::prelude::*;

/// y[row · pitch + start + i] = 2 · x[row · columns + i], `lanes` at a time.
fn doubled(dtype: DType, [rows, columns, pitch, start]: [i64; 4], lanes: u32) -> Kernel {
    let mut b = KernelBuilder::new("doubled");
    let x = b.input("x", dtype, rows * columns);
    let y = b.output("y", dtype, rows * pitch + start);
    b.stream(y);
    let row = b.parallel(rows);
    b.for_each(columns / i64::from(lanes), |b, step| {
        let value = b.load(x, (row * columns) + step * i64::from(lanes), lanes);
        let value = b.add(value, value);
        b.store(y, (row * pitch) + step * i64::from(lanes) + start, value);
    });
    b.finish().unwrap()
}

fn wide() -> Vec<Target> {
    let host = Target::host().unwrap();
    let levels = Features::ALL.into_iter().filter(|&level| level <= host.features());
    let targets = levels.map(|level| Target::new(host.triple().clone(), level).unwrap());
    targets.filter(|target| target.backend() == Backend::Wide).collect()
}

#[test]
fn streamed_results_are_stored_past_the_caches_and_fenced() {
    for target in wide() {
        let listing = |kernel: &Kernel| native::assembly(kernel, &target).unwrap();
        let whole = listing(&doubled(DType::F32, [4, 64, 64, 0], 16));
        assert!(whole.contains("vmovntps") && whole.contains("sfence"), "{target}:\n{whole}");
        // the other loop, for memory without alignment
        assert!(whole.contains("vmovups"), "{target}:\n{whole}");
        // rows that do not begin with a vector, less than a vector at a time
        for kernel in [doubled(DType::F32, [4, 64, 65, 0], 16), doubled(DType::F32, [4, 64, 64, 0], 4)] {
            assert!(!listing(&kernel).contains("vmovntps"), "{target}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn streamed_results_are_those_of_plain_stores(
        dtype in prop::sample::select(vec![DType::F32, DType::F64, DType::I32, DType::I64, DType::U8]),
        rows in 1..5i64,
        lines in 1..4i64,
        gap in prop::sample::select(vec![0, 16, 64, 3]),
        start in prop::sample::select(vec![0, 16, 5]),
        lanes in prop::sample::select(vec![8u32, 16, 32, 64]),
        offset in 0..3usize,
    ) {
        let columns = lines * 64;
        let kernel = doubled(dtype, [rows, columns, columns + gap, start], lanes);
        let size = dtype.size();
        for target in wide() {
            let mut buffers: Vec<Vec<u8>> = kernel.buffers.iter().map(|p| vec![7; p.len as usize * size]).collect();
            for (i, byte) in buffers[0].iter_mut().enumerate() {
                *byte = (i % 61) as u8;
            }
            let (x, before) = (buffers[0].clone(), buffers[1].clone());
            interpret(&kernel, &mut buffers, 0..kernel.parallel_extent(), true).unwrap();
            // at the beginning of a line, or some elements after it
            let mut memory = vec![0u8; 64 + offset * size + before.len()];
            let begin = memory.as_ptr().align_offset(64) + offset * size;
            let y = &mut memory[begin..begin + before.len()];
            y.copy_from_slice(&before);
            let mut aligned: Vec<u64> = vec![0; x.len().div_ceil(8)];
            bytes_of(&mut aligned)[..x.len()].copy_from_slice(&x);
            let code = native::jit(&[native::compile_kernel(&kernel, &target).unwrap()], &target).unwrap();
            let args = [aligned.as_mut_ptr().cast::<u8>(), y.as_mut_ptr()];
            // SAFETY: the buffers are as long as the kernel says, their elements aligned; it has no scratch.
            unsafe { code.entries()[0](args.as_ptr(), std::ptr::null_mut(), 0, kernel.parallel_extent()) };
            prop_assert_eq!(&*y, &buffers[1][..], "{}", target);
        }
    }
}

fn bytes_of(words: &mut [u64]) -> &mut [u8] {
    let len = words.len() * 8;
    // SAFETY: bytes have no alignment and any bits.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), len) }
}
