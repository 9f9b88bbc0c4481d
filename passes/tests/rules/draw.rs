//! Drawing a random graph.

use kiln_ir::attribute::Padding;
use kiln_ir::{Builder, DType, Dim, Graph, Op, Tensor, Value};

/// A builder with a source of random numbers.
pub struct Draw {
    pub b: Builder,
    state: u64,
    inputs: usize,
}

impl Draw {
    /// The graph that `make` draws from `seed`.
    pub fn graph(seed: u64, make: fn(&mut Draw)) -> Graph {
        // mixed, for the first numbers of neighbouring states are alike (Steele et al. 2014, figure 5)
        let state = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let state = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let state = (state ^ state >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        let state = state ^ state >> 31;
        let mut draw = Draw { b: Builder::new("drawn"), state, inputs: 0 };
        make(&mut draw);
        draw.b.finish().unwrap_or_else(|e| panic!("seed {seed}: {e}"))
    }

    /// A number below `n` (xorshift64, Marsaglia 2003).
    pub fn below(&mut self, n: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) as usize % n
    }

    pub fn chance(&mut self) -> bool {
        self.below(2) == 0
    }

    /// One of `all`.
    pub fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// An extent from 2 to 4.
    pub fn extent(&mut self) -> usize {
        2 + self.below(3)
    }

    /// Extents from 2 to 4.
    pub fn dims(&mut self, rank: usize) -> Vec<usize> {
        (0..rank).map(|_| self.extent()).collect()
    }

    /// Extents of a random rank from 1 to 3.
    pub fn any_dims(&mut self) -> Vec<usize> {
        let rank = 1 + self.below(3);
        self.dims(rank)
    }

    /// Extents of which a slice by [`Draw::some`] leaves little.
    pub fn tall(&mut self) -> Vec<usize> {
        vec![48 + self.below(5), 48 + self.below(5)]
    }

    /// A slice of `x` along all axes as an output: at most three elements of each.
    pub fn some(&mut self, x: Value) {
        let dims = self.extents(x);
        let cut = |draw: &mut Draw, n: usize| {
            let start = draw.below(n);
            (start, (start + 1 + draw.below(3)).min(n))
        };
        let cuts: Vec<(usize, usize)> = dims.iter().map(|&n| cut(self, n)).collect();
        let (start, limit): (Vec<usize>, Vec<usize>) = cuts.into_iter().unzip();
        let stride = if self.chance() { vec![2; dims.len()] } else { vec![] };
        let y = self.b.slice(x, &start, &limit, &stride);
        self.output(y);
    }

    /// A permutation of `0..n` that moves something, where n > 1.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        loop {
            let mut perm: Vec<usize> = (0..n).collect();
            (1..n).for_each(|i| perm.swap(i, self.below(i + 1)));
            if n < 2 || !perm.is_sorted() {
                return perm;
            }
        }
    }

    /// A fed value.
    pub fn input(&mut self, dims: &[usize]) -> Value {
        self.input_of("x", DType::F32, dims)
    }

    /// A fed value of numbers from ½ to 1½.
    pub fn positive(&mut self, dims: &[usize]) -> Value {
        self.input_of("positive", DType::F32, dims)
    }

    /// A fed value whose name begins with `name`.
    pub fn input_of(&mut self, name: &str, dtype: DType, dims: &[usize]) -> Value {
        self.inputs += 1;
        self.b.placeholder(&format!("{name}{}", self.inputs), dtype, &fixed(dims))
    }

    /// Integers from −4 to 4 without 0, not all the same where there are several.
    pub fn weights(&mut self, dims: &[usize]) -> Value {
        let n = dims.iter().product();
        let mut values: Vec<f32> = (0..n).map(|_| self.number()).collect();
        if n > 1 && values.iter().all(|v| *v == values[0]) {
            values[0] = -values[0];
        }
        self.b.constant(Tensor::from_slice(dims, &values).unwrap())
    }

    /// An integer from −4 to 4 that is not 0.
    pub fn number(&mut self) -> f32 {
        let magnitude = 1 + self.below(4);
        if self.chance() { magnitude as f32 } else { -(magnitude as f32) }
    }

    /// A number in every element, as a broadcast.
    pub fn filled(&mut self, dims: &[usize], value: f64) -> Value {
        let number = self.b.scalar(DType::F32, value);
        self.broadcast(number, dims, &[])
    }

    /// A constant vector along `axis`, or (sometimes) a number, broadcast to `dims`.
    pub fn along(&mut self, dims: &[usize], axis: usize) -> Value {
        if self.below(4) == 0 {
            let number = f64::from(self.number());
            return self.filled(dims, number);
        }
        let vector = self.weights(&dims[axis..=axis]);
        self.broadcast(vector, dims, &[axis])
    }

    pub fn broadcast(&mut self, x: Value, dims: &[usize], axes: &[usize]) -> Value {
        self.add(Op::Broadcast { dims: fixed(dims), axes: axes.to_vec() }, &[x])
    }

    pub fn reshape(&mut self, x: Value, dims: &[usize]) -> Value {
        self.add(Op::Reshape { dims: fixed(dims) }, &[x])
    }

    /// A node, as it is written here: the builder adds nothing.
    pub fn add(&mut self, op: Op, operands: &[Value]) -> Value {
        self.b.add_op(op, operands)
    }

    pub fn extents(&self, x: Value) -> Vec<usize> {
        self.b.dims(x).iter().map(|d| d.fixed().unwrap()).collect()
    }

    /// From 0 to 2 elements at either end.
    pub fn padding(&mut self) -> Padding {
        Padding { low: self.below(3) as i64, high: self.below(3) as i64 }
    }

    pub fn output(&mut self, v: Value) {
        let name = format!("y{}", self.b.graph().outputs().len());
        self.b.output(&name, v);
    }
}

pub fn fixed(dims: &[usize]) -> Vec<Dim> {
    dims.iter().copied().map(Dim::Fixed).collect()
}
