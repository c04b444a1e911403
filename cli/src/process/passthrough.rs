//! Runs another program instead of this one: that program receives all signals, and its exit status becomes this process's.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitCode, ExitStatus};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use nixply_packer::Error as PackerError;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::signals::{catch, without_ignored};

/// Signals to pass to the program.
const PASSED: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// Catches signals from its creation until the program has ended, so that temporary files made for the program are always removed.
/// Signals that this process ignores stay ignored, also in the program.
pub(crate) struct Passthrough(Signals);

impl Passthrough {
    /// Catches signals from now on.
    pub(crate) fn catch() -> Result<Self> {
        catch(without_ignored(PASSED).chain([SIGCHLD])).map(Self)
    }

    /// Starts the program, in this process's group.
    pub(crate) fn start(self, mut command: Command) -> io::Result<Started> {
        let child = command.spawn()?;
        Ok(Started { child, command, signals: self })
    }

    /// Passes signals to the program until it ends.
    fn wait(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
        loop {
            // The child's process number cannot be reused before this call has read the child's status.
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            for signal in self.0.wait().filter(|signal| *signal != SIGCHLD) {
                if let Some(signal) = Signal::from_named_raw(signal) {
                    // The program may have ended already.
                    let _ = kill_process(Pid::from_child(child), signal);
                }
            }
        }
    }
}

/// A running program that receives this process's signals.
pub(crate) struct Started {
    child: Child,
    command: Command,
    signals: Passthrough,
}

impl Started {
    /// Waits until the program ends. If the command captures standard error, `relay` starts a thread that reads it.
    pub(crate) fn wait(
        mut self,
        relay: impl FnOnce(ChildStderr) -> Result<JoinHandle<()>, PackerError>,
    ) -> Result<ExitStatus> {
        let messages = self.child.stderr.take().map(relay).transpose();
        if messages.is_err() {
            // Without a reader of its messages, the program would wait forever.
            let _ = self.child.kill();
        }
        let program = Path::new(self.command.get_program());
        let status = self.signals.wait(&mut self.child);
        let status = status.with_context(|| format!("cannot wait for {}", program.display()))?;
        // If the thread panicked, the panic has been printed.
        messages?.into_iter().for_each(|messages| drop(messages.join()));
        Ok(status)
    }
}

/// Replaces this process by a program. Returns only on errors.
pub(crate) fn become_program(command: &mut Command) -> io::Error {
    command.exec()
}

/// Returns the program's exit code. If a signal ended the program, the same signal ends this process.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    if let Some(signal) = status.signal() {
        // Shells report this code for a signal without a default action.
        let _ = emulate_default_handler(signal);
        return ExitCode::from(128_u8.wrapping_add(u8::try_from(signal).unwrap_or(0)));
    }
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
