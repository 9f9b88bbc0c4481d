//! NumPy's `.npy`: one array (format versions 1 to 3 of NEP 1).
//!
//! The header is a Python dictionary literal of three fixed keys; it is read by a small scanner
//! here, because general literal parsers recurse and so can be made to overflow the stack.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use bytes::Bytes;
use kiln_ir::{DType, Tensor};

use super::{FileError, write_atomically};

const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads one array.
pub fn read(path: &Path) -> Result<Tensor, FileError> {
    let bytes = fs::read(path).map_err(|e| FileError::read(path, e))?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    decode(Bytes::from(bytes), path, &name)
}

/// Writes one array, row-major.
pub fn write(path: &Path, tensor: &Tensor) -> Result<(), FileError> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let header = header(tensor, path, &name)?;
    write_atomically(path, |out| {
        out.write_all(&header)
            .and_then(|()| out.write_all(tensor.bytes()))
            .map_err(|source| FileError::Write { path: path.to_owned(), source })
    })
}

/// What a header says.
struct Header {
    dtype: DType,
    big_endian: bool,
    fortran_order: bool,
    dims: Vec<usize>,
}

/// Decodes one `.npy` file in memory; `path` and `name` are for errors. Row-major little-endian elements
/// become a view of `bytes`.
pub fn decode(bytes: Bytes, path: &Path, name: &str) -> Result<Tensor, FileError> {
    let bad = |problem: String| FileError::array(path, name, problem);
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| bad("not in .npy format (wrong magic)".to_owned()))?;
    let (length, prefix) = match rest {
        [1, _, a, b, ..] => (usize::from(u16::from_le_bytes([*a, *b])), 4),
        [2 | 3, _, a, b, c, d, ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, 6),
        [version, ..] if *version > 3 => {
            return Err(bad(format!(".npy format version {version} is unknown (1 to 3 are known)")));
        }
        _ => return Err(bad("the header is cut short".to_owned())),
    };
    let text =
        rest.get(prefix..).and_then(|r| r.get(..length)).ok_or_else(|| bad("the header is cut short".to_owned()))?;
    let text = std::str::from_utf8(text).map_err(|e| bad(format!("the header is not text: {e}")))?;
    let header = parse_header(text).map_err(|p| bad(format!("header: {p}")))?;

    let start = MAGIC.len() + prefix + length;
    let data = bytes.slice(start..);
    let size = header.dtype.size();
    let data = if header.big_endian && size > 1 {
        let mut swapped = room(data.len(), path, name)?;
        swapped.extend_from_slice(&data);
        swapped.chunks_exact_mut(size).for_each(<[u8]>::reverse);
        Bytes::from(swapped)
    } else {
        data
    };
    let tensor = Tensor::from_bytes(header.dtype, &header.dims, data).map_err(|e| FileError::tensor(path, name, e))?;
    // The strides of an empty array may be anything, too large for this machine too.
    let tensor = if header.fortran_order && header.dims.len() > 1 && !tensor.is_empty() {
        let elements = row_major(&tensor, room(tensor.bytes().len(), path, name)?);
        Tensor::from_bytes(header.dtype, &header.dims, elements).map_err(|e| FileError::tensor(path, name, e))?
    } else {
        tensor
    };
    Ok(tensor)
}

/// No bytes, with room for `n`.
fn room(n: usize, path: &Path, name: &str) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let refused = |_| FileError::array(path, name, format!("cannot get {n} bytes of memory for it"));
    bytes.try_reserve_exact(n).map_err(refused)?;
    Ok(bytes)
}

/// The elements of a column-major tensor, row-major, in `out`.
fn row_major(tensor: &Tensor, mut out: Vec<u8>) -> Bytes {
    let (dims, size, from) = (tensor.dims(), tensor.dtype().size(), tensor.bytes());
    let mut strides = Vec::with_capacity(dims.len());
    let mut stride = size;
    for &d in dims {
        strides.push(stride);
        stride *= d;
    }
    let mut index = vec![0; dims.len()];
    let mut offset = 0;
    for _ in 0..tensor.len() {
        out.extend_from_slice(&from[offset..offset + size]);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            offset += strides[axis];
            if index[axis] < dims[axis] {
                break;
            }
            offset -= strides[axis] * dims[axis];
            index[axis] = 0;
        }
    }
    Bytes::from(out)
}

/// The bytes before the elements, for a row-major little-endian array.
pub(super) fn header(tensor: &Tensor, path: &Path, name: &str) -> Result<Vec<u8>, FileError> {
    let descr = match tensor.dtype() {
        DType::F64 => "<f8",
        DType::F32 => "<f4",
        DType::F16 => "<f2",
        DType::I64 => "<i8",
        DType::I32 => "<i4",
        DType::I8 => "|i1",
        DType::U8 => "|u1",
        DType::Bool => "|b1",
        DType::BF16 => {
            return Err(FileError::NoSuchDType {
                path: path.to_owned(),
                array: name.to_owned(),
                format: "npy",
                dtype: DType::BF16,
                instead: DType::F32,
            });
        }
    };
    let mut shape = String::new();
    for d in tensor.dims() {
        let _ = write!(shape, "{d}, ");
    }
    // A tuple of one element keeps its comma; longer ones have none after the last element.
    let shape = if tensor.dims().len() == 1 { shape.trim_end() } else { shape.trim_end_matches(", ") };
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    // The elements start at a multiple of 64; the header ends with a newline.
    let unpadded = MAGIC.len() + 4 + text.len() + 1;
    text.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(64) - unpadded));
    text.push('\n');
    // A rank that overflows 64 KiB of header would need thousands of axes.
    let length = u16::try_from(text.len())
        .map_err(|_| FileError::array(path, name, format!("rank {} is too high for .npy", tensor.dims().len())))?;
    let mut out = MAGIC.to_vec();
    out.extend([1, 0]);
    out.extend(length.to_le_bytes());
    out.extend(text.as_bytes());
    Ok(out)
}

/// Scans `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn parse_header(text: &str) -> Result<Header, String> {
    let body = text
        .trim()
        .strip_prefix('{')
        .and_then(|t| t.strip_suffix('}'))
        .ok_or_else(|| format!("expected a dictionary, found {:?}", shorten(text)))?;
    let (mut descr, mut fortran_order, mut dims) = (None, None, None);
    let mut rest = body.trim();
    while !rest.is_empty() {
        let (key, after) = quoted(rest)?;
        rest = after.trim_start().strip_prefix(':').ok_or("expected `:` after a key")?.trim_start();
        match key {
            "descr" => {
                if !rest.starts_with(['\'', '"']) {
                    return Err("structured element types are not supported".to_owned());
                }
                let (value, after) = quoted(rest)?;
                descr = Some(value);
                rest = after;
            }
            "fortran_order" => {
                let (value, after) = [("True", true), ("False", false)]
                    .into_iter()
                    .find_map(|(word, value)| rest.strip_prefix(word).map(|after| (value, after)))
                    .ok_or("`fortran_order` is neither True nor False")?;
                fortran_order = Some(value);
                rest = after;
            }
            "shape" => {
                let (inner, after) =
                    rest.strip_prefix('(').and_then(|r| r.split_once(')')).ok_or("`shape` is not a tuple")?;
                let extents: Result<Vec<usize>, _> = inner
                    .split(',')
                    .map(str::trim)
                    .filter(|d| !d.is_empty())
                    // Python 2 wrote long integers with an `L`.
                    .map(|d| {
                        d.trim_end_matches('L')
                            .parse::<usize>()
                            .map_err(|_| format!("`shape` holds {:?}, expected an extent", shorten(d)))
                    })
                    .collect();
                dims = Some(extents?);
                rest = after;
            }
            other => return Err(format!("unknown key {:?}", shorten(other))),
        }
        rest = rest.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if rest.is_empty() => rest,
            None => return Err(format!("expected `,`, found {:?}", shorten(rest))),
        };
    }
    let descr = descr.ok_or("`descr` is missing")?;
    let (dtype, big_endian) = parse_descr(descr)?;
    Ok(Header {
        dtype,
        big_endian,
        fortran_order: fortran_order.ok_or("`fortran_order` is missing")?,
        dims: dims.ok_or("`shape` is missing")?,
    })
}

fn parse_descr(descr: &str) -> Result<(DType, bool), String> {
    let (order, kind) = match descr.split_at_checked(1) {
        Some((order @ ("<" | ">" | "=" | "|"), kind)) => (order, kind),
        _ => ("=", descr),
    };
    let dtype = match kind {
        "f8" => DType::F64,
        "f4" => DType::F32,
        "f2" => DType::F16,
        "i8" => DType::I64,
        "i4" => DType::I32,
        "i1" => DType::I8,
        "u1" => DType::U8,
        "b1" | "?" => DType::Bool,
        _ => {
            return Err(format!(
                "element type {:?} is not supported (supported: f8, f4, f2, i8, i4, i1, u1, b1)",
                shorten(descr)
            ));
        }
    };
    Ok((dtype, order == ">" || (order == "=" && cfg!(target_endian = "big"))))
}

/// A quoted string at the start of `text`, and what follows it. No escapes: none of the strings in
/// use has one.
fn quoted(text: &str) -> Result<(&str, &str), String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'));
    quote
        .and_then(|q| text.get(1..)?.split_once(q))
        .ok_or_else(|| format!("expected a quoted string, found {:?}", shorten(text)))
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(header: &str, data: &[u8]) -> Bytes {
        let mut out = MAGIC.to_vec();
        out.extend([1, 0]);
        out.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
        out.extend(header.as_bytes());
        out.extend(data);
        Bytes::from(out)
    }

    fn decode_here(bytes: Bytes) -> Result<Tensor, FileError> {
        decode(bytes, Path::new("a.npy"), "a")
    }

    #[test]
    fn a_file_as_numpy_writes_it_is_read() {
        // np.save("a.npy", np.array([[1, 2, 3], [4, 5, 6]], "<i4"))
        let data: Vec<u8> = (1..=6i32).flat_map(i32::to_le_bytes).collect();
        let t = decode_here(file("{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }          \n", &data))
            .unwrap();
        assert_eq!(t.dims(), [2, 3]);
        assert_eq!(t.to_vec::<i32>().unwrap(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn column_major_arrays_are_transposed_to_row_major() {
        // np.asfortranarray([[1, 2, 3], [4, 5, 6]]) stores 1 4 2 5 3 6.
        let t =
            decode_here(file("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3)}", &[1, 4, 2, 5, 3, 6])).unwrap();
        assert_eq!(t.to_vec::<u8>().unwrap(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn big_endian_arrays_are_swapped() {
        let t = decode_here(file("{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}", &1.5f32.to_be_bytes()))
            .unwrap();
        assert_eq!(t.to_vec::<f32>().unwrap(), [1.5]);
    }

    #[test]
    fn rank_0_and_empty_arrays_are_read() {
        let t =
            decode_here(file("{'descr': '<f8', 'fortran_order': False, 'shape': ()}", &2.0f64.to_le_bytes())).unwrap();
        assert!(t.dims().is_empty());
        let t = decode_here(file("{'descr': '<f8', 'fortran_order': True, 'shape': (3, 0, 2)}", &[])).unwrap();
        assert_eq!(t.dims(), [3, 0, 2]);
        let t = decode_here(file("{'descr': '<f8', 'fortran_order': True, 'shape': (4611686018427387904, 0)}", &[]));
        assert_eq!(t.unwrap().dims(), [1 << 62, 0]);
    }

    #[test]
    fn malformed_files_give_errors_that_say_what_is_wrong() {
        let text = |header: &str, data: &[u8]| decode_here(file(header, data)).unwrap_err().to_string();
        let ok = "{'descr': '|u1', 'fortran_order': False, 'shape': (3,)}";
        for (header, data, expected) in [
            (ok, &[1, 2][..], "3 bytes, found 2"),
            (ok, &[1, 2, 3, 4], "3 bytes, found 4"),
            ("{'descr': '<u4', 'fortran_order': False, 'shape': (1,)}", &[0; 4], "\"<u4\" is not supported"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", &[0; 4], "structured"),
            ("{'descr': '|u1', 'fortran_order': 0, 'shape': (1,)}", &[0], "neither True nor False"),
            ("{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}", &[0], "\"-1\", expected an extent"),
            ("{'descr': '|u1', 'fortran_order': False, 'shape': 3}", &[0], "not a tuple"),
            ("{'descr': '|u1', 'fortran_order': False}", &[0], "`shape` is missing"),
            ("{'descr': '|u1', 'shape': (1,), 'fortran_order': False, 'more': 1}", &[0], "unknown key \"more\""),
            ("[]", &[], "expected a dictionary"),
            ("{'descr': '|u1', 'fortran_order': False, 'shape': (18446744073709551615, 2)}", &[], "too large"),
        ] {
            let message = text(header, data);
            assert!(message.contains(expected), "{message}");
            assert!(message.contains("`a.npy`: array `a`"), "{message}");
        }
        assert!(decode_here(Bytes::from_static(b"PK\x03\x04")).unwrap_err().to_string().contains("wrong magic"));
        assert!(decode_here(Bytes::from_static(b"\x93NUMPY\x01")).unwrap_err().to_string().contains("cut short"));
        assert!(
            decode_here(Bytes::from_static(b"\x93NUMPY\x09\x00\x00\x00"))
                .unwrap_err()
                .to_string()
                .contains("version 9")
        );
        assert!(
            decode_here(Bytes::from_static(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"))
                .unwrap_err()
                .to_string()
                .contains("cut short")
        );
    }

    #[test]
    fn a_deeply_nested_header_is_an_error() {
        let e = decode_here(file(&format!("{{'shape': {}", "(".repeat(60_000)), &[])).unwrap_err();
        assert!(e.to_string().contains("header"), "{e}");
    }

    #[test]
    fn bf16_is_refused_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let e = write(&dir.path().join("w.npy"), &Tensor::zeros(DType::BF16, &[2]).unwrap()).unwrap_err();
        assert!(e.to_string().contains("no bf16; cast it to f32"), "{e}");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(dims in proptest::collection::vec(0usize..4, 0..5), which in 0usize..9) {
            let dtype = DType::ALL[which];
            prop_assume!(dtype != DType::BF16);
            let values: Vec<f64> = (0..dims.iter().product::<usize>()).map(|i| i as f64).collect();
            let tensor = Tensor::from_f64(dtype, &dims, &values).unwrap();
            let mut bytes = header(&tensor, Path::new("t"), "t").unwrap();
            prop_assert_eq!(bytes.len() % 64, 0);
            bytes.extend_from_slice(tensor.bytes());
            prop_assert_eq!(decode_here(Bytes::from(bytes)).unwrap(), tensor);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut with_magic = MAGIC.to_vec();
            with_magic.extend(&bytes);
            let _ = decode_here(Bytes::from(bytes));
            let _ = decode_here(Bytes::from(with_magic));
        }
    }
}
