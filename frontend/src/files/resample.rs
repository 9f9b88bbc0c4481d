//! Separable image resampling in 8-bit fixed point, with the conventions of the Python Imaging
//! Library, because published accuracies of image models were measured with it.
//!
//! Output pixel `i` looks at input around `(i + ½) · in/out`, through a filter that is widened by
//! the factor of reduction (so reducing averages, and does not alias). Weights are normalised to
//! sum to one and rounded to 22 fractional bits; the horizontal pass is rounded to 8 bits before the
//! vertical one. Nearest neighbour takes the pixel under the output pixel's centre.

/// Interpolation between pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// The pixel under the output pixel's centre.
    Nearest,
    /// Average over the output pixel's area.
    Box,
    /// Linear interpolation; support 1.
    Bilinear,
    /// Cubic convolution with a = −½ (Keys 1981); support 2.
    Bicubic,
    /// Windowed sinc; support 3.
    Lanczos,
}

/// Fractional bits of a weight: an 8-bit pixel, weights that sum to 1 but may overshoot it twofold
/// with negative lobes, and the sign fit in 32 bits.
const PRECISION: u32 = 32 - 8 - 2;

impl Filter {
    fn support(self) -> f64 {
        match self {
            Filter::Nearest => 0.0,
            Filter::Box => 0.5,
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let t = x.abs();
        match self {
            Filter::Nearest => 1.0,
            // Half open, so that a pixel on the border of two areas counts once.
            Filter::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Filter::Bilinear => (1.0 - t).max(0.0),
            Filter::Bicubic => {
                const A: f64 = -0.5;
                if t < 1.0 {
                    ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0
                } else if t < 2.0 {
                    (((t - 5.0) * t + 8.0) * t - 4.0) * A
                } else {
                    0.0
                }
            }
            Filter::Lanczos => {
                let sinc = |v: f64| {
                    if v == 0.0 { 1.0 } else { (v * std::f64::consts::PI).sin() / (v * std::f64::consts::PI) }
                };
                if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
            }
        }
    }
}

/// The input pixels that one output pixel is a weighted sum of.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

fn taps(filter: Filter, from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    if filter == Filter::Nearest {
        // The place is accumulated, not multiplied, as in Pillow: the two differ where a centre falls
        // on the border of two pixels.
        let mut center = scale / 2.0;
        return (0..to)
            .map(|_| {
                let first = (center as usize).min(from - 1);
                center += scale;
                Taps { first, weights: vec![1 << PRECISION] }
            })
            .collect();
    }
    let widening = scale.max(1.0);
    let reach = filter.support() * widening;
    (0..to)
        .map(|i| {
            let center = (i as f64 + 0.5) * scale;
            let first = (center - reach + 0.5).max(0.0) as usize;
            let end = ((center + reach + 0.5) as usize).min(from);
            let raw: Vec<f64> = (first..end).map(|x| filter.weight((x as f64 - center + 0.5) / widening)).collect();
            let sum: f64 = raw.iter().sum();
            let weights = raw
                .iter()
                .map(|w| {
                    let w = if sum == 0.0 { *w } else { w / sum };
                    (w * f64::from(1 << PRECISION)).round() as i32
                })
                .collect();
            Taps { first, weights }
        })
        .collect()
}

/// An 8-bit image, rows of pixels of `channels` interleaved values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pixels {
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    pub data: Vec<u8>,
}

/// No values, with room for those of an image of these extents. Options decide how many, so a refusal is an error, not
/// the end.
pub(super) fn room<T>(width: usize, height: usize, channels: usize) -> Result<Vec<T>, String> {
    let mut values = Vec::new();
    let count = width.saturating_mul(height).saturating_mul(channels);
    match values.try_reserve_exact(count) {
        Ok(()) => Ok(values),
        Err(_) => Err(format!(
            "cannot get {} bytes for {height} × {width} pixels: free memory, or resize it to less",
            count.saturating_mul(size_of::<T>())
        )),
    }
}

impl Pixels {
    /// The image at another size; neither extent is 0. An error is a text for people.
    pub fn resized(self, width: usize, height: usize, filter: Filter) -> Result<Pixels, String> {
        let across = if width == self.width { self } else { self.resized_across(width, filter)? };
        if height == across.height {
            return Ok(across);
        }
        across.transposed()?.resized_across(height, filter)?.transposed()
    }

    fn resized_across(&self, width: usize, filter: Filter) -> Result<Pixels, String> {
        let channels = self.channels;
        let mut data = room(width, self.height, channels)?;
        let taps = taps(filter, self.width, width);
        for row in self.data.chunks_exact(self.width * channels) {
            for tap in &taps {
                for channel in 0..channels {
                    let pixels = row[tap.first * channels + channel..].iter().step_by(channels);
                    let sum: i32 = tap.weights.iter().zip(pixels).map(|(w, &p)| w * i32::from(p)).sum();
                    let rounded = (sum + (1 << (PRECISION - 1))) >> PRECISION;
                    data.push(rounded.clamp(0, 255) as u8);
                }
            }
        }
        Ok(Pixels { width, height: self.height, channels, data })
    }

    fn transposed(&self) -> Result<Pixels, String> {
        let mut data = room(self.width, self.height, self.channels)?;
        for x in 0..self.width {
            for y in 0..self.height {
                let at = (y * self.width + x) * self.channels;
                data.extend_from_slice(&self.data[at..at + self.channels]);
            }
        }
        Ok(Pixels { width: self.height, height: self.width, channels: self.channels, data })
    }

    /// The window of `height` × `width` whose first pixel is (`top`, `left`); it lies inside.
    pub fn cropped(&self, top: usize, left: usize, height: usize, width: usize) -> Pixels {
        let stride = self.width * self.channels;
        let data = (top..top + height)
            .flat_map(|y| &self.data[y * stride + left * self.channels..][..width * self.channels])
            .copied()
            .collect();
        Pixels { width, height, channels: self.channels, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(data: &[u8]) -> Pixels {
        Pixels { width: data.len(), height: 1, channels: 1, data: data.to_vec() }
    }

    /// Expected values are Pillow 13's `Image.fromarray(x).resize((n, 1), filter)`.
    #[test]
    fn rows_are_resized_as_pillow_does() {
        let x = [0u8, 10, 200, 255, 3, 77, 128, 50, 90, 250];
        for (filter, n, expected) in PILLOW {
            assert_eq!(row(&x).resized(*n, 1, *filter).unwrap().data, *expected, "{filter:?} to {n}");
        }
    }

    const PILLOW: &[(Filter, usize, &[u8])] = &[
        (Filter::Nearest, 4, &[10, 255, 128, 90]),
        (Filter::Nearest, 7, &[0, 200, 255, 77, 128, 50, 250]),
        (Filter::Nearest, 15, &[0, 10, 10, 200, 200, 255, 3, 77, 77, 128, 50, 50, 90, 250, 250]),
        (Filter::Box, 4, &[70, 129, 85, 170]),
        (Filter::Box, 7, &[0, 105, 255, 40, 128, 70, 250]),
        (Filter::Box, 15, &[0, 10, 10, 200, 255, 255, 3, 77, 77, 128, 50, 50, 90, 250, 250]),
        (Filter::Bilinear, 4, &[61, 142, 82, 134]),
        (Filter::Bilinear, 7, &[3, 125, 189, 40, 104, 69, 195]),
        (Filter::Bilinear, 15, &[0, 5, 42, 168, 228, 213, 45, 40, 86, 119, 89, 57, 83, 170, 250]),
        (Filter::Bicubic, 4, &[59, 149, 72, 139]),
        (Filter::Bicubic, 7, &[0, 131, 205, 32, 111, 61, 203]),
        (Filter::Bicubic, 15, &[0, 0, 33, 174, 255, 227, 30, 21, 88, 127, 90, 48, 75, 177, 255]),
        (Filter::Lanczos, 4, &[65, 155, 59, 145]),
        (Filter::Lanczos, 7, &[0, 137, 210, 24, 119, 55, 206]),
        (Filter::Lanczos, 15, &[4, 0, 33, 166, 255, 220, 32, 3, 99, 132, 92, 41, 64, 184, 255]),
    ];

    #[test]
    fn a_constant_image_stays_constant_under_every_filter() {
        let image = Pixels { width: 7, height: 5, channels: 3, data: [9u8, 128, 255].repeat(35) };
        for filter in [Filter::Nearest, Filter::Box, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            for (w, h) in [(3, 2), (7, 11), (20, 5), (1, 1)] {
                let out = image.clone().resized(w, h, filter).unwrap();
                assert_eq!((out.width, out.height), (w, h));
                assert_eq!(out.data, [9u8, 128, 255].repeat(w * h), "{filter:?} to {w}x{h}");
            }
        }
    }

    #[test]
    fn an_image_for_which_there_is_no_memory_is_an_error() {
        let e = row(&[1, 2, 3]).resized(usize::MAX, 1, Filter::Nearest).unwrap_err();
        assert!(e.contains(&format!("bytes for 1 × {} pixels", usize::MAX)), "{e}");
    }

    #[test]
    fn a_crop_is_the_window_asked_for() {
        let image = Pixels { width: 4, height: 3, channels: 1, data: (0..12).collect() };
        assert_eq!(image.cropped(1, 2, 2, 2).data, [6, 7, 10, 11]);
    }
}
