//! Measures a command. A separate process starts it and then asks the kernel for the usage of its child processes, so that the
//! numbers are those of the command and its child processes alone.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::ops::Add;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use unix::sys::resource::{UsageWho, getrusage};
use unix::sys::signal::{Signal, kill};
use unix::sys::time::TimeValLike;
use unix::unistd::Pid;
use xtask::host;

/// The resources that a command used, including its child processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Wall-clock seconds.
    pub seconds: f64,
    /// CPU seconds in user mode.
    pub user: f64,
    /// CPU seconds in the kernel.
    pub system: f64,
    /// Peak resident memory of the largest process, in KiB. At least the few MiB of the measuring process, which a child
    /// process has until it executes the command.
    pub max_rss: u64,
}

impl Add for Usage {
    type Output = Self;

    /// Adds a command that runs after this one.
    fn add(self, next: Self) -> Self {
        Self {
            seconds: self.seconds + next.seconds,
            user: self.user + next.user,
            system: self.system + next.system,
            max_rss: self.max_rss.max(next.max_rss),
        }
    }
}

/// Runs a command and writes the resources that it used.
#[derive(clap::Args)]
pub struct Args {
    /// Stop the command at the end of standard input
    #[arg(long)]
    until_eof: bool,

    /// File for the result
    report: PathBuf,

    /// The command
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Runs the command and writes its usage.
pub fn run(args: &Args) -> Result<()> {
    let mut command = Command::new(&args.command[0]);
    command.args(&args.command[1..]).stdin(Stdio::null());
    let begin = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start {}", host::shown(&command)))?;
    if args.until_eof {
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            let _ = kill(pid, Signal::SIGTERM);
        });
    }
    let status = child.wait()?;
    let seconds = begin.elapsed().as_secs_f64();
    let children = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let in_seconds = |time: unix::sys::time::TimeVal| time.num_microseconds() as f64 / 1e6;
    let usage = Usage {
        seconds,
        user: in_seconds(children.user_time()),
        system: in_seconds(children.system_time()),
        max_rss: u64::try_from(children.max_rss())?,
    };
    std::fs::write(&args.report, serde_json::to_string(&usage)?)?;
    std::process::exit(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()));
}

/// Returns a command that starts the measuring process, and the file with its report.
fn wrapped(command: &Command, flag: Option<&str>) -> Result<(Command, tempfile::TempPath)> {
    let report = tempfile::NamedTempFile::new()?.into_temp_path();
    let mut wrapped = Command::new(std::env::current_exe()?);
    wrapped
        .arg("measured")
        .args(flag)
        .arg(&report)
        .arg("--")
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        wrapped.current_dir(directory);
    }
    Ok((wrapped, report))
}

fn read(report: &tempfile::TempPath) -> Result<Usage> {
    let text = std::fs::read_to_string(report)?;
    serde_json::from_str(&text).context("the measuring process wrote no report")
}

/// Measures a command and discards its output. If the command fails, the error has the last five lines of standard error.
pub(crate) fn measure(command: &Command) -> Result<Usage> {
    let (mut wrapped, report) = wrapped(command, None)?;
    let out = wrapped.stdin(Stdio::null()).output()?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        let last: Vec<&str> = said.lines().rev().take(5).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        bail!("{} ended with {}:\n{}", shortened(command), out.status, last.join("\n"));
    }
    read(&report)
}

/// Returns a command for messages, shortened because it may name a thousand store paths.
fn shortened(command: &Command) -> String {
    let shown = host::shown(command);
    match shown.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    }
}

/// A running server.
pub(crate) struct Background {
    child: Child,
    report: tempfile::TempPath,
}

impl Background {
    /// Starts a server and waits for its first line of output. Also returns that line and the time until then.
    pub(crate) fn start(command: &Command) -> Result<(Self, String, Duration)> {
        let (mut wrapped, report) = wrapped(command, Some("--until-eof"))?;
        let begin = Instant::now();
        wrapped.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = wrapped.spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line)?;
        let took = begin.elapsed();
        let mut server = Self { child, report };
        if line.is_empty() {
            let mut said = String::new();
            server.child.stderr.take().expect("it is piped").read_to_string(&mut said)?;
            bail!("cannot start {}: {}", shortened(command), said.trim());
        }
        Ok((server, line.trim().to_owned(), took))
    }

    /// Stops the server. Also returns its standard error. The seconds are its whole running time.
    pub(crate) fn stop(mut self) -> Result<(Usage, String)> {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.child.stderr.take().expect("it is piped").read_to_string(&mut said)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the server ended with {status}: {said}");
        Ok((read(&self.report)?, said))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_add_times_and_keep_the_larger_memory() {
        let a = Usage { seconds: 1.0, user: 2.0, system: 3.0, max_rss: 4 };
        let b = Usage { seconds: 10.0, user: 20.0, system: 30.0, max_rss: 3 };
        assert_eq!(a + b, Usage { seconds: 11.0, user: 22.0, system: 33.0, max_rss: 4 });
    }
}
