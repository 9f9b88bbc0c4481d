//! Layers of language models.

use std::panic::Location as Caller;

use kiln_ir::attribute::Real;
use kiln_ir::{Element, Initializer};

use super::{check_rank, extents, layer, variable};
use crate::dsl::Tensor;

/// Rows of a table: integer `indices` […] to […, width]; `name.weight` [rows, width] of `T`, drawn with deviation 0.02.
/// Indices beyond the ends take the first or the last row.
#[track_caller]
pub fn embedding<'g, T: Element>(name: &str, indices: Tensor<'g>, rows: usize, width: usize) -> Tensor<'g> {
    let (at, scope) = (Caller::caller(), indices.scope);
    let name = &scope.path(name);
    scope.named(name, || {
        let init = Initializer::Normal { mean: Real(0.0), std: Real(0.02), seed: scope.seed_of(name) };
        let table = scope.variable_of(at, &format!("{name}.weight"), T::DTYPE, &[rows, width], init);
        scope.emit(at, |b| b.gather(table.value, indices.value, 0))
    })
}

/// Layer normalisation over the last axis (Ba et al. 2016), whose extent is a number; `name.weight`, `name.bias`, each as long.
#[track_caller]
pub fn layer_norm<'g>(name: &str, x: Tensor<'g>, epsilon: f64) -> Tensor<'g> {
    let (at, scope, name) = (Caller::caller(), x.scope, &x.scope.path(name));
    let what = layer(name);
    let last = x.dims().len().saturating_sub(1);
    let width = check_rank(&what, x, (1, usize::MAX), "[…, width]", at).and_then(|()| extents(&what, x, [last], at));
    let width = match width {
        Ok(width) => width,
        Err(wrong) => return wrong,
    };
    scope.named(name, || {
        let part = |suffix: &str, init| variable(scope, at, format!("{name}.{suffix}"), x, &width, init).value;
        let (weight, bias) = (part("weight", Initializer::ONES), part("bias", Initializer::ZEROS));
        scope.emit(at, |b| b.layer_norm(x.value, weight, bias, last, epsilon))
    })
}
