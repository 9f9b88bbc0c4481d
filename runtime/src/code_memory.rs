//! Unsafe: machine code made executable.
//!
//! Code is copied into memory of its own, which is then made executable and never writable again (W^X), and unmapped
//! when the last [`KernelTable`] that uses it is dropped.
//!
//! **Contract.** Turning an address into a [`KernelFn`] is sound for any address that is not null; *calling* it is
//! `unsafe`, and whoever calls [`crate::Executable::new`] vouches for what it does. Here it is only made sure that an
//! entry lies inside the code and that the memory stays mapped as long as the table.

use std::io;
use std::sync::Arc;

use memmap2::{Mmap, MmapMut};
use serde::{Deserialize, Serialize};

use crate::kernel::{KernelFn, KernelTable};
use crate::plan::ALIGNMENT;

/// Kernels as position-independent bytes, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelCode {
    bytes: Vec<u8>,
    kernels: Vec<KernelRange>,
}

/// Where one kernel lies in the code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelRange {
    /// A name for people and disassemblers.
    pub name: String,
    /// First byte, which is the entry point.
    pub offset: usize,
    /// Bytes of code and of the constants beside it.
    pub len: usize,
}

/// Code whose kernel ranges are not what they must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "kernel {index} `{name}` covers bytes {start}..{end} of the code: expected a start at a multiple of {ALIGNMENT} from {least} on, and an end up to {size}"
)]
pub struct KernelRangeError {
    /// Position in the table.
    pub index: usize,
    /// The kernel's name.
    pub name: String,
    /// First byte found.
    pub start: usize,
    /// One past the last byte found.
    pub end: usize,
    /// The end of the kernel before it.
    pub least: usize,
    /// Length of the code.
    pub size: usize,
}

impl KernelCode {
    /// No kernels.
    pub fn new() -> KernelCode {
        KernelCode::default()
    }

    /// Code that was taken apart before. Ranges are in order, do not overlap and start at multiples of [`ALIGNMENT`].
    pub fn from_parts(bytes: Vec<u8>, kernels: Vec<KernelRange>) -> Result<KernelCode, KernelRangeError> {
        check_ranges(&kernels, bytes.len())?;
        Ok(KernelCode { bytes, kernels })
    }

    /// Adds a kernel and returns its index: code and constants, entered at the first byte, with no relocations.
    pub fn push(&mut self, name: impl Into<String>, code: &[u8]) -> usize {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        self.kernels.push(KernelRange { name: name.into(), offset: self.bytes.len(), len: code.len() });
        self.bytes.extend_from_slice(code);
        self.kernels.len() - 1
    }

    /// All the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where each kernel lies.
    pub fn kernels(&self) -> &[KernelRange] {
        &self.kernels
    }

    /// The bytes of the kernel at `index`.
    pub fn kernel(&self, index: usize) -> Option<&[u8]> {
        let range = self.kernels.get(index)?;
        self.bytes.get(range.offset..range.offset.checked_add(range.len)?)
    }

    /// Copies the code into executable memory.
    pub fn load(&self) -> io::Result<KernelTable> {
        load(&self.bytes, &self.kernels)
    }
}

/// Checks that kernels lie inside the code, in order, without overlap.
pub(crate) fn check_ranges(kernels: &[KernelRange], size: usize) -> Result<(), KernelRangeError> {
    let mut least = 0;
    for (index, kernel) in kernels.iter().enumerate() {
        let (start, end) = (kernel.offset, kernel.offset.saturating_add(kernel.len));
        if start < least || end > size || kernel.len == 0 || !start.is_multiple_of(ALIGNMENT) {
            return Err(KernelRangeError { index, name: kernel.name.clone(), start, end, least, size });
        }
        least = end;
    }
    Ok(())
}

/// Copies `code` into executable memory and makes a table of the kernels at the given ranges.
pub(crate) fn load(code: &[u8], kernels: &[KernelRange]) -> io::Result<KernelTable> {
    let mut memory = MmapMut::map_anon(code.len().max(1))?;
    if let Some(to) = memory.get_mut(..code.len()) {
        to.copy_from_slice(code);
    }
    let memory = memory.make_exec()?;
    make_visible(&memory)?;
    let mut entries = Vec::with_capacity(kernels.len());
    for kernel in kernels {
        let entry = memory.get(kernel.offset..).filter(|rest| !rest.is_empty());
        let entry =
            entry.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a kernel lies outside its code"))?;
        // SAFETY: the address is not null, and a function pointer has the size of an address on every target that
        // maps code; see the module's contract for calls.
        entries.push(unsafe { std::mem::transmute::<*const u8, KernelFn>(entry.as_ptr()) });
    }
    Ok(KernelTable::new(entries, Arc::new(memory)))
}

/// Makes sure that every core fetches the new bytes: x86-64 does so by itself, others have to be told.
#[cfg(target_arch = "x86_64")]
fn make_visible(_memory: &Mmap) -> io::Result<()> {
    Ok(())
}

/// Makes sure that every core fetches the new bytes.
#[cfg(not(target_arch = "x86_64"))]
fn make_visible(memory: &Mmap) -> io::Result<()> {
    // SAFETY: the range is mapped.
    unsafe { wasmtime_internal_jit_icache_coherence::clear_cache(memory.as_ptr().cast(), memory.len())? };
    wasmtime_internal_jit_icache_coherence::pipeline_flush_mt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `*args[0] += end` as x86-64 code: System V passes args in rdi and end in rcx.
    #[cfg(all(target_arch = "x86_64", not(windows)))]
    const ADD_END: [u8; 7] = [
        0x48, 0x8b, 0x07, // mov rax, [rdi]
        0x48, 0x01, 0x08, // add [rax], rcx
        0xc3, // ret
    ];

    #[cfg(all(target_arch = "x86_64", not(windows)))]
    #[test]
    fn a_table_keeps_its_code_mapped_and_runs_it() {
        let mut code = KernelCode::new();
        code.push("first", &ADD_END);
        code.push("second", &ADD_END);
        let table = code.load().unwrap();
        drop(code);
        let mut value = 40i64;
        let args = [(&raw mut value).cast::<u8>()];
        for index in 0..2 {
            let kernel = table.get(index).unwrap();
            // SAFETY: the code above reads one argument and adds to the eight bytes it leads to.
            unsafe { kernel(args.as_ptr(), std::ptr::null_mut(), 0, 1) };
        }
        assert_eq!(value, 42);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn code_memory_is_executable_and_not_writable() {
        let mut code = KernelCode::new();
        code.push("only", &[0xc3; 100]);
        let table = code.load().unwrap();
        let address = table.get(0).unwrap() as usize;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps
            .lines()
            .find(|line| {
                let mut ends = line.split([' ', '-']).take(2).map(|n| usize::from_str_radix(n, 16).unwrap());
                (ends.next().unwrap()..ends.next().unwrap()).contains(&address)
            })
            .expect("the code is mapped");
        assert_eq!(line.split(' ').nth(1), Some("r-xp"));
    }

    #[test]
    fn kernels_start_at_cache_lines_and_ranges_that_overlap_or_leave_the_code_are_refused() {
        let mut code = KernelCode::new();
        code.push("a", &[1; 3]);
        code.push("b", &[2; 65]);
        assert_eq!(code.kernel(1), Some(&[2; 65][..]));
        assert_eq!(code.kernels()[1].offset, 64);
        let with = |index: usize, offset: usize, len: usize| {
            let mut kernels = code.kernels().to_vec();
            kernels[index] = KernelRange { name: "x".to_owned(), offset, len };
            KernelCode::from_parts(code.bytes().to_vec(), kernels)
        };
        assert_eq!(with(0, 0, 3), KernelCode::from_parts(code.bytes().to_vec(), with(0, 0, 3).unwrap().kernels));
        for (index, offset, len) in [(0, 0, 65), (1, 64, 66), (1, 65, 1), (1, 0, 1), (1, 64, 0), (1, 64, usize::MAX)] {
            assert!(with(index, offset, len).is_err(), "{index} {offset} {len}");
        }
    }
}
