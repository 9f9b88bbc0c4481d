//! What a debugger, a profiler or a crash handler finds when it looks up the stack from a kernel: the kernel's frame, and above it its caller.
//!
//! The kernel is made to fault by a null buffer; the handler of the signal walks the frame pointers. As no process survives that, each case
//! is a child of the test.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(unsafe_code, reason = "signal handlers")]

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use kiln_codegen::kir::*;
use kiln_codegen::native::{self, Features, Target};
use kiln_runtime::KernelFn;

/// The child's part of the work: the name of a case.
const CASE: &str = "KILN_TEST_BACKTRACE";

/// Where the kernel's code lies, and its caller's.
static CODE: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
static CALLER: AtomicUsize = AtomicUsize::new(0);

/// Bytes that the caller's code has at most.
const CALLER_BYTES: usize = 512;

fn targets() -> Vec<(&'static str, Target)> {
    let host = Target::host().unwrap();
    let level = |features| Target::new(host.triple().clone(), features).unwrap();
    let all = [("host", host.clone()), ("v3", level(Features::V3)), ("cranelift", host.clone().portable())];
    all.into_iter().filter(|(_, target)| target.runs_here()).collect()
}

/// Sums of rows in a loop with many live values, so that the frame holds more than the return address.
fn kernel() -> Kernel {
    let mut b = KernelBuilder::new("sums");
    let x = b.input("x", DType::F32, 4096);
    let y = b.output("y", DType::F32, 64 * 40);
    let i = b.parallel(4);
    let zero = b.constant_bits(VType::new(DType::F32, 16), Bits(0));
    let sums = b.for_loop(16, &[zero; 40], |b, step, sums| {
        let value = b.load(x, &(i * 1024) + &(step * 64), 16);
        sums.iter()
            .map(|&sum| {
                let more = b.add(sum, value);
                b.mul(more, value)
            })
            .collect()
    });
    for (n, sum) in (0..).zip(sums) {
        b.store(y, &(i * 640) + Index::constant(n * 16), sum);
    }
    b.finish().unwrap()
}

#[inline(never)]
fn call(kernel: KernelFn, args: &[*mut u8], scratch: *mut u8) -> usize {
    // SAFETY: it faults at its first load, which is what the test wants.
    unsafe { kernel(args.as_ptr(), scratch, 0, 1) };
    // not a tail call
    std::hint::black_box(1)
}

extern "C" fn handler(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system gives a context, and the frame of a kernel has its caller's frame pointer and the return address.
    let (at, back) = unsafe {
        let registers = &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let frame = registers[libc::REG_RBP as usize] as *const usize;
        (registers[libc::REG_RIP as usize] as usize, *frame.add(1))
    };
    let code = CODE[0].load(Ordering::Relaxed)..CODE[1].load(Ordering::Relaxed);
    let caller = CALLER.load(Ordering::Relaxed);
    let found = code.contains(&at) && (caller..caller + CALLER_BYTES).contains(&back);
    // The unwinder has no tables for the kernel: it must stop there, not crash.
    let depth = std::backtrace::Backtrace::force_capture().to_string().lines().count();
    eprintln!("at {at:#x} in {code:#x?}, back to {back:#x} from {caller:#x}; {depth} lines of backtrace");
    std::process::exit(if found { 42 } else { 1 });
}

fn fault(case: &str) {
    let (_, target) = targets().into_iter().find(|(name, _)| *name == case).unwrap();
    let compiled = native::compile_kernel(&kernel(), &target).unwrap();
    let bytes = compiled.code().len();
    let code = native::jit(&[compiled], &target).unwrap();
    let entry = code.entries()[0];
    CODE[0].store(entry as usize, Ordering::Relaxed);
    CODE[1].store(entry as usize + bytes, Ordering::Relaxed);
    CALLER.store(call as *const () as usize, Ordering::Relaxed);
    // SAFETY: all of it is zero or set here.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut());
    }
    let mut scratch = vec![0u64; 1 << 12];
    call(entry, &[std::ptr::null_mut(); 2], scratch.as_mut_ptr().cast());
}

#[test]
fn the_stack_leads_from_a_kernel_to_its_caller() {
    if let Ok(case) = std::env::var(CASE) {
        return fault(&case);
    }
    for (case, _) in targets() {
        let this = std::env::current_exe().unwrap();
        let child = Command::new(this).args(["the_stack_leads", "--nocapture"]).env(CASE, case).output().unwrap();
        assert_eq!(child.status.code(), Some(42), "{case}: {}", String::from_utf8_lossy(&child.stderr));
    }
}
