//! How the program ends when something went wrong.

use std::error::Error as StdError;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::{fmt, io};

use anstream::{AutoStream, ColorChoice};
use anyhow::Error;
use nixply_nix_database::Error as DatabaseError;
use nixply_packer::{Error as PackerError, wording};
use signal_hook::consts::SIGINT;

use crate::exit_codes::{self, FINE, MACHINES, UNREAD, USERS};
use crate::output::{self, Unwritten};
use crate::{limits, packer_hints, terminal, usage};

/// An error that knows a way out, which is told on a line of its own. It takes the place of the error that it is about: in a
/// chain of causes there is nothing to be seen of it.
#[derive(Debug)]
struct Hinted {
    error: Error,
    hint: String,
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

/// Adds ways out to errors.
pub(crate) trait Hint<T> {
    /// With a way out, which begins with a small letter and ends without a full stop.
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<Error>> Hint<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| hinted(error, hint))
    }
}

/// An error with a way out.
pub(crate) fn hinted(error: impl Into<Error>, hint: impl Into<String>) -> Error {
    Error::new(Hinted { error: error.into(), hint: hint.into() })
}

/// Prints clap's message: help and version, which are no errors, or the fault in the arguments. `root` is the command that read
/// them.
pub(crate) fn usage(error: clap::Error, root: clap::Command) -> anyhow::Result<ExitCode> {
    let error = usage::mended(error, root);
    if error.use_stderr() {
        // Nobody is left to be told that standard error is closed.
        let _ = error.print();
        return Ok(ExitCode::from(MACHINES));
    }
    let text = error.render();
    let plain = AutoStream::choice(&io::stdout()) == ColorChoice::Never;
    output::print(if plain { text.to_string() } else { text.ansi().to_string() })?;
    Ok(ExitCode::from(FINE))
}

/// Arguments that clap takes one by one, and that are wrong together.
#[derive(Debug)]
struct Misused(String);

impl fmt::Display for Misused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Misused {}

/// An error of the command line, which has the exit code of those that clap finds.
pub(crate) fn misused(what: impl Into<String>) -> Error {
    Error::new(Misused(what.into()))
}

/// Words of another program, whose lines stay lines in a message.
#[derive(Debug)]
pub(crate) struct Said(pub(crate) String);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Said {}

/// What is said of a command that a signal has ended.
const INTERRUPTED: &str = "interrupted";

/// Another program has failed, and has said why.
#[derive(Debug)]
pub(crate) struct Failed {
    what: String,
    code: u8,
}

impl Failed {
    /// With that program's exit code.
    pub(crate) fn with_code(status: ExitStatus, what: String) -> Self {
        let signal = status.signal().map(|signal| 128 + signal);
        let code = status.code().or(signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
        Self { what, code }
    }

    /// A signal has ended it.
    pub(crate) fn interrupted(signal: i32) -> Self {
        Self { what: INTERRUPTED.into(), code: u8::try_from(128 + signal).unwrap_or(130) }
    }

    /// It is something for the user to mend, unless they have interrupted it.
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

/// Tells of an error and gives the exit code.
pub(crate) fn report(error: &Error) -> ExitCode {
    let told = Told::of(error);
    if let Some(message) = &told.message {
        terminal::error(message);
    }
    told.hints.iter().for_each(terminal::hint);
    ExitCode::from(told.code)
}

/// What is told of an error.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    message: Option<String>,
    hints: Vec<String>,
    code: u8,
}

impl Told {
    fn of(error: &Error) -> Self {
        let mut hints = Vec::new();
        let (mut packer, mut failed, mut next) = (None, None, Some(error));
        let (mut system, mut of_the_machine) = (None, false);
        while let Some(error) = next {
            packer = packer.or_else(|| error.downcast_ref::<PackerError>());
            failed = failed.or_else(|| error.downcast_ref::<Failed>());
            let causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
            system = system.or_else(|| causes.clone().next().map(io::Error::kind));
            let is_usage = error.is::<Misused>() || error.is::<clap::Error>();
            let is_unwritten = error.is::<Unwritten>()
                || matches!(
                    error.downcast_ref(),
                    Some(DatabaseError::Io { .. } | DatabaseError::Database { .. })
                );
            of_the_machine |= is_usage || is_unwritten || causes.clone().any(limits::is_reached);
            // Whoever adds to what another has said speaks first.
            let hinted = error.downcast_ref::<Hinted>();
            hints.extend(hinted.map(|hinted| hinted.hint.clone()));
            next = hinted.map(|hinted| &hinted.error);
        }
        // Which of several images it is about does not make it another error.
        while let Some(PackerError::OfImage { source, .. }) = packer {
            packer = Some(source.as_ref());
        }
        hints.extend(packer.and_then(packer_hints::of));
        if let Some(Failed { code, .. }) = failed.filter(|failed| failed.what == INTERRUPTED) {
            return Self { message: Some(INTERRUPTED.into()), hints: Vec::new(), code: *code };
        }
        if matches!(packer, Some(PackerError::Interrupted)) {
            return Self {
                message: Some(INTERRUPTED.into()),
                hints: Vec::new(),
                code: exit_codes::INTERRUPTED,
            };
        }
        if packer.is_none() && system == Some(io::ErrorKind::BrokenPipe) {
            // Whoever read the output has seen enough: what the signal would have done, without a word.
            return Self { message: None, hints: Vec::new(), code: UNREAD };
        }
        let code = match packer {
            Some(
                PackerError::Io { .. }
                | PackerError::DiskFull { .. }
                | PackerError::Threads { .. }
                | PackerError::Memory,
            ) => MACHINES,
            _ if of_the_machine => MACHINES,
            _ => failed.map_or(USERS, |failed: &Failed| failed.code),
        };
        let cause = |cause: &(dyn StdError + 'static)| match cause.downcast_ref::<Said>() {
            Some(Said(text)) => text.lines().map(wording::line).collect::<Vec<_>>().join("\n"),
            None => wording::line(&cause.to_string()).into_owned(),
        };
        let causes: Vec<String> = error.chain().map(cause).collect();
        Self { message: Some(causes.join(": ")), hints, code }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};
    use rustix::io::Errno;

    use super::*;

    fn told(error: &Error) -> (String, Vec<String>, u8) {
        let Told { message, hints, code } = Told::of(error);
        (message.unwrap_or_default(), hints, code)
    }

    #[test]
    fn a_hint_changes_nothing_else() {
        let io = |kind| io::Error::new(kind, "why");
        let missing = || PackerError::Missing { path: "/a".into() };
        let full = || PackerError::DiskFull { path: "/a".into(), source: io(io::ErrorKind::StorageFull) };
        let raw = |errno: Errno| io::Error::from(errno);
        let errors: [&dyn Fn() -> Error; 14] = [
            &|| anyhow!("what"),
            &|| missing().into(),
            &|| full().into(),
            &|| PackerError::OfImage { image: "a".into(), source: Box::new(full()) }.into(),
            &|| PackerError::Interrupted.into(),
            &|| io(io::ErrorKind::BrokenPipe).into(),
            &|| io(io::ErrorKind::StorageFull).into(),
            &|| Error::from(io(io::ErrorKind::NotFound)).context("cannot read"),
            // Of the machine, whatever it was about: no descriptor, no thread.
            &|| Error::from(raw(Errno::MFILE)).context("cannot read"),
            &|| Error::from(raw(Errno::AGAIN)).context("cannot start a thread").context("x"),
            // A limit of ours.
            &|| Error::from(io(io::ErrorKind::FileTooLarge)).context("cannot read"),
            &|| Error::from(raw(Errno::FBIG)).context("cannot write"),
            // What is wrong with an output is not what is wrong with an input.
            &|| Error::from(io(io::ErrorKind::NotFound)).context(output::unwritten("a")),
            &|| misused("what"),
        ];
        let codes = [1, 1, 2, 2, 130, 141, 2, 1, 2, 2, 1, 2, 2, 2];
        for (error, code) in errors.iter().zip(codes) {
            let plain = told(&error());
            assert_eq!((plain.1.len(), plain.2), (0, code), "{plain:?}");
            let hints = if code > 2 { Vec::new() } else { vec!["do that".to_owned()] };
            assert_eq!(told(&hinted(error(), "do that")), (plain.0, hints, code));
        }
    }

    #[test]
    fn hints_are_found_below_contexts_and_each_other() {
        let inner = Err::<(), _>(anyhow!("why")).context("what").hint("do this");
        let error = inner.context("where").hint("or that").context("when").unwrap_err();
        let hints = vec!["or that".to_owned(), "do this".to_owned()];
        assert_eq!(told(&error), ("when: where: what: why".into(), hints, 1));
    }
}
