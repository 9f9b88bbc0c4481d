//! NumPy's `.npz`: named arrays in a zip archive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
use std::path::Path;

use bytes::Bytes;
use kiln_ir::Tensor;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::{FileError, npy, write_atomically};

/// Named arrays, in the order of their names.
pub type Arrays = BTreeMap<String, Tensor>;

/// Entries are read at most this far beyond what the archive's directory says they hold.
const SLACK: u64 = 1;

/// Reads every array of an archive, stored or deflated.
pub fn read(path: &Path) -> Result<Arrays, FileError> {
    let file = File::open(path).map_err(|e| FileError::read(path, e))?;
    // A directory opens, and is then said to be no archive.
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(FileError::read(path, std::io::ErrorKind::IsADirectory.into()));
    }
    decode(BufReader::new(file), path)
}

/// Reads every array of an archive in memory, or wherever else it is; `path` is for errors.
pub fn decode(archive: impl Read + Seek, path: &Path) -> Result<Arrays, FileError> {
    let mut archive = ZipArchive::new(archive).map_err(|e| FileError::format(path, "npz", e))?;
    let mut arrays = Arrays::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(|e| FileError::format(path, "npz", e))?;
        let name = entry.name().map_err(|e| FileError::format(path, "npz", e))?;
        let name = name.strip_suffix(".npy").unwrap_or(&name).to_owned();
        // Not `with_capacity(size)`: the size is only a claim. A larger entry than claimed is cut, and
        // then refused by its length.
        let mut bytes = Vec::new();
        let limit = entry.size().saturating_add(SLACK);
        entry.by_ref().take(limit).read_to_end(&mut bytes).map_err(|e| FileError::array(path, &name, e))?;
        let tensor = npy::decode(Bytes::from(bytes), path, &name)?;
        if arrays.insert(name.clone(), tensor).is_some() {
            return Err(FileError::Duplicate { path: path.to_owned(), array: name });
        }
    }
    Ok(arrays)
}

/// Writes arrays, stored without compression as `numpy.savez` does. The same arrays give the same
/// bytes: entries are in the order of their names and carry no time.
pub fn write<'a>(path: &Path, arrays: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<(), FileError> {
    let mut sorted = BTreeMap::new();
    for (name, tensor) in arrays {
        if sorted.insert(name, tensor).is_some() {
            return Err(FileError::Duplicate { path: path.to_owned(), array: name.to_owned() });
        }
    }
    write_atomically(path, |out| {
        let mut archive = ZipWriter::new(out);
        let failed = |e: zip::result::ZipError| FileError::Write { path: path.to_owned(), source: e.into() };
        for (name, tensor) in sorted {
            let header = npy::header(tensor, path, name)?;
            let large = (header.len() + tensor.bytes().len()) as u64 >= u64::from(u32::MAX);
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Stored)
                .last_modified_time(zip::DateTime::default())
                .unix_permissions(0o644)
                .large_file(large);
            archive.start_file(format!("{name}.npy"), options).map_err(failed)?;
            let mut put = |bytes: &[u8]| {
                archive.write_all(bytes).map_err(|source| FileError::Write { path: path.to_owned(), source })
            };
            put(&header)?;
            put(tensor.bytes())?;
        }
        archive.finish().map_err(failed)?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_ir::DType;

    #[test]
    fn arrays_come_back_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("arrays.npz");
        let a = Tensor::from_slice(&[2, 2], &[1.0f32, -0.0, f32::NAN, f32::INFINITY]).unwrap();
        let b = Tensor::from_slice(&[3], &[i64::MIN, 0, i64::MAX]).unwrap();
        let c = Tensor::scalar(true);
        write(&path, [("x:0", &a), ("layer/b", &b), ("c", &c)]).unwrap();
        let read = read(&path).unwrap();
        assert_eq!(read.keys().collect::<Vec<_>>(), ["c", "layer/b", "x:0"]);
        assert_eq!((&read["x:0"], &read["layer/b"], &read["c"]), (&a, &b, &c));
    }

    #[test]
    fn the_same_arrays_give_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let a = Tensor::from_slice(&[2], &[1u8, 2]).unwrap();
        let (one, two) = (dir.path().join("1.npz"), dir.path().join("2.npz"));
        write(&one, [("a", &a), ("b", &a)]).unwrap();
        write(&two, [("b", &a), ("a", &a)]).unwrap();
        assert_eq!(std::fs::read(one).unwrap(), std::fs::read(two).unwrap());
    }

    #[test]
    fn deflated_archives_are_read() {
        // What numpy.savez_compressed writes.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("z.npz");
        let tensor = Tensor::zeros(DType::F32, &[100, 100]).unwrap();
        let mut archive = ZipWriter::new(File::create(&path).unwrap());
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        archive.start_file("w.npy", options).unwrap();
        let mut bytes = npy::header(&tensor, &path, "w").unwrap();
        bytes.extend_from_slice(tensor.bytes());
        archive.write_all(&bytes).unwrap();
        archive.finish().unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() < 4_000);
        assert_eq!(read(&path).unwrap()["w"], tensor);
    }

    #[test]
    fn two_arrays_of_one_name_are_refused() {
        let a = Tensor::scalar(1u8);
        let e = write(Path::new("unused.npz"), [("a", &a), ("a", &a)]).unwrap_err();
        assert!(e.to_string().contains("two arrays are named `a`"), "{e}");
    }

    #[test]
    fn what_is_no_archive_is_an_error_naming_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npz");
        std::fs::write(&path, b"not a zip").unwrap();
        let e = read(&path).unwrap_err().to_string();
        assert!(e.contains("x.npz") && e.contains("npz"), "{e}");
        let e = read(dir.path()).unwrap_err().to_string();
        assert!(e.contains("is a directory"), "{e}");
        let e = read(&dir.path().join("absent.npz")).unwrap_err().to_string();
        assert!(e.contains("absent.npz"), "{e}");
    }

    #[test]
    fn every_truncation_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npz");
        let a = Tensor::from_slice(&[4], &[1u8, 2, 3, 4]).unwrap();
        write(&path, [("a", &a)]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(read(&path).is_err(), "{length} of {} bytes were read as whole", whole.len());
        }
    }
}
