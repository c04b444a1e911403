//! Walks one store path depth-first, each directory's names in byte order, and hands out one entry at a time. It keeps
//! the names of the directories that it is in; nothing grows with the number of files elsewhere. Of deep trees only the
//! innermost directories are open, so a process's limit of open files is none of depth.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::vec;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;

use super::casehack::strip_case_hack;
use crate::error::{Error, Result};

/// What an entry is, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    Regular { size: u64 },
    Symlink { target: Vec<u8> },
}

/// One file of a store path.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// Permission bits with setuid, setgid and sticky; 0777 for a symlink, whatever the file system says
    /// (nix2container#23: macOS and Linux differ).
    pub(crate) mode: u32,
}

struct Level {
    /// Closed while more than [`OPEN_LEVELS`] levels lie below it.
    dir: Option<OwnedFd>,
    /// Device and inode: opened again, it must be the same directory.
    identity: (u64, u64),
    names: vec::IntoIter<Vec<u8>>,
    /// How long the path is up to and with this directory.
    path_len: usize,
}

impl Level {
    fn dir(&self) -> &OwnedFd {
        self.dir.as_ref().expect("the innermost directory is open")
    }
}

#[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "the types differ between systems")]
fn identity(dir: &OwnedFd) -> Result<(u64, u64), Errno> {
    let stat = rustix::fs::fstat(dir)?;
    Ok((stat.st_dev as u64, u64::from(stat.st_ino)))
}

/// The walk's state.
pub(crate) struct Walker {
    real_root: PathBuf,
    /// The current entry's path as the store names it.
    path: Vec<u8>,
    root_len: usize,
    levels: Vec<Level>,
    started: bool,
    case_hack: bool,
    names_buffer: Vec<MaybeUninit<u8>>,
}

const DIRECTORY_BUFFER: usize = 32 << 10;

/// How many directories a walk has open at most.
const OPEN_LEVELS: usize = 32;

impl Walker {
    /// A walk of the store path named `path`, whose files lie at `real_root`.
    pub(crate) fn new(path: &[u8], real_root: PathBuf, case_hack: bool) -> Self {
        Self {
            real_root,
            path: path.to_vec(),
            root_len: path.len(),
            levels: Vec::new(),
            started: false,
            case_hack,
            names_buffer: Vec::new(),
        }
    }

    /// The current entry's path as the store names it (with the case hack's suffixes where the store has them).
    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    /// The store path on this machine.
    pub(crate) fn real_root(&self) -> &Path {
        &self.real_root
    }

    /// The current entry's path on this machine.
    pub(crate) fn real_path(&self) -> PathBuf {
        match self.path[self.root_len..].strip_prefix(b"/") {
            Some(below) => self.real_root.join(OsStr::from_bytes(below)),
            None => self.real_root.clone(),
        }
    }

    /// The next entry; a directory comes before what it contains.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        if !std::mem::replace(&mut self.started, true) {
            let stat = rustix::fs::statat(CWD, &self.real_root, AtFlags::SYMLINK_NOFOLLOW);
            return self.entry(stat).map(Some);
        }
        loop {
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            self.path.truncate(level.path_len);
            let Some(name) = level.names.next() else {
                self.leave()?;
                continue;
            };
            let stat = rustix::fs::statat(level.dir(), &name[..], AtFlags::SYMLINK_NOFOLLOW);
            self.path.push(b'/');
            self.path.extend_from_slice(&name);
            return self.entry(stat).map(Some);
        }
    }

    /// Opens the current entry, a regular file.
    pub(crate) fn open(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.open_as(flags).map_err(|errno| self.failed("read file", errno))
    }

    fn entry(&mut self, stat: Result<Stat, Errno>) -> Result<Entry> {
        let stat = stat.map_err(|errno| self.failed("read file attributes", errno))?;
        // OCI image-spec, "Whiteouts". A store path's own name cannot begin so: it begins with its hash.
        if !self.levels.is_empty() && self.name().starts_with(b".wh.") {
            return Err(Error::Whiteout { path: self.real_path() });
        }
        #[allow(clippy::useless_conversion, reason = "the type differs between systems")]
        let mode = u32::from(stat.st_mode) & 0o7777;
        let special = |kind| Error::SpecialFile { kind, path: self.real_path() };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.enter()?;
                Ok(Entry { kind: Kind::Directory, mode })
            }
            FileType::RegularFile => {
                Ok(Entry { kind: Kind::Regular { size: u64::try_from(stat.st_size).unwrap_or(0) }, mode })
            }
            FileType::Symlink => {
                let target = match self.levels.last() {
                    Some(level) => rustix::fs::readlinkat(level.dir(), self.name(), Vec::new()),
                    None => rustix::fs::readlink(&self.real_root, Vec::new()),
                };
                let target = target.map_err(|errno| self.failed("read symlink", errno))?;
                Ok(Entry { kind: Kind::Symlink { target: target.into_bytes() }, mode: 0o777 })
            }
            FileType::Socket => Err(special("a socket")),
            FileType::Fifo => Err(special("a FIFO")),
            FileType::CharacterDevice | FileType::BlockDevice => Err(special("a device")),
            _ => Err(special("a file of unknown kind")),
        }
    }

    /// Reads the current directory's names and makes it the innermost level.
    fn enter(&mut self) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = self.open_as(flags).map_err(|errno| self.failed("read directory", errno))?;
        let identity = identity(&dir).map_err(|errno| self.failed("read directory", errno))?;
        self.names_buffer.resize(DIRECTORY_BUFFER, MaybeUninit::uninit());
        let mut buffer = std::mem::take(&mut self.names_buffer);
        let mut names = Vec::new();
        let mut entries = RawDir::new(dir.as_fd(), &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|errno| self.failed("read directory", errno))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        self.names_buffer = buffer;
        if self.case_hack {
            names.sort_unstable_by(|a: &Vec<u8>, b| strip_case_hack(a).cmp(&strip_case_hack(b)));
        } else {
            names.sort_unstable();
        }
        if let Some(outer) = self.levels.len().checked_sub(OPEN_LEVELS - 1) {
            self.levels[outer].dir = None;
        }
        let dir = Some(dir);
        self.levels.push(Level { dir, identity, names: names.into_iter(), path_len: self.path.len() });
        Ok(())
    }

    /// Leaves the innermost directory; the one around it is opened again if it had to be closed.
    fn leave(&mut self) -> Result<()> {
        let left = self.levels.pop().expect("only called inside of a directory");
        let Some(outer) = self.levels.last_mut().filter(|outer| outer.dir.is_none()) else { return Ok(()) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(left.dir(), "..", flags, Mode::empty())
            .and_then(|dir| Ok((identity(&dir)?, dir)));
        let expected = outer.identity;
        self.path.truncate(outer.path_len);
        match opened {
            Ok((found, dir)) if found == expected => {
                self.levels.last_mut().expect("it was there").dir = Some(dir);
                Ok(())
            }
            Ok(_) => Err(Error::Changed { what: "a directory was moved".into(), path: self.real_path() }),
            Err(errno) => Err(self.failed("read directory", errno)),
        }
    }

    fn open_as(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        match self.levels.last() {
            Some(level) => rustix::fs::openat(level.dir(), self.name(), flags, Mode::empty()),
            None => rustix::fs::open(&self.real_root, flags, Mode::empty()),
        }
    }

    /// The current entry's own name: what its parent directory calls it.
    fn name(&self) -> &[u8] {
        let start = self.path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        &self.path[start..]
    }

    fn failed(&self, action: &'static str, errno: Errno) -> Error {
        gone_or(action, &self.real_root, self.real_path(), errno)
    }
}

/// The error for a file that cannot be read, with a deleted store path told apart.
pub(super) fn gone_or(action: &'static str, root: &Path, path: PathBuf, errno: Errno) -> Error {
    if errno != Errno::NOENT && errno != Errno::STALE {
        return Error::io(action, path, errno);
    }
    if std::fs::symlink_metadata(root).is_err() {
        return Error::Missing { path: root.into() };
    }
    Error::Changed { what: "a file is gone".into(), path }
}
