//! Writing a file whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Bytes collected before they go to the system.
const BUFFER: usize = 1 << 20;

/// Calls `write` with a new file beside `path`, and renames that to `path` once all bytes are on the disk. If anything
/// fails, what was at `path` before is still there, and the temporary is removed. A process that has the old file
/// mapped keeps the old contents.
///
/// A symbolic link is followed. What is no file (a device, a pipe) is written to as it is.
///
/// `failed` makes an error of what the system refused, and of what was being done then: `open`, `write` …
pub fn write_atomically<E>(
    path: &Path,
    failed: impl Fn(&'static str, io::Error) -> E,
    write: impl FnOnce(&mut BufWriter<&File>) -> Result<(), E>,
) -> Result<(), E> {
    let error = |action| {
        let failed = &failed;
        move |source| failed(action, source)
    };
    // Renaming would replace a symbolic link, or a device, by a file.
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::metadata(&real).is_ok_and(|m| !m.is_file()) {
        let file = File::options().write(true).open(&real).map_err(error("open"))?;
        return fill(&file, write, &error);
    }
    let directory = match real.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Opened here and not by the library, so that it gets the permissions of any new file, and an error does not name it.
    let create = |temporary: &Path| File::options().write(true).create_new(true).open(temporary);
    // Removed when it is dropped, unless it was renamed.
    let file = tempfile::Builder::new().prefix(".kiln-").suffix(".tmp").make_in(directory, create);
    let file = file.map_err(error("create a temporary file for"))?;
    fill(file.as_file(), write, &error)?;
    file.as_file().sync_all().map_err(error("flush"))?;
    file.persist(&real).map_err(|e| error("rename a temporary file to")(e.error))?;
    // The rename itself is durable once the directory is; not every system lets a directory be flushed.
    let _ = File::open(directory).and_then(|d| d.sync_all());
    Ok(())
}

fn fill<E, F: Fn(io::Error) -> E>(
    file: &File,
    write: impl FnOnce(&mut BufWriter<&File>) -> Result<(), E>,
    error: &impl Fn(&'static str) -> F,
) -> Result<(), E> {
    let mut out = BufWriter::with_capacity(BUFFER, file);
    write(&mut out)?;
    out.flush().map_err(error("write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn write_text(path: &Path, text: &str) -> Result<(), String> {
        let failed = |action: &str, e: io::Error| format!("{action}: {e}");
        write_atomically(path, failed, |out| out.write_all(text.as_bytes()).map_err(|e| e.to_string()))
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.bin");
        fs::write(&path, b"old").unwrap();
        let result = write_atomically(
            &path,
            |_, e| e,
            |out| {
                out.write_all(b"half")?;
                Err(io::Error::other("stopped"))
            },
        );
        assert_eq!(result.unwrap_err().to_string(), "stopped");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(directory.path()), ["out.bin"]);
    }

    #[test]
    fn a_finished_write_replaces_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.bin");
        fs::write(&path, b"old").unwrap();
        write_text(&path, "new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(directory.path()), ["out.bin"]);
    }

    #[test]
    fn what_the_system_refuses_says_what_was_being_done() {
        let directory = tempfile::tempdir().unwrap();
        let e = write_text(&directory.path().join("no/such/out.bin"), "text").unwrap_err();
        assert!(e.starts_with("create a temporary file for: ") && !e.contains(".tmp"), "{e}");
        let e = write_text(directory.path(), "text").unwrap_err();
        assert!(e.starts_with("open: "), "{e}");
        assert_eq!(names(directory.path()), [""; 0]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_still_leads_to_the_file_that_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_text(&link, "new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }
}
