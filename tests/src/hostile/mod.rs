//! Bytes that nobody vouches for: what every reader of Kiln must make of them.
//!
//! [`examine`] gives bytes to everything that reads their format, and what they turn out to be to everything that comes after: passes,
//! back ends, the interpreter. The answer is an error that blames the bytes, or a right result; everything else (a panic, an answer that
//! two parts of Kiln disagree about, an error that calls itself a bug of Kiln) is a finding. Fuzz targets (`fuzz/`), the mutation run
//! (`tests/hostile.rs`) and the corpus of malformed files (`corpus/`) all ask it.
//!
//! - [`mod@seeds`]: small well-formed files of each format.
//! - [`mod@mutate`]: damage, most of it of the kind that the format's own structure survives.
//! - [`mod@graph`]: what holds of a graph, wherever it was read.
//! - [`mod@kernel`]: kernels out of bytes, for the verifier of the kernel IR and the back ends.

mod artifact;
mod files;
pub mod graph;
pub mod kernel;
pub mod mutate;
pub mod seeds;

pub use artifact::sign;

/// What a file claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// IR text.
    Text,
    /// An ONNX model.
    Onnx,
    /// A compiled model.
    Artifact,
    /// safetensors.
    Safetensors,
    /// One NumPy array.
    Npy,
    /// NumPy arrays in an archive.
    Npz,
    /// PNG or JPEG.
    Image,
    /// A tuning database.
    Tuning,
    /// A kernel, see [`kernel`].
    Kir,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 9] = [
        Format::Text,
        Format::Onnx,
        Format::Artifact,
        Format::Safetensors,
        Format::Npy,
        Format::Npz,
        Format::Image,
        Format::Tuning,
        Format::Kir,
    ];

    /// The name of its folder and its fuzz target.
    pub fn name(self) -> &'static str {
        match self {
            Format::Text => "ir_text",
            Format::Onnx => "onnx",
            Format::Artifact => "artifact",
            Format::Safetensors => "safetensors",
            Format::Npy => "npy",
            Format::Npz => "npz",
            Format::Image => "image",
            Format::Tuning => "tuning",
            Format::Kir => "kir",
        }
    }
}

/// What came of the bytes, where nothing went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// The first error, where they were refused at some stage.
    pub refused: Option<String>,
    /// Whether they were run and every way of running them agreed.
    pub ran: bool,
    /// Bytes of the tensors that they declare: what may be allocated for them.
    pub declared: u64,
}

impl Examined {
    fn refused(error: impl ToString, declared: u64) -> Result<Examined, String> {
        blames_the_bytes(&error.to_string())?;
        Ok(Examined { refused: Some(error.to_string()), ran: false, declared })
    }

    fn accepted(declared: u64) -> Examined {
        Examined { declared, ..Examined::default() }
    }
}

/// What an error says that blames Kiln.
const OURS: [&str; 3] = ["bug in Kiln", "a bug,", "internal error"];

/// How the finding begins that an error blames Kiln.
const BLAMED: &str = "blamed on Kiln: ";

/// An error that says that Kiln is wrong, not the bytes, is a finding.
fn blames_the_bytes(error: &str) -> Result<(), String> {
    if OURS.iter().any(|words| error.contains(words)) { Err(format!("{BLAMED}{error}")) } else { Ok(()) }
}

/// Whether errors that quote the bytes, control characters as spaces, may blame Kiln in their words.
fn may_be_quoted(bytes: &[u8]) -> bool {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = String::from_utf8_lossy(bytes).chars().map(shown).collect();
    OURS.iter().any(|words| text.contains(words))
}

/// Reads `bytes` as `format` in every way there is, and goes on with what they are. An error is a finding; so is a panic.
pub fn examine(format: Format, bytes: &[u8]) -> Result<Examined, String> {
    let examined = match format {
        Format::Text => graph::examine_text(bytes),
        Format::Onnx => graph::examine_onnx(bytes),
        Format::Artifact => artifact::examine(bytes),
        Format::Safetensors => files::safetensors(bytes),
        Format::Npy => files::npy(bytes),
        Format::Npz => files::npz(bytes),
        Format::Image => files::image(bytes),
        Format::Tuning => files::tuning(bytes),
        Format::Kir => kernel::examine(bytes),
    };
    match examined {
        Err(error) if error.starts_with(BLAMED) && may_be_quoted(bytes) => {
            Ok(Examined { refused: Some(error), ..Examined::default() })
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_quotes_the_words_by_which_kiln_blames_itself_is_no_finding() {
        for words in ["a bug", "a\u{1b}bug"] {
            let text = format!("kiln 1\ngraph @g(%x: f32[2]) -> (%y) {{\n  %y = add {words}, %x\n}}\n");
            let examined = examine(Format::Text, text.as_bytes()).expect("the text is wrong, Kiln is not");
            assert!(examined.refused.is_some_and(|error| error.contains("a bug,")));
        }
        assert!(blames_the_bytes("this is a bug in Kiln, please report it").is_err());
    }
}
