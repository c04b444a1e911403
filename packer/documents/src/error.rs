//! Errors of documents.

use std::fmt;

use crate::wording;

/// The result of reading a document.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a document or a value. Messages name it, its place and, if there is one, a remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A document, argument or rule is not valid, and no caller needs to distinguish the reasons.
    #[error("{what} is not valid: {why}")]
    Invalid {
        /// The document, argument or rule.
        what: String,
        /// The reason and, if known, the remedy.
        why: String,
    },
    /// A JSON document cannot be read, or a value in it is not valid: see [`document`](crate::document).
    #[error("{0}")]
    Content(String),
}

impl Error {
    /// Returns the error for a value that is not valid.
    pub fn must(place: impl fmt::Display, must: &str, found: impl fmt::Display) -> Self {
        Self::Content(format!("{place} must be {must}, not {found}"))
    }

    /// Returns the error for a document, argument or rule that is not valid.
    pub fn invalid(what: impl Into<String>, why: impl ToString) -> Self {
        Self::Invalid { what: what.into(), why: why.to_string() }
    }

    /// Adds the name of the document to the error.
    #[must_use]
    pub fn in_document(self, name: &str) -> Self {
        match self {
            Self::Content(text) => Self::Content(format!("{name}: {text}")),
            Self::Invalid { what, why } => Self::Invalid { what: format!("{name}: {what}"), why },
        }
    }

    /// Returns the reason without the subject, for callers that name the subject themselves.
    pub fn why(self) -> String {
        match self {
            Self::Invalid { why, .. } => why,
            error => error.to_string(),
        }
    }
}

/// Returns an error's message with all its causes on one line, formatted by [`wording::line`].
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = wording::line(&error.to_string()).into_owned();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&wording::line(&error.to_string()));
        cause = error.source();
    }
    text
}
