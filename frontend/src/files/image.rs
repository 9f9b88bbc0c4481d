//! PNG and JPEG → tensor, with every step of the preprocessing stated.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::path::Path;

use ::image::ImageReader;
use kiln_ir::Tensor;
use serde::{Deserialize, Serialize};

use super::FileError;
pub use super::resample::Filter;
use super::resample::{Pixels, room};

/// How the image is brought to a size before the crop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// The shorter side becomes this long; the longer one keeps the aspect, rounded down.
    ShortSide(usize),
    /// Exactly (height, width), aspect not kept.
    Exact(usize, usize),
}

/// Which channels the tensor has, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red (OpenCV's order).
    Bgr,
    /// One channel of luma, ITU-R BT.601.
    Gray,
}

/// Order of the tensor's axes; the batch axis has extent 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `[1, channels, height, width]`
    #[default]
    Nchw,
    /// `[1, height, width, channels]`
    Nhwc,
}

/// From an image file to an f32 tensor: decode, drop any alpha channel, resize, crop in the middle,
/// then for each channel `(value · scale − mean) / std`, computed in f32, value in 0…255.
///
/// An orientation tag in a photograph is not applied. 16-bit images are reduced to 8 bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagePreprocess {
    /// Size before the crop; `None` keeps the image's.
    #[serde(default)]
    pub resize: Option<Resize>,
    /// Interpolation of the resize; all but `nearest` average when reducing.
    #[serde(default = "default_filter")]
    pub filter: Filter,
    /// (height, width) of a window in the middle; `None` keeps everything.
    #[serde(default)]
    pub crop: Option<(usize, usize)>,
    /// Channels and their order.
    #[serde(default)]
    pub channels: Channels,
    /// Axis order.
    #[serde(default)]
    pub layout: Layout,
    /// Factor on 0…255.
    #[serde(default = "default_scale")]
    pub scale: f32,
    /// Subtracted after scaling; in the order of `channels` (`gray` uses the first).
    #[serde(default)]
    pub mean: [f32; 3],
    /// Divided by last; in the order of `channels` (`gray` uses the first).
    #[serde(default = "default_std")]
    pub std: [f32; 3],
}

fn default_filter() -> Filter {
    Filter::Bilinear
}

fn default_scale() -> f32 {
    1.0
}

fn default_std() -> [f32; 3] {
    [1.0; 3]
}

impl Default for ImagePreprocess {
    /// The decoded bytes as they are: RGB 0…255, NCHW, the image's own size.
    fn default() -> ImagePreprocess {
        ImagePreprocess {
            resize: None,
            filter: default_filter(),
            crop: None,
            channels: Channels::Rgb,
            layout: Layout::Nchw,
            scale: default_scale(),
            mean: [0.0; 3],
            std: default_std(),
        }
    }
}

impl ImagePreprocess {
    /// The usual evaluation preprocessing for ImageNet-1k classifiers at 224 × 224: short side to
    /// 256, crop 224, 0…1, mean and deviation of the data set per channel.
    pub fn imagenet(filter: Filter) -> ImagePreprocess {
        ImagePreprocess {
            resize: Some(Resize::ShortSide(256)),
            filter,
            crop: Some((224, 224)),
            scale: 1.0 / 255.0,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            ..ImagePreprocess::default()
        }
    }

    /// Decodes a PNG or JPEG file (told by its contents, not its name) into a tensor.
    pub fn load(&self, path: &Path) -> Result<Tensor, FileError> {
        self.decode(BufReader::new(File::open(path).map_err(|e| FileError::read(path, e))?), path)
    }

    /// Decodes a PNG or JPEG in memory, or wherever else it is, into a tensor; `path` is for errors.
    pub fn decode(&self, file: impl BufRead + Seek, path: &Path) -> Result<Tensor, FileError> {
        let reader = ImageReader::new(file).with_guessed_format().map_err(|e| FileError::read(path, e))?;
        if reader.format().is_none() {
            return Err(FileError::format(path, "PNG or JPEG", "the first bytes are of no known image format"));
        }
        let image = reader.decode().map_err(|e| FileError::format(path, "PNG or JPEG", e))?.into_rgb8();
        let (width, height) = (image.width() as usize, image.height() as usize);
        let pixels = Pixels { width, height, channels: 3, data: image.into_raw() };
        self.apply(pixels).map_err(|problem| FileError::Image { path: path.to_owned(), problem })
    }

    /// Preprocesses an RGB image in memory: `rgb` holds `height` rows of `width` pixels of 3 bytes.
    pub fn from_rgb(&self, rgb: &[u8], height: usize, width: usize) -> Result<Tensor, String> {
        let expected = height.checked_mul(width).and_then(|n| n.checked_mul(3));
        if expected != Some(rgb.len()) || rgb.is_empty() {
            let expected = expected.map_or_else(|| "more bytes than there are".to_owned(), |n| format!("{n} bytes"));
            return Err(format!(
                "an RGB image of {height} × {width} takes {expected}, and at least one pixel; found {}",
                rgb.len()
            ));
        }
        self.apply(Pixels { width, height, channels: 3, data: rgb.to_vec() })
    }

    fn apply(&self, image: Pixels) -> Result<Tensor, String> {
        self.check_numbers()?;
        let image = if self.channels == Channels::Gray { luma(&image) } else { image };
        let image = match self.target(&image)? {
            Some((height, width)) => image.resized(width, height, self.filter)?,
            None => image,
        };
        let image = match self.crop {
            Some((height, width)) => {
                if height == 0 || width == 0 || height > image.height || width > image.width {
                    return Err(format!(
                        "a crop of {height} × {width} does not fit into {} × {}; resize it to at least that",
                        image.height, image.width
                    ));
                }
                image.cropped(middle(image.height, height), middle(image.width, width), height, width)
            }
            None => image,
        };
        self.normalise(&image)
    }

    /// Whether every value has a finite number to become.
    fn check_numbers(&self) -> Result<(), String> {
        let all = [self.scale].into_iter().chain(self.mean).chain(self.std);
        if let Some(odd) = all.into_iter().find(|v| !v.is_finite()) {
            return Err(format!("scale, mean and std must be finite numbers, found {odd}"));
        }
        if self.std.contains(&0.0) {
            return Err(format!("std must not be 0, because values are divided by it; found {:?}", self.std));
        }
        Ok(())
    }

    /// (height, width) that the resize step gives.
    fn target(&self, image: &Pixels) -> Result<Option<(usize, usize)>, String> {
        // Keeps a typing mistake from allocating tens of gigabytes.
        const LARGEST: usize = 1 << 15;
        let (height, width) = match self.resize {
            None => return Ok(None),
            Some(Resize::Exact(height, width)) => (height, width),
            Some(Resize::ShortSide(side)) => {
                let long = |of: usize, short: usize| {
                    ((side as u128 * of as u128) / short.max(1) as u128).min(usize::MAX as u128) as usize
                };
                if image.width <= image.height {
                    (long(image.height, image.width), side)
                } else {
                    (side, long(image.width, image.height))
                }
            }
        };
        if height == 0 || width == 0 || height > LARGEST || width > LARGEST {
            return Err(format!(
                "resizing {} × {} to {height} × {width} is not possible: both sides must be 1 to {LARGEST}",
                image.height, image.width
            ));
        }
        Ok(Some((height, width)))
    }

    fn normalise(&self, image: &Pixels) -> Result<Tensor, String> {
        let Pixels { width, height, channels, ref data } = *image;
        let value = |pixel: &[u8], channel: usize| {
            let source = if self.channels == Channels::Bgr { channels - 1 - channel } else { channel };
            (f32::from(pixel[source]) * self.scale - self.mean[channel]) / self.std[channel]
        };
        let mut values = room(width, height, channels)?;
        let dims = match self.layout {
            Layout::Nchw => {
                for channel in 0..channels {
                    values.extend(data.chunks_exact(channels).map(|pixel| value(pixel, channel)));
                }
                [1, channels, height, width]
            }
            Layout::Nhwc => {
                for pixel in data.chunks_exact(channels) {
                    values.extend((0..channels).map(|channel| value(pixel, channel)));
                }
                [1, height, width, channels]
            }
        };
        Tensor::from_slice(&dims, &values).map_err(|e| e.to_string())
    }
}

/// First row of a centred window; a half is rounded to even, as Python's `round` does.
fn middle(whole: usize, window: usize) -> usize {
    let spare = whole - window;
    if spare % 4 == 3 { spare / 2 + 1 } else { spare / 2 }
}

/// ITU-R BT.601 luma in 16-bit fixed point, rounded.
fn luma(image: &Pixels) -> Pixels {
    let data = image
        .data
        .chunks_exact(3)
        .map(|p| {
            let (r, g, b) = (u32::from(p[0]), u32::from(p[1]), u32::from(p[2]));
            ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8
        })
        .collect();
    Pixels { channels: 1, data, ..*image }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 × 2: red, green / blue, white.
    const RGB: [u8; 12] = [255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255];

    fn values(p: &ImagePreprocess) -> Vec<f32> {
        p.from_rgb(&RGB, 2, 2).unwrap().to_vec().unwrap()
    }

    #[test]
    fn numbers_that_no_value_survives_are_refused() {
        let refused = |p: ImagePreprocess| p.from_rgb(&RGB, 2, 2).unwrap_err();
        let e = refused(ImagePreprocess { std: [1.0, 0.0, 1.0], ..ImagePreprocess::default() });
        assert!(e.contains("std must not be 0"), "{e}");
        let e = refused(ImagePreprocess { scale: f32::INFINITY, ..ImagePreprocess::default() });
        assert!(e.contains("finite") && e.contains("inf"), "{e}");
    }

    #[test]
    fn layout_and_channel_order_place_the_values() {
        let nchw = ImagePreprocess::default();
        assert_eq!(values(&nchw), [255., 0., 0., 255., 0., 255., 0., 255., 0., 0., 255., 255.]);
        let bgr = ImagePreprocess { channels: Channels::Bgr, ..ImagePreprocess::default() };
        assert_eq!(values(&bgr), [0., 0., 255., 255., 0., 255., 0., 255., 255., 0., 0., 255.]);
        let nhwc = ImagePreprocess { layout: Layout::Nhwc, ..ImagePreprocess::default() };
        assert_eq!(values(&nhwc), RGB.map(f32::from));
        assert_eq!(nhwc.from_rgb(&RGB[..6], 1, 2).unwrap().dims(), [1, 1, 2, 3]);
        // Pillow's convert("L") of pure red, green, blue and white: 76, 150, 29, 255.
        let gray = ImagePreprocess { channels: Channels::Gray, ..ImagePreprocess::default() };
        assert_eq!(values(&gray), [76., 150., 29., 255.]);
    }

    #[test]
    fn mean_and_std_belong_to_the_tensors_channels() {
        let p = ImagePreprocess {
            channels: Channels::Bgr,
            layout: Layout::Nhwc,
            scale: 1.0 / 255.0,
            mean: [0.5, 0.0, 0.25],
            std: [0.5, 1.0, 2.0],
            ..ImagePreprocess::default()
        };
        // Red: blue 0 → (0 − 0.5)/0.5, green 0 → 0, red 255 → (1 − 0.25)/2.
        assert_eq!(values(&p)[..3], [-1.0, 0.0, 0.375]);
    }

    #[test]
    fn short_side_and_crop_give_the_network_its_size() {
        let p = ImagePreprocess::imagenet(Filter::Bicubic);
        for (h, w) in [(300, 500), (500, 300), (224, 224), (10, 11)] {
            let t = p.from_rgb(&vec![7; h * w * 3], h, w).unwrap();
            assert_eq!(t.dims(), [1, 3, 224, 224], "{h} × {w}");
        }
        let resized = ImagePreprocess { crop: None, ..p };
        assert_eq!(resized.from_rgb(&vec![7; 375 * 500 * 3], 375, 500).unwrap().dims(), [1, 3, 256, 341]);
    }

    #[test]
    fn a_crop_starts_at_half_the_spare_rounded_to_even() {
        // round((whole − 224) / 2): 0.5 → 0, 1.5 → 2, 2.5 → 2, 58.5 → 58.
        assert_eq!([225, 227, 229, 341, 226].map(|w| middle(w, 224)), [0, 2, 2, 58, 1]);
    }

    #[test]
    fn sizes_that_do_not_fit_are_errors() {
        let p = ImagePreprocess { crop: Some((3, 3)), ..ImagePreprocess::default() };
        assert!(p.from_rgb(&RGB, 2, 2).unwrap_err().contains("3 × 3 does not fit into 2 × 2"));
        let p = ImagePreprocess { resize: Some(Resize::Exact(0, 5)), ..ImagePreprocess::default() };
        assert!(p.from_rgb(&RGB, 2, 2).unwrap_err().contains("0 × 5"));
        let p = ImagePreprocess { resize: Some(Resize::ShortSide(usize::MAX)), ..ImagePreprocess::default() };
        assert!(p.from_rgb(&RGB, 2, 2).is_err());
        assert!(ImagePreprocess::default().from_rgb(&RGB, 2, 3).unwrap_err().contains("found 12"));
        assert!(ImagePreprocess::default().from_rgb(&[], 0, 0).is_err());
    }

    #[test]
    fn a_png_is_decoded_and_other_files_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        // The name says jpeg; the contents count.
        let path = dir.path().join("photo.jpg");
        ::image::save_buffer_with_format(&path, &RGB, 2, 2, ::image::ColorType::Rgb8, ::image::ImageFormat::Png)
            .unwrap();
        let t = ImagePreprocess::default().load(&path).unwrap();
        assert_eq!(t.to_vec::<f32>().unwrap(), values(&ImagePreprocess::default()));
        for contents in [&b"hello"[..], b"\x89PNG\r\n\x1a\n broken", b""] {
            std::fs::write(&path, contents).unwrap();
            let e = ImagePreprocess::default().load(&path).unwrap_err().to_string();
            assert!(e.contains("photo.jpg"), "{e}");
        }
    }
}
