//! Normal forms of contractions.

use kiln_ir::attribute::Padding;
use kiln_ir::{Op, Value};

use super::{Canonicaliser, Rewritten, Rule};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "sort_contracted_axes",
        doc: "the contracted axes of a dot_general are listed in the order of its left operand's axes",
        apply: sort_contracted_axes,
    },
    Rule {
        name: "drop_default_windows",
        doc: "lists of a convolution that say only the default are empty",
        apply: drop_default_windows,
    },
];

fn sort_contracted_axes(c: &mut Canonicaliser<'_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let Op::Dot { lhs_batch, rhs_batch, lhs_contract, rhs_contract } = op else { return Ok(None) };
    if lhs_contract.is_sorted() {
        return Ok(None);
    }
    let mut pairs: Vec<(usize, usize)> = lhs_contract.iter().copied().zip(rhs_contract.iter().copied()).collect();
    pairs.sort_unstable();
    let (lhs_contract, rhs_contract) = pairs.into_iter().unzip();
    let op = Op::Dot { lhs_batch: lhs_batch.clone(), rhs_batch: rhs_batch.clone(), lhs_contract, rhs_contract };
    Ok(Some(c.emit(op, operands)?))
}

fn drop_default_windows(c: &mut Canonicaliser<'_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let Op::Conv { strides, padding, lhs_dilation, rhs_dilation, groups, layout } = op else { return Ok(None) };
    let ones = |list: &[usize]| !list.is_empty() && list.iter().all(|&n| n == 1);
    let unpadded = !padding.is_empty() && padding.iter().all(|p| *p == Padding::NONE);
    if !ones(strides) && !ones(lhs_dilation) && !ones(rhs_dilation) && !unpadded {
        return Ok(None);
    }
    let kept = |list: &[usize]| if ones(list) { Vec::new() } else { list.to_vec() };
    let op = Op::Conv {
        strides: kept(strides),
        padding: if unpadded { Vec::new() } else { padding.clone() },
        lhs_dilation: kept(lhs_dilation),
        rhs_dilation: kept(rhs_dilation),
        groups: *groups,
        layout: *layout,
    };
    Ok(Some(c.emit(op, operands)?))
}
