//! Rules of products of bytes.

use kiln_ir::attribute::{ConvLayout, Padding};
use kiln_ir::{ConvOptions, DType, Op, Tensor, Value};

use crate::How::Identically;
use crate::Row;
use crate::draw::Draw;

const fn row(rule: &'static str, make: fn(&mut Draw)) -> Row {
    Row { rule, with: &[], how: Identically, make }
}

pub const ROWS: &[Row] = &[
    row("unsigned_factor", |d| {
        let shift = d.below(3);
        contraction(d, DType::I8, shift);
    }),
    row("zero_point_behind_product", |d| {
        let shift = 1 + d.below(2);
        contraction(d, DType::U8, shift);
    }),
    row("multiply_bytes", |d| contraction(d, DType::U8, 0)),
];

/// A product or a convolution of 8-bit integers in i32: as they are, less a known number, or less a fed one.
fn contraction(d: &mut Draw, dtype: DType, shift: usize) {
    let (inputs, outputs) = (1 + d.below(5), 2 + d.below(3));
    let product = d.chance();
    let groups = if product { 1 } else { 1 + d.below(2) };
    let x_dims = if product { vec![d.extent(), inputs] } else { vec![1, groups * inputs, 5, 4] };
    let x = d.input_of("x", dtype, &x_dims);
    let x = d.b.convert(x, DType::I32);
    let x = shifted(d, x, shift);
    let y = if product {
        let w = weights(d, &[inputs, outputs]);
        d.b.dot(x, w, &[], &[], &[1], &[0])
    } else {
        let w = weights(d, &[groups * outputs, inputs, 3, 2]);
        // what is fed cannot be padding
        let padding = if shift == 2 || d.chance() { vec![] } else { vec![Padding { low: 1, high: 2 }, Padding::NONE] };
        let strides = vec![1 + d.below(2); 2];
        d.b.conv(
            x,
            w,
            &ConvOptions { padding, strides, groups, layout: ConvLayout::ChannelsFirst, ..ConvOptions::default() },
        )
    };
    d.output(y);
}

/// `x` less a number: none, a known one, or a fed one.
pub fn shifted(d: &mut Draw, x: Value, shift: usize) -> Value {
    let dims = d.extents(x);
    let number = match shift {
        0 => return x,
        1 => {
            let number = 1 + d.below(9);
            d.b.scalar(DType::I32, number as f64)
        }
        _ => d.input_of("zero", DType::I32, &[]),
    };
    let number = d.broadcast(number, &dims, &[]);
    d.add(Op::Sub {}, &[x, number])
}

/// Constants that i8 holds, in i32: as they are, from i8, or from u8 less a zero point.
pub fn weights(d: &mut Draw, dims: &[usize]) -> Value {
    let count = dims.iter().product();
    let numbers: Vec<i32> = (0..count).map(|_| d.below(256) as i32 - 128).collect();
    match d.below(3) {
        0 => d.b.constant(Tensor::from_slice(dims, &numbers).unwrap()),
        1 => {
            let bytes: Vec<i8> = numbers.iter().map(|&n| n as i8).collect();
            let w = d.b.constant(Tensor::from_slice(dims, &bytes).unwrap());
            d.add(Op::Convert { dtype: DType::I32 }, &[w])
        }
        _ => {
            let bytes: Vec<u8> = numbers.iter().map(|&n| (n + 128) as u8).collect();
            let w = d.b.constant(Tensor::from_slice(dims, &bytes).unwrap());
            let w = d.add(Op::Convert { dtype: DType::I32 }, &[w]);
            let zero = d.b.scalar(DType::I32, 128.0);
            let zero = d.broadcast(zero, dims, &[]);
            d.add(Op::Sub {}, &[w, zero])
        }
    }
}
