//! What `kiln compile` writes: an artifact, or an object file and a C header.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use kiln::compile::{CompileError, Compiled};
use kiln_codegen::embed::{EmbedError, WeightPlace, check_name, default_name};
use kiln_codegen::native::Target;
use kiln_runtime::atomic_file::write_atomically;

use crate::failure::{Failure, Outcome};
use crate::touched::Touched;
use crate::values;

/// What is written, and how programs see it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Embedding")]
pub struct EmitArgs {
    /// What to write. With `obj` or `header`, the files are OUT with the extension `.o` (`.obj` for Windows) and `.h`
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',', default_value = "artifact")]
    emit: Vec<Kind>,
    /// Begin the names of the C functions, types and constants with NAME; where it is not given, with OUT's file name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Write the weights to FILE, which the program loads, and not into the object
    #[arg(long, value_name = "FILE", value_parser = values::output_file())]
    weights_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// One file that Kiln runs
    Artifact,
    /// An object file to link into programs, which then need no Kiln
    Obj,
    /// The C header of the object
    Header,
}

/// A file that was written.
pub struct Written {
    /// What it is.
    pub what: &'static str,
    /// Where it is.
    pub path: PathBuf,
}

/// Files for C programs that are to be written.
pub struct Files {
    name: String,
    object: Option<PathBuf>,
    header: Option<PathBuf>,
    weights: Option<PathBuf>,
}

impl EmitArgs {
    /// The files for C programs to write for `target`, the last being `more` further targets; `None` where it is an artifact. `artifact_option`
    /// is the first option on the command line that is about artifacts.
    pub fn files(
        &self,
        output: &Path,
        target: &Target,
        more: usize,
        artifact_option: Option<&str>,
    ) -> Outcome<Option<Files>> {
        let mut problems = Vec::new();
        let has = |kind| self.emit.contains(&kind);
        if has(Kind::Artifact) {
            if has(Kind::Obj) || has(Kind::Header) {
                problems.push(
                    "--emit artifact goes alone: compile once for the artifact and once for obj,header".to_owned(),
                );
            }
            let options = [("--name", self.name.is_some()), ("--weights-file", self.weights_file.is_some())];
            for (option, _) in options.iter().filter(|(_, given)| *given) {
                problems.push(format!("{option} is for object files: add --emit obj,header, or leave it out"));
            }
            return refuse(problems).map(|()| None);
        }
        if more > 0 {
            problems.push(format!(
                "an object file is for one target, and --target names {}: compile once for each, with an --output and a --name for each",
                more + 1
            ));
        }
        if let Some(option) = artifact_option {
            problems.push(format!("{option} is about artifacts: leave it out, or leave out --emit"));
        }
        if let Some(Err(e)) = self.name.as_deref().map(check_name) {
            problems.push(with_option(&e));
        }
        let known = output.extension().is_some_and(|e| ["o", "obj", "h", "kiln"].iter().any(|known| e == *known));
        let stem = if known { output.with_extension("") } else { output.to_owned() };
        let Some(file) = stem.file_name() else {
            problems.push(format!("--output `{}` names no file: expected one", output.display()));
            return refuse(problems).map(|()| None);
        };
        let name = self.name.clone().unwrap_or_else(|| default_name(&file.to_string_lossy()));
        let with = |extension: &str| {
            let mut file = file.to_owned();
            file.push(extension);
            stem.with_file_name(file)
        };
        refuse(problems)?;
        Ok(Some(Files {
            name,
            object: has(Kind::Obj).then(|| with(object_extension(target))),
            header: has(Kind::Header).then(|| with(".h")),
            weights: self.weights_file.clone(),
        }))
    }
}

fn refuse(problems: Vec<String>) -> Outcome {
    if problems.is_empty() { Ok(()) } else { Err(Failure::Usage(problems.join("\n"))) }
}

fn object_extension(target: &Target) -> &'static str {
    if target.is_windows() { ".obj" } else { ".o" }
}

impl Files {
    /// Counts them as written.
    pub fn touch(&self, touched: &mut Touched) {
        touched.writes("--output", &self.object);
        touched.writes("--output", &self.header);
        touched.writes("--weights-file", &self.weights);
    }

    /// Whether the weights have a file of their own.
    fn place(&self) -> WeightPlace {
        if self.weights.is_some() { WeightPlace::File } else { WeightPlace::Object }
    }

    /// Writes them, each whole or not at all; the header last. Gives also the bytes of memory that the program wants of its caller.
    pub fn write(&self, compiled: &Compiled) -> Outcome<(Vec<Written>, usize)> {
        let embedding = compiled.embedding(&self.name, self.place()).map_err(|e| match e {
            CompileError::Embed(e) => Failure::Work(with_option(&e)),
            other => other.into(),
        })?;
        let mut written = Vec::new();
        let mut file = |what, path: &Option<PathBuf>, write: Writer<'_>| {
            if let Some(path) = path {
                write_file(path, write)?;
                written.push(Written { what, path: path.clone() });
            }
            Outcome::Ok(())
        };
        file("weights", &self.weights, &|out| Ok(embedding.write_weights(out)?))?;
        file("object", &self.object, &|out| embedding.write_object(out))?;
        file("header", &self.header, &|out| Ok(out.write_all(embedding.header().as_bytes())?))?;
        Ok((written, embedding.arena_bytes()))
    }
}

type Writer<'a> = &'a dyn Fn(&mut dyn io::Write) -> Result<(), EmbedError>;

fn write_file(path: &Path, write: Writer<'_>) -> Outcome {
    let failed =
        |action: &str, source: io::Error| Failure::Work(format!("cannot {action} {}: {source}", path.display()));
    write_atomically(path, failed, |out| {
        write(out).map_err(|e| match e {
            EmbedError::Write(source) => failed("write", source),
            other => Failure::Work(other.to_string()),
        })
    })
}

/// What keeps a program from being embedded, with the option that helps.
fn with_option(error: &EmbedError) -> String {
    match error {
        EmbedError::Name { .. } => format!("{error} with --name"),
        EmbedError::Weights { .. } => format!("{error} with --weights-file"),
        other => other.to_string(),
    }
}
