//! Asking an x86-64 CPU for features, as machine code: no CLIF instruction does.

use std::collections::BTreeMap;

/// A word of the CPU's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    /// `ecx` of leaf 1.
    Basic,
    /// The registers that the system saves: `eax` of `xgetbv`.
    Saved,
    /// `ebx` of leaf 7, sub-leaf 0.
    Extended,
    /// `ecx` of leaf 7, sub-leaf 0.
    ExtendedMore,
    /// `ecx` of leaf 0x8000_0001.
    Amd,
}

/// The bits of each word that stand for a feature, by LLVM's name (Intel SDM volume 2A, `CPUID`; volume 1, 13.3 for the state
/// that the system saves).
fn bits(feature: &str) -> Option<Vec<(Word, u32)>> {
    const OSXSAVE: (Word, u32) = (Word::Basic, 1 << 27);
    const YMM: (Word, u32) = (Word::Saved, 0x06);
    const ZMM: (Word, u32) = (Word::Saved, 0xE6);
    let (word, bit) = match feature {
        "sse3" => (Word::Basic, 0),
        "ssse3" => (Word::Basic, 9),
        "fma" => (Word::Basic, 12),
        "cmpxchg16b" => (Word::Basic, 13),
        "sse4.1" => (Word::Basic, 19),
        "sse4.2" => (Word::Basic, 20),
        "popcnt" => (Word::Basic, 23),
        "avx" => (Word::Basic, 28),
        "f16c" => (Word::Basic, 29),
        "bmi1" => (Word::Extended, 3),
        "avx2" => (Word::Extended, 5),
        "bmi2" => (Word::Extended, 8),
        "avx512f" => (Word::Extended, 16),
        "avx512dq" => (Word::Extended, 17),
        "avx512cd" => (Word::Extended, 28),
        "avx512bw" => (Word::Extended, 30),
        "avx512vl" => (Word::Extended, 31),
        "avx512vnni" => (Word::ExtendedMore, 11),
        "lzcnt" => (Word::Amd, 5),
        _ => return None,
    };
    let mut all = vec![(word, 1 << bit)];
    if feature.starts_with("avx512") {
        all.extend([OSXSAVE, ZMM]);
    } else if feature.starts_with("avx") || ["fma", "f16c"].contains(&feature) {
        all.extend([OSXSAVE, YMM]);
    }
    Some(all)
}

/// A function without arguments that returns, in `eax`, 0 where the CPU has all `features` and the system saves their registers, else 1. It
/// keeps to the System V and the Windows calling conventions, and uses what every x86-64 CPU has. The error is the first feature
/// that is not known.
pub(super) fn function(features: &[&str]) -> Result<Vec<u8>, String> {
    let mut wanted: BTreeMap<Word, u32> = BTreeMap::new();
    for &feature in features {
        for (word, mask) in bits(feature).ok_or_else(|| feature.to_owned())? {
            *wanted.entry(word).or_default() |= mask;
        }
    }
    let mut code = Code::default();
    code.bytes(&[0x53]); // push rbx: cpuid writes to it, both conventions want it back
    for (&word, &mask) in &wanted {
        match word {
            Word::Basic => {
                code.cpuid(1);
                code.require_ecx(mask);
            }
            Word::Saved => {
                // OSXSAVE, which `Basic` has checked, says that the instruction is there.
                code.bytes(&[0x31, 0xC9, 0x0F, 0x01, 0xD0]); // xor ecx, ecx; xgetbv
                code.bytes(&[0x25]); // and eax, mask
                code.word(mask);
                code.bytes(&[0x3D]); // cmp eax, mask
                code.word(mask);
                code.jump_out(&[0x0F, 0x85]); // jne
            }
            Word::Extended => {
                code.require_leaf(0, 7);
                code.cpuid(7);
                code.bytes(&[0x81, 0xE3]); // and ebx, mask
                code.word(mask);
                code.bytes(&[0x81, 0xFB]); // cmp ebx, mask
                code.word(mask);
                code.jump_out(&[0x0F, 0x85]);
            }
            Word::ExtendedMore => {
                code.require_leaf(0, 7);
                code.cpuid(7);
                code.require_ecx(mask);
            }
            Word::Amd => {
                code.require_leaf(0x8000_0000, 0x8000_0001);
                code.cpuid(0x8000_0001);
                code.require_ecx(mask);
            }
        }
    }
    Ok(code.finish())
}

/// Code whose ways out all lead to its end.
#[derive(Default)]
struct Code {
    bytes: Vec<u8>,
    /// Where the distances of jumps to the failing end are.
    jumps: Vec<usize>,
}

impl Code {
    fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn word(&mut self, word: u32) {
        self.bytes(&word.to_le_bytes());
    }

    /// mov eax, leaf; xor ecx, ecx; cpuid
    fn cpuid(&mut self, leaf: u32) {
        self.bytes(&[0xB8]);
        self.word(leaf);
        self.bytes(&[0x31, 0xC9, 0x0F, 0xA2]);
    }

    /// Fails where the highest leaf of the range that starts at `first` is below `leaf`.
    fn require_leaf(&mut self, first: u32, leaf: u32) {
        self.cpuid(first);
        self.bytes(&[0x3D]); // cmp eax, leaf
        self.word(leaf);
        self.jump_out(&[0x0F, 0x82]); // jb
    }

    /// Fails unless `ecx` has all bits of `mask`.
    fn require_ecx(&mut self, mask: u32) {
        self.bytes(&[0x81, 0xE1]); // and ecx, mask
        self.word(mask);
        self.bytes(&[0x81, 0xF9]); // cmp ecx, mask
        self.word(mask);
        self.jump_out(&[0x0F, 0x85]); // jne
    }

    fn jump_out(&mut self, opcode: &[u8]) {
        self.bytes(opcode);
        self.jumps.push(self.bytes.len());
        self.word(0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes(&[0x31, 0xC0, 0x5B, 0xC3]); // xor eax, eax; pop rbx; ret
        let end = self.bytes.len();
        for &at in &self.jumps {
            let distance = (end - at - 4) as u32;
            self.bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        self.bytes(&[0xB8, 1, 0, 0, 0, 0x5B, 0xC3]); // mov eax, 1; pop rbx; ret
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::{Features, Target};
    use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};

    fn listing(code: &[u8]) -> String {
        let mut formatter = IntelFormatter::new();
        let mut text = String::new();
        for instruction in &mut Decoder::new(64, code, DecoderOptions::NONE) {
            formatter.format(&instruction, &mut text);
            text.push('\n');
        }
        text
    }

    #[test]
    fn the_code_asks_leaf_by_leaf_and_jumps_to_its_end() {
        let code = function(&["sse3", "avx2", "lzcnt"]).unwrap();
        insta::assert_snapshot!(listing(&code));
    }

    #[test]
    fn every_feature_of_every_level_can_be_asked_for() {
        for features in Features::ALL {
            let target = Target::named(features.name()).unwrap();
            assert!(function(target.feature_names()).is_ok());
        }
        assert_eq!(function(&["sse3", "warp-drive"]), Err("warp-drive".to_owned()));
    }
}
