//! Running kernels on random buffers.

use kiln_codegen::kir::*;
use kiln_codegen::native::{self, Target};

/// Elements of a dtype: small and large numbers and every special one, from a seed.
pub fn random_bytes(dtype: DType, len: i64, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes = Vec::new();
    for _ in 0..len {
        let r = next();
        let small = (r >> 32) as i32 as f64 / 2f64.powi(26);
        let float = match r % 16 {
            0 => {
                [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e-41, -3e-310, 65519.0][(r >> 8) as usize % 8]
            }
            1 => f64::from_bits(next()),
            2 => f64::from(f32::from_bits(next() as u32)),
            3 => (small * 4.0).round() / 2.0,
            _ => small,
        };
        let integer = match r % 8 {
            0 => [0, -1, i64::MIN, i64::MAX, i32::MIN.into(), 127, -128, 255][(r >> 8) as usize % 8],
            1 => next() as i64,
            _ => (r >> 16) as i64 % 200 - 50,
        };
        let bits = match dtype.is_float() {
            true => Bits::from_f64(dtype, float),
            false => Bits::from_i64(dtype, integer),
        };
        bytes.extend_from_slice(&bits.0.to_le_bytes()[..dtype.size()]);
    }
    bytes
}

/// Buffers of a kernel with random content.
pub fn random_buffers(kernel: &Kernel, seed: u64) -> Vec<Vec<u8>> {
    let numbered = kernel.buffers.iter().zip(seed..);
    numbered.map(|(param, seed)| random_bytes(param.dtype, param.len, seed)).collect()
}

/// Runs a kernel's whole parallel range by JIT.
pub fn run_jit(kernel: &Kernel, target: &Target, buffers: &mut [Vec<u8>]) {
    let compiled = native::compile_kernel(kernel, target).unwrap_or_else(|e| panic!("{e}\n{kernel}"));
    let scratch_bytes = compiled.scratch_bytes();
    let code = native::jit(&[compiled], target).expect("the host runs its own code");
    // buffers as the runtime gives them: 64-byte aligned
    let mut aligned: Vec<Vec<[u64; 8]>> = buffers.iter().map(|b| vec![[0; 8]; b.len().div_ceil(64)]).collect();
    for (to, from) in aligned.iter_mut().zip(buffers.iter()) {
        to.as_flattened_mut().iter_mut().zip(from.chunks(8)).for_each(|(word, bytes)| {
            let mut raw = [0; 8];
            raw[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(raw);
        });
    }
    #[repr(align(64))]
    #[derive(Clone, Copy)]
    struct Line(#[allow(dead_code)] [u8; 64]);
    let mut scratch = vec![Line([0xCD; 64]); scratch_bytes.div_ceil(64).max(1)];
    let args: Vec<*mut u8> = aligned.iter_mut().map(|b| b.as_mut_ptr().cast()).collect();
    // SAFETY: the buffers have the lengths that the kernel declares (the verifier bounds every access by them).
    unsafe { code.entries()[0](args.as_ptr(), scratch.as_mut_ptr().cast(), 0, kernel.parallel_extent()) };
    for (to, from) in buffers.iter_mut().zip(&aligned) {
        let bytes: Vec<u8> = from.as_flattened().iter().flat_map(|word| word.to_le_bytes()).collect();
        let len = to.len();
        to.copy_from_slice(&bytes[..len]);
    }
}

/// Whether two buffers hold the same elements: equal bits, or NaN on both sides.
pub fn first_difference(dtype: DType, a: &[u8], b: &[u8]) -> Option<usize> {
    let size = dtype.size();
    let element = |bytes: &[u8]| {
        let mut raw = [0; 8];
        raw[..size].copy_from_slice(bytes);
        Bits(u64::from_le_bytes(raw))
    };
    let pairs = a.chunks(size).zip(b.chunks(size)).map(|(a, b)| (element(a), element(b)));
    let nan = |bits: Bits| dtype.is_float() && bits.to_f64(dtype).is_nan();
    pairs.into_iter().position(|(a, b)| a != b && !(nan(a) && nan(b)))
}
