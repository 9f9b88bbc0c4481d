//! Between `ndarray` arrays and Kiln's tensors.

use kiln_ir::{Element, Tensor, TensorError};
use ndarray::{ArrayBase, ArrayD, Data, Dimension};

/// What can be fed, or stored in a graph as a constant.
pub trait ToTensor {
    /// The tensor, row-major.
    fn to_tensor(&self) -> Tensor;
}

impl ToTensor for Tensor {
    fn to_tensor(&self) -> Tensor {
        self.clone()
    }
}

impl<T: ToTensor + ?Sized> ToTensor for &T {
    fn to_tensor(&self) -> Tensor {
        (**self).to_tensor()
    }
}

impl<T: Element, S: Data<Elem = T>, D: Dimension> ToTensor for ArrayBase<S, D> {
    fn to_tensor(&self) -> Tensor {
        let mut bytes = Vec::with_capacity(self.len() * T::DTYPE.size());
        for &v in self {
            v.write(&mut bytes);
        }
        // The extents are those of an array that exists, so their product is its length.
        Tensor::from_bytes(T::DTYPE, self.shape(), bytes.into()).unwrap_or_else(|e| unreachable!("{e}"))
    }
}

/// The tensor as an array of `T`, which must be its element type.
pub fn to_array<T: Element>(tensor: &Tensor) -> Result<ArrayD<T>, TensorError> {
    let values = tensor.to_vec::<T>()?;
    let found = values.len() * T::DTYPE.size();
    ArrayD::from_shape_vec(tensor.dims(), values).map_err(|_| TensorError::Length {
        dtype: tensor.dtype(),
        dims: tensor.dims().to_vec(),
        expected: tensor.bytes().len(),
        found,
    })
}
