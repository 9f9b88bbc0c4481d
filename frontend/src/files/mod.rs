//! Files of tensors: NumPy arrays, safetensors, images, and lists of class names.
//!
//! Readers check every length against the bytes that are there, and name the file and the array in
//! their errors. Writers write beside the target and rename, so that a file is never half there.

mod atomic;
mod error;
pub mod image;
pub mod labels;
pub mod npy;
pub mod npz;
mod resample;
pub mod safetensors;

pub use atomic::write_atomically;
pub use error::FileError;
