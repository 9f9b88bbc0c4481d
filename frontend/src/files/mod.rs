//! Files of tensors: NumPy arrays, safetensors, images, and lists of class names.
//!
//! Readers check every length against the bytes that are there, and name the file and the array in
//! their errors. Writers write beside the target and rename, so that a file is never half there.

mod error;
pub mod image;
pub mod labels;
pub mod npy;
pub mod npz;
mod resample;
pub mod safetensors;

pub use error::FileError;

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use kiln_runtime::atomic_file;

/// [`atomic_file::write_atomically`], its errors as a [`FileError`].
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> Result<(), FileError>,
) -> Result<(), FileError> {
    atomic_file::write_atomically(path, |_, source| FileError::Write { path: path.to_owned(), source }, write)
}
