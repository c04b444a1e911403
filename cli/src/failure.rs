//! How the program ends when something went wrong.

use std::io;
use std::process::ExitCode;

use nixply_packer::Error;

/// Prints `error:` with all causes and gives the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let packer = error.downcast_ref::<Error>();
    if matches!(packer, Some(Error::Interrupted)) {
        eprintln!("error: interrupted");
        return ExitCode::from(130);
    }
    let system = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    if packer.is_none() && system == Some(io::ErrorKind::BrokenPipe) {
        // Whoever read the output has seen enough: what the signal would have done, without a word.
        return ExitCode::from(141);
    }
    eprintln!("error: {error:#}");
    match (packer, system) {
        (Some(Error::Io { .. } | Error::DiskFull { .. }), _) => ExitCode::from(2),
        (None, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) => ExitCode::from(2),
        _ => ExitCode::from(1),
    }
}
