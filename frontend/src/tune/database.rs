//! The tuning database: one JSON file of measurements, each filed by processor, target, threads and layer.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use kiln_codegen::native::{Backend, Target};
use kiln_codegen::tuning::{Algorithm, Choice, Choices, Measurement};
use serde::{Deserialize, Serialize};

use super::cpu_name;
use crate::files::{FileError, write_atomically};

/// The version of the file format.
const FORMAT: u32 = 1;
/// The most bytes a database may have: a thousand models' worth.
const MOST_BYTES: u64 = 256 << 20;

/// What a measurement depends on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Circumstances {
    /// The processor ([`cpu_name`]).
    pub cpu: String,
    /// What the code was made for, and by which back end where that is not the wide one: layers have other ways by another.
    pub target: String,
    /// Threads that ran it.
    pub threads: usize,
    /// Whether only algorithms were tried that multiply what the graph multiplies.
    pub exact: bool,
}

impl Circumstances {
    /// Code for `target` on this processor.
    pub fn here(target: &Target, threads: usize, exact: bool) -> Circumstances {
        let by = match target.backend() {
            Backend::Wide => "",
            Backend::Cranelift => ", by Cranelift",
        };
        Circumstances { cpu: cpu_name(), target: format!("{target}{by}"), threads, exact }
    }
}

/// A measured layer: [`Circumstances`], layer, [`Measurement`]. Field by field, because what is flattened cannot refuse fields that it does
/// not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    cpu: String,
    target: String,
    threads: usize,
    #[serde(default)]
    exact: bool,
    layer: String,
    algorithm: Algorithm,
    nanoseconds: u64,
    estimated: Algorithm,
    estimated_nanoseconds: u64,
}

impl Entry {
    fn of(circumstances: &Circumstances, layer: &str, measurement: &Measurement) -> Entry {
        let Circumstances { cpu, target, threads, exact } = circumstances.clone();
        let Measurement { algorithm, nanoseconds, estimated, estimated_nanoseconds } = *measurement;
        let layer = layer.to_owned();
        Entry { cpu, target, threads, exact, layer, algorithm, nanoseconds, estimated, estimated_nanoseconds }
    }

    fn filed(self) -> ((Circumstances, String), Measurement) {
        let Entry { cpu, target, threads, exact, layer, algorithm, nanoseconds, estimated, estimated_nanoseconds } =
            self;
        let measurement = Measurement { algorithm, nanoseconds, estimated, estimated_nanoseconds };
        ((Circumstances { cpu, target, threads, exact }, layer), measurement)
    }
}

/// What every version of the format has.
#[derive(Deserialize)]
struct Header {
    kiln_tuning: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    kiln_tuning: u32,
    layers: Vec<Entry>,
}

/// Measurements of any number of models and machines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Database {
    measured: BTreeMap<(Circumstances, String), Measurement>,
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It cannot be read.
    #[error("cannot read the tuning database `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is something else, or damaged.
    #[error(
        "`{}` is not a tuning database of this version of Kiln: {reason}; `kiln tune MODEL -o FILE` makes one where there is no FILE \
         yet",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
}

impl Database {
    /// Reads the database at `path`.
    pub fn read(path: &Path) -> Result<Database, DatabaseError> {
        let failed = |source| DatabaseError::Read { path: path.to_owned(), source };
        let mut text = Vec::new();
        // not by its size: a device has none and no end
        File::open(path).map_err(failed)?.take(MOST_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
        Database::decode(&text, path)
    }

    /// Reads a database in memory; `path` is for errors.
    pub fn decode(text: &[u8], path: &Path) -> Result<Database, DatabaseError> {
        let wrong = |reason: String| DatabaseError::Format { path: path.to_owned(), reason };
        if text.len() as u64 > MOST_BYTES {
            return Err(wrong(format!("it has more than the {MOST_BYTES} bytes that one may have")));
        }
        let Header { kiln_tuning } = serde_json::from_slice(text).map_err(|e| wrong(e.to_string()))?;
        if kiln_tuning != FORMAT {
            return Err(wrong(format!("its format is {kiln_tuning}, not {FORMAT}")));
        }
        let file: Contents = serde_json::from_slice(text).map_err(|e| wrong(e.to_string()))?;
        let (mut measured, mut twice) = (BTreeMap::new(), Vec::new());
        for (number, entry) in file.layers.into_iter().enumerate() {
            let (key, measurement) = entry.filed();
            match measured.entry(key) {
                MapEntry::Vacant(free) => {
                    free.insert((number, measurement));
                }
                MapEntry::Occupied(there) => twice.push(format!("entries {} and {number}", there.get().0)),
            }
        }
        if !twice.is_empty() {
            let twice = twice.join(", ");
            return Err(wrong(format!(
                "expected one entry for each layer and circumstance, found two of the same: {twice}"
            )));
        }
        Ok(Database { measured: measured.into_iter().map(|(key, (_, measurement))| (key, measurement)).collect() })
    }

    /// Reads the database at `path`; an empty one where there is no such file.
    pub fn read_or_new(path: &Path) -> Result<Database, DatabaseError> {
        match Database::read(path) {
            Err(DatabaseError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(Database::default()),
            other => other,
        }
    }

    /// Writes the database, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), DatabaseError> {
        let entries = self.measured.iter().map(|((under, layer), measurement)| Entry::of(under, layer, measurement));
        let file = Contents { kiln_tuning: FORMAT, layers: entries.collect() };
        let failed = |e: serde_json::Error| FileError::Write { path: path.to_owned(), source: e.into() };
        let text = serde_json::to_vec_pretty(&file).map_err(failed)?;
        Ok(write_atomically(path, |out| {
            out.write_all(&text).map_err(|source| FileError::Write { path: path.to_owned(), source })
        })?)
    }

    /// Files a measurement, in place of an earlier one of the same layer under the same circumstances.
    pub fn insert(&mut self, circumstances: &Circumstances, layer: &str, measurement: Measurement) {
        self.measured.insert((circumstances.clone(), layer.to_owned()), measurement);
    }

    /// How many layers have been measured, over all circumstances.
    pub fn len(&self) -> usize {
        self.measured.len()
    }

    /// Whether nothing has been measured.
    pub fn is_empty(&self) -> bool {
        self.measured.is_empty()
    }

    /// What is known under some circumstances.
    pub fn choices(&self, circumstances: &Circumstances) -> Choices {
        let mut choices = Choices::default();
        for ((measured_under, layer), measurement) in &self.measured {
            if measured_under == circumstances {
                choices.insert(layer.as_str(), Choice::Measured(*measurement));
            }
        }
        choices
    }
}

#[cfg(test)]
mod tests {
    use kiln_codegen::tuning::{Blocking, Tiling};

    use super::*;

    fn here(threads: usize) -> Circumstances {
        Circumstances { cpu: "a processor".into(), target: "a target".into(), threads, exact: false }
    }

    fn measurement(nanoseconds: u64) -> Measurement {
        Measurement {
            algorithm: Algorithm::Winograd(Tiling { results: 4, taps: 3, blocks: 7, parts: 1 }),
            nanoseconds,
            estimated: Algorithm::Direct(Blocking { rows: 14, vectors: 2, columns_first: false }),
            estimated_nanoseconds: 2 * nanoseconds,
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_filed_by_circumstances() {
        let directory = tempfile::tempdir().expect("a folder");
        let path = directory.path().join("tuning.json");
        let mut database = Database::read_or_new(&path).expect("an empty database");
        assert!(database.is_empty());
        database.insert(&here(1), "a layer", measurement(10));
        database.insert(&here(1), "a layer", measurement(20));
        database.insert(&here(2), "a layer", measurement(30));
        database.write(&path).expect("written");
        let again = Database::read(&path).expect("read");
        assert_eq!(again, database);
        assert_eq!(again.choices(&here(1)).get("a layer"), Some(Choice::Measured(measurement(20))));
        assert_eq!(again.choices(&here(2)).get("a layer"), Some(Choice::Measured(measurement(30))));
        assert!(again.choices(&here(3)).is_empty());
        assert!(again.choices(&Circumstances { exact: true, ..here(1) }).is_empty());
    }

    #[test]
    fn what_is_no_database_is_refused_with_the_place() {
        let directory = tempfile::tempdir().expect("a folder");
        let path = directory.path().join("tuning.json");
        let missing = Database::read(&path).expect_err("there is no file").to_string();
        assert!(missing.contains("cannot read the tuning database"), "{missing}");
        for (text, reason) in [
            ("", "EOF"),
            ("{\"kiln_tuning\": 7, \"layers\": []}", "its format is 7, not 1"),
            // another version may have other layers
            ("{\"kiln_tuning\": 2, \"layers\": {\"a layer\": 1}}", "its format is 2, not 1"),
            ("{\"kiln_tuning\": 1}", "missing field `layers`"),
            ("{\"kiln_tuning\": 1, \"layers\": [{\"cpu\": 3}]}", "invalid type: integer `3`"),
            ("{\"kiln_tuning\": 1, \"layers\": [], \"more\": 1}", "unknown field `more`"),
            ("{\"kiln_tuning\": 1, \"layers\": [{\"cpu\": \"\"}]}", "missing field `target`"),
        ] {
            std::fs::write(&path, text).expect("written");
            let error = Database::read(&path).expect_err(text).to_string();
            assert!(error.contains(reason) && error.contains("tuning.json"), "{text}: {error}");
        }
    }

    #[test]
    fn fields_that_no_entry_has_and_entries_that_are_there_twice_are_refused() {
        let directory = tempfile::tempdir().expect("a folder");
        let path = directory.path().join("tuning.json");
        let mut database = Database::default();
        database.insert(&here(1), "a layer", measurement(10));
        database.insert(&here(2), "a layer", measurement(10));
        database.write(&path).expect("written");
        let text = std::fs::read_to_string(&path).expect("text");
        let refusal = |text: &str| Database::decode(text.as_bytes(), &path).expect_err(text).to_string();
        let error = refusal(&text.replacen("\"cpu\"", "\"tempo\": 7, \"cpu\"", 1));
        assert!(error.contains("unknown field `tempo`"), "{error}");
        let error = refusal(&text.replacen("\"cpu\"", "\"threads\": 7, \"cpu\"", 1));
        assert!(error.contains("duplicate field `threads`"), "{error}");
        let error = refusal(&text.replace("\"threads\": 2", "\"threads\": 1"));
        assert!(error.contains("found two of the same: entries 0 and 1"), "{error}");
        assert_eq!(Database::decode(text.as_bytes(), &path).expect("unchanged"), database);
    }

    #[cfg(unix)]
    #[test]
    fn of_what_has_no_end_only_so_much_is_read() {
        let error = Database::read(Path::new("/dev/zero")).expect_err("zeros are no database").to_string();
        assert!(error.contains("more than the 268435456 bytes"), "{error}");
    }

    #[test]
    fn code_of_another_back_end_is_measured_apart() {
        let target = Target::named("x86-64-v4").expect("a known target");
        let [wide, portable] =
            [&target, &target.clone().portable()].map(|target| Circumstances::here(target, 1, false));
        assert_eq!(portable.cpu, wide.cpu);
        if target.backend() == Backend::Wide {
            assert_ne!(portable.target, wide.target);
        }
    }
}
