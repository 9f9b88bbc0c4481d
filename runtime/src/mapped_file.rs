//! Unsafe: files mapped into memory.
//!
//! **Contract.** A mapping shows what is in the file *now*: whoever changes the file changes memory that Rust takes
//! to be constant, and whoever truncates it makes reads fault. So mapping is `unsafe`; the caller vouches that
//! nobody writes to the file in place while it is mapped. Replacing it by renaming another file over it, which is how
//! Kiln writes artifacts, is fine: the mapping keeps the old one.

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;

/// The contents of the file at `path`, read only, loaded page by page when touched.
///
/// # Safety
/// The file is not changed in place or truncated while the result, or any clone or slice of it, is alive.
pub(crate) unsafe fn map(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        // Mapping a directory or a pipe fails too, but with a message that helps nobody.
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    // SAFETY: by this function's contract.
    let map = unsafe { memmap2::Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_outlives_the_name_of_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = (directory.path().join("a"), directory.path().join("b"));
        std::fs::write(&old, b"old").unwrap();
        std::fs::write(&new, b"newer").unwrap();
        // SAFETY: the file is replaced, not written to.
        let bytes = unsafe { map(&old) }.unwrap();
        std::fs::rename(&new, &old).unwrap();
        assert_eq!(&bytes[..], b"old");
    }

    #[test]
    fn an_empty_file_maps_to_no_bytes_and_a_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let empty = directory.path().join("empty");
        std::fs::write(&empty, b"").unwrap();
        // SAFETY: nobody writes to either.
        let (file, folder) = unsafe { (map(&empty), map(directory.path())) };
        assert!(file.unwrap().is_empty());
        assert!(folder.is_err());
    }
}
