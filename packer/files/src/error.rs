//! Errors of reading and writing files.

use std::io;
use std::path::{Path, PathBuf};

use nixply_documents::wording;

/// The result of reading or writing a file.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a file or directory. Messages name it and, if there is one, a remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system reports an error.
    #[error("cannot {action}: {}", wording::path(path))]
    Io {
        /// The action that failed, as in "cannot read file".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A file that the user or a document names cannot be read. The remedy is to name another one.
    #[error("cannot read {what}: {}", wording::path(path))]
    Unreadable {
        /// Argument or key that names the file, as in "fromImage".
        what: String,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The disk (or quota) is full.
    #[error("the disk or the user's quota is full; the incomplete file was removed: {}", wording::path(path))]
    DiskFull {
        /// The file that was being written.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// Other users can change the store directory.
    #[error(
        "store directory {} is not safe to read: {why}; only this user and root may have write access to a store: change its \
         owner or mode", path.display()
    )]
    StoreOfOthers {
        /// The directory.
        path: PathBuf,
        /// How other users can change it.
        why: String,
    },
}

impl Error {
    /// Converts an error of the operating system, with a separate variant for a full disk.
    pub fn io(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.as_ref().to_path_buf(), source.into());
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, source },
            _ => Self::Io { action, path, source },
        }
    }

    /// Returns the error for a named file that cannot be read.
    pub fn unreadable(what: impl Into<String>, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self::Unreadable { what: what.into(), path: path.as_ref().to_path_buf(), source: source.into() }
    }
}
