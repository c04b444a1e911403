//! Runs programs and collects their output.

use std::io::Write;
use std::process::{Command, Stdio};

/// The result of a program.
#[derive(Debug)]
pub struct Output {
    /// The command as a person would type it.
    pub command: String,
    /// The exit code. None if a signal ended the program.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Returns standard output without trailing white space. Panics with the whole output unless the exit
    /// code is 0.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(
            self.code,
            Some(0),
            "{}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.stdout,
            self.stderr
        );
        self.stdout.trim_end().to_owned()
    }

    /// Returns standard error. Panics if the exit code is 0.
    #[track_caller]
    pub fn fails(self) -> String {
        assert_ne!(self.code, Some(0), "{} should fail\n{}\n{}", self.command, self.stdout, self.stderr);
        self.stderr
    }
}

/// Runs a command to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    run_with_input(command, "")
}

/// Runs a command to its end with this standard input.
#[track_caller]
pub fn run_with_input(command: &mut Command, input: &str) -> Output {
    let shown = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
    // A program may end without reading its input; then this write fails.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("cannot wait for {shown}: {error}"));
    Output {
        command: shown,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
