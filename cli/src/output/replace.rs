//! Regular files, written atomically.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tempfile::{Builder, NamedTempFile};

use super::descriptor::write_all;
use super::place::directory_of;

/// Mode bits to keep: setuid, setgid and sticky bits must not apply to new content.
const PERMISSIONS: u32 = 0o777;

/// Mode of a new file, before the umask.
const NEW: u32 = 0o666;

/// Writes a file, whose current metadata is `old` if it exists.
///
/// A new file takes the old one's name, so that readers see one or the other, and a full disk destroys nothing. A file that the
/// user owns is replaced even if it is read-only, as git does. If the new file cannot be renamed, or cannot get the old one's owner
/// and group, the old file is overwritten, like with the shell's `>`: in read-only directories, for mounted files, and for files of
/// other users.
pub(super) fn write(path: &Path, old: Option<&Metadata>, bytes: &[u8]) -> io::Result<()> {
    match (replaced(path, old, bytes), old) {
        (Err(error), Some(_)) if is_refused(&error) => overwrite(path, bytes),
        (Err(error), None) if is_refused(&error) => create_at(path, bytes),
        (result, _) => result,
    }
}

/// Creates a file. Fails if it exists.
pub(super) fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let made = Draft::new(path, bytes, NEW).and_then(|draft| draft.name(path));
    match made {
        Err(error) if is_refused(&error) => create_at(path, bytes),
        made => made,
    }
}

/// Writes to a device, to a FIFO, which waits for its reader, or at the end of a file that another process has open.
pub(super) fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = open(path, OFlags::empty())?;
    if file.metadata()?.is_file() {
        file.seek(SeekFrom::End(0))?;
    }
    write_all(&file, bytes)
}

/// Opens a file for writing, always with CREATE: only then Linux checks the owner of an existing file (fs.protected_fifos,
/// fs.protected_regular).
fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(rustix::fs::open(path, flags, Mode::from_raw_mode(NEW))?.into())
}

/// Whether the directory or file system refuses a new file or the renaming. Errors of the disk would affect every file.
fn is_refused(error: &io::Error) -> bool {
    let refusals =
        [Errno::ACCESS, Errno::PERM, Errno::ROFS, Errno::BUSY, Errno::XDEV, Errno::INVAL, Errno::OPNOTSUPP];
    error.raw_os_error().is_some_and(|code| refusals.iter().any(|errno| errno.raw_os_error() == code))
}

fn replaced(path: &Path, old: Option<&Metadata>, bytes: &[u8]) -> io::Result<()> {
    let Some(old) = old else {
        return match Draft::new(path, bytes, NEW)?.name(path) {
            // Another process has created it in the meantime.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Draft::new(path, bytes, NEW)?.replace(path)
            }
            named => named,
        };
    };
    // No other user may read it before it has the old file's attributes.
    let draft = Draft::new(path, bytes, 0o600)?;
    keep_attributes(draft.file(), path, old)?;
    draft.replace(path)
}

/// Copies owner, group, access list and mode of the old file to the new one.
fn keep_attributes(new: &File, path: &Path, old: &Metadata) -> io::Result<()> {
    let own = new.metadata()?;
    if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
        fchown(new, Some(old.uid()), Some(old.gid()))?;
    }
    keep_access_list(new, path)?;
    new.set_permissions(Permissions::from_mode(old.mode() & PERMISSIONS))
}

/// Copies the old file's access list, or removes the one that the new file has inherited. The mode alone does not describe the
/// permissions: with an access list, its group bits limit all entries of the list; without one, they are the group's permissions.
#[cfg(target_os = "linux")]
fn keep_access_list(new: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{XattrFlags, fremovexattr, fsetxattr, lgetxattr};

    const NAME: &str = "system.posix_acl_access";
    // Maximum size of an attribute on Linux.
    let mut list = vec![0; 64 << 10];
    match lgetxattr(path, NAME, &mut list) {
        Ok(length) => Ok(fsetxattr(new, NAME, &list[..length], XattrFlags::empty())?),
        Err(Errno::NODATA) => match fremovexattr(new, NAME) {
            // The directory has no default access list.
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        },
        Err(Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn keep_access_list(_new: &File, _path: &Path) -> io::Result<()> {
    Ok(())
}

/// Overwrites a file's content. Reserves the space first, if the file system can, and truncates last: if the disk is full, the file
/// is unchanged.
fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = open(path, OFlags::empty())?;
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        // Some file systems do not support this.
        let reserved = fallocate(&file, FallocateFlags::KEEP_SIZE, 0, bytes.len() as u64);
        if let Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) = reserved {
            return Err(error.into());
        }
    }
    write_all(&file, bytes)?;
    file.set_len(bytes.len() as u64)
}

/// Creates a file directly under its name: in a Nix build, the output may be writable and its directory not.
fn create_at(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = open(path, OFlags::EXCL)?;
    write_all(&file, bytes).inspect_err(|_| drop(fs::remove_file(path)))
}

/// A complete file that has no final name yet.
enum Draft {
    /// A file without a name, which disappears whenever the process ends.
    Unnamed(File),
    /// For file systems without unnamed files.
    Named(NamedTempFile),
}

impl Draft {
    /// Creates a file in the directory of `path`.
    fn new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<Self> {
        let directory = directory_of(path);
        let draft = match unnamed(directory, mode)? {
            Some(file) => Self::Unnamed(file),
            // Not tempfile's function, which hides the system's error.
            None => Self::Named(names().make_in(directory, |path| {
                File::options().write(true).create_new(true).mode(mode).open(path)
            })?),
        };
        draft.file().write_all(bytes)?;
        Ok(draft)
    }

    fn file(&self) -> &File {
        match self {
            Self::Unnamed(file) => file,
            Self::Named(file) => file.as_file(),
        }
    }

    /// Gives the file its final name. Fails if that name exists.
    fn name(self, path: &Path) -> io::Result<()> {
        match self {
            Self::Unnamed(file) => link(&file, path),
            Self::Named(file) => file.persist_noclobber(path).map(drop).map_err(|error| error.error),
        }
    }

    /// Gives the file its final name, and replaces an existing file.
    fn replace(self, path: &Path) -> io::Result<()> {
        match self {
            // linkat(2) cannot replace a file, but rename(2) can.
            Self::Unnamed(file) => {
                let named = names().make_in(directory_of(path), |name| link(&file, name))?;
                named.persist(path).map(drop).map_err(|error| error.error)
            }
            Self::Named(file) => file.persist(path).map(drop).map_err(|error| error.error),
        }
    }
}

fn names<'n>() -> Builder<'n, 'n> {
    let mut builder = Builder::new();
    builder.prefix(".nixply-");
    builder
}

/// Returns the path that linkat(2) accepts for a file without a name.
fn descriptor_path(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

#[cfg(target_os = "linux")]
fn unnamed(directory: &Path, mode: u32) -> io::Result<Option<File>> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(directory, flags, Mode::from_raw_mode(mode)) {
        Ok(file) => File::from(file),
        // File systems and kernels without unnamed files. An old kernel tries to open the directory for writing.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Without /proc the file could not get a name.
    Ok(fs::symlink_metadata(descriptor_path(&file)).is_ok().then_some(file))
}

#[cfg(not(target_os = "linux"))]
fn unnamed(_directory: &Path, _mode: u32) -> io::Result<Option<File>> {
    Ok(None)
}

fn link(file: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    Ok(linkat(CWD, descriptor_path(file), CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(test)]
#[allow(clippy::print_stderr, reason = "skipped tests say so")]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn names_in(directory: &Path) -> Vec<PathBuf> {
        let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    }

    /// File systems without unnamed files need named drafts.
    #[test]
    fn named_and_unnamed_drafts_behave_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let (new, old) = (directory.path().join("new"), directory.path().join("old"));
        fs::write(&old, "old").unwrap();
        let named = || {
            let mut file = names().tempfile_in(directory.path()).unwrap();
            file.write_all(b"text").unwrap();
            Draft::Named(file)
        };
        let unnamed = || Draft::new(&new, b"text", NEW).unwrap();
        for draft in [&named as &dyn Fn() -> Draft, &unnamed] {
            draft().name(&new).unwrap();
            assert_eq!(draft().name(&new).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            draft().replace(&old).unwrap();
            drop(draft());
            for file in [&new, &old] {
                assert_eq!(fs::read_to_string(file).unwrap(), "text");
                fs::write(file, "old").unwrap();
            }
            assert_eq!(names_in(directory.path()), [&*new, &*old]);
            fs::remove_file(&new).unwrap();
        }
    }

    /// The error code decides whether a file is overwritten.
    #[test]
    fn draft_errors_keep_the_error_code_of_the_system() {
        let error = Draft::new(Path::new("/nonexistent/file"), b"", NEW).map(drop).unwrap_err();
        assert_eq!(error.to_string(), "No such file or directory (os error 2)");
    }

    /// The access list's mask appears as the group bits of the mode, here 640. Without the list, the group could read the file.
    #[test]
    #[cfg(target_os = "linux")]
    fn access_lists_are_kept() {
        use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};

        const NAME: &str = "system.posix_acl_access";
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "old").unwrap();
        // linux/posix_acl_xattr.h: the version, then tag, permissions and number of each entry: the owner, another user, the group,
        // the mask, all others.
        const NOBODY: u32 = u32::MAX;
        let entries = [(1, 6, NOBODY), (2, 4, 12345), (4, 0, NOBODY), (0x10, 4, NOBODY), (0x20, 0, NOBODY)];
        let mut list = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            list.extend([u16::to_le_bytes(tag), u16::to_le_bytes(permissions)].concat());
            list.extend(u32::to_le_bytes(id));
        }
        if let Err(error) = lsetxattr(&file, NAME, &list, XattrFlags::empty()) {
            eprintln!("SKIPPED: the file system has no access lists: {error}");
            return;
        }
        write(&file, Some(&fs::metadata(&file).unwrap()), b"new").unwrap();
        let mut found = vec![0; 1 << 10];
        let length = lgetxattr(&file, NAME, &mut found).unwrap();
        assert_eq!((mode(&file), &found[..length]), (0o640, &list[..]));
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    }
}
