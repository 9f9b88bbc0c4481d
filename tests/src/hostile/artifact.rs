//! Artifacts, with the digests that they have and with right ones.

use bytes::Bytes;
use kiln::compile::{CompileOptions, Compiler};
use kiln_ir::cost::graph_cost;
use kiln_runtime::artifact::{
    Digests, NativeOptions, graph_text, inspect, interpret, load, load_native, native_code, read_portable,
};

use super::{Examined, graph};

/// Where the header and each entry of the section table are, see `runtime/src/artifact/layout.rs`.
const HEADER: usize = 128;
const ENTRY: usize = 64;

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let field: [u8; 8] = bytes.get(at..at + 8)?.try_into().ok()?;
    usize::try_from(u64::from_le_bytes(field)).ok()
}

/// Puts right digests and the right length into an artifact whose contents were changed, so that what lies behind them is reached.
pub fn sign(bytes: &mut [u8]) {
    let len = bytes.len() as u64;
    let Some(field) = bytes.get_mut(16..24) else { return };
    field.copy_from_slice(&len.to_le_bytes());
    let Some(count) = bytes.get(12..16).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes) else { return };
    let table = (count as usize).saturating_mul(ENTRY).saturating_add(HEADER);
    if table > bytes.len() {
        return;
    }
    for entry in (HEADER..table).step_by(ENTRY) {
        let (Some(offset), Some(len)) = (number(bytes, entry + 8), number(bytes, entry + 16)) else { return };
        if let Some(section) = bytes.get(offset..offset.saturating_add(len)) {
            let digest = *blake3::hash(section).as_bytes();
            bytes[entry + 32..entry + 64].copy_from_slice(&digest);
        }
    }
    bytes[64..96].fill(0);
    let digest = *blake3::hash(&bytes[..table]).as_bytes();
    bytes[64..96].copy_from_slice(&digest);
}

pub(super) fn examine(bytes: &[u8]) -> Result<Examined, String> {
    let as_it_is = readers(bytes)?;
    let mut signed = bytes.to_vec();
    sign(&mut signed);
    if signed == bytes {
        return Ok(as_it_is);
    }
    let examined = readers(&signed)?;
    Ok(Examined { declared: examined.declared.saturating_add(as_it_is.declared), ..examined })
}

/// Everything that reads an artifact. Native code is loaded but not run: who loads it vouches for it.
fn readers(bytes: &[u8]) -> Result<Examined, String> {
    let file = Bytes::copy_from_slice(bytes);
    let mut natives = 0;
    for digests in [Digests::Skip, Digests::Check] {
        match inspect(&file, digests) {
            Ok(summary) => natives = summary.natives.len(),
            Err(e) => super::blames_the_bytes(&e.to_string())?,
        }
    }
    let _ = graph_text(&file);
    for index in 0..natives {
        let _ = native_code(&file, index);
    }
    for verify_weights in [false, true] {
        // SAFETY: nothing is run.
        let native = unsafe { load_native(&file, NativeOptions { verify_weights, ..NativeOptions::default() }) };
        if let Err(e) = native {
            super::blames_the_bytes(&e.to_string())?;
        }
    }
    let model = match read_portable(&file) {
        Ok(model) => model,
        Err(e) => return Examined::refused(e, 0),
    };
    let examined = graph::examine(&model.graph)?;
    let small = graph_cost(&model.graph).is_some_and(|cost| cost.flops < 1 << 16 && cost.bytes() < 1 << 20);
    let compiler = Compiler(CompileOptions { threads: Some(1), ..CompileOptions::default() });
    match load(&file, &compiler) {
        Ok(_) => {}
        Err(e) if examined.ran => return Err(format!("the graph compiles, but does not load: {e}")),
        Err(e) => super::blames_the_bytes(&e.to_string())?,
    }
    if small {
        interpret(&file).map_err(|e| format!("read, but not for the interpreter: {e}"))?;
    }
    Ok(examined)
}
