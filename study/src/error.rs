//! Errors of a study.

use std::io;
use std::path::PathBuf;

/// An error of a study.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A history, strategy or option is invalid.
    #[error("{what}: {why}")]
    Invalid {
        /// Its description.
        what: String,
        /// The reason, and what is expected.
        why: String,
    },
    /// A document cannot be read.
    #[error(transparent)]
    Document(nixply_planning::Error),
    /// A strategy cannot plan a release.
    #[error("{strategy} at release {release}, image {image}")]
    Plan {
        /// The strategy.
        strategy: String,
        /// The release.
        release: String,
        /// The image.
        image: String,
        /// The cause.
        source: Box<nixply_planning::Error>,
    },
    /// A strategy cannot plan a closure.
    #[error("{strategy} of {closure}")]
    Closure {
        /// The strategy.
        strategy: String,
        /// The closure.
        closure: String,
        /// The cause.
        source: Box<nixply_planning::Error>,
    },
}

/// A result of a study.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn invalid(what: impl Into<String>, why: impl ToString) -> Self {
        Self::Invalid { what: what.into(), why: why.to_string() }
    }
}
