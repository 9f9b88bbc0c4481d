//! The sinks of the Cranelift back end.

use kiln_codegen::clif;
use kiln_codegen::kir::*;
use kiln_codegen::native::{self, Features, JitError, Target, TargetError};

use crate::random::random_kernel;
use crate::run::run_jit;

/// y[i] = x[i] + `addend` over 64 elements.
fn add(addend: f64) -> Kernel {
    let mut b = KernelBuilder::new("add");
    let x = b.input("x", DType::F32, 64);
    let y = b.output("y", DType::F32, 64);
    let i = b.parallel(8);
    let value = b.load(x, i * 8, 8);
    let addend = b.constant(VType::new(DType::F32, 8), addend);
    let sum = b.add(value, addend);
    b.store(y, i * 8, sum);
    b.finish().unwrap()
}

fn words(count: usize, seed: u64) -> Vec<u32> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as u32
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn a_range_of_the_parallel_loop_touches_nothing_else() {
    let compiled = native::compile_kernel(&add(1.0), &Target::host().unwrap()).unwrap();
    let code = native::jit(&[compiled], &Target::host().unwrap()).unwrap();
    let mut x = [1.0f32; 64];
    let mut y = [0.0f32; 64];
    let args = [x.as_mut_ptr().cast::<u8>(), y.as_mut_ptr().cast()];
    // SAFETY: both buffers have 64 elements.
    unsafe {
        code.entries()[0](args.as_ptr(), std::ptr::null_mut(), 3, 5);
        code.entries()[0](args.as_ptr(), std::ptr::null_mut(), 7, 7);
    }
    let expected: Vec<f32> = (0..64).map(|i| if (24..40).contains(&i) { 2.0 } else { 0.0 }).collect();
    assert_eq!(y.to_vec(), expected);
}

#[test]
fn a_buffer_may_be_both_input_and_output() {
    let compiled = native::compile_kernel(&add(1.0), &Target::host().unwrap()).unwrap();
    let code = native::jit(&[compiled], &Target::host().unwrap()).unwrap();
    let mut x = [1.0f32; 64];
    let args = [x.as_mut_ptr().cast::<u8>(); 2];
    // SAFETY: the buffer has 64 elements; loads and stores happen in program order.
    unsafe { code.entries()[0](args.as_ptr(), std::ptr::null_mut(), 0, 8) };
    assert_eq!(x, [2.0; 64]);
}

#[test]
fn the_same_kernel_gives_the_same_bytes_on_any_number_of_threads() {
    let kernels: Vec<Kernel> = (0..24).map(|seed| random_kernel(words(200, seed))).collect();
    let target = Target::host().unwrap();
    let one: Vec<_> = native::compile_kernels(&kernels, &target, 1).into_iter().map(Result::unwrap).collect();
    let many: Vec<_> = native::compile_kernels(&kernels, &target, 5).into_iter().map(Result::unwrap).collect();
    assert_eq!(one, many);
}

#[test]
fn every_target_compiles_random_kernels_without_relocations() {
    // relocations would be an error
    for name in ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64-unknown-linux-gnu", "aarch64-apple-darwin"] {
        let target = Target::named(name).unwrap();
        for seed in 0..60 {
            let kernel = random_kernel(words(250, seed));
            native::compile_kernel(&kernel, &target).unwrap_or_else(|e| panic!("{e}\n{kernel}"));
        }
    }
}

#[test]
fn functions_compile_for_every_target() {
    use UnaryOp::*;
    for name in ["x86-64-v2", "aarch64-unknown-linux-gnu"] {
        let target = Target::named(name).unwrap();
        for (dtype, lanes) in [(DType::F32, 7), (DType::F64, 4), (DType::F32, 1)] {
            let mut b = KernelBuilder::new("functions");
            let x = b.input("x", dtype, 64);
            let y = b.output("y", dtype, 640);
            let value = b.load(x, 0, lanes);
            for (at, op) in (0..).zip([Exp, Log, Log1p, Tanh, Erf, Sin, Cos, Atan]) {
                let result = b.unary(op, value);
                b.store(y, at * 64, result);
            }
            for (at, op) in (6..).zip([BinaryOp::Pow, BinaryOp::Rem]) {
                let result = b.binary(op, value, value);
                b.store(y, at * 64, result);
            }
            native::compile_kernel(&b.finish().unwrap(), &target).unwrap();
        }
    }
}

#[test]
fn code_for_another_machine_is_refused() {
    let foreign = match Target::host().unwrap().triple().architecture.to_string().as_str() {
        "aarch64" => "x86_64-unknown-linux-gnu",
        _ => "aarch64-unknown-linux-gnu",
    };
    let target = Target::named(foreign).unwrap();
    let compiled = native::compile_kernel(&add(1.0), &target).unwrap();
    assert!(matches!(native::jit(&[compiled], &target), Err(JitError::ForeignTarget { .. })));
}

#[test]
fn an_unknown_target_is_named_in_the_error() {
    let error = Target::named("pdp-11").unwrap_err();
    assert_eq!(error, TargetError::Unknown("pdp-11".to_owned()));
    assert!(error.to_string().contains("unknown target `pdp-11`: expected host, x86-64-v2"));
    assert!(matches!(Target::named("wasm32-unknown-unknown"), Err(TargetError::Unsupported { .. })));
}

#[test]
fn multiply_add_is_fused_exactly_where_the_target_says_so() {
    // (1 + 2⁻¹²)² = 1 + 2⁻¹¹ + 2⁻²⁴: the last term is lost in a product that is rounded by itself
    let mut b = KernelBuilder::new("fma");
    let y = b.output("y", DType::F32, 1);
    let x = b.input("x", DType::F32, 1);
    let value = b.load(x, 0, 1);
    let minus = b.constant(VType::scalar(DType::F32), -1.0 - 2f64.powi(-11));
    let result = b.fma(value, value, minus);
    b.store(y, 0, result);
    let kernel = b.finish().unwrap();
    let host = Target::host().unwrap();
    let baseline = Target::new(host.triple().clone(), Features::Baseline).unwrap();
    let half = Target::new(host.triple().clone(), host.features().min(Features::V3)).unwrap();
    for target in [host.clone().portable(), host, half, baseline] {
        let mut buffers = vec![vec![0; 4], (1.0 + 2f32.powi(-12)).to_le_bytes().to_vec()];
        run_jit(&kernel, &target, &mut buffers);
        let expected = if target.has_fma() { 2f32.powi(-24) } else { 0.0 };
        assert_eq!(buffers[0], expected.to_le_bytes());
    }
}

#[test]
fn a_listing_shows_clif_and_machine_instructions() {
    let listing = clif::emit_clif(&add(1.0), &Target::named("x86-64-v3").unwrap()).unwrap();
    insta::assert_snapshot!(format!("{}\n{}", listing.clif, listing.asm));
}

#[cfg(target_os = "linux")]
#[test]
fn dropping_code_frees_its_memory() {
    let mapped = || -> usize {
        // the second number of statm: resident pages; the first: mapped ones
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').next().unwrap().parse().unwrap()
    };
    let target = Target::host().unwrap();
    let compiled = native::compile_kernel(&add(1.0), &target).unwrap();
    // 256 KiB of code an executable
    let many: Vec<_> = std::iter::repeat_n(compiled, 2048).collect();
    drop(native::jit(&many, &target).unwrap());
    let before = mapped();
    for _ in 0..60 {
        drop(native::jit(&many, &target).unwrap());
    }
    let grown = mapped().saturating_sub(before) * 4096;
    // 60 arenas would be 15 MiB and more; other tests of this process run meanwhile
    assert!(grown < 8 << 20, "{grown} bytes are still mapped");
}
