//! Padding moves into the windows that read it.

use kiln_ir::Op;
use kiln_ir::attribute::{Padding, Reducer};
use kiln_ir::infer::{conv_dims, padding_or_none};

use super::{Found, Rule, none, one};
use crate::egraph::saturate::{Matched, Rewrites};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "pad_into_conv",
        doc: "conv(pad(x), w) = conv(x, w) with that padding",
        when: "spatial axes are padded with zeros, nothing goes between elements, and x is not dilated",
        why: "the padded copy is never made",
        root: |op| matches!(op, Op::Conv { .. }),
        apply: pad_into_conv,
    },
    Rule {
        name: "pad_into_window",
        doc: "reduce_window(pad(x)) = reduce_window(x) with that padding",
        when: "the padding value is the reducer's identity, and nothing goes between elements",
        why: "the padded copy is never made",
        root: |op| matches!(op, Op::ReduceWindow { .. }),
        apply: pad_into_window,
    },
];

fn pad_into_conv(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let (Op::Conv { strides, padding, lhs_dilation, rhs_dilation, groups, layout }, &[padded, w]) = (m.op, m.children)
    else {
        return none();
    };
    if lhs_dilation.iter().any(|&d| d != 1) || padding.iter().any(|p| p.low < 0 || p.high < 0) {
        return none();
    }
    for (op, kids) in r.find(padded, |o| matches!(o, Op::Pad { .. })) {
        let Op::Pad { padding: outer, interior, value } = &*op else { continue };
        let rank = outer.len();
        let (channel, first, ..) = conv_dims(*layout, rank);
        let spatial = first..first + rank - 2;
        let others = [0, channel].iter().all(|&a| outer[a] == Padding::NONE);
        if value.0 != 0.0 || !others || interior.iter().any(|&n| n != 0) {
            continue;
        }
        let Some(padding) = Padding::sum(&padding_or_none(padding, rank - 2), &outer[spatial]) else { continue };
        let op = Op::Conv {
            strides: strides.clone(),
            padding,
            lhs_dilation: lhs_dilation.clone(),
            rhs_dilation: rhs_dilation.clone(),
            groups: *groups,
            layout: *layout,
        };
        return one(r.add(op, &[kids[0], w])?);
    }
    none()
}

fn pad_into_window(r: &mut Rewrites, m: &Matched<'_>) -> Found {
    let (Op::ReduceWindow { window, strides, padding, dilation, reducer }, &[padded]) = (m.op, m.children) else {
        return none();
    };
    let neutral = match reducer {
        Reducer::Sum => 0.0,
        Reducer::Prod => 1.0,
        Reducer::Max => f64::NEG_INFINITY,
        Reducer::Min => f64::INFINITY,
        Reducer::And | Reducer::Or => return none(),
    };
    if !r.ty(padded).dtype.is_float() {
        return none();
    }
    for (op, kids) in r.find(padded, |o| matches!(o, Op::Pad { .. })) {
        let Op::Pad { padding: outer, interior, value } = &*op else { continue };
        if value.0 != neutral || interior.iter().any(|&n| n != 0) {
            continue;
        }
        let Some(padding) = Padding::sum(&padding_or_none(padding, outer.len()), outer) else { continue };
        let op = Op::ReduceWindow {
            window: window.clone(),
            strides: strides.clone(),
            padding,
            dilation: dilation.clone(),
            reducer: *reducer,
        };
        return one(r.add(op, &[kids[0]])?);
    }
    none()
}
