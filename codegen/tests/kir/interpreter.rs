//! What the interpreter refuses.

use kiln_codegen::kir::*;

/// y = x[x[0]] of 16 `i64`, with an index promised to be in 0..`extent`.
fn indirect(extent: i64) -> Kernel {
    let mut b = KernelBuilder::new("indirect");
    let x = b.input("x", DType::I64, 16);
    let y = b.output("y", DType::I64, 1);
    let index = b.load(x, 0, 1);
    let value = b.load(x, Index::dynamic(index, extent), 1);
    b.store(y, 0, value);
    b.finish_unverified()
}

fn run(kernel: &Kernel, first: i64) -> Result<Vec<u8>, InterpretError> {
    let mut x: Vec<u8> = first.to_le_bytes().to_vec();
    x.extend((1..16i64).flat_map(|i| (i * 10).to_le_bytes()));
    let mut buffers = vec![x, vec![0; 8]];
    interpret(kernel, &mut buffers, 0..kernel.parallel_extent(), true)?;
    Ok(buffers.remove(1))
}

#[test]
fn a_run_time_index_is_followed_within_its_range() {
    assert_eq!(run(&indirect(16), 7).unwrap(), 70i64.to_le_bytes());
}

#[test]
fn a_run_time_index_outside_its_range_is_an_error() {
    for found in [-1, 16, i64::MIN] {
        let error = run(&indirect(16), found).unwrap_err();
        assert_eq!(error.to_string(), format!("kernel `indirect`: %0 is {found}, not in 0..16 as promised"));
    }
}

#[test]
fn a_malformed_kernel_is_refused_before_it_runs() {
    assert!(matches!(run(&indirect(17), 0), Err(InterpretError::Malformed(_))));
}

#[test]
fn buffers_have_the_kernel_s_sizes() {
    let kernel = indirect(16);
    let error = interpret(&kernel, &mut [vec![0; 128]], 0..1, true).unwrap_err();
    assert_eq!(error.to_string(), "kernel `indirect` takes 2 buffers, found 1");
    let error = interpret(&kernel, &mut [vec![0; 120], vec![0; 8]], 0..1, true).unwrap_err();
    assert_eq!(error.to_string(), "buffer `x` of kernel `indirect` has 128 bytes, found 120");
}

#[test]
fn scratch_keeps_what_was_stored_and_starts_with_anything() {
    let mut b = KernelBuilder::new("scratch");
    let y = b.output("y", DType::I32, 16);
    let sums = b.scratch("sums", DType::I32, 8);
    let bytes = b.scratch("bytes", DType::U8, 3);
    let i = b.parallel(2);
    let start = b.index_value(i);
    let start = b.convert(start, DType::I32);
    let start = b.splat(start, 8);
    b.store(sums, 0, start);
    let seven = b.constant_int(VType::new(DType::U8, 3), 7);
    b.store(bytes, 0, seven);
    b.for_each(3, |b, j| {
        let (sum, byte) = (b.load(sums, 0, 8), b.load_splat(bytes, j, 8));
        let byte = b.convert(byte, DType::I32);
        let sum = b.add(sum, byte);
        b.store(sums, 0, sum);
    });
    let sum = b.load(sums, 0, 8);
    b.store(y, i * 8, sum);
    let kernel = b.finish().unwrap();
    assert_eq!(kernel.scratch_offsets(), [0, 64]);
    assert_eq!(kernel.scratch_bytes(), 128);
    let mut buffers = vec![vec![0; 64]];
    let mut compiled = buffers.clone();
    interpret(&kernel, &mut buffers, 0..2, true).unwrap();
    crate::run::run_jit(&kernel, &kiln_codegen::native::Target::host().unwrap(), &mut compiled);
    let expected: Vec<u8> = [21i32; 8].into_iter().chain([22; 8]).flat_map(i32::to_le_bytes).collect();
    assert_eq!((&buffers[0], &compiled[0]), (&expected, &expected));
}

#[test]
fn products_of_bytes_are_unsigned_by_signed_and_never_saturate() {
    let mut b = KernelBuilder::new("dot");
    let (x, w) = (b.input("x", DType::U8, 8), b.input("w", DType::I8, 8));
    let y = b.output("y", DType::I32, 2);
    let sum = b.constant_int(VType::new(DType::I32, 2), i64::from(i32::MAX));
    let (left, right) = (b.load_words(x, 0, 4, 2), b.load_words(w, 0, 4, 2));
    let sum = b.dot_bytes(left, right, sum);
    b.store(y, 0, sum);
    let kernel = b.finish().unwrap();
    let bytes = |numbers: [i8; 8]| numbers.map(|n| n as u8).to_vec();
    let mut buffers =
        [vec![255, 255, 255, 255, 1, 2, 3, 200], bytes([-128, -128, -128, -128, 127, -1, 0, 1]), vec![0; 8]];
    interpret(&kernel, &mut buffers, 0..1, true).unwrap();
    let expected = [i32::MAX - 4 * 255 * 128, i32::MAX.wrapping_add(127 - 2 + 200)];
    assert_eq!(buffers[2], expected.map(i32::to_le_bytes).concat());
}
