//! Files that a command reads and files that it writes: none is both, and none is written twice.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Outcome};

/// What a command's options name.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    /// What each is, and where.
    read: Vec<(String, PathBuf)>,
    /// By which option each is written.
    written: Vec<(String, PathBuf)>,
}

impl Touched {
    /// Counts a file that is read.
    pub fn reads<'p>(&mut self, what: &str, paths: impl IntoIterator<Item = &'p PathBuf>) {
        self.read.extend(paths.into_iter().map(|path| (what.to_owned(), path.clone())));
    }

    /// Counts a file that is written.
    pub fn writes<'p>(&mut self, option: &str, paths: impl IntoIterator<Item = &'p PathBuf>) {
        self.written.extend(paths.into_iter().map(|path| (option.to_owned(), path.clone())));
    }

    /// Refuses files that would be written over those that are read, or over one another.
    pub fn check(&self) -> Outcome {
        let mut problems = Vec::new();
        for (i, (option, path)) in self.written.iter().enumerate() {
            let here = place(path);
            if let Some((what, source)) = self.read.iter().find(|(_, source)| same(source, &here)) {
                problems.push(format!(
                    "{option} would overwrite {what} `{}`, which is read: name another file to write",
                    source.display()
                ));
            }
            if let Some((first, _)) = self.written.iter().take(i).find(|(_, other)| same(other, &here)) {
                problems.push(format!("{first} and {option} would both write to `{}`: name two files", path.display()));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Failure::Usage(problems.join("\n"))) }
    }
}

/// Whether `path` is the file at `here`, which [`place`] gave.
fn same(path: &Path, here: &Option<PathBuf>) -> bool {
    here.is_some() && place(path) == *here
}

/// Where a file is or would be, by whatever links and names it is reached. `None` for what holds nothing that could be
/// lost: a device, a pipe.
fn place(path: &Path) -> Option<PathBuf> {
    if let Ok(real) = fs::canonicalize(path) {
        return real.is_file().then_some(real);
    }
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(fs::canonicalize(folder).ok()?.join(path.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_same_by_every_way_to_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("model"), "m").expect("a file");
        fs::create_dir(at("sub")).expect("a folder");
        let refused = |read: &str, written: &[&str]| {
            let mut touched = Touched::default();
            touched.reads("the model", [&at(read)]);
            for path in written {
                touched.writes("--output", [&at(path)]);
            }
            touched.check().is_err()
        };
        for way in ["model", "./model", "sub/../model"] {
            assert!(refused("model", &[way]) && refused(way, &["model"]), "{way}");
        }
        // files that are not there yet
        assert!(refused("model", &["new", "sub/../new"]));
        assert!(!refused("model", &["new", "sub/new", "models"]));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("model", at("link")).expect("a link");
            assert!(refused("link", &["model"]) && refused("model", &["link"]));
            let null = PathBuf::from("/dev/null");
            let mut touched = Touched::default();
            touched.writes("--output", [&null, &null]);
            touched.reads("the model", [&null]);
            assert!(touched.check().is_ok());
        }
    }
}
