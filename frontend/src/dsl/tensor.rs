//! Symbolic tensors and their operators.

use std::ops::{Add, Div, Mul, Neg, Rem, Sub};
use std::panic::Location as Caller;

use kiln_ir::attribute::Reducer;
use kiln_ir::{Builder, DType, Dim, Element, GraphError, Location, Tensor as TensorData, TensorType, Value};

use super::Scope;

/// A value of a graph under construction. Copying it copies a reference; operators add nodes.
///
/// Binary operators broadcast as numpy does; a number on either side becomes a constant of the tensor's dtype.
/// Axes may be negative, counting from the end.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'g> {
    pub(super) scope: &'g Scope,
    pub(super) value: Value,
}

macro_rules! unary_methods {
    ($($method:ident $doc:literal),* $(,)?) => {$(
        #[doc = $doc]
        #[track_caller]
        pub fn $method(self) -> Tensor<'g> {
            self.emit(Caller::caller(), |b| b.$method(self.value))
        }
    )*};
}

macro_rules! binary_methods {
    ($($method:ident $doc:literal),* $(,)?) => {$(
        #[doc = $doc]
        #[track_caller]
        pub fn $method(self, other: impl IntoOperand<'g>) -> Tensor<'g> {
            let other = other.into_operand(self, Caller::caller());
            self.emit(Caller::caller(), |b| b.$method(self.value, other.value))
        }
    )*};
}

impl<'g> Tensor<'g> {
    fn emit(self, at: &Caller<'_>, f: impl FnOnce(&mut Builder) -> Value) -> Tensor<'g> {
        self.scope.emit(at, f)
    }

    /// The graph it belongs to.
    pub fn scope(self) -> &'g Scope {
        self.scope
    }

    /// What `part` makes of self, with `name` and a dot before the names of its layers: [`Scope::within`] for a block.
    ///
    /// ```
    /// use kiln::prelude::*;
    ///
    /// fn block(x: Tensor<'_>) -> Tensor<'_> {
    ///     let y = Conv2d::new(8, 3).padding(Padding::Each(1)).apply("conv1", x).relu();
    ///     Conv2d::new(8, 3).padding(Padding::Each(1)).apply("conv2", y) + x
    /// }
    /// let scope = Scope::new("two_blocks");
    /// let x = scope.placeholder::<f32>("x", dims!["batch", 8, 16, 16]);
    /// scope.output("y", x.within("block1", block).within("block2", block));
    /// let graph = scope.finish()?;
    /// assert_eq!(graph.variables()[0].name, "block1.conv1.weight");
    /// # Ok::<(), kiln::ir::BuildErrors>(())
    /// ```
    pub fn within<R>(self, name: &str, part: impl FnOnce(Tensor<'g>) -> R) -> R {
        self.scope.within(name, || part(self))
    }

    /// The value in the graph.
    pub fn value(self) -> Value {
        self.value
    }

    /// Its type; `None` after an error in what it is made of.
    pub fn ty(self) -> Option<TensorType> {
        self.scope.builder.borrow().ty(self.value).cloned()
    }

    /// Its dims; empty after an error in what it is made of.
    pub fn dims(self) -> Vec<Dim> {
        self.ty().map(|t| t.dims).unwrap_or_default()
    }

    /// `axis`, counted from the end where negative. One that there is not is reported, and what comes of it is poisoned.
    fn axis(self, axis: isize, at: &Caller<'_>) -> Result<usize, Tensor<'g>> {
        let Some(ty) = self.ty() else { return Err(self) };
        let counted = if axis < 0 { axis.checked_add_unsigned(ty.rank()) } else { Some(axis) };
        let there = counted.and_then(|a| usize::try_from(a).ok()).filter(|&a| a < ty.rank());
        there.ok_or_else(|| {
            let location = Some(Location::caller(at));
            self.emit(at, |b| b.fail(GraphError::Axis { axis: axis as i64, found: ty, location }))
        })
    }

    fn axes(self, axes: &[isize], at: &Caller<'_>) -> Result<Vec<usize>, Tensor<'g>> {
        axes.iter().map(|&axis| self.axis(axis, at)).collect()
    }

    unary_methods! {
        abs "Absolute value.", sign "−1, 0 or 1.", floor "Greatest integer not above.", ceil "Least integer not below.",
        round "Nearest integer, ties to even.", sqrt "Square root.", rsqrt "Reciprocal square root.",
        reciprocal "Reciprocal.", exp "Exponential.", log "Natural logarithm.", log1p "ln(1 + x).", sin "Sine.", cos "Cosine.",
        asin "Inverse sine.", acos "Inverse cosine.", atan "Inverse tangent.", asinh "Inverse hyperbolic sine.",
        acosh "Inverse hyperbolic cosine.", atanh "Inverse hyperbolic tangent.",
        tanh "Hyperbolic tangent.", erf "Error function.", relu "max(x, 0).", sigmoid "Logistic function.",
        hard_swish "x · relu6(x + 3) / 6.", silu "x · sigmoid(x).", gelu "Gaussian error linear unit, exact.",
        softplus "log(1 + eˣ).", mish "x · tanh(softplus(x)).", is_nan "Whether an element is NaN.",
    }

    binary_methods! {
        pow "Power.", maximum "Larger of two.", minimum "Smaller of two.",
        equal "Equality, as bool.", not_equal "Inequality.", less "self < other.", less_equal "self ≤ other.",
        greater "self > other.", greater_equal "self ≥ other.", and "Logical and.", or "Logical or.",
    }

    /// Logical not.
    #[track_caller]
    pub fn logical_not(self) -> Tensor<'g> {
        self.emit(Caller::caller(), |b| b.not(self.value))
    }

    /// Where self (bool) holds `then`, else `otherwise`.
    #[track_caller]
    pub fn select(self, then: Tensor<'g>, otherwise: impl IntoOperand<'g>) -> Tensor<'g> {
        let then = then.into_operand(self, Caller::caller());
        let otherwise = otherwise.into_operand(then, Caller::caller());
        self.emit(Caller::caller(), |b| b.select(self.value, then.value, otherwise.value))
    }

    /// Limits to [min, max].
    #[track_caller]
    pub fn clip(self, min: f64, max: f64) -> Tensor<'g> {
        self.emit(Caller::caller(), |b| b.clip(self.value, min, max))
    }

    /// Converts the elements.
    #[track_caller]
    pub fn cast(self, dtype: DType) -> Tensor<'g> {
        self.emit(Caller::caller(), |b| b.convert(self.value, dtype))
    }

    /// The same elements under other extents.
    #[track_caller]
    pub fn reshape(self, dims: impl AsRef<[Dim]>) -> Tensor<'g> {
        self.emit(Caller::caller(), |b| b.reshape(self.value, dims.as_ref()))
    }

    /// Permutes the axes.
    #[track_caller]
    pub fn transpose(self, perm: &[usize]) -> Tensor<'g> {
        self.emit(Caller::caller(), |b| b.transpose(self.value, perm))
    }

    /// Repeats to `dims`, trailing axes aligned.
    #[track_caller]
    pub fn broadcast_to(self, dims: impl AsRef<[Dim]>) -> Tensor<'g> {
        self.emit(Caller::caller(), |b| b.broadcast_to(self.value, dims.as_ref()))
    }

    /// Elements start..limit of one axis.
    #[track_caller]
    pub fn slice(self, axis: isize, start: usize, limit: usize) -> Tensor<'g> {
        let at = Caller::caller();
        self.axis(axis, at)
            .map_or_else(|wrong| wrong, |axis| self.emit(at, |b| b.slice_axis(self.value, axis, start, limit)))
    }

    /// Slices along `axis` picked by integer `indices`.
    #[track_caller]
    pub fn gather(self, indices: Tensor<'g>, axis: isize) -> Tensor<'g> {
        let at = Caller::caller();
        let indices = indices.into_operand(self, at);
        self.axis(axis, at)
            .map_or_else(|wrong| wrong, |axis| self.emit(at, |b| b.gather(self.value, indices.value, axis)))
    }

    /// Matrix product, as numpy's `matmul`.
    #[track_caller]
    pub fn matmul(self, other: Tensor<'g>) -> Tensor<'g> {
        let other = other.into_operand(self, Caller::caller());
        self.emit(Caller::caller(), |b| b.matmul(self.value, other.value))
    }

    /// Reduces along `axes`, which vanish.
    #[track_caller]
    pub fn reduce(self, axes: &[isize], reducer: Reducer) -> Tensor<'g> {
        let at = Caller::caller();
        self.axes(axes, at).map_or_else(|wrong| wrong, |axes| self.emit(at, |b| b.reduce(self.value, &axes, reducer)))
    }

    /// Sum along `axes`, which vanish.
    #[track_caller]
    pub fn sum(self, axes: &[isize]) -> Tensor<'g> {
        self.reduce(axes, Reducer::Sum)
    }

    /// Maximum along `axes`, which vanish.
    #[track_caller]
    pub fn max(self, axes: &[isize]) -> Tensor<'g> {
        self.reduce(axes, Reducer::Max)
    }

    /// Mean along `axes`, which vanish.
    #[track_caller]
    pub fn mean(self, axes: &[isize]) -> Tensor<'g> {
        let axes = match self.axes(axes, Caller::caller()) {
            Ok(axes) => axes,
            Err(wrong) => return wrong,
        };
        let dims: Vec<Dim> =
            self.dims().into_iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, d)| d).collect();
        self.emit(Caller::caller(), |b| {
            let mean = b.mean_keep(self.value, &axes);
            b.reshape(mean, &dims)
        })
    }

    /// Softmax along `axis`.
    #[track_caller]
    pub fn softmax(self, axis: isize) -> Tensor<'g> {
        let at = Caller::caller();
        self.axis(axis, at).map_or_else(|wrong| wrong, |axis| self.emit(at, |b| b.softmax(self.value, axis)))
    }
}

/// Joins along `axis`. No parts is an error that [`Scope::finish`] reports.
#[track_caller]
pub fn concat<'g>(scope: &'g Scope, parts: &[Tensor<'g>], axis: isize) -> Tensor<'g> {
    let axis = match parts.first().map_or(Ok(0), |t| t.axis(axis, Caller::caller())) {
        Ok(axis) => axis,
        Err(wrong) => return wrong,
    };
    let values: Vec<Value> = parts.iter().map(|&t| scope.own(t, Caller::caller()).value).collect();
    scope.emit(Caller::caller(), |b| b.concat(&values, axis))
}

/// What may stand beside a tensor: another one, or a number that takes its dtype.
pub trait IntoOperand<'g> {
    /// The operand, as a tensor of the scope of `beside`.
    fn into_operand(self, beside: Tensor<'g>, at: &Caller<'_>) -> Tensor<'g>;
}

impl<'g> IntoOperand<'g> for Tensor<'g> {
    fn into_operand(self, beside: Tensor<'g>, at: &Caller<'_>) -> Tensor<'g> {
        beside.scope.own(self, at)
    }
}

impl<'g> IntoOperand<'g> for i64 {
    fn into_operand(self, beside: Tensor<'g>, at: &Caller<'_>) -> Tensor<'g> {
        match beside.ty() {
            // Not by way of f64, which holds 53 bits.
            Some(t) if t.dtype == DType::I64 => beside.emit(at, |b| b.constant(TensorData::scalar(self))),
            _ => beside.emit(at, |b| b.scalar_like(beside.value, self as f64)),
        }
    }
}

macro_rules! number_operands {
    ($($number:ty),*) => {$(
        impl<'g> IntoOperand<'g> for $number {
            fn into_operand(self, beside: Tensor<'g>, at: &Caller<'_>) -> Tensor<'g> {
                beside.emit(at, |b| b.scalar_like(beside.value, f64::from(self)))
            }
        }
    )*};
}
number_operands!(f64, f32, i32);

macro_rules! operators {
    ($($trait:ident $method:ident),*) => {$(
        impl<'g, R: IntoOperand<'g>> $trait<R> for Tensor<'g> {
            type Output = Tensor<'g>;
            #[track_caller]
            fn $method(self, other: R) -> Tensor<'g> {
                let other = other.into_operand(self, Caller::caller());
                self.emit(Caller::caller(), |b| b.$method(self.value, other.value))
            }
        }
        // One float and one integer type, so that literals have a type.
        operators!(@number $trait $method f64 i32);
    )*};
    (@number $trait:ident $method:ident $($number:ty)*) => {$(
        impl<'g> $trait<Tensor<'g>> for $number {
            type Output = Tensor<'g>;
            #[track_caller]
            fn $method(self, other: Tensor<'g>) -> Tensor<'g> {
                let number = self.into_operand(other, Caller::caller());
                other.emit(Caller::caller(), |b| b.$method(number.value, other.value))
            }
        }
    )*};
}
operators!(Add add, Sub sub, Mul mul, Div div, Rem rem);

impl<'g> Neg for Tensor<'g> {
    type Output = Tensor<'g>;
    #[track_caller]
    fn neg(self) -> Tensor<'g> {
        self.emit(Caller::caller(), |b| b.neg(self.value))
    }
}

impl<'g> Tensor<'g> {
    /// A constant of the shape of nothing and the dtype of self; see [`Scope::scalar`] for one of a Rust type.
    #[track_caller]
    pub fn scalar_like<T: Element + Into<f64>>(self, value: T) -> Tensor<'g> {
        self.emit(Caller::caller(), |b| b.scalar_like(self.value, value.into()))
    }
}
