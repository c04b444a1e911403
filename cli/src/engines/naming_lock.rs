//! A lock file per user, held while an engine's images are renamed.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nixply_files::file_lock::{self, Locked};
use rustix::fs::OFlags;

use crate::failure::hinted;
use crate::process;

/// Takes the lock. Without it, another process could move the final name to its own image between this process's `tag` and `untag`.
/// Then `untag` would remove the last name of this process's image, and the engine would delete the image.
pub(super) fn lock(directory: &Path, timeout: Duration) -> Result<File> {
    let path = directory.join(format!("nixply-{}.lock", rustix::process::getuid().as_raw()));
    let failed = || format!("cannot lock {}", path.display());
    let mut options = OpenOptions::new();
    // Other users can create files in the directory: opening a FIFO must not wait for its other end.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.custom_flags(flags.bits().cast_signed()).open(&path).with_context(failed)?;
    let metadata = file.metadata().with_context(failed)?;
    if !metadata.is_file() || metadata.uid() != rustix::process::getuid().as_raw() {
        let error = anyhow!("{} is not a regular file of yours", path.display());
        return Err(hinted(error, "remove it, or set TMPDIR to a directory of your own"));
    }
    match file_lock::exclusive(&file, timeout, process::check)? {
        Locked::Held | Locked::Unknown => Ok(file),
        Locked::Busy => {
            let error = anyhow!("another nixply has held {} for {} s", path.display(), timeout.as_secs());
            Err(hinted(error, "wait for it, or end it (fuser lists processes that use a file)"))
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn files_of_other_users_and_endless_waits_are_errors() {
        let directory = tempfile::tempdir().unwrap();
        let message = |timeout| lock(directory.path(), timeout).map(drop).unwrap_err().to_string();
        let held = lock(directory.path(), Duration::ZERO).unwrap();
        let busy = message(Duration::from_millis(20));
        assert!(busy.starts_with("another nixply has held "), "{busy}");
        drop(held);
        let file = directory.path().join(format!("nixply-{}.lock", rustix::process::getuid().as_raw()));
        lock(directory.path(), Duration::ZERO).unwrap();
        std::fs::remove_file(&file).unwrap();
        mknodat(CWD, &file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(message(Duration::ZERO), format!("{} is not a regular file of yours", file.display()));
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("elsewhere", &file).unwrap();
        assert!(message(Duration::ZERO).starts_with("cannot lock "));
        assert!(!directory.path().join("elsewhere").exists());
    }
}
