//! Catching signals, and the flag that stops a command's own work.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result};
use nixply_packer::Error as PackerError;
use signal_hook::consts::{SIGABRT, SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::exit_codes::{INTERRUPTED, USAGE_OR_SYSTEM_ERROR};
use crate::failure::Failed;

/// Error message of a failed registration.
const FAILED: &str = "cannot listen for signals";

/// Signals that ask a program to end.
const TERMINATION: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// Whether this process writes to a reader that may never read.
static BLOCKING: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// The signal that set a [`stop_flag`], or 0.
static RECEIVED: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// Returns a flag that a termination signal sets. The packer then stops by itself and removes its temporary files. While a
/// [`Blocking`] exists, no code looks at the flag, and a signal ends the process at once.
pub(crate) fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in without_ignored(TERMINATION) {
        flag::register_conditional_shutdown(signal, INTERRUPTED.into(), BLOCKING.clone()).context(FAILED)?;
        flag::register_usize(signal, RECEIVED.clone(), signal.unsigned_abs() as usize).context(FAILED)?;
        flag::register(signal, stop.clone()).context(FAILED)?;
    }
    Ok(stop)
}

/// Handles the signals that report a limit of the machine. If registering a handler fails, the signal ends the process.
pub(crate) fn handle_limit_signals() {
    // With a handler, a write beyond the file size limit fails instead of ending the process. Not "ignore", which child processes
    // would inherit.
    let _ = flag::register(SIGXFSZ, Arc::default());
    // If a C library aborts, exit with the code for errors of the machine.
    let _ = flag::register_conditional_shutdown(
        SIGABRT,
        USAGE_OR_SYSTEM_ERROR.into(),
        Arc::new(AtomicBool::new(true)),
    );
}

/// Whether a signal has set the [`stop_flag`].
pub(crate) fn stopped() -> bool {
    RECEIVED.load(Ordering::Relaxed) != 0
}

/// Converts the error of an interrupted read to the packer's `Interrupted`.
pub(crate) fn unless_stopped<T>(read: io::Result<T>) -> Result<T> {
    read.map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => PackerError::Interrupted.into(),
        _ => error.into(),
    })
}

/// Exists while output is written to a reader that may never read.
pub(crate) struct Blocking(());

impl Blocking {
    /// Marks the start of such a write. Fails if a signal has arrived already.
    pub(crate) fn begin() -> Result<Self> {
        BLOCKING.store(true, Ordering::SeqCst);
        let blocking = Self(());
        match RECEIVED.load(Ordering::SeqCst) {
            0 => Ok(blocking),
            _ => Err(Failed::interrupted(SIGINT).into()),
        }
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        BLOCKING.store(false, Ordering::SeqCst);
    }
}

/// Termination signals of a server, which runs until it receives one. Includes signals that the parent process ignores: a script
/// that started a server in the background can stop it with SIGINT.
pub(crate) struct TerminationSignals(Signals);

impl TerminationSignals {
    /// Catches signals from now on.
    pub(crate) fn catch() -> Result<Self> {
        catch(TERMINATION).map(Self)
    }

    /// Waits for the first signal.
    pub(crate) fn wait(mut self) {
        self.0.forever().next();
    }
}

/// Catches these signals.
pub(super) fn catch(signals: impl IntoIterator<Item = i32>) -> Result<Signals> {
    Signals::new(signals).context(FAILED)
}

/// Returns the signals that this process does not ignore. A parent such as nohup ignores a signal on purpose, and catching it
/// would undo that. Only Linux lists the ignored signals.
pub(super) fn without_ignored(signals: impl IntoIterator<Item = i32>) -> impl Iterator<Item = i32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    signals.into_iter().filter(move |signal| ignored >> (signal - 1) & 1 == 0)
}
