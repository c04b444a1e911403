//! Lock files on this machine: a file of the project, not of the store.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nixply_packer::given;
use nixply_packer::plan::Lock;

use crate::{interrupt, output};

/// A lock file's text and what it says.
pub(super) struct LockFile {
    pub(super) text: String,
    pub(super) lock: Lock,
}

/// Reads a lock file, if there is one.
pub(super) fn read(file: &Path) -> Result<Option<LockFile>> {
    let text = match given::text(file, &interrupt::stopped) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => interrupt::unless_stopped(read)
            .with_context(|| format!("cannot read the lock file {}", file.display()))?,
    };
    let lock = Lock::read(&text, &file.display().to_string())?;
    Ok(Some(LockFile { text, lock }))
}

/// As [`read`], of a file that is going to be written. A device or a FIFO has nothing of a former one.
pub(super) fn former(file: &Path) -> Result<Option<LockFile>> {
    if output::is_file(file) { read(file) } else { Ok(None) }
}

/// As [`read`], of a file that must be there.
pub(super) fn existing(file: &Path) -> Result<Lock> {
    let found = read(file)?.map(|found| found.lock);
    found.with_context(|| {
        format!("there is no lock file {0}; nixply plan --lock {0} --update makes it", file.display())
    })
}

/// Takes images out of it. `what` is what the user calls them.
pub(super) fn forget(lock: Option<&mut Lock>, file: &Path, images: &[String], what: &str) -> Result<()> {
    let mut lock = lock;
    for image in images {
        let known = lock.as_mut().is_some_and(|lock| lock.forget(image));
        ensure!(known, "--forget: the lock file {} has no {what} {image:?}", file.display());
    }
    Ok(())
}

/// Writes it, unless it is so already.
pub(super) fn write(file: &Path, text: &str) -> Result<()> {
    if output::is_file(file) && fs::read(file).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    output::write(Some(file), text.as_bytes())
}
