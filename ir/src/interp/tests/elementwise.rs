use std::f64::consts::{E, LN_2, LN_10, SQRT_2};

use half::{bf16, f16};

use super::{folded, tensor, values};
use crate::attribute::Real;
use crate::dtype::DType;
use crate::interp::{EvalError, fold};
use crate::ops::{Level, Op, ROWS};
use crate::tensor::Tensor;

const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;

#[track_caller]
fn unary(op: Op, x: &[f32]) -> Vec<f32> {
    values(op, &[tensor(&[x.len()], x)])
}

#[track_caller]
fn binary(op: Op, x: &[f32], y: &[f32]) -> Vec<f32> {
    values(op, &[tensor(&[x.len()], x), tensor(&[y.len()], y)])
}

/// Equal, or both NaN; zeros by sign.
#[track_caller]
fn same(found: &[f32], expected: &[f32]) {
    let bits = |v: &[f32]| v.iter().map(|x| if x.is_nan() { NAN.to_bits() } else { x.to_bits() }).collect::<Vec<_>>();
    assert_eq!(bits(found), bits(expected), "{found:?} for {expected:?}");
}

/// Within half a unit of f32's last place of values given in double precision (a hundredth more for their own error).
#[track_caller]
fn correctly_rounded(found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (&f, &e) in found.iter().zip(expected) {
        let nearest = e as f32;
        let ulp = f64::from(nearest.abs().next_up()) - f64::from(nearest.abs());
        assert!((f64::from(f) - e).abs() <= 0.51 * ulp, "{f} for {e}");
    }
}

#[test]
fn arithmetic_of_floats_is_that_of_ieee_754() {
    same(&binary(Op::Add {}, &[1.0, 1e30, INF, -0.0], &[2.0, 1.0, -INF, -0.0]), &[3.0, 1e30, NAN, -0.0]);
    same(&binary(Op::Sub {}, &[1.0, 0.1], &[2.0, 0.3]), &[-1.0, 0.1 - 0.3]);
    same(&binary(Op::Mul {}, &[3.0, 0.0, 1e-30], &[-2.0, INF, 1e-30]), &[-6.0, NAN, 0.0]);
    same(&binary(Op::Div {}, &[1.0, -1.0, 0.0, 7.0], &[0.0, 0.0, 0.0, 2.0]), &[INF, -INF, NAN, 3.5]);
    same(&binary(Op::Rem {}, &[5.5, -5.5, 5.5, 1.0, INF], &[2.0, 2.0, -2.0, 0.0, 2.0]), &[1.5, -1.5, 1.5, NAN, NAN]);
    same(&binary(Op::Maximum {}, &[1.0, NAN, 2.0, -0.0], &[2.0, 1.0, NAN, 0.0]), &[2.0, NAN, NAN, 0.0]);
    same(&binary(Op::Minimum {}, &[1.0, NAN, 2.0, -0.0], &[2.0, 1.0, NAN, 0.0]), &[1.0, NAN, NAN, -0.0]);
}

#[test]
fn rounding_functions_keep_the_sign_of_zero() {
    same(&unary(Op::Floor {}, &[-1.5, -0.0, 0.5, 2.0, -INF, NAN]), &[-2.0, -0.0, 0.0, 2.0, -INF, NAN]);
    same(&unary(Op::Ceil {}, &[-1.5, -0.5, 0.5, 2.0]), &[-1.0, -0.0, 1.0, 2.0]);
    same(&unary(Op::Round {}, &[-2.5, -0.5, 0.5, 1.5, 2.5, 8388609.0]), &[-2.0, -0.0, 0.0, 2.0, 2.0, 8388609.0]);
    same(&unary(Op::Abs {}, &[-1.5, -0.0, NAN, -INF]), &[1.5, 0.0, NAN, INF]);
    same(&unary(Op::Sign {}, &[-1.5, -0.0, 0.0, NAN, INF]), &[-1.0, -0.0, 0.0, NAN, 1.0]);
    same(&unary(Op::Neg {}, &[1.0, 0.0, -INF]), &[-1.0, -0.0, INF]);
}

#[test]
fn transcendental_functions_agree_with_published_values() {
    // Abramowitz & Stegun, tables 4.1, 4.4, 4.6, 4.15 and 7.1; e, ln 2 and so on to 17 digits.
    correctly_rounded(&unary(Op::Exp {}, &[1.0, -1.0, 0.5]), &[E, 0.36787944117144233, 1.6487212707001282]);
    correctly_rounded(&unary(Op::Log {}, &[2.0, 10.0, 0.5]), &[LN_2, LN_10, -LN_2]);
    correctly_rounded(
        &unary(Op::Sin {}, &[1.0, 0.5, -2.0]),
        &[0.8414709848078965, 0.479425538604203, -0.9092974268256817],
    );
    correctly_rounded(
        &unary(Op::Cos {}, &[1.0, 0.5, 3.0]),
        &[0.5403023058681398, 0.8775825618903728, -0.9899924966004454],
    );
    correctly_rounded(
        &unary(Op::Tanh {}, &[1.0, 0.5, -0.25]),
        &[0.7615941559557649, 0.46211715726000973, -0.24491866240370913],
    );
    correctly_rounded(
        &unary(Op::Erf {}, &[0.5, 1.0, -2.0]),
        &[0.5204998778130465, 0.8427007929497149, -0.9953222650189527],
    );
    correctly_rounded(&unary(Op::Rsqrt {}, &[4.0, 16.0]), &[0.5, 0.25]);
    correctly_rounded(&binary(Op::Pow {}, &[2.0, 10.0, 2.0], &[0.5, -2.0, 10.0]), &[SQRT_2, 0.01, 1024.0]);
}

#[test]
fn transcendental_functions_have_their_limits_at_infinity_and_pass_nan_on() {
    same(&unary(Op::Exp {}, &[-INF, INF, 89.0, -104.0, NAN]), &[0.0, INF, INF, 0.0, NAN]);
    same(&unary(Op::Log {}, &[0.0, -1.0, INF, NAN]), &[-INF, NAN, INF, NAN]);
    same(&unary(Op::Sqrt {}, &[-1.0, -0.0, INF, 2.25]), &[NAN, -0.0, INF, 1.5]);
    same(&unary(Op::Rsqrt {}, &[0.0, INF, -1.0]), &[INF, 0.0, NAN]);
    same(&unary(Op::Reciprocal {}, &[0.0, -0.0, INF, 4.0]), &[INF, -INF, 0.0, 0.25]);
    same(&unary(Op::Tanh {}, &[-INF, INF, -0.0, NAN]), &[-1.0, 1.0, -0.0, NAN]);
    same(&unary(Op::Erf {}, &[-INF, INF, -0.0, NAN]), &[-1.0, 1.0, -0.0, NAN]);
    same(&unary(Op::Sin {}, &[INF, -0.0]), &[NAN, -0.0]);
    same(&binary(Op::Pow {}, &[0.0, NAN, 1.0, -8.0], &[0.0, 0.0, NAN, 0.5]), &[1.0, 1.0, 1.0, NAN]);
}

#[test]
fn integers_wrap_and_divide_without_trapping() {
    let pair = |x: &[i8], y: &[i8]| [tensor(&[x.len()], x), tensor(&[y.len()], y)];
    assert_eq!(values::<i8>(Op::Add {}, &pair(&[127, -128], &[1, -1])), [-128, 127]);
    assert_eq!(values::<i8>(Op::Mul {}, &pair(&[64, -128], &[2, -1])), [-128, -128]);
    assert_eq!(values::<i8>(Op::Div {}, &pair(&[7, -7, 5, -128], &[2, 2, 0, -1])), [3, -3, 0, -128]);
    assert_eq!(values::<i8>(Op::Rem {}, &pair(&[7, -7, 5, -128], &[-3, 3, 0, -1])), [1, -1, 0, 0]);
    assert_eq!(values::<i8>(Op::Pow {}, &pair(&[2, 2, -1, 1, 0, 3], &[7, -1, -3, -9, -1, 0])), [-128, 0, -1, 1, 0, 1]);
    let one = |x: &[i8]| [tensor(&[x.len()], x)];
    assert_eq!(values::<i8>(Op::Abs {}, &one(&[-128, -1, 3])), [-128, 1, 3]);
    assert_eq!(values::<i8>(Op::Neg {}, &one(&[-128, 1])), [-128, -1]);
    assert_eq!(values::<i8>(Op::Sign {}, &one(&[-128, 0, 9])), [-1, 0, 1]);
    assert_eq!(values::<i8>(Op::Not {}, &one(&[0, -1])), [-1, 0]);
    let unsigned = |x: &[u8], y: &[u8]| [tensor(&[x.len()], x), tensor(&[y.len()], y)];
    assert_eq!(values::<u8>(Op::Sub {}, &unsigned(&[3, 200], &[5, 100])), [254, 100]);
    assert_eq!(values::<u8>(Op::Maximum {}, &unsigned(&[3, 200], &[5, 100])), [5, 200]);
    let wide = [Tensor::scalar(i64::MIN), Tensor::scalar(-1i64)];
    assert_eq!(values::<i64>(Op::Div {}, &wide), [i64::MIN]);
}

#[test]
fn comparisons_give_truth_and_nan_equals_nothing() {
    let x = [tensor(&[4], &[1.0f32, 2.0, NAN, 0.0]), tensor(&[4], &[2.0f32, 2.0, NAN, -0.0])];
    let compare = |op| values::<bool>(op, &x);
    assert_eq!(compare(Op::Equal {}), [false, true, false, true]);
    assert_eq!(compare(Op::NotEqual {}), [true, false, true, false]);
    assert_eq!(compare(Op::Less {}), [true, false, false, false]);
    assert_eq!(compare(Op::LessEqual {}), [true, true, false, true]);
    assert_eq!(compare(Op::Greater {}), [false, false, false, false]);
    assert_eq!(compare(Op::GreaterEqual {}), [false, true, false, true]);
    assert_eq!(values::<bool>(Op::IsNan {}, &x[..1]), [false, false, true, false]);
}

#[test]
fn logic_works_on_truth_and_on_bits() {
    let x = [tensor(&[4], &[true, true, false, false]), tensor(&[4], &[true, false, true, false])];
    assert_eq!(values::<bool>(Op::And {}, &x), [true, false, false, false]);
    assert_eq!(values::<bool>(Op::Or {}, &x), [true, true, true, false]);
    assert_eq!(values::<bool>(Op::Xor {}, &x), [false, true, true, false]);
    assert_eq!(values::<bool>(Op::Not {}, &x[..1]), [false, false, true, true]);
    let bits = [tensor(&[1], &[0b1100u8]), tensor(&[1], &[0b1010u8])];
    assert_eq!(values::<u8>(Op::And {}, &bits), [0b1000]);
    assert_eq!(values::<u8>(Op::Or {}, &bits), [0b1110]);
    assert_eq!(values::<u8>(Op::Xor {}, &bits), [0b0110]);
}

#[test]
fn select_takes_either_side_even_where_the_other_is_nan() {
    let condition = tensor(&[2], &[true, false]);
    let x = values::<f32>(Op::Select {}, &[condition, tensor(&[2], &[1.0f32, NAN]), tensor(&[2], &[NAN, 2.0f32])]);
    assert_eq!(x, [1.0, 2.0]);
}

#[test]
fn conversions_truncate_saturate_wrap_and_round() {
    let x = tensor(&[7], &[1.9f32, -1.9, 300.0, -300.0, NAN, INF, 0.0]);
    let to = |dtype| folded(Op::Convert { dtype }, std::slice::from_ref(&x));
    assert_eq!(to(DType::I8).to_vec::<i8>().unwrap(), [1, -1, 127, -128, 0, 127, 0]);
    assert_eq!(to(DType::U8).to_vec::<u8>().unwrap(), [1, 0, 255, 0, 0, 255, 0]);
    assert_eq!(to(DType::I64).to_vec::<i64>().unwrap()[4..6], [0, i64::MAX]);
    assert_eq!(to(DType::Bool).to_vec::<bool>().unwrap(), [true, true, true, true, true, true, false]);

    let wide = tensor(&[3], &[300i64, -1, 1 << 33]);
    let to = |dtype| folded(Op::Convert { dtype }, std::slice::from_ref(&wide));
    assert_eq!(to(DType::I8).to_vec::<i8>().unwrap(), [44, -1, 0]);
    assert_eq!(to(DType::U8).to_vec::<u8>().unwrap(), [44, 255, 0]);
    assert_eq!(to(DType::Bool).to_vec::<bool>().unwrap(), [true, true, true]);

    let ties = tensor(&[2], &[(1i64 << 24) + 1, (1 << 24) + 3]);
    let f32s = folded(Op::Convert { dtype: DType::F32 }, &[ties]).to_vec::<f32>().unwrap();
    assert_eq!(f32s, [16777216.0, 16777220.0]);
    let truth = folded(Op::Convert { dtype: DType::F32 }, &[tensor(&[2], &[true, false])]);
    assert_eq!(truth.to_vec::<f32>().unwrap(), [1.0, 0.0]);
    let half = folded(Op::Convert { dtype: DType::F16 }, &[tensor(&[2], &[0.1f64, 1e6])]).to_vec::<f16>().unwrap();
    assert_eq!(half.map_bits(), [0x2e66, 0x7c00]);
    let back = folded(Op::Convert { dtype: DType::F64 }, &[tensor(&[1], &[f16::from_f32(0.1)])]);
    assert_eq!(back.to_vec::<f64>().unwrap(), [0.0999755859375]);
}

trait MapBits {
    fn map_bits(&self) -> Vec<u16>;
}
impl MapBits for Vec<f16> {
    fn map_bits(&self) -> Vec<u16> {
        self.iter().map(|h| h.to_bits()).collect()
    }
}

#[test]
fn halves_are_rounded_after_each_op_and_doubles_keep_their_precision() {
    // 2048 + 1 is a tie in f16 and goes to even; 256 + 1 is one in bf16.
    let sum = folded(Op::Add {}, &[tensor(&[1], &[f16::from_f32(2048.0)]), tensor(&[1], &[f16::ONE])]);
    assert_eq!(sum.to_vec::<f16>().unwrap(), [f16::from_f32(2048.0)]);
    let sum = folded(Op::Add {}, &[tensor(&[1], &[bf16::from_f32(256.0)]), tensor(&[1], &[bf16::ONE])]);
    assert_eq!(sum.to_vec::<bf16>().unwrap(), [bf16::from_f32(256.0)]);
    let product = folded(Op::Mul {}, &[tensor(&[1], &[f16::from_f32(300.0)]), tensor(&[1], &[f16::from_f32(300.0)])]);
    assert_eq!(product.to_vec::<f16>().unwrap(), [f16::INFINITY]);
    let third = folded(Op::Div {}, &[Tensor::scalar(1f64), Tensor::scalar(3f64)]);
    assert_eq!(third.to_vec::<f64>().unwrap(), [1.0 / 3.0]);
}

#[test]
fn activations_have_their_textbook_values() {
    let x = [-3.0, -1.0, 0.0, 1.0, 4.0];
    same(&unary(Op::Relu {}, &x), &[0.0, 0.0, 0.0, 1.0, 4.0]);
    same(&unary(Op::Clip { min: Real(-2.0), max: Real(3.0) }, &x), &[-2.0, -1.0, 0.0, 1.0, 3.0]);
    same(&unary(Op::LeakyRelu { slope: Real(0.25) }, &x), &[-0.75, -0.25, 0.0, 1.0, 4.0]);
    same(&binary(Op::PRelu {}, &x, &[0.5, 2.0, 3.0, 4.0, 5.0]), &[-1.5, -2.0, 0.0, 1.0, 4.0]);
    same(&unary(Op::HardSigmoid { alpha: Real(0.25), beta: Real(0.5) }, &x), &[0.0, 0.25, 0.5, 0.75, 1.0]);
    same(&unary(Op::HardSwish {}, &[-3.0, 0.0, 3.0, 6.0, -1.5]), &[-0.0, 0.0, 3.0, 6.0, -0.375]);
    same(&unary(Op::Softsign {}, &[-3.0, -1.0, 0.0, 1.0]), &[-0.75, -0.5, 0.0, 0.5]);
    for op in [Op::Relu {}, Op::Clip { min: Real(0.0), max: Real(6.0) }, Op::HardSwish {}, Op::Sigmoid {}] {
        same(&unary(op, &[NAN]), &[NAN]);
    }
}

/// Relative error of a formula of n f32 operations is at most about n · 2^-24; the longest here has 12.
#[track_caller]
fn close(found: &[f32], expected: &[f64]) {
    for (&f, &e) in found.iter().zip(expected) {
        assert!((f64::from(f) - e).abs() <= 12.0 * 2f64.powi(-24) * e.abs(), "{f} for {e}");
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn smooth_activations_agree_with_numpy() {
    // numpy 2.4 and math.erf, in double precision, at −1, 0.5 and 2.
    let x = [-1.0, 0.5, 2.0];
    close(&unary(Op::Sigmoid {}, &x), &[0.2689414213699951, 0.6224593312018546, 0.8807970779778825]);
    close(&unary(Op::Silu {}, &x), &[-0.2689414213699951, 0.3112296656009273, 1.761594155955765]);
    close(&unary(Op::Elu { alpha: Real(2.0) }, &x), &[-1.2642411176571153, 0.5, 2.0]);
    close(&unary(Op::Gelu {}, &x), &[-0.15865525393145707, 0.34573123063700656, 1.9544997361036416]);
    close(&unary(Op::GeluTanh {}, &x), &[-0.15880800939172324, 0.34571400982514394, 1.954597694087775]);
    close(&unary(Op::Softplus {}, &x), &[0.31326168751822286, 0.9740769841801067, 2.1269280110429727]);
    close(&unary(Op::Mish {}, &x), &[-0.30340146137410895, 0.3752452113048951, 1.9439589595339946]);
    // Without overflow: log(1 + e^x) is x for large x.
    same(&unary(Op::Softplus {}, &[200.0, -200.0]), &[200.0, 0.0]);
    same(&unary(Op::Sigmoid {}, &[-INF, INF]), &[0.0, 1.0]);
}

#[test]
fn fused_elementwise_broadcasts_extents_of_one_and_types_each_step() {
    let op = Op::FusedElementwise { expr: "max(a0 * a1, 0) + a2".parse().unwrap() };
    let x = [tensor(&[2, 2], &[1f32, -2.0, 3.0, -4.0]), tensor(&[1, 2], &[10f32, 100.0]), tensor(&[1, 1], &[0.5f32])];
    assert_eq!(values::<f32>(op, &x), [10.5, 0.5, 30.5, 0.5]);
    let op = Op::FusedElementwise { expr: "select(a0 < 3, i32(a0), i32(7))".parse().unwrap() };
    assert_eq!(values::<i32>(op, &[tensor(&[3], &[1.5f32, 3.0, NAN])]), [1, 7, 7]);
    let constant = Op::FusedElementwise { expr: "1.5".parse().unwrap() };
    assert_eq!(values::<f32>(constant, &[tensor(&[2, 1], &[1i64, 2])]), [1.5, 1.5]);
}

#[test]
fn elementwise_ops_take_scalars_and_empty_tensors() {
    for row in ROWS.iter().filter(|r| r.level != Level::L2 && r.operands.len() == 1 && r.formula.is_some()) {
        let Ok(op) = Op::from_attributes(row.mnemonic, &[]) else { continue };
        let dtype = if row.mnemonic == "not" { DType::Bool } else { DType::F32 };
        let scalar = folded(op.clone(), &[Tensor::zeros(dtype, &[]).unwrap()]);
        assert_eq!(scalar.dims(), [0usize; 0], "{}", row.mnemonic);
        let empty = folded(op, &[Tensor::zeros(dtype, &[3, 0]).unwrap()]);
        assert_eq!(empty.dims(), [3, 0], "{}", row.mnemonic);
    }
}

#[test]
fn operands_of_different_dims_are_an_error_not_a_broadcast() {
    let error = fold(&Op::Add {}, &[tensor(&[2], &[1f32, 2.0]), Tensor::scalar(1f32)]).unwrap_err();
    assert!(matches!(error, EvalError::Infer(_)), "{error}");
}

/// 2001 steps from `low` to `high`.
fn sweep(low: f64, high: f64) -> impl Iterator<Item = f64> {
    (0..=2000).map(move |i| low + (high - low) * f64::from(i) / 2000.0)
}

#[track_caller]
fn within(found: f64, expected: f64, units: f64, what: &str) {
    let unit = expected.abs().next_up() - expected.abs();
    assert!((found - expected).abs() <= units * unit, "{what}: {found:e} for {expected:e}");
}

#[test]
fn f64_functions_agree_with_the_platforms_own() {
    // Two implementations within 1 ulp each of the truth are within 2 of each other; tanh and pow within 2 each.
    type Function = fn(f64) -> f64;
    let functions: [(Op, Function, f64, f64, f64); 12] = [
        (Op::Exp {}, f64::exp, -745.0, 709.0, 2.0),
        (Op::Log {}, f64::ln, 1e-3, 1e6, 2.0),
        (Op::Sin {}, f64::sin, -100.0, 100.0, 2.0),
        (Op::Cos {}, f64::cos, -100.0, 100.0, 2.0),
        (Op::Log1p {}, f64::ln_1p, -0.999, 1e3, 2.0),
        (Op::Atan {}, f64::atan, -50.0, 50.0, 2.0),
        (Op::Asin {}, f64::asin, -1.0, 1.0, 6.0),
        (Op::Acos {}, f64::acos, -1.0, 1.0, 6.0),
        // Rust's own hyperbolic ones lose digits near 0, 1 and −1, so not there: see the next test
        (Op::Asinh {}, f64::asinh, 0.5, 50.0, 6.0),
        (Op::Acosh {}, f64::acosh, 1.5, 50.0, 6.0),
        (Op::Atanh {}, f64::atanh, -0.5, 0.999, 6.0),
        (Op::Tanh {}, f64::tanh, -20.0, 20.0, 4.0),
    ];
    for (op, function, low, high, units) in functions {
        let x: Vec<f64> = sweep(low, high).collect();
        for (&x, y) in x.iter().zip(values::<f64>(op.clone(), &[tensor(&[x.len()], &x)])) {
            within(y, function(x), units, &format!("{} {x}", op.mnemonic()));
        }
    }
    let (x, y): (Vec<f64>, Vec<f64>) = sweep(0.01, 30.0).map(|x| (x, 7.0 - x)).unzip();
    let powers = values::<f64>(Op::Pow {}, &[tensor(&[x.len()], &x), tensor(&[y.len()], &y)]);
    for ((&x, &y), p) in x.iter().zip(&y).zip(powers) {
        within(p, x.powf(y), 4.0, &format!("{x} to the power {y}"));
    }
}

#[test]
fn inverse_functions_keep_their_precision_near_the_ends_of_their_domains() {
    // Series at 0 and at 1, whose next term is below 2e-16 of the sum.
    for x in [1e-6f64, -1e-7, 1e-9] {
        let at = |op: Op| values::<f64>(op, &[tensor(&[1], &[x])])[0];
        within(at(Op::Asin {}), x + x.powi(3) / 6.0, 6.0, "asin near 0");
        within(at(Op::Asinh {}), x - x.powi(3) / 6.0, 6.0, "asinh near 0");
        within(at(Op::Atanh {}), x + x.powi(3) / 3.0, 6.0, "atanh near 0");
        within(at(Op::Atan {}), x - x.powi(3) / 3.0, 2.0, "atan near 0");
    }
    let x: f64 = 1.0 + 2f64.powi(-40);
    let t = x - 1.0;
    let acosh = values::<f64>(Op::Acosh {}, &[tensor(&[1], &[x])])[0];
    within(acosh, (2.0 * t).sqrt() * (1.0 - t / 12.0), 6.0, "acosh near 1");
    let acos = values::<f64>(Op::Acos {}, &[tensor(&[1], &[1.0 - t])])[0];
    within(acos, (2.0 * t).sqrt() * (1.0 + t / 12.0), 6.0, "acos near 1");
}

#[test]
fn inverse_functions_have_the_values_of_c_at_the_ends_and_beyond() {
    let pi = std::f32::consts::PI;
    same(&unary(Op::Atan {}, &[-INF, INF, -0.0, NAN]), &[-pi / 2.0, pi / 2.0, -0.0, NAN]);
    same(&unary(Op::Asin {}, &[-1.0, 1.0, -0.0, 1.5, -INF, NAN]), &[-pi / 2.0, pi / 2.0, -0.0, NAN, NAN, NAN]);
    same(&unary(Op::Acos {}, &[-1.0, 1.0, 1.5, -1.5, INF, -INF, NAN]), &[pi, 0.0, NAN, NAN, NAN, NAN, NAN]);
    same(&unary(Op::Asinh {}, &[-INF, INF, 0.0, -0.0, NAN]), &[-INF, INF, 0.0, -0.0, NAN]);
    same(&unary(Op::Acosh {}, &[1.0, INF, 0.5, -3.0, -1e30, -INF, NAN]), &[0.0, INF, NAN, NAN, NAN, NAN, NAN]);
    same(&unary(Op::Atanh {}, &[-1.0, 1.0, -0.0, 1.5, -INF, NAN]), &[-INF, INF, -0.0, NAN, NAN, NAN]);
    same(&unary(Op::Log1p {}, &[-1.0, -2.0, -0.0, INF, NAN]), &[-INF, NAN, -0.0, INF, NAN]);
    // squares of these are infinite
    for x in [1e25f64, 3e38] {
        let found = unary(Op::Asinh {}, &[x as f32, -x as f32])[0];
        assert!((f64::from(found) - (2.0 * x).ln()).abs() < 1e-5, "asinh {x}: {found}");
        assert!((f64::from(unary(Op::Acosh {}, &[x as f32])[0]) - (2.0 * x).ln()).abs() < 1e-5);
    }
}

#[test]
fn erf_agrees_with_the_integral_that_defines_it() {
    // Simpson's rule with 2000 steps of h: its error is at most x · h^4/180 times the largest fourth derivative, 12,
    // so below 1.4e-13 for x ≤ 2, times 2/√π; rounding is far less.
    let points: Vec<f64> = (1..=40).map(|i| f64::from(i) / 20.0).collect();
    let found = values::<f64>(Op::Erf {}, &[tensor(&[points.len()], &points)]);
    for (&x, y) in points.iter().zip(found) {
        let h = x / 2000.0;
        let f = |i: i32| (-(f64::from(i) * h).powi(2)).exp();
        let inner: f64 = (1..2000).map(|i| if i % 2 == 1 { 4.0 * f(i) } else { 2.0 * f(i) }).sum();
        let integral = (f(0) + inner + f(2000)) * h / 3.0 * std::f64::consts::FRAC_2_SQRT_PI;
        assert!((y - integral).abs() < 2e-13, "erf {x}: {y} for {integral}");
    }
}
