use kiln_ir::{DType, Tensor};

use super::*;
use crate::{CompileOptions, Session, ToTensor};

fn values(t: &Tensor) -> Vec<f64> {
    t.to_f64_vec()
}

/// Compares with a tolerance for f32 arithmetic on numbers of moderate size: a few roundings.
pub fn assert_close(found: &Tensor, dims: &[usize], expected: &[f64]) {
    assert_eq!(found.dims(), dims);
    for (i, (f, e)) in values(found).iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= 1e-5 * (1.0 + e.abs()), "element {i}: found {f}, expected {e}\n{found:?}");
    }
    assert_eq!(found.len(), expected.len());
}

pub fn assert_is(found: &Tensor, dims: &[usize], expected: &[f64]) {
    assert_eq!((found.dims(), values(found).as_slice()), (dims, expected));
}

#[test]
fn softmax_is_over_one_axis_since_opset_13_and_over_all_trailing_axes_before() {
    let x = count(&[1, 2, 2]);
    let pair = [1.0 / (1.0 + 1f64.exp()), 1.0 / (1.0 + (-1f64).exp())];
    assert_close(
        &apply_to(13, "Softmax", &x, &[], vec![int("axis", 2)]),
        &[1, 2, 2],
        &[pair[0], pair[1], pair[0], pair[1]],
    );
    let all: f64 = (0..4).map(|i| f64::from(i).exp()).sum();
    let expected: Vec<f64> = (0..4).map(|i| f64::from(i).exp() / all).collect();
    assert_close(&apply_to(11, "Softmax", &x, &[], vec![]), &[1, 2, 2], &expected);
    // The default axis changed too: 1 before, −1 since.
    assert_close(&apply_to(13, "Softmax", &x, &[], vec![]), &[1, 2, 2], &[pair[0], pair[1], pair[0], pair[1]]);
}

#[test]
fn clip_takes_attributes_before_opset_11_and_inputs_since() {
    let x = f32s(&[4], &[-2.0, 0.5, 7.0, f32::NAN]);
    let old = apply_to(6, "Clip", &x, &[], vec![float("min", 0.0), float("max", 6.0)]);
    let new = apply_to(13, "Clip", &x, &[Tensor::scalar(0.0f32), Tensor::scalar(6.0f32)], vec![]);
    for y in [old, new] {
        let y = values(&y);
        assert_eq!(y[..3], [0.0, 0.5, 6.0]);
        assert!(y[3].is_nan());
    }
    let whole = Tensor::from_slice(&[3], &[-5i32, 0, 5]).unwrap();
    assert_is(&apply_to(13, "Clip", &whole, &[Tensor::scalar(-1i32)], vec![]), &[3], &[-1.0, 0.0, 5.0]);
}

#[test]
fn slices_go_backwards_and_clamp_their_ends() {
    let x = count(&[3, 4]);
    let slice = |s: &[i64], e: &[i64], a: &[i64], st: &[i64]| {
        apply_to(13, "Slice", &x, &[i64s(s), i64s(e), i64s(a), i64s(st)], vec![])
    };
    assert_is(&slice(&[1], &[1000], &[1], &[2]), &[3, 2], &[1.0, 3.0, 5.0, 7.0, 9.0, 11.0]);
    // numpy: x[::-1, 3:0:-2]
    assert_is(&slice(&[-1, 3], &[i64::MIN, 0], &[0, 1], &[-1, -2]), &[3, 2], &[11.0, 9.0, 7.0, 5.0, 3.0, 1.0]);
    assert_is(&slice(&[-2], &[-1], &[-1], &[1]), &[3, 1], &[2.0, 6.0, 10.0]);
    assert_is(&slice(&[2], &[1], &[0], &[1]), &[0, 4], &[]);
    assert_is(
        &slice(&[i64::MAX], &[i64::MIN], &[0], &[-1]),
        &[3, 4],
        &[8.0, 9.0, 10.0, 11.0, 4.0, 5.0, 6.0, 7.0, 0.0, 1.0, 2.0, 3.0],
    );
    let old = apply_to(9, "Slice", &x, &[], vec![ints("starts", &[0, -2]), ints("ends", &[1, 4])]);
    assert_is(&old, &[1, 2], &[2.0, 3.0]);
}

#[test]
fn reshape_keeps_zeros_and_works_out_minus_one() {
    let x = count(&[2, 3, 4]);
    assert_eq!(apply_to(13, "Reshape", &x, &[i64s(&[0, -1])], vec![]).dims(), [2, 12]);
    assert_eq!(apply_to(13, "Reshape", &x, &[i64s(&[4, 0, -1])], vec![]).dims(), [4, 3, 2]);
    let empty = Tensor::zeros(DType::F32, &[0, 3]).unwrap();
    assert_eq!(apply_to(14, "Reshape", &empty, &[i64s(&[3, 0])], vec![int("allowzero", 1)]).dims(), [3, 0]);
}

#[test]
fn padding_repeats_reflects_wraps_and_crops() {
    let x = f32s(&[1, 3], &[1.0, 2.0, 3.0]);
    let pad = |mode: &str, pads: &[i64]| apply_to(19, "Pad", &x, &[i64s(pads)], vec![string("mode", mode)]);
    assert_is(&pad("constant", &[0, 1, 0, 2]), &[1, 6], &[0.0, 1.0, 2.0, 3.0, 0.0, 0.0]);
    assert_is(&pad("edge", &[0, 2, 0, 1]), &[1, 6], &[1.0, 1.0, 1.0, 2.0, 3.0, 3.0]);
    assert_is(&pad("reflect", &[0, 2, 0, 2]), &[1, 7], &[3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0]);
    assert_is(&pad("wrap", &[0, 1, 0, 2]), &[1, 6], &[3.0, 1.0, 2.0, 3.0, 1.0, 2.0]);
    assert_is(&pad("constant", &[0, -1, 0, 1]), &[1, 3], &[2.0, 3.0, 0.0]);
    let old = apply_to(2, "Pad", &x, &[], vec![ints("pads", &[0, 0, 0, 1]), float("value", 9.0)]);
    assert_is(&old, &[1, 4], &[1.0, 2.0, 3.0, 9.0]);
    let some = apply_to(18, "Pad", &x, &[i64s(&[1, 0]), Tensor::scalar(7.0f32), i64s(&[-1])], vec![]);
    assert_is(&some, &[1, 4], &[7.0, 1.0, 2.0, 3.0]);
}

#[test]
fn average_pools_count_what_their_window_holds() {
    let x = count(&[1, 1, 3]);
    let pool = |a: Vec<AttributeProto>| {
        let mut all = vec![ints("kernel_shape", &[2]), ints("pads", &[1, 1])];
        all.extend(a);
        apply_to(11, "AveragePool", &x, &[], all)
    };
    assert_close(&pool(vec![]), &[1, 1, 4], &[0.0, 0.5, 1.5, 2.0]);
    assert_close(&pool(vec![int("count_include_pad", 1)]), &[1, 1, 4], &[0.0, 0.5, 1.5, 1.0]);
    // Windows at 0 and 2; the second holds one element, and what ceil_mode adds does not count.
    let ceil =
        vec![ints("kernel_shape", &[2]), ints("strides", &[2]), int("ceil_mode", 1), int("count_include_pad", 1)];
    assert_close(&apply_to(11, "AveragePool", &x, &[], ceil), &[1, 1, 2], &[0.5, 2.0]);
}

#[test]
fn max_pools_pad_with_nothing_and_round_up_where_asked() {
    let x = f32s(&[1, 1, 4], &[-4.0, -3.0, -2.0, -1.0]);
    let pool = |a: Vec<AttributeProto>| apply_to(11, "MaxPool", &x, &[], a);
    let same = vec![ints("kernel_shape", &[3]), string("auto_pad", "SAME_UPPER"), ints("strides", &[2])];
    // Total padding 1, at the end: windows −4 −3 −2 and −2 −1.
    assert_is(&pool(same), &[1, 1, 2], &[-2.0, -1.0]);
    let lower = vec![ints("kernel_shape", &[3]), string("auto_pad", "SAME_LOWER"), ints("strides", &[2])];
    assert_is(&pool(lower), &[1, 1, 2], &[-3.0, -1.0]);
    let ceil = |c| vec![ints("kernel_shape", &[3]), ints("strides", &[2]), int("ceil_mode", c)];
    assert_is(&pool(ceil(0)), &[1, 1, 1], &[-2.0]);
    assert_is(&pool(ceil(1)), &[1, 1, 2], &[-2.0, -1.0]);
    // A window that would start in the padding at the end is dropped: the one at 4 of extent 4 padded by 1.
    let dropped = vec![ints("kernel_shape", &[2]), ints("strides", &[4]), ints("pads", &[0, 1]), int("ceil_mode", 1)];
    assert_is(&pool(dropped), &[1, 1, 1], &[-3.0]);
    assert_is(&pool(vec![ints("kernel_shape", &[2]), ints("dilations", &[3])]), &[1, 1, 1], &[-1.0]);
}

#[test]
fn a_convolution_pads_strides_groups_and_adds_its_bias() {
    let x = count(&[1, 2, 1, 4]);
    let w = f32s(&[2, 1, 1, 3], &[1.0, 1.0, 1.0, 1.0, 0.0, -1.0]);
    let b = f32s(&[2], &[10.0, 20.0]);
    let attributes = vec![int("group", 2), ints("pads", &[0, 1, 0, 1]), ints("strides", &[1, 2])];
    // Channel 0: 0 1 2 3 → windows (0 0 1) (1 2 3); channel 1: 4 5 6 7 → (0 4 5)·(1 0 −1) (5 6 7)·(1 0 −1).
    assert_is(&apply_to(11, "Conv", &x, &[w, b], attributes), &[1, 2, 1, 2], &[11.0, 16.0, 15.0, 18.0]);
}

#[test]
fn a_transposed_convolution_scatters_its_kernel() {
    // The specification's example: 3 × 3 counting from 0, a kernel of ones.
    let x = count(&[1, 1, 3, 3]);
    let w = f32s(&[1, 1, 3, 3], &[1.0; 9]);
    let y = apply_to(11, "ConvTranspose", &x, std::slice::from_ref(&w), vec![]);
    #[rustfmt::skip]
    let expected = [
        0.0, 1.0, 3.0, 3.0, 2.0,
        3.0, 8.0, 15.0, 12.0, 7.0,
        9.0, 21.0, 36.0, 27.0, 15.0,
        9.0, 20.0, 33.0, 24.0, 13.0,
        6.0, 13.0, 21.0, 15.0, 8.0,
    ];
    assert_is(&y, &[1, 1, 5, 5], &expected);
    let padded = apply_to(11, "ConvTranspose", &x, std::slice::from_ref(&w), vec![ints("pads", &[1, 1, 1, 1])]);
    assert_is(&padded, &[1, 1, 3, 3], &[8.0, 15.0, 12.0, 21.0, 36.0, 27.0, 20.0, 33.0, 24.0]);

    // One axis: [1, 2] with kernel [1, 10, 100], stride 2, and one more element at the end.
    let x = f32s(&[1, 1, 2], &[1.0, 2.0]);
    let w = f32s(&[1, 1, 3], &[1.0, 10.0, 100.0]);
    let strided = vec![ints("strides", &[2]), ints("output_padding", &[1])];
    assert_is(
        &apply_to(11, "ConvTranspose", &x, std::slice::from_ref(&w), strided),
        &[1, 1, 6],
        &[1.0, 10.0, 102.0, 20.0, 200.0, 0.0],
    );
    let same = vec![ints("strides", &[2]), string("auto_pad", "SAME_UPPER")];
    assert_is(
        &apply_to(11, "ConvTranspose", &x, std::slice::from_ref(&w), same),
        &[1, 1, 4],
        &[1.0, 10.0, 102.0, 20.0],
    );
    let shaped = vec![ints("strides", &[2]), ints("output_shape", &[7])];
    assert_is(&apply_to(11, "ConvTranspose", &x, &[w], shaped), &[1, 1, 7], &[1.0, 10.0, 102.0, 20.0, 200.0, 0.0, 0.0]);

    // Groups keep to themselves: two groups of one channel, two results each.
    let x = f32s(&[1, 2, 1], &[1.0, 2.0]);
    let w = f32s(&[2, 2, 1], &[3.0, 4.0, 5.0, 6.0]);
    assert_is(&apply_to(11, "ConvTranspose", &x, &[w], vec![int("group", 2)]), &[1, 4, 1], &[3.0, 4.0, 10.0, 12.0]);
}

#[test]
fn matmul_broadcasts_batches_and_takes_vectors() {
    let a = count(&[2, 1, 2, 3]);
    let b = count(&[2, 3, 1]);
    let y = apply(13, "MatMul", &[Ok(a), Ok(b)], vec![]);
    // Rows (0 1 2)(3 4 5) and (6 7 8)(9 10 11) times columns (0 1 2) and (3 4 5).
    assert_is(&y, &[2, 2, 2, 1], &[5.0, 14.0, 14.0, 50.0, 23.0, 32.0, 86.0, 122.0]);
    let v = count(&[3]);
    assert_is(&apply(13, "MatMul", &[Ok(count(&[2, 3])), Ok(v.clone())], vec![]), &[2], &[5.0, 14.0]);
    assert_is(&apply(13, "MatMul", &[Ok(v.clone()), Ok(count(&[3, 2]))], vec![]), &[2], &[10.0, 13.0]);
    assert_is(&apply(13, "MatMul", &[Ok(v.clone()), Ok(v.clone())], vec![]), &[], &[5.0]);
    assert_is(&apply(13, "MatMul", &[Ok(v), Ok(count(&[2, 3, 2]))], vec![]), &[2, 2], &[10.0, 13.0, 28.0, 31.0]);
}

#[test]
fn gemm_transposes_scales_and_adds() {
    let (a, b) = (count(&[3, 2]), count(&[2, 3]));
    let attributes = vec![int("transA", 1), int("transB", 1), float("alpha", 0.5), float("beta", 2.0)];
    // Aᵀ = [0 2 4; 1 3 5], Bᵀ = [0 3; 1 4; 2 5].
    let y = apply(13, "Gemm", &[Ok(a), Ok(b), Err(f32s(&[2], &[1.0, -1.0]))], attributes);
    assert_close(&y, &[2, 2], &[7.0, 12.0, 8.5, 18.0]);
}

#[test]
fn einsum_contracts_keeps_and_transposes() {
    let (a, b) = (count(&[2, 3]), count(&[3, 2]));
    let e = |eq: &str, t: &[Tensor]| {
        let inputs: Vec<_> = t.iter().cloned().map(Ok).collect();
        apply(12, "Einsum", &inputs, vec![string("equation", eq)])
    };
    assert_is(&e("ij,jk->ik", &[a.clone(), b.clone()]), &[2, 2], &[10.0, 13.0, 28.0, 40.0]);
    assert_is(&e("ij, jk", &[a.clone(), b]), &[2, 2], &[10.0, 13.0, 28.0, 40.0]);
    assert_is(&e("ij->ji", std::slice::from_ref(&a)), &[3, 2], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_is(&e("ij->i", std::slice::from_ref(&a)), &[2], &[3.0, 12.0]);
    assert_is(&e("ij,ij->i", &[a.clone(), a.clone()]), &[2], &[5.0, 50.0]);
    assert_is(&e("i,j->ij", &[count(&[2]), count(&[2])]), &[2, 2], &[0.0, 0.0, 0.0, 1.0]);
    assert_is(&e("ij,j,i->", &[a, count(&[3]), count(&[2])]), &[], &[14.0]);
}

#[test]
fn reductions_take_their_axes_from_attribute_or_input() {
    let x = count(&[2, 3]);
    assert_close(&apply_to(11, "ReduceMean", &x, &[], vec![ints("axes", &[-1])]), &[2, 1], &[1.0, 4.0]);
    assert_close(&apply_to(18, "ReduceMean", &x, &[i64s(&[0])], vec![int("keepdims", 0)]), &[3], &[1.5, 2.5, 3.5]);
    assert_is(&apply_to(13, "ReduceSum", &x, &[], vec![]), &[1, 1], &[15.0]);
    assert_is(
        &apply_to(13, "ReduceSum", &x, &[], vec![int("noop_with_empty_axes", 1)]),
        &[2, 3],
        &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
    );
    assert_close(
        &apply_to(11, "ReduceL2", &x, &[], vec![ints("axes", &[1]), int("keepdims", 0)]),
        &[2],
        &[5f64.sqrt(), 50f64.sqrt()],
    );
    let big = f32s(&[1, 2], &[1000.0, 1000.0]);
    assert_close(&apply_to(11, "ReduceLogSumExp", &big, &[], vec![ints("axes", &[1])]), &[1, 1], &[1000.0 + 2f64.ln()]);
    let none = f32s(&[1, 2], &[f32::NEG_INFINITY; 2]);
    assert_is(&apply_to(11, "ReduceLogSumExp", &none, &[], vec![ints("axes", &[1])]), &[1, 1], &[f64::NEG_INFINITY]);
}

#[test]
fn arg_max_takes_the_first_of_equals_or_the_last() {
    let x = f32s(&[2, 3], &[1.0, 5.0, 5.0, 2.0, 2.0, 1.0]);
    assert_is(&apply_to(13, "ArgMax", &x, &[], vec![int("axis", 1)]), &[2, 1], &[1.0, 0.0]);
    let last = vec![int("axis", -1), int("keepdims", 0), int("select_last_index", 1)];
    assert_is(&apply_to(13, "ArgMax", &x, &[], last), &[2], &[2.0, 1.0]);
    assert_is(&apply_to(13, "ArgMin", &x, &[], vec![int("keepdims", 0)]), &[3], &[0.0, 1.0, 1.0]);
}

#[test]
fn remainders_have_the_sign_of_the_divisor_or_of_the_dividend() {
    let a = Tensor::from_slice(&[6], &[-4i32, 7, 5, 4, -7, 8]).unwrap();
    let b = Tensor::from_slice(&[6], &[2i32, -3, 8, -2, 3, 5]).unwrap();
    // The specification's example.
    assert_is(&apply(13, "Mod", &[Ok(a.clone()), Ok(b.clone())], vec![]), &[6], &[0.0, -2.0, 5.0, 0.0, 2.0, 3.0]);
    assert_is(&apply(13, "Mod", &[Ok(a), Ok(b)], vec![int("fmod", 1)]), &[6], &[0.0, 1.0, 5.0, 0.0, -1.0, 3.0]);
}

#[test]
fn powers_keep_the_dtype_of_the_base() {
    let x = f32s(&[3], &[1.0, 2.0, 3.0]);
    assert_close(&apply_to(13, "Pow", &x, &[i64s(&[4, 5, 6])], vec![]), &[3], &[1.0, 32.0, 729.0]);
    assert_is(&apply_to(13, "Pow", &f32s(&[2], &[-3.0, 0.5]), &[Tensor::scalar(2.0f32)], vec![]), &[2], &[9.0, 0.25]);
    let whole = Tensor::from_slice(&[2], &[2i32, 3]).unwrap();
    let y = apply_to(13, "Pow", &whole, &[f32s(&[2], &[3.0, 2.0])], vec![]);
    assert_eq!((y.dtype(), values(&y)), (DType::I32, vec![8.0, 9.0]));
}

#[test]
fn gathers_count_negative_indices_from_the_end() {
    let x = count(&[3, 2]);
    let fed = |i: &[i64]| apply(13, "Gather", &[Ok(x.clone()), Ok(i64s(i))], vec![]);
    assert_is(&fed(&[-1, 0]), &[2, 2], &[4.0, 5.0, 0.0, 1.0]);
    assert_is(&apply_to(13, "Gather", &x, &[i64s(&[-2])], vec![int("axis", 1)]), &[3, 1], &[0.0, 2.0, 4.0]);
    let indices = Tensor::from_slice(&[2, 2], &[0i64, 0, -1, 1]).unwrap();
    let y = apply(13, "GatherElements", &[Ok(f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0])), Ok(indices)], vec![int("axis", 1)]);
    assert_is(&y, &[2, 2], &[1.0, 1.0, 4.0, 4.0]);
}

#[test]
fn gather_nd_and_scatter_nd_index_by_coordinates() {
    let x = count(&[2, 2, 2]);
    let at = |dims: &[usize], i: &[i64]| Tensor::from_slice(dims, i).unwrap();
    assert_is(
        &apply(13, "GatherND", &[Ok(x.clone()), Ok(at(&[2, 2], &[0, 1, 1, 0]))], vec![]),
        &[2, 2],
        &[2.0, 3.0, 4.0, 5.0],
    );
    let batched = apply(13, "GatherND", &[Ok(x), Ok(at(&[2, 1], &[1, 0]))], vec![int("batch_dims", 1)]);
    assert_is(&batched, &[2, 2], &[2.0, 3.0, 4.0, 5.0]);
    // The specification's first example.
    let data = f32s(&[8], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let inputs = [Ok(data), Ok(at(&[4, 1], &[4, 3, 1, 7])), Ok(f32s(&[4], &[9.0, 10.0, 11.0, 12.0]))];
    assert_is(&apply(16, "ScatterND", &inputs, vec![]), &[8], &[1.0, 11.0, 3.0, 10.0, 9.0, 6.0, 7.0, 12.0]);
    let inputs = [Ok(f32s(&[1, 3], &[1.0; 3])), Ok(at(&[1, 2], &[1, 1])), Ok(f32s(&[1, 2], &[2.0, 3.0]))];
    let added = apply(16, "ScatterElements", &inputs, vec![int("axis", 1), string("reduction", "add")]);
    assert_is(&added, &[1, 3], &[1.0, 6.0, 1.0]);
}

#[test]
fn nearest_upsampling_repeats_and_linear_interpolates() {
    let x = f32s(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let scales = f32s(&[4], &[1.0, 1.0, 2.0, 2.0]);
    let up = apply_to(9, "Upsample", &x, std::slice::from_ref(&scales), vec![]);
    let repeated = [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 3.0, 3.0, 4.0, 4.0];
    assert_is(&up, &[1, 1, 4, 4], &repeated);
    let none = || Err(Tensor::zeros(DType::F32, &[0]).unwrap());
    let resize = |mode: &str, coordinates: &str, scales: &Tensor| {
        let inputs = [Ok(x.clone()), none(), Err(scales.clone())];
        let attributes = vec![string("mode", mode), string("coordinate_transformation_mode", coordinates)];
        apply(13, "Resize", &inputs, attributes)
    };
    assert_is(&resize("nearest", "half_pixel", &scales), &[1, 1, 4, 4], &repeated);
    // The specification's example: upsample_scales_linear.
    #[rustfmt::skip]
    let linear = [
        1.0, 1.25, 1.75, 2.0,
        1.5, 1.75, 2.25, 2.5,
        2.5, 2.75, 3.25, 3.5,
        3.0, 3.25, 3.75, 4.0,
    ];
    assert_close(&resize("linear", "half_pixel", &scales), &[1, 1, 4, 4], &linear);
    let wide = f32s(&[4], &[1.0, 1.0, 1.0, 2.0]);
    let third = 1.0 / 3.0;
    assert_close(
        &resize("linear", "align_corners", &wide),
        &[1, 1, 2, 4],
        &[1.0, 1.0 + third, 2.0 - third, 2.0, 3.0, 3.0 + third, 4.0 - third, 4.0],
    );
}

#[test]
fn resizing_to_sizes_rounds_ties_as_asked() {
    let x = count(&[1, 1, 1, 4]);
    let none = || Err(Tensor::zeros(DType::F32, &[0]).unwrap());
    let to = |size: i64, nearest: &str| {
        let inputs = [Ok(x.clone()), none(), none(), Err(i64s(&[1, 1, 1, size]))];
        values(&apply(13, "Resize", &inputs, vec![string("nearest_mode", nearest)]))
    };
    // Half-pixel centres of 2 from 4 lie at 0.5 and 2.5.
    assert_eq!(to(2, "round_prefer_floor"), [0.0, 2.0]);
    assert_eq!(to(2, "round_prefer_ceil"), [1.0, 3.0]);
    assert_eq!(to(2, "floor"), [0.0, 2.0]);
    assert_eq!(to(2, "ceil"), [1.0, 3.0]);
    assert_eq!(to(6, "round_prefer_floor"), [0.0, 0.0, 1.0, 2.0, 2.0, 3.0]);
}

#[test]
fn splits_are_equal_or_as_stated() {
    let x = count(&[7]);
    let split = |opset, constants: Vec<Tensor>, attributes: Vec<AttributeProto>| {
        let mut model = Model::new(opset).input("x", DType::F32, &["7"]);
        let mut inputs = vec!["x"];
        for t in &constants {
            model = model.constant("s", t);
            inputs.push("s");
        }
        let model = model.node("Split", &inputs, &["a", "b"], attributes).output("a").output("b");
        model.import(&ImportOptions::default()).map(|i| {
            let results = interp::run::<f32>(&i.graph, &[("x", x.clone())], None).unwrap();
            results.into_iter().map(|(_, t)| t.len()).collect::<Vec<_>>()
        })
    };
    assert_eq!(split(11, vec![], vec![ints("split", &[3, 4])]).unwrap(), [3, 4]);
    assert_eq!(split(13, vec![i64s(&[2, 5])], vec![]).unwrap(), [2, 5]);
    assert_eq!(split(18, vec![], vec![int("num_outputs", 2)]).unwrap(), [4, 3]);
    assert!(split(13, vec![], vec![]).unwrap_err().to_string().contains("does not split into 2 equal parts"));
    assert!(split(13, vec![i64s(&[2, 6])], vec![]).unwrap_err().to_string().contains("[2, 6] for extent 7"));
    assert!(split(18, vec![], vec![int("num_outputs", 3)]).unwrap_err().to_string().contains("`num_outputs` is 3"));
}

#[test]
fn channels_and_space_change_places() {
    let x = count(&[1, 4, 1, 2]);
    let dcr = apply_to(13, "DepthToSpace", &x, &[], vec![int("blocksize", 2)]);
    assert_is(&dcr, &[1, 1, 2, 4], &[0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    let back = apply_to(13, "SpaceToDepth", &dcr, &[], vec![int("blocksize", 2)]);
    assert_is(&back, &[1, 4, 1, 2], &values(&x));
    // With 8 channels the two modes differ: blocks outermost, or innermost.
    let x = count(&[1, 8, 1, 1]);
    let crd = apply_to(13, "DepthToSpace", &x, &[], vec![int("blocksize", 2), string("mode", "CRD")]);
    assert_is(&crd, &[1, 2, 2, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    let dcr = apply_to(13, "DepthToSpace", &x, &[], vec![int("blocksize", 2)]);
    assert_is(&dcr, &[1, 2, 2, 2], &[0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]);
}

#[test]
fn normalisations_centre_and_scale() {
    let x = f32s(&[1, 2, 1, 2], &[1.0, 3.0, 2.0, 6.0]);
    let (scale, bias) = (f32s(&[2], &[1.0, 2.0]), f32s(&[2], &[0.0, 10.0]));
    let y = apply_to(6, "InstanceNormalization", &x, &[scale.clone(), bias.clone()], vec![float("epsilon", 0.0)]);
    assert_close(&y, &[1, 2, 1, 2], &[-1.0, 1.0, 8.0, 12.0]);
    let (mean, variance) = (f32s(&[2], &[1.0, 2.0]), f32s(&[2], &[4.0, 1.0]));
    let constants = [scale, bias, mean, variance];
    let y = apply_to(15, "BatchNormalization", &x, &constants, vec![float("epsilon", 0.0)]);
    assert_close(&y, &[1, 2, 1, 2], &[0.0, 1.0, 10.0, 18.0]);
    let y = apply_to(
        17,
        "LayerNormalization",
        &f32s(&[1, 2], &[1.0, 3.0]),
        &[f32s(&[2], &[1.0, 2.0])],
        vec![float("epsilon", 0.0)],
    );
    assert_close(&y, &[1, 2], &[-1.0, 2.0]);
}

#[test]
fn quantising_rounds_to_even_and_saturates() {
    let x = f32s(&[6], &[0.0, 2.0, 3.0, 1000.0, -254.0, -1000.0]);
    // The specification's example.
    let y = apply_to(10, "QuantizeLinear", &x, &[Tensor::scalar(2.0f32), Tensor::scalar(128u8)], vec![]);
    assert_eq!(y.dtype(), DType::U8);
    assert_is(&y, &[6], &[128.0, 129.0, 130.0, 255.0, 1.0, 0.0]);
    let back = apply_to(10, "DequantizeLinear", &y, &[Tensor::scalar(2.0f32), Tensor::scalar(128u8)], vec![]);
    assert_is(&back, &[6], &[0.0, 2.0, 4.0, 254.0, -254.0, -256.0]);
}

/// The results of a model by the interpreter, which compiled code must give bit by bit.
fn equal_when_compiled(model: Model, feeds: &[(&str, Tensor)]) -> Vec<Tensor> {
    let imported = model.import(&ImportOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    let interpreted = interp::run::<f32>(&imported.graph, feeds, None).unwrap_or_else(|e| panic!("{e}"));
    let mut session = Session::fire(&imported.graph, &CompileOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    let feeds: Vec<(&str, &dyn ToTensor)> = feeds.iter().map(|(name, t)| (*name, t as &dyn ToTensor)).collect();
    let compiled = session.run(&feeds, &[]).unwrap_or_else(|e| panic!("{e}"));
    for (name, expected) in &interpreted {
        assert_eq!(compiled.tensor(name).unwrap().bytes(), expected.bytes(), "{name}");
    }
    interpreted.into_iter().map(|(_, t)| t).collect()
}

#[test]
fn exact_sums_are_multiplied_by_one_number_that_the_scales_make() {
    // As ONNX Runtime 1.32 does it. The sums are such that many results lie at ties, where each further rounding would show.
    let xs: Vec<u8> = (0..=255).collect();
    let (x_scale, w_scales, y_scale, y_zero) = (0.05f32, [0.02f32, 0.1, 0.004], 0.25f32, 3u8);
    let w = [125i8, 25, 100];
    let expected = |sum: i32, w_scale: f32| {
        let steps = (sum as f32 * (x_scale * w_scale / y_scale)).round_ties_even();
        f64::from((steps + f32::from(y_zero)).clamp(0.0, 255.0))
    };
    for fed in [false, true] {
        let scale = |model: Model| match fed {
            true => model.input("xs", DType::F32, &[]),
            false => model.constant("xs", &Tensor::scalar(x_scale)),
        };
        let model = scale(Model::new(10).input("x", DType::U8, &["1", "1", "1", "256"]))
            .constant("xz", &Tensor::scalar(0u8))
            .constant("w", &Tensor::from_slice(&[3, 1, 1, 1], &w).unwrap())
            .constant("ws", &f32s(&[3], &w_scales))
            .constant("wz", &Tensor::scalar(0i8))
            .constant("ys", &Tensor::scalar(y_scale))
            .constant("yz", &Tensor::scalar(y_zero))
            .node("QLinearConv", &["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], &["y"], vec![])
            .output("y");
        let mut feeds = vec![("x", Tensor::from_slice(&[1, 1, 1, 256], &xs).unwrap())];
        if fed {
            feeds.push(("xs", Tensor::scalar(x_scale)));
        }
        let y = equal_when_compiled(model, &feeds).remove(0);
        let rows = w.iter().zip(w_scales);
        let all: Vec<f64> =
            rows.flat_map(|(&w, s)| xs.iter().map(move |&x| expected(i32::from(x) * i32::from(w), s))).collect();
        assert_is(&y, &[1, 3, 1, 256], &all);
    }
    let model = Model::new(10)
        .input("x", DType::U8, &["256", "1"])
        .constant("xs", &f32s(&[1], &[x_scale]))
        .constant("xz", &Tensor::from_slice(&[1], &[0u8]).unwrap())
        .constant("w", &Tensor::from_slice(&[1, 1], &[w[0]]).unwrap())
        .constant("ws", &f32s(&[1], &w_scales[..1]))
        .constant("wz", &Tensor::from_slice(&[1], &[0i8]).unwrap())
        .constant("ys", &f32s(&[1], &[y_scale]))
        .constant("yz", &Tensor::from_slice(&[1], &[y_zero]).unwrap())
        .node("QLinearMatMul", &["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], &["y"], vec![])
        .output("y");
    let y = equal_when_compiled(model, &[("x", Tensor::from_slice(&[256, 1], &xs).unwrap())]).remove(0);
    let all: Vec<f64> = xs.iter().map(|&x| expected(i32::from(x) * i32::from(w[0]), w_scales[0])).collect();
    assert_is(&y, &[256, 1], &all);
}

#[test]
fn a_dynamic_scale_is_the_same_number_compiled_and_that_of_zeros_is_the_255th_part_of_1() {
    let dynamic = |x: Vec<f32>| {
        let count = x.len().to_string();
        let model = Model::new(11)
            .input("x", DType::F32, &[&count])
            .node("DynamicQuantizeLinear", &["x"], &["y", "scale", "zero"], vec![])
            .output("y")
            .output("scale")
            .output("zero");
        equal_when_compiled(model, &[("x", f32s(&[x.len()], &x))])
    };
    for unit in [0.017f32, 0.031, 0.1, 0.19] {
        let ties = (0..255).map(|k| (k as f32 + 0.5) * unit);
        let found = dynamic([0.0, 255.0 * unit].into_iter().chain(ties).collect());
        assert_is(&found[1], &[], &[f64::from(255.0 * unit / 255.0)]);
    }
    let found = dynamic(vec![0.0, 0.0]);
    assert_is(&found[0], &[2], &[0.0, 0.0]);
    assert_is(&found[1], &[], &[f64::from(1.0f32 / 255.0)]);
    assert_is(&found[2], &[], &[0.0]);
}

#[test]
fn blocks_along_an_axis_have_their_own_scales_and_zero_points() {
    // along the first axis: blocks of 2 of 3 rows, the last one cut short
    let x = f32s(&[3, 2], &[2.0, 3.0, 4.0, 6.0, 8.0, 1000.0]);
    let scale = f32s(&[2, 2], &[1.0, 3.0, 2.0, 2.0]);
    let zero = Tensor::from_slice(&[2, 2], &[0u8, 10, 20, 30]).unwrap();
    let settings = || vec![int("axis", 0), int("block_size", 2)];
    let y = apply_to(21, "QuantizeLinear", &x, &[scale.clone(), zero.clone()], settings());
    assert_is(&y, &[3, 2], &[2.0, 11.0, 4.0, 12.0, 24.0, 255.0]);
    let back = apply_to(21, "DequantizeLinear", &y, &[scale.clone(), zero.clone()], settings());
    assert_is(&back, &[3, 2], &[2.0, 3.0, 4.0, 6.0, 8.0, 450.0]);
    // a block longer than the axis is the axis
    let long = vec![int("axis", 1), int("block_size", i64::MAX)];
    let y = apply_to(21, "QuantizeLinear", &x, &[f32s(&[3, 1], &[1.0, 2.0, 4.0])], long);
    assert_is(&y, &[3, 2], &[2.0, 3.0, 2.0, 3.0, 2.0, 250.0]);
    let refused = |attributes| {
        Model::new(21)
            .input("x", DType::F32, &["3", "2"])
            .constant("s", &scale)
            .node("QuantizeLinear", &["x", "s"], &["y"], attributes)
            .output("y")
            .error()
    };
    let text = refused(vec![int("axis", 1), int("block_size", 2)]);
    assert!(text.contains("for [3, 2] in blocks of 2 along axis 1; expected [3, 1]"), "{text}");
    let text = refused(vec![int("block_size", -1)]);
    assert!(text.contains("`block_size`: expected an integer of at least 0, found -1"), "{text}");
}

/// A constant of a narrow type, its elements packed as in a file.
fn packed(name: &str, ty: TensorDataType, dims: &[i64], raw: &'static [u8]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(ty as i32),
        raw_data: Some(Bytes::from_static(raw)),
        ..TensorProto::default()
    }
}

fn with_constants(model: Model, constants: Vec<TensorProto>) -> Model {
    let mut model = model;
    model.graph.initializer.extend(constants);
    model
}

fn results(model: Model, feeds: &[(&str, Tensor)]) -> Vec<Tensor> {
    let imported = model.import(&ImportOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    let results = interp::run::<f32>(&imported.graph, feeds, None).unwrap_or_else(|e| panic!("{e}"));
    results.into_iter().map(|(_, t)| t).collect()
}

#[test]
fn weights_of_4_bits_are_moved_and_dequantised_in_blocks() {
    // [[1, -2, 3], [-8, 7, 0]], two elements a byte, the first in the lower half; transposed and in blocks of 2
    let w = packed("w", TensorDataType::Int4, &[2, 3], &[0xe1, 0x83, 0x07]);
    let model = Model::new(21)
        .input("s", DType::F32, &["2", "2"])
        .node("Transpose", &["w"], &["t"], vec![])
        .node("DequantizeLinear", &["t", "s"], &["y"], vec![int("axis", 0), int("block_size", 2)])
        .output("y")
        .output("t");
    let found = results(with_constants(model, vec![w]), &[("s", f32s(&[2, 2], &[1.0, 10.0, 0.5, 2.0]))]);
    assert_is(&found[0], &[3, 2], &[1.0, -80.0, -2.0, 70.0, 1.5, 0.0]);
    // an output of such a type has the type that holds it
    assert_eq!(found[1].dtype(), DType::I8);
    assert_is(&found[1], &[3, 2], &[1.0, -8.0, -2.0, 7.0, 3.0, 0.0]);
}

#[test]
fn narrow_types_are_quantised_to_and_cast_to_within_their_range() {
    let x = f32s(&[4], &[-1e9, -0.7, 2.5, 1e9]);
    let model = Model::new(21)
        .input("x", DType::F32, &["4"])
        .constant("two", &Tensor::scalar(2f32))
        .constant("wide", &Tensor::from_slice(&[3], &[200i32, -9, 70000]).unwrap())
        .node("QuantizeLinear", &["x", "two", "z"], &["q"], vec![])
        .node("Cast", &["x"], &["whole"], vec![int("to", 5)])
        .node("Cast", &["wide"], &["low"], vec![int("to", 22)])
        .node("Cast", &["wide"], &["low16"], vec![int("to", 4)])
        .node("CastLike", &["x", "z"], &["like"], vec![])
        .node("QuantizeLinear", &["x", "two"], &["f8"], vec![int("output_dtype", 17), int("saturate", 0)]);
    let model = ["q", "whole", "low", "low16", "like", "f8"].into_iter().fold(model, Model::output);
    // one zero point, as a vector of one beside a scalar scale
    let zero = packed("z", TensorDataType::Uint4, &[1], &[0x03]);
    let found = results(with_constants(model, vec![zero]), &[("x", x)]);
    assert_is(&found[0], &[4], &[0.0, 3.0, 4.0, 15.0]);
    assert_is(&found[1], &[4], &[-32768.0, 0.0, 2.0, 32767.0]);
    // integers drop their higher bits
    assert_is(&found[2], &[3], &[-8.0, 7.0, 0.0]);
    assert_is(&found[3], &[3], &[200.0, 65527.0, 4464.0]);
    assert_is(&found[4], &[4], &[0.0, 0.0, 2.0, 15.0]);
    assert_eq!(format!("{:?}", values(&found[5])), "[NaN, -0.34375, 1.25, NaN]");
}

/// An input of an element type that no dtype of Kiln is.
fn narrow_input(mut model: Model, name: &str, ty: TensorDataType, dims: &[&str]) -> Model {
    let mut info = value_info(name, DType::F32, dims);
    if let Some(TypeValue::Tensor(tensor)) = info.r#type.as_mut().and_then(|t| t.value.as_mut()) {
        tensor.elem_type = Some(ty as i32);
    }
    model.graph.input.push(info);
    model
}

#[test]
fn arithmetic_of_16_and_32_bits_loses_the_higher_bits() {
    let model = narrow_input(Model::new(18), "a", TensorDataType::Uint16, &["3"]);
    let model = narrow_input(model, "b", TensorDataType::Uint32, &["2"]);
    let model = narrow_input(model, "c", TensorDataType::Int16, &["2"])
        .node("Add", &["a", "a"], &["sum"], vec![])
        .node("BitwiseNot", &["a"], &["not"], vec![])
        .node("Mul", &["b", "b"], &["product"], vec![])
        .node("Sub", &["c", "d"], &["difference"], vec![])
        .node("Max", &["c", "d"], &["greater"], vec![])
        .node("Less", &["c", "d"], &["less"], vec![])
        .node("Concat", &["c", "d"], &["joined"], vec![int("axis", 0)]);
    let names = ["sum", "not", "product", "difference", "greater", "less", "joined"];
    let model = names.into_iter().fold(model, Model::output);
    let d = packed("d", TensorDataType::Int16, &[2], &[0x01, 0x00, 0xff, 0xff]);
    // what is fed is cast: 65536 + 5 is 5 in 16 bits
    let a = Tensor::from_slice(&[3], &[65541i32, 40000, 65535]).unwrap();
    let b = Tensor::from_slice(&[2], &[65537i64, 3]).unwrap();
    let c = Tensor::from_slice(&[2], &[-32768i32, 7]).unwrap();
    let found = results(with_constants(model, vec![d]), &[("a", a), ("b", b), ("c", c)]);
    assert_is(&found[0], &[3], &[10.0, 14464.0, 65534.0]);
    assert_is(&found[1], &[3], &[65530.0, 25535.0, 0.0]);
    assert_is(&found[2], &[2], &[131073.0, 9.0]);
    assert_is(&found[3], &[2], &[32767.0, 8.0]);
    assert_is(&found[4], &[2], &[1.0, 7.0]);
    assert_is(&found[5], &[2], &[1.0, 0.0]);
    assert_is(&found[6], &[4], &[-32768.0, 7.0, 1.0, -1.0]);
    assert_eq!((found[0].dtype(), found[2].dtype(), found[5].dtype()), (DType::I32, DType::I64, DType::Bool));
}

#[test]
fn narrow_types_are_moved_and_chosen_among() {
    // [[1, -2, 3], [-8, 7, 0]] of 4 bits, [5, -6] beside them, and floats of 8 bits: 1, 2, no number
    let constants = || {
        vec![
            packed("w", TensorDataType::Int4, &[2, 3], &[0xe1, 0x83, 0x07]),
            packed("v", TensorDataType::Int4, &[1, 2], &[0xa5]),
            packed("five", TensorDataType::Int4, &[], &[0x05]),
            packed("f", TensorDataType::Float8e4m3fn, &[3], &[0x38, 0x40, 0x7f]),
        ]
    };
    let model = Model::new(21)
        .input("c", DType::Bool, &["2", "3"])
        .constant("pads", &i64s(&[0, 1, 0, 0]))
        .constant("row", &Tensor::from_slice(&[1, 2], &[1i64, 0]).unwrap())
        .constant("corner", &Tensor::from_slice(&[1, 2], &[1i64, 2]).unwrap())
        .constant("twice", &i64s(&[1, 2]))
        .constant("kept", &Tensor::from_slice(&[2], &[false, true]).unwrap())
        .constant("lengths", &i64s(&[1, 2, 1]))
        .constant("shape", &i64s(&[3, 3]))
        .constant("hot", &i64s(&[2, 0]))
        .constant("depth", &Tensor::scalar(3i64))
        .node("Pad", &["w", "pads", "five"], &["padded"], vec![])
        .node("Where", &["c", "w", "five"], &["chosen"], vec![])
        .node("GatherElements", &["w", "row"], &["gathered"], vec![])
        .node("GatherND", &["w", "corner"], &["element"], vec![])
        .node("ScatterElements", &["w", "row", "v"], &["scattered"], vec![])
        .node("Tile", &["w", "twice"], &["tiled"], vec![])
        .node("Trilu", &["w"], &["triangle"], vec![])
        .node("Compress", &["w", "kept"], &["compressed"], vec![int("axis", 0)])
        .node("ReverseSequence", &["w", "lengths"], &["reversed"], vec![])
        .node("CenterCropPad", &["w", "shape"], &["centred"], vec![])
        .node("Reshape", &["v", "two"], &["pair"], vec![])
        .node("OneHot", &["hot", "depth", "pair"], &["one_hot"], vec![])
        .node("Shape", &["w"], &["extents"], vec![])
        .node("Size", &["w"], &["size"], vec![])
        .node("NonZero", &["w"], &["places"], vec![])
        .node("IsNaN", &["f"], &["none"], vec![])
        .constant("two", &i64s(&[2]));
    let expected: [(&str, &[usize], &[f64]); 15] = [
        ("padded", &[2, 4], &[5.0, 1.0, -2.0, 3.0, 5.0, -8.0, 7.0, 0.0]),
        ("chosen", &[2, 3], &[1.0, 5.0, 3.0, 5.0, 7.0, 5.0]),
        ("gathered", &[1, 2], &[-8.0, -2.0]),
        ("element", &[1], &[0.0]),
        ("scattered", &[2, 3], &[1.0, -6.0, 3.0, 5.0, 7.0, 0.0]),
        ("tiled", &[2, 6], &[1.0, -2.0, 3.0, 1.0, -2.0, 3.0, -8.0, 7.0, 0.0, -8.0, 7.0, 0.0]),
        ("triangle", &[2, 3], &[1.0, -2.0, 3.0, 0.0, 7.0, 0.0]),
        ("compressed", &[1, 3], &[-8.0, 7.0, 0.0]),
        ("reversed", &[2, 3], &[1.0, 7.0, 3.0, -8.0, -2.0, 0.0]),
        ("centred", &[3, 3], &[1.0, -2.0, 3.0, -8.0, 7.0, 0.0, 0.0, 0.0, 0.0]),
        ("one_hot", &[2, 3], &[5.0, 5.0, -6.0, -6.0, 5.0, 5.0]),
        ("extents", &[2], &[2.0, 3.0]),
        ("size", &[], &[6.0]),
        ("places", &[2, 5], &[0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 2.0, 0.0, 1.0]),
        ("none", &[3], &[0.0, 0.0, 1.0]),
    ];
    let model = expected.iter().fold(with_constants(model, constants()), |model, (name, ..)| model.output(name));
    let c = Tensor::from_slice(&[2, 3], &[true, false, true, false, true, false]).unwrap();
    let found = results(model, &[("c", c)]);
    for ((name, dims, values), found) in expected.iter().zip(&found) {
        assert_eq!(found.dims(), *dims, "{name}");
        assert_is(found, dims, values);
    }
    let (int4, other): (Vec<_>, Vec<_>) = found.iter().zip(&expected).partition(|(t, _)| t.dtype() == DType::I8);
    assert_eq!((int4.len(), other.len()), (11, 4));
}

#[test]
fn integers_of_16_and_32_bits_are_ordered_shifted_and_summed() {
    let ty = TensorDataType::Uint16;
    let model = narrow_input(Model::new(18), "a", ty, &["4"]);
    let model = narrow_input(model, "b", TensorDataType::Uint32, &["2"])
        .constant("k", &i64s(&[2]))
        .constant("base", &f32s(&[2], &[2.0, 3.0]))
        .constant("axis", &Tensor::scalar(0i64))
        .node("BitShift", &["a", "s"], &["left"], vec![string("direction", "LEFT")])
        .node("BitShift", &["a", "s"], &["right"], vec![string("direction", "RIGHT")])
        .node("TopK", &["a", "k"], &["most", "places"], vec![])
        .node("Unique", &["s"], &["unique", "first"], vec![])
        .node("ArgMax", &["a"], &["at"], vec![])
        .node("ReduceSum", &["b"], &["sum"], vec![])
        .node("CumSum", &["b", "axis"], &["sums"], vec![])
        .node("Pow", &["base", "p"], &["power"], vec![])
        .node("Range", &["start", "limit", "step"], &["range"], vec![])
        .node("Neg", &["start"], &["negative"], vec![])
        .node("ScatterElements", &["a", "k", "one"], &["added"], vec![string("reduction", "add")])
        .node("Clip", &["a", "one_number", "most_number"], &["clipped"], vec![]);
    let shape = Tensor::from_slice(&[1], &[1i64]).unwrap();
    let mut filled = node("ConstantOfShape", &["shape"], &["filled"], vec![]);
    let value = packed("value", TensorDataType::Int16, &[1], &[0xfe, 0xff]);
    filled.attribute = vec![AttributeProto { t: Some(value), ..attribute("value", AttributeType::Tensor) }];
    let names = [
        "left", "right", "most", "places", "unique", "first", "at", "sum", "sums", "power", "range", "negative",
        "added", "clipped", "filled",
    ];
    let model = names.into_iter().fold(model.constant("shape", &shape).add(filled), Model::output);
    let constants = vec![
        packed("s", ty, &[4], &[1, 0, 4, 0, 1, 0, 16, 0]),
        packed("p", TensorDataType::Uint32, &[2], &[3, 0, 0, 0, 2, 0, 0, 0]),
        packed("start", TensorDataType::Int16, &[], &[0x00, 0x80]),
        packed("limit", TensorDataType::Int16, &[], &[0x05, 0x80]),
        packed("step", TensorDataType::Int16, &[], &[2, 0]),
        packed("one", ty, &[1], &[1, 0]),
        packed("one_number", ty, &[], &[1, 0]),
        packed("most_number", ty, &[], &[0xff, 0x7f]),
    ];
    let a = Tensor::from_slice(&[4], &[0i32, 40000, 65535, 65535]).unwrap();
    let b = Tensor::from_slice(&[2], &[4294967295i64, 3]).unwrap();
    let found = results(with_constants(model, constants), &[("a", a), ("b", b)]);
    let expected: [&[f64]; 15] = [
        &[0.0, 50176.0, 65534.0, 0.0],
        &[0.0, 2500.0, 32767.0, 0.0],
        &[65535.0, 65535.0],
        &[2.0, 3.0],
        &[1.0, 4.0, 16.0],
        &[0.0, 1.0, 3.0],
        &[2.0],
        &[2.0],
        &[4294967295.0, 2.0],
        &[8.0, 9.0],
        &[-32768.0, -32766.0, -32764.0],
        &[-32768.0],
        &[0.0, 40000.0, 0.0, 65535.0],
        &[1.0, 32767.0, 32767.0, 32767.0],
        &[-2.0],
    ];
    for ((name, expected), found) in names.iter().zip(expected).zip(&found) {
        assert_eq!(values(found), expected, "{name}");
    }
    assert_eq!(found[3].dtype(), DType::I64);
    let signed = Model::new(18).node("BitShift", &["n", "n"], &["y"], vec![string("direction", "LEFT")]).output("y");
    let text = with_constants(signed, vec![packed("n", TensorDataType::Int16, &[1], &[1, 0])]).error();
    assert!(text.contains("only unsigned integers are shifted, found int16"), "{text}");
}

#[test]
fn products_and_reductions_of_integers_of_32_bits_lose_the_higher_bits() {
    let model = narrow_input(Model::new(18), "a", TensorDataType::Uint32, &["2", "2"])
        .node("MatMul", &["a", "a"], &["product"], vec![])
        .node("Einsum", &["a", "a"], &["traces"], vec![string("equation", "ij,ij->i")])
        .node("ReduceL1", &["a"], &["sum"], vec![int("keepdims", 0)])
        .node("ReduceMean", &["a"], &["mean"], vec![int("keepdims", 0)]);
    let model = ["product", "traces", "sum", "mean"].into_iter().fold(model, Model::output);
    let a = Tensor::from_slice(&[2, 2], &[4294967295i64, 65537, 3, 4294967294]).unwrap();
    let found = results(model, &[("a", a)]);
    // −1, 65537, 3 and −2 modulo 2³²; the mean is that of the numbers themselves
    assert_is(&found[0], &[2, 2], &[196_612.0, 4_294_770_685.0, 4_294_967_287.0, 196_615.0]);
    assert_is(&found[1], &[2], &[131_074.0, 13.0]);
    assert_is(&found[2], &[], &[65_537.0]);
    assert_is(&found[3], &[], &[2_147_500_032.0]);
    for op_type in ["Mean", "Upsample", "ReduceL2"] {
        let model = narrow_input(Model::new(8), "a", TensorDataType::Uint32, &["2"]);
        let text = model.node(op_type, &["a"], &["y"], vec![]).output("y").error();
        assert!(text.contains("found a tensor of uint32, which this operator does not take"), "{text}");
    }
}

#[test]
fn operands_of_different_narrow_types_are_named_with_their_places() {
    let constants = || {
        vec![
            packed("s", TensorDataType::Int16, &[1], &[1, 0]),
            packed("u", TensorDataType::Uint16, &[1], &[1, 0]),
            packed("n", TensorDataType::Int4, &[1], &[1]),
        ]
    };
    let model = |op_type: &str, inputs: &[&str]| {
        let model = Model::new(21)
            .input("x", DType::I32, &["1"])
            .input("c", DType::Bool, &["1"])
            .constant("pads", &i64s(&[1, 1]))
            .constant("at", &i64s(&[0]));
        with_constants(model.node(op_type, inputs, &["y"], vec![]).output("y"), constants())
    };
    let cases: [(&str, &[&str], &str); 7] = [
        ("Add", &["s", "u"], "found int16 (input 0), uint16 (input 1)"),
        ("Max", &["x", "s", "s"], "found int32 (input 0), int16 (input 1), int16 (input 2)"),
        ("Less", &["u", "x"], "found uint16 (input 0), int32 (input 1)"),
        ("Where", &["c", "n", "x"], "found int4 (input 1), int32 (input 2)"),
        ("Pad", &["u", "pads", "s"], "found uint16 (input 0), int16 (input 2)"),
        ("ScatterElements", &["n", "at", "s"], "found int4 (input 0), int16 (input 2)"),
        ("Concat", &["s", "u"], "found int16 (input 0), uint16 (input 1)"),
    ];
    for (op_type, inputs, part) in cases {
        let text = model(op_type, inputs).error();
        let text = text.strip_prefix("cannot import `test.onnx`: ").unwrap_or(&text);
        let whole = format!("node `y` ({op_type}): its operands must be of one element type, {part}; cast them to one");
        assert_eq!(text, whole);
    }
}

#[test]
fn narrow_types_are_scanned_stacked_and_carried() {
    let narrow = |name: &str, dims: &[&str]| {
        let mut model = narrow_input(Model::new(21), name, TensorDataType::Int4, dims);
        model.graph.input.pop().unwrap()
    };
    let mut body = Model::new(21)
        .input("i", DType::I64, &[])
        .input("go", DType::Bool, &[])
        .node("Identity", &["go"], &["on"], vec![])
        .node("Identity", &["carried"], &["next"], vec![])
        .node("Identity", &["carried"], &["seen"], vec![])
        .output("on")
        .graph();
    body.input.push(narrow("carried", &["2"]));
    body.output.extend([narrow("next", &["2"]), narrow("seen", &["2"])]);
    let looped = |trips: i64| {
        let w = packed("w", TensorDataType::Int4, &[2], &[0xe1]);
        let model = Model::new(21)
            .constant("trips", &Tensor::scalar(trips))
            .node("Loop", &["trips", "", "w"], &["last", "all"], vec![graph_attribute("body", body.clone())])
            .output("last")
            .output("all");
        results(with_constants(model, vec![w]), &[])
    };
    let found = looped(2);
    assert_is(&found[0], &[2], &[1.0, -2.0]);
    assert_is(&found[1], &[2, 2], &[1.0, -2.0, 1.0, -2.0]);
    let found = looped(0);
    assert_is(&found[1], &[0, 2], &[]);
    assert_eq!(found[1].dtype(), DType::I8);

    // rows from the last to the first, each beside itself
    let mut step = Model::new(21).node("Concat", &["row", "row"], &["wide"], vec![int("axis", 0)]).graph();
    step.input.push(narrow("row", &["3"]));
    step.output.push(narrow("wide", &["6"]));
    let attributes =
        vec![graph_attribute("body", step), int("num_scan_inputs", 1), ints("scan_input_directions", &[1])];
    let model = Model::new(21).node("Scan", &["w"], &["y"], attributes).output("y");
    let w = packed("w", TensorDataType::Int4, &[2, 3], &[0xe1, 0x83, 0x07]);
    let found = results(with_constants(model, vec![w]), &[]);
    assert_is(&found[0], &[2, 6], &[-8.0, 7.0, 0.0, -8.0, 7.0, 0.0, 1.0, -2.0, 3.0, 1.0, -2.0, 3.0]);
}

#[test]
fn what_is_fed_for_a_narrow_input_becomes_a_value_of_its_type() {
    let model = narrow_input(Model::new(21), "x", TensorDataType::Float8e4m3fn, &["3"]);
    let model = narrow_input(model, "n", TensorDataType::Int4, &["3"])
        .node("Cast", &["x"], &["y"], vec![int("to", 1)])
        .node("Cast", &["n"], &["m"], vec![int("to", 7)])
        .output("y")
        .output("m");
    let x = Tensor::from_f64(DType::F16, &[3], &[1.0625, 1000.0, -0.3]).unwrap();
    let n = Tensor::from_slice(&[3], &[7i8, 8, -9]).unwrap();
    let found = results(model, &[("x", x), ("n", n)]);
    assert_is(&found[0], &[3], &[1.0, 448.0, -0.3125]);
    assert_is(&found[1], &[3], &[7.0, -8.0, 7.0]);
}

#[test]
fn other_operators_refuse_narrow_types_by_name() {
    let w = || packed("w", TensorDataType::Float8e5m2, &[2], &[0x3c, 0x40]);
    let model = |op_type: &str, inputs: &[&str]| {
        Model::new(21).input("x", DType::F32, &["2"]).node(op_type, inputs, &["y"], vec![]).output("y")
    };
    for (model, part) in [
        (
            model("Relu", &["w"]),
            "input 0 must be a tensor, found a tensor of float8e5m2, which this operator does not take",
        ),
        (model("Add", &["x", "w"]), "input 1 must be a tensor, found a tensor of float8e5m2"),
        (model("QuantizeLinear", &["w", "x"]), "input 0 must be a tensor, found a tensor of float8e5m2"),
        (model("Identity", &["v"]), "tensor `v`: extents [3] say 3 elements, found 2"),
        (model("Identity", &["u"]), "tensor `u`"),
    ] {
        let short = packed("v", TensorDataType::Int4, &[3], &[0x11]);
        let huge = packed("u", TensorDataType::Int4, &[i64::MAX, i64::MAX], &[0x11]);
        let text = with_constants(model, vec![w(), short, huge]).error();
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let zero = Model::new(21)
        .input("x", DType::F32, &["2"])
        .constant("s", &Tensor::scalar(1f32))
        .constant("z", &Tensor::scalar(1u8))
        .node("DequantizeLinear", &["w", "s", "z"], &["y"], vec![])
        .output("y");
    let text = with_constants(zero, vec![w()]).error();
    assert!(text.contains("a zero point of u8 for float8e5m2"), "{text}");
}

#[test]
fn dropout_in_training_with_a_ratio_of_0_drops_nothing() {
    let model = |ratio: f32| {
        Model::new(17)
            .input("x", DType::F32, &["2"])
            .constant("ratio", &Tensor::scalar(ratio))
            .constant("training", &Tensor::scalar(true))
            .node("Dropout", &["x", "ratio", "training"], &["y", "mask"], vec![int("seed", 3)])
            .output("y")
            .output("mask")
    };
    let imported = model(0.0).import(&ImportOptions::default()).unwrap();
    let results = interp::run::<f32>(&imported.graph, &[("x", f32s(&[2], &[3.0, 4.0]))], None).unwrap();
    assert_is(&results[0].1, &[2], &[3.0, 4.0]);
    assert_is(&results[1].1, &[2], &[1.0, 1.0]);
    let text = model(0.5).error();
    assert!(text.contains("drops elements at random (a ratio of 0 drops none)"), "{text}");
}

#[test]
fn integer_products_subtract_their_zero_points() {
    let a = Tensor::from_slice(&[1, 2], &[11u8, 7]).unwrap();
    let b = Tensor::from_slice(&[2, 1], &[1i8, 4]).unwrap();
    let y = apply(10, "MatMulInteger", &[Ok(a), Ok(b), Err(Tensor::scalar(12u8)), Err(Tensor::scalar(0i8))], vec![]);
    assert_eq!(y.dtype(), DType::I32);
    assert_is(&y, &[1, 1], &[-21.0]);
}

#[test]
fn small_operators_do_what_their_names_say() {
    let x = count(&[2, 2]);
    assert_is(&apply_to(13, "Tile", &x, &[i64s(&[1, 2])], vec![]), &[2, 4], &[0.0, 1.0, 0.0, 1.0, 2.0, 3.0, 2.0, 3.0]);
    assert_is(&apply_to(13, "Expand", &count(&[2, 1]), &[i64s(&[1, 2])], vec![]), &[2, 2], &[0.0, 0.0, 1.0, 1.0]);
    assert_is(&apply_to(14, "Trilu", &x, &[], vec![]), &[2, 2], &[0.0, 1.0, 0.0, 3.0]);
    assert_is(
        &apply_to(14, "Trilu", &x, &[Tensor::scalar(-1i64)], vec![int("upper", 0)]),
        &[2, 2],
        &[0.0, 0.0, 2.0, 0.0],
    );
    assert_is(&apply_to(14, "CumSum", &count(&[4]), &[Tensor::scalar(0i64)], vec![]), &[4], &[0.0, 1.0, 3.0, 6.0]);
    let reversed = vec![int("exclusive", 1), int("reverse", 1)];
    assert_is(&apply_to(14, "CumSum", &count(&[4]), &[Tensor::scalar(0i64)], reversed), &[4], &[6.0, 5.0, 3.0, 0.0]);
    assert_is(&apply_to(13, "Hardmax", &f32s(&[1, 3], &[1.0, 4.0, 4.0]), &[], vec![]), &[1, 3], &[0.0, 1.0, 0.0]);
    let hot =
        apply(11, "OneHot", &[Ok(i64s(&[1, -1])), Err(Tensor::scalar(3i64)), Err(f32s(&[2], &[0.0, 5.0]))], vec![]);
    assert_is(&hot, &[2, 3], &[0.0, 5.0, 0.0, 0.0, 0.0, 5.0]);
    let range = |v: [i64; 3]| apply(11, "Range", &v.map(|v| Err(Tensor::scalar(v))), vec![]);
    assert_is(&range([10, 4, -2]), &[3], &[10.0, 8.0, 6.0]);
    assert_is(&range([10, 14, -2]), &[0], &[]);
    assert_is(
        &apply_to(13, "Sum", &x, &[f32s(&[2], &[1.0, 2.0]), Tensor::scalar(10.0f32)], vec![]),
        &[2, 2],
        &[11.0, 13.0, 13.0, 15.0],
    );
    assert_is(&apply_to(13, "Mean", &x, &[Tensor::scalar(2.0f32)], vec![]), &[2, 2], &[1.0, 1.5, 2.0, 2.5]);
    let f = f32s(&[4], &[f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1.0]);
    assert_is(&apply_to(10, "IsInf", &f, &[], vec![int("detect_negative", 0)]), &[4], &[1.0, 0.0, 0.0, 0.0]);
    assert_is(&apply_to(13, "IsNaN", &f, &[], vec![]), &[4], &[0.0, 0.0, 1.0, 0.0]);
    assert_close(
        &apply_to(9, "PRelu", &f32s(&[1, 2, 1], &[-1.0, -2.0]), &[f32s(&[2, 1], &[0.5, 0.25])], vec![]),
        &[1, 2, 1],
        &[-0.5, -0.5],
    );
}

#[test]
fn einsum_takes_ellipses_and_diagonals() {
    let e = |eq: &str, t: &[Tensor]| {
        let inputs: Vec<_> = t.iter().cloned().map(Ok).collect();
        apply(12, "Einsum", &inputs, vec![string("equation", eq)])
    };
    assert_is(&e("ii->i", &[count(&[2, 2])]), &[2], &[0.0, 3.0]);
    assert_is(&e("ii", &[count(&[2, 2])]), &[], &[3.0]);
    assert_is(&e("...i->...", &[count(&[2, 3])]), &[2], &[3.0, 12.0]);
    // The second operand has fewer hidden axes: they are aligned at their ends.
    assert_is(&e("...i,i->...", &[count(&[2, 2]), count(&[2])]), &[2], &[1.0, 3.0]);
    assert_is(&e("a...,b...->ab", &[count(&[1, 2]), count(&[2, 2])]), &[1, 2], &[1.0, 3.0]);
}

#[test]
fn losses_skip_ignored_targets_even_where_they_are_infinite() {
    let x = f32s(&[2, 2], &[-1.0, -2.0, f32::NEG_INFINITY, f32::NEG_INFINITY]);
    let loss = |target: &[i64], attributes: Vec<AttributeProto>| {
        apply(
            13,
            "NegativeLogLikelihoodLoss",
            &[Ok(x.clone()), Ok(i64s(target)), Err(f32s(&[2], &[1.0, 3.0]))],
            attributes,
        )
    };
    assert_is(&loss(&[1, -1], vec![int("ignore_index", -1)]), &[], &[2.0]);
    assert_is(&loss(&[1, 0], vec![int("ignore_index", 0), string("reduction", "sum")]), &[], &[6.0]);
    assert_is(&loss(&[0, 1], vec![string("reduction", "none")]), &[2], &[1.0, f64::INFINITY]);
}

#[test]
fn anti_aliased_reduction_averages() {
    let x = f32s(&[1, 4], &[0.0, 0.0, 4.0, 4.0]);
    let none = || Err(Tensor::zeros(DType::F32, &[0]).unwrap());
    let inputs = [Ok(x), none(), none(), Err(i64s(&[1, 2]))];
    let y = apply(18, "Resize", &inputs, vec![string("mode", "linear"), int("antialias", 1)]);
    // A triangle of half-width 2 around 0.5: weights (1 3 3 1)/8 on elements −1 (the border's), 0, 1, 2.
    assert_close(&y, &[1, 2], &[0.5, 3.5]);
}

#[test]
fn old_operators_broadcast_from_a_stated_axis() {
    let x = count(&[2, 2]);
    let b = f32s(&[2], &[10.0, 20.0]);
    let add = |attributes| apply_to(6, "Add", &x, std::slice::from_ref(&b), attributes);
    assert_is(&add(vec![int("broadcast", 1), int("axis", 0)]), &[2, 2], &[10.0, 11.0, 22.0, 23.0]);
    assert_is(&add(vec![int("broadcast", 1)]), &[2, 2], &[10.0, 21.0, 12.0, 23.0]);
    let text =
        Model::new(6).input("x", DType::F32, &["2", "2"]).constant("b", &b).node("Add", &["x", "b"], &["y"], vec![]);
    assert!(text.output("y").error().contains("`broadcast` is 0"));
}

/// The expected values are those of ONNX Runtime 1.32.
#[test]
fn clip_limits_what_activations_take_and_coupled_gates_forget_as_much_as_they_take_in() {
    let x = f32s(&[2, 1, 1], &[1.0, -2.0]);
    let lstm = |attributes: Vec<AttributeProto>| {
        let model = Model::new(14)
            .input("x", DType::F32, &["2", "1", "1"])
            .constant("w", &f32s(&[1, 4, 1], &[0.1, 0.2, 0.3, 0.4]))
            .constant("r", &f32s(&[1, 4, 1], &[0.5, -0.6, 0.7, 0.8]))
            .constant("b", &f32s(&[1, 8], &[0.1, 0.2, 0.3, 0.4, -0.5, 0.6, -0.7, 0.9]))
            .constant("p", &f32s(&[1, 3], &[0.2, -0.3, 0.4]))
            .node("LSTM", &["x", "w", "r", "b", "", "", "", "p"], &["y", "", "c"], attributes)
            .output("y")
            .output("c");
        let found = results(model, &[("x", x.clone())]);
        [values(&found[0]), values(&found[1])].concat()
    };
    let close = |found: &[f64], expected: &[f64]| {
        let near = found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-6);
        assert!(near, "{found:?} where {expected:?} is right");
    };
    close(&lstm(vec![float("clip", 0.3)]), &[0.070_851_2, 0.100_475_49, 0.176_726_73]);
    close(&lstm(vec![int("input_forget", 1)]), &[0.267_433_85, 0.235_724_66, 0.485_072_61]);
    let both = vec![int("input_forget", 1), float("clip", 0.3)];
    close(&lstm(both), &[0.070_851_2, 0.110_669_32, 0.195_184_05]);
    let gru = [
        f32s(&[1, 3, 1], &[0.1, 0.2, 0.9]),
        f32s(&[1, 3, 1], &[0.5, -0.6, 0.7]),
        f32s(&[1, 6], &[0.1, 0.2, 0.3, 0.4, -0.5, 0.6]),
    ];
    close(&values(&apply_to(14, "GRU", &x, &gru, vec![float("clip", 0.3)])), &[0.123_970_26, -0.052_756_47]);
    let rnn = [f32s(&[1, 1, 1], &[0.9]), f32s(&[1, 1, 1], &[0.5])];
    close(&values(&apply_to(14, "RNN", &x, &rnn, vec![float("clip", 0.3)])), &[0.291_312_58, -0.291_312_63]);
}

#[test]
fn an_lstm_sorts_its_gates_and_runs_both_ways() {
    // one unit, weights that make each gate tell itself apart: W = (i, o, f, c), no recurrence
    let x = f32s(&[2, 1, 1], &[1.0, -2.0]);
    let w = [0.1f32, 0.2, 0.3, 0.4];
    let both = [w, w].concat();
    let y = apply_to(
        14,
        "LSTM",
        &x,
        &[f32s(&[2, 4, 1], &both), f32s(&[2, 4, 1], &[0.0; 8])],
        vec![int("hidden_size", 1), string("direction", "bidirectional")],
    );
    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
    let step = |x: f64, c: f64| {
        let c = sigmoid(0.3 * x) * c + sigmoid(0.1 * x) * (0.4 * x).tanh();
        (sigmoid(0.2 * x) * c.tanh(), c)
    };
    let (h0, c0) = step(1.0, 0.0);
    let (h1, _) = step(-2.0, c0);
    let (r1, d1) = step(-2.0, 0.0);
    let (r0, _) = step(1.0, d1);
    assert_close(&y, &[2, 2, 1, 1], &[h0, r0, h1, r1]);
}
