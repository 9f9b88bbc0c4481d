//! Classical machine learning (`ai.onnx.ml`) and text features: thresholds, choices of features, trees, n-grams.

use kiln_ir::attribute::Reducer;
use kiln_ir::{DType, Op, Tensor};

use super::super::attributes::at_least;
use super::super::emit::{Emitter, Operand, fixed};
use super::super::error::{NodeError, Result, invalid, unsupported};
use super::super::node::NodeContext;
use super::super::tensor::read_tensor;
use super::Results;
use super::index::from_start;

/// 1 where x is greater than the threshold, 0 elsewhere.
pub(super) fn binarizer(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "X")?;
    let threshold = n.attributes.float_or("threshold", 0.0)?;
    // an integer is greater than a number where it is greater than its floor
    let threshold = if x.dtype().is_float() { threshold } else { threshold.floor() };
    let greater = n.emit.with_scalar(Op::Greater {}, &x, threshold)?;
    Ok(vec![n.emit.convert(&greater, x.dtype())?])
}

/// Entries of the last axis; a vector becomes a matrix of one row.
pub(super) fn array_feature_extractor(n: &mut NodeContext<'_>) -> Results {
    let (x, indices) = (n.input(0, "X")?, n.input(1, "Y")?);
    let Some(last) = x.rank().checked_sub(1) else { return invalid("X must have an axis to choose from") };
    let e = &mut *n.emit;
    let count: usize = indices.dims().iter().product();
    let indices = e.reshape(&indices, &[count])?;
    let indices = from_start(e, &indices, x.extent(last))?;
    let y = e.gather(&x, &indices, last)?;
    let y = if last == 0 { e.reshape(&y, &[1, count])? } else { y };
    Ok(vec![y])
}

/// Most steps from a root to a leaf: each is some ten nodes of the graph.
const MOST_STEPS: usize = 1 << 10;
/// Most members of sets, where every node and leaf has room for the largest set.
const MOST_MEMBERS: usize = 1 << 24;

/// How a node of a tree compares, numbered as `nodes_modes` does.
const COMPARISONS: [Op; 6] =
    [Op::LessEqual {}, Op::Less {}, Op::GreaterEqual {}, Op::Greater {}, Op::Equal {}, Op::NotEqual {}];
const MEMBER: i64 = 6;

/// The trees as tables: entry i of an inner node, entry `inner` + l of leaf l, which leads to itself.
struct Trees {
    inner: usize,
    modes: Vec<i64>,
    features: Vec<i64>,
    splits: Vec<f64>,
    then: Vec<i64>,
    otherwise: Vec<i64>,
    missing: Vec<i64>,
    /// Of each node the values that it asks for.
    members: Vec<Vec<f64>>,
    roots: Vec<i64>,
    steps: usize,
}

/// Sums (or the like) over trees of the leaf that each sample reaches. All samples walk down all trees at once: every step
/// looks up the nodes' features and thresholds, compares, and goes on to the children.
pub(super) fn tree_ensemble(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "X")?;
    let [samples, width] = *x.dims() else { return invalid(format!("X must be a matrix, found {:?}", x.dims())) };
    // How often nodes were visited, for speed only.
    n.attributes.dismiss("nodes_hitrates");
    let weights = required_tensor(n, "leaf_weights")?;
    let leaves = weights.len();
    let trees = trees(n, leaves, width)?;
    let targets = n.attributes.int_or("n_targets", 1)?;
    let targets = usize::try_from(targets).ok().filter(|t| (1..=1 << 16).contains(t)).ok_or_else(|| {
        NodeError::Attribute { name: "n_targets".into(), expected: "1 to 65536".into(), found: targets.to_string() }
    })?;
    let target_of = in_range(n, "leaf_targetids", leaves, targets)?;
    let aggregate = n.attributes.int_or("aggregate_function", 1)?;
    let transform = n.attributes.int_or("post_transform", 0)?;

    let e = &mut *n.emit;
    let at = walk(e, &trees, &x, samples, width)?;
    let leaf = e.with_scalar(Op::Sub {}, &at, trees.inner as f64)?;
    let weight = Operand::known(Tensor::from_f64(x.dtype(), &[leaves], &weights.to_f64_vec())?);
    let weight = e.gather(&weight, &leaf, 0)?;
    let reducer = match aggregate {
        0 | 1 => Reducer::Sum,
        2 | 3 if targets > 1 => {
            return unsupported("the least or greatest leaf of several targets, of which one may reach none");
        }
        2 => Reducer::Min,
        3 => Reducer::Max,
        other => return unsupported(format!("aggregate_function = {other}")),
    };
    let mut y = if targets == 1 {
        e.reduce_keep(&weight, &[1], reducer)?
    } else {
        let target = e.gather(&Operand::integers(&target_of)?, &leaf, 0)?;
        let dims = [samples, trees.roots.len(), targets];
        let target = e.broadcast(&target, &dims, &[0, 1])?;
        let column = e.op(Op::Iota { dtype: DType::I64, dims: fixed(&dims), axis: 2 }, &[])?;
        let own = e.binary(Op::Equal {}, &target, &column)?;
        let weight = e.broadcast(&weight, &dims, &[0, 1])?;
        let zero = Operand::scalar(x.dtype(), 0.0)?;
        let part = e.select(&own, &weight, &zero)?;
        e.reduce(&part, &[1], reducer)?
    };
    if aggregate == 0 {
        y = e.with_scalar(Op::Div {}, &y, trees.roots.len() as f64)?;
    }
    Ok(vec![match transform {
        0 => y,
        1 => e.op(Op::Softmax { axis: 1 }, &[&y])?,
        2 => e.op(Op::Sigmoid {}, &[&y])?,
        other => return unsupported(format!("post_transform = {other} (0, 1 and 2 are)")),
    }])
}

/// The leaf of each sample in each tree, as a place in the tables.
fn walk(e: &mut Emitter, trees: &Trees, x: &Operand, samples: usize, width: usize) -> Result<Operand> {
    let dims = [samples, trees.roots.len()];
    let flat = e.reshape(x, &[samples * width])?;
    let row = e.op(Op::Iota { dtype: DType::I64, dims: fixed(&dims), axis: 0 }, &[])?;
    let row = e.with_scalar(Op::Mul {}, &row, width as f64)?;
    let table = |values: &[f64]| -> Result<Operand> {
        Ok(Operand::known(Tensor::from_f64(x.dtype(), &[values.len()], values)?))
    };
    let (features, splits) = (Operand::integers(&trees.features)?, table(&trees.splits)?);
    let (then, otherwise) = (Operand::integers(&trees.then)?, Operand::integers(&trees.otherwise)?);
    let (modes, missing) = (Operand::integers(&trees.modes)?, Operand::integers(&trees.missing)?);
    let mut used: Vec<i64> = trees.modes.iter().take(trees.inner).copied().collect();
    used.sort_unstable();
    used.dedup();
    let widest = trees.members.iter().map(Vec::len).max().unwrap_or(0);
    if trees.members.len().saturating_mul(widest) > MOST_MEMBERS {
        return unsupported(format!(
            "sets of up to {widest} members for {} nodes and leaves (up to {MOST_MEMBERS} in all)",
            trees.members.len()
        ));
    }
    e.room_for_constant(x.dtype(), &[trees.members.len(), widest])?;
    let members: Vec<f64> =
        trees.members.iter().flat_map(|m| m.iter().copied().chain(std::iter::repeat(f64::NAN)).take(widest)).collect();
    let members = Operand::known(Tensor::from_f64(x.dtype(), &[trees.members.len(), widest], &members)?);

    let mut at = e.broadcast_to(&Operand::integers(&trees.roots)?, &dims)?;
    for _ in 0..trees.steps {
        let feature = e.gather(&features, &at, 0)?;
        let place = e.add(&row, &feature)?;
        let value = e.gather(&flat, &place, 0)?;
        let split = e.gather(&splits, &at, 0)?;
        let mode = if used.len() > 1 { Some(e.gather(&modes, &at, 0)?) } else { None };
        let mut holds = None;
        for &m in &used {
            let comparison = usize::try_from(m).ok().and_then(|m| COMPARISONS.get(m)).cloned();
            let answer = match comparison {
                Some(op) => e.binary(op, &value, &split)?,
                None => {
                    let own = e.gather(&members, &at, 0)?;
                    let value = e.broadcast(&value, &[samples, trees.roots.len(), widest], &[0, 1])?;
                    let equal = e.binary(Op::Equal {}, &value, &own)?;
                    e.reduce(&equal, &[2], Reducer::Or)?
                }
            };
            holds = Some(match (holds, &mode) {
                (Some(before), Some(mode)) => {
                    let is_mode = e.with_scalar(Op::Equal {}, mode, m as f64)?;
                    e.select(&is_mode, &answer, &before)?
                }
                _ => answer,
            });
        }
        let Some(mut holds) = holds else { break };
        if trees.missing.contains(&1) {
            let tracks = e.gather(&missing, &at, 0)?;
            let tracks = e.with_scalar(Op::Equal {}, &tracks, 1.0)?;
            let nan = e.op(Op::IsNan {}, &[&value])?;
            let tracked = e.binary(Op::And {}, &nan, &tracks)?;
            holds = e.binary(Op::Or {}, &holds, &tracked)?;
        }
        let (yes, no) = (e.gather(&then, &at, 0)?, e.gather(&otherwise, &at, 0)?);
        at = e.select(&holds, &yes, &no)?;
    }
    Ok(at)
}

fn required_tensor(n: &NodeContext<'_>, name: &'static str) -> Result<Tensor> {
    let missing = || NodeError::MissingAttribute { name: name.to_owned(), expected: "a tensor" };
    Ok(read_tensor(n.attributes.tensor(name)?.ok_or_else(missing)?, name, n.files)?)
}

/// A required list of `count` integers, each below `limit`.
fn in_range(n: &NodeContext<'_>, name: &'static str, count: usize, limit: usize) -> Result<Vec<i64>> {
    let missing = || NodeError::MissingAttribute { name: name.to_owned(), expected: "a list of integers" };
    let list = n.attributes.ints(name)?.ok_or_else(missing)?;
    let fits = |&v: &i64| usize::try_from(v).is_ok_and(|v| v < limit);
    match list.iter().find(|v| !fits(v)) {
        Some(odd) => Err(NodeError::Attribute {
            name: name.to_owned(),
            expected: format!("integers of at least 0 and below {limit}"),
            found: odd.to_string(),
        }),
        None if list.len() != count => Err(NodeError::Attribute {
            name: name.to_owned(),
            expected: format!("{count} entries"),
            found: list.len().to_string(),
        }),
        None => Ok(list.to_vec()),
    }
}

fn trees(n: &NodeContext<'_>, leaves: usize, width: usize) -> Result<Trees> {
    let modes = required_tensor(n, "nodes_modes")?.to_i64_vec();
    let inner = modes.len();
    if let Some(mode) = modes.iter().find(|m| !(0..=MEMBER).contains(m)) {
        return unsupported(format!("nodes_modes {mode} (0 to {MEMBER} are)"));
    }
    let mut splits = required_tensor(n, "nodes_splits")?.to_f64_vec();
    if splits.len() != inner {
        return invalid(format!("{} entries of `nodes_splits` for {inner} nodes", splits.len()));
    }
    let mut features = in_range(n, "nodes_featureids", inner, width)?;
    let child = |to: &'static str, is_leaf: &'static str| -> Result<Vec<i64>> {
        let (to, is_leaf) = (in_range(n, to, inner, inner.max(leaves))?, in_range(n, is_leaf, inner, 2)?);
        let places = to.iter().zip(&is_leaf).map(|(&to, &leaf)| {
            let limit = if leaf == 1 { leaves } else { inner };
            let place = if leaf == 1 { to + inner as i64 } else { to };
            if (to as usize) < limit { Ok(place) } else { invalid(format!("a child {to} of {limit}")) }
        });
        let itself = (inner..inner + leaves).map(|leaf| Ok(leaf as i64));
        places.chain(itself).collect()
    };
    let (then, otherwise) =
        (child("nodes_truenodeids", "nodes_trueleafs")?, child("nodes_falsenodeids", "nodes_falseleafs")?);
    let mut missing = match n.attributes.ints("nodes_missing_value_tracks_true")? {
        Some(_) => in_range(n, "nodes_missing_value_tracks_true", inner, 2)?,
        None => vec![0; inner],
    };
    let root_count = n.attributes.ints("tree_roots")?.map_or(0, <[i64]>::len);
    let roots = in_range(n, "tree_roots", root_count, inner)?;
    if roots.is_empty() {
        return invalid("`tree_roots` names no tree");
    }
    let mut members = vec![Vec::new(); inner + leaves];
    let mut sets = match n.attributes.tensor("membership_values")? {
        Some(_) => sets_of(&required_tensor(n, "membership_values")?.to_f64_vec()),
        None => Vec::new(),
    }
    .into_iter();
    for (own, _) in members.iter_mut().zip(&modes).filter(|(_, mode)| **mode == MEMBER) {
        *own = sets.next().ok_or_else(|| {
            NodeError::Invalid("`membership_values` has fewer sets than there are nodes of mode 6".to_owned())
        })?;
    }
    if sets.next().is_some() {
        return invalid("`membership_values` has more sets than there are nodes of mode 6");
    }
    let steps = longest(&then, &otherwise, inner, &roots)?;
    let all = inner + leaves;
    splits.resize(all, 0.0);
    features.resize(all, 0);
    missing.resize(all, 0);
    let modes = modes.into_iter().chain(std::iter::repeat_n(0, leaves)).collect();
    Ok(Trees { inner, modes, features, splits, then, otherwise, missing, members, roots, steps })
}

/// Sets of which each ends with NaN.
fn sets_of(values: &[f64]) -> Vec<Vec<f64>> {
    values.split_inclusive(|v| v.is_nan()).map(|set| set.iter().copied().filter(|v| !v.is_nan()).collect()).collect()
}

/// Steps of the longest way from a root to a leaf.
fn longest(then: &[i64], otherwise: &[i64], inner: usize, roots: &[i64]) -> Result<usize> {
    // All nodes that some root reaches in so many steps, until only leaves are left.
    let mut reached: Vec<usize> = roots.iter().map(|&r| r as usize).collect();
    for step in 0..=MOST_STEPS {
        reached.sort_unstable();
        reached.dedup();
        reached.retain(|&node| node < inner);
        if reached.is_empty() {
            return Ok(step);
        }
        let children = |&node: &usize| [then, otherwise].map(|list| list.get(node).map_or(inner, |&c| c as usize));
        reached = reached.iter().flat_map(children).collect();
    }
    unsupported(format!("trees of more than {MOST_STEPS} steps from root to leaf, or whose nodes go in circles"))
}

/// Most windows (n-gram length times skip) that are compared one by one.
const MOST_WINDOWS: usize = 1 << 10;

/// Most comparisons: elements of what one window is compared to.
const MOST_COMPARED: usize = 1 << 28;

/// Most columns of the result.
const MOST_COLUMNS: usize = 1 << 20;

/// How often each n-gram of a pool occurs among numbers, whose places may be some apart: every window of the input is compared
/// with all n-grams of one length, and what agrees is counted.
pub(super) fn tfidf(n: &mut NodeContext<'_>) -> Results {
    let x = n.input(0, "X")?;
    if n.attributes.strings("pool_strings")?.is_some() {
        return unsupported("pool_strings (numbers are)");
    }
    let list = |name: &str| -> Result<Vec<i64>> {
        let missing = || NodeError::MissingAttribute { name: name.to_owned(), expected: "a list of integers" };
        Ok(n.attributes.ints(name)?.ok_or_else(missing)?.to_vec())
    };
    let count = |name: &str, least: i64| at_least(name, n.attributes.required_int(name)?, least);
    let (pool, starts, columns) = (list("pool_int64s")?, list("ngram_counts")?, list("ngram_indexes")?);
    let (shortest, longest) = (count("min_gram_length", 1)?, count("max_gram_length", 1)?);
    let skips = count("max_skip_count", 0)?;
    if n.attributes.string("mode")?.is_none() {
        return Err(NodeError::MissingAttribute { name: "mode".into(), expected: "TF, IDF or TFIDF" });
    }
    let mode = n.attributes.word("mode", &["TF", "IDF", "TFIDF"])?;
    let weights = n.attributes.floats("weights")?.map(<[f32]>::to_vec);
    let (rows, length) = match *x.dims() {
        [length] => (1, length),
        [rows, length] => (rows, length),
        _ => return invalid(format!("X must have one or two axes, found {:?}", x.dims())),
    };
    let grams = grams(&pool, &starts)?;
    let total: usize = grams.iter().map(Vec::len).sum();
    if columns.len() != total || weights.as_ref().is_some_and(|w| w.len() != total) {
        return invalid(format!(
            "{} `ngram_indexes` and {} `weights` for {total} n-grams",
            columns.len(),
            weights.as_ref().map_or(total, Vec::len)
        ));
    }
    let width = columns.iter().max().map_or(0, |&c| c.saturating_add(1));
    let fits = |w: usize| (1..=MOST_COLUMNS).contains(&w) && columns.iter().all(|&c| c >= 0);
    let Some(width) = usize::try_from(width).ok().filter(|&w| fits(w)) else {
        return unsupported(format!(
            "`ngram_indexes` from {:?} to {:?} (0 to {} are)",
            columns.iter().min(),
            columns.iter().max(),
            MOST_COLUMNS - 1
        ));
    };
    n.emit.room_for_constant(DType::I64, &[width])?;
    // The n-gram of each column; one more for columns without.
    let mut gram_of = vec![total as i64; width];
    for (gram, &column) in (0..).zip(&columns) {
        let entry = gram_of.get_mut(column as usize).filter(|entry| **entry == total as i64);
        let Some(entry) = entry else {
            return unsupported(format!("`ngram_indexes` that name column {column} twice"));
        };
        *entry = gram;
    }

    let e = &mut *n.emit;
    let x = e.reshape(&x, &[rows, length])?;
    let x = e.convert(&x, DType::I64)?;
    // How often each n-gram occurs, by length of n-gram.
    let mut counts: Vec<Operand> = Vec::new();
    let mut windows = 0;
    for (size, grams) in (1..).zip(&grams).filter(|(_, grams)| !grams.is_empty()) {
        let zero = Operand::scalar(DType::F32, 0.0)?;
        let mut sum = e.broadcast_to(&zero, &[rows, grams.len()])?;
        // Skips make no difference to single numbers.
        let most_skips = if size == 1 { 0 } else { skips };
        for skip in 0..=most_skips {
            let span = skip.saturating_add(1).saturating_mul(size - 1);
            if !(shortest..=longest).contains(&size) || span >= length {
                break;
            }
            windows += 1;
            let positions = length - span;
            let compared = rows.checked_mul(positions).and_then(|n| n.checked_mul(grams.len()));
            if windows > MOST_WINDOWS || compared.is_none_or(|n| n > MOST_COMPARED) {
                return unsupported(format!(
                    "n-grams with more than {MOST_WINDOWS} combinations of length and skip, or {MOST_COMPARED} comparisons for one"
                ));
            }
            let found = occurrences(e, &x, grams, skip + 1, positions)?;
            sum = e.add(&sum, &found)?;
        }
        counts.push(sum);
    }
    let mut y = e.concat(&counts.iter().collect::<Vec<_>>(), 1)?;
    if mode == "IDF" {
        y = e.with_scalar(Op::Minimum {}, &y, 1.0)?;
    }
    if mode != "TF"
        && let Some(weights) = weights
    {
        y = e.mul(&y, &Operand::known(Tensor::from_slice(&[total], &weights)?))?;
    }
    let zero = Operand::scalar(DType::F32, 0.0)?;
    let none = e.broadcast_to(&zero, &[rows, 1])?;
    let y = e.concat(&[&y, &none], 1)?;
    let y = e.gather(&y, &Operand::integers(&gram_of)?, 1)?;
    Ok(vec![if n.input(0, "X")?.rank() == 1 { n.emit.reshape(&y, &[width])? } else { y }])
}

/// The n-grams of length 1, 2 and so on; `starts` says where each length begins in the pool.
fn grams(pool: &[i64], starts: &[i64]) -> Result<Vec<Vec<Vec<i64>>>> {
    let ends = starts.iter().skip(1).copied().chain([pool.len() as i64]);
    (1..)
        .zip(starts.iter().zip(ends))
        .map(|(size, (&start, end))| {
            let range = usize::try_from(start).ok().zip(usize::try_from(end).ok()).map(|(s, e)| s..e);
            match range.and_then(|r| pool.get(r)) {
                Some(items) if items.len().is_multiple_of(size) => {
                    Ok(items.chunks_exact(size).map(<[i64]>::to_vec).collect())
                }
                _ => invalid(format!(
                    "`ngram_counts` {starts:?} does not divide a pool of {} into n-grams of lengths 1, 2 …",
                    pool.len()
                )),
            }
        })
        .collect()
}

/// How often each of `grams` occurs in each row of x, its numbers `stride` apart: [rows, grams].
fn occurrences(e: &mut Emitter, x: &Operand, grams: &[Vec<i64>], stride: usize, positions: usize) -> Result<Operand> {
    let dims = [x.extent(0), positions, grams.len()];
    let mut all = None;
    for i in 0..grams.first().map_or(0, Vec::len) {
        let numbers = e.slice_axis(x, 1, i * stride, i * stride + positions)?;
        let numbers = e.broadcast(&numbers, &dims, &[0, 1])?;
        let wanted: Vec<i64> = grams.iter().filter_map(|g| g.get(i).copied()).collect();
        let wanted = e.broadcast(&Operand::integers(&wanted)?, &dims, &[2])?;
        let equal = e.binary(Op::Equal {}, &numbers, &wanted)?;
        all = Some(match all {
            None => equal,
            Some(before) => e.binary(Op::And {}, &before, &equal)?,
        });
    }
    let Some(all) = all else { return invalid("an n-gram without numbers") };
    let ones = e.convert(&all, DType::F32)?;
    e.reduce(&ones, &[1], Reducer::Sum)
}
