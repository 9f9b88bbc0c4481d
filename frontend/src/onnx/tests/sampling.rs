//! Between pixels, windows put back, and what else reads at places of its own. The arithmetic of sampling is tested where
//! the DSL has it.

use kiln_ir::{DType, Tensor};

use super::*;

fn values(t: &Tensor) -> Vec<f64> {
    t.to_f64_vec()
}

#[test]
fn grid_sample_knows_its_modes_by_the_names_of_the_opset() {
    let x = f32s(&[1, 1, 1, 3], &[1.0, 2.0, 4.0]);
    // pixel coordinates 0.5 and 2.5
    let grid = f32s(&[1, 1, 2, 2], &[-0.5, 0.0, 1.5, 0.0]);
    let sample = |opset: i64, attributes: Vec<AttributeProto>| {
        let mut all = attributes;
        all.push(int("align_corners", 1));
        values(&apply(opset, "GridSample", &[Ok(x.clone()), Ok(grid.clone())], all))
    };
    assert_eq!(sample(16, vec![]), [1.5, 2.0]);
    assert_eq!(sample(20, vec![string("mode", "linear"), string("padding_mode", "border")]), [1.5, 4.0]);
    assert_eq!(sample(16, vec![string("mode", "nearest"), string("padding_mode", "reflection")]), [1.0, 4.0]);
    let text = |opset, mode: &str| {
        let model = Model::new(opset).input("x", DType::F32, &["1", "1", "1", "3"]);
        let model = model.input("g", DType::F32, &["1", "1", "2", "2"]);
        model.node("GridSample", &["x", "g"], &["y"], vec![string("mode", mode)]).output("y").error()
    };
    assert!(text(16, "linear").contains("expected one of bilinear, nearest, bicubic, found `linear`"));
    assert!(text(20, "bicubic").contains("expected one of linear, nearest, cubic, found `bicubic`"));
}

#[test]
fn nearest_pixels_may_be_of_any_type_and_a_grid_may_be_narrower_than_the_image() {
    let nearest = || vec![string("mode", "nearest")];
    let grid = f32s(&[1, 1, 2, 2], &[0.9, 0.0, -3.0, 0.0]);
    for (x, expected) in [
        (Tensor::from_slice(&[1, 1, 1, 2], &[200u8, 100]).unwrap(), [100.0, 0.0]),
        (Tensor::from_slice(&[1, 1, 1, 2], &[true, true]).unwrap(), [1.0, 0.0]),
    ] {
        let y = apply(16, "GridSample", &[Ok(x.clone()), Ok(grid.clone())], nearest());
        assert_eq!((y.dtype(), values(&y)), (x.dtype(), expected.to_vec()));
    }
    // coordinates of a 16-bit grid are computed in 32 bits: f16 has no odd pixel beyond 2048
    let x = count(&[1, 1, 1, 4096]);
    let half = Tensor::from_f64(DType::F16, &[1, 1, 1, 2], &[3001.0 / 2048.0 - 1.0, 0.0]).unwrap();
    let stored = half.to_f64_vec()[0];
    let y = apply(16, "GridSample", &[Ok(x), Ok(half)], vec![]);
    let expected = ((stored + 1.0) * 4096.0 - 1.0) / 2.0;
    assert!((values(&y)[0] - expected).abs() < 1e-3, "{y:?} {expected}");
}

#[test]
fn affine_grids_take_one_matrix_for_each_image() {
    let theta = f32s(&[1, 2, 3], &[2.0, 0.0, 0.5, 0.0, 1.0, 0.0]);
    let y = apply(20, "AffineGrid", &[Ok(theta), Err(i64s(&[1, 3, 1, 2]))], vec![]);
    assert_eq!((y.dims(), values(&y)), ([1, 1, 2, 2].as_slice(), vec![-0.5, 0.0, 1.5, 0.0]));
    let error = |size: &[i64]| {
        let model = Model::new(20).input("t", DType::F32, &["1", "2", "3"]).constant("s", &i64s(size));
        model.node("AffineGrid", &["t", "s"], &["y"], vec![]).output("y").error()
    };
    assert!(error(&[1, 3, 4]).contains("size must be [N, C, H, W] or [N, C, D, H, W], found [1, 3, 4]"));
    assert!(error(&[1, 3, 4, -4]).contains("found [1, 3, 4, -4]"));
    let text = error(&[2, 3, 4, 4]);
    assert!(text.contains("theta must have extents [2, 2, 3] for size [2, 3, 4, 4], found [1, 2, 3]"), "{text}");
}

#[test]
fn grid_sample_refuses_what_it_does_not_do() {
    let error = |dtype: DType, x: &[&str], grid: &[&str], attributes: Vec<AttributeProto>| {
        let model = Model::new(20).input("x", dtype, x).input("g", DType::F32, grid);
        model.node("GridSample", &["x", "g"], &["y"], attributes).output("y").error()
    };
    let (x, grid) = (["1", "1", "4", "4"], ["1", "2", "2", "2"]);
    let text = error(DType::I32, &x, &grid, vec![]);
    assert!(text.contains("interpolation of X of element type i32"), "{text}");
    let text = error(DType::F32, &x, &["1", "2", "2", "3"], vec![]);
    assert!(text.contains("a coordinate for each spatial axis of X, found extents [1, 2, 2, 3]"), "{text}");
    let none = Tensor::zeros(DType::F32, &[1, 1, 0, 4]).unwrap();
    let model = Model::new(20).constant("x", &none).input("g", DType::F32, &grid);
    let text = model.node("GridSample", &["x", "g"], &["y"], vec![]).output("y").error();
    assert!(text.contains("X must have some pixels, found extents [1, 1, 0, 4]"), "{text}");
    let text = error(DType::F32, &["1", "1", "2", "2", "2", "2"], &["1", "1", "1", "1", "1", "4"], vec![]);
    assert!(text.contains("4 spatial axes (up to 3 are)"), "{text}");
}

#[test]
fn roi_align_moves_regions_by_half_a_pixel_since_opset_16() {
    let x = count(&[1, 1, 4, 4]);
    let inputs = [Ok(x), Ok(f32s(&[1, 4], &[0.0, 0.0, 2.0, 2.0])), Err(i64s(&[0]))];
    let align = |opset, attributes: Vec<AttributeProto>| {
        let mut all = attributes;
        all.push(int("sampling_ratio", 1));
        values(&apply(opset, "RoiAlign", &inputs, all))
    };
    // one sample in the middle of one bin: (1, 1), or (½, ½)
    assert_eq!(align(10, vec![]), [5.0]);
    assert_eq!(align(16, vec![]), [2.5]);
    assert_eq!(align(16, vec![string("coordinate_transformation_mode", "output_half_pixel")]), [5.0]);
}

#[test]
fn roi_align_says_what_it_needs() {
    let model = |images: &[i64], attributes| {
        let model = Model::new(16).input("x", DType::F32, &["1", "1", "4", "4"]);
        let model = model.input("r", DType::F32, &["1", "4"]).constant("b", &i64s(images));
        model.node("RoiAlign", &["x", "r", "b"], &["y"], attributes).output("y").error()
    };
    let text = model(&[0], vec![]);
    assert!(
        text.contains("sampling_ratio = 0: the number of samples then follows from the sizes of the regions"),
        "{text}"
    );
    let text = model(&[3], vec![int("sampling_ratio", 2)]);
    assert!(text.contains("batch index 3 is out of range for 1 images"), "{text}");
    let text = model(&[0, 0], vec![int("sampling_ratio", 2)]);
    assert!(text.contains("rois [R, 4] and batch_indices [R], found extents [1, 1, 4, 4], [1, 4] and [2]"), "{text}");
    let text = model(&[0], vec![int("sampling_ratio", 2), int("output_height", 0)]);
    assert!(text.contains("attribute `output_height`: expected at least 1, found 0"), "{text}");
}

#[test]
fn a_deformable_convolution_without_offsets_is_a_convolution() {
    let x = f32s(&[2, 4, 5, 6], &(0..240).map(|i| ((i * 7919) % 13) as f32 - 6.0).collect::<Vec<_>>());
    let w = f32s(&[6, 2, 3, 2], &(0..72).map(|i| ((i * 104_729) % 7) as f32 - 3.0).collect::<Vec<_>>());
    let b = f32s(&[6], &[1.0, -1.0, 2.0, 0.0, 0.5, 3.0]);
    let attributes =
        || vec![ints("pads", &[1, 0, 2, 1]), ints("strides", &[2, 1]), ints("dilations", &[1, 2]), int("group", 2)];
    let plain = apply(19, "Conv", &[Ok(x.clone()), Err(w.clone()), Err(b.clone())], attributes());
    let [_, _, h, v] = *plain.dims() else { panic!("{plain:?}") };
    let offset = Tensor::zeros(DType::F32, &[2, 2 * 6 * 2, h, v]).unwrap();
    let deformed = |mask: Option<f32>| {
        let mut inputs = vec![Ok(x.clone()), Err(w.clone()), Ok(offset.clone()), Err(b.clone())];
        inputs.extend(mask.map(|m| Ok(f32s(&[2, 2 * 6, h, v], &vec![m; 24 * h * v]))));
        let mut all = attributes();
        all.push(int("offset_group", 2));
        apply(19, "DeformConv", &inputs, all)
    };
    assert_eq!((deformed(None).dims(), values(&deformed(None))), (plain.dims(), values(&plain)));
    assert_eq!(values(&deformed(Some(1.0))), values(&plain));
    // half of all but the bias
    let bias = values(&b);
    let halved = |(i, y): (usize, &f64)| (y + bias[i / (h * v) % 6]) / 2.0;
    let halves: Vec<f64> = values(&plain).iter().enumerate().map(halved).collect();
    assert_eq!(values(&deformed(Some(0.5))), halves);
}

#[test]
fn offsets_of_a_deformable_convolution_are_rows_then_columns_of_each_tap() {
    let x = count(&[1, 1, 3, 3]);
    let w = f32s(&[1, 1, 1, 2], &[1.0, 100.0]);
    // the first tap one row down, the second half a column to the left
    let place = |v: f32| vec![v; 6];
    let offset = [place(1.0), place(0.0), place(0.0), place(-0.5)].concat();
    let y = apply(19, "DeformConv", &[Ok(x), Err(w), Ok(f32s(&[1, 4, 3, 2], &offset))], vec![]);
    let expected = [(3.0, 0.5), (4.0, 1.5), (6.0, 3.5), (7.0, 4.5), (0.0, 6.5), (0.0, 7.5)].map(|(a, b)| a + 100.0 * b);
    assert_eq!((y.dims(), values(&y)), ([1, 1, 3, 2].as_slice(), expected.to_vec()));
}

#[test]
fn a_deformable_convolution_says_which_extents_do_not_fit() {
    let error = |offset: &[&str], mask: &[&str], attributes: Vec<AttributeProto>| {
        let model = Model::new(19).input("x", DType::F32, &["1", "4", "5", "5"]).input("o", DType::F32, offset);
        let model = model.input("m", DType::F32, mask).constant("w", &f32s(&[2, 2, 2, 2], &[0.0; 16]));
        model.node("DeformConv", &["x", "w", "o", "", "m"], &["y"], attributes).output("y").error()
    };
    let (offset, mask) = (["1", "8", "4", "4"], ["1", "4", "4", "4"]);
    let groups = || vec![int("group", 2)];
    for (offset, mask, attributes, part) in [
        (&["1", "8", "3", "4"], &mask, groups(), "offset must have extents [1, 8, 4, 4], found [1, 8, 3, 4]"),
        (&offset, &["1", "3", "4", "4"], groups(), "mask must have extents [1, 4, 4, 4], found [1, 3, 4, 4]"),
        (&offset, &mask, vec![], "4 channels in 1 groups do not fit W of extents [2, 2, 2, 2]"),
        (&offset, &mask, vec![int("group", 2), int("offset_group", 3)], "no multiple of offset_group = 3"),
        (&offset, &mask, vec![int("group", 2), ints("kernel_shape", &[3, 2])], "but W has [2, 2]"),
    ] {
        let text = error(offset, mask, attributes);
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn resize_crops_a_region_and_puts_a_value_where_there_is_no_input() {
    let x = count(&[1, 1, 1, 5]);
    let crop = |region: &[f32], size: i64, attributes: Vec<AttributeProto>| {
        let none = Tensor::zeros(DType::F32, &[0]).unwrap();
        let inputs = [Ok(x.clone()), Err(f32s(&[2], region)), Err(none), Err(i64s(&[size]))];
        let mut all = attributes;
        all.extend([string("coordinate_transformation_mode", "tf_crop_and_resize"), ints("axes", &[3])]);
        values(&apply(19, "Resize", &inputs, all))
    };
    let linear = || vec![string("mode", "linear"), float("extrapolation_value", -1.0)];
    assert_eq!(crop(&[0.25, 0.75], 3, linear()), [1.0, 2.0, 3.0]);
    // turned around, and out at both ends
    assert_eq!(crop(&[1.25, -0.25], 4, linear()), [-1.0, 3.0, 1.0, -1.0]);
    // one element is the middle; as many elements as the input still are those of the region
    assert_eq!(crop(&[0.0, 0.75], 1, linear()), [1.5]);
    assert_eq!(crop(&[0.5, 1.5], 5, vec![]), [2.0, 3.0, 4.0, 0.0, 0.0]);
    let model = Model::new(19).input("x", DType::F32, &["1", "5"]).constant("s", &f32s(&[2], &[1.0, 1.0]));
    let mode = || vec![string("coordinate_transformation_mode", "tf_crop_and_resize")];
    let text = model.clone().node("Resize", &["x", "", "s"], &["y"], mode()).output("y").error();
    assert!(text.contains("input 1 (roi) is missing"), "{text}");
    let model = model.constant("r", &f32s(&[2], &[0.0, 1.0]));
    let text = model.node("Resize", &["x", "r", "s"], &["y"], mode()).output("y").error();
    assert!(text.contains("roi must have a start and an end for each of 2 axes, found 2"), "{text}");
    // a region whose filter would take in more than memory holds
    let wide = vec![int("antialias", 1), string("mode", "linear"), ints("axes", &[1])];
    let model = Model::new(19).input("x", DType::F32, &["1", "5"]).constant("r", &f32s(&[2], &[0.0, 1e30]));
    let model = model.constant("n", &i64s(&[4])).node("Resize", &["x", "r", "", "n"], &["y"], [mode(), wide].concat());
    let text = model.output("y").error();
    assert!(text.contains("antialias where 4 elements take"), "{text}");
}

#[test]
fn blocks_are_added_up_where_they_overlap_and_dropped_in_the_padding() {
    let blocks = f32s(&[1, 2, 3], &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0]);
    let image = |extent: i64, attributes| {
        apply(18, "Col2Im", &[Ok(blocks.clone()), Err(i64s(&[extent])), Err(i64s(&[2]))], attributes)
    };
    // positions 0, 1, 2 with elements at 0 and 1 of each
    let y = image(4, vec![]);
    assert_eq!((y.dims(), values(&y)), ([1, 1, 4].as_slice(), vec![1.0, 12.0, 23.0, 30.0]));
    assert_eq!(values(&image(2, vec![ints("pads", &[1, 1])])), [12.0, 23.0]);
    // positions 0, 2, 4 with elements at 0 and 2 of each
    assert_eq!(
        values(&image(7, vec![ints("strides", &[2]), ints("dilations", &[2])])),
        [1.0, 0.0, 12.0, 0.0, 23.0, 0.0, 30.0]
    );
    let model =
        Model::new(18).input("x", DType::F32, &["1", "3", "3"]).constant("i", &i64s(&[4])).constant("b", &i64s(&[2]));
    let text = model.node("Col2Im", &["x", "i", "b"], &["y"], vec![]).output("y").error();
    assert!(
        text.contains("input must be [N, C · 2, 3] for these blocks and this image, found extents [1, 3, 3]"),
        "{text}"
    );
}

/// A pool's values and places, and what unpooling makes of them.
fn pooled(x: &Tensor, attributes: Vec<AttributeProto>) -> (Vec<f64>, Vec<f64>) {
    let dims: Vec<String> = x.dims().iter().map(usize::to_string).collect();
    let dims: Vec<&str> = dims.iter().map(String::as_str).collect();
    let model = Model::new(12).input("x", x.dtype(), &dims).node("MaxPool", &["x"], &["y", "i"], attributes);
    let imported = model.output("y").output("i").import(&ImportOptions::default()).unwrap();
    let results = interp::run::<f32>(&imported.graph, &[("x", x.clone())], None).unwrap();
    assert_eq!(results[1].1.dtype(), DType::I64);
    (values(&results[0].1), values(&results[1].1))
}

#[test]
fn max_pools_say_where_their_maxima_were() {
    let x = f32s(&[2, 1, 2, 3], &[3.0, 1.0, 3.0, 0.0, 2.0, 3.0, f32::NEG_INFINITY, 7.0, 7.0, f32::NAN, 1.0, 8.0]);
    let window = || vec![ints("kernel_shape", &[2, 2])];
    let (y, places) = pooled(&x, window());
    // the first of equals; NaN is a maximum
    assert_eq!((&y[..2], places), ([3.0, 3.0].as_slice(), vec![0.0, 2.0, 9.0, 11.0]));
    // columns first, within each channel: row 0 of column 1, and row 1 of column 2
    let x = f32s(&[2, 1, 2, 3], &[0.0, 9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 9.0]);
    let whole = vec![ints("kernel_shape", &[2, 3])];
    assert_eq!(pooled(&x, whole.clone()).1, [1.0, 11.0]);
    assert_eq!(pooled(&x, [whole, vec![int("storage_order", 1)]].concat()).1, [2.0, 11.0]);
    // padding never is the maximum, also where everything is the least number
    let padded = [window(), vec![ints("pads", &[1, 1, 1, 1]), ints("strides", &[3, 3])]].concat();
    assert_eq!(pooled(&f32s(&[1, 1, 2, 2], &[f32::NEG_INFINITY; 4]), padded).1, [0.0]);
    let bytes = Tensor::from_slice(&[1, 1, 3], &[-128i8, -128, -5]).unwrap();
    assert_eq!(pooled(&bytes, vec![ints("kernel_shape", &[2]), ints("pads", &[1, 0])]).1, [0.0, 0.0, 2.0]);
    // the padding of bytes is no 0 that comes first, beside elements a step apart
    let bytes = Tensor::from_slice(&[1, 1, 5], &[9u8, 0, 0, 0, 5]).unwrap();
    let apart = vec![ints("kernel_shape", &[2]), ints("pads", &[1, 0]), ints("dilations", &[2])];
    assert_eq!(pooled(&bytes, apart), (vec![0.0, 9.0, 0.0, 5.0], vec![1.0, 0.0, 1.0, 4.0]));
    // every second element, from the padding on: 1, then 1 and 3
    let spread =
        vec![ints("kernel_shape", &[2]), ints("pads", &[1, 0]), ints("dilations", &[2]), ints("strides", &[2])];
    assert_eq!(pooled(&count(&[1, 1, 4]), spread).1, [1.0, 3.0]);
}

#[test]
fn unpooling_puts_elements_back_and_pads_to_the_stated_extents() {
    let (x, places) = (f32s(&[1, 1, 1, 2], &[8.0, 9.0]), Tensor::from_slice(&[1, 1, 1, 2], &[1i64, 6]).unwrap());
    let window = || vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])];
    let y = apply(11, "MaxUnpool", &[Ok(x.clone()), Ok(places.clone())], window());
    assert_eq!((y.dims(), values(&y)), ([1, 1, 2, 4].as_slice(), vec![0.0, 8.0, 0.0, 0.0, 0.0, 0.0, 9.0, 0.0]));
    let wider = apply(11, "MaxUnpool", &[Ok(x), Ok(places), Err(i64s(&[1, 1, 3, 5]))], window());
    assert_eq!(wider.dims(), [1, 1, 3, 5]);
    assert_eq!((values(&wider)[1], values(&wider)[7], values(&wider).iter().sum::<f64>()), (8.0, 9.0, 17.0));
    let model =
        Model::new(11).input("x", DType::F32, &["1", "1", "1", "2"]).input("i", DType::I64, &["1", "1", "1", "2"]);
    let model = model.constant("s", &i64s(&[1, 1, 2, 3]));
    let text = model.node("MaxUnpool", &["x", "i", "s"], &["y"], window()).output("y").error();
    assert!(text.contains("output_shape must be at least [1, 1, 2, 4], found [1, 1, 2, 3]"), "{text}");
}

#[test]
fn sequences_are_reversed_each_by_its_length_even_one_that_is_fed() {
    let x = count(&[3, 2]);
    let reverse = |lengths: Result<Tensor, Tensor>, attributes| {
        values(&apply(10, "ReverseSequence", &[Ok(x.clone()), lengths], attributes))
    };
    for lengths in [Ok(i64s(&[3, 2])), Err(i64s(&[3, 2]))] {
        assert_eq!(reverse(lengths, vec![]), [4.0, 3.0, 2.0, 1.0, 0.0, 5.0]);
    }
    let by_rows = || vec![int("time_axis", 1), int("batch_axis", 0)];
    assert_eq!(reverse(Ok(i64s(&[0, 2, 1])), by_rows()), [0.0, 1.0, 3.0, 2.0, 4.0, 5.0]);
    let error = |lengths: &[i64], attributes| {
        let model = Model::new(10).input("x", DType::F32, &["3", "2"]).constant("l", &i64s(lengths));
        model.node("ReverseSequence", &["x", "l"], &["y"], attributes).output("y").error()
    };
    assert!(error(&[3, 4], vec![]).contains("sequence length 4 is out of range for extent 3"));
    assert!(error(&[3], vec![]).contains("one entry for each sequence of the input (axis 1), found extents [1]"));
    assert!(error(&[3, 2], vec![int("time_axis", 1)]).contains("must be 0 and 1 or 1 and 0, found (1, 1)"));
}

#[test]
fn determinants_exchange_rows_and_may_be_zero() {
    let x = [
        [0.0, 2.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 3.0], // rows 0 and 1 exchanged: −2 · 3
        [1.0, 2.0, 3.0, 2.0, 4.0, 6.0, 1.0, 1.0, 1.0], // one row twice another
        [0.0, 1.0, 2.0, 0.0, 3.0, 4.0, 0.0, 5.0, 6.0], // a column of zeros
        [2.0, 0.0, 1.0, 1.0, 3.0, 2.0, 1.0, 1.0, 4.0],
    ];
    let y = apply_to(11, "Det", &f32s(&[2, 2, 3, 3], &x.concat()), &[], vec![]);
    assert_eq!(y.dims(), [2, 2]);
    for (found, expected) in values(&y).iter().zip([-6.0, 0.0, 0.0, 18.0]) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
    assert_eq!(values(&apply_to(11, "Det", &f32s(&[1, 1], &[-7.0]), &[], vec![])), [-7.0]);
    let error = |dims: &[&str]| {
        Model::new(11).input("x", DType::F32, dims).node("Det", &["x"], &["y"], vec![]).output("y").error()
    };
    assert!(error(&["2", "3"]).contains("only square matrices have a determinant, found 2 × 3"));
    assert!(error(&["33", "33"]).contains("a determinant of 33 × 33 (up to 32 × 32 is)"));
}
