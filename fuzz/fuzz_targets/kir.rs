#![no_main]

use kiln_tests::hostile::{Format, examine};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Err(finding) = examine(Format::Kir, bytes) {
        panic!("{finding}");
    }
});
