//! safetensors: named tensors with a JSON header.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use ::safetensors::tensor::{Dtype, SafeTensors};
use bytes::Bytes;
use kiln_ir::{DType, Tensor};
use serde_json::json;

use super::npz::Arrays;
use super::{FileError, write_atomically};

/// Tensors and free-form metadata of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contents {
    /// The tensors by name; views of the file's bytes.
    pub tensors: Arrays,
    /// The header's `__metadata__`.
    pub metadata: BTreeMap<String, String>,
}

/// Reads every tensor of a file. The file is read once; the tensors are views of it.
pub fn read(path: &Path) -> Result<Contents, FileError> {
    let bytes = Bytes::from(fs::read(path).map_err(|e| FileError::read(path, e))?);
    decode(&bytes, path)
}

/// Reads every tensor of a file in memory; `path` is for error texts.
pub fn decode(bytes: &Bytes, path: &Path) -> Result<Contents, FileError> {
    let invalid = |e: ::safetensors::SafeTensorError| FileError::format(path, "safetensors", e);
    let file = SafeTensors::deserialize(bytes).map_err(invalid)?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(invalid)?;
    let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut tensors = Arrays::new();
    for (name, view) in file.iter() {
        let dtype = match view.dtype() {
            Dtype::F64 => DType::F64,
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::I64 => DType::I64,
            Dtype::I32 => DType::I32,
            Dtype::I8 => DType::I8,
            Dtype::U8 => DType::U8,
            Dtype::BOOL => DType::Bool,
            other => {
                return Err(FileError::array(
                    path,
                    name,
                    format!(
                        "element type {other} is not supported (supported: F64, F32, F16, BF16, I64, I32, I8, U8, BOOL)"
                    ),
                ));
            }
        };
        let data = bytes.slice_ref(view.data());
        let tensor = Tensor::from_bytes(dtype, view.shape(), data).map_err(|e| FileError::tensor(path, name, e))?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(Contents { tensors, metadata })
}

/// Writes tensors and metadata, whole or not at all. The same contents give the same bytes, which is
/// why the header is made here: the library writes its metadata in the order of a hash map.
pub fn write(path: &Path, contents: &Contents) -> Result<(), FileError> {
    // Wide elements first, so that every tensor is aligned to its elements; the format asks for no
    // holes. The order is stable: by name within a size.
    let mut order: Vec<(&String, &Tensor)> = contents.tensors.iter().collect();
    order.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.dtype().size()));

    let mut header = BTreeMap::new();
    if !contents.metadata.is_empty() {
        header.insert("__metadata__", json!(contents.metadata));
    }
    let mut offset = 0;
    for (name, tensor) in &order {
        if name.as_str() == "__metadata__" {
            return Err(FileError::array(path, name, "safetensors reserves this name"));
        }
        let end = offset + tensor.bytes().len();
        let entry = json!({
            "dtype": dtype_name(tensor.dtype()),
            "shape": tensor.dims(),
            "data_offsets": [offset, end],
        });
        header.insert(name, entry);
        offset = end;
    }
    let failed = |source| FileError::Write { path: path.to_owned(), source };
    let mut text = serde_json::to_vec(&header).map_err(|e| failed(e.into()))?;
    text.resize(text.len().next_multiple_of(8), b' ');
    write_atomically(path, |out| {
        out.write_all(&(text.len() as u64).to_le_bytes()).map_err(failed)?;
        out.write_all(&text).map_err(failed)?;
        order.iter().try_for_each(|(_, tensor)| out.write_all(tensor.bytes()).map_err(failed))
    })
}

/// The format's name of a dtype.
fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 => "F64",
        DType::F32 => "F32",
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::I64 => "I64",
        DType::I32 => "I32",
        DType::I8 => "I8",
        DType::U8 => "U8",
        DType::Bool => "BOOL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_dtype() -> Contents {
        let mut contents = Contents::default();
        for dtype in DType::ALL {
            let tensor = Tensor::from_f64(dtype, &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
            contents.tensors.insert(format!("layer.{dtype}"), tensor);
        }
        contents.metadata.insert("format".to_owned(), "pt".to_owned());
        contents
    }

    #[test]
    fn every_dtype_and_the_metadata_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        let contents = every_dtype();
        write(&path, &contents).unwrap();
        assert_eq!(read(&path).unwrap(), contents);
    }

    #[test]
    fn the_same_contents_give_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        let mut contents = every_dtype();
        contents.metadata.extend((0..8).map(|i| (format!("key{i}"), "value".to_owned())));
        write(&path, &contents).unwrap();
        let first = fs::read(&path).unwrap();
        for _ in 0..8 {
            write(&path, &contents.clone()).unwrap();
            assert!(fs::read(&path).unwrap() == first, "the bytes differ from one writing to the next");
        }
    }

    #[test]
    fn a_file_written_by_hand_as_the_format_says_is_read() {
        let header = br#"{"a":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}}"#;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        bytes.extend([7, 0, 0, 0, 255, 255, 255, 255]);
        let contents = decode(&Bytes::from(bytes), Path::new("w")).unwrap();
        assert_eq!(contents.tensors["a"].to_vec::<i32>().unwrap(), [7, -1]);
    }

    #[test]
    fn unsupported_element_types_are_named() {
        let header = br#"{"a":{"dtype":"U16","shape":[2],"data_offsets":[0,4]}}"#;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        bytes.extend([7, 0, 0, 0]);
        let e = decode(&Bytes::from(bytes), Path::new("w")).unwrap_err().to_string();
        assert!(e.contains("array `a`") && e.contains("U16"), "{e}");
    }

    #[test]
    fn every_truncation_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        write(&path, &every_dtype()).unwrap();
        let whole = Bytes::from(fs::read(&path).unwrap());
        for length in 0..whole.len() {
            assert!(decode(&whole.slice(..length), &path).is_err(), "{length} of {} bytes", whole.len());
        }
    }
}
