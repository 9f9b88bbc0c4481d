//! Random kernels give the same bits by interpreter and by every back end and feature level.

use crate::random::random_kernel;
use crate::run::{first_difference, random_buffers, run_jit};
use kiln_codegen::kir::interpret;
use kiln_codegen::native::{Features, Target};
use proptest::prelude::*;

/// Every feature level that the host has, by Cranelift and by the level's own back end.
fn targets() -> Vec<Target> {
    let host = Target::host().expect("the host is supported");
    let levels = Features::ALL.into_iter().filter(|&level| level <= host.features());
    let targets = levels.map(|level| Target::new(host.triple().clone(), level).expect("a level below the host's"));
    let mut targets: Vec<Target> = targets.flat_map(|target| [target.clone().portable(), target]).collect();
    targets.dedup_by_key(|target| (target.features(), target.backend()));
    targets
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn random_kernels_agree_bit_for_bit(
        words in prop::collection::vec(any::<u32>(), 0..400),
        seed in any::<u64>(),
    ) {
        let kernel = random_kernel(words);
        for target in targets() {
            let mut expected = random_buffers(&kernel, seed);
            let mut found = expected.clone();
            interpret(&kernel, &mut expected, 0..kernel.parallel_extent(), target.has_fma()).unwrap();
            run_jit(&kernel, &target, &mut found);
            for ((param, expected), found) in kernel.buffers.iter().zip(&expected).zip(&found) {
                if let Some(at) = first_difference(param.dtype, expected, found) {
                    let size = param.dtype.size();
                    let at = at * size..(at + 1) * size;
                    prop_assert!(
                        false,
                        "{target}: {} [{}]: {:?} by interpreter, {:?} by JIT\n{kernel}",
                        param.name, at.start / size, &expected[at.clone()], &found[at.clone()]
                    );
                }
            }
        }
    }
}
