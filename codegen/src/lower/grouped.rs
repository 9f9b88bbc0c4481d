//! Convolutions of many narrow groups, as ones of fewer and wider groups.
//!
//! A group with fewer output channels than a vector has lanes leaves lanes without work. Several groups side by side fill
//! them: as one group with the channels of all, whose filter is zero where an input and an output channel belong to different
//! groups. There are as many vector multiplications as before, one after the other instead of each for itself. As with
//! Winograd's algorithm, an infinite input reaches results that it does not belong to (0 · ∞ is NaN): code that must multiply
//! only what the graph multiplies does not do this.

use kiln_ir::Tensor;

/// How many groups become one: as many as fill `lanes`; 1 where none should.
pub fn joined(groups: usize, inputs: usize, outputs: usize, lanes: usize) -> usize {
    let fill = lanes / outputs.max(1);
    if inputs > 1 && fill > 1 && lanes.is_multiple_of(outputs) && groups.is_multiple_of(fill) { fill } else { 1 }
}

/// A channels-last filter [taps…, inputs, outputs of all groups] for `join` groups at a time: [taps…, join · inputs,
/// outputs of all groups], zero between groups. `outputs` are those of a group.
pub fn widened(filter: &Tensor, join: usize, outputs: usize) -> Option<Tensor> {
    let (filter, mut dims) = (filter.clone(), filter.dims().to_vec());
    let [.., inputs, all] = dims[..] else { return None };
    let size = filter.dtype().size();
    let rank = dims.len();
    dims[rank - 2] = join * inputs;
    let dtype = filter.dtype();
    let fill = move |out: &mut [u8]| {
        out.fill(0);
        let run = outputs * size;
        // a run: the output channels of one group, for one input channel of one tap
        for (at, from) in filter.bytes().chunks_exact(run).enumerate() {
            let (group, row) = (at % (all / outputs), at / (all / outputs));
            let (tap, input) = (row / inputs, row % inputs);
            let channel = group % join * inputs + input;
            let to = ((tap * join * inputs + channel) * all + group * outputs) * size;
            out[to..to + run].copy_from_slice(from);
        }
    };
    Tensor::deferred(dtype, &dims, fill).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_joined_to_fill_the_lanes_where_they_can() {
        assert_eq!([joined(32, 4, 4, 16), joined(32, 8, 8, 16), joined(6, 3, 8, 16)], [4, 2, 2]);
        // whole vectors, groups that do not come out even, one input channel
        assert_eq!([joined(32, 16, 16, 16), joined(3, 4, 8, 16), joined(4, 4, 6, 16), joined(32, 1, 4, 16)], [1; 4]);
    }

    #[test]
    fn a_widened_filter_is_zero_between_groups() {
        // one tap, two inputs, four groups of one output
        let filter = Tensor::from_slice(&[1, 2, 4], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]).unwrap();
        let wide = widened(&filter, 2, 1).unwrap();
        assert_eq!(wide.dims(), [1, 4, 4]);
        let expected = [[1f32, 0.0, 3.0, 0.0], [5.0, 0.0, 7.0, 0.0], [0.0, 2.0, 0.0, 4.0], [0.0, 6.0, 0.0, 8.0]];
        assert_eq!(wide.to_vec::<f32>().unwrap(), expected.concat());
    }
}
