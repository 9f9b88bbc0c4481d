//! Artifacts that were damaged, or made to do damage: always an error, never a panic, never unbounded memory.

mod common;

use artifact::{Digests, NativeOptions, inspect, load_native, read_portable};
use bytes::Bytes;
use common::{native, number, sign, whole};
use kiln_runtime::*;
use proptest::prelude::*;

/// A small artifact with every kind of section.
fn sample() -> Bytes {
    let profile = Some(Profile::new(&common::plan().0));
    Artifact { profile, ..whole(vec![native(&cpu::host_triple(), &[])]) }.to_bytes().unwrap()
}

/// Everything that reads an artifact; code is loaded but never run. Whether each refused the bytes.
fn refused(bytes: &[u8]) -> [bool; 4] {
    let file = Bytes::copy_from_slice(bytes);
    // SAFETY: nothing is run.
    let native = unsafe { load_native(&file, NativeOptions { verify_weights: true, ..NativeOptions::default() }) };
    [
        inspect(&file, Digests::Skip).is_err(),
        inspect(&file, Digests::Check).is_err(),
        read_portable(&file).is_err(),
        native.is_err(),
    ]
}

#[test]
fn signing_an_unchanged_file_changes_nothing() {
    let bytes = sample();
    let mut signed = bytes.to_vec();
    sign(&mut signed);
    assert_eq!(signed, bytes);
    if cfg!(target_arch = "x86_64") {
        assert_eq!(refused(&bytes), [false; 4]);
    }
}

#[test]
fn every_truncation_is_refused_by_every_reader() {
    let bytes = sample();
    for len in 0..bytes.len() {
        assert_eq!(refused(&bytes[..len]), [true; 4], "the first {len} of {} bytes", bytes.len());
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert_eq!(refused(&longer), [true; 4]);
}

#[test]
fn every_flipped_bit_is_found_when_digests_are_compared_and_in_the_header_always() {
    let bytes = sample();
    let table = 128 + 64 * u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let mut damaged = bytes.to_vec();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            damaged[at] ^= 1 << bit;
            let file = Bytes::copy_from_slice(&damaged);
            assert!(inspect(&file, Digests::Check).is_err(), "bit {bit} of byte {at}");
            if at < table {
                assert_eq!(refused(&damaged), [true; 4], "bit {bit} of byte {at}");
            }
            damaged[at] ^= 1 << bit;
        }
    }
}

#[test]
fn a_signed_lie_about_any_length_or_place_is_refused() {
    let bytes = sample();
    let count = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let fields = std::iter::once(16).chain((0..count).flat_map(|s| [128 + 64 * s + 8, 128 + 64 * s + 16]));
    for at in fields {
        let right = number(&bytes, at) as u64;
        for lie in [0, 1, right + 1, right.wrapping_sub(1), right + 64, 1 << 31, 1 << 40, u64::MAX - 63, u64::MAX] {
            // Text or code that takes in a zero of the padding after it is another file, but a well-formed one.
            let kind = bytes[at / 64 * 64];
            let well_formed = at % 64 == 16 && at > 64 && [2, 5].contains(&kind) && lie == right + 1;
            if lie != right && !well_formed {
                let mut damaged = bytes.to_vec();
                damaged[at..at + 8].copy_from_slice(&lie.to_le_bytes());
                sign(&mut damaged);
                // A reader of one half decodes nothing that only the other half needs; `inspect` decodes all.
                let [skipping, checking, ..] = refused(&damaged);
                assert!(skipping && checking, "{lie} instead of {right} at byte {at}");
            }
        }
    }
    for lie in [0, 1, count as u32 + 1, u32::MAX] {
        let mut damaged = bytes.to_vec();
        damaged[12..16].copy_from_slice(&lie.to_le_bytes());
        let file = Bytes::from(damaged);
        assert!(inspect(&file, Digests::Skip).is_err(), "{lie} sections");
    }
}

#[test]
fn errors_say_field_expected_found_and_remedy() {
    let bytes = sample();
    let text = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut damaged = bytes.to_vec();
        change(&mut damaged);
        inspect(&Bytes::from(damaged), Digests::Check).unwrap_err().to_string()
    };
    let cases = [
        (text(&|b| b[0] = b'P'), "magic number: expected \\x8bKILN\\r\\n\\x1a, found PKILN"),
        (text(&|b| b[8] = 9), "format version: expected 2, found 9; compile the model again with this version of Kiln"),
        (text(&|b| b.truncate(1000)), "found 1000; fetch the file again"),
        (text(&|b| *b.last_mut().unwrap() ^= 1), "digest of the weights section: expected"),
        (text(&|b| b.clear()), "this is no Kiln artifact"),
    ];
    for (text, part) in cases {
        assert!(text.contains(part), "expected `{part}` in: {text}");
    }
}

#[test]
fn many_weights_packed_in_one_place_cannot_multiply_work() {
    // Each is the ramp rotated by another number: all can be unpacked from the one ramp that is stored.
    let mut contents = whole(vec![native(&cpu::host_triple(), &[])]);
    let portable = contents.portable.as_mut().unwrap();
    for rotation in 1..400 {
        let relayout = common::swapped(rotation);
        let packed = Some(artifact::PackedWeight { native: 0, offset: 0, len: 4000, relayout });
        portable.weights.push(artifact::PortableWeight { value: common::ramp(rotation), packed });
    }
    let error = read_portable(&contents.to_bytes().unwrap()).unwrap_err().to_string();
    assert!(error.contains("more work than"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Random damage behind right digests reaches the decoders, the plan verifier and the recipes.
    #[test]
    fn signed_damage_gives_an_answer(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let bytes = sample();
        let mut damaged = bytes.to_vec();
        let start = 128 + 64 * u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
        // Structured sections come before the 8 KB of weights.
        let end = bytes.len() - 8000;
        for (index, value) in changes {
            damaged[start + index.index(end - start)] = value;
        }
        sign(&mut damaged);
        let _ = refused(&damaged);
    }

    #[test]
    fn random_bytes_after_a_right_header_are_refused(tail in prop::collection::vec(any::<u8>(), 0..400), count in 0u32..4) {
        let mut bytes = sample()[..128].to_vec();
        bytes.extend(tail);
        let len = bytes.len() as u64;
        bytes[16..24].copy_from_slice(&len.to_le_bytes());
        bytes[12..16].copy_from_slice(&count.to_le_bytes());
        if bytes.len() >= 128 + 64 * count as usize {
            sign(&mut bytes);
        }
        prop_assert_eq!(refused(&bytes), [true; 4]);
    }
}
