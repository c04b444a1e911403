//! The programs that the server answers.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};

use crate::error::{Error, Result};

/// User name in HTTP basic authentication. The secret is the password.
const USER: &str = "nixply";

/// The programs that the server answers.
#[derive(Debug, Clone)]
pub enum Readers {
    /// Programs of every user, and of other machines if they can reach the address.
    Everyone,
    /// Programs of this user and of root.
    UserAndRoot,
    /// Programs that send the secret. This user's own programs need it too.
    User(Secret),
}

/// The password of one server. Pass it to a program in a file that only this user can read: every user can
/// read command lines.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Generates 256 random bits.
    pub fn new() -> Result<Self> {
        let mut bits = [0; 32];
        getrandom::fill(&mut bits).map_err(|error| Error::Secret(error.into()))?;
        Ok(Self(HEXLOWER.encode(&bits)))
    }

    /// Returns user and password as HTTP basic authentication and the `auth` field of containers' auth files
    /// encode them.
    pub fn basic(&self) -> String {
        BASE64.encode(format!("{USER}:{}", self.0).as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_are_not_shown() {
        let (one, other) = (Secret::new().unwrap(), Secret::new().unwrap());
        assert_ne!(one.basic(), other.basic());
        assert_eq!(format!("{:?}", Readers::User(one)), "User(Secret)");
    }
}
