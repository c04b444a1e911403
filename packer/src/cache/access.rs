//! Who may read the cache, and whose entries count. The cache has bytes of private images, so its entries are its user's alone,
//! whatever mode the folder has. A user who wants to share them puts a file `shared` into the folder.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use crate::error::{Error, Result};
use crate::{open, owner};

/// The file that shares a cache. Its content does not matter.
const SHARED: &str = "shared";

/// What group and others may do in a cache: four permission bits, to read and to enter. The umask may take some of them away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access(u32);

/// The access to the cache in `folder`, which is made if it is not there.
pub(super) fn of(folder: &Path) -> io::Result<Access> {
    match mode(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Access(0).make(folder)?;
            mode(folder)
        }
        mode => mode,
    }
    .map(|mode| Access(if is_shared(folder) { mode & 0o055 } else { 0 }))
}

pub(super) fn mode(folder: &Path) -> io::Result<u32> {
    Ok(fs::metadata(folder)?.mode() & 0o7777)
}

/// Whether the user has shared the cache.
pub(super) fn is_shared(folder: &Path) -> bool {
    open::unlinked(&folder.join(SHARED)).is_ok_and(|file| Trust::User.has(&file))
}

/// Checks that no other user can put another directory in the place of the cache's own ones: removing entries would then remove
/// files elsewhere.
pub(super) fn check_removal(folder: &Path) -> Result<()> {
    let Ok(metadata) = fs::metadata(folder) else { return Ok(()) };
    match owner::writers(&metadata).filter(|_| metadata.mode() & owner::STICKY == 0) {
        None => Ok(()),
        Some(why) => {
            let why = format!("{why}; give it to yourself with chmod 700, or name another cache directory");
            Err(Error::io("remove entries from the cache", folder, io::Error::other(why)))
        }
    }
}

/// Whether no other user can put files into a directory within the cache.
pub(super) fn is_own(folder: &Metadata) -> bool {
    folder.is_dir() && owner::writers(folder).is_none()
}

impl Access {
    /// The mode of a file in the cache.
    pub(super) fn file_mode(self) -> u32 {
        0o600 | self.0 & 0o044
    }

    /// Makes a folder and those around it, as far as they are not there.
    pub(super) fn make(self, folder: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700 | self.0).create(folder)
    }
}

/// Whose entries count. An entry decides what is in images, so no other user may have written it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// This user's and root's.
    User,
    /// Those, and the ones of the user with this number, to whom a shared folder belongs.
    And(u32),
}

impl Trust {
    /// The trust in a folder of others, which the user has named.
    pub(super) fn shared(folder: &Path) -> Self {
        fs::metadata(folder).map_or(Self::User, |folder| Self::And(folder.uid()))
    }

    /// Whether an open file counts: it belongs to a user who is trusted, and nobody else can write it.
    pub(super) fn has(self, file: &fs::File) -> bool {
        file.metadata().is_ok_and(|file| self.covers(&file))
    }

    fn covers(self, file: &Metadata) -> bool {
        let owner = file.uid();
        let is_known = owner == 0 || owner == rustix::process::geteuid().as_raw() || self == Self::And(owner);
        is_known && file.mode() & 0o022 == 0
    }
}
