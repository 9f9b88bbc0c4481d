//! Inputs for measuring a model without data.

use kiln_ir::{DType, Tensor, TensorError, random};
use kiln_runtime::Signature;

/// A tensor that any model is likely to take: floats uniform in [-1, 1); bytes (`u8`, `i8`) over their whole range;
/// wider integers and `bool` 0 or 1, which index every table of two rows, as token ids and masks must.
/// A function of its arguments alone.
pub fn random_tensor(dtype: DType, dims: &[usize], seed: u64) -> Result<Tensor, TensorError> {
    let n = kiln_ir::tensor::element_count(dims).ok_or(TensorError::TooLarge { dtype, dims: dims.to_vec() })?;
    let (low, width) = match dtype {
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => (-1.0, 2.0),
        DType::U8 => (0.0, 256.0),
        DType::I8 => (-128.0, 256.0),
        DType::I64 | DType::I32 | DType::Bool => (0.0, 2.0),
    };
    let values = random::uniform(seed, n).map(|u| low + width * u);
    let whole = !dtype.is_float();
    Tensor::from_f64_iter(dtype, dims, values.map(|v| if whole { v.floor() } else { v }))
}

/// [`random_tensor`]s for the inputs of `signature` that `given` lacks, in the signature's order. An input's values come
/// of the seed and its name, so that a graph that loses another input, or gains one, is fed as before.
pub fn random_feeds(
    signature: &Signature,
    given: &[(String, Tensor)],
    seed: u64,
) -> Result<Vec<(String, Tensor)>, TensorError> {
    let missing = signature.inputs.iter().filter(|spec| !given.iter().any(|(name, _)| *name == spec.name));
    let random = missing.map(|spec| {
        let tensor = random_tensor(spec.dtype, &spec.dims, seed_of(&spec.name, seed))?;
        Ok((spec.name.clone(), tensor))
    });
    random.collect()
}

/// The seed of the input `name`.
fn seed_of(name: &str, seed: u64) -> u64 {
    let digest = blake3::hash(name.as_bytes());
    let mut word = [0; 8];
    word.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_le_bytes(word).wrapping_add(seed)
}

#[cfg(test)]
mod tests {
    use kiln_runtime::TensorSpec;

    use super::*;

    #[test]
    fn every_dtype_stays_in_its_range_and_fills_it() {
        for dtype in DType::ALL {
            let values = random_tensor(dtype, &[50, 100], 7).expect("a tensor").to_f64_vec();
            let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(a, b), &v| (a.min(v), b.max(v)));
            let expected = match dtype {
                DType::U8 => (0.0, 255.0),
                DType::I8 => (-128.0, 127.0),
                d if d.is_float() => {
                    // 16-bit floats may round the largest values up to 1.
                    assert!((-1.0..-0.99).contains(&low) && (0.99..=1.0).contains(&high), "{dtype}: {low} … {high}");
                    continue;
                }
                _ => (0.0, 1.0),
            };
            assert_eq!((low, high), expected, "{dtype}");
        }
    }

    #[test]
    fn an_input_is_fed_alike_whatever_other_inputs_there_are() {
        let spec = |name: &str| TensorSpec::new(name, DType::F32, vec![4]);
        let signature =
            |names: &[&str]| Signature { inputs: names.iter().map(|n| spec(n)).collect(), ..Signature::default() };
        let given = [("x".to_owned(), Tensor::zeros(DType::F32, &[4]).expect("a tensor"))];
        let all = random_feeds(&signature(&["x", "y", "z"]), &given, 3).expect("feeds");
        let less = random_feeds(&signature(&["z"]), &[], 3).expect("feeds");
        assert_eq!(all.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["y", "z"]);
        assert_eq!(all[1], less[0]);
        assert_ne!(all[0].1, all[1].1);
    }

    #[test]
    fn the_seed_decides_the_values() {
        let make = |seed| random_tensor(DType::F32, &[8], seed).expect("a tensor");
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
    }
}
