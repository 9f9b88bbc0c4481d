//! Values under interpretation: a tensor whose elements are of the Rust type that computes them.

use std::rc::Rc;

use super::error::EvalError;
use super::number::Undefined;
use super::scalar::Scalar;
use crate::dtype::DType;
use crate::narrow::{bf16_from_f64, bf16_from_i64, f16_from_f64};
use crate::tensor::{Tensor, TensorError};
use crate::types::TensorType;

/// Elements in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum Data<S> {
    /// Float dtypes that `S` computes.
    Scalar(Vec<S>),
    /// f64, where `S` is narrower.
    F64(Vec<f64>),
    /// i64.
    I64(Vec<i64>),
    /// i32.
    I32(Vec<i32>),
    /// i8.
    I8(Vec<i8>),
    /// u8.
    U8(Vec<u8>),
    /// bool.
    Bool(Vec<bool>),
}

/// `$body` for the elements of one array, whatever their type.
macro_rules! with_data {
    ($data:expr, |$v:pat_param| $body:expr) => {
        match $data {
            $crate::interp::array::Data::Scalar($v) => $body,
            $crate::interp::array::Data::F64($v) => $body,
            $crate::interp::array::Data::I64($v) => $body,
            $crate::interp::array::Data::I32($v) => $body,
            $crate::interp::array::Data::I8($v) => $body,
            $crate::interp::array::Data::U8($v) => $body,
            $crate::interp::array::Data::Bool($v) => $body,
        }
    };
}

/// The elements that `$body` makes of one array's, of the same type.
macro_rules! map_data {
    ($data:expr, |$v:pat_param| $body:expr) => {{
        use $crate::interp::array::Data;
        match $data {
            Data::Scalar($v) => Data::Scalar($body),
            Data::F64($v) => Data::F64($body),
            Data::I64($v) => Data::I64($body),
            Data::I32($v) => Data::I32($body),
            Data::I8($v) => Data::I8($body),
            Data::U8($v) => Data::U8($body),
            Data::Bool($v) => Data::Bool($body),
        }
    }};
}

/// `$body` for the elements of two arrays of one type, whatever it is.
macro_rules! with_both {
    ($x:expr, $y:expr, |$v:pat_param, $w:pat_param| $body:expr) => {{
        use $crate::interp::array::Data;
        match ($x, $y) {
            (Data::Scalar($v), Data::Scalar($w)) => $body,
            (Data::F64($v), Data::F64($w)) => $body,
            (Data::I64($v), Data::I64($w)) => $body,
            (Data::I32($v), Data::I32($w)) => $body,
            (Data::I8($v), Data::I8($w)) => $body,
            (Data::U8($v), Data::U8($w)) => $body,
            (Data::Bool($v), Data::Bool($w)) => $body,
            _ => return Err($crate::interp::error::EvalError::Bug { what: "operands of different dtypes" }),
        }
    }};
}

/// The elements that `$body` makes of two arrays' of one type.
macro_rules! zip_data {
    ($x:expr, $y:expr, |$v:pat_param, $w:pat_param| $body:expr) => {{
        use $crate::interp::array::Data;
        match ($x, $y) {
            (Data::Scalar($v), Data::Scalar($w)) => Data::Scalar($body),
            (Data::F64($v), Data::F64($w)) => Data::F64($body),
            (Data::I64($v), Data::I64($w)) => Data::I64($body),
            (Data::I32($v), Data::I32($w)) => Data::I32($body),
            (Data::I8($v), Data::I8($w)) => Data::I8($body),
            (Data::U8($v), Data::U8($w)) => Data::U8($body),
            (Data::Bool($v), Data::Bool($w)) => Data::Bool($body),
            _ => return Err($crate::interp::error::EvalError::Bug { what: "operands of different dtypes" }),
        }
    }};
}

pub(super) use {map_data, with_both, with_data, zip_data};

/// A tensor under interpretation. Cloning shares the elements.
#[derive(Clone, Debug)]
pub struct Array<S> {
    /// Element type of the graph's value.
    pub dtype: DType,
    /// Extents.
    pub dims: Vec<usize>,
    /// Elements.
    pub data: Rc<Data<S>>,
}

impl<S: Scalar> Data<S> {
    /// No elements of `dtype`, with room for `n`.
    pub fn with_capacity(dtype: DType, n: usize) -> Data<S> {
        match dtype {
            d if d.is_float() && S::holds(d) => Data::Scalar(Vec::with_capacity(n)),
            DType::F64 | DType::F32 | DType::F16 | DType::BF16 => Data::F64(Vec::with_capacity(n)),
            DType::I64 => Data::I64(Vec::with_capacity(n)),
            DType::I32 => Data::I32(Vec::with_capacity(n)),
            DType::I8 => Data::I8(Vec::with_capacity(n)),
            DType::U8 => Data::U8(Vec::with_capacity(n)),
            DType::Bool => Data::Bool(Vec::with_capacity(n)),
        }
    }

    /// Number of elements.
    pub fn count(&self) -> usize {
        with_data!(self, |v| v.len())
    }
}

impl<S: Scalar> Array<S> {
    /// Elements under extents.
    pub fn new(dtype: DType, dims: &[usize], data: Data<S>) -> Array<S> {
        Array { dtype, dims: dims.to_vec(), data: Rc::new(data) }
    }

    /// The type in the graph.
    pub fn ty(&self) -> TensorType {
        TensorType::fixed(self.dtype, &self.dims)
    }

    /// The value of a graph's tensor of `dtype`, given in that dtype or in the scalar's exchange dtype.
    pub fn from_tensor(t: &Tensor, dtype: DType) -> Result<Array<S>, EvalError> {
        let bug = |_: TensorError| EvalError::Bug { what: "a tensor's elements are not of its dtype" };
        let data = match dtype {
            d if d.is_float() && S::holds(d) => Data::Scalar(if t.dtype() == DType::I64 {
                t.to_i64_vec().into_iter().map(S::from_i64).collect()
            } else {
                let values = t.to_f64_vec().into_iter().map(|v| S::from_f64(v, t.dtype()));
                values.collect::<Result<_, Undefined>>()?
            }),
            DType::F64 | DType::F32 | DType::F16 | DType::BF16 => Data::F64(t.to_f64_vec()),
            DType::I64 => Data::I64(t.to_vec().map_err(bug)?),
            DType::I32 => Data::I32(t.to_vec().map_err(bug)?),
            DType::I8 => Data::I8(t.to_vec().map_err(bug)?),
            DType::U8 => Data::U8(t.to_vec().map_err(bug)?),
            DType::Bool => Data::Bool(t.to_vec().map_err(bug)?),
        };
        Ok(Array::new(dtype, t.dims(), data))
    }

    /// The value as a tensor: integers and truth values in their dtype, floats in the scalar's exchange dtype or,
    /// where it has none, their own.
    pub fn to_tensor(&self) -> Result<Tensor, EvalError> {
        let tensor = match &*self.data {
            Data::Scalar(v) => S::to_tensor(v, self.dtype, &self.dims),
            Data::F64(v) => Tensor::from_slice(&self.dims, v),
            Data::I64(v) => Tensor::from_slice(&self.dims, v),
            Data::I32(v) => Tensor::from_slice(&self.dims, v),
            Data::I8(v) => Tensor::from_slice(&self.dims, v),
            Data::U8(v) => Tensor::from_slice(&self.dims, v),
            Data::Bool(v) => Tensor::from_slice(&self.dims, v),
        };
        tensor.map_err(|_| EvalError::Bug { what: "as many elements as the extents say" })
    }

    /// f16 and bf16 elements rounded to what their dtype holds.
    pub fn rounded(self) -> Array<S> {
        let narrow = matches!(self.dtype, DType::F16 | DType::BF16);
        match &*self.data {
            Data::Scalar(v) if narrow => {
                let rounded = v.iter().map(|x| x.round_to(self.dtype)).collect();
                Array { data: Rc::new(Data::Scalar(rounded)), ..self }
            }
            _ => self,
        }
    }
}

/// One element of any type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Datum<S> {
    /// Of a float dtype that `S` computes.
    Scalar(S),
    /// f64, where `S` is narrower.
    F64(f64),
    /// i64.
    I64(i64),
    /// i32.
    I32(i32),
    /// i8.
    I8(i8),
    /// u8.
    U8(u8),
    /// bool.
    Bool(bool),
}

/// `Datum` of the kind that `$data` holds.
macro_rules! element_kinds {
    ($($kind:ident),*) => {
        impl<S: Scalar> Data<S> {
            /// Element `i`, which is in range.
            pub fn get(&self, i: usize) -> Datum<S> {
                match self { $(Data::$kind(v) => Datum::$kind(v[i])),* }
            }

            /// Elements `start..start + length`, which are in range.
            pub fn block(&self, start: usize, length: usize) -> Data<S> {
                match self { $(Data::$kind(v) => Data::$kind(v[start..start + length].to_vec())),* }
            }

            /// Appends an element of the array's own type.
            pub fn push(&mut self, value: Datum<S>) -> Result<(), EvalError> {
                match (self, value) {
                    $((Data::$kind(v), Datum::$kind(x)) => v.push(x),)*
                    _ => return Err(EvalError::Bug { what: "an element of another dtype" }),
                }
                Ok(())
            }

            /// Appends elements `start..start + length` of an array of the same type.
            pub fn append(&mut self, from: &Data<S>, start: usize, length: usize) -> Result<(), EvalError> {
                match (self, from) {
                    $((Data::$kind(out), Data::$kind(v)) => out.extend_from_slice(&v[start..start + length]),)*
                    _ => return Err(EvalError::Bug { what: "elements of another dtype" }),
                }
                Ok(())
            }
        }

        impl<S: Scalar> Datum<S> {
            /// The element `n` times.
            pub fn repeated(self, n: usize) -> Data<S> {
                match self { $(Datum::$kind(x) => Data::$kind(vec![x; n])),* }
            }
        }
    };
}
element_kinds!(Scalar, F64, I64, I32, I8, U8, Bool);

impl<S: Scalar> Datum<S> {
    /// A constant of `dtype`: integers truncate and saturate, truth is ≠ 0. It is the number that an f32 (or f64)
    /// program would hold, whatever it is computed in; f16 and bf16 expressions are computed, so also written, in f32.
    pub fn constant(v: f64, dtype: DType) -> Result<Datum<S>, Undefined> {
        Ok(match dtype {
            d if d.is_float() && S::holds(d) => Datum::Scalar(match d {
                DType::F64 => S::from_f64(v, DType::F64)?,
                _ => S::from_f64(f64::from(v as f32), DType::F32)?,
            }),
            _ => Datum::F64(v).convert(dtype)?,
        })
    }

    /// The value converted to `dtype`: floats to integers truncate and saturate, NaN gives 0; integers to narrower
    /// ones wrap; to truth is ≠ 0; everything else rounds to nearest even.
    pub fn convert(self, dtype: DType) -> Result<Datum<S>, Undefined> {
        if dtype.is_float() && S::holds(dtype) {
            return Ok(Datum::Scalar(match self {
                // Between the dtypes that S computes only the rounding matters.
                Datum::Scalar(x) => x.round_to(dtype),
                Datum::F64(x) => S::from_f64(x, dtype)?,
                Datum::I64(x) => integer_in(x, dtype)?,
                Datum::I32(x) => integer_in(i64::from(x), dtype)?,
                Datum::I8(x) => S::from_i64(i64::from(x)),
                Datum::U8(x) => S::from_i64(i64::from(x)),
                Datum::Bool(x) => S::from_i64(i64::from(x)),
            }));
        }
        Ok(match self {
            Datum::Scalar(x) => from_real(x.to_f64()?, dtype),
            Datum::F64(x) => from_real(x, dtype),
            Datum::I64(x) => from_integer(x, dtype),
            Datum::I32(x) => from_integer(i64::from(x), dtype),
            Datum::I8(x) => from_integer(i64::from(x), dtype),
            Datum::U8(x) => from_integer(i64::from(x), dtype),
            Datum::Bool(x) => from_integer(i64::from(x), dtype),
        })
    }
}

/// An integer in a float dtype, rounded once. What an f64 does not hold is beyond f16, so f16 may go by way of it.
fn integer_in<S: Scalar>(v: i64, dtype: DType) -> Result<S, Undefined> {
    match dtype {
        DType::F16 if !S::holds(DType::F64) => S::from_f64(v as f64, dtype),
        DType::BF16 if !S::holds(DType::F64) => S::from_f64(bf16_from_i64(v).to_f64(), dtype),
        _ => Ok(S::from_i64(v)),
    }
}

fn from_real<S>(v: f64, dtype: DType) -> Datum<S> {
    match dtype {
        // The float dtypes that reach this are computed in f64.
        DType::F64 | DType::F32 => Datum::F64(v),
        DType::F16 => Datum::F64(f16_from_f64(v).to_f64()),
        DType::BF16 => Datum::F64(bf16_from_f64(v).to_f64()),
        DType::I64 => Datum::I64(v as i64),
        DType::I32 => Datum::I32(v as i32),
        DType::I8 => Datum::I8(v as i8),
        DType::U8 => Datum::U8(v as u8),
        DType::Bool => Datum::Bool(v != 0.0),
    }
}

fn from_integer<S>(v: i64, dtype: DType) -> Datum<S> {
    match dtype {
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => Datum::F64(v as f64),
        DType::I64 => Datum::I64(v),
        DType::I32 => Datum::I32(v as i32),
        DType::I8 => Datum::I8(v as i8),
        DType::U8 => Datum::U8(v as u8),
        DType::Bool => Datum::Bool(v != 0),
    }
}
