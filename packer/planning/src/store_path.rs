//! Names of store paths.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use nixply_documents::wording::quoted;
use serde::{Deserialize, Serialize};

/// A store path's full name, such as `/nix/store/89ab…-hello`, which is its path in the image. Its path on this machine comes
/// from [`Store`](crate::closure::Store).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct StorePath(Arc<str>);

impl StorePath {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the last component: the name without the store directory.
    pub fn base(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Returns the part after the hash: the package's name and version.
    pub fn name(&self) -> &str {
        let base = self.base();
        base.split_once('-').map_or(base, |(_, name)| name)
    }
}

impl StorePath {
    /// Parses a full name: an absolute directory and a name that Nix accepts, with nothing below it. The directory can be that
    /// of any store.
    ///
    /// # Errors
    ///
    /// Fails if the text is not the name of a store path.
    pub fn parse(path: &str) -> Result<Self, ParseStorePathError> {
        let wrong = |why| ParseStorePathError { path: path.to_owned(), why };
        let (directory, base) = path.rsplit_once('/').ok_or_else(|| wrong(NotStorePath::Directory))?;
        if !is_plain_directory(directory) {
            return Err(wrong(NotStorePath::Directory));
        }
        check_base(base).map(|()| Self(path.into())).map_err(wrong)
    }
}

/// Whether a text is the name of an absolute directory, without `.`, `..`, control characters and a trailing slash.
pub(crate) fn is_plain_directory(directory: &str) -> bool {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
    directory.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_plain))
}

/// Checks the last component of a store path.
pub(crate) fn check_base(name: &str) -> Result<(), NotStorePath> {
    let is_digit = |byte: u8| b"0123456789abcdfghijklmnpqrsvwxyz".contains(&byte);
    let hash = name.get(..HASH_DIGITS).filter(|hash| hash.bytes().all(is_digit));
    let rest = name.get(HASH_DIGITS..).and_then(|rest| rest.strip_prefix('-'));
    match (hash, rest) {
        (Some(_), Some(rest)) if rest.len() > LONGEST_NAME => Err(NotStorePath::Long(rest.len())),
        (Some(_), Some(rest)) if !rest.is_empty() && rest.bytes().all(is_name) => Ok(()),
        _ => Err(NotStorePath::Base),
    }
}

/// Whether a store path's name may contain this byte.
pub(crate) fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte)
}

/// Length of a store path's hash, in Nix's base 32.
pub(crate) const HASH_DIGITS: usize = 32;

/// Nix's limit for the part after the hash and the dash, in bytes.
const LONGEST_NAME: usize = 211;

/// Error for a text that is not the name of a store path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("store path {} is not valid: {why}", quoted(path))]
pub struct ParseStorePathError {
    /// The text.
    pub path: String,
    /// The reason.
    pub why: NotStorePath,
}

/// Reason why a text is not the name of a store path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotStorePath {
    /// It does not begin with an absolute directory.
    #[error("expected an absolute path, as in /nix/store/HASH-NAME")]
    Directory,
    /// The name after the hash is too long: it has this many bytes.
    #[error("its name has {0} characters; Nix allows {LONGEST_NAME}")]
    Long(usize),
    /// The last component does not have the form HASH-NAME.
    #[error("expected a 32-character hash, a dash and a name, and nothing below it")]
    Base,
}

impl FromStr for StorePath {
    type Err = ParseStorePathError;

    fn from_str(path: &str) -> Result<Self, ParseStorePathError> {
        Self::parse(path)
    }
}

impl TryFrom<String> for StorePath {
    /// Message that continues the name of the text's place in a document.
    type Error = String;

    fn try_from(path: String) -> Result<Self, String> {
        let must = "must be a store path, as in /nix/store/HASH-NAME";
        Self::parse(&path).map_err(|_| format!("{must}, not {}", quoted(&path)))
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

impl StorePath {
    /// Wraps a name that is not a store path: for tests with the inputs of another program's tests.
    #[doc(hidden)]
    pub fn unchecked(path: &str) -> Self {
        Self(path.into())
    }
}

#[cfg(test)]
impl StorePath {
    /// Returns a store path with this name. The paths sort like their names.
    pub(crate) fn named(name: &str) -> Self {
        Self::parse(&format!("/nix/store/{}-{name}", "0".repeat(HASH_DIGITS)))
            .expect("the name is valid in a store path")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_path_is_a_directory_and_a_valid_base_name() {
        let base = "0123456789abcdfghijklmnpqrsvwxyz-perl5.36-a_b+c?d=e";
        for directory in ["/nix/store", "/tmp/other store/nix/store", "/s"] {
            let path = format!("{directory}/{base}");
            let parsed = StorePath::parse(&path).unwrap();
            assert_eq!((parsed.as_str(), parsed.base(), parsed.name()), (&*path, base, "perl5.36-a_b+c?d=e"));
        }
        for directory in ["", ".", "nix/store", "/nix/../store", "/nix//store", "/nix/store/", "/"] {
            let error = StorePath::parse(&format!("{directory}/{base}")).unwrap_err();
            assert_eq!(error.why, NotStorePath::Directory, "{directory}");
        }
        let long = format!("{}-{}", "0".repeat(32), "n".repeat(212));
        assert_eq!(StorePath::parse(&format!("/nix/store/{long}")).unwrap_err().why, NotStorePath::Long(212));
        for base in ["", "x", "bin", &base.replace("01", "0e"), &base[..33], &base.replace('+', "ä")] {
            let error = StorePath::parse(&format!("/nix/store/{base}")).unwrap_err();
            assert_eq!(error.why, NotStorePath::Base, "{base}");
        }
        assert_eq!(StorePath::parse(base).unwrap_err().why, NotStorePath::Directory);
    }
}
