//! A layer that is kept in a file (`layer-path`), such as a base image's: opened once, and what was opened is what is read.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::closure::Store;
use crate::error::{Error, Result};
use crate::open;

/// An open regular file.
#[derive(Debug)]
pub struct LayerFile {
    file: File,
    path: PathBuf,
    size: u64,
    place: (u64, u64),
}

/// What the system says of an open file: another state is a sign that it was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState {
    size: u64,
    /// Seconds and nanoseconds since 1970.
    written: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    /// When it was changed last, since 1970.
    pub fn changed(&self) -> Duration {
        let (seconds, nanoseconds) = self.changed;
        let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
        Duration::from_secs(unsigned(seconds)) + Duration::from_nanos(unsigned(nanoseconds))
    }
}

impl LayerFile {
    /// Opens a layer's file. A name in the store leads to a file in the store, or nowhere: a link that leads out of it is not
    /// followed, whoever has put it there and whenever.
    pub fn open(name: &str, store: &Store) -> Result<Self> {
        let path = store.real_file(name);
        let opened = match path.starts_with(&store.real_dir) {
            true => open::beneath(&store.real_dir, &path),
            false => open::linked(&path),
        };
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => Error::Missing { path: path.clone() },
            _ => Error::io("open layer file", &path, source),
        };
        let file = opened.map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let (size, place) = (metadata.len(), (metadata.dev(), metadata.ino()));
        Ok(Self { file, path, size, place })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size in bytes when it was opened.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Which file of the machine it is: device and inode.
    pub fn place(&self) -> (u64, u64) {
        self.place
    }

    /// What the system says of the file now. Changes when somebody writes to it, within the clock that the file system has.
    pub fn state(&self) -> Result<FileState> {
        let metadata = self.file.metadata();
        let metadata = metadata.map_err(|source| Error::io("read layer file", &self.path, source))?;
        Ok(FileState {
            size: metadata.len(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Fills the buffer with the bytes from `at` on.
    pub fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> Result<()> {
        let read = self.file.read_exact_at(buffer, at);
        read.map_err(|source| Error::io("read layer file", &self.path, source))
    }

    /// Reads bytes from `at` on, if there are any; gives how many.
    pub(super) fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(buffer, at)
    }

    /// The file, to be read from its beginning.
    pub(super) fn into_file(self) -> File {
        self.file
    }
}
