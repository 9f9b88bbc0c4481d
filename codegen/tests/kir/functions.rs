//! Mathematical functions, swept over their arguments: f32 against the system's f64 functions, f64 against the
//! system's own (which are within 1 ulp), by JIT and by interpreter.

use crate::run::{first_difference, run_jit};
use kiln_codegen::kir::*;
use kiln_codegen::native::{Features, Target};

/// A kernel that applies `op` to `n` elements.
fn unary_kernel(op: UnaryOp, dtype: DType, n: usize) -> Kernel {
    let mut b = KernelBuilder::new(format!("{op:?}"));
    let x = b.input("x", dtype, n as i64);
    let y = b.output("y", dtype, n as i64);
    let lanes = 8;
    let i = b.parallel(n as i64 / lanes);
    let value = b.load(x, i * lanes, lanes as u32);
    let result = b.unary(op, value);
    b.store(y, i * lanes, result);
    b.finish().unwrap()
}

fn binary_kernel(op: BinaryOp, dtype: DType, n: usize) -> Kernel {
    let mut b = KernelBuilder::new(format!("{op:?}"));
    let x = b.input("x", dtype, n as i64);
    let y = b.input("y", dtype, n as i64);
    let z = b.output("z", dtype, n as i64);
    let lanes = 8;
    let i = b.parallel(n as i64 / lanes);
    let a = b.load(x, i * lanes, lanes as u32);
    let c = b.load(y, i * lanes, lanes as u32);
    let result = b.binary(op, a, c);
    b.store(z, i * lanes, result);
    b.finish().unwrap()
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn f64_bytes(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn f64s(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect()
}

fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Every 9,973rd f32 and all special ones.
fn f32_sweep() -> Vec<f32> {
    let mut all: Vec<f32> = (0..=u32::MAX).step_by(9973).map(f32::from_bits).collect();
    all.extend([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN, f32::MIN_POSITIVE]);
    all.extend([1e-45, -1e-45, 1.0, -1.0, 0.5, 2.0, 88.72283, 88.72284, -87.33655, -103.97208, -103.97209]);
    // the f32 closest to a multiple of π/2, and large ones
    all.extend([16367173.0 * 2f32.powi(72), 1e6, 999_999.94, 1_000_000.06, 3.0e38]);
    all.resize(all.len().next_multiple_of(8), 1.5);
    all
}

/// Random f64 of every exponent, uniform ones near 0, and all special ones.
fn f64_sweep() -> Vec<f64> {
    let mut state = 42;
    let mut all = vec![0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MAX, f64::MIN, f64::MIN_POSITIVE];
    all.extend([5e-324, -5e-324, 1.0, -1.0, 709.782712893384, 709.7827128933841, -745.1332191019411, -708.4, 1e22]);
    for _ in 0..200_000 {
        all.push(f64::from_bits(next(&mut state)));
        all.push((next(&mut state) as i64) as f64 / 2f64.powi(58));
        all.push((next(&mut state) as i64) as f64 / 2f64.powi(53));
        all.push((next(&mut state) as i64) as f64 / 2f64.powi(40));
    }
    all.resize(all.len().next_multiple_of(8), 1.5);
    all
}

/// Distance in units in the last place of `exact` rounded to f32.
fn ulp_f32(found: f32, exact: f64) -> f64 {
    let nearest = exact as f32;
    if found == nearest || (found.is_nan() && exact.is_nan()) {
        return 0.0;
    }
    if found.is_nan() != exact.is_nan() || found.is_infinite() || nearest.is_infinite() {
        // rounding to infinity or to the largest number is a matter of half a unit
        let largest = f64::from(f32::MAX);
        let close = exact.abs() > largest * (1.0 - 1e-6) && f64::from(found.abs()) > largest * (1.0 - 1e-6);
        return if close && f64::from(found).signum() == exact.signum() { 1.0 } else { f64::INFINITY };
    }
    let unit = (exact.abs().log2().floor() as i32 - 23).max(-149);
    (f64::from(found) - exact).abs() / 2f64.powi(unit)
}

fn ulp_f64(found: f64, exact: f64) -> f64 {
    if found == exact || (found.is_nan() && exact.is_nan()) {
        return 0.0;
    }
    if found.is_nan() || exact.is_nan() {
        return f64::INFINITY;
    }
    (found.to_bits() as i64).abs_diff(exact.to_bits() as i64) as f64
}

unsafe extern "C" {
    safe fn erf(x: f64) -> f64;
}

/// erf for the f32 sweep comes from the C library, like every f64 function of Rust's.
fn reference(op: UnaryOp) -> fn(f64) -> f64 {
    match op {
        UnaryOp::Exp => f64::exp,
        UnaryOp::Log => f64::ln,
        UnaryOp::Log1p => f64::ln_1p,
        UnaryOp::Tanh => f64::tanh,
        UnaryOp::Erf => |x| erf(x),
        UnaryOp::Sin => f64::sin,
        UnaryOp::Cos => f64::cos,
        UnaryOp::Atan => f64::atan,
        _ => unreachable!("not a function"),
    }
}

/// With and without fused multiply-add, in every width of vectors.
fn targets() -> Vec<Target> {
    let host = Target::host().unwrap();
    let levels = Features::ALL.into_iter().filter(|&level| level <= host.features());
    levels.map(|level| Target::new(host.triple().clone(), level).unwrap()).collect()
}

#[track_caller]
fn check_f32(op: UnaryOp, bound: f64) {
    let x = f32_sweep();
    let kernel = unary_kernel(op, DType::F32, x.len());
    for target in targets() {
        let mut buffers = vec![f32_bytes(&x), f32_bytes(&vec![0.0; x.len()])];
        run_jit(&kernel, &target, &mut buffers);
        let found = f32s(&buffers[1]);
        let errors = x.iter().zip(&found).map(|(&x, &y)| (ulp_f32(y, reference(op)(f64::from(x))), x, y));
        let worst = errors.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        assert!(worst.0 <= bound, "{op:?} of f32 {:?} is {:?}: {} ulp for {target}", worst.1, worst.2, worst.0);
    }
}

#[track_caller]
fn check_f64(op: UnaryOp, bound: f64) {
    let x = f64_sweep();
    let kernel = unary_kernel(op, DType::F64, x.len());
    for target in targets() {
        let mut buffers = vec![f64_bytes(&x), f64_bytes(&vec![0.0; x.len()])];
        run_jit(&kernel, &target, &mut buffers);
        let found = f64s(&buffers[1]);
        let errors = x.iter().zip(&found).map(|(&x, &y)| (ulp_f64(y, reference(op)(x)), x, y));
        let worst = errors.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        // the reference itself may be one off
        assert!(worst.0 <= bound + 1.0, "{op:?} of f64 {:?} is {:?}: {} ulp for {target}", worst.1, worst.2, worst.0);
    }
}

/// The table of bounds of the page for users is that of the module.
#[test]
fn the_page_has_the_bounds_of_the_code() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/numbers.md")).unwrap();
    let code = include_str!("../../src/kir/math/mod.rs");
    let rows: Vec<&str> = code.lines().filter_map(|line| line.strip_prefix("//! |")).collect();
    assert!(rows.len() > 9, "{rows:?}");
    for row in rows {
        assert!(page.contains(&format!("\n|{row}\n")), "docs/numbers.md lacks |{row}");
    }
}

#[test]
fn exp_is_within_2_ulp() {
    check_f32(UnaryOp::Exp, 2.0);
    check_f64(UnaryOp::Exp, 2.0);
}

#[test]
fn log_is_within_2_ulp() {
    check_f32(UnaryOp::Log, 2.0);
    check_f64(UnaryOp::Log, 2.0);
}

#[test]
fn log1p_is_within_3_ulp() {
    check_f32(UnaryOp::Log1p, 3.0);
    check_f64(UnaryOp::Log1p, 3.0);
}

#[test]
fn atan_is_within_2_ulp() {
    check_f32(UnaryOp::Atan, 2.0);
    check_f64(UnaryOp::Atan, 2.0);
}

#[test]
fn tanh_is_within_4_ulp() {
    check_f32(UnaryOp::Tanh, 4.0);
    check_f64(UnaryOp::Tanh, 4.0);
}

#[test]
fn erf_is_within_2_and_4_ulp() {
    check_f32(UnaryOp::Erf, 2.0);
    check_f64(UnaryOp::Erf, 4.0);
}

#[test]
fn sin_is_within_2_and_3_ulp() {
    check_f32(UnaryOp::Sin, 2.0);
    check_f64(UnaryOp::Sin, 3.0);
}

#[test]
fn cos_is_within_2_and_3_ulp() {
    check_f32(UnaryOp::Cos, 2.0);
    check_f64(UnaryOp::Cos, 3.0);
}

#[test]
fn cos_of_the_f64_closest_to_a_multiple_of_half_pi_is_right() {
    // computed with 2,000 bits; C libraries differ from it by several ulp
    let expected = -4.687165924254628e-19;
    let mut x = vec![0.0; 8];
    x[3] = 6381956970095103.0 * 2f64.powi(797);
    let kernel = unary_kernel(UnaryOp::Cos, DType::F64, 8);
    let mut buffers = vec![f64_bytes(&x), f64_bytes(&[0.0; 8])];
    run_jit(&kernel, &Target::host().unwrap(), &mut buffers);
    assert!(ulp_f64(f64s(&buffers[1])[3], expected) <= 3.0, "{:?}", f64s(&buffers[1]));
}

/// Pairs of ordinary numbers, of numbers of all exponents, and all pairs of special ones.
fn pairs() -> (Vec<f64>, Vec<f64>) {
    let specials = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        2.0,
        -2.0,
        3.0,
        -3.0,
        0.5,
        -0.5,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        1e-40,
        1e30,
        -1e30,
        1e9,
        -1e9,
    ];
    let mut state = 7;
    let mut all: Vec<(f64, f64)> = specials.iter().flat_map(|&x| specials.iter().map(move |&y| (x, y))).collect();
    for _ in 0..40_000 {
        let small = |bits: u64| (bits as i64) as f64 / 2f64.powi(60);
        all.push((small(next(&mut state)).abs(), small(next(&mut state)) * 4.0));
        all.push((small(next(&mut state)), (small(next(&mut state)) * 2.0).round()));
        let any = |bits: u64| f64::from(f32::from_bits(bits as u32));
        all.push((any(next(&mut state)), any(next(&mut state))));
        all.push((any(next(&mut state)), small(next(&mut state))));
    }
    all.resize(all.len().next_multiple_of(8), (2.0, 2.0));
    all.into_iter().unzip()
}

#[test]
fn pow_of_f32_is_within_1_ulp_and_has_the_special_values_of_ieee_754() {
    let (x, y) = pairs();
    let (x, y): (Vec<f32>, Vec<f32>) = (x.iter().map(|&v| v as f32).collect(), y.iter().map(|&v| v as f32).collect());
    let kernel = binary_kernel(BinaryOp::Pow, DType::F32, x.len());
    for target in targets() {
        let mut buffers = vec![f32_bytes(&x), f32_bytes(&y), f32_bytes(&vec![0.0; x.len()])];
        run_jit(&kernel, &target, &mut buffers);
        for ((&x, &y), &z) in x.iter().zip(&y).zip(&f32s(&buffers[2])) {
            let exact = f64::from(x).powf(f64::from(y));
            let error = ulp_f32(z, exact);
            assert!(error <= 1.0, "{x:?} to {y:?} is {z:?}, expected {exact:?} ({error} ulp, {target})");
            assert!(z != 0.0 || exact.is_sign_negative() == z.is_sign_negative(), "{x:?} to {y:?} is {z:?}");
        }
    }
}

#[test]
fn pow_of_f64_is_within_its_bound() {
    let (x, y) = pairs();
    let kernel = binary_kernel(BinaryOp::Pow, DType::F64, x.len());
    for target in targets() {
        let mut buffers = vec![f64_bytes(&x), f64_bytes(&y), f64_bytes(&vec![0.0; x.len()])];
        run_jit(&kernel, &target, &mut buffers);
        for ((&x, &y), &z) in x.iter().zip(&y).zip(&f64s(&buffers[2])) {
            let exact = x.powf(y);
            let logarithm = (y * x.abs().ln()).abs();
            let bound = if logarithm.is_finite() { 4.0 + 2.0 * logarithm } else { 0.0 };
            let error = ulp_f64(z, exact);
            assert!(error <= bound, "{x:?} to {y:?} is {z:?}, expected {exact:?} ({error} ulp, {target})");
        }
    }
}

#[test]
fn remainders_are_exact() {
    let (x, y) = pairs();
    let kernel = binary_kernel(BinaryOp::Rem, DType::F32, x.len());
    let (narrow_x, narrow_y): (Vec<f32>, Vec<f32>) =
        (x.iter().map(|&v| v as f32).collect(), y.iter().map(|&v| v as f32).collect());
    for target in targets() {
        let mut buffers = vec![f32_bytes(&narrow_x), f32_bytes(&narrow_y), f32_bytes(&vec![0.0; x.len()])];
        run_jit(&kernel, &target, &mut buffers);
        for ((&x, &y), &z) in narrow_x.iter().zip(&narrow_y).zip(&f32s(&buffers[2])) {
            assert!(z.to_bits() == (x % y).to_bits() || (z.is_nan() && (x % y).is_nan()), "{x:?} % {y:?} is {z:?}");
        }
    }
    let kernel = binary_kernel(BinaryOp::Rem, DType::F64, x.len());
    let mut state = 3;
    let scrambled: Vec<f64> = x
        .iter()
        .map(|&v| if v == v.trunc() { v } else { f64::from_bits(v.to_bits() ^ (next(&mut state) >> 12)) })
        .chain([f64::MAX, 5e-324, f64::MAX, 1e300, 4.0, 1e-310, 1e-300, 7.5])
        .collect();
    let y: Vec<f64> = y.into_iter().chain([5e-324, f64::MAX, 3e-320, 1.7, 5e-324, 3e-310, 2e-309, 2.5]).collect();
    let kernel = if scrambled.len() == x.len() { kernel } else { binary_kernel(BinaryOp::Rem, DType::F64, y.len()) };
    for target in targets() {
        let mut buffers = vec![f64_bytes(&scrambled), f64_bytes(&y), f64_bytes(&vec![0.0; y.len()])];
        run_jit(&kernel, &target, &mut buffers);
        for ((&x, &y), &z) in scrambled.iter().zip(&y).zip(&f64s(&buffers[2])) {
            assert!(z.to_bits() == (x % y).to_bits() || (z.is_nan() && (x % y).is_nan()), "{x:?} % {y:?} is {z:?}");
        }
    }
}

#[test]
fn integer_powers_wrap_and_negative_exponents_truncate() {
    let x: [i32; 8] = [3, -2, 1, -1, 0, 7, -1, 5];
    let y: [i32; 8] = [4, 31, -5, -3, -1, 40, -4, -1];
    let expected: [i32; 8] = [81, i32::MIN, 1, -1, 0, 7i32.wrapping_pow(40), 1, 0];
    let kernel = binary_kernel(BinaryOp::Pow, DType::I32, 8);
    let bytes = |v: &[i32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mut buffers = vec![bytes(&x), bytes(&y), bytes(&[0; 8])];
    run_jit(&kernel, &Target::host().unwrap(), &mut buffers);
    assert_eq!(buffers[2], bytes(&expected));
}

#[test]
fn functions_give_the_same_bits_by_interpreter_and_jit() {
    let x: Vec<f32> = f32_sweep().into_iter().step_by(409).chain([3e38, f32::NAN, -0.0]).collect();
    let mut x = x;
    x.resize(x.len().next_multiple_of(8), 0.25);
    use UnaryOp::{Atan, Cos, Erf, Exp, Log, Log1p, Sin, Tanh};
    for op in [Exp, Log, Log1p, Tanh, Erf, Sin, Cos, Atan] {
        let kernel = unary_kernel(op, DType::F32, x.len());
        for target in targets() {
            let mut expected = vec![f32_bytes(&x), f32_bytes(&vec![0.0; x.len()])];
            let mut found = expected.clone();
            interpret(&kernel, &mut expected, 0..kernel.parallel_extent(), target.has_fma()).unwrap();
            run_jit(&kernel, &target, &mut found);
            let at = first_difference(DType::F32, &expected[1], &found[1]);
            assert_eq!(at.map(|i| (x[i], f32s(&expected[1])[i], f32s(&found[1])[i])), None, "{op:?} {target}");
        }
    }
}
