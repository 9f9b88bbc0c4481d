//! Counter-based random numbers: Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as
//! easy as 1, 2, 3", SC 2011). The same everywhere, in any order, with no state.

/// The pair of words for one counter under one key.
pub fn threefry2x32(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    // Rotation constants and the key-schedule parity constant of the paper's 2×32 variant.
    const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
    let schedule = [key[0], key[1], 0x1BD1_1BDA ^ key[0] ^ key[1]];
    let mut x = [counter[0].wrapping_add(schedule[0]), counter[1].wrapping_add(schedule[1])];
    for block in 0..5u32 {
        for rotation in ROTATIONS[block as usize % 2] {
            x[0] = x[0].wrapping_add(x[1]);
            x[1] = x[1].rotate_left(rotation) ^ x[0];
        }
        let next = block + 1;
        x[0] = x[0].wrapping_add(schedule[next as usize % 3]);
        x[1] = x[1].wrapping_add(schedule[(next as usize + 1) % 3]).wrapping_add(next);
    }
    x
}

/// The pair of words number `block` of the stream `seed`.
pub fn block(seed: u64, block: u64) -> [u32; 2] {
    threefry2x32([seed as u32, (seed >> 32) as u32], [block as u32, (block >> 32) as u32])
}

/// `n` numbers uniform in [0, 1), with 53 random bits each.
pub fn uniform(seed: u64, n: usize) -> impl Iterator<Item = f64> {
    (0..n as u64).map(move |i| {
        let [a, b] = block(seed, i);
        let bits = (u64::from(a) << 32 | u64::from(b)) >> 11;
        bits as f64 * 2f64.powi(-53)
    })
}

/// `n` standard normal numbers (Box & Muller 1958, the cosine branch).
pub fn normal(seed: u64, n: usize) -> impl Iterator<Item = f64> {
    let radius = uniform(seed, n);
    // A second, independent stream for the angle.
    let angle = uniform(seed ^ 0x9E37_79B9_7F4A_7C15, n);
    radius.zip(angle).map(|(u, v)| (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos())
}

#[cfg(test)]
mod tests {
    use super::threefry2x32;

    #[test]
    fn threefry_gives_the_published_known_answers() {
        // Known-answer vectors of the Random123 distribution for threefry2x32, 20 rounds.
        assert_eq!(threefry2x32([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        let ones = [u32::MAX, u32::MAX];
        assert_eq!(threefry2x32(ones, ones), [0x1cb9_96fc, 0xbb00_2be7]);
        assert_eq!(threefry2x32([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3]), [0xc492_3a9c, 0x483d_f7a0]);
    }
}
