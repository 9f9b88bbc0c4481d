//! Recognition of composites.

use crate::canonicalise::Rule;

pub(crate) const RULES: &[Rule] = &[];
