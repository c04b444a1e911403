//! Errors of this crate.

use std::io;
use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure to write a database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation of the operating system failed.
    #[error("cannot {action}: {}", path.display())]
    Io {
        /// The operation.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A database already exists. SQLite would add to it.
    #[error("a Nix database already exists and was not changed: {}", path.display())]
    Exists {
        /// The database's file.
        path: PathBuf,
    },
    /// A link or file is in the way of a directory.
    #[error(
        "cannot write the Nix database: {} must be a directory, not a link or file; pass an empty directory",
        path.display()
    )]
    NotDirectory {
        /// The link or file.
        path: PathBuf,
    },
    /// SQLite failed.
    #[error("cannot write the Nix database: {}", path.display())]
    Database {
        /// The database's file.
        path: PathBuf,
        /// The cause.
        source: rusqlite::Error,
    },
    /// A path that a database cannot contain.
    #[error(
        "{path} cannot be in a Nix database: {why}; pass the closure in the form of nix path-info --json --recursive or \
         of a derivation's exportReferencesGraph"
    )]
    Unregistrable {
        /// The path.
        path: String,
        /// The reason.
        why: String,
    },
    /// A path that is not a store path.
    #[error(transparent)]
    Path(#[from] nixply_planning::Error),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.into(), source }
    }
}
