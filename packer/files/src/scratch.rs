//! Temporary files and directories next to their final path. A process that is killed leaves them behind. So each is locked
//! while its process runs, and [`sweep`] removes those without a lock.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use tempfile::{Builder, NamedTempFile, TempDir};

use crate::error::{Error, Result};
use crate::open;

const PREFIX: &str = ".nixply-scratch-";

/// Number of letters and digits after the prefix.
const RANDOM: usize = 6;

/// Minimum age of a file that [`sweep`] removes: right after its creation, a file is not locked yet.
const YOUNG: Duration = Duration::from_secs(60);

/// Creates a temporary file in `dir`, with the mode of any new file under the umask.
pub fn file(dir: &Path) -> Result<NamedTempFile> {
    file_with(dir, 0o666)
}

/// Creates a temporary file in `dir` with this mode, reduced by the umask.
pub fn file_with(dir: &Path, mode: u32) -> Result<NamedTempFile> {
    let mut builder = Builder::new();
    let file =
        builder.prefix(PREFIX).rand_bytes(RANDOM).permissions(Permissions::from_mode(mode)).tempfile_in(dir);
    let file = file.map_err(|error| Error::io("create a file in", dir, unnamed(error)))?;
    hold(file.as_file());
    Ok(file)
}

/// Removes the temporary file's name from an error, because users do not know that name.
fn unnamed(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((why, _)) => io::Error::new(error.kind(), why.to_owned()),
        None => error,
    }
}

/// Moves a temporary file to its final path.
pub fn keep(file: NamedTempFile, path: &Path) -> Result<()> {
    file.persist(path).map(drop).map_err(|error| Error::io("write file", path, error.error))
}

/// A temporary directory that is locked as long as this value exists.
pub struct Directory {
    /// The directory.
    pub dir: TempDir,
    _held: Option<File>,
}

/// Creates a temporary directory in `parent`, with the mode of any new directory under the umask.
pub fn directory(parent: &Path) -> Result<Directory> {
    let mut builder = Builder::new();
    let dir = builder
        .prefix(PREFIX)
        .rand_bytes(RANDOM)
        .permissions(Permissions::from_mode(0o777))
        .tempdir_in(parent);
    let dir = dir.map_err(|error| Error::io("create a directory in", parent, unnamed(error)))?;
    let held = File::open(dir.path()).ok().inspect(hold);
    Ok(Directory { dir, _held: held })
}

/// Takes a lock that ends with the process. On file systems without locks this fails; `sweep` cannot lock there either and
/// removes nothing.
fn hold(file: &File) {
    let _ = rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive);
}

/// Whether a name has the form of the names from [`file()`] and [`directory`].
fn is_scratch(name: &OsStr) -> bool {
    let random = name.as_encoded_bytes().strip_prefix(PREFIX.as_bytes());
    random.is_some_and(|random| random.len() == RANDOM && random.iter().all(u8::is_ascii_alphanumeric))
}

/// Removes the leftovers of killed processes in `dir`: files, and directories whose entries all have names that `is_content` accepts.
/// Leftovers that cannot be removed stay; they do no harm.
pub fn sweep(dir: &Path, is_content: impl Fn(&OsStr) -> bool) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let old = metadata.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age > YOUNG));
        let known = |entry: std::io::Result<fs::DirEntry>| {
            entry.is_ok_and(|entry| {
                let name = entry.file_name();
                is_scratch(&name) || is_content(&name)
            })
        };
        let ours = is_scratch(&entry.file_name())
            && (!metadata.is_dir() || fs::read_dir(entry.path()).is_ok_and(|mut entries| entries.all(known)));
        if !ours || !old || !(metadata.is_file() || metadata.is_dir()) {
            continue;
        }
        let path = entry.path();
        // Another file may have replaced it meanwhile: the flags avoid waiting for a FIFO and following a symlink.
        let flags = open::READ | OFlags::NOFOLLOW;
        let Ok(file) = rustix::fs::open(&path, flags, Mode::empty()).map(File::from) else { continue };
        let is_same = |opened: Metadata| (opened.dev(), opened.ino()) == (metadata.dev(), metadata.ino());
        if !file.metadata().is_ok_and(is_same) {
            continue;
        }
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = if metadata.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn sweep_removes_only_unlocked_files() {
        let dir = tempfile::tempdir().unwrap();
        let (held, held_directory) = (file(dir.path()).unwrap(), directory(dir.path()).unwrap());
        let path = |name: &str| dir.path().join(name);
        let (left, young) = (path(".nixply-scratch-aaaaaa"), path(".nixply-scratch-bbbbbb"));
        let (left_directory, other) = (path(".nixply-scratch-cccccc"), path(".nixply-scratch-longer"));
        let (other, others_directory) = (other.with_extension("x"), path(".nixply-scratch-dddddd"));
        for (directory, file) in [(&left_directory, "blobs"), (&others_directory, "notes")] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join(file), "").unwrap();
        }
        for path in [&left, &young, &other] {
            fs::write(path, "").unwrap();
        }
        let long_ago = SystemTime::now() - 2 * YOUNG;
        for path in
            [held.path(), held_directory.dir.path(), &left, &left_directory, &other, &others_directory]
        {
            File::open(path).unwrap().set_modified(long_ago).unwrap();
        }
        sweep(dir.path(), |name| name == "blobs");
        let there = |path: &Path| path.exists();
        assert!(there(held.path()) && there(held_directory.dir.path()) && there(&young));
        assert!(there(&other) && there(&others_directory.join("notes")), "files of the user stay");
        assert!(!there(&left) && !there(&left_directory));
    }
}
