//! A layer that is kept in a file (`layer-path`), such as a base image's. The file is opened once, and all reads use the
//! open file.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nixply_files::open;
use nixply_planning::Store;

use crate::error::{Error, Result};

/// An open regular file.
#[derive(Debug)]
pub struct LayerFile {
    file: File,
    path: PathBuf,
    size: u64,
    place: (u64, u64),
}

/// State of an open file. If it changes, the file was probably written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState {
    size: u64,
    /// Seconds and nanoseconds since 1970, here and below.
    written: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    /// Returns the time of the last change, since 1970.
    pub fn changed(&self) -> Duration {
        let (seconds, nanoseconds) = self.changed;
        let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
        Duration::from_secs(unsigned(seconds)) + Duration::from_nanos(unsigned(nanoseconds))
    }
}

impl LayerFile {
    /// Opens a layer's file. If the name is in the store, the file must be in the store too: a link that leads out of the
    /// store is not followed, even if it appears while the file is being opened.
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

    /// Returns the path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the file's size in bytes at the time of opening.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the file's device and inode, which identify it on the machine.
    pub fn place(&self) -> (u64, u64) {
        self.place
    }

    /// Returns the file's current state. A write to the file changes it, within the resolution of the file system's clock.
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

    /// Reads bytes from `at` on. Returns their number, 0 at the end.
    pub(super) fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(buffer, at)
    }

    /// Returns a reader of the file, from its beginning.
    pub fn into_reader(self) -> impl io::Read {
        self.file
    }

    /// Returns the open file, positioned at its beginning.
    pub(super) fn into_file(self) -> File {
        self.file
    }
}
