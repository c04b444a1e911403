//! Credentials of a registry's user.

use std::fmt;

use crate::error::Result;

/// Credentials of a registry's user. Printing them does not show them.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A refresh token for the registry's token service (Docker's `identitytoken`).
    IdentityToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic",
            Self::IdentityToken(_) => "IdentityToken",
        })
    }
}

/// Finds the credentials for a repository.
pub trait FindCredentials: Send + Sync {
    /// Returns the credentials for a repository of the registry `host`, or `None` for anonymous requests.
    fn find(&self, host: &str, repository: &str) -> Result<Option<Credentials>>;
}

/// Sends all requests without credentials.
impl FindCredentials for () {
    fn find(&self, _host: &str, _repository: &str) -> Result<Option<Credentials>> {
        Ok(None)
    }
}
