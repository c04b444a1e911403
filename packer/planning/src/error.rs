//! Errors of planning.

use std::fmt;

use nixply_documents::{Error as DocumentError, wording};
use nixply_files::Error as FileError;

use crate::store_path::ParseStorePathError;

/// The result of planning.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a closure, a rule, a lock file or a plan. Messages name the subject and, if there is one, a remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A document or a value in it is not valid.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A store directory is not safe to read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A text is not the name of a store path.
    #[error(transparent)]
    StorePath(#[from] ParseStorePathError),
    /// A lock file cannot be read.
    #[error("{error}")]
    LockFile {
        /// The reason, which names the file.
        error: DocumentError,
    },
    /// A lock file lacks the image that it should plan.
    #[error("the lock file has no image {}, only {images}", wording::quoted(image))]
    NotInLock {
        /// The image's name.
        image: String,
        /// Names of the images in the file, for messages.
        images: String,
    },
    /// The closure has a reference cycle, which Nix cannot create.
    #[error("the closure has a reference cycle through {0}")]
    Cycle(String),
    /// A root or reference is not in the closure.
    #[error("{path} is not in the closure{}", hint(*.referrer_is_root, referrer))]
    NotInClosure {
        /// The missing path.
        path: String,
        /// The path or argument that names it.
        referrer: String,
        /// Whether the request itself names it.
        referrer_is_root: bool,
    },
    /// A strategy that merges no layers makes more layers than the request allows.
    #[error(
        "strategy {strategy} makes {layers} layers, but maxLayers is {limit}: raise maxLayers, or merge groups"
    )]
    MaxLayers {
        /// The strategy's name.
        strategy: &'static str,
        /// Number of layers that the strategy makes.
        layers: usize,
        /// Maximum number of layers.
        limit: usize,
    },
    /// The caller stopped the call.
    #[error("interrupted")]
    Interrupted,
}

fn hint(referrer_is_root: bool, referrer: &str) -> String {
    if referrer_is_root {
        format!(", although {referrer} names it; only store paths that Nix knows can be packed")
    } else {
        format!(", although {referrer} refers to it: pass the whole closure")
    }
}

impl Error {
    /// Returns the error for an argument or rule that is not valid.
    pub fn invalid(what: impl Into<String>, why: impl ToString) -> Self {
        DocumentError::invalid(what, why).into()
    }

    /// Returns the error of a value at a place, such as an argument. The value's own description follows the place.
    pub fn at(place: impl fmt::Display, error: impl Into<Self>) -> Self {
        match error.into() {
            Self::Document(error) => error.in_document(&place.to_string()).into(),
            Self::StorePath(ParseStorePathError { path, why }) => {
                Self::invalid(format!("{place}: store path {}", wording::quoted(&path)), why)
            }
            error => DocumentError::Content(format!("{place}: {error}")).into(),
        }
    }

    /// Returns the reason without the subject, for callers that name the subject themselves.
    pub fn why(self) -> String {
        match self {
            Self::Document(error) => error.why(),
            error => error.to_string(),
        }
    }
}
