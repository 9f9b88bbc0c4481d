//! The matrices of Winograd's minimal filtering, from interpolation points.
//!
//! `F(m, r)` computes `m` results of a filter of `r` taps with `n = m + r − 1` products:
//! `y = Aᵀ((G g) ⊙ (Bᵀ d))`. The matrices are those of Toom and Cook's multiplication of polynomials, evaluated at
//! `n − 1` finite points and at infinity, and transposed (Lavin & Gray 2016, §4; Blahut 2010, §5.2; Barabasz et al. 2018 on
//! how the points decide the error). They are exact in f64 for points that are small multiples of powers of two.

/// A dense matrix, row by row.
pub type Matrix = Vec<Vec<f64>>;

/// The transforms of `F(m, r)` along one axis.
#[derive(Clone, Debug, PartialEq)]
pub struct CookToom {
    /// Results.
    pub m: usize,
    /// Taps.
    pub r: usize,
    /// Of the input: `n × n`.
    pub input: Matrix,
    /// Of the filter: `n × r`.
    pub filter: Matrix,
    /// Of the products: `m × n`.
    pub output: Matrix,
}

/// Interpolation points in order of preference, in pairs of opposite sign after 0, so that transforms halve. Of the
/// points tried, these gave the smallest error for 4 to 6 of them (±1, ±2 twice as much, and four times at worst).
const POINTS: [&[f64]; 8] = [
    &[0.0],
    &[0.0, 1.0],
    &[0.0, 1.0, -1.0],
    &[0.0, 1.0, -1.0, 0.5],
    &[0.0, 0.75, -0.75, 1.5, -1.5],
    &[0.0, 1.0, -1.0, 2.0, -2.0, 0.5],
    &[0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5],
    &[0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 1.5],
];

impl CookToom {
    /// The transforms of `F(m, r)`; `None` where there are fewer than 1 or more than 8 finite points.
    pub fn new(m: usize, r: usize) -> Option<CookToom> {
        let n = (m + r).checked_sub(1)?;
        let points = *POINTS.get(n.checked_sub(2)?)?;
        let last = n - 1;
        let without = |skipped: usize| points.iter().enumerate().filter(move |&(l, _)| l != skipped).map(|(_, &p)| p);
        // the product of (x − p) over some points, constant term first
        let product = |roots: &mut dyn Iterator<Item = f64>| {
            roots.fold(vec![1.0], |polynomial: Vec<f64>, root| {
                let mut next = vec![0.0; polynomial.len() + 1];
                for (i, &c) in polynomial.iter().enumerate() {
                    next[i] -= root * c;
                    next[i + 1] += c;
                }
                next
            })
        };
        let mut input: Matrix = (0..last).map(|j| product(&mut without(j))).collect();
        input.iter_mut().for_each(|row| row.resize(n, 0.0));
        input.push(product(&mut points.iter().copied()));
        let mut filter: Matrix = (0..last)
            .map(|j| {
                let scale: f64 = without(j).map(|p| points[j] - p).product();
                (0..r).map(|k| points[j].powi(k as i32) / scale).collect()
            })
            .collect();
        filter.push((0..r).map(|k| if k + 1 == r { 1.0 } else { 0.0 }).collect());
        let output = (0..m)
            .map(|i| {
                let mut row: Vec<f64> = points.iter().map(|p| p.powi(i as i32)).collect();
                row.push(if i + 1 == m { 1.0 } else { 0.0 });
                row
            })
            .collect();
        Some(CookToom { m, r, input, filter, output })
    }

    /// Products along one axis.
    pub fn products(&self) -> usize {
        self.m + self.r - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(matrix: &Matrix, x: &[f64]) -> Vec<f64> {
        matrix.iter().map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
    }

    #[test]
    fn products_of_transforms_are_the_filter() {
        for (m, r) in [(2, 3), (3, 3), (4, 3), (5, 3), (6, 3), (2, 5), (4, 5), (3, 2), (1, 2)] {
            let t = CookToom::new(m, r).unwrap();
            let n = t.products();
            // small integers: every step is exact but the divisions of the filter's transform
            let d: Vec<f64> = (0..n).map(|i| ((i * 7 + 3) % 11) as f64 - 5.0).collect();
            let g: Vec<f64> = (0..r).map(|i| ((i * 5 + 2) % 7) as f64 - 3.0).collect();
            let (d_t, g_t) = (apply(&t.input, &d), apply(&t.filter, &g));
            let products: Vec<f64> = d_t.iter().zip(&g_t).map(|(a, b)| a * b).collect();
            let y = apply(&t.output, &products);
            for (i, &found) in y.iter().enumerate() {
                let expected: f64 = g.iter().enumerate().map(|(k, g)| g * d[i + k]).sum();
                assert!((found - expected).abs() < 1e-10, "F({m}, {r}): {found} for {expected}");
            }
        }
    }

    #[test]
    fn a_filter_that_is_too_long_has_none() {
        assert_eq!(CookToom::new(8, 3), None);
        assert_eq!(CookToom::new(0, 0), None);
    }
}
