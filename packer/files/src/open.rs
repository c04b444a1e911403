//! Opens files that another user or process could have placed: cache entries, layer files, lock files, requests.
//!
//! Every function opens the file once, without waiting for a FIFO's other end, and then checks that it is a regular file.
//! Callers read, hash and serve the opened file and never open its name again.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path};

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Opens a regular file. Fails if the name itself is a symlink.
pub fn unlinked(path: &Path) -> io::Result<File> {
    regular(rustix::fs::open(path, READ | OFlags::NOFOLLOW, Mode::empty()))
}

/// Opens a regular file and follows symlinks: for names that the user provides.
pub fn linked(path: &Path) -> io::Result<File> {
    regular(rustix::fs::open(path, READ, Mode::empty()))
}

/// Opens a regular file below `root` and follows symlinks, but never out of `root`, even if a name on the way becomes a symlink
/// meanwhile.
pub fn beneath(root: &Path, path: &Path) -> io::Result<File> {
    let root = root.canonicalize()?;
    let target = path.canonicalize()?;
    let Ok(below) = target.strip_prefix(&root) else {
        let text = format!("it leads to {}, outside of {}", target.display(), root.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    };
    let root = rustix::fs::open(&root, DIRECTORY, Mode::empty())?;
    regular(resolve_beneath(root, below))
}

/// Opens a file below `root`, a store path, and follows no symlinks, neither for the file nor for the directories on the way.
/// `below` is the file's path relative to `root`; if it is empty, `root` itself is opened.
pub fn inside(root: &Path, below: &Path) -> Result<OwnedFd, Errno> {
    if below.as_os_str().is_empty() {
        return rustix::fs::open(root, READ | OFlags::NOFOLLOW, Mode::empty());
    }
    resolve_beneath(rustix::fs::open(root, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?, below)
}

/// Reads a document that another document names: a regular file. A name in the store directory `store` must lead to a
/// file in it.
pub fn store_text(store: &Path, file: &Path) -> io::Result<String> {
    let file = match file.starts_with(store) {
        true => beneath(store, file)?,
        false => linked(file)?,
    };
    text(file, MAX_BYTES)
}

/// Reads a regular file of at most `most` bytes as text.
pub fn text(file: File, most: u64) -> io::Result<String> {
    let mut text = String::new();
    file.take(most.saturating_add(1)).read_to_string(&mut text)?;
    if text.len() as u64 > most {
        let why = format!("it has more than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(text)
}

/// Maximum size of a document, in bytes: more than a closure of a million store paths needs.
pub const MAX_BYTES: u64 = 1 << 29;

/// Flags to open a file for reading without waiting for the other end of a FIFO.
pub const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

/// Flags for a directory on the way to a file. On Linux it need not be readable.
#[cfg(target_os = "linux")]
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

#[cfg(not(target_os = "linux"))]
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens a file, and fails if a component of `below` is a symlink. The caller has already resolved the path, so a symlink means
/// that another process has replaced that component meanwhile.
#[cfg(target_os = "linux")]
fn resolve_beneath(root: OwnedFd, below: &Path) -> Result<OwnedFd, Errno> {
    use rustix::fs::ResolveFlags;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(&root, below, READ, Mode::empty(), resolve) {
        // Linux before 5.6, and sandboxes that do not know the system call.
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => each_component(root, below),
        opened => opened,
    }
}

#[cfg(not(target_os = "linux"))]
use each_component as resolve_beneath;

/// Opens one directory after the other and follows no symlinks.
fn each_component(root: OwnedFd, below: &Path) -> Result<OwnedFd, Errno> {
    let mut at = root;
    let mut names = below.components().peekable();
    while let Some(name) = names.next() {
        let Component::Normal(name) = name else { return Err(Errno::XDEV) };
        let flags = match names.peek() {
            Some(_) => DIRECTORY,
            None => READ,
        };
        at = rustix::fs::openat(&at, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(at)
}

fn regular(opened: Result<OwnedFd, Errno>) -> io::Result<File> {
    let file = match opened {
        Ok(file) => File::from(file),
        Err(Errno::LOOP) => return Err(not_regular("a symbolic link")),
        // Linux returns this for a socket, and for a device without a driver.
        Err(Errno::NXIO) => return Err(not_regular("a socket or device")),
        Err(error) => return Err(error.into()),
    };
    let kind = file.metadata()?.file_type();
    match kind {
        _ if kind.is_file() => Ok(file),
        _ if kind.is_dir() => Err(not_regular("a directory")),
        _ if kind.is_fifo() => Err(not_regular("a FIFO")),
        _ if kind.is_socket() => Err(not_regular("a socket")),
        _ => Err(not_regular("a device")),
    }
}

pub(crate) fn not_regular(kind: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it is {kind}, not a regular file"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn message(result: io::Result<File>) -> String {
        result.map(drop).unwrap_err().to_string()
    }

    fn fifo(path: &Path) {
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    }

    #[test]
    fn only_regular_files_are_opened_without_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "text").unwrap();
        symlink("file", path("link")).unwrap();
        fifo(&path("fifo"));
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        for open in [linked, unlinked] {
            assert_eq!(text(open(&path("file")).unwrap(), 4).unwrap(), "text");
            assert_eq!(message(open(directory.path())), "it is a directory, not a regular file");
            assert_eq!(message(open(&path("fifo"))), "it is a FIFO, not a regular file");
            assert_eq!(message(open(&path("socket"))), "it is a socket or device, not a regular file");
            assert_eq!(message(open(Path::new("/dev/null"))), "it is a device, not a regular file");
        }
        assert_eq!(text(linked(&path("link")).unwrap(), 9).unwrap(), "text");
        assert_eq!(message(unlinked(&path("link"))), "it is a symbolic link, not a regular file");
        let long = text(linked(&path("file")).unwrap(), 3).unwrap_err();
        assert_eq!(long.to_string(), "it has more than 3 bytes");
    }

    #[test]
    fn links_are_followed_only_below_the_root() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = |name: &str| root.path().join(name);
        fs::write(outside.path().join("secret"), "secret").unwrap();
        fs::create_dir(path("directory")).unwrap();
        fs::write(path("directory/file"), "text").unwrap();
        symlink("directory", path("relative")).unwrap();
        symlink(path("directory"), path("absolute")).unwrap();
        symlink(outside.path(), path("away")).unwrap();
        for name in ["directory/file", "relative/file", "absolute/file"] {
            assert_eq!(text(beneath(root.path(), &path(name)).unwrap(), 9).unwrap(), "text");
        }
        let away = message(beneath(root.path(), &path("away/secret")));
        assert!(away.contains("outside of"), "{away}");
        assert!(message(beneath(root.path(), &path("directory/../../none"))).contains("No such file"));
    }

    #[test]
    fn a_name_that_becomes_a_link_after_it_was_resolved_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("directory")).unwrap();
        fs::write(root.path().join("directory/file"), "text").unwrap();
        symlink("directory", root.path().join("link")).unwrap();
        symlink("file", root.path().join("directory/link")).unwrap();
        let open = || OwnedFd::from(File::open(root.path()).unwrap());
        for resolve in [resolve_beneath, each_component] {
            assert!(resolve(open(), Path::new("directory/file")).is_ok());
            for name in ["link/file", "directory/link", "../x", "/etc/passwd"] {
                assert!(resolve(open(), Path::new(name)).is_err(), "{name}");
            }
        }
    }
}
