//! What can be wrong with a file.

use std::path::{Path, PathBuf};

use kiln_ir::{DType, TensorError};

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system said no while reading.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file system said no while writing.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not what its name says.
    #[error("`{}` is not a valid {format} file: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format expected.
        format: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// An array inside the file is not usable.
    #[error("`{}`: array `{array}`: {problem}", path.display())]
    Array {
        /// The file.
        path: PathBuf,
        /// The array's name.
        array: String,
        /// What is wrong.
        problem: String,
    },
    /// Bytes and extents of an array do not fit together.
    #[error("`{}`: array `{array}`: {source}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The array's name.
        array: String,
        /// What does not fit.
        source: TensorError,
    },
    /// A dtype that the format cannot hold.
    #[error("cannot write array `{array}` to `{}`: the {format} format has no {dtype}; cast it to {instead} first", path.display())]
    NoSuchDType {
        /// The file.
        path: PathBuf,
        /// The array's name.
        array: String,
        /// The format.
        format: &'static str,
        /// The dtype it lacks.
        dtype: DType,
        /// A dtype that holds the same values.
        instead: DType,
    },
    /// Two arrays of the same name.
    #[error("`{}`: two arrays are named `{array}`", path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The name.
        array: String,
    },
    /// The image does not fit the preprocessing asked for.
    #[error("image `{}`: {problem}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl FileError {
    pub(super) fn read(path: &Path, source: std::io::Error) -> FileError {
        FileError::Read { path: path.to_owned(), source }
    }

    pub(super) fn format(path: &Path, format: &'static str, problem: impl ToString) -> FileError {
        FileError::Format { path: path.to_owned(), format, problem: problem.to_string() }
    }

    pub(super) fn array(path: &Path, array: &str, problem: impl ToString) -> FileError {
        FileError::Array { path: path.to_owned(), array: array.to_owned(), problem: problem.to_string() }
    }

    pub(super) fn tensor(path: &Path, array: &str, source: TensorError) -> FileError {
        FileError::Tensor { path: path.to_owned(), array: array.to_owned(), source }
    }
}
