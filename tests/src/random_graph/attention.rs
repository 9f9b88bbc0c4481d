//! Steps that are attention: two products with a softmax between them, as passes recognise them.

use kiln_ir::{DType, Dim, Op, Tensor, Value};

use super::generator::Generator;
use super::range::Range;

/// How an operand lies: its extents, its batch axes, the axis of its queries or keys, and its depth or columns.
struct Lies {
    dims: Vec<usize>,
    batch: Vec<usize>,
    long: usize,
    wide: usize,
}

impl Lies {
    /// Batch axes first, then both others in either order, or the batch axes between these.
    fn new(batch: &[usize], long: usize, wide: usize, order: usize) -> Lies {
        let n = batch.len();
        match order {
            0 => Lies { dims: [batch, &[long], &[wide]].concat(), batch: (0..n).collect(), long: n, wide: n + 1 },
            1 => Lies { dims: [&[long], batch, &[wide]].concat(), batch: (1..=n).collect(), long: 0, wide: n + 1 },
            _ => Lies { dims: [batch, &[wide], &[long]].concat(), batch: (0..n).collect(), long: n + 1, wide: n },
        }
    }
}

impl Generator {
    /// softmax(q · kᵀ · scale + mask) · v. Every row keeps a key, so nothing is NaN.
    pub(super) fn attention(&mut self) -> Option<()> {
        let dtype = DType::F32;
        self.allows(dtype).then_some(())?;
        let batch: &[usize] = [&[][..], &[2], &[3], &[2, 3], &[1, 2]][self.choose(5)];
        // fewer than 8 queries are not fused, and one key makes softmaxes of one element
        let queries = [8, 9, 33, 17, 1][self.choose(5)];
        let keys = [5, 1, 19, 2, 16][self.choose(5)];
        let extents = self.choose(16);
        let (depth, columns) = ([3, 1, 5, 8][extents % 4], [4, 1, 7, 3][extents / 4]);
        let scored = [batch, &[queries, keys]].concat();
        (self.fits(&scored) && self.fits(&[batch, &[queries, columns]].concat())).then_some(())?;
        let orders = self.choose(27);
        let q = Lies::new(batch, queries, depth, orders % 3);
        let k = Lies::new(batch, keys, depth, orders / 3 % 3);
        let v = Lies::new(batch, keys, columns, orders / 9);
        let known = self.choose(4);
        let range = Range::exact(dtype, -2.0, 2.0, 3);
        let products = range.sum_of_products(&range, depth)?;
        // what is known as a whole would be folded
        let [q_value, k_value, v_value] =
            [(&q, false), (&k, known & 1 == 1), (&v, known & 2 == 2)].map(|(operand, known)| {
                let (tensor, _) = self.tensor(dtype, &operand.dims, range.low, range.high);
                self.given(tensor, known)
            });
        let product =
            Op::Dot { lhs_batch: q.batch, rhs_batch: k.batch, lhs_contract: vec![q.wide], rhs_contract: vec![k.wide] };
        let mut scores = self.apart(product, &[q_value, k_value]);
        if let Some(scale) = [None, Some(0.5), Some(0.25)][self.choose(3)] {
            let scale = self.spread(Tensor::from_f64(dtype, &[], &[scale]).ok()?, true, &scored);
            scores = self.apart(Op::Mul {}, &[scores, scale]);
        }
        let (scores, shift) = self.masked(scores, &scored)?;
        let axis = scored.len() - 1;
        let weights = self.apart(Op::Softmax { axis }, &[scores]);
        let product = Op::Dot {
            lhs_batch: (0..batch.len()).collect(),
            rhs_batch: v.batch,
            lhs_contract: vec![axis],
            rhs_contract: vec![v.long],
        };
        // A mean of elements of v. Weights are off by the roundings of their scores, which are as large as the scores, and by
        // those of the exponential and of two sums.
        let roundings = 4.0 * (products.high - products.low + shift) + 32.0 + 2.0 * keys as f64;
        let range = Range::computed(dtype, (range.low, range.high), None, 0.0, (range.magnitude(), roundings))?;
        self.add(product, &[weights, v_value], range).map(drop)
    }

    /// Scores of these extents with some of them masked, or all of them shifted by so much at most.
    fn masked(&mut self, scores: Value, scored: &[usize]) -> Option<(Value, f64)> {
        const SHIFT: f64 = 2.0;
        let kinds = if self.allows(DType::Bool) { 4 } else { 3 };
        let kind = self.choose(kinds);
        if kind == 0 {
            return Some((scores, 0.0));
        }
        let broadcast = self.choose(1 << scored.len());
        let dims: Vec<usize> =
            scored.iter().enumerate().map(|(i, &n)| if broadcast >> i & 1 == 1 { 1 } else { n }).collect();
        let known = self.choose(2) == 1;
        let (noise, _) = self.tensor(DType::F32, &dims, -SHIFT, SHIFT);
        let noise = noise.to_f64_vec();
        let keys = dims[dims.len() - 1];
        let kept = |(i, &x): (usize, &f64)| x >= 0.0 || i % keys == i / keys % keys;
        let kept = noise.iter().enumerate().map(kept);
        let infinity = f64::NEG_INFINITY;
        let (dtype, values): (DType, Vec<f64>) = match kind {
            1 => (DType::F32, kept.map(|kept| if kept { 0.0 } else { infinity }).collect()),
            2 => (DType::F32, noise),
            _ => (DType::Bool, kept.map(|kept| f64::from(u8::from(kept))).collect()),
        };
        let mask = self.spread(Tensor::from_f64(dtype, &dims, &values).ok()?, known, scored);
        let shift = if kind == 2 { 2.0 * SHIFT } else { 0.0 };
        if dtype == DType::F32 {
            return Some((self.apart(Op::Add {}, &[scores, mask]), shift));
        }
        let least = self.spread(Tensor::from_f64(DType::F32, &[], &[infinity]).ok()?, true, scored);
        Some((self.apart(Op::Select {}, &[mask, scores, least]), shift))
    }

    /// A constant or an input of this value, which no other step takes.
    fn given(&mut self, value: Tensor, known: bool) -> Value {
        if known { self.apart(Op::Constant { value: value.into() }, &[]) } else { self.input(value) }
    }

    /// A tensor broadcast to `dims` along its axes of extent 1, or all of them where it is a scalar.
    fn spread(&mut self, value: Tensor, known: bool, dims: &[usize]) -> Value {
        let same = value.dims() == dims;
        let axes = (0..value.dims().len()).collect();
        let value = self.given(value, known);
        if same {
            return value;
        }
        self.apart(Op::Broadcast { dims: dims.iter().copied().map(Dim::Fixed).collect(), axes }, &[value])
    }
}
