//! Conversions to the 16-bit floats round once, from whatever dtype and at any number of lanes.

use crate::run::run_jit;
use half::{bf16, f16};
use kiln_codegen::kir::*;
use kiln_codegen::native::{Features, Target};
use kiln_ir::DType;
use kiln_ir::narrow::{bf16_from_f64, bf16_from_i64, f16_from_f64};

/// Neighbours of the middles between 16-bit floats, where a second rounding goes wrong, and other numbers.
fn doubles() -> Vec<f64> {
    let mut all =
        vec![0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e300, -1e300, 1e-320, 65519.999999, 65520.0];
    let halves = (0..0x7BFF).step_by(61).map(|b| (f16::from_bits(b).to_f64(), f16::from_bits(b + 1).to_f64()));
    let brains = (0..0x7F7F).step_by(53).map(|b| (bf16::from_bits(b).to_f64(), bf16::from_bits(b + 1).to_f64()));
    for (i, (a, b)) in halves.chain(brains).enumerate() {
        let middle = (a + b) / 2.0;
        let sign = if i.is_multiple_of(2) { 1.0 } else { -1.0 };
        all.extend(
            [middle.next_down(), middle, middle.next_up(), middle + (b - a) * 1e-9, middle - (b - a) * 1e-9]
                .map(|v| v * sign),
        );
    }
    all
}

/// The same for integers: middles of bf16 at every size, and what is just beside them.
fn integers() -> Vec<i64> {
    let mut all = vec![0, 1, -1, i64::MIN, i64::MAX, i64::MIN + 1, 65519, 65520];
    for bits in 8..62 {
        for digits in [0x100i64, 0x101, 0x17F, 0x180, 0x1FE, 0x1FF] {
            let middle = digits << (bits - 8);
            all.extend([middle - 1, middle, middle + 1].into_iter().flat_map(|v| [v, -v]));
        }
    }
    all
}

fn kernel(from: DType, to: DType, lanes: u32, n: usize) -> Kernel {
    let mut b = KernelBuilder::new("convert");
    let x = b.input("x", from, n as i64);
    let y = b.output("y", to, n as i64);
    let i = b.parallel(n as i64 / i64::from(lanes));
    let value = b.load(x, i * i64::from(lanes), lanes);
    let converted = b.convert(value, to);
    b.store(y, i * i64::from(lanes), converted);
    b.finish().unwrap_or_else(|e| panic!("{e}"))
}

/// Checks that each of `values` becomes the bits that `expected` says, by the interpreter and the JIT at every level.
fn check<T: Copy + std::fmt::Debug, const N: usize>(
    (from, to): (DType, DType),
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
    expected: impl Fn(T) -> (u16, bool),
) {
    let host = Target::host().expect("the host is supported");
    let levels = Features::ALL.into_iter().filter(|&l| l <= host.features());
    let targets: Vec<Target> = levels.map(|l| Target::new(host.triple().clone(), l).unwrap()).collect();
    for lanes in [1u32, 2, 4, 8] {
        let n = values.len() / 8 * 8;
        let kernel = kernel(from, to, lanes, n);
        let input: Vec<u8> = values[..n].iter().flat_map(|&v| bytes(v)).collect();
        let mut interpreted = vec![input, vec![0; 2 * n]];
        let mut compiled: Vec<_> = targets.iter().map(|t| (t, interpreted.clone())).collect();
        interpret(&kernel, &mut interpreted, 0..kernel.parallel_extent(), true).unwrap();
        compiled.iter_mut().for_each(|(target, buffers)| run_jit(&kernel, target, buffers));
        let ways = compiled.iter().map(|(t, b)| (t.to_string(), b)).chain([("interpreter".into(), &interpreted)]);
        for (way, buffers) in ways {
            for (&value, found) in values.iter().zip(buffers[1].as_chunks().0) {
                let (found, (bits, nan)) = (u16::from_le_bytes(*found), expected(value));
                let found_nan = Bits(found.into()).to_f64(to).is_nan();
                let right = if nan { found_nan } else { found == bits };
                assert!(right, "{way}, {lanes} lanes: {from} {value:?} became {to} {found:#06x}, not {bits:#06x}");
            }
        }
    }
}

#[test]
fn f64_rounds_once_to_either_16_bit_float() {
    let half = |v: f64| (f16_from_f64(v).to_bits(), v.is_nan());
    check((DType::F64, DType::F16), &doubles(), f64::to_le_bytes, half);
    let brain = |v: f64| (bf16_from_f64(v).to_bits(), v.is_nan());
    check((DType::F64, DType::BF16), &doubles(), f64::to_le_bytes, brain);
}

#[test]
fn integers_round_once_to_either_16_bit_float() {
    let (wide, short): (Vec<i64>, Vec<i32>) =
        (integers(), integers().iter().filter_map(|&v| v.try_into().ok()).collect());
    // What an f64 does not hold exactly is beyond f16.
    check((DType::I64, DType::F16), &wide, i64::to_le_bytes, |v| (f16_from_f64(v as f64).to_bits(), false));
    check((DType::I32, DType::F16), &short, i32::to_le_bytes, |v| (f16_from_f64(v.into()).to_bits(), false));
    check((DType::I64, DType::BF16), &wide, i64::to_le_bytes, |v| (bf16_from_i64(v).to_bits(), false));
    check((DType::I32, DType::BF16), &short, i32::to_le_bytes, |v| (bf16_from_i64(v.into()).to_bits(), false));
}

#[test]
fn a_16_bit_float_that_was_widened_narrows_to_itself() {
    for dtype in [DType::F16, DType::BF16] {
        let mut b = KernelBuilder::new("move");
        let (x, y) = (b.input("x", dtype, 4), b.output("y", dtype, 4));
        let value = b.load(x, 0, 4);
        let wide = b.convert(value, DType::F32);
        let narrow = b.convert(wide, dtype);
        assert_eq!(narrow, value, "{dtype}");
        // The other format is another matter.
        let other = if dtype == DType::F16 { DType::BF16 } else { DType::F16 };
        let across = b.convert(wide, other);
        let back = b.convert(across, dtype);
        assert_ne!(back, value, "{dtype}");
        b.store(y, 0, back);
        b.finish().unwrap_or_else(|e| panic!("{e}"));
    }
}
