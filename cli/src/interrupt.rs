//! Signals that end a command while another program works for it: that program is told, and waited for, before this one ends.
//! Nothing is left at work, and temporary files go.

use std::fs;
use std::os::fd::OwnedFd;
use std::process::{self, Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGKILL, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::Failed;

/// How long a program may take to end when it is told to.
const PATIENCE: Duration = Duration::from_secs(5);

/// The program that works now. By a file descriptor, which is of no other process when that has ended.
static AT_WORK: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// The signal that has come, or 0.
static CAME: AtomicI32 = AtomicI32::new(0);

/// Begins to listen. For commands that end by becoming another program, or soon after the last program that they run with
/// [`output`] and [`status`].
pub(crate) fn listen() -> Result<()> {
    let ignored = ignored();
    let heeded = [SIGINT, SIGTERM].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let mut signals = Signals::new(heeded).context("cannot listen for signals")?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            CAME.store(signal, Ordering::SeqCst);
            let at_work = AT_WORK.lock().unwrap_or_else(PoisonError::into_inner);
            match &*at_work {
                Some(program) => tell(program, signal),
                None => process::exit(128 + signal),
            }
            drop(at_work);
            // Nix may wait for a build that says nothing, and not see that it is to stop. Its builds end with it.
            std::thread::spawn(|| {
                std::thread::sleep(PATIENCE);
                let at_work = AT_WORK.lock().unwrap_or_else(PoisonError::into_inner);
                at_work.iter().for_each(|program| tell(program, SIGKILL));
            });
        }
    });
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

fn check() -> Result<()> {
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
