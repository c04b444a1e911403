//! How the program ends after an error: message, hints and exit code.

use std::error::Error as StdError;
use std::io;
use std::process::ExitCode;

use anstream::{AutoStream, ColorChoice};
use anyhow::Error;
use nixply_documents::wording;
use nixply_nix_database::Error as DatabaseError;
use nixply_registry::Error as RegistryError;

use crate::exit_codes::{self, BROKEN_PIPE, SUCCESS, USAGE_OR_SYSTEM_ERROR, USER_ERROR};
use crate::failure::{Failed, Hinted, INTERRUPTED, Misused, ProgramMessages, hinted, misused};
use crate::output::{self, Unwritten};
use crate::packer_hints::Cause;
use crate::{limits, temporary, terminal, usage};

/// Prints clap's message: the help text or version, or the error in the command line. `root` is the command that parsed it.
pub(crate) fn usage(error: clap::Error, root: clap::Command) -> anyhow::Result<ExitCode> {
    let error = usage::with_suggestions(error, root);
    if error.use_stderr() {
        // If standard error is closed, only the exit code reports the error.
        let _ = error.print();
        return Ok(ExitCode::from(USAGE_OR_SYSTEM_ERROR));
    }
    let text = error.render();
    let plain = AutoStream::choice(&io::stdout()) == ColorChoice::Never;
    output::print(if plain { text.to_string() } else { text.ansi().to_string() })?;
    Ok(ExitCode::from(SUCCESS))
}

/// Converts a registry's error to one that [`report`] recognises.
pub(crate) fn of_registry(error: RegistryError) -> Error {
    match error {
        RegistryError::Packer(error) => error.into(),
        RegistryError::Remote(_) => hinted(
            misused(error.to_string()),
            "pass --allow-remote to serve the images to other machines too",
        ),
        RegistryError::Twice { .. } => misused(error.to_string()),
        RegistryError::UnknownPeers => hinted(error, "omit --private, or serve on Linux"),
        RegistryError::NeedsTls { .. } => hinted(
            error,
            "pass --cert-dir DIR with the certificate of its authority (*.crt); DIR may be empty if the system trusts it",
        ),
        RegistryError::Unauthorized { ref host, anonymous, .. } => {
            let hint = match anonymous {
                true => format!("log in with podman login {host}, or pass --creds-file FILE"),
                false => {
                    format!("log in again with podman login {host}; the user may also lack the right to push")
                }
            };
            hinted(error, hint)
        }
        RegistryError::Request { ref source, ref host, .. } if is_tls(source) => {
            let hint = format!(
                "if {host} speaks plain HTTP, pass --plain-http {host}; for a private authority, pass --cert-dir DIR"
            );
            hinted(error, hint)
        }
        RegistryError::Refused { code: Some(ref code), .. } if code == "NAME_UNKNOWN" => {
            hinted(error, "create the repository first: this registry does not create it with the first push")
        }
        RegistryError::Refused { ref status, ref host, .. } if status.starts_with("403") => {
            let hint =
                format!("the user may lack the right to this repository; log in with podman login {host}");
            hinted(error, hint)
        }
        RegistryError::Location { why, .. } if why.contains("not encrypted") => {
            hinted(error, "if you trust the network, pass --plain-http HOST:PORT with that host")
        }
        RegistryError::Token { ref why, .. } if why.ends_with("is not encrypted") => {
            hinted(error, "if you trust the network, pass --plain-http HOST:PORT with that host")
        }
        RegistryError::Scratch { directory, source } => {
            temporary::failed("write packed layers to the directory", &directory, source)
        }
        RegistryError::Write { path, source } => {
            Error::from(source).context(output::unwritten(path.display()))
        }
        RegistryError::NoPlatform { .. } => hinted(error, "pass one of them, as in --platform linux/arm64"),
        error => error.into(),
    }
}

/// Returns whether a connection failed because of TLS.
pub(crate) fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        // rustls: "invalid peer certificate", "received fatal alert: BadCertificate".
        if text.contains("ertificate")
            || text.contains("InvalidContentType")
            || text.contains("corrupt message")
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// Prints an error with its hints, and returns the exit code.
pub(crate) fn report(error: &Error) -> ExitCode {
    let diagnosis = Diagnosis::of(error);
    if let Some(message) = &diagnosis.message {
        terminal::error(message);
    }
    diagnosis.hints.iter().for_each(terminal::hint);
    ExitCode::from(diagnosis.code)
}

/// Message, hints and exit code of an error.
#[derive(Debug, PartialEq, Eq)]
struct Diagnosis {
    message: Option<String>,
    hints: Vec<String>,
    code: u8,
}

impl Diagnosis {
    fn of(error: &Error) -> Self {
        let mut hints = Vec::new();
        let (mut packer, mut failed, mut next) = (None, None, Some(error));
        let (mut system, mut of_the_machine, mut of_a_registry) = (None, false, false);
        while let Some(error) = next {
            packer = packer.or_else(|| Cause::of(error));
            failed = failed.or_else(|| error.downcast_ref::<Failed>());
            let causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
            system = system.or_else(|| causes.clone().next().map(io::Error::kind));
            of_a_registry |= error.is::<RegistryError>();
            let is_usage = error.is::<Misused>() || error.is::<clap::Error>();
            let is_unwritten = error.is::<Unwritten>()
                || matches!(
                    error.downcast_ref(),
                    Some(DatabaseError::Io { .. } | DatabaseError::Database { .. })
                );
            of_the_machine |= is_usage || is_unwritten || causes.clone().any(limits::is_reached);
            // The outer hint comes first.
            let hinted = error.downcast_ref::<Hinted>();
            hints.extend(hinted.map(|hinted| hinted.hint.clone()));
            next = hinted.map(|hinted| &hinted.error);
        }
        let interrupted = |code| Self { message: Some(INTERRUPTED.into()), hints: Vec::new(), code };
        if let Some(failed) = failed.filter(|failed| failed.is_interrupted()) {
            return interrupted(failed.code);
        }
        if packer.is_some_and(Cause::is_interruption) {
            return interrupted(exit_codes::INTERRUPTED);
        }
        if packer.is_none() && !of_a_registry && system == Some(io::ErrorKind::BrokenPipe) {
            // The reader of the output is gone: end like SIGPIPE would, without a message.
            return Self { message: None, hints: Vec::new(), code: BROKEN_PIPE };
        }
        let code = match packer {
            Some(packer) if packer.is_of_the_machine() => USAGE_OR_SYSTEM_ERROR,
            _ if of_the_machine => USAGE_OR_SYSTEM_ERROR,
            _ => failed.map_or(USER_ERROR, |failed: &Failed| failed.code),
        };
        hints.extend(packer.and_then(Cause::hint));
        let cause = |cause: &(dyn StdError + 'static)| match cause.downcast_ref::<ProgramMessages>() {
            Some(ProgramMessages(text)) => text.lines().map(wording::line).collect::<Vec<_>>().join("\n"),
            None => wording::line(&cause.to_string()).into_owned(),
        };
        let causes: Vec<String> = error.chain().map(cause).collect();
        Self { message: Some(causes.join(": ")), hints, code }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};
    use nixply_files::Error as FileError;
    use nixply_packer::Error as PackerError;
    use rustix::io::Errno;

    use super::*;
    use crate::failure::Hint;

    fn diagnosed(error: &Error) -> (String, Vec<String>, u8) {
        let Diagnosis { message, hints, code } = Diagnosis::of(error);
        (message.unwrap_or_default(), hints, code)
    }

    #[test]
    fn hints_do_not_change_message_or_code() {
        let io = |kind| io::Error::new(kind, "why");
        let missing = || PackerError::Missing { path: "/a".into() };
        let full = || {
            PackerError::from(FileError::DiskFull {
                path: "/a".into(),
                source: io(io::ErrorKind::StorageFull),
            })
        };
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
            // Errors of the machine in any context: no descriptor, no thread.
            &|| Error::from(raw(Errno::MFILE)).context("cannot read"),
            &|| Error::from(raw(Errno::AGAIN)).context("cannot start a thread").context("x"),
            // nixply's own limit for documents, then the system's limit for files.
            &|| Error::from(io(io::ErrorKind::FileTooLarge)).context("cannot read"),
            &|| Error::from(raw(Errno::FBIG)).context("cannot write"),
            // An output that cannot be written is an error of the machine, unlike an unreadable input.
            &|| Error::from(io(io::ErrorKind::NotFound)).context(output::unwritten("a")),
            &|| misused("what"),
        ];
        let codes = [1, 1, 2, 2, 130, 141, 2, 1, 2, 2, 1, 2, 2, 2];
        for (error, code) in errors.iter().zip(codes) {
            let plain = diagnosed(&error());
            assert_eq!((plain.1.len(), plain.2), (0, code), "{plain:?}");
            let hints = if code > 2 { Vec::new() } else { vec!["do that".to_owned()] };
            assert_eq!(diagnosed(&hinted(error(), "do that")), (plain.0, hints, code));
        }
    }

    #[test]
    fn errors_of_the_registry_get_hints() {
        let remote = RegistryError::Remote("0.0.0.0:80".parse().unwrap());
        for (error, message, hint, code) in [
            (remote, "0.0.0.0:80 can be reached from other machines", "pass --allow-remote", 2),
            (
                RegistryError::UnknownPeers,
                "cannot identify the user of a loopback connection",
                "omit --private",
                1,
            ),
        ] {
            let (found, hints, found_code) = diagnosed(&of_registry(error));
            assert!(found.starts_with(message), "{found}");
            assert!(hints.len() == 1 && hints[0].starts_with(hint), "{hints:?}");
            assert_eq!(found_code, code);
        }
    }

    #[test]
    fn a_registry_that_closes_the_connection_does_not_end_the_program_silently() {
        let (host, what) = ("r.example".into(), "read the blob".into());
        let error = RegistryError::Answer { host, what, source: io::ErrorKind::BrokenPipe.into() };
        let (message, _, code) = diagnosed(&of_registry(error));
        assert!(message.contains("r.example is not usable: broken pipe") && code == 1, "{code}: {message}");
    }

    #[test]
    fn hints_are_found_under_contexts_and_other_hints() {
        let inner = Err::<(), _>(anyhow!("why")).context("what").hint("do this");
        let error = inner.context("where").hint("or that").context("when").unwrap_err();
        let hints = vec!["or that".to_owned(), "do this".to_owned()];
        assert_eq!(diagnosed(&error), ("when: where: what: why".into(), hints, 1));
    }
}
