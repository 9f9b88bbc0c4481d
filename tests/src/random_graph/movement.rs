//! Steps that move elements.

use kiln_ir::attribute::{Padding, Real, ScatterMode};
use kiln_ir::{DType, Dim, Op};

use super::generator::Generator;

impl Generator {
    pub(super) fn reshape(&mut self) -> Option<()> {
        let x = self.value(|_, _| true)?;
        let dims = self.dims(x);
        let total: usize = dims.iter().product();
        // Joins all axes, or splits them in two, or adds an axis.
        let new: Vec<usize> = match self.choose(3) {
            0 => vec![total],
            1 => {
                let divisors: Vec<usize> = (1..=total).filter(|d| total.is_multiple_of(*d)).collect();
                let first = self.one_of(&divisors)?;
                vec![first, total / first]
            }
            _ => [&dims[..], &[1]].concat(),
        };
        (new.len() <= 5).then_some(())?;
        let range = self.range(x);
        self.add(Op::Reshape { dims: new.into_iter().map(Dim::Fixed).collect() }, &[x], range).map(drop)
    }

    pub(super) fn transpose(&mut self) -> Option<()> {
        let x = self.value(|ty, _| ty.rank() >= 2)?;
        let mut left: Vec<usize> = (0..self.dims(x).len()).collect();
        let mut perm = Vec::new();
        while !left.is_empty() {
            // From the last: all-zero choices turn the axes around.
            let i = left.len() - 1 - self.choose(left.len());
            perm.push(left.remove(i));
        }
        let range = self.range(x);
        self.add(Op::Transpose { perm }, &[x], range).map(drop)
    }

    pub(super) fn broadcast(&mut self) -> Option<()> {
        let x = self.value(|ty, _| ty.rank() <= 3)?;
        let (mut dims, at) = (self.dims(x), self.choose(4));
        let at = at.min(dims.len());
        for d in dims.iter_mut().filter(|d| **d == 1) {
            *d = 2 + self.choose(3);
        }
        let new = 2 + self.choose(3);
        dims.insert(at, new);
        self.fits(&dims).then_some(())?;
        let axes = (0..dims.len()).filter(|&i| i != at).collect();
        let range = self.range(x);
        self.add(Op::Broadcast { dims: dims.into_iter().map(Dim::Fixed).collect(), axes }, &[x], range).map(drop)
    }

    pub(super) fn slice(&mut self) -> Option<()> {
        let x = self.value(|ty, _| ty.rank() >= 1)?;
        let (mut start, mut limit, mut stride) = (Vec::new(), Vec::new(), Vec::new());
        for n in self.dims(x) {
            let s = self.choose(n);
            start.push(s);
            limit.push(s + 1 + self.choose(n - s));
            stride.push(1 + self.choose(3));
        }
        let stride = if self.choose(2) == 0 { Vec::new() } else { stride };
        let range = self.range(x);
        self.add(Op::Slice { start, limit, stride }, &[x], range).map(drop)
    }

    pub(super) fn pad(&mut self) -> Option<()> {
        let x = self.value(|ty, _| ty.rank() >= 1)?;
        let mut dims = self.dims(x);
        let (mut padding, mut interior) = (Vec::new(), Vec::new());
        for d in &mut dims {
            let (low, high, inside) = (self.choose(3), self.choose(3), self.choose(2));
            *d = *d + (*d - 1) * inside + low + high;
            padding.push(Padding { low: low as i64, high: high as i64 });
            interior.push(inside);
        }
        self.fits(&dims).then_some(())?;
        let value = [0.0, 1.0][self.choose(2)];
        let range = self.range(x).with(value);
        self.add(Op::Pad { padding, interior, value: Real(value) }, &[x], range).map(drop)
    }

    pub(super) fn concat(&mut self) -> Option<()> {
        let x = self.value(|ty, _| ty.rank() >= 1)?;
        let (ty, dims) = (self.ty(x).clone(), self.dims(x));
        let axis = self.choose(dims.len());
        let y = self.value(|t, _| {
            let others = t.dims.iter().zip(&ty.dims).enumerate().all(|(i, (a, b))| i == axis || a == b);
            t.dtype == ty.dtype && t.rank() == ty.rank() && others
        })?;
        let mut joined = dims;
        joined[axis] += self.dims(y)[axis];
        self.fits(&joined).then_some(())?;
        let range = self.range(x).union(&self.range(y));
        self.add(Op::Concat { axis }, &[x, y], range).map(drop)
    }

    pub(super) fn reverse(&mut self) -> Option<()> {
        let x = self.value(|ty, _| ty.rank() >= 1)?;
        let axes = (0..self.dims(x).len()).filter(|_| self.choose(2) == 0).collect();
        let range = self.range(x);
        self.add(Op::Reverse { axes }, &[x], range).map(drop)
    }

    pub(super) fn gather(&mut self) -> Option<()> {
        let x = self.value(|ty, _| ty.rank() >= 1)?;
        let dims = self.dims(x);
        let axis = self.choose(dims.len());
        let indices = self.indices(dims[axis])?;
        let result = [&dims[..axis], &self.dims(indices)[..], &dims[axis + 1..]].concat();
        self.fits(&result).then_some(())?;
        let range = self.range(x);
        self.add(Op::Gather { axis }, &[x, indices], range).map(drop)
    }

    /// Indices into an axis of `extent` elements, some of them beyond its ends.
    fn indices(&mut self, extent: usize) -> Option<kiln_ir::Value> {
        let index = |d| matches!(d, DType::I64 | DType::I32);
        let given = self.value(|ty, _| index(ty.dtype) && ty.rank() <= 1);
        if self.choose(2) == 1 && given.is_some() {
            return given;
        }
        let dtype = self.dtype(index)?;
        let dims = [vec![3], vec![2, 2], vec![]][self.choose(3)].clone();
        self.fresh_within(dtype, &dims, -1.0, extent as f64)
    }

    pub(super) fn scatter(&mut self) -> Option<()> {
        let x = self.value(|ty, _| ty.rank() >= 1)?;
        let (dims, r) = (self.dims(x), self.range(x));
        let axis = self.choose(dims.len());
        let indices = self.indices(dims[axis])?;
        let places = self.dims(indices);
        let count: usize = places.iter().product();
        let shape = [&dims[..axis], &places[..], &dims[axis + 1..]].concat();
        self.fits(&shape).then_some(())?;
        let updates = self.fresh(r.dtype, &shape)?;
        let u = self.range(updates);
        let modes = [ScatterMode::Replace, ScatterMode::Add, ScatterMode::Max, ScatterMode::Min, ScatterMode::Mul];
        let mode = if r.dtype == DType::Bool { ScatterMode::Replace } else { self.one_of(&modes)? };
        let range = match mode {
            ScatterMode::Replace | ScatterMode::Max | ScatterMode::Min => r.union(&u),
            // An element meets at most `count` updates.
            ScatterMode::Add => r.union(&u).sum(count + 1)?,
            ScatterMode::Mul => {
                let mut product = r;
                for _ in 0..count {
                    let inherited = product.error * u.magnitude();
                    let fraction = product.fraction.zip(u.fraction).map(|(a, b)| a + b);
                    let (low, high) = product.products(&u);
                    let (low, high) = (low.min(product.low), high.max(product.high));
                    product = super::Range::computed(r.dtype, (low, high), fraction, inherited, (0.0, 1.0))?;
                }
                product
            }
        };
        self.add(Op::Scatter { axis, mode }, &[x, indices, updates], range).map(drop)
    }
}
