//! The digests of OCI documents. Each kind is a separate type, so a blob's [`Digest`] cannot be used as a [`DiffId`].

use std::fmt;
use std::str::FromStr;

use nixply_documents::wording::quoted;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Error for a text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("digest {} is not valid: expected sha256: and 64 hexadecimal digits", quoted(text))]
pub struct ParseDigestError {
    /// The text.
    pub text: String,
}

macro_rules! sha256_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name([u8; 32]);

        impl $name {
            /// Returns the digest of `bytes`.
            pub fn of(bytes: &[u8]) -> Self {
                Self(Sha256::digest(bytes).into())
            }

            /// Returns the digest of the bytes that a hasher has read.
            pub fn finish(hasher: Sha256) -> Self {
                Self(hasher.finalize().into())
            }

            /// Returns 64 lower-case hexadecimal digits, without the algorithm.
            pub fn hex(&self) -> String {
                hex::encode(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "sha256:{}", self.hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl From<$name> for String {
            fn from(digest: $name) -> Self {
                digest.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                let found = quoted(&text);
                text.parse().map_err(|_| format!("must be sha256: and 64 hexadecimal digits, not {found}"))
            }
        }

        impl FromStr for $name {
            type Err = ParseDigestError;
            fn from_str(text: &str) -> Result<Self, ParseDigestError> {
                let wrong = || ParseDigestError { text: text.to_owned() };
                let digits = text.strip_prefix("sha256:").ok_or_else(wrong)?;
                let mut bytes = [0; 32];
                let lower = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                hex::decode_to_slice(digits, &mut bytes).ok().filter(|()| lower).ok_or_else(wrong)?;
                Ok(Self(bytes))
            }
        }
    };
}

sha256_type!(
    /// SHA-256 of a blob in its transferred form: a compressed layer, a config or a manifest.
    Digest
);
sha256_type!(
    /// SHA-256 of a layer's uncompressed tar stream, which a runtime checks after unpacking.
    DiffId
);

impl DiffId {
    /// Returns the digest of the same bytes as a blob: an uncompressed layer is its own blob.
    pub fn as_digest(self) -> Digest {
        Digest(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_only_canonical_sha256() {
        let text = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        for wrong in ["", "sha256:", "sha512:00", &text.to_uppercase(), &text[..70]] {
            assert!(wrong.parse::<Digest>().unwrap_err().to_string().contains("expected sha256:"), "{wrong}");
        }
    }
}
