//! Machine code of artifacts as text.

use std::fmt::Write;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Formatter, IntelFormatter};
use kiln_runtime::KernelCode;

use crate::failure::{Failure, Outcome};

/// The instructions of the kernels whose name `wanted` says yes to.
pub fn disassemble(triple: &str, code: &KernelCode, wanted: impl Fn(&str) -> bool) -> Outcome<String> {
    if !triple.starts_with("x86_64") {
        return Err(Failure::Work(format!("machine code for {triple} cannot be disassembled: only x86_64 can")));
    }
    let mut out = String::new();
    for (index, kernel) in code.kernels().iter().enumerate().filter(|(_, k)| wanted(&k.name)) {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "; {}", kernel.name);
        x86_64(code.kernel(index).unwrap_or_default(), &mut out);
    }
    Ok(out)
}

/// Instructions up to the return that no jump goes beyond; after it stand constants.
fn x86_64(code: &[u8], out: &mut String) {
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let mut formatter = IntelFormatter::new();
    let mut farthest = 0;
    let mut text = String::new();
    while decoder.can_decode() {
        let instruction = decoder.decode();
        text.clear();
        formatter.format(&instruction, &mut text);
        let _ = writeln!(out, "{:6x}  {text}", instruction.ip());
        match instruction.flow_control() {
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
                farthest = farthest.max(instruction.near_branch_target());
            }
            _ => {}
        }
        let ends = matches!(instruction.flow_control(), FlowControl::Return | FlowControl::Exception);
        if ends && farthest < instruction.next_ip() {
            break;
        }
    }
    let rest = code.len() - decoder.position();
    if rest > 0 {
        let _ = writeln!(out, "        {rest} bytes of constants");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_after_the_last_return_are_not_taken_for_instructions() {
        // test edi, edi; je +1; ret; xor eax, eax; ret; then eight bytes.
        let mut bytes = vec![0x85, 0xff, 0x74, 0x01, 0xc3, 0x31, 0xc0, 0xc3];
        bytes.extend([0xff; 8]);
        let mut code = KernelCode::new();
        code.push("k", &bytes);
        let text = disassemble("x86_64-unknown-linux-gnu", &code, |_| true).expect("text");
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(
            lines,
            ["; k", "0  test edi,edi", "2  je short 5", "4  ret", "5  xor eax,eax", "7  ret", "8 bytes of constants"]
        );
    }

    #[test]
    fn other_machines_are_refused_by_name() {
        let refused = disassemble("aarch64-unknown-linux-gnu", &KernelCode::new(), |_| true);
        assert!(refused.is_err_and(|e| e.to_string().contains("aarch64")));
    }
}
