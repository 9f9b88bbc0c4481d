//! Writing a file whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::FileError;

/// Where a writer puts its bytes: something that can be written and seeked.
pub trait Sink: Write + Seek {}
impl<T: Write + Seek> Sink for T {}

/// Tells apart the temporary files of threads of one process.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// Calls `write` with a new file beside `path`, and renames that to `path` once all bytes are on the
/// disk. If anything fails, what was at `path` before is still there, and the temporary is removed.
pub fn write_atomically<E: From<FileError>>(
    path: &Path,
    write: impl FnOnce(&mut dyn Sink) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |source: io::Error| E::from(FileError::Write { path: path.to_owned(), source });
    // Renaming would replace a symbolic link, or a device, by a file: a link is followed, a device is written to.
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let path = real.as_path();
    if fs::metadata(path).is_ok_and(|m| !m.is_file()) {
        let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        return out.flush().map_err(failed);
    }
    let temporary = temporary_name(path).map_err(failed)?;
    let file = OpenOptions::new().write(true).create_new(true).open(&temporary).map_err(failed)?;
    let result = fill(file, write, &failed).and_then(|()| fs::rename(&temporary, path).map_err(failed));
    if result.is_err() {
        // The first error is the one to report; a leftover temporary is only untidy.
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn fill<E>(
    file: File,
    write: impl FnOnce(&mut dyn Sink) -> Result<(), E>,
    failed: &impl Fn(io::Error) -> E,
) -> Result<(), E> {
    let mut out = BufWriter::new(file);
    write(&mut out)?;
    let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
    file.sync_all().map_err(failed)
}

fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}-{}.part", process::id(), SERIAL.fetch_add(1, Ordering::Relaxed)));
    Ok(path.with_file_name(hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.bin");
        fs::write(&path, b"old").unwrap();
        let result: Result<(), FileError> = write_atomically(&path, |out| {
            out.write_all(b"half").unwrap();
            Err(FileError::format(&path, "test", "stopped"))
        });
        assert!(result.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["out.bin"]);
    }

    #[test]
    fn a_finished_write_replaces_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.bin");
        fs::write(&path, b"old").unwrap();
        write_atomically(&path, |out| out.write_all(b"new").map_err(|e| FileError::read(&path, e))).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(dir.path()), ["out.bin"]);
    }

    #[test]
    fn a_missing_directory_is_an_error_naming_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("no/such/out.bin");
        let e = write_atomically::<FileError>(&path, |_| Ok(())).unwrap_err().to_string();
        assert!(e.contains("out.bin"), "{e}");
    }
}
