//! Parsers of command-line values. What they refuse is wrong usage, which clap reports.

use std::num::{IntErrorKind, ParseIntError};
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PathBufValueParser, TypedValueParser};
use serde::de::DeserializeOwned;

/// `NAME=N`, as in `batch=1`.
pub fn dim(text: &str) -> Result<(String, usize), String> {
    let (name, extent) = text.split_once('=').ok_or("expected NAME=N, as in batch=1")?;
    let extent = whole(extent).map_err(|e| format!("`{extent}` is not an extent: {e}"))?;
    if name.is_empty() {
        Err("the name before `=` is missing: expected NAME=N, as in batch=1".into())
    } else {
        Ok((name.to_owned(), extent))
    }
}

/// A whole number that is not negative, for an unsigned type.
pub fn whole<T: FromStr<Err = ParseIntError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e: ParseIntError| match e.kind() {
        IntErrorKind::PosOverflow => "it is too large: expected a whole number below 2^64".to_owned(),
        _ => "expected a whole number from 0 up".to_owned(),
    })
}

/// A path of a file to write, refused where it can be told now that there can be none: not after minutes of work.
pub fn output_file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| {
        if path.is_dir() {
            return Err("it is a folder: expected the name of a file in it".to_owned());
        }
        match path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.is_dir()) {
            Some(parent) => {
                Err(format!("there is no folder `{}`: make it, or name a file elsewhere", parent.display()))
            }
            None => Ok(path),
        }
    })
}

/// `INPUT=1x3x48x320`; no extents after the `=` for a scalar.
pub fn shape(text: &str) -> Result<(String, Vec<usize>), String> {
    // Input names may contain `=`, extents do not.
    let (name, extents) = text.rsplit_once('=').ok_or("expected INPUT=1x3x224x224")?;
    if name.is_empty() {
        return Err("the input's name before `=` is missing: expected INPUT=1x3x224x224".into());
    }
    if extents.is_empty() {
        return Ok((name.to_owned(), Vec::new()));
    }
    let extents = extents
        .split(['x', ','])
        .map(|n| whole(n.trim()).map_err(|e| format!("`{n}` is not an extent: {e}; extents stand between `x`")));
    Ok((name.to_owned(), extents.collect::<Result<_, _>>()?))
}

/// `NAME=FILE`, or `FILE` alone for a model's only input.
pub fn feed(text: &str) -> Result<(Option<String>, PathBuf), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("the input's name before `=` is missing: expected NAME=FILE, or FILE alone".into()),
        Some((_, "")) => Err("the file after `=` is missing: expected NAME=FILE".into()),
        Some((name, file)) => Ok((Some(name.to_owned()), file.into())),
        None => Ok((None, text.into())),
    }
}

/// `N` or `HEIGHTxWIDTH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// One number.
    One(usize),
    /// Height and width.
    Two(usize, usize),
}

/// A [`Size`].
pub fn size(text: &str) -> Result<Size, String> {
    let number = |n: &str| match n.parse() {
        Ok(0) | Err(_) => Err(format!("`{n}` is not a number of pixels: expected N or HEIGHTxWIDTH")),
        Ok(n) => Ok(n),
    };
    match text.split_once('x') {
        Some((height, width)) => Ok(Size::Two(number(height)?, number(width)?)),
        None => number(text).map(Size::One),
    }
}

/// A relative error: a number that is not negative.
pub fn tolerance(text: &str) -> Result<f64, String> {
    let number = text.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    number.ok_or_else(|| format!("`{text}` is not a finite number from 0 up, such as 1e-4"))
}

/// A number or a fraction of two: `0.5`, `1/255`.
pub fn real(text: &str) -> Result<f32, String> {
    let number = |n: &str| {
        n.trim()
            .parse::<f64>()
            .map_err(|_| format!("`{n}` is not a number: expected one such as 0.5, or a fraction such as 1/255"))
    };
    let value = match text.split_once('/') {
        Some((above, below)) => number(above)? / number(below)?,
        None => number(text)?,
    } as f32;
    if value.is_finite() {
        Ok(value)
    } else {
        Err(format!("`{text}` is not finite: expected a number such as 0.5, or a fraction such as 1/255"))
    }
}

/// A whole number from 1 on.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "expected a whole number of at least 1".to_owned())
}

/// What values are divided by: [`channels`], none of them 0.
pub fn divisors(text: &str) -> Result<[f32; 3], String> {
    let values = channels(text)?;
    if values.contains(&0.0) {
        Err("values are divided by it: expected numbers other than 0".into())
    } else {
        Ok(values)
    }
}

/// One number for all channels, or three between commas.
pub fn channels(text: &str) -> Result<[f32; 3], String> {
    let values = text.split(',').map(real).collect::<Result<Vec<f32>, String>>()?;
    match values[..] {
        [all] => Ok([all; 3]),
        [a, b, c] => Ok([a, b, c]),
        _ => Err(format!("expected one number or three between commas, found {}", values.len())),
    }
}

/// A value by the name that it has in JSON.
pub fn named<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|e| e.to_string().replace("unknown variant", "there is no"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_dims_are_read() {
        assert_eq!(shape("x=1x3x48x320"), Ok(("x".into(), vec![1, 3, 48, 320])));
        assert_eq!(shape("a=b=2,3"), Ok(("a=b".into(), vec![2, 3])));
        assert_eq!(shape("scalar="), Ok(("scalar".into(), vec![])));
        assert_eq!(dim("batch=4"), Ok(("batch".into(), 4)));
        for wrong in ["x", "=1x2", "x=1x", "x=-1", "x=1 x2y"] {
            assert!(shape(wrong).is_err(), "{wrong}");
        }
        for wrong in ["batch", "=1", "batch=", "batch=-1", "batch=1.5"] {
            assert!(dim(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn feeds_have_a_name_or_none() {
        assert_eq!(feed("x=a=b.npy"), Ok((Some("x".into()), "a=b.npy".into())));
        assert_eq!(feed("a.png"), Ok((None, "a.png".into())));
        assert!(feed("=a.png").is_err() && feed("x=").is_err());
    }

    #[test]
    fn numbers_of_the_preprocessing_are_read() {
        assert_eq!(real("1/255"), Ok(1.0 / 255.0));
        assert_eq!(channels("0.5"), Ok([0.5; 3]));
        assert_eq!(channels("1, 2,3"), Ok([1.0, 2.0, 3.0]));
        assert_eq!((size("256"), size("48x320")), (Ok(Size::One(256)), Ok(Size::Two(48, 320))));
        assert!(channels("1,2").is_err() && real("1/0").is_err() && real("nan").is_err());
        assert_eq!(divisors("-0.5"), Ok([-0.5; 3]));
        assert!(divisors("0").is_err() && divisors("1,-0,1").is_err() && divisors("1,1e-60,1").is_err());
        assert!(at_least_one("0").is_err() && at_least_one("-1").is_err() && at_least_one("2") == Ok(2));
        assert!(size("0").is_err() && size("3x").is_err());
    }
}
