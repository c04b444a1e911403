//! Lock files. They belong to the project, not to the store.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nixply_files::given;
use nixply_planning::plan::Lock;

use crate::{output, process};

/// A lock file's text and parsed content.
pub(crate) struct LockFile {
    pub(crate) text: String,
    pub(crate) lock: Lock,
}

/// Reads a lock file. Returns `None` if it does not exist.
pub(crate) fn read(file: &Path) -> Result<Option<LockFile>> {
    let text = match given::text(file, &process::stopped) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => process::unless_stopped(read)
            .with_context(|| format!("cannot read the lock file {}", file.display()))?,
    };
    let lock = Lock::read(&text, &file.display().to_string())?;
    Ok(Some(LockFile { text, lock }))
}

/// Reads a lock file that will be rewritten. Devices and FIFOs have no previous content.
pub(crate) fn previous(file: &Path) -> Result<Option<LockFile>> {
    if output::is_file(file) { read(file) } else { Ok(None) }
}

/// Reads a lock file that must exist.
pub(crate) fn existing(file: &Path) -> Result<Lock> {
    let found = read(file)?.map(|found| found.lock);
    found.with_context(|| {
        format!("there is no lock file {0}; create it with nixply plan --lock {0} --update", file.display())
    })
}

/// Removes images from a lock file. `what` is the user's word for an image.
pub(crate) fn forget(lock: Option<&mut Lock>, file: &Path, images: &[String], what: &str) -> Result<()> {
    let mut lock = lock;
    for image in images {
        let known = lock.as_mut().is_some_and(|lock| lock.forget(image));
        ensure!(known, "--forget: the lock file {} has no {what} {image:?}", file.display());
    }
    Ok(())
}

/// Writes a lock file, unless it has this text already.
pub(crate) fn write(file: &Path, text: &str) -> Result<()> {
    if output::is_file(file) && fs::read(file).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    output::write(Some(file), text.as_bytes())
}
