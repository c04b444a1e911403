//! Credentials of a registry's user, and certificates.

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

/// Certificates for a registry, beside the system's.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of authorities that the client trusts, in PEM.
    pub authorities: Vec<Vec<u8>>,
    /// The client's certificate and private key, in PEM.
    pub identity: Option<Vec<u8>>,
}

/// Finds the certificates for a registry.
pub trait FindTls: Send + Sync {
    /// Returns the certificates for the registry `host`. `None` if the user has configured none.
    fn find(&self, host: &str) -> Result<Option<Tls>>;
}

/// Uses only the system's certificates.
impl FindTls for () {
    fn find(&self, _host: &str) -> Result<Option<Tls>> {
        Ok(None)
    }
}
