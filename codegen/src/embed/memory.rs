//! How the caller's arena is divided.
//!
//! ```text
//!   0     mark of the program, address of the weights (where they are a file)
//!   64    variables, each at a multiple of 64
//!   …     intermediates: the plan's arena
//!   …     scratch of one thread
//! ```

use kiln_runtime::{ALIGNMENT, Plan};

/// Bytes before the variables.
const HEADER: usize = ALIGNMENT;

/// Offset of the mark that `init` writes.
pub(super) const MARK: i32 = 0;

/// Offset of the address of the weights, where they are a file.
pub(super) const WEIGHTS: i32 = 8;

/// Offsets in the arena.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// Of each variable.
    pub variables: Vec<usize>,
    /// Of the plan's arena.
    pub intermediates: usize,
    /// Of the scratch.
    pub scratch: usize,
    /// Bytes in all, a multiple of [`ALIGNMENT`].
    pub total: usize,
}

impl Memory {
    /// The layout for `plan`; `None` where it has more bytes than there are addresses.
    pub fn of(plan: &Plan) -> Option<Memory> {
        let round = |bytes: usize| bytes.checked_next_multiple_of(ALIGNMENT);
        let mut end = HEADER;
        let mut variables = Vec::with_capacity(plan.states.len());
        for state in &plan.states {
            variables.push(end);
            end = round(end.checked_add(state.spec.byte_len()?)?)?;
        }
        let intermediates = end;
        let scratch = round(intermediates.checked_add(plan.arena_bytes)?)?;
        let total = round(scratch.checked_add(plan.scratch_bytes)?)?;
        isize::try_from(total).ok()?;
        Some(Memory { variables, intermediates, scratch, total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_ir::DType;
    use kiln_runtime::{StateSpec, TensorSpec};

    fn plan(state: usize, arena_bytes: usize) -> Plan {
        let states = vec![StateSpec { spec: TensorSpec::new("s", DType::U8, [state]), initial: 0 }; 2];
        Plan { states, arena_bytes, scratch_bytes: 10, ..Plan::default() }
    }

    #[test]
    fn parts_follow_each_other_at_multiples_of_a_cache_line() {
        let expected = Memory { variables: vec![64, 192], intermediates: 320, scratch: 448, total: 512 };
        assert_eq!(Memory::of(&plan(65, 100)), Some(expected));
    }

    #[test]
    fn what_has_no_addresses_is_no_layout() {
        for (state, arena) in [(usize::MAX, 0), (usize::MAX / 2, 0), (0, usize::MAX), (0, isize::MAX as usize)] {
            assert_eq!(Memory::of(&plan(state, arena)), None, "{state} {arena}");
        }
    }
}
