//! What convolutions and pools share: kernel, strides, padding, dilations.

use kiln_ir::attribute::Padding;
use kiln_ir::infer::window_extent;

use super::super::error::{NodeError, Result, invalid};
use super::super::node::NodeContext;

/// A sliding window over the spatial axes.
pub(super) struct Window {
    pub kernel: Vec<usize>,
    pub strides: Vec<usize>,
    pub dilations: Vec<usize>,
    /// Padding as the model states it, or as its `auto_pad` works out.
    pub padding: Vec<Padding>,
    /// Positions per axis.
    pub extents: Vec<usize>,
    /// Padding with what `ceil_mode` adds at the end of an axis.
    pub reach: Vec<Padding>,
}

/// How a model asks for padding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AutoPad {
    NotSet,
    SameUpper,
    SameLower,
    Valid,
}

pub(super) fn auto_pad(n: &NodeContext<'_>) -> Result<AutoPad> {
    Ok(match n.attributes.word("auto_pad", &["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])? {
        "SAME_UPPER" => AutoPad::SameUpper,
        "SAME_LOWER" => AutoPad::SameLower,
        "VALID" => AutoPad::Valid,
        _ => AutoPad::NotSet,
    })
}

/// A list of one integer per spatial axis, each at least 1; missing means all 1.
pub(super) fn per_axis(n: &NodeContext<'_>, name: &str, spatial: usize) -> Result<Vec<usize>> {
    let list = n.attributes.extents(name, 1)?.unwrap_or_else(|| vec![1; spatial]);
    check_length(name, list.len(), spatial)?;
    Ok(list)
}

pub(super) fn check_length(name: &str, found: usize, spatial: usize) -> Result<()> {
    if found == spatial {
        return Ok(());
    }
    Err(NodeError::Attribute {
        name: name.to_owned(),
        expected: format!("{spatial} entries, one per spatial axis"),
        found: format!("{found}"),
    })
}

/// The attribute `pads`: all beginnings, then all ends. Missing means none.
pub(super) fn explicit_pads(n: &NodeContext<'_>, spatial: usize) -> Result<Vec<Padding>> {
    let Some(pads) = n.attributes.ints("pads")? else { return Ok(vec![Padding::NONE; spatial]) };
    if pads.len() != 2 * spatial {
        return Err(NodeError::Attribute {
            name: "pads".into(),
            expected: format!("{} entries, two per spatial axis", 2 * spatial),
            found: pads.len().to_string(),
        });
    }
    let (low, high) = pads.split_at(spatial);
    Ok(low.iter().zip(high).map(|(&low, &high)| Padding { low, high }).collect())
}

/// Splits padding between the two ends of an axis.
pub(super) fn split(total: i64, upper: bool) -> Padding {
    let (less, more) = (total / 2, total - total / 2);
    if upper { Padding { low: less, high: more } } else { Padding { low: more, high: less } }
}

impl Window {
    /// Reads the window of a node whose input has these spatial `extents`.
    pub fn read(n: &NodeContext<'_>, kernel: Vec<usize>, extents: &[usize], ceil: bool) -> Result<Window> {
        let spatial = extents.len();
        check_length("kernel_shape", kernel.len(), spatial)?;
        let strides = per_axis(n, "strides", spatial)?;
        let dilations = per_axis(n, "dilations", spatial)?;
        let auto = auto_pad(n)?;
        let explicit = explicit_pads(n, spatial)?;
        if auto != AutoPad::NotSet && explicit.iter().any(|p| *p != Padding::NONE) {
            return invalid("`pads` and `auto_pad` exclude each other");
        }
        if explicit.iter().any(|p| p.low < 0 || p.high < 0) {
            return invalid(format!("`pads` must not be negative, found {explicit:?}"));
        }
        let mut window =
            Window { kernel, strides, dilations, padding: explicit, extents: Vec::new(), reach: Vec::new() };
        for (i, &extent) in extents.iter().enumerate() {
            window.place(i, extent, auto, ceil)?;
        }
        Ok(window)
    }

    /// Works out padding and number of positions along spatial axis `i`.
    fn place(&mut self, i: usize, extent: usize, auto: AutoPad, ceil: bool) -> Result<()> {
        let at = |list: &[usize]| list.get(i).copied().unwrap_or(1);
        let (kernel, stride, dilation) = (at(&self.kernel), at(&self.strides), at(&self.dilations));
        let big = || NodeError::Invalid(format!("window, stride or padding at spatial axis {i} is too large"));
        let span = (kernel - 1)
            .checked_mul(dilation)
            .and_then(|s| i64::try_from(s).ok())
            .and_then(|s| s.checked_add(1))
            .ok_or_else(big)?;
        let (extent64, stride64) =
            (i64::try_from(extent).map_err(|_| big())?, i64::try_from(stride).map_err(|_| big())?);
        if matches!(auto, AutoPad::SameUpper | AutoPad::SameLower) {
            let positions = extent.div_ceil(stride);
            let covered = (positions.max(1) as i64 - 1)
                .checked_mul(stride64)
                .and_then(|c| c.checked_add(span))
                .ok_or_else(big)?;
            let total = (covered - extent64).max(0);
            if let Some(p) = self.padding.get_mut(i) {
                *p = split(total, auto == AutoPad::SameUpper);
            }
        }
        let padding = self.padding.get(i).copied().unwrap_or_default();
        let padded = extent64.checked_add(padding.low).and_then(|p| p.checked_add(padding.high)).ok_or_else(big)?;
        let mut reach = padding;
        if ceil && padded >= span {
            let room = padded - span;
            let mut steps = room / stride64 + i64::from(room % stride64 != 0);
            // A window must not start in the padding at the end.
            if steps * stride64 >= extent64 + padding.low {
                steps -= 1;
            }
            reach.high += (steps * stride64 + span - padded).max(0);
        }
        let Some(positions) = window_extent(extent, kernel, stride, reach, dilation) else {
            return invalid(format!(
                "a window of {kernel} (dilation {dilation}) does not fit extent {extent} padded by [{}, {}] at spatial axis {i}",
                padding.low, padding.high
            ));
        };
        self.extents.push(positions);
        self.reach.push(reach);
        Ok(())
    }
}
