//! Errors of commands: with hints, from other programs, or with an exit code. `diagnosis` prints them.

use std::error::Error as StdError;
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use anyhow::Error;
use nixply_documents::wording;
use signal_hook::consts::SIGINT;

/// An error with a hint, which is printed on a separate line. It replaces the error that it wraps, and does not show up in a chain
/// of causes.
#[derive(Debug)]
pub(crate) struct Hinted {
    pub(crate) error: Error,
    pub(crate) hint: String,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl StdError for Hinted {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

/// Adds hints to errors.
pub(crate) trait Hint<T> {
    /// Adds a hint: an imperative in lower case, without a full stop.
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<Error>> Hint<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| hinted(error, hint))
    }
}

/// Returns an error with a hint.
pub(crate) fn hinted(error: impl Into<Error>, hint: impl Into<String>) -> Error {
    Error::new(Hinted { error: error.into(), hint: hint.into() })
}

/// Returns an error with the hint "did you mean X?" if one of `candidates` resembles `name`, otherwise with the hint `otherwise`.
pub(crate) fn did_you_mean<'c>(
    error: impl Into<Error>,
    name: &str,
    candidates: impl IntoIterator<Item = &'c str>,
    otherwise: String,
) -> Error {
    match wording::nearest(name, candidates) {
        Some(nearest) => hinted(error, format!("did you mean {nearest}?")),
        None => hinted(error, otherwise),
    }
}

/// Arguments that are valid one by one but not together.
#[derive(Debug)]
pub(crate) struct Misused(String);

impl fmt::Display for Misused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Misused {}

/// Returns a usage error, with the same exit code as clap's.
pub(crate) fn misused(what: impl Into<String>) -> Error {
    Error::new(Misused(what.into()))
}

/// Messages of another program. They keep their line breaks.
#[derive(Debug)]
pub(crate) struct ProgramMessages(pub(crate) String);

impl fmt::Display for ProgramMessages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for ProgramMessages {}

/// Message of a command that a signal ended.
pub(crate) const INTERRUPTED: &str = "interrupted";

/// Failure of another program, which has printed the reason.
#[derive(Debug)]
pub(crate) struct Failed {
    what: String,
    pub(crate) code: u8,
}

impl Failed {
    /// Exits with that program's exit code.
    pub(crate) fn with_code(status: ExitStatus, what: String) -> Self {
        let signal = status.signal().map(|signal| 128 + signal);
        let code = status.code().or(signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
        Self { what, code }
    }

    /// Exits as interrupted by this signal.
    pub(crate) fn interrupted(signal: i32) -> Self {
        Self { what: INTERRUPTED.into(), code: u8::try_from(128 + signal).unwrap_or(130) }
    }

    /// Whether a signal ended it.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.what == INTERRUPTED
    }

    /// Exits with the code for errors that the user can fix, unless the user interrupted the program.
    pub(crate) fn for_user(status: ExitStatus, what: String) -> Self {
        let interrupted = status.signal() == Some(SIGINT) || status.code() == Some(130);
        Self { what, code: if interrupted { 130 } else { 1 } }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl StdError for Failed {}
