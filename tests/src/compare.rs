//! Comparing the results of two implementations.

use kiln_ir::Tensor;

/// Checks that `found` is `expected` output by output: names and extents equal, elements within the output's absolute
/// tolerance, NaN where NaN is, infinities equal. dtypes may differ where both are floats (an oracle is more precise).
/// The error lists every output that is off, with its worst element.
pub fn check_close(
    expected: &[(String, Tensor)],
    found: &[(String, Tensor)],
    tolerances: &[f64],
) -> Result<(), String> {
    if expected.len() != found.len() || expected.len() != tolerances.len() {
        return Err(format!("{} outputs, {} expected, {} tolerances", found.len(), expected.len(), tolerances.len()));
    }
    let problems: Vec<String> =
        expected.iter().zip(found).zip(tolerances).filter_map(|((e, f), t)| check_output(e, f, *t).err()).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

fn check_output(expected: &(String, Tensor), found: &(String, Tensor), tolerance: f64) -> Result<(), String> {
    let ((name, e), (other, f)) = (expected, found);
    let comparable = e.dtype() == f.dtype() || (e.dtype().is_float() && f.dtype().is_float());
    if name != other || e.dims() != f.dims() || !comparable {
        let (d, g) = (e.dtype(), f.dtype());
        return Err(format!("output `{name}` {d}{:?}: found `{other}` {g}{:?}", e.dims(), f.dims()));
    }
    if e.dtype() == f.dtype() && e.bytes() == f.bytes() {
        return Ok(());
    }
    if e.dtype().is_integer() {
        let (a, b) = (e.to_i64_vec(), f.to_i64_vec());
        return match a.iter().zip(&b).position(|(x, y)| x != y) {
            Some(i) => Err(format!("output `{name}`: element {i} is {}, expected {}", b[i], a[i])),
            None => Ok(()),
        };
    }
    let (a, b) = (e.to_f64_vec(), f.to_f64_vec());
    // 0 where the elements are the same: NaN, infinities and −0 included.
    let distance = |x: f64, y: f64| {
        if x == y || (x.is_nan() && y.is_nan()) {
            0.0
        } else if x.is_nan() || y.is_nan() {
            f64::INFINITY
        } else {
            (x - y).abs()
        }
    };
    let worst = a.iter().zip(&b).map(|(&x, &y)| distance(x, y)).enumerate().max_by(|p, q| p.1.total_cmp(&q.1));
    match worst {
        Some((i, d)) if d > tolerance => Err(format!(
            "output `{name}`: element {i} is {}, expected {}; {d:e} apart, {tolerance:e} allowed",
            b[i], a[i]
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(values: &[f32]) -> Vec<(String, Tensor)> {
        vec![("y".into(), Tensor::from_slice(&[values.len()], values).expect("fits"))]
    }

    #[test]
    fn what_is_too_far_apart_is_said_with_its_worst_element() {
        let check = |a: &[f32], b: &[f32], t| check_close(&one(a), &one(b), &[t]);
        assert_eq!(check(&[1.0, f32::NAN, f32::INFINITY, 0.0], &[1.25, f32::NAN, f32::INFINITY, -0.0], 0.25), Ok(()));
        let error = check(&[1.0, 2.0], &[1.25, 3.0], 0.5).unwrap_err();
        assert_eq!(error, "output `y`: element 1 is 3, expected 2; 1e0 apart, 5e-1 allowed");
        for (a, b) in [(f32::NAN, 0.0), (0.0, f32::NAN), (f32::INFINITY, f32::NEG_INFINITY), (f32::INFINITY, 1.0)] {
            assert!(check(&[a], &[b], 1e30).unwrap_err().contains("inf apart"));
        }
        assert!(check(&[1.0], &[1.0, 2.0], 0.0).unwrap_err().contains("f32[2]"));
    }
}
