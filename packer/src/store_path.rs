//! Names of store paths.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A store path's full name, such as `/nix/store/89ab…-hello`. It says where the path lies in the image; where it lies
/// on this machine is [`Store`](crate::closure::Store)'s to say.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StorePath(Arc<str>);

impl StorePath {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the store's folder.
    pub fn base(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// What follows the hash: what people call it.
    pub fn name(&self) -> &str {
        let base = self.base();
        base.split_once('-').map_or(base, |(_, name)| name)
    }
}

impl From<&str> for StorePath {
    fn from(path: &str) -> Self {
        Self(path.into())
    }
}

impl From<String> for StorePath {
    fn from(path: String) -> Self {
        Self(path.into())
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
