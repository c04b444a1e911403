//! Signals that end a command while another program works for it: that program is told, and waited for, before this one ends.
//! Nothing is left at work, and temporary files go.

use std::env;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::process::{self, Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nixply_packer::Error as PackerError;
use signal_hook::consts::{SIGHUP, SIGINT, SIGKILL, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::exit_codes::INTERRUPTED;
use crate::failure::Failed;
use crate::temporary;

/// How long a program may take to end when it is told to.
const PATIENCE: Duration = Duration::from_secs(5);

/// The program that works now. By a file descriptor, which is of no other process when that has ended.
static AT_WORK: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// The signal that has come, or 0.
static CAME: AtomicI32 = AtomicI32::new(0);

/// Whether this process waits for a reader of its output, perhaps for ever.
static WAITING: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// The signal that a command has come to know of by a flag, or 0.
static FLAGGED: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// A flag that becomes true when the user wants the program to stop: it then ends by itself and leaves nothing behind. Only while
/// there is a [`Waiting`], when nobody looks at the flag, a signal ends the process at once.
pub(crate) fn stop_flag() -> Result<Arc<AtomicBool>> {
    const FAILED: &str = "cannot listen for signals";
    let stop = Arc::new(AtomicBool::new(false));
    let ignored = ignored();
    // One that is ignored, as nohup has it, is meant to be.
    for signal in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0) {
        flag::register_conditional_shutdown(signal, INTERRUPTED.into(), WAITING.clone()).context(FAILED)?;
        flag::register_usize(signal, FLAGGED.clone(), signal.unsigned_abs() as usize).context(FAILED)?;
        flag::register(signal, stop.clone()).context(FAILED)?;
    }
    Ok(stop)
}

/// Whether a signal has asked a program with a [`stop_flag`] to end.
pub(crate) fn stopped() -> bool {
    FLAGGED.load(Ordering::Relaxed) != 0
}

/// A document that was read, unless the user did not want to wait for it any longer.
pub(crate) fn unless_stopped<T>(read: io::Result<T>) -> Result<T> {
    read.map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => PackerError::Interrupted.into(),
        _ => error.into(),
    })
}

/// While there is one of these, output is written that a reader may not take.
pub(crate) struct Waiting(());

impl Waiting {
    /// Fails where a signal has come before.
    pub(crate) fn begin() -> Result<Self> {
        WAITING.store(true, Ordering::SeqCst);
        let waiting = Self(());
        match FLAGGED.load(Ordering::SeqCst) {
            0 => Ok(waiting),
            _ => Err(Failed::interrupted(SIGINT).into()),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.store(false, Ordering::SeqCst);
    }
}

/// Begins to listen. For commands that end by becoming another program, or soon after the last program that they run with
/// [`output`] and [`status`].
pub(crate) fn listen() -> Result<()> {
    let ignored = ignored();
    let heeded = [SIGINT, SIGTERM].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let mut signals = Signals::new(heeded).context("cannot listen for signals")?;
    let heed = move || {
        for signal in signals.forever() {
            CAME.store(signal, Ordering::SeqCst);
            let at_work = AT_WORK.lock().unwrap_or_else(PoisonError::into_inner);
            match &*at_work {
                Some(program) => tell(program, signal),
                None => process::exit(128 + signal),
            }
            drop(at_work);
            // Nix may wait for a build that says nothing, and not see that it is to stop. Its builds end with it.
            let lose_patience = || {
                thread::sleep(PATIENCE);
                let at_work = AT_WORK.lock().unwrap_or_else(PoisonError::into_inner);
                at_work.iter().for_each(|program| tell(program, SIGKILL));
            };
            if thread::Builder::new().spawn(lose_patience).is_err() {
                lose_patience();
            }
        }
    };
    thread::Builder::new().spawn(heed).map_err(|source| PackerError::Threads { source })?;
    Ok(())
}

/// Runs a program to its end and gives what it prints to standard output, and to standard error unless that goes elsewhere.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let _known = Known::new(&child);
    let output = child.wait_with_output()?;
    check()?;
    Ok(output)
}

/// Runs a program to its end.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    let mut child = command.spawn()?;
    let _known = Known::new(&child);
    let status = child.wait()?;
    check()?;
    Ok(status)
}

/// Runs a program and gives how it ended and its messages, or nothing if it has not ended after `patience`: it is killed then.
pub(crate) fn messages(command: &mut Command, patience: Duration) -> Result<Option<(ExitStatus, String)>> {
    // Not a pipe: what the program has started may hold it open.
    let mut file = tempfile::tempfile()
        .map_err(|error| temporary::failed("write temporary files to", &env::temp_dir(), error))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file.try_clone()?);
    let mut child = command.spawn()?;
    let _known = Known::new(&child);
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if start.elapsed() > patience {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    check()?;
    let Some(status) = status else { return Ok(None) };
    let mut said = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut said)?;
    Ok(Some((status, String::from_utf8_lossy(&said).into_owned())))
}

/// While there is one of these, signals go to a program.
struct Known;

impl Known {
    fn new(child: &Child) -> Self {
        *AT_WORK.lock().unwrap_or_else(PoisonError::into_inner) = descriptor(child);
        Self
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        *AT_WORK.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Linux has such descriptors, since 5.3; elsewhere this process ends alone.
#[cfg(target_os = "linux")]
fn descriptor(child: &Child) -> Option<OwnedFd> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    pidfd_open(Pid::from_child(child), PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn descriptor(_child: &Child) -> Option<OwnedFd> {
    None
}

#[cfg(target_os = "linux")]
fn tell(program: &OwnedFd, signal: i32) {
    use rustix::process::{Signal, pidfd_send_signal};
    if let Some(signal) = Signal::from_named_raw(signal) {
        // It may have ended: then whoever waits for it goes on.
        let _ = pidfd_send_signal(program, signal);
    }
}

#[cfg(not(target_os = "linux"))]
fn tell(_program: &OwnedFd, _signal: i32) {}

/// An error once a signal has come.
pub(crate) fn check() -> Result<()> {
    match CAME.load(Ordering::SeqCst) {
        0 => Ok(()),
        signal => Err(Failed::interrupted(signal).into()),
    }
}

/// The signals that this process ignores, a bit each. Linux alone tells.
pub(crate) fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
