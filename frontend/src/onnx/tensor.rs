//! `TensorProto` → [`Tensor`].
//!
//! Elements in `raw_data` and in external files become views of the bytes read, without a copy.
//! A tensor's extents are checked against the bytes that are there before anything is allocated.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use half::{bf16, f16};
use kiln_ir::{DType, Element, Tensor, TensorError};

use super::emit::Operand;
use super::narrow::{Narrow, NarrowType};
use super::proto::{DataLocation, TensorDataType, TensorProto};
use super::value::Value;

/// Why a constant of the model could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TensorProtoError {
    /// The format's element type has no Kiln dtype.
    #[error("tensor `{tensor}`: element type {found} is not supported (supported: {})", supported_types())]
    DType {
        /// The tensor's name.
        tensor: String,
        /// The element type found.
        found: String,
    },
    /// An extent below zero.
    #[error("tensor `{tensor}`: extents {dims:?} hold a negative number")]
    NegativeExtent {
        /// The tensor's name.
        tensor: String,
        /// The extents found.
        dims: Vec<i64>,
    },
    /// A typed data field holds another number of elements than the extents say.
    #[error("tensor `{tensor}`: extents {dims:?} say {expected} elements, found {found}")]
    Count {
        /// The tensor's name.
        tensor: String,
        /// The extents.
        dims: Vec<usize>,
        /// Elements the extents say.
        expected: usize,
        /// Elements found.
        found: usize,
    },
    /// An element outside the element type's range.
    #[error("tensor `{tensor}`: element {value} does not fit in {dtype}")]
    Range {
        /// The tensor's name.
        tensor: String,
        /// The element.
        value: i32,
        /// The element type.
        dtype: DType,
    },
    /// An element outside the range of an element type that Kiln holds in a wider one.
    #[error("tensor `{tensor}`: element {value} does not fit in {found}")]
    NarrowRange {
        /// The tensor's name.
        tensor: String,
        /// The element.
        value: i128,
        /// The element type.
        found: &'static str,
    },
    /// Bytes and extents do not fit together.
    #[error("tensor `{tensor}`: {source}")]
    Tensor {
        /// The tensor's name.
        tensor: String,
        /// What does not fit.
        source: TensorError,
    },
    /// Elements in another file, but the model was not read from a file.
    #[error(
        "tensor `{tensor}`: its data is in the file `{location}`, but the model was read from memory; import it by its path"
    )]
    NoDirectory {
        /// The tensor's name.
        tensor: String,
        /// The file named.
        location: String,
    },
    /// The external file's entry is not usable.
    #[error("tensor `{tensor}`: external data: {problem}")]
    External {
        /// The tensor's name.
        tensor: String,
        /// What is wrong with the entry.
        problem: String,
    },
    /// The external file could not be read.
    #[error("tensor `{tensor}`: external data `{}`: {source}", path.display())]
    ExternalRead {
        /// The tensor's name.
        tensor: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

fn supported_types() -> &'static str {
    "float, double, float16, bfloat16, int8, uint8, int32, int64, bool; held in wider ones int4, uint4, int16, uint16, uint32, float8"
}

/// The Kiln dtype of an ONNX element type, or the element type's name where there is none.
pub fn dtype_of(data_type: i32) -> Result<DType, String> {
    Ok(match TensorDataType::try_from(data_type) {
        Ok(TensorDataType::Float) => DType::F32,
        Ok(TensorDataType::Double) => DType::F64,
        Ok(TensorDataType::Float16) => DType::F16,
        Ok(TensorDataType::Bfloat16) => DType::BF16,
        Ok(TensorDataType::Int64) => DType::I64,
        Ok(TensorDataType::Int32) => DType::I32,
        Ok(TensorDataType::Int8) => DType::I8,
        Ok(TensorDataType::Uint8) => DType::U8,
        Ok(TensorDataType::Bool) => DType::Bool,
        Ok(other) => return Err(format!("{other:?}").to_lowercase()),
        Err(_) => return Err(format!("number {data_type}")),
    })
}

/// What the format calls a dtype.
pub(super) fn onnx_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "float",
        DType::F64 => "double",
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
        DType::I64 => "int64",
        DType::I32 => "int32",
        DType::I8 => "int8",
        DType::U8 => "uint8",
        DType::Bool => "bool",
    }
}

/// Reads the files beside a model that hold its external data, each once.
pub struct ExternalFiles {
    directory: Option<PathBuf>,
    read: RefCell<HashMap<PathBuf, Bytes>>,
}

impl ExternalFiles {
    /// Files under `directory` (the model's); `None` for a model read from memory.
    pub fn new(directory: Option<PathBuf>) -> ExternalFiles {
        ExternalFiles { directory, read: RefCell::default() }
    }

    /// The files that were read, sorted.
    pub fn paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = self.read.borrow().keys().cloned().collect();
        paths.sort_unstable();
        paths
    }

    fn bytes(&self, tensor: &str, proto: &TensorProto) -> Result<Bytes, TensorProtoError> {
        let entry = |key: &str| {
            proto.external_data.iter().find(|e| e.key.as_deref() == Some(key)).and_then(|e| e.value.as_deref())
        };
        let bad = |problem: String| TensorProtoError::External { tensor: tensor.to_owned(), problem };
        let number = |key: &str| {
            entry(key)
                .map(|v| v.parse::<usize>().map_err(|_| bad(format!("`{key}` is {v:?}, expected a number of bytes"))))
                .transpose()
        };
        let location = entry("location").ok_or_else(|| bad("`location` is missing".to_owned()))?;
        let offset = number("offset")?.unwrap_or(0);
        let length = number("length")?;
        let Some(directory) = &self.directory else {
            return Err(TensorProtoError::NoDirectory { tensor: tensor.to_owned(), location: location.to_owned() });
        };
        let path = self.resolve(tensor, directory, location)?;
        let mut read = self.read.borrow_mut();
        let file = match read.get(&path) {
            Some(file) => file.clone(),
            None => {
                let file = fs::read(&path).map(Bytes::from).map_err(|source| TensorProtoError::ExternalRead {
                    tensor: tensor.to_owned(),
                    path: path.clone(),
                    source,
                })?;
                read.insert(path, file.clone());
                file
            }
        };
        let end = match length {
            Some(length) => offset.checked_add(length),
            None => Some(file.len()),
        };
        match end {
            Some(end) if offset <= end && end <= file.len() => Ok(file.slice(offset..end)),
            _ => Err(bad(format!(
                "offset {offset} and length {} lie outside `{location}`, which has {} bytes",
                length.map_or("(to the end)".to_owned(), |l| l.to_string()),
                file.len()
            ))),
        }
    }

    /// The path that `location` names, refused where it leaves the model's directory: a model file
    /// must not be able to read others' files into a graph. Links are followed before the check.
    fn resolve(&self, tensor: &str, directory: &Path, location: &str) -> Result<PathBuf, TensorProtoError> {
        let relative = Path::new(location);
        let escapes = || TensorProtoError::External {
            tensor: tensor.to_owned(),
            problem: format!(
                "`{location}` must be a relative path to a file inside the model's directory `{}`",
                directory.display()
            ),
        };
        let inside = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !inside || location.is_empty() {
            return Err(escapes());
        }
        let failed = |path: &Path, source| TensorProtoError::ExternalRead {
            tensor: tensor.to_owned(),
            path: path.to_owned(),
            source,
        };
        let root = directory.canonicalize().map_err(|e| failed(directory, e))?;
        let path = directory.join(relative);
        let real = path.canonicalize().map_err(|e| failed(&path, e))?;
        if real.starts_with(&root) { Ok(real) } else { Err(escapes()) }
    }
}

fn extents(proto: &TensorProto, name: &str) -> Result<Vec<usize>, TensorProtoError> {
    proto
        .dims
        .iter()
        .map(|&d| usize::try_from(d))
        .collect::<Result<Vec<usize>, _>>()
        .map_err(|_| TensorProtoError::NegativeExtent { tensor: name.to_owned(), dims: proto.dims.clone() })
}

/// The elements as bytes, where they are not in a typed field.
fn raw(proto: &TensorProto, name: &str, files: &ExternalFiles) -> Result<Option<Bytes>, TensorProtoError> {
    if proto.data_location == Some(DataLocation::External as i32) {
        return files.bytes(name, proto).map(Some);
    }
    // Some writers set an empty `raw_data` beside a typed field.
    Ok(proto.raw_data.clone().filter(|raw| !raw.is_empty()))
}

/// As [`read_tensor`], but integers of 4 and 16 bits, unsigned ones of 32, and 8-bit floats, which no dtype of Kiln is,
/// become elements of a wider one that has all their values.
pub fn read_held(proto: &TensorProto, name: &str, files: &ExternalFiles) -> Result<Tensor, TensorProtoError> {
    match NarrowType::of(proto.data_type.unwrap_or_default()) {
        Some(ty) => read_narrow(ty, proto, name, files),
        None => read_tensor(proto, name, files),
    }
}

fn read_narrow(
    ty: NarrowType,
    proto: &TensorProto,
    name: &str,
    files: &ExternalFiles,
) -> Result<Tensor, TensorProtoError> {
    let tensor = || name.to_owned();
    let (dims, dtype) = (extents(proto, name)?, ty.held_in());
    let fit = |source| TensorProtoError::Tensor { tensor: tensor(), source };
    let range = |value| TensorProtoError::NarrowRange { tensor: tensor(), value, found: ty.name() };
    let too_large = || fit(TensorError::TooLarge { dtype, dims: dims.clone() });
    let expected = kiln_ir::tensor::element_count(&dims).ok_or_else(too_large)?;
    let packed = match raw(proto, name, files)? {
        Some(raw) => raw,
        // Two elements of 4 bits, one of others, each in an integer of 32.
        None if ty.bits() == 32 => {
            let fits = |&v: &u64| u32::try_from(v).map_err(|_| range(i128::from(v)));
            proto
                .uint64_data
                .iter()
                .map(|v| fits(v).map(u32::to_le_bytes))
                .collect::<Result<Vec<_>, _>>()?
                .concat()
                .into()
        }
        None if ty.bits() == 16 => {
            let signed = |v: i32| i16::try_from(v).map(i16::to_le_bytes);
            let unsigned = |v: i32| u16::try_from(v).map(u16::to_le_bytes);
            let fits = |&v: &i32| if ty.signed() { signed(v) } else { unsigned(v) }.map_err(|_| range(i128::from(v)));
            proto.int32_data.iter().map(fits).collect::<Result<Vec<_>, _>>()?.concat().into()
        }
        None => {
            // some writers fill the upper bits with the sign
            let byte = |v: i32| u8::try_from(v).or_else(|_| i8::try_from(v).map(|v| v as u8));
            let fits = |&v: &i32| byte(v).map_err(|_| range(i128::from(v)));
            proto.int32_data.iter().map(fits).collect::<Result<_, _>>()?
        }
    };
    if expected.checked_mul(ty.bits()).ok_or_else(too_large)?.div_ceil(8) != packed.len() {
        let found = packed.len() * 8 / ty.bits();
        return Err(TensorProtoError::Count { tensor: tensor(), dims, expected, found });
    }
    Tensor::from_bytes(dtype, &dims, ty.widen(&packed, expected)).map_err(fit)
}

/// Bytes that reading a constant copies: those of elements in typed fields, and of narrow ones, which are widened.
pub(super) fn copied_bytes(proto: &TensorProto) -> usize {
    let narrow = NarrowType::of(proto.data_type.unwrap_or_default());
    // wherever its bytes are
    let widened = |ty: NarrowType| {
        let extents = proto.dims.iter().map(|&d| usize::try_from(d).unwrap_or(0));
        extents.fold(ty.held_in().size(), usize::saturating_mul)
    };
    let raw = narrow.map_or(0, widened);
    let short = proto.float_data.len() + proto.int32_data.len();
    let long = proto.double_data.len() + proto.int64_data.len() + proto.uint64_data.len();
    raw + 4 * short + 8 * long
}

/// Reads a constant of any element type, called `name`.
pub(super) fn read_value(
    proto: &TensorProto,
    name: &str,
    files: &ExternalFiles,
    called: Option<Arc<str>>,
) -> Result<Value, TensorProtoError> {
    let held = Operand::named(read_held(proto, name, files)?, called);
    Ok(match NarrowType::of(proto.data_type.unwrap_or_default()) {
        Some(ty) => Value::Narrow(Narrow { ty, held }),
        None => Value::Tensor(held),
    })
}

/// Reads a constant. `name` is used in errors (an attribute's tensor often has no name of its own).
pub fn read_tensor(proto: &TensorProto, name: &str, files: &ExternalFiles) -> Result<Tensor, TensorProtoError> {
    let tensor = || name.to_owned();
    let dtype = dtype_of(proto.data_type.unwrap_or_default())
        .map_err(|found| TensorProtoError::DType { tensor: tensor(), found })?;
    let dims = extents(proto, name)?;
    let fit = |source| TensorProtoError::Tensor { tensor: tensor(), source };
    if let Some(raw) = raw(proto, name, files)? {
        return Tensor::from_bytes(dtype, &dims, raw).map_err(fit);
    }

    let expected = kiln_ir::tensor::element_count(&dims)
        .ok_or_else(|| fit(TensorError::TooLarge { dtype, dims: dims.clone() }))?;
    let count = |found: usize| {
        if found == expected {
            Ok(())
        } else {
            Err(TensorProtoError::Count { tensor: tensor(), dims: dims.clone(), expected, found })
        }
    };
    let mut bytes = Vec::new();
    match dtype {
        DType::F32 => typed(&proto.float_data, count, &mut bytes, Ok)?,
        DType::F64 => typed(&proto.double_data, count, &mut bytes, Ok)?,
        DType::I64 => typed(&proto.int64_data, count, &mut bytes, Ok)?,
        _ => {
            let range = |value| TensorProtoError::Range { tensor: tensor(), value, dtype };
            let data = &proto.int32_data;
            match dtype {
                DType::I32 => typed(data, count, &mut bytes, Ok)?,
                DType::I8 => typed(data, count, &mut bytes, |v| i8::try_from(v).map_err(|_| range(v)))?,
                DType::U8 => typed(data, count, &mut bytes, |v| u8::try_from(v).map_err(|_| range(v)))?,
                DType::Bool => typed(data, count, &mut bytes, |v| Ok(v != 0))?,
                // 16-bit floats are stored as the bits of an unsigned 16-bit number.
                DType::F16 => {
                    typed(data, count, &mut bytes, |v| u16::try_from(v).map(f16::from_bits).map_err(|_| range(v)))?
                }
                _ => typed(data, count, &mut bytes, |v| u16::try_from(v).map(bf16::from_bits).map_err(|_| range(v)))?,
            }
        }
    }
    Tensor::from_bytes(dtype, &dims, Bytes::from(bytes)).map_err(fit)
}

fn typed<S: Copy, T: Element>(
    data: &[S],
    count: impl Fn(usize) -> Result<(), TensorProtoError>,
    out: &mut Vec<u8>,
    convert: impl Fn(S) -> Result<T, TensorProtoError>,
) -> Result<(), TensorProtoError> {
    count(data.len())?;
    out.reserve(data.len() * T::DTYPE.size());
    for &value in data {
        convert(value)?.write(out);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::StringStringEntryProto;

    fn memory() -> ExternalFiles {
        ExternalFiles::new(None)
    }

    fn proto(data_type: TensorDataType, dims: &[i64]) -> TensorProto {
        TensorProto { data_type: Some(data_type as i32), dims: dims.to_vec(), ..TensorProto::default() }
    }

    #[test]
    fn typed_fields_give_the_same_tensor_as_raw_bytes() {
        let cases: Vec<(TensorProto, Vec<u8>)> = vec![
            (TensorProto { float_data: vec![1.0, -2.5], ..proto(TensorDataType::Float, &[2]) }, {
                let mut b = 1.0f32.to_le_bytes().to_vec();
                b.extend((-2.5f32).to_le_bytes());
                b
            }),
            (
                TensorProto { double_data: vec![0.1], ..proto(TensorDataType::Double, &[]) },
                0.1f64.to_le_bytes().to_vec(),
            ),
            (
                TensorProto { int64_data: vec![-7], ..proto(TensorDataType::Int64, &[1]) },
                (-7i64).to_le_bytes().to_vec(),
            ),
            (
                TensorProto { int32_data: vec![-7], ..proto(TensorDataType::Int32, &[1]) },
                (-7i32).to_le_bytes().to_vec(),
            ),
            (TensorProto { int32_data: vec![-7, 8], ..proto(TensorDataType::Int8, &[2, 1]) }, vec![249, 8]),
            (TensorProto { int32_data: vec![255], ..proto(TensorDataType::Uint8, &[1]) }, vec![255]),
            (TensorProto { int32_data: vec![0, 1], ..proto(TensorDataType::Bool, &[2]) }, vec![0, 1]),
            (TensorProto { int32_data: vec![0x3c00], ..proto(TensorDataType::Float16, &[1]) }, vec![0x00, 0x3c]),
            (TensorProto { int32_data: vec![0x3f80], ..proto(TensorDataType::Bfloat16, &[1]) }, vec![0x80, 0x3f]),
        ];
        for (typed, raw) in cases {
            let mut as_raw = proto(TensorDataType::Float, &typed.dims);
            as_raw.data_type = typed.data_type;
            as_raw.raw_data = Some(Bytes::from(raw));
            assert_eq!(read_tensor(&typed, "t", &memory()).unwrap(), read_tensor(&as_raw, "t", &memory()).unwrap());
        }
    }

    #[test]
    fn raw_data_is_not_copied() {
        let raw = Bytes::from(vec![0u8; 64]);
        let t = TensorProto { raw_data: Some(raw.clone()), ..proto(TensorDataType::Float, &[4, 4]) };
        assert_eq!(read_tensor(&t, "t", &memory()).unwrap().bytes().as_ptr(), raw.as_ptr());
    }

    #[test]
    fn every_error_names_the_tensor_and_what_was_found() {
        let text = |t: &TensorProto| read_tensor(t, "fc/w", &memory()).unwrap_err().to_string();
        let t = text(&proto(TensorDataType::Complex64, &[1]));
        assert!(t.contains("`fc/w`") && t.contains("complex64") && t.contains("bfloat16"), "{t}");
        let t = text(&TensorProto { data_type: Some(99), ..TensorProto::default() });
        assert!(t.contains("number 99"), "{t}");
        let t = text(&TensorProto { float_data: vec![1.0], ..proto(TensorDataType::Float, &[2, 3]) });
        assert!(t.contains("6 elements, found 1"), "{t}");
        let t =
            text(&TensorProto { raw_data: Some(Bytes::from_static(&[1, 2, 3])), ..proto(TensorDataType::Float, &[1]) });
        assert!(t.contains("4 bytes, found 3"), "{t}");
        let t = text(&proto(TensorDataType::Float, &[-1]));
        assert!(t.contains("negative"), "{t}");
        let t = text(&proto(TensorDataType::Float, &[i64::MAX, i64::MAX]));
        assert!(t.contains("too large"), "{t}");
        let t = text(&TensorProto { int32_data: vec![300], ..proto(TensorDataType::Uint8, &[1]) });
        assert!(t.contains("300 does not fit in u8"), "{t}");
    }

    fn external(entries: &[(&str, &str)]) -> TensorProto {
        TensorProto {
            data_location: Some(DataLocation::External as i32),
            external_data: entries
                .iter()
                .map(|(k, v)| StringStringEntryProto { key: Some((*k).to_owned()), value: Some((*v).to_owned()) })
                .collect(),
            ..proto(TensorDataType::Uint8, &[3])
        }
    }

    #[test]
    fn external_data_is_read_at_its_offset_and_checked_against_the_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("model")).unwrap();
        fs::write(dir.path().join("model/w.bin"), [0u8, 1, 2, 3, 4]).unwrap();
        fs::write(dir.path().join("secret"), [9u8; 3]).unwrap();
        let files = ExternalFiles::new(Some(dir.path().join("model")));
        let read = |entries: &[(&str, &str)]| read_tensor(&external(entries), "w", &files);

        let t = read(&[("location", "w.bin"), ("offset", "1"), ("length", "3")]).unwrap();
        assert_eq!(t.to_vec::<u8>().unwrap(), [1, 2, 3]);
        let t = read(&[("location", "./w.bin"), ("offset", "2")]).unwrap();
        assert_eq!(t.to_vec::<u8>().unwrap(), [2, 3, 4]);

        let text = |entries: &[(&str, &str)]| read(entries).unwrap_err().to_string();
        assert!(text(&[("location", "w.bin"), ("offset", "4"), ("length", "3")]).contains("which has 5 bytes"));
        let huge = usize::MAX.to_string();
        assert!(text(&[("location", "w.bin"), ("offset", &huge), ("length", "3")]).contains("outside"));
        assert!(text(&[("location", "w.bin"), ("offset", "-1")]).contains("number of bytes"));
        assert!(text(&[("offset", "0")]).contains("`location` is missing"));
        assert!(text(&[("location", "../secret")]).contains("inside the model's directory"));
        let absolute = dir.path().join("secret");
        assert!(text(&[("location", absolute.to_str().unwrap())]).contains("inside the model's directory"));
        assert!(text(&[("location", "missing")]).contains("missing"));
        let t = read_tensor(&external(&[("location", "w.bin")]), "w", &memory()).unwrap_err().to_string();
        assert!(t.contains("import it by its path"), "{t}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_out_of_the_models_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("model")).unwrap();
        fs::write(dir.path().join("secret"), [9u8; 3]).unwrap();
        std::os::unix::fs::symlink("../secret", dir.path().join("model/w.bin")).unwrap();
        let files = ExternalFiles::new(Some(dir.path().join("model")));
        let e = read_tensor(&external(&[("location", "w.bin")]), "w", &files).unwrap_err();
        assert!(e.to_string().contains("inside the model's directory"), "{e}");
    }
}
