//! Resolves an output path through links to a regular file, a device, a FIFO, or a descriptor of this process.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Maximum number of links to follow, as in Linux.
const MAX_LINKS: usize = 40;

/// Directories whose entries are this process's descriptors. On Linux /dev/fd is a link to the first; on other systems it is a
/// directory.
const DESCRIPTORS: [&str; 3] = ["/proc/self/fd", "/proc/thread-self/fd", "/dev/fd"];

/// Target of an output path.
#[derive(Debug)]
pub(super) enum Place {
    /// A descriptor of this process, such as /dev/stdout. Opening it by name would lose its offset, and fails for a socket.
    Descriptor(i32),
    /// A device, a FIFO, or an open file of another process.
    Stream(PathBuf),
    /// A regular file, with its metadata if it exists. The path is not a link.
    File(PathBuf, Option<Metadata>),
}

impl Place {
    /// Follows links.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let mut path = path.to_owned();
        for _ in 0..=MAX_LINKS {
            // Rust's functions would ignore a slash at the end of the file name.
            let name = path.file_name().filter(|_| !path.as_os_str().as_bytes().ends_with(b"/"));
            let name = name.ok_or(Errno::ISDIR)?;
            let directory = directory_of(&path);
            if let Some(number) = name.to_str().and_then(|name| name.parse().ok())
                && has_descriptors(directory)
            {
                return Ok(Self::Descriptor(number));
            }
            let found = match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::File(path, None)),
                found => found?,
            };
            check_planted(directory, &found)?;
            let kind = found.file_type();
            if kind.is_symlink() && is_on_proc(directory) {
                // Such a link stands for an open file. The path in it may no longer lead to that file.
                return Ok(Self::Stream(path));
            }
            if !kind.is_symlink() {
                return match kind {
                    _ if kind.is_file() => Ok(Self::File(path, Some(found))),
                    _ if kind.is_dir() => Err(Errno::ISDIR.into()),
                    _ if kind.is_socket() => Err(io::Error::other("it is a socket")),
                    _ => Ok(Self::Stream(path)),
                };
            }
            path = directory.join(fs::read_link(&path)?);
        }
        Err(Errno::LOOP.into())
    }
}

/// Returns the directory of a file.
pub(super) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn has_descriptors(directory: &Path) -> bool {
    let directory = directory.canonicalize().ok();
    directory.is_some() && DESCRIPTORS.iter().any(|name| Path::new(name).canonicalize().ok() == directory)
}

fn is_on_proc(directory: &Path) -> bool {
    directory.canonicalize().is_ok_and(|directory| directory.starts_with("/proc"))
}

/// In a directory such as /tmp, where all users can create files, another user could plant a link or file to redirect the output.
/// Linux refuses to open it (fs.protected_symlinks, protected_fifos, protected_regular). This program follows links and renames by
/// itself, so it has to refuse too.
fn check_planted(directory: &Path, found: &Metadata) -> io::Result<()> {
    const STICKY_AND_OPEN: u32 = 0o1002;
    let directory = fs::metadata(directory)?;
    let is_shared = directory.mode() & STICKY_AND_OPEN == STICKY_AND_OPEN;
    let own = rustix::process::geteuid().as_raw();
    if is_shared && ![own, directory.uid()].contains(&found.uid()) {
        let why = "another user owns it, in a directory where all users can create files";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(())
}
