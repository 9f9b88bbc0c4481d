//! Files of tensors, images and measurements.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kiln::compile::{CompileOptions, compile};
use kiln::files::image::{Channels, Filter, ImagePreprocess, Layout, Resize};
use kiln::files::{npy as npy_file, npz as npz_file, safetensors as safetensors_file};
use kiln::tune::{Circumstances, Database};
use kiln_codegen::native::Target;
use kiln_codegen::tuning::{Choice, Choices};
use kiln_ir::{Tensor, text};

use super::Examined;
use super::seeds::LAYERS;

/// What errors call the file.
const PATH: &str = "hostile";

fn bytes_of<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> u64 {
    tensors.into_iter().map(|t| t.byte_len() as u64).sum()
}

/// A file of its own for what is written, because writers rename.
fn written(write: impl FnOnce(&Path) -> Result<(), kiln::files::FileError>) -> Result<Vec<u8>, String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let path = folder.path().join("again");
    write(&path).map_err(|e| e.to_string())?;
    std::fs::read(&path).map_err(|e| e.to_string())
}

pub(super) fn safetensors(bytes: &[u8]) -> Result<Examined, String> {
    let contents = match safetensors_file::decode(&Bytes::copy_from_slice(bytes), Path::new(PATH)) {
        Ok(contents) => contents,
        Err(e) => return Examined::refused(e, 0),
    };
    let again = written(|path| safetensors_file::write(path, &contents))?;
    let again = safetensors_file::decode(&Bytes::from(again), Path::new(PATH))
        .map_err(|e| format!("written, not read: {e}"))?;
    if again != contents {
        return Err("the tensors were written as others".to_owned());
    }
    Ok(Examined { ran: true, ..Examined::accepted(bytes_of(contents.tensors.values())) })
}

pub(super) fn npy(bytes: &[u8]) -> Result<Examined, String> {
    let path = Path::new(PATH);
    let tensor = match npy_file::decode(Bytes::copy_from_slice(bytes), path, "array") {
        Ok(tensor) => tensor,
        Err(e) => return Examined::refused(e, 0),
    };
    let again = match written(|path| npy_file::write(path, &tensor)) {
        Ok(again) => again,
        Err(e) => return Examined::refused(e, 0),
    };
    let again = npy_file::decode(Bytes::from(again), path, "array").map_err(|e| format!("written, not read: {e}"))?;
    if again != tensor {
        return Err("the array was written as another".to_owned());
    }
    Ok(Examined { ran: true, ..Examined::accepted(bytes_of([&tensor])) })
}

pub(super) fn npz(bytes: &[u8]) -> Result<Examined, String> {
    let path = Path::new(PATH);
    let arrays = match npz_file::decode(Cursor::new(bytes), path) {
        Ok(arrays) => arrays,
        Err(e) => return Examined::refused(e, 0),
    };
    let declared = bytes_of(arrays.values());
    let again = match written(|path| npz_file::write(path, arrays.iter().map(|(name, t)| (name.as_str(), t)))) {
        Ok(again) => again,
        // a name that no archive can have, say
        Err(e) => return Examined::refused(e, declared),
    };
    let again = npz_file::decode(Cursor::new(again), path).map_err(|e| format!("written, not read: {e}"))?;
    if again != arrays {
        return Err("the arrays were written as others".to_owned());
    }
    Ok(Examined { ran: true, ..Examined::accepted(declared) })
}

pub(super) fn image(bytes: &[u8]) -> Result<Examined, String> {
    let plain = ImagePreprocess::default();
    let small = ImagePreprocess {
        resize: Some(Resize::ShortSide(9)),
        crop: Some((7, 5)),
        channels: Channels::Gray,
        layout: Layout::Nhwc,
        filter: Filter::Lanczos,
        ..ImagePreprocess::default()
    };
    let mut examined = Examined::default();
    for preprocess in [plain, small] {
        match preprocess.decode(Cursor::new(bytes), Path::new(PATH)) {
            Ok(tensor) => {
                examined.declared += 8 * bytes_of([&tensor]);
                examined.ran = true;
            }
            Err(e) => return Examined::refused(e, examined.declared),
        }
    }
    Ok(examined)
}

/// A database is read, and what it says about two layers is followed: results stay the same.
pub(super) fn tuning(bytes: &[u8]) -> Result<Examined, String> {
    let database = match Database::decode(bytes, Path::new(PATH)) {
        Ok(database) => database,
        Err(e) => return Examined::refused(e, 0),
    };
    let graph = text::parse(LAYERS, "layers").map_err(|e| e.to_string())?;
    let target = Target::host().map_err(|e| e.to_string())?;
    let options =
        |choices: Choices| CompileOptions { threads: Some(1), choices: Arc::new(choices), ..CompileOptions::default() };
    let estimated = compile(&graph, &options(Choices::default())).map_err(|e| e.to_string())?;
    // Whatever machine the file is for: every entry is tried on the layers of this one.
    let known =
        database.choices(&Circumstances { cpu: "a processor".into(), ..Circumstances::here(&target, 1, false) });
    let mut choices = known.clone();
    for decision in estimated.decisions() {
        if let Some(choice) = known.get("a layer") {
            choices.insert(decision.layer.as_str(), Choice::Prescribed(choice.algorithm()));
        }
    }
    let compiled = compile(&graph, &options(choices)).map_err(|e| format!("a tuning database made this fail: {e}"))?;
    for decision in compiled.decisions() {
        if !decision.candidates.contains(&decision.algorithm) {
            return Err(format!("{} is no way of {}", decision.algorithm, decision.layer));
        }
    }
    Ok(Examined { ran: true, ..Examined::accepted(0) })
}
