//! Evaluating constant expressions at compile time.
//!
//! The reference interpreter defines every op. Beside it stand two shortcuts for what weights go through (a model
//! has a hundred megabytes of them): movement is a strided view that costs nothing until it is stored, or copies of
//! whole runs, and `add`, `sub`, `mul`, `div` of f32 and f64 are plain loops with the interpreter's own arithmetic.
//! Large results of either are deferred: whoever packs a weight works it out in memory that the next one uses again.

use bytes::Bytes;
use kiln_ir::tensor::element_count;
use kiln_ir::{DType, Graph, Op, Tensor, Value, interp};

/// A constant seen through strides: element `i` is `tensor[start + Σ i[a] · strides[a]]`.
#[derive(Clone, Debug)]
pub struct View {
    tensor: Tensor,
    start: usize,
    dims: Vec<usize>,
    strides: Vec<usize>,
}

impl View {
    /// All of a tensor.
    pub fn of(tensor: &Tensor) -> View {
        View { start: 0, dims: tensor.dims().to_vec(), strides: row_major(tensor.dims()), tensor: tensor.clone() }
    }

    /// The value `v` as a view, where it is a constant under transposes and broadcasts.
    pub fn of_value(graph: &Graph, v: Value) -> Option<View> {
        let node = graph.node(v.node);
        match &node.op {
            Op::Constant { value } => Some(View::of(value.tensor())),
            Op::Transpose { perm } => {
                let x = View::of_value(graph, *node.operands.first()?)?;
                let pick = |list: &[usize]| perm.iter().map(|&p| list[p]).collect();
                Some(View { dims: pick(&x.dims), strides: pick(&x.strides), ..x })
            }
            Op::Broadcast { axes, .. } => {
                let x = View::of_value(graph, *node.operands.first()?)?;
                let dims = node.types.first()?.static_dims()?;
                let mut strides = vec![0; dims.len()];
                for (i, &a) in axes.iter().enumerate() {
                    strides[a] = if x.dims[i] == dims[a] { x.strides[i] } else { 0 };
                }
                Some(View { dims, strides, ..x })
            }
            _ => None,
        }
    }

    /// Every `stride`-th element from `start` to `limit` of each axis; empty strides mean 1.
    fn slice(&self, start: &[usize], limit: &[usize], stride: &[usize]) -> View {
        let step = |axis: usize| stride.get(axis).copied().unwrap_or(1).max(1);
        let extent = |(axis, (&s, &l)): (usize, (&usize, &usize))| (l - s).div_ceil(step(axis));
        let dims: Vec<usize> = start.iter().zip(limit).enumerate().map(extent).collect();
        // the stride of an axis of one element says nothing, and could overflow
        let along = |axis: usize| if dims[axis] > 1 { self.strides[axis] * step(axis) } else { 0 };
        let strides = (0..dims.len()).map(along).collect();
        let offset: usize = start.iter().zip(&self.strides).map(|(s, stride)| s * stride).sum();
        let start = if dims.contains(&0) { self.start } else { self.start + offset };
        View { tensor: self.tensor.clone(), start, dims, strides }
    }

    /// Bytes of the view, stored densely.
    pub fn byte_count(&self) -> Option<usize> {
        element_count(&self.dims)?.checked_mul(self.tensor.dtype().size())
    }

    /// Bytes of the tensor under the view.
    pub fn stored_bytes(&self) -> usize {
        self.tensor.byte_len()
    }

    fn is_dense(&self) -> bool {
        let dense = row_major(&self.dims);
        let same = self.strides.iter().zip(&dense).zip(&self.dims).all(|((s, d), &n)| n == 1 || s == d);
        same && Some(self.tensor.len()) == element_count(&self.dims)
    }

    /// The view's elements as a dense tensor.
    pub fn store(&self) -> Option<Tensor> {
        if self.is_dense() {
            return self.tensor.reshape(&self.dims).ok();
        }
        let view = self.clone();
        made(self.tensor.dtype(), &self.dims, move |out| view.copy(out))
    }

    /// Writes the view's elements in row-major order.
    fn copy(&self, out: &mut [u8]) {
        match self.tensor.dtype().size() {
            1 => self.gather::<1>(out),
            2 => self.gather::<2>(out),
            4 => self.gather::<4>(out),
            _ => self.gather::<8>(out),
        }
    }

    /// The tensor's elements from the view's first on.
    fn elements<const N: usize>(&self) -> &[[u8; N]] {
        self.tensor.bytes().as_chunks::<N>().0.get(self.start..).unwrap_or_default()
    }

    fn gather<const N: usize>(&self, out: &mut [u8]) {
        let source = self.elements::<N>();
        fill(out.as_chunks_mut::<N>().0, &self.dims, [&self.strides], |row, [from], [step]| match step {
            1 => row.copy_from_slice(&source[from..from + row.len()]),
            _ => row.iter_mut().enumerate().for_each(|(i, t)| *t = source[from + i * step]),
        });
    }
}

fn row_major(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(dims[i]);
    }
    strides
}

/// The tensor that `fill` writes, deferred where it is large; `None` where memory has no room for it: what does not fit
/// is not evaluated here.
fn made(dtype: DType, dims: &[usize], fill: impl Fn(&mut [u8]) + Send + Sync + 'static) -> Option<Tensor> {
    /// Bytes from which a tensor is deferred: no rule looks at the elements of one so large.
    const LARGE: usize = 64 << 10;
    let bytes = element_count(dims)?.checked_mul(dtype.size())?;
    if bytes >= LARGE {
        return Tensor::deferred(dtype, dims, fill).ok();
    }
    let mut out = vec![0; bytes];
    fill(&mut out);
    Tensor::from_bytes(dtype, dims, Bytes::from(out)).ok()
}

/// Fills a row-major tensor run by run along its last axis: `body` gets a run and, for each source, its first element
/// there and its step. Large tensors are shared out among threads; each element is worked out alone, so their number
/// changes nothing.
fn fill<const N: usize, const S: usize>(
    target: &mut [[u8; N]],
    dims: &[usize],
    strides: [&[usize]; S],
    body: impl Fn(&mut [[u8; N]], [usize; S], [usize; S]) + Sync,
) {
    /// Bytes below which a thread costs more than it saves.
    const SHARED: usize = 1 << 20;
    let serial = |target: &mut [[u8; N]], dims: &[usize], offset: [usize; S]| {
        tiles(dims, strides, |at, n, mut from, step| {
            from.iter_mut().zip(offset).for_each(|(f, o)| *f += o);
            body(&mut target[at..at + n], from, step);
        });
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
    let axis = dims.iter().position(|&n| n > 1).filter(|_| threads > 1 && target.len() * N >= SHARED);
    let Some(axis) = axis else { return serial(target, dims, [0; S]) };
    let share = dims[axis].div_ceil(threads);
    let below: usize = dims[axis + 1..].iter().product();
    std::thread::scope(|scope| {
        for (i, part) in target.chunks_mut(share * below).enumerate() {
            let mut dims = dims.to_vec();
            dims[axis] = part.len() / below;
            let offset = strides.map(|s| i * share * s[axis]);
            let serial = &serial;
            scope.spawn(move || serial(part, &dims, offset));
        }
    });
}

/// Visits a row-major tensor in runs along its last axis: `visit` gets the run's first element, its length, and for
/// each source its first element there and its step.
///
/// The runs follow the first source through memory, its widest strides outermost, and are a few cache lines long: so a
/// transposed source is read in order, from some dozens of places at a time, while the result is written in whole lines.
/// (Of 4, 8, 16 and 64 elements, 64 was the fastest on a ResNet-50's weights, twice as fast as 8.)
fn tiles<const S: usize>(
    dims: &[usize],
    strides: [&[usize]; S],
    mut visit: impl FnMut(usize, usize, [usize; S], [usize; S]),
) {
    const RUN: usize = 64;
    if dims.contains(&0) {
        return;
    }
    let Some(last) = dims.len().checked_sub(1) else { return visit(0, 1, [0; S], [0; S]) };
    let out = row_major(dims);
    let step = strides.map(|s| s[last]);
    let run = if step.first() == Some(&1) { dims[last] } else { RUN };
    let mut axes: Vec<usize> = (0..last).collect();
    axes.sort_by_key(|&a| std::cmp::Reverse(strides.first().map_or(0, |s| s[a])));
    for start in (0..dims[last]).step_by(run) {
        let n = run.min(dims[last] - start);
        let mut index = vec![0usize; axes.len()];
        loop {
            let place = |s: &[usize]| axes.iter().zip(&index).map(|(&a, &i)| i * s[a]).sum::<usize>();
            let inner = axes.last().copied();
            let (at, from) = (place(&out) + start, strides.map(|s| place(s) + start * s[last]));
            for i in 0..inner.map_or(1, |a| dims[a]) {
                let moved = |s: &[usize]| inner.map_or(0, |a| i * s[a]);
                let mut places = from;
                places.iter_mut().zip(strides).for_each(|(p, s)| *p += moved(s));
                visit(at + moved(&out), n, places, step);
            }
            let outer = axes.len().saturating_sub(1);
            if !advance(&mut index[..outer], &axes[..outer], dims) {
                break;
            }
        }
    }
}

/// The next index over `axes`, last fastest; false after the last one.
fn advance(index: &mut [usize], axes: &[usize], dims: &[usize]) -> bool {
    for (i, &a) in index.iter_mut().zip(axes).rev() {
        *i += 1;
        if *i < dims[a] {
            return true;
        }
        *i = 0;
    }
    false
}

/// The results of `op` for constant operands; `None` where there are none (an op that is not pure, or an error).
pub fn fold(op: &Op, operands: &[View]) -> Option<Vec<Tensor>> {
    macro_rules! arithmetic {
        ($float:ty, $x:expr, $y:expr, $operator:tt) => {
            binary(|a, b| (<$float>::from_le_bytes(a) $operator <$float>::from_le_bytes(b)).to_le_bytes(), $x, $y)
        };
    }
    if let [x, y] = operands
        && x.dims == y.dims
        && x.tensor.dtype() == y.tensor.dtype()
    {
        let result = match (op, x.tensor.dtype()) {
            (Op::Add {}, DType::F32) => arithmetic!(f32, x, y, +),
            (Op::Sub {}, DType::F32) => arithmetic!(f32, x, y, -),
            (Op::Mul {}, DType::F32) => arithmetic!(f32, x, y, *),
            (Op::Div {}, DType::F32) => arithmetic!(f32, x, y, /),
            (Op::Add {}, DType::F64) => arithmetic!(f64, x, y, +),
            (Op::Sub {}, DType::F64) => arithmetic!(f64, x, y, -),
            (Op::Mul {}, DType::F64) => arithmetic!(f64, x, y, *),
            (Op::Div {}, DType::F64) => arithmetic!(f64, x, y, /),
            _ => None,
        };
        if let Some(tensor) = result {
            return Some(vec![tensor]);
        }
    }
    match (op, operands) {
        (Op::Reshape { dims }, [x]) => {
            let dims: Option<Vec<usize>> = dims.iter().map(kiln_ir::Dim::fixed).collect();
            Some(vec![x.store()?.reshape(&dims?).ok()?])
        }
        (Op::Slice { start, limit, stride }, [x]) => Some(vec![x.slice(start, limit, stride).store()?]),
        (Op::Concat { axis }, [_, ..]) => Some(vec![concat(operands, *axis)?]),
        _ => {
            let tensors: Option<Vec<Tensor>> = operands.iter().map(View::store).collect();
            interp::fold(op, &tensors?).ok()
        }
    }
}

/// The parts one after the other along `axis`.
fn concat(parts: &[View], axis: usize) -> Option<Tensor> {
    let first = parts.first()?;
    let (dtype, mut dims) = (first.tensor.dtype(), first.dims.clone());
    dims[axis] = parts.iter().map(|p| p.dims[axis]).sum();
    let parts = parts.to_vec();
    // bytes of a part from one index of the axes before `axis` to the next
    let run = |dims: &[usize]| dims[axis..].iter().product::<usize>() * dtype.size();
    let whole = run(&dims);
    let runs: Vec<usize> = parts.iter().map(|p| run(&p.dims)).collect();
    made(dtype, &dims, move |out| {
        let mut at = 0;
        for (part, &run) in parts.iter().zip(&runs).filter(|(_, run)| **run > 0) {
            let mut bytes = vec![0; part.byte_count().unwrap_or(0)];
            part.copy(&mut bytes);
            for (to, from) in out.chunks_exact_mut(whole).zip(bytes.chunks_exact(run)) {
                to[at..at + run].copy_from_slice(from);
            }
            at += run;
        }
    })
}

/// `apply` of each element of x and of y, which have the same dims and elements of N bytes, as the result is.
fn binary<const N: usize>(
    apply: impl Fn([u8; N], [u8; N]) -> [u8; N] + Send + Sync + 'static,
    x: &View,
    y: &View,
) -> Option<Tensor> {
    let (x, y) = (x.clone(), y.clone());
    made(x.tensor.dtype(), &x.dims.clone(), move |out| combine(&apply, &x, &y, out))
}

fn combine<const N: usize>(apply: &(impl Fn([u8; N], [u8; N]) -> [u8; N] + Sync), x: &View, y: &View, out: &mut [u8]) {
    let (p, q) = (x.elements::<N>(), y.elements::<N>());
    // The larger source is followed through memory; the smaller one stays in the cache.
    let flip = y.stored_bytes() > x.stored_bytes();
    let strides = if flip { [&y.strides[..], &x.strides] } else { [&x.strides[..], &y.strides] };
    fill(out.as_chunks_mut::<N>().0, &x.dims, strides, |row, from, step| {
        let ([i, j], [di, dj]) = if flip { ([from[1], from[0]], [step[1], step[0]]) } else { (from, step) };
        let n = row.len();
        match (di, dj) {
            (1, 0) => row.iter_mut().zip(&p[i..i + n]).for_each(|(t, &a)| *t = apply(a, q[j])),
            (1, 1) => {
                row.iter_mut().zip(p[i..i + n].iter().zip(&q[j..j + n])).for_each(|(t, (&a, &b))| *t = apply(a, b));
            }
            _ => row.iter_mut().enumerate().for_each(|(k, t)| *t = apply(p[i + k * di], q[j + k * dj])),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_ir::Builder;

    fn counting(dims: &[usize]) -> Tensor {
        let n = dims.iter().product::<usize>();
        Tensor::from_slice(dims, &(0..n).map(|i| i as f32).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_transposed_view_stores_every_element_at_its_place() {
        for (dims, perm) in [(vec![3, 5], vec![1, 0]), (vec![33, 20, 3, 2], vec![2, 3, 1, 0]), (vec![4], vec![0])] {
            let mut b = Builder::new("t");
            let x = b.constant(counting(&dims));
            let y = b.add_op(Op::Transpose { perm: perm.clone() }, &[x]);
            let got = View::of_value(b.graph(), y).unwrap().store().unwrap();
            let values = got.to_vec::<f32>().unwrap();
            let strides = row_major(&dims);
            let mut index = vec![0; dims.len()];
            let axes: Vec<usize> = (0..dims.len()).collect();
            for v in values {
                let at: usize = index.iter().zip(&perm).map(|(i, &p)| i * strides[p]).sum();
                assert_eq!(v, at as f32, "{dims:?} {perm:?} {index:?}");
                advance(&mut index, &axes, got.dims());
            }
        }
    }

    #[test]
    fn slices_and_joins_of_views_have_every_element_at_its_place() {
        let x = counting(&[6, 5]);
        let mut b = Builder::new("t");
        let c = b.constant(x);
        let turned = b.transpose(c, &[1, 0]);
        let view = View::of_value(b.graph(), turned).unwrap();
        let slice = Op::Slice { start: vec![1, 2], limit: vec![5, 6], stride: vec![3, 1] };
        let cut = fold(&slice, std::slice::from_ref(&view)).unwrap().remove(0);
        assert_eq!(
            (cut.dims(), cut.to_vec::<f32>().unwrap()),
            (&[2, 4][..], vec![11., 16., 21., 26., 14., 19., 24., 29.])
        );
        let empty = Op::Slice { start: vec![5, 6], limit: vec![5, 6], stride: vec![] };
        assert_eq!(fold(&empty, std::slice::from_ref(&view)).unwrap()[0].dims(), [0, 0]);
        let one = Op::Slice { start: vec![4, 5], limit: vec![5, 6], stride: vec![usize::MAX, 9] };
        assert_eq!(fold(&one, std::slice::from_ref(&view)).unwrap()[0].to_vec::<f32>().unwrap(), [29.0]);
        let (a, z) = (View::of(&counting(&[2, 1])), View::of(&counting(&[2, 0])));
        let joined = fold(&Op::Concat { axis: 1 }, &[View::of(&cut), z, a]).unwrap().remove(0);
        assert_eq!(joined.dims(), [2, 5]);
        assert_eq!(joined.to_vec::<f32>().unwrap(), [11., 16., 21., 26., 0., 14., 19., 24., 29., 1.]);
    }

    #[test]
    fn a_large_slice_of_a_slice_joined_with_itself_is_worked_out_when_read() {
        let x = counting(&[300, 300]);
        let rows = Op::Slice { start: vec![100, 0], limit: vec![300, 300], stride: vec![] };
        let rows = fold(&rows, &[View::of(&x)]).unwrap().remove(0);
        let columns = Op::Slice { start: vec![0, 200], limit: vec![200, 300], stride: vec![] };
        let part = fold(&columns, &[View::of(&rows)]).unwrap().remove(0);
        let joined = fold(&Op::Concat { axis: 0 }, &[View::of(&part), View::of(&part)]).unwrap().remove(0);
        assert!(rows.is_deferred() && part.is_deferred() && joined.is_deferred());
        let values = joined.to_vec::<f32>().unwrap();
        for (i, v) in values.iter().enumerate() {
            let (row, column) = (i / 100 % 200, i % 100);
            assert_eq!(*v, ((row + 100) * 300 + column + 200) as f32, "{i}");
        }
    }

    #[test]
    fn a_broadcast_operand_is_never_stored() {
        let mut b = Builder::new("t");
        let w = b.constant(counting(&[2, 3]));
        let s = b.constant(Tensor::from_slice(&[2], &[10f32, 100.0]).unwrap());
        let s = b.add_op(Op::Broadcast { dims: vec![2.into(), 3.into()], axes: vec![0] }, &[s]);
        let views = [View::of_value(b.graph(), s).unwrap(), View::of_value(b.graph(), w).unwrap()];
        let product = fold(&Op::Mul {}, &views).unwrap().remove(0);
        assert_eq!(product.to_vec::<f32>().unwrap(), [0.0, 10.0, 20.0, 300.0, 400.0, 500.0]);
        let quotient = fold(&Op::Sub {}, &views).unwrap().remove(0);
        assert_eq!(quotient.to_vec::<f32>().unwrap(), [10.0, 9.0, 8.0, 97.0, 96.0, 95.0]);
    }

    #[test]
    fn a_large_tensor_shared_out_among_threads_is_the_same() {
        // 5 MB, of extents that few numbers of threads divide.
        let dims = [700, 3, 600];
        let mut b = Builder::new("t");
        let w = b.constant(counting(&dims));
        let t = b.transpose(w, &[1, 2, 0]);
        let s = b.constant(counting(&[700]));
        let s = b.broadcast(s, &[3.into(), 600.into(), 700.into()], &[2]);
        let views = [View::of_value(b.graph(), t).unwrap(), View::of_value(b.graph(), s).unwrap()];
        let result = fold(&Op::Sub {}, &views).unwrap().remove(0).to_vec::<f32>().unwrap();
        for (i, got) in result.into_iter().enumerate() {
            let (r, q, k) = (i / 420_000, i / 700 % 600, i % 700);
            assert_eq!(got, (k * 1800 + r * 600 + q) as f32 - k as f32, "{r} {q} {k}");
        }
    }

    #[test]
    fn filters_turned_around_and_scaled_have_every_element_at_its_place() {
        // runs longer than those that are read at once, and several taps that lie side by side
        let dims = [70, 19, 3, 3];
        let mut b = Builder::new("t");
        let w = b.constant(counting(&dims));
        let t = b.transpose(w, &[2, 3, 1, 0]);
        let s = b.constant(counting(&[70]));
        let s = b.broadcast(s, &[3.into(), 3.into(), 19.into(), 70.into()], &[3]);
        let views = [View::of_value(b.graph(), s).unwrap(), View::of_value(b.graph(), t).unwrap()];
        let result = fold(&Op::Sub {}, &views).unwrap().remove(0).to_vec::<f32>().unwrap();
        for (i, got) in result.into_iter().enumerate() {
            let (taps, c, k) = (i / (19 * 70), i / 70 % 19, i % 70);
            assert_eq!(got, k as f32 - ((k * 19 + c) * 9 + taps) as f32, "{taps} {c} {k}");
        }
    }

    #[test]
    fn a_view_of_a_scalar_stores_one_element() {
        let v = View::of(&Tensor::scalar(4f32));
        assert_eq!(v.store().unwrap().to_vec::<f32>().unwrap(), [4.0]);
    }
}
