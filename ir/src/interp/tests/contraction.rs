use half::f16;
use proptest::prelude::*;

use super::{counting, folded, tensor, values};
use crate::attribute::{ConvLayout, Padding};
use crate::dtype::DType;
use crate::interp::{EvalError, Fp, Number, fold, fold_in};
use crate::ops::Op;
use crate::tensor::Tensor;

fn dot(lb: &[usize], rb: &[usize], lc: &[usize], rc: &[usize]) -> Op {
    Op::Dot { lhs_batch: lb.to_vec(), rhs_batch: rb.to_vec(), lhs_contract: lc.to_vec(), rhs_contract: rc.to_vec() }
}

#[test]
fn dot_is_the_matrix_product() {
    let x = [counting(&[2, 3]), counting(&[3, 2])];
    assert_eq!(values::<f32>(dot(&[], &[], &[1], &[0]), &x), [10., 13., 28., 40.]);
    // Contracting other axes is the product of transposes: result[j, i] = Σ_k x[k, j] · y[i, k].
    assert_eq!(folded(dot(&[], &[], &[0], &[1]), &x).dims(), [3, 3]);
    assert_eq!(values::<f32>(dot(&[], &[], &[0], &[1]), &x), [3., 9., 15., 4., 14., 24., 5., 19., 33.]);
}

#[test]
fn dot_orders_its_result_batch_then_lhs_then_rhs() {
    // Element by element, by the definition.
    let (x, y) = (counting(&[2, 3, 4]), counting(&[5, 2, 4]));
    let z = folded(dot(&[0], &[1], &[2], &[2]), &[x.clone(), y.clone()]);
    assert_eq!(z.dims(), [2, 3, 5]);
    let (x, y, z) = (x.to_f64_vec(), y.to_f64_vec(), z.to_f64_vec());
    for (b, i, j) in (0..2).flat_map(|b| (0..3).flat_map(move |i| (0..5).map(move |j| (b, i, j)))) {
        let sum: f64 = (0..4).map(|k| x[(b * 3 + i) * 4 + k] * y[(j * 2 + b) * 4 + k]).sum();
        assert_eq!(z[(b * 3 + i) * 5 + j], sum, "at {b}, {i}, {j}");
    }
}

#[test]
fn bytes_of_unlike_signs_are_summed_in_32_bits() {
    let (u, i) = (tensor(&[1, 3], &[255u8, 200, 3]), tensor(&[3, 2], &[-128i8, 127, -128, 127, 1, -1]));
    let sums = [-(255 + 200) * 128 + 3, (255 + 200) * 127 - 3];
    let op = || dot(&[], &[], &[1], &[0]);
    assert_eq!(values::<i32>(op(), &[u.clone(), i.clone()]), sums);
    // either may be the signed one
    assert_eq!(values::<i32>(dot(&[], &[], &[0], &[1]), &[i.clone(), u.clone()]), sums);
    let conv = Op::Conv {
        strides: vec![],
        padding: vec![],
        lhs_dilation: vec![],
        rhs_dilation: vec![],
        groups: 1,
        layout: ConvLayout::ChannelsLast,
    };
    let pixels = u.reshape(&[1, 3, 1]).unwrap();
    assert_eq!(values::<i32>(conv, &[pixels, i.reshape(&[3, 1, 2]).unwrap()]), sums);
    // alike, they stay bytes
    assert_eq!(values::<u8>(op(), &[u.clone(), u.reshape(&[3, 1]).unwrap()]), [(255u32 * 255 + 200 * 200 + 9) as u8]);
}

#[test]
fn dot_of_several_axes_of_none_and_of_nothing() {
    let x = counting(&[2, 3]);
    // The axes pair up in the order given: Σ x[i, j] · y[j, i].
    let both = dot(&[], &[], &[0, 1], &[1, 0]);
    assert_eq!(folded(both, &[x.clone(), counting(&[3, 2])]), Tensor::scalar(50f32));
    let outer = folded(dot(&[], &[], &[], &[]), &[counting(&[2]), counting(&[3])]);
    assert_eq!(outer, tensor(&[2, 3], &[0f32, 0., 0., 0., 1., 2.]));
    assert_eq!(folded(dot(&[], &[], &[], &[]), &[Tensor::scalar(3i32), Tensor::scalar(-4i32)]), Tensor::scalar(-12i32));
    let empty = folded(dot(&[], &[], &[1], &[0]), &[counting(&[2, 0]), counting(&[0, 3])]);
    assert_eq!(empty, Tensor::zeros(DType::F32, &[2, 3]).unwrap());
    assert_eq!(folded(dot(&[], &[], &[1], &[0]), &[counting(&[0, 2]), counting(&[2, 3])]).dims(), [0, 3]);
}

#[test]
fn products_wrap_keep_nan_and_round_halves_once() {
    let x = [tensor(&[1, 2], &[100i8, 100]), tensor(&[2, 1], &[2i8, 1])];
    assert_eq!(values::<i8>(dot(&[], &[], &[1], &[0]), &x), [44]);
    let x = [tensor(&[1, 2], &[0f32, 1.0]), tensor(&[2, 1], &[f32::INFINITY, 1.0])];
    assert!(values::<f32>(dot(&[], &[], &[1], &[0]), &x)[0].is_nan());
    let half = |v: &[f32]| v.iter().map(|&v| f16::from_f32(v)).collect::<Vec<_>>();
    let x = [tensor(&[1, 3], &half(&[2048.0, 1.0, 1.0])), tensor(&[3, 1], &half(&[1.0; 3]))];
    assert_eq!(values::<f16>(dot(&[], &[], &[1], &[0]), &x), [f16::from_f32(2050.0)]);
}

#[test]
fn fused_dot_applies_its_epilogue_with_broadcast_extras() {
    let op = Op::FusedDot {
        lhs_batch: vec![],
        rhs_batch: vec![],
        lhs_contract: vec![1],
        rhs_contract: vec![0],
        epilogue: "max(a0 + a1, 0) * a2".parse().unwrap(),
    };
    let extras = [tensor(&[1, 2], &[-20f32, -20.0]), tensor(&[2, 1], &[2f32, 0.5])];
    let x = [&[counting(&[2, 3]), counting(&[3, 2])], &extras[..]].concat();
    assert_eq!(values::<f32>(op, &x), [0., 0., 4., 10.]);
}

#[derive(Clone, Debug)]
struct Case {
    batch: usize,
    groups: usize,
    inputs: usize,
    outputs: usize,
    extents: [usize; 2],
    window: [usize; 2],
    strides: [usize; 2],
    padding: [Padding; 2],
    lhs_dilation: [usize; 2],
    rhs_dilation: [usize; 2],
}

impl Case {
    fn op(&self, layout: ConvLayout) -> Op {
        Op::Conv {
            strides: self.strides.to_vec(),
            padding: self.padding.to_vec(),
            lhs_dilation: self.lhs_dilation.to_vec(),
            rhs_dilation: self.rhs_dilation.to_vec(),
            groups: self.groups,
            layout,
        }
    }

    fn x_dims(&self) -> [usize; 4] {
        [self.batch, self.groups * self.inputs, self.extents[0], self.extents[1]]
    }

    fn w_dims(&self) -> [usize; 4] {
        [self.groups * self.outputs, self.inputs, self.window[0], self.window[1]]
    }

    /// Extent of x along spatial axis `i` with its zeros in and around it.
    fn padded(&self, i: usize) -> i64 {
        let dilated = if self.extents[i] == 0 { 0 } else { (self.extents[i] - 1) * self.lhs_dilation[i] + 1 };
        dilated as i64 + self.padding[i].low + self.padding[i].high
    }

    fn span(&self, i: usize) -> i64 {
        ((self.window[i] - 1) * self.rhs_dilation[i] + 1) as i64
    }

    /// The convolution the long way: x written out with every zero (and cropped), w written out with its holes, then
    /// a plain correlation of the two. Channels first.
    fn reference(&self, x: &[i32], w: &[i32]) -> (Vec<usize>, Vec<i32>) {
        let [n, c, h, width] = self.x_dims();
        let (ph, pw) = (self.padded(0) as usize, self.padded(1) as usize);
        let mut big = vec![0; n * c * ph * pw];
        for (plane, i, j) in (0..n * c).flat_map(|p| (0..h).flat_map(move |i| (0..width).map(move |j| (p, i, j)))) {
            let row = (i * self.lhs_dilation[0]) as i64 + self.padding[0].low;
            let column = (j * self.lhs_dilation[1]) as i64 + self.padding[1].low;
            if (0..ph as i64).contains(&row) && (0..pw as i64).contains(&column) {
                big[(plane * ph + row as usize) * pw + column as usize] = x[(plane * h + i) * width + j];
            }
        }
        let (sh, sw) = (self.span(0) as usize, self.span(1) as usize);
        let [k, ci, wh, ww] = self.w_dims();
        let mut holed = vec![0; k * ci * sh * sw];
        for (plane, r, s) in (0..k * ci).flat_map(|p| (0..wh).flat_map(move |r| (0..ww).map(move |s| (p, r, s)))) {
            holed[(plane * sh + r * self.rhs_dilation[0]) * sw + s * self.rhs_dilation[1]] =
                w[(plane * wh + r) * ww + s];
        }
        let (oh, ow) = ((ph - sh) / self.strides[0] + 1, (pw - sw) / self.strides[1] + 1);
        let mut out = vec![0i32; n * k * oh * ow];
        for (image, filter) in (0..n).flat_map(|n| (0..k).map(move |f| (n, f))) {
            let group = filter / self.outputs;
            for (i, j) in (0..oh).flat_map(|i| (0..ow).map(move |j| (i, j))) {
                let mut sum = 0i32;
                for channel in 0..ci {
                    let plane = image * c + group * ci + channel;
                    for (r, s) in (0..sh).flat_map(|r| (0..sw).map(move |s| (r, s))) {
                        let pixel = big[(plane * ph + i * self.strides[0] + r) * pw + j * self.strides[1] + s];
                        sum += pixel * holed[((filter * ci + channel) * sh + r) * sw + s];
                    }
                }
                out[((image * k + filter) * oh + i) * ow + j] = sum;
            }
        }
        (vec![n, k, oh, ow], out)
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let two = |range: std::ops::Range<usize>| prop::array::uniform2(range);
    let pads = prop::array::uniform2((-2i64..4, -2i64..4).prop_map(|(low, high)| Padding { low, high }));
    (0usize..3, 1usize..4, 0usize..3, 1usize..3, two(0..6), two(1..4), two(1..4), pads, two(1..4), two(1..4))
        .prop_map(|(batch, groups, inputs, outputs, extents, window, strides, padding, lhs_dilation, rhs_dilation)| {
            Case { batch, groups, inputs, outputs, extents, window, strides, padding, lhs_dilation, rhs_dilation }
        })
        .prop_filter("the window fits", |c| (0..2).all(|i| c.padded(i) >= c.span(i)))
}

fn small_integers(seed: u64, count: usize) -> Vec<i32> {
    crate::random::uniform(seed, count).map(|u| (u * 200.0) as i32 - 100).collect()
}

fn transposed(t: &Tensor, perm: &[usize]) -> Tensor {
    folded(Op::Transpose { perm: perm.to_vec() }, std::slice::from_ref(t))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// In integers both ways of computing are exact, so they must agree exactly.
    #[test]
    fn convolution_equals_correlation_of_buffers_with_every_zero_written_out(case in cases(), seed in any::<u64>()) {
        let (x_dims, w_dims) = (case.x_dims(), case.w_dims());
        let x = small_integers(seed, x_dims.iter().product());
        let w = small_integers(seed ^ 1, w_dims.iter().product());
        let (dims, expected) = case.reference(&x, &w);
        let (x, w) = (tensor(&x_dims, &x), tensor(&w_dims, &w));
        let first = folded(case.op(ConvLayout::ChannelsFirst), &[x.clone(), w.clone()]);
        prop_assert_eq!(first.dims(), &dims[..]);
        prop_assert_eq!(first.to_vec::<i32>().unwrap(), expected);

        let (x, w) = (transposed(&x, &[0, 2, 3, 1]), transposed(&w, &[2, 3, 1, 0]));
        let last = folded(case.op(ConvLayout::ChannelsLast), &[x, w]);
        prop_assert_eq!(transposed(&last, &[0, 3, 1, 2]), first);
    }

    /// conv(x + c·y, w) = conv(x, w) + c · conv(y, w), and the same in w: exactly, over the field.
    #[test]
    fn convolution_is_bilinear_over_the_prime_field(case in cases(), seed in any::<u64>(), c in 0i64..i64::from(Fp::P)) {
        let residues = |seed: u64, count: usize| -> Vec<Fp> {
            crate::random::uniform(seed, count).map(|u| Fp::new((u * f64::from(Fp::P)) as i64)).collect()
        };
        let (x_dims, w_dims) = (case.x_dims(), case.w_dims());
        let (nx, nw) = (x_dims.iter().product(), w_dims.iter().product());
        let (x, y) = (residues(seed, nx), residues(seed ^ 1, nx));
        let (w, v) = (residues(seed ^ 2, nw), residues(seed ^ 3, nw));
        let mix = |a: &[Fp], b: &[Fp]| -> Vec<Fp> {
            a.iter().zip(b).map(|(&a, &b)| a.plus(b.times(Fp::new(c)))).collect()
        };
        let conv = |x: &[Fp], w: &[Fp]| -> Vec<Fp> {
            // Residues as f64 constants are exact integers.
            let constant = |dims: &[usize], v: &[Fp]| {
                tensor(dims, &v.iter().map(|v| f64::from(v.residue())).collect::<Vec<_>>())
            };
            let operands = [constant(&x_dims, x), constant(&w_dims, w)];
            let result = fold_in::<Fp>(&case.op(ConvLayout::ChannelsFirst), &operands).unwrap().remove(0);
            assert_eq!(result.dtype(), DType::I64);
            result.to_vec::<i64>().unwrap().into_iter().map(Fp::new).collect()
        };
        prop_assert_eq!(conv(&mix(&x, &y), &w), mix(&conv(&x, &w), &conv(&y, &w)));
        prop_assert_eq!(conv(&x, &mix(&w, &v)), mix(&conv(&x, &w), &conv(&x, &v)));
    }
}

#[test]
fn convolutions_of_one_and_three_spatial_axes_match_hand_computed_ones() {
    let line = Op::Conv {
        strides: vec![2],
        padding: vec![Padding::same(1)],
        lhs_dilation: vec![],
        rhs_dilation: vec![],
        groups: 1,
        layout: ConvLayout::ChannelsFirst,
    };
    // x = 0 1 2 3 4, w = 1 10 100: at −1, 1 and 3.
    let w = tensor(&[1, 1, 3], &[1f32, 10.0, 100.0]);
    assert_eq!(values::<f32>(line, &[counting(&[1, 1, 5]), w]), [100., 321., 43.]);
    let cube = Op::Conv {
        strides: vec![],
        padding: vec![],
        lhs_dilation: vec![],
        rhs_dilation: vec![],
        groups: 1,
        layout: ConvLayout::ChannelsLast,
    };
    // The only window sums 0 + 1 + … + 7 against ones, and the corner against the second filter.
    let mut w = vec![0f32; 16];
    w.iter_mut().step_by(2).for_each(|v| *v = 1.0);
    w[15] = 1.0;
    let y = folded(cube, &[counting(&[1, 2, 2, 2, 1]), tensor(&[2, 2, 2, 1, 2], &w)]);
    assert_eq!(y, tensor(&[1, 1, 1, 1, 2], &[28f32, 7.0]));
}

#[test]
fn a_transposed_convolution_spreads_each_element_over_its_window() {
    let op = Op::Conv {
        strides: vec![],
        padding: vec![Padding::same(1)],
        lhs_dilation: vec![2],
        rhs_dilation: vec![],
        groups: 1,
        layout: ConvLayout::ChannelsFirst,
    };
    // Stride-2 transposed convolution of [1, 2, 3] by [a, b] = [5, 7], written as a correlation with [7, 5].
    let x = [tensor(&[1, 1, 3], &[1f32, 2.0, 3.0]), tensor(&[1, 1, 2], &[7f32, 5.0])];
    assert_eq!(values::<f32>(op, &x), [5., 7., 10., 14., 15., 21.]);
}

#[test]
fn fused_conv_sees_the_convolution_before_rounding() {
    let op = Op::FusedConv {
        strides: vec![],
        padding: vec![],
        lhs_dilation: vec![],
        rhs_dilation: vec![],
        groups: 1,
        layout: ConvLayout::ChannelsFirst,
        epilogue: "max(a0 + a1, 0)".parse().unwrap(),
    };
    let half = |dims: &[usize], v: &[f32]| tensor(dims, &v.iter().map(|&v| f16::from_f32(v)).collect::<Vec<_>>());
    // 2048 + 1 is no f16, but 2048 + 1 + 1 is.
    let x = [half(&[1, 2, 1], &[2048.0, 1.0]), half(&[1, 2, 1], &[1.0, 1.0]), half(&[1, 1, 1], &[1.0])];
    assert_eq!(values::<f16>(op, &x), [f16::from_f32(2050.0)]);
}

#[test]
fn f32_convolutions_stay_within_the_error_bound_of_a_sum() {
    // |Σ x·w computed − exact| ≤ γ(n) Σ |x·w| with γ(n) ≈ n · 2^-24 (Higham 2002, §3.1); the f64 run stands for exact.
    let dims = ([1usize, 8, 9, 9], [4usize, 8, 3, 3]);
    let random = |seed, dims: &[usize]| {
        let n = dims.iter().product();
        tensor(dims, &crate::random::uniform(seed, n).map(|u| (2.0 * u - 1.0) as f32).collect::<Vec<_>>())
    };
    let (x, w) = (random(1, &dims.0), random(2, &dims.1));
    let op = Op::Conv {
        strides: vec![],
        padding: vec![Padding::same(1); 2],
        lhs_dilation: vec![],
        rhs_dilation: vec![],
        groups: 1,
        layout: ConvLayout::ChannelsFirst,
    };
    let exact = fold_in::<f64>(&op, &[x.clone(), w.clone()]).unwrap().remove(0).to_vec::<f64>().unwrap();
    let magnitude = |t: &Tensor| folded(Op::Abs {}, std::slice::from_ref(t));
    let bounds = folded(op.clone(), &[magnitude(&x), magnitude(&w)]).to_f64_vec();
    let found = values::<f32>(op, &[x, w]);
    let mut differs = false;
    for ((f, e), bound) in found.into_iter().zip(exact).zip(bounds) {
        let error = (f64::from(f) - e).abs();
        differs |= error > 0.0;
        assert!(error <= 72.0 * 2f64.powi(-24) * bound, "{f} for {e}");
    }
    assert!(differs, "the f64 run must not be computed in f32");
}

#[test]
fn contractions_refuse_mixed_dtypes() {
    let error = fold(&dot(&[], &[], &[0], &[0]), &[counting(&[2]), tensor(&[2], &[1f64, 2.0])]).unwrap_err();
    assert!(matches!(error, EvalError::Infer(_)), "{error}");
}
