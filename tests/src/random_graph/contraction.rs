//! Matrix products and convolutions.

use kiln_ir::attribute::{ConvLayout, Padding};
use kiln_ir::infer::{sum_dtype, window_extent};
use kiln_ir::{DType, Op, Value};

use super::generator::Generator;
use super::range::Range;

impl Generator {
    pub(super) fn dot(&mut self) -> Option<()> {
        let x = self.value(|ty, _| ty.rank() >= 1 && ty.dtype != DType::Bool)?;
        if matches!(self.ty(x).dtype, DType::U8 | DType::I8) && self.choose(3) == 2 {
            return self.layer_of_bytes(x);
        }
        let (dims, r) = (self.dims(x), self.range(x));
        let contract = dims.len() - 1 - self.choose(dims.len());
        let batch = (0..dims.len()).find(|&a| a != contract).filter(|_| self.choose(3) == 2);
        let free = 1 + self.choose(5);
        // rhs: the batch axis, then the contracted and the free one in either order.
        let swapped = self.choose(2) == 1;
        let pair = if swapped { [free, dims[contract]] } else { [dims[contract], free] };
        let rhs_dims = [&batch.map(|a| dims[a]).into_iter().collect::<Vec<_>>()[..], &pair].concat();
        let left: usize = dims.iter().product::<usize>() / dims[contract];
        self.fits(&[left, free]).then_some(())?;
        let y = self.factor(r.dtype, &rhs_dims)?;
        let r = Range { dtype: sum_dtype(r.dtype, self.ty(y).dtype)?, ..r };
        let range = r.sum_of_products(&self.range(y), dims[contract])?;
        let offset = usize::from(batch.is_some());
        let op = Op::Dot {
            lhs_batch: batch.into_iter().collect(),
            rhs_batch: batch.map(|_| 0).into_iter().collect(),
            lhs_contract: vec![contract],
            rhs_contract: vec![offset + usize::from(swapped)],
        };
        self.add(op, &[x, y], range).map(drop)
    }

    /// A constant that is multiplied by elements of `dtype`: bytes may be multiplied by those of the other sign.
    fn factor(&mut self, dtype: DType, dims: &[usize]) -> Option<Value> {
        let other = match dtype {
            DType::U8 => DType::I8,
            DType::I8 => DType::U8,
            _ => return self.fresh(dtype, dims),
        };
        let mixed = self.allows(other) && self.allows(DType::I32) && self.choose(2) == 1;
        self.fresh(if mixed { other } else { dtype }, dims)
    }

    /// A product or a convolution of 8-bit x less a number by constant weights, all of it in i32.
    fn layer_of_bytes(&mut self, x: Value) -> Option<()> {
        self.allows(DType::I32).then_some(())?;
        let wide =
            |r: Range, low: f64, high: f64| Range { dtype: DType::I32, low: r.low + low, high: r.high + high, ..r };
        let (dims, range) = (self.dims(x), self.range(x));
        let x = self.add(Op::Convert { dtype: DType::I32 }, &[x], wide(range, 0.0, 0.0))?;
        let zero = self.fresh(DType::I32, &[])?;
        let z = self.range(zero);
        let zeros = self.broadcast_to(zero, &dims)?;
        let range = wide(range, -z.high, -z.low);
        let x = self.add(Op::Sub {}, &[x, zeros], range)?;
        let (rank, outputs) = (dims.len(), 1 + self.choose(5));
        let convolved = rank == 3 && dims[2] >= 2;
        let w_dims = if convolved { vec![outputs, dims[1], 2] } else { vec![dims[rank - 1], outputs] };
        let padding = Padding { low: self.choose(2) as i64, high: self.choose(3) as i64 };
        let result = match convolved {
            true => vec![dims[0], outputs, dims[2] - 1 + (padding.low + padding.high) as usize],
            false => [&dims[..rank - 1], &[outputs]].concat(),
        };
        self.fits(&result).then_some(())?;
        let w = self.fresh(DType::I8, &w_dims)?;
        let weights = wide(self.range(w), 0.0, 0.0);
        let w = self.add(Op::Convert { dtype: DType::I32 }, &[w], weights)?;
        let op = match convolved {
            true => Op::Conv {
                strides: vec![],
                padding: vec![padding],
                lhs_dilation: vec![],
                rhs_dilation: vec![],
                groups: 1,
                layout: ConvLayout::ChannelsFirst,
            },
            false => {
                Op::Dot { lhs_batch: vec![], rhs_batch: vec![], lhs_contract: vec![rank - 1], rhs_contract: vec![0] }
            }
        };
        let range = range.sum_of_products(&weights, w_dims.iter().product::<usize>() / outputs)?;
        self.add(op, &[x, w], range).map(drop)
    }

    pub(super) fn conv(&mut self) -> Option<()> {
        let x = self.value(|ty, _| ty.rank() >= 3 && ty.dtype != DType::Bool);
        let x = match x {
            Some(x) => x,
            None => {
                let dtype = self.dtype(|d| d != DType::Bool)?;
                self.fresh(dtype, &[2, 4, 5, 3])?
            }
        };
        let (dims, r) = (self.dims(x), self.range(x));
        let rank = dims.len();
        let layout = [ConvLayout::ChannelsFirst, ConvLayout::ChannelsLast][self.choose(2)];
        let (channel, spatial) = match layout {
            ConvLayout::ChannelsFirst => (1, 2),
            ConvLayout::ChannelsLast => (rank - 1, 1),
        };
        let channels = dims[channel];
        let divisors: Vec<usize> = (1..=channels).filter(|g| channels.is_multiple_of(*g)).collect();
        let groups = self.one_of(&divisors)?;
        let outputs = groups * (1 + self.choose(2));
        let (mut strides, mut padding, mut lhs_dilation, mut rhs_dilation) = (vec![], vec![], vec![], vec![]);
        let (mut window, mut result) = (vec![], vec![dims[0], outputs]);
        for &n in &dims[spatial..spatial + rank - 2] {
            let choice = self.choose(64);
            let (w, s, wide) = (1 + choice % 3, 1 + choice / 3 % 2, 1 + choice / 6 % 2);
            let (p, spread) = (Padding { low: (choice / 12 % 2) as i64, high: (choice / 24) as i64 }, 1 + choice / 48);
            let dilated = (n - 1) * spread + 1;
            let (out, w) = match window_extent(dilated, w, s, p, wide) {
                Some(out) => (out, w),
                None => (window_extent(dilated, 1, s, p, wide)?, 1),
            };
            strides.push(s);
            padding.push(p);
            lhs_dilation.push(spread);
            rhs_dilation.push(wide);
            window.push(w);
            result.push(out);
        }
        self.fits(&result).then_some(())?;
        let inputs = channels / groups;
        let taps: usize = inputs * window.iter().product::<usize>();
        let w_dims = match layout {
            ConvLayout::ChannelsFirst => [&[outputs, inputs][..], &window].concat(),
            ConvLayout::ChannelsLast => [&window[..], &[inputs, outputs]].concat(),
        };
        let w: Value = self.factor(r.dtype, &w_dims)?;
        let r = Range { dtype: sum_dtype(r.dtype, self.ty(w).dtype)?, ..r };
        let range = r.sum_of_products(&self.range(w), taps)?;
        let op = Op::Conv { strides, padding, lhs_dilation, rhs_dilation, groups, layout };
        self.add(op, &[x, w], range).map(drop)
    }
}
