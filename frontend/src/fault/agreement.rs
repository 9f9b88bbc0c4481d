//! How far results are from the reference.

use std::fmt;

use kiln_ir::{DType, Graph, Tensor};

/// Results by name, in signature order.
pub type Results = Vec<(String, Tensor)>;

/// The element of an output that is farthest from the reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The output.
    pub output: String,
    /// The element's place in row-major order.
    pub element: usize,
    /// What was computed.
    pub found: f64,
    /// What the reference says.
    pub expected: f64,
    /// The distance, relative to the output's largest finite number in the reference (absolute, where that is 0);
    /// infinite where one of the two is NaN, or an infinity, and the other is not.
    pub error: f64,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { output, element, found, expected, error } = self;
        write!(
            f,
            "output `{output}`, element {element}: {found:?} where {expected:?} is right, an error of {error:.1e}"
        )
    }
}

/// The tolerance for results of a graph, relative to an output's largest number: what rounding in another order may
/// add up to over the layers of a deep network, in the least precise float type that the graph computes in. 0 for a graph without
/// floats.
pub fn default_tolerance(graph: &Graph) -> f64 {
    let types = graph.node_ids().flat_map(|id| graph.node(id).types.iter());
    let of = |dtype: DType| match dtype {
        // a thousand roundings and more
        DType::F64 => 1e-9,
        DType::F32 => 1e-4,
        // a dozen roundings
        DType::F16 => 1e-2,
        DType::BF16 => 5e-2,
        DType::I64 | DType::I32 | DType::I8 | DType::U8 | DType::Bool => 0.0,
    };
    types.map(|ty| of(ty.dtype)).fold(0.0, f64::max)
}

/// The largest of the differences of all outputs; `None` where there is no element. Integers are compared exactly where they are no more than 2⁵³.
pub fn largest_difference(expected: &Results, found: &Results) -> Option<Difference> {
    let each = expected.iter().zip(found).filter_map(|((name, e), (_, f))| of_output(name, e, f));
    each.reduce(|worst, next| if next.error > worst.error { next } else { worst })
}

fn of_output(name: &str, expected: &Tensor, found: &Tensor) -> Option<Difference> {
    let (e, f) = (expected.to_f64_vec(), found.to_f64_vec());
    let largest = e.iter().copied().filter(|v| v.is_finite()).fold(0.0, |a: f64, v| a.max(v.abs()));
    let scale = if largest > 0.0 { largest } else { 1.0 };
    let distance = |x: f64, y: f64| {
        if x == y || (x.is_nan() && y.is_nan()) {
            0.0
        } else if x.is_finite() && y.is_finite() {
            (x - y).abs() / scale
        } else {
            f64::INFINITY
        }
    };
    let errors = e.iter().zip(&f).map(|(&x, &y)| distance(x, y)).enumerate();
    // of equal ones the first
    let (element, error) = errors.reduce(|worst, next| if next.1 > worst.1 { next } else { worst })?;
    Some(Difference { output: name.to_owned(), element, found: f[element], expected: e[element], error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(values: &[f32]) -> Results {
        vec![("y".into(), Tensor::from_slice(&[values.len()], values).expect("fits"))]
    }

    #[test]
    fn the_worst_element_is_relative_to_the_largest_number() {
        let worst = largest_difference(&one(&[1.0, -4.0, f32::NAN]), &one(&[1.5, -3.0, f32::NAN])).expect("elements");
        assert_eq!((worst.element, worst.found, worst.expected, worst.error), (1, -3.0, -4.0, 0.25));
        assert_eq!(largest_difference(&one(&[0.0]), &one(&[0.5])).map(|d| d.error), Some(0.5));
        assert_eq!(largest_difference(&one(&[]), &one(&[])), None);
    }

    #[test]
    fn what_is_no_number_agrees_with_itself_only() {
        for (a, b) in [(f32::NAN, 0.0), (1.0, f32::NAN), (f32::INFINITY, 1.0), (f32::INFINITY, f32::NEG_INFINITY)] {
            assert_eq!(largest_difference(&one(&[a]), &one(&[b])).map(|d| d.error), Some(f64::INFINITY), "{a} {b}");
            assert_eq!(largest_difference(&one(&[a]), &one(&[a])).map(|d| d.error), Some(0.0), "{a}");
        }
    }

    #[test]
    fn the_tolerance_is_that_of_the_least_precise_float_type() {
        let of = |text: &str| {
            let graph = kiln_ir::text::parse(&format!("kiln 1\ngraph @g{text}"), "t").unwrap_or_else(|e| panic!("{e}"));
            default_tolerance(&graph)
        };
        assert_eq!(of("(%x: i32[2]) -> (%y) {\n  %y = neg %x\n}\n"), 0.0);
        assert_eq!(of("(%x: f32[2]) -> (%y) {\n  %y = neg %x\n}\n"), 1e-4);
        assert_eq!(of("(%x: f32[2]) -> (%z) {\n  %y = convert %x : f16[2]\n  %z = convert %y : f32[2]\n}\n"), 1e-2);
    }
}
