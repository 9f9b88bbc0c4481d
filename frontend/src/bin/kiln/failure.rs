//! How a command ends badly: exit code 1 where the work failed, 2 where it was asked for wrongly.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::process::ExitCode;

use crate::output::note;

/// Why a command stops.
#[derive(Debug)]
pub enum Failure {
    /// The work failed: exit code 1.
    Work(String),
    /// The command line asks for something that makes no sense: exit code 2.
    Usage(String),
    /// The work failed, and the command's own output says why: `String` is the line for stderr. Exit code 1.
    Reported(String),
}

/// What every command gives.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// The exit code.
    pub fn code(&self) -> ExitCode {
        match self {
            Failure::Work(_) | Failure::Reported(_) => ExitCode::from(1),
            Failure::Usage(_) => ExitCode::from(2),
        }
    }

    /// Whether nothing was written to stdout yet.
    pub fn is_unreported(&self) -> bool {
        !matches!(self, Failure::Reported(_))
    }
}

/// What went wrong, its first line saying the most.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Work(message) | Failure::Usage(message) | Failure::Reported(message) => f.write_str(message),
        }
    }
}

/// Every error of the library is a failure of the work.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Work(error.to_string())
    }
}

/// Runs `work`. A panic, which is always a bug of ours, ends it as a failure of the work does: it is reported on stderr
/// in the same form, and the exit code is 1.
pub fn guarded(work: impl FnOnce() -> ExitCode) -> ExitCode {
    set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(|at| format!(" at {at}")).unwrap_or_default();
        note(format_args!("error: {message}{place}: this is a bug in Kiln, please report it"));
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            note(backtrace);
        }
    }));
    // Nothing of what the panic left half done is looked at any more.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(ExitCode::from(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_with_the_exit_code_of_failed_work() {
        assert_eq!(guarded(|| panic!("on purpose")), ExitCode::from(1));
        let _ = std::panic::take_hook();
        assert_eq!(guarded(|| ExitCode::SUCCESS), ExitCode::SUCCESS);
        let _ = std::panic::take_hook();
    }
}
