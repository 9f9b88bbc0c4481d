//! Rules about reductions and windows that reduce little, or everything.

use kiln_ir::attribute::{Padding, Reducer};
use kiln_ir::{Dim, Op, Value};

use super::{Canonicaliser, Rewritten, Rule};

type C<'x, 'r, 'a, 'o> = &'x mut Canonicaliser<'r, 'a, 'o>;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "drop_trivial_reduce",
        doc: "reducing axes of extent 1 is a reshape, and windows of one element are that element",
        apply: drop_trivial_reduce,
    },
    Rule {
        name: "global_window_as_reduce",
        doc: "one window over whole axes reduces these axes",
        apply: global_window_as_reduce,
    },
];

fn drop_trivial_reduce(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let Some(&x) = operands.first() else { return Ok(None) };
    match op {
        Op::Reduce { axes, .. } => {
            let dims = &c.ty(x).dims;
            if axes.iter().any(|&a| dims[a] != Dim::Fixed(1)) {
                return Ok(None);
            }
            let dims = (0..dims.len()).filter(|i| !axes.contains(i)).map(|i| dims[i].clone()).collect();
            Ok(Some(c.emit(Op::Reshape { dims }, &[x])?))
        }
        Op::ReduceWindow { window, strides, padding, .. } => {
            let single = window.iter().chain(strides).all(|&n| n == 1) && padding.iter().all(|p| *p == Padding::NONE);
            Ok(single.then_some(x))
        }
        _ => Ok(None),
    }
}

fn global_window_as_reduce(c: C<'_, '_, '_, '_>, op: &Op, operands: &[Value]) -> Rewritten {
    let Op::ReduceWindow { window, strides, padding, reducer, .. } = op else { return Ok(None) };
    let dims = c.ty(operands[0]).dims.clone();
    let whole: Vec<usize> = (0..dims.len()).filter(|&a| window[a] > 1 && dims[a] == Dim::Fixed(window[a])).collect();
    let untouched = |a: usize| window[a] == 1 && strides.get(a).is_none_or(|&s| s == 1);
    let all = (0..dims.len()).all(|a| whole.contains(&a) || untouched(a));
    if whole.is_empty() || !all || padding.iter().any(|p| *p != Padding::NONE) {
        return Ok(None);
    }
    let kept = (0..dims.len()).map(|a| if whole.contains(&a) { Dim::Fixed(1) } else { dims[a].clone() }).collect();
    let reducer: Reducer = *reducer;
    let reduced = c.emit(Op::Reduce { axes: whole, reducer }, operands)?;
    Ok(Some(c.emit(Op::Reshape { dims: kept }, &[reduced])?))
}
