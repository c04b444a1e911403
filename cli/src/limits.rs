//! Resource limits of the machine. The program exits with one line and code 2 instead of being killed, aborting or panicking.

use std::any::Any;
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::process::ExitCode;
use std::thread;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::exit_codes::USAGE_OR_SYSTEM_ERROR;
use crate::process;

/// Minimum stack size of the main thread, in bytes. If its stack is smaller, another thread runs the program.
const SMALL_STACK: u64 = 1 << 20;

/// Stack size of that thread, in bytes: the usual size of a main thread.
const STACK: usize = 8 << 20;

/// Runs the program.
pub(crate) fn run(program: fn() -> ExitCode) -> ExitCode {
    prepare();
    let guarded = move || {
        panic::catch_unwind(AssertUnwindSafe(program)).unwrap_or(ExitCode::from(USAGE_OR_SYSTEM_ERROR))
    };
    let is_small = getrlimit(Resource::Stack).current.is_some_and(|bytes| bytes < SMALL_STACK);
    // If no thread can be started, the small stack may suffice.
    let roomy = is_small.then(|| thread::Builder::new().stack_size(STACK).spawn(guarded).ok()).flatten();
    match roomy {
        Some(thread) => thread.join().unwrap_or(ExitCode::from(USAGE_OR_SYSTEM_ERROR)),
        None => guarded(),
    }
}

/// Whether an error is about the machine: a limit of threads, memory, open files, file size or disk space, or an unwritable disk.
/// Another command line or request would not help.
pub(crate) fn is_reached(error: &io::Error) -> bool {
    use io::ErrorKind::{OutOfMemory, QuotaExceeded, StorageFull};
    let codes = [
        Errno::AGAIN,
        Errno::NOMEM,
        Errno::MFILE,
        Errno::NFILE,
        Errno::FBIG,
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::ROFS,
        Errno::IO,
    ];
    let code = error.raw_os_error();
    codes.iter().any(|errno| Some(errno.raw_os_error()) == code)
        || matches!(error.kind(), OutOfMemory | StorageFull | QuotaExceeded)
}

fn prepare() {
    process::handle_limit_signals();
    let usual = panic::take_hook();
    let backtrace = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    panic::set_hook(Box::new(move |panic| match backtrace {
        true => usual(panic),
        // If standard error is closed, the message is lost.
        false => drop(io::stderr().write_all(line(panic).as_bytes())),
    }));
}

/// Formats a panic as one line.
fn line(panic: &PanicHookInfo<'_>) -> String {
    let place =
        panic.location().map(|place| format!(", {}:{}", place.file(), place.line())).unwrap_or_default();
    let words: Vec<&str> = message(panic.payload()).split_whitespace().collect();
    format!("error: internal error in nixply; please report it: {}{place}\n", words.join(" "))
}

fn message(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
