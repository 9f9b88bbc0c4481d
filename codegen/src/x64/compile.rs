//! From a kernel to bytes.

use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
use regalloc2::RegallocOptions;

use super::emit::emit;
use super::encode::{ALIGN, Encoded, encode};
use super::function::machine_env;
use super::isa::Isa;
use crate::kir::{Kernel, math};
use crate::native::Features;

/// The machine code of a verified kernel. `Err` says what the register allocator or the encoder refused: a bug here.
pub(crate) fn compile_kernel(kernel: &Kernel, features: Features) -> Result<(Vec<u8>, u32), String> {
    let encoded = encoded(&math::expand(kernel), features, false)?;
    Ok((encoded.bytes, ALIGN as u32))
}

/// The machine instructions of a kernel, each group under what it computes.
pub(crate) fn listing(kernel: &Kernel, features: Features) -> Result<String, String> {
    let encoded = encoded(&math::expand(kernel), features, true)?;
    let mut formatter = IntelFormatter::new();
    let mut text = String::new();
    let mut comments = encoded.comments.iter().peekable();
    for instruction in Decoder::with_ip(64, &encoded.bytes[..encoded.code_len], 0, DecoderOptions::NONE) {
        while let Some((_, comment)) = comments.next_if(|(at, _)| *at as u64 <= instruction.ip()) {
            text.push_str(&format!("        ; {comment}\n"));
        }
        text.push_str(&format!("{:6x}  ", instruction.ip()));
        formatter.format(&instruction, &mut text);
        text.push('\n');
    }
    Ok(text)
}

fn encoded(kernel: &Kernel, features: Features, listing: bool) -> Result<Encoded, String> {
    let function = emit(kernel, features, listing);
    let options = RegallocOptions { validate_ssa: cfg!(debug_assertions), ..RegallocOptions::default() };
    let output = regalloc2::run(&function, &machine_env(Isa::of(features)), &options).map_err(|e| format!("{e:?}"))?;
    encode(&function, &output)
}
