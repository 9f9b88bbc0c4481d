//! Refusals of the rules of products of bytes.

use kiln_ir::attribute::Padding;
use kiln_ir::{ConvOptions, DType, Op, Tensor, Value};

use super::Refusal;
use crate::bytes::{shifted, weights};
use crate::draw::Draw;

pub const REFUSALS: &[Refusal] = &[
    ("unsigned_factor", |d| match d.below(4) {
        0 => product(d, DType::U8, 0),
        1 => product(d, DType::U8, 1),
        _ => common(d, DType::I8),
    }),
    ("zero_point_behind_product", |d| match d.below(5) {
        0 => product(d, DType::U8, 0),
        1 => product(d, DType::I8, 1),
        2 => {
            // a number for each column
            let x = d.input_of("x", DType::U8, &[3, 4]);
            let x = d.b.convert(x, DType::I32);
            let numbers = d.input_of("zero", DType::I32, &[4]);
            let numbers = d.broadcast(numbers, &[3, 4], &[1]);
            let x = d.b.sub(x, numbers);
            let w = weights(d, &[4, 2]);
            let y = d.b.dot(x, w, &[], &[], &[1], &[0]);
            d.output(y);
        }
        3 => {
            // padding with what no u8 is, and with what is not known
            let (negative, fed) = (d.chance(), d.input_of("zero", DType::I32, &[]));
            let x = d.input_of("x", DType::U8, &[1, 2, 5, 5]);
            let x = d.b.convert(x, DType::I32);
            let number = if negative { d.b.scalar(DType::I32, -3.0) } else { fed };
            let number = d.broadcast(number, &[1, 2, 5, 5], &[]);
            let x = d.b.sub(x, number);
            let w = weights(d, &[2, 2, 3, 3]);
            let y = d.b.conv(x, w, &ConvOptions { padding: vec![Padding::same(1); 2], ..ConvOptions::default() });
            d.output(y);
        }
        _ => common(d, DType::U8),
    }),
    ("multiply_bytes", |d| match d.below(4) {
        0 => product(d, DType::I8, 0),
        1 => product(d, DType::U8, 1),
        _ => common(d, DType::U8),
    }),
    // u8 and i8 are multiplied in i32: nothing goes from one to another.
    ("fold_scale_into_dot", |d| behind(d, true)),
    ("fold_scale_into_conv", |d| behind(d, false)),
    ("fold_input_scale_into_dot", |d| before(d, true, Op::Mul {})),
    ("fold_input_scale_into_conv", |d| before(d, false, Op::Mul {})),
    ("fold_input_shift_into_dot", |d| before(d, true, Op::Add {})),
    ("fold_input_shift_into_conv", |d| before(d, false, Op::Add {})),
    ("merge_constant_products", |d| {
        let (x, a) = (d.input_of("x", DType::U8, &[3, 4]), signed(d, &[4, 2]));
        let b = d.b.constant(Tensor::from_slice(&[2, 1], &[5i32, -3]).unwrap());
        let inner = d.b.dot(x, a, &[], &[], &[1], &[0]);
        let y = d.b.dot(inner, b, &[], &[], &[1], &[0]);
        d.output(y);
    }),
];

fn signed(d: &mut Draw, dims: &[usize]) -> Value {
    let numbers: Vec<i8> = (0..dims.iter().product()).map(|_| d.below(256) as u8 as i8).collect();
    d.b.constant(Tensor::from_slice(dims, &numbers).unwrap())
}

/// A product, or a convolution, of u8 and constant i8.
fn of_bytes(d: &mut Draw, x: Value, product: bool) -> Value {
    if product {
        let w = signed(d, &[4, 2]);
        return d.b.dot(x, w, &[], &[], &[1], &[0]);
    }
    let w = signed(d, &[2, 4, 3]);
    d.b.conv(x, w, &ConvOptions::default())
}

/// What is multiplied by a number behind it.
fn behind(d: &mut Draw, product: bool) {
    let dims: &[usize] = if product { &[3, 4] } else { &[1, 4, 5] };
    let x = d.input_of("x", DType::U8, dims);
    let y = of_bytes(d, x, product);
    let (dims, number) = (d.extents(y), d.b.scalar(DType::I32, 3.0));
    let number = d.broadcast(number, &dims, &[]);
    let y = d.b.mul(y, number);
    d.output(y);
}

/// What a number goes into before it.
fn before(d: &mut Draw, product: bool, op: Op) {
    let dims: &[usize] = if product { &[3, 4] } else { &[1, 4, 5] };
    let (x, number) = (d.input_of("x", DType::U8, dims), d.b.scalar(DType::U8, 3.0));
    let number = d.broadcast(number, dims, &[]);
    let x = d.add(op, &[x, number]);
    let y = of_bytes(d, x, product);
    d.output(y);
}

fn product(d: &mut Draw, dtype: DType, shift: usize) {
    let x = d.input_of("x", dtype, &[3, 4]);
    let x = d.b.convert(x, DType::I32);
    let x = shifted(d, x, shift);
    let w = weights(d, &[4, 2]);
    let y = d.b.dot(x, w, &[], &[], &[1], &[0]);
    d.output(y);
}

/// What none of them takes.
fn common(d: &mut Draw, dtype: DType) {
    let x = d.input_of("x", dtype, &[1, 4, 4]);
    let shift = 1 - usize::from(d.chance());
    let wide = |d: &mut Draw, to: DType| -> Value {
        let x = d.b.convert(x, to);
        if to == DType::I32 { shifted(d, x, shift) } else { x }
    };
    let y = match d.below(5) {
        // weights that i8 does not hold
        0 => {
            let x = wide(d, DType::I32);
            let numbers: Vec<i32> = (0..8).map(|i| if i == 5 { 128 } else { i }).collect();
            let w = d.b.constant(Tensor::from_slice(&[4, 2], &numbers).unwrap());
            d.b.dot(x, w, &[], &[], &[2], &[0])
        }
        // weights that are fed
        1 => {
            let x = wide(d, DType::I32);
            let w = d.input_of("w", DType::I8, &[4, 2]);
            let w = d.b.convert(w, DType::I32);
            d.b.dot(x, w, &[], &[], &[2], &[0])
        }
        // sums of other dtypes
        2 => {
            let x = wide(d, DType::I64);
            let w = d.b.constant(Tensor::from_slice(&[4, 2], &[1i64, 2, 3, 4, -5, 6, 7, 8]).unwrap());
            d.b.dot(x, w, &[], &[], &[2], &[0])
        }
        // batches
        3 => {
            let x = wide(d, DType::I32);
            let w = weights(d, &[1, 4, 2]);
            d.b.dot(x, w, &[0], &[0], &[2], &[1])
        }
        // zeros between the elements of x
        _ => {
            let x = wide(d, DType::I32);
            let w = weights(d, &[2, 4, 3]);
            d.b.conv(x, w, &ConvOptions { lhs_dilation: vec![2], ..ConvOptions::default() })
        }
    };
    d.output(y);
}
