//! Temporary folders: what is told where none can be made.

use std::env;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Error, Result};
use nixply_packer::wording;
use tempfile::TempDir;

use crate::output;

/// A folder of this user's alone, where temporary files are.
pub(crate) fn folder(prefix: &str) -> Result<TempDir> {
    folder_in(&env::temp_dir(), prefix)
}

/// As [`folder`], in another folder.
pub(crate) fn folder_in(parent: &Path, prefix: &str) -> Result<TempDir> {
    let private = Permissions::from_mode(0o700);
    let made = tempfile::Builder::new().prefix(prefix).permissions(private).tempdir_in(parent);
    made.map_err(|error| failed("write temporary files to", parent, error))
}

/// Nothing can be made in a folder: an error of the machine, or of its environment. `what` is what was tried.
pub(crate) fn failed(what: &str, parent: &Path, error: io::Error) -> Error {
    let is_variable = env::var_os("TMPDIR").is_some_and(|folder| Path::new(&folder) == parent);
    let source = if is_variable { " (from TMPDIR)" } else { "" };
    // The temporary name is nobody's concern.
    let text = error.to_string();
    let error = match text.split_once(" at path ") {
        Some((why, _)) => io::Error::new(error.kind(), why.to_owned()),
        None => error,
    };
    Error::from(error).context(output::unusable(format!("cannot {what} {}{source}", wording::path(parent))))
}
