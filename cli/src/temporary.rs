//! Temporary directories, and the error if they cannot be created.

use std::env;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Error, Result};
use nixply_documents::wording;
use tempfile::TempDir;

use crate::output;

/// Creates a private directory for temporary files.
pub(crate) fn directory(prefix: &str) -> Result<TempDir> {
    directory_in(&env::temp_dir(), prefix)
}

/// Creates a directory like [`directory`], in another directory.
pub(crate) fn directory_in(parent: &Path, prefix: &str) -> Result<TempDir> {
    let private = Permissions::from_mode(0o700);
    let made = tempfile::Builder::new().prefix(prefix).permissions(private).tempdir_in(parent);
    made.map_err(|error| failed("write temporary files to", parent, error))
}

/// Returns the directory for packed layers: TMPDIR or /var/tmp. They can take gigabytes, and /tmp may be in memory.
pub(crate) fn large_files() -> PathBuf {
    let large = Path::new("/var/tmp");
    if env::var_os("TMPDIR").is_none() && large.is_dir() { large.into() } else { env::temp_dir() }
}

/// Returns the error for a directory in which no file can be created: an error of the machine or its environment. `what` is the
/// attempted action.
pub(crate) fn failed(what: &str, parent: &Path, error: io::Error) -> Error {
    let is_variable = env::var_os("TMPDIR").is_some_and(|directory| Path::new(&directory) == parent);
    let source = if is_variable { " (from TMPDIR)" } else { "" };
    // Omit the random name of the temporary file.
    let text = error.to_string();
    let error = match text.split_once(" at path ") {
        Some((why, _)) => io::Error::new(error.kind(), why.to_owned()),
        None => error,
    };
    Error::from(error).context(output::unusable(format!("cannot {what} {}{source}", wording::path(parent))))
}
