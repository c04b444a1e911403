//! How the program ends when something went wrong.

use std::process::ExitCode;

use nixply_packer::Error;

/// Prints `error:` with all causes and gives the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let packer = error.downcast_ref::<Error>();
    if matches!(packer, Some(Error::Interrupted)) {
        eprintln!("error: interrupted");
        return ExitCode::from(130);
    }
    eprintln!("error: {error:#}");
    match packer {
        Some(Error::Io { .. } | Error::DiskFull { .. }) => ExitCode::from(2),
        _ => ExitCode::from(1),
    }
}
