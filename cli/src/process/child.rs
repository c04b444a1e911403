//! Running other programs. This process passes a termination signal to the running program, and waits for that program to end
//! before it ends itself: no program stays behind, and temporary files are removed.

use std::env;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::process::{self, Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use nixply_packer::Error as PackerError;
use signal_hook::consts::{SIGINT, SIGKILL, SIGTERM};

use super::signals::{catch, without_ignored};
use crate::failure::Failed;
use crate::temporary;

/// Time that a program has to end after a signal, before it is killed.
const TERMINATION_TIMEOUT: Duration = Duration::from_secs(5);

/// The running program. A file descriptor, unlike a process number, never refers to another process.
static RUNNING: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// The received signal, or 0.
static RECEIVED: AtomicI32 = AtomicI32::new(0);

/// From now on, passes SIGINT and SIGTERM to the program that [`output`], [`status`] or [`messages`] runs. While no program runs, a
/// signal ends this process. For commands that end by becoming another program, or soon after their last program has ended.
pub(crate) fn forward_signals() -> Result<()> {
    let mut signals = catch(without_ignored([SIGINT, SIGTERM]))?;
    let forward = move || {
        for signal in signals.forever() {
            RECEIVED.store(signal, Ordering::SeqCst);
            let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
            match &*running {
                Some(program) => send(program, signal),
                None => process::exit(128 + signal),
            }
            drop(running);
            // Nix may be waiting for a build without output and not notice the signal. If Nix is killed, its builds end too.
            let kill_later = || {
                thread::sleep(TERMINATION_TIMEOUT);
                let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
                running.iter().for_each(|program| send(program, SIGKILL));
            };
            if thread::Builder::new().spawn(kill_later).is_err() {
                kill_later();
            }
        }
    };
    thread::Builder::new().spawn(forward).map_err(|source| PackerError::Threads { source })?;
    Ok(())
}

/// Runs a program and returns its standard output, and its standard error if the command captures it.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let _running = Running::new(&child);
    let output = child.wait_with_output()?;
    check()?;
    Ok(output)
}

/// Runs a program that soon ends by itself, and returns its standard output and standard error. Does not pass signals to it: a
/// terminal sends them to both processes.
pub(crate) fn captured(command: &mut Command) -> io::Result<Output> {
    command.output()
}

/// Runs a program.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    let mut child = command.spawn()?;
    let _running = Running::new(&child);
    let status = child.wait()?;
    check()?;
    Ok(status)
}

/// Runs a program and returns its status and standard error. If it runs longer than `timeout`, kills it and returns `None`.
pub(crate) fn messages(command: &mut Command, timeout: Duration) -> Result<Option<(ExitStatus, String)>> {
    // Not a pipe: the program's own children may keep that open.
    let mut file = tempfile::tempfile()
        .map_err(|error| temporary::failed("write temporary files to", &env::temp_dir(), error))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file.try_clone()?);
    let mut child = command.spawn()?;
    let _running = Running::new(&child);
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if start.elapsed() > timeout {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    check()?;
    let Some(status) = status else { return Ok(None) };
    let mut messages = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut messages)?;
    Ok(Some((status, String::from_utf8_lossy(&messages).into_owned())))
}

/// Fails if a signal has arrived.
pub(crate) fn check() -> Result<()> {
    match RECEIVED.load(Ordering::SeqCst) {
        0 => Ok(()),
        signal => Err(Failed::interrupted(signal).into()),
    }
}

/// Marks a program as the one that receives signals, until this is dropped.
struct Running;

impl Running {
    fn new(child: &Child) -> Self {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = descriptor(child);
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Returns a process's file descriptor, which Linux has since 5.3. On other systems a signal ends this process alone.
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
fn send(program: &OwnedFd, signal: i32) {
    use rustix::process::{Signal, pidfd_send_signal};
    if let Some(signal) = Signal::from_named_raw(signal) {
        // The program may have ended already.
        let _ = pidfd_send_signal(program, signal);
    }
}

#[cfg(not(target_os = "linux"))]
fn send(_program: &OwnedFd, _signal: i32) {}
