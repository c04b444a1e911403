//! Lock files on this machine: a file of the project, not of the store.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nixply_packer::plan::Lock;

use super::write_file;

/// A lock file's text and what it says.
pub(super) struct LockFile {
    pub(super) text: String,
    pub(super) lock: Lock,
}

/// Reads a lock file, if there is one.
pub(super) fn read(file: &Path) -> Result<Option<LockFile>> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.with_context(|| format!("cannot read the lock file {}", file.display()))?,
    };
    let lock = Lock::read(&text, &file.display().to_string())?;
    Ok(Some(LockFile { text, lock }))
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

/// Writes it, as a whole or not at all, unless it is so already. Where there is a link, it is what that leads to; the file keeps its
/// mode.
pub(super) fn write(file: &Path, text: &str) -> Result<()> {
    let beside = |target: PathBuf| file.parent().unwrap_or(Path::new("")).join(target);
    let real = fs::canonicalize(file).or_else(|_| fs::read_link(file).map(beside));
    let real = real.unwrap_or_else(|_| file.to_owned());
    if fs::read(&real).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    let mode = fs::metadata(&real).map(|file| file.permissions());
    write_file(Some(&real), text.as_bytes())?;
    if let Ok(mode) = mode {
        fs::set_permissions(&real, mode)
            .with_context(|| format!("cannot keep the mode of {}", real.display()))?;
    }
    Ok(())
}
