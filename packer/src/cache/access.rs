//! To whom the cache is open. It has bytes of private images, so a folder that the packer makes is its user's alone. A folder
//! that is there already decides by its own mode: to share a cache, its owner opens the folder to others.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// What group and others may do in a cache: six permission bits. The umask may take some of them away.
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
    .map(|mode| Access(mode & 0o077))
}

/// The permission bits of a folder.
pub(super) fn mode(folder: &Path) -> io::Result<u32> {
    fs::metadata(folder).map(|metadata| metadata.mode() & 0o777)
}

impl Access {
    /// The mode of a file in the cache.
    pub(super) fn file_mode(self) -> u32 {
        0o600 | self.0 & 0o066
    }

    /// Makes a folder and those around it, as far as they are not there.
    pub(super) fn make(self, folder: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700 | self.0).create(folder)
    }
}
