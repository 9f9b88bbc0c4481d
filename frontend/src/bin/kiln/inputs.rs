//! What a run reads: arrays and images from files, bound to the model's inputs by name.

use std::ffi::OsStr;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use kiln::files::image::{Channels, Filter, ImagePreprocess, Layout, Resize};
use kiln::files::{FileError, npy, npz};
use kiln::random_feeds::random_feeds;
use kiln_ir::Tensor;
use kiln_runtime::Signature;

use crate::failure::{Failure, Outcome};
use crate::touched::Touched;
use crate::values::{self, Size};

/// Where a run's inputs come from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Inputs")]
pub struct InputArgs {
    /// NumPy archive of arrays named like the model's inputs; what the model has no input for is an error
    #[arg(long, value_name = "IN.npz")]
    pub inputs: Option<PathBuf>,
    /// One input from a NumPy array or an image; without NAME, the model's only input
    #[arg(long = "input", value_name = "[NAME=]FILE.{npy,png,jpg}", value_parser = values::feed)]
    pub input: Vec<(Option<String>, PathBuf)>,
    #[command(flatten)]
    pub preprocess: PreprocessArgs,
}

/// How images become tensors. Steps in this order: resize, crop, then `(value * scale - mean) / std` on 0...255.
#[derive(Debug, Args)]
#[command(next_help_heading = "Images become tensors")]
pub struct PreprocessArgs {
    /// Start from a well-known preprocessing; the options below change it
    #[arg(long, value_enum, conflicts_with = "preprocess")]
    preset: Option<Preset>,
    /// Start from a preprocessing in a JSON file; the options below change it
    #[arg(long, value_name = "FILE.json")]
    preprocess: Option<PathBuf>,
    /// Resize: the shorter side to N, or exactly to HEIGHTxWIDTH
    #[arg(long, value_name = "N|HxW", value_parser = values::size)]
    resize: Option<Size>,
    /// Interpolation of the resize: nearest, box, bilinear, bicubic or lanczos
    #[arg(long, value_parser = values::named::<Filter>)]
    filter: Option<Filter>,
    /// Cut a window out of the middle
    #[arg(long, value_name = "N|HxW", value_parser = values::size)]
    crop: Option<Size>,
    /// Channels and their order: rgb, bgr or gray
    #[arg(long, value_parser = values::named::<Channels>)]
    channels: Option<Channels>,
    /// Order of the tensor's axes: nchw or nhwc
    #[arg(long, value_parser = values::named::<Layout>)]
    layout: Option<Layout>,
    /// Factor on 0...255, such as 1/255
    #[arg(long, value_parser = values::real)]
    scale: Option<f32>,
    /// Subtracted after scaling: one number, or one a channel
    #[arg(long, value_name = "M[,M,M]", value_parser = values::channels, allow_hyphen_values = true)]
    mean: Option<[f32; 3]>,
    /// Divided by last: one number, or one a channel; not 0
    #[arg(long, value_name = "S[,S,S]", value_parser = values::divisors, allow_hyphen_values = true)]
    std: Option<[f32; 3]>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Preset {
    /// Bytes as they are: RGB 0...255, NCHW, the image's own size
    Raw,
    /// Short side to 256 (bilinear), crop 224, 0...1, ImageNet's mean and deviation
    Imagenet,
}

impl PreprocessArgs {
    /// The first of these options that the command line has, for whoever has no use for them.
    fn given(&self) -> Option<&'static str> {
        let options = [
            ("--preset", self.preset.is_some()),
            ("--preprocess", self.preprocess.is_some()),
            ("--resize", self.resize.is_some()),
            ("--filter", self.filter.is_some()),
            ("--crop", self.crop.is_some()),
            ("--channels", self.channels.is_some()),
            ("--layout", self.layout.is_some()),
            ("--scale", self.scale.is_some()),
            ("--mean", self.mean.is_some()),
            ("--std", self.std.is_some()),
        ];
        options.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }

    /// The preprocessing that the options state.
    pub fn build(&self) -> Outcome<ImagePreprocess> {
        let mut p = match (&self.preprocess, self.preset) {
            (Some(path), _) => read_json(path)?,
            (None, Some(Preset::Imagenet)) => ImagePreprocess::imagenet(Filter::Bilinear),
            (None, Some(Preset::Raw) | None) => ImagePreprocess::default(),
        };
        if let Some(size) = self.resize {
            p.resize = Some(match size {
                Size::One(side) => Resize::ShortSide(side),
                Size::Two(height, width) => Resize::Exact(height, width),
            });
        }
        if let Some(size) = self.crop {
            p.crop = Some(match size {
                Size::One(side) => (side, side),
                Size::Two(height, width) => (height, width),
            });
        }
        p.filter = self.filter.unwrap_or(p.filter);
        p.channels = self.channels.unwrap_or(p.channels);
        p.layout = self.layout.unwrap_or(p.layout);
        p.scale = self.scale.unwrap_or(p.scale);
        p.mean = self.mean.unwrap_or(p.mean);
        p.std = self.std.unwrap_or(p.std);
        Ok(p)
    }
}

fn read_json(path: &Path) -> Outcome<ImagePreprocess> {
    let text = std::fs::read_to_string(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    serde_json::from_str(&text)
        .map_err(|e| Failure::Work(format!("`{}` is not an image preprocessing: {e}; expected an object such as {{\"scale\": 0.5}}, of the names that the options have", path.display())))
}

/// Tensors by input name.
pub type Feeds = Vec<(String, Tensor)>;

impl InputArgs {
    /// Whether the command line gives any input.
    pub fn given(&self) -> bool {
        self.inputs.is_some() || !self.input.is_empty()
    }

    /// Counts the files that are read.
    pub fn touch(&self, touched: &mut Touched) {
        touched.reads("the file of --inputs", &self.inputs);
        touched.reads("the file of --input", self.input.iter().map(|(_, path)| path));
        touched.reads("the file of --preprocess", &self.preprocess.preprocess);
    }

    /// Reads every input that the command line names.
    pub fn read(&self, signature: &Signature) -> Outcome<Feeds> {
        let mut feeds: Feeds = match &self.inputs {
            Some(path) if extension(path) == "npy" || is_image(path) => {
                return Err(Failure::Usage(format!("`{}` is no archive: give it with --input", path.display())));
            }
            Some(path) => npz::read(path)?.into_iter().collect(),
            None => Feeds::new(),
        };
        if let Some(option) = self.preprocess.given().filter(|_| !self.input.iter().any(|(_, path)| is_image(path))) {
            return Err(Failure::Usage(format!(
                "{option} is for images, and no --input is one: give a .png or .jpg file, or leave it out"
            )));
        }
        let preprocess = self.preprocess.build()?;
        for (name, path) in &self.input {
            let name = match (name, &signature.inputs[..]) {
                (Some(name), _) => name.clone(),
                (None, [only]) => only.name.clone(),
                (None, all) => {
                    let names: Vec<String> = all.iter().map(|spec| format!("`{}`", spec.name)).collect();
                    return Err(Failure::Usage(format!(
                        "--input {} names no input, and the model has {}: write --input NAME={0}; the inputs are {}",
                        path.display(),
                        all.len(),
                        names.join(", ")
                    )));
                }
            };
            feeds.push((name, read_file(path, &preprocess)?));
        }
        Ok(feeds)
    }
}

/// What comes after the last dot of a file's name, in small letters.
fn extension(path: &Path) -> String {
    path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase()
}

fn is_image(path: &Path) -> bool {
    ["png", "jpg", "jpeg"].contains(&extension(path).as_str())
}

fn read_file(path: &Path, preprocess: &ImagePreprocess) -> Outcome<Tensor> {
    match extension(path).as_str() {
        "npy" => Ok(npy::read(path)?),
        _ if is_image(path) => Ok(preprocess.load(path)?),
        "npz" => Err(Failure::Usage(format!("`{}` is an archive: give it with --inputs", path.display()))),
        _ => Err(Failure::Usage(format!(
            "`{}` is neither .npy nor .png nor .jpg: name an array or an image",
            path.display()
        ))),
    }
}

/// Why a run failed, with the options that feed inputs where some were not fed.
pub fn unfed(error: impl Display, signature: &Signature, feeds: &Feeds) -> Failure {
    let fed = |name: &str| feeds.iter().any(|(n, _)| n == name);
    let how = match signature.inputs.iter().any(|spec| !fed(&spec.name)) {
        true => "\nfeed one input with --input NAME=FILE, several with --inputs FILE.npz",
        false => "",
    };
    Failure::Work(format!("{error}{how}"))
}

/// Random tensors for every input that `feeds` lacks. The same seed gives the same.
pub fn fill_randomly(signature: &Signature, feeds: &mut Feeds, seed: u64) -> Outcome {
    let random = random_feeds(signature, feeds, seed)?;
    feeds.extend(random);
    Ok(())
}

/// The tensors of feeds that name every input, in signature order.
pub fn in_order(signature: &Signature, mut feeds: Feeds) -> Vec<Tensor> {
    feeds.sort_by_key(|(name, _)| signature.input_index(name));
    feeds.into_iter().map(|(_, tensor)| tensor).collect()
}

/// Feeds as the executor takes them.
pub fn borrowed(feeds: &Feeds) -> Vec<(&str, &Tensor)> {
    feeds.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect()
}
