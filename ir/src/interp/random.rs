//! Ops that make elements out of their attributes: `iota` and `random_bits`.

use super::array::{Array, Data, Datum};
use super::error::EvalError;
use super::scalar::Scalar;
use crate::dtype::DType;
use crate::random;

/// 0, 1, 2 … along `axis`, as integers converted to `dtype`.
pub fn iota<S: Scalar>(dtype: DType, dims: &[usize], axis: usize) -> Result<Array<S>, EvalError> {
    let count: usize = dims.iter().product();
    let (extent, inner) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
    let mut out = Data::with_capacity(dtype, count);
    for i in 0..count {
        out.push(Datum::I64((i / inner % extent) as i64).convert(dtype)?)?;
    }
    Ok(Array::new(dtype, dims, out))
}

/// Element i is word i mod 2 of block counter + i div 2 of the stream `seed`.
pub fn random_bits<S: Scalar>(counter: &Array<S>, dims: &[usize], seed: i64) -> Result<Array<S>, EvalError> {
    let Data::I64(counter) = &*counter.data else { return Err(EvalError::Bug { what: "a counter that is not i64" }) };
    let first = counter[0] as u64;
    let count = dims.iter().product::<usize>() as u64;
    let words = (0..count).map(|i| random::block(seed as u64, first.wrapping_add(i / 2))[(i % 2) as usize] as i32);
    Ok(Array::new(DType::I32, dims, Data::I32(words.collect())))
}
