//! Access rights of the cache, and the users whose entries count. The cache contains bytes of private images, so only its
//! user can access the entries, whatever the directory's mode is. To share the entries, the user creates a file `shared` in
//! the directory.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use nixply_files::{open, owner};

use crate::error::{Error, Result};

/// Name of the file that shares a cache. Its content does not matter.
const SHARED: &str = "shared";

/// Permissions of group and other users in a cache: four bits, to read and to enter. The umask may remove some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access(u32);

/// Returns the access to the cache in `directory`. Creates the directory if it does not exist.
pub(super) fn of(directory: &Path) -> io::Result<Access> {
    match mode(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Access(0).make(directory)?;
            mode(directory)
        }
        mode => mode,
    }
    .map(|mode| Access(if is_shared(directory) { mode & 0o055 } else { 0 }))
}

pub(super) fn mode(directory: &Path) -> io::Result<u32> {
    Ok(fs::metadata(directory)?.mode() & 0o7777)
}

/// Returns whether the user has shared the cache.
pub(super) fn is_shared(directory: &Path) -> bool {
    open::unlinked(&directory.join(SHARED)).is_ok_and(|file| Trust::User.has(&file))
}

/// Checks that no other user can replace the cache's directories. Otherwise, removing entries could remove files elsewhere.
pub(super) fn check_removal(directory: &Path) -> Result<()> {
    let Ok(metadata) = fs::metadata(directory) else { return Ok(()) };
    match owner::writers(&metadata).filter(|_| metadata.mode() & owner::STICKY == 0) {
        None => Ok(()),
        Some(why) => {
            let why = format!("{why}; make it private with chmod 700, or name another cache directory");
            Err(Error::io("remove entries from the cache", directory, io::Error::other(why)))
        }
    }
}

/// Returns whether no other user can put files into a directory within the cache.
pub(super) fn is_own(directory: &Metadata) -> bool {
    directory.is_dir() && owner::writers(directory).is_none()
}

impl Access {
    /// Returns the mode of a file in the cache.
    pub(super) fn file_mode(self) -> u32 {
        0o600 | self.0 & 0o044
    }

    /// Creates a directory and its missing parents.
    pub(super) fn make(self, directory: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700 | self.0).create(directory)
    }
}

/// Users whose entries count. An entry determines the content of images, so no other user may have written it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// This user and root.
    User,
    /// This user, root, and the owner of a shared directory, by user ID.
    And(u32),
}

impl Trust {
    /// Returns the trust in a shared cache's directory, which may belong to another user.
    pub(super) fn shared(directory: &Path) -> Self {
        fs::metadata(directory).map_or(Self::User, |directory| Self::And(directory.uid()))
    }

    /// Returns whether an open file counts: a trusted user owns it, and no other user can write it.
    pub(super) fn has(self, file: &fs::File) -> bool {
        file.metadata().is_ok_and(|file| self.covers(&file))
    }

    fn covers(self, file: &Metadata) -> bool {
        let owner = file.uid();
        let is_known = owner == 0 || owner == rustix::process::geteuid().as_raw() || self == Self::And(owner);
        is_known && file.mode() & 0o022 == 0
    }
}
