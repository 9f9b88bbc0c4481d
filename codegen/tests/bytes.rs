//! Products of bytes: packed in fours, in tiles of every shape, against the reference interpreter.

mod graph;

use graph::Case;
use kiln_codegen::CompiledModule;
use kiln_codegen::kir::Kernel;
use kiln_ir::attribute::{ConvLayout, Padding};
use kiln_ir::{ConvOptions, DType};

/// Only the wide back end gains by it.
fn expected(module: &CompiledModule) -> bool {
    module.target().backend() == kiln_codegen::native::Backend::Wide
}

#[test]
fn products_of_bytes_of_every_depth_are_multiplied_in_fours() {
    // one row, few and many; columns in one narrow block, whole ones, and both; every rest of the depth
    for (rows, depth, columns) in
        [(1, 4, 3), (1, 67, 70), (2, 70, 33), (3, 5, 8), (5, 64, 16), (13, 129, 40), (60, 47, 48), (100, 250, 19)]
    {
        let mut c = Case::new(depth as u64);
        let x = c.input(DType::U8, &[rows, depth]);
        let w = c.constant(DType::I8, &[depth, columns]);
        let bias = c.constant(DType::I32, &[columns]);
        let y = c.b.dot(x, w, &[], &[], &[1], &[0]);
        let y = c.b.add(y, bias);
        let module = c.check(&[y], 0.0);
        assert_eq!(
            module.kernels().iter().any(Kernel::multiplies_bytes),
            expected(&module),
            "{rows} {depth} {columns}"
        );
    }
}

#[test]
fn what_does_not_fit_is_multiplied_one_by_one() {
    let mut c = Case::new(3);
    let u = c.input(DType::U8, &[6, 20]);
    let i = c.input(DType::I8, &[6, 20]);
    let (unsigned, signed) = (c.constant(DType::U8, &[20, 40]), c.constant(DType::I8, &[20, 40]));
    let shallow = c.b.slice(u, &[0, 0], &[6, 3], &[]);
    let weights = c.constant(DType::I8, &[3, 40]);
    let fed = c.b.dot(u, i, &[], &[], &[1], &[1]);
    let other_signs = c.b.dot(i, unsigned, &[], &[], &[1], &[0]);
    let one_dtype = c.b.dot(i, signed, &[], &[], &[1], &[0]);
    let shallow = c.b.dot(shallow, weights, &[], &[], &[1], &[0]);
    let module = c.check(&[fed, other_signs, one_dtype, shallow], 0.0);
    assert!(!module.kernels().iter().any(Kernel::multiplies_bytes));
}

#[test]
fn convolutions_of_bytes_are_multiplied_in_fours() {
    // 1×1, channels that are and are not a multiple of four, strides, dilations, groups, padding
    let shapes = [
        ([1, 7, 9, 16], [1, 1, 16, 33], 1, 1, 1, 0),
        ([2, 9, 8, 8], [3, 3, 8, 24], 1, 1, 1, 1),
        ([1, 11, 10, 3], [7, 7, 3, 20], 1, 2, 1, 3),
        ([1, 9, 9, 6], [3, 3, 6, 40], 1, 1, 2, 2),
        ([1, 8, 8, 24], [3, 3, 12, 36], 2, 1, 1, 1),
        // rows of pixels as long as the fours of a row of taps, of which the last is not whole
        ([1, 8, 4, 3], [3, 3, 3, 16], 1, 1, 1, 0),
        ([1, 6, 2, 3], [3, 3, 3, 16], 1, 1, 1, 1),
        ([1, 9, 8, 1], [5, 5, 1, 24], 1, 1, 1, 0),
        ([1, 9, 8, 1], [3, 7, 1, 24], 1, 1, 1, 0),
        ([1, 7, 4, 2], [3, 3, 2, 16], 1, 1, 1, 0),
    ];
    for (x_dims, w_dims, groups, stride, dilation, around) in shapes {
        let mut c = Case::new(w_dims[3] as u64);
        let x = c.input(DType::U8, &x_dims);
        let w = c.constant(DType::I8, &w_dims);
        let o = ConvOptions {
            strides: vec![stride; 2],
            padding: vec![Padding::same(around); 2],
            rhs_dilation: vec![dilation; 2],
            groups,
            layout: ConvLayout::ChannelsLast,
            ..ConvOptions::default()
        };
        let y = c.b.conv(x, w, &o);
        let module = c.check(&[y], 0.0);
        assert_eq!(module.kernels().iter().any(Kernel::multiplies_bytes), expected(&module), "{w_dims:?}");
    }
}

#[test]
fn deep_and_wide_products_of_bytes_are_cut_as_others_are() {
    // rows in chunks that take all weights, parts of a deep panel, groups of columns, one row of many columns
    for (rows, depth, columns) in [(270, 4400, 256), (20, 12288, 170), (49, 8003, 160), (200, 300, 512), (1, 1024, 999)]
    {
        let mut c = Case::new(rows as u64);
        let x = c.input(DType::U8, &[rows, depth]);
        let w = c.constant(DType::I8, &[depth, columns]);
        let y = c.b.dot(x, w, &[], &[], &[1], &[0]);
        c.check(&[y], 0.0);
    }
}

#[test]
fn an_instruction_for_products_of_bytes_is_asked_for_where_there_are_some() {
    let module = |dtype: DType| {
        let mut b = kiln_ir::Builder::new("product");
        let x =
            b.placeholder("x", if dtype == DType::I8 { DType::U8 } else { dtype }, &[3, 64].map(kiln_ir::Dim::Fixed));
        let w = b.constant(kiln_ir::Tensor::zeros(dtype, &[64, 40]).unwrap());
        let y = b.dot(x, w, &[], &[], &[1], &[0]);
        b.output("y", y);
        let target = kiln_codegen::native::Target::named("x86-64-v4+vnni").unwrap();
        kiln_codegen::compile(&b.finish().unwrap(), &target, Default::default()).unwrap()
    };
    assert!(module(DType::I8).feature_names().contains(&"avx512vnni"));
    let floats = module(DType::F32);
    assert!(!floats.feature_names().contains(&"avx512vnni") && floats.feature_names().contains(&"avx512bw"));
}
