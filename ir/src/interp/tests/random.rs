use super::{folded, values};
use crate::ops::Op;
use crate::tensor::Tensor;

fn bits(dims: &[usize], seed: i64) -> Op {
    Op::RandomBits { dims: dims.iter().map(|&d| d.into()).collect(), seed }
}

#[test]
fn random_bits_are_the_published_threefry_words_in_order() {
    // The Random123 known answers for key 0 and counter 0 …
    assert_eq!(values::<i32>(bits(&[2], 0), &[Tensor::scalar(0i64)]), [0x6b20_0159, 0x99ba_4efeu32 as i32]);
    // … and for a key and a counter of all ones; the counter wraps after it.
    let y = values::<i32>(bits(&[2, 2], -1), &[Tensor::scalar(-1i64)]);
    assert_eq!(y[..2], [0x1cb9_96fc, 0xbb00_2be7u32 as i32]);
    assert_eq!(y[2..], values::<i32>(bits(&[2], -1), &[Tensor::scalar(0i64)])[..]);
}

#[test]
fn random_bits_depend_on_position_alone_not_on_dims() {
    let long = values::<i32>(bits(&[3, 5], 7), &[Tensor::scalar(40i64)]);
    assert_eq!(long[..9], values::<i32>(bits(&[9], 7), &[Tensor::scalar(40i64)])[..]);
    assert_eq!(long[2..], values::<i32>(bits(&[13], 7), &[Tensor::scalar(41i64)])[..]);
    assert_eq!(folded(bits(&[0, 2], 7), &[Tensor::scalar(0i64)]).dims(), [0, 2]);
}
