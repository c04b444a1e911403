//! What can go wrong.

use std::io;
use std::path::{Path, PathBuf};

/// The result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every way in which a database is not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action}: {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is a database already. SQLite would add to it.
    #[error("there is a Nix database already, which stays as it is: {}", path.display())]
    Exists {
        /// The database's file.
        path: PathBuf,
    },
    /// A link or file is where the database needs a directory.
    #[error(
        "cannot write the Nix database: {} must be a directory, not a link or file; give an empty directory",
        path.display()
    )]
    NotDirectory {
        /// The link or file.
        path: PathBuf,
    },
    /// SQLite refused.
    #[error("cannot write the Nix database: {}", path.display())]
    Database {
        /// The database's file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A path that no database can have.
    #[error(
        "{path} cannot be in a Nix database: {why}; give the closure as nix path-info --json --recursive or a derivation's \
         exportReferencesGraph have it"
    )]
    Unregistrable {
        /// The path.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// A path that is not one.
    #[error(transparent)]
    Path(#[from] nixply_packer::Error),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.into(), source }
    }
}
