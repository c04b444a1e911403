//! Walks one store path depth-first, each directory's names in byte order, and returns one entry at a time. It keeps the names
//! of the current directory and its ancestors; otherwise its memory does not grow with the number of files. In deep trees only
//! the innermost directories are open, so the process's limit of open files does not limit the depth.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::vec;

use nixply_files::open;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;

use crate::casehack::strip_case_hack;
use crate::error::{Error, Result};

/// An entry's kind, without its content.
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
    /// Permission bits with setuid, setgid and sticky. Always 0777 for a symlink, because file systems differ
    /// (nix2container#23: macOS and Linux).
    pub(crate) mode: u32,
    pub(crate) identity: Identity,
}

/// Device and inode, to check that an opened file is the one whose attributes were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    #[allow(
        clippy::useless_conversion,
        clippy::unnecessary_cast,
        reason = "the types differ between systems"
    )]
    fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev as u64, inode: u64::from(stat.st_ino) }
    }
}

impl Entry {
    /// Returns an entry that is not in a file system.
    pub(crate) fn new(kind: Kind, mode: u32) -> Self {
        Self { kind, mode, identity: Identity::default() }
    }

    /// Whether an open file is this one and has the same size.
    pub(super) fn is(&self, file: &OwnedFd) -> Result<bool, Errno> {
        let stat = rustix::fs::fstat(file)?;
        let same_kind = match (&self.kind, FileType::from_raw_mode(stat.st_mode)) {
            (Kind::Directory, FileType::Directory) => true,
            (Kind::Regular { size }, FileType::RegularFile) => size_of(&stat) == *size,
            _ => false,
        };
        Ok(same_kind && Identity::of(&stat) == self.identity)
    }
}

fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

struct Level {
    /// Closed while more than [`OPEN_LEVELS`] levels are below it.
    dir: Option<OwnedFd>,
    /// To check, on opening it again, that it is the same directory.
    identity: Identity,
    names: vec::IntoIter<Vec<u8>>,
    /// Length of the path up to this directory, including its name.
    path_len: usize,
}

impl Level {
    fn dir(&self) -> &OwnedFd {
        self.dir.as_ref().expect("the innermost directory is open")
    }
}

/// The walk's state.
pub(crate) struct Walker {
    real_root: PathBuf,
    /// The current entry's path in the store's names.
    path: Vec<u8>,
    root_len: usize,
    levels: Vec<Level>,
    started: bool,
    case_hack: bool,
    names_buffer: Vec<MaybeUninit<u8>>,
}

const DIRECTORY_BUFFER: usize = 32 << 10;

/// Maximum number of directories that a walk keeps open.
const OPEN_LEVELS: usize = 32;

impl Walker {
    /// Starts a walk of the store path named `path`, whose files are at `real_root`.
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

    /// Returns the current entry's path in the store's names, with the case hack's suffixes if the store has them.
    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    /// Returns the current entry's path relative to the store path: empty, or with a leading slash.
    pub(crate) fn below(&self) -> &[u8] {
        &self.path[self.root_len..]
    }

    /// Returns the store path's location on this machine.
    pub(crate) fn real_root(&self) -> &Path {
        &self.real_root
    }

    /// Returns the current entry's path on this machine.
    pub(crate) fn real_path(&self) -> PathBuf {
        match self.below().strip_prefix(b"/") {
            Some(below) => self.real_root.join(OsStr::from_bytes(below)),
            None => self.real_root.clone(),
        }
    }

    /// Returns the next entry. A directory comes before its contents.
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

    /// Opens the current entry, a regular file, without waiting: a FIFO may have replaced it.
    pub(crate) fn open(&self, entry: &Entry) -> Result<OwnedFd> {
        self.open_as(open::READ | OFlags::NOFOLLOW, entry)
            .map_err(|errno| self.not_opened("read file", errno))
    }

    fn entry(&mut self, stat: Result<Stat, Errno>) -> Result<Entry> {
        let stat = stat.map_err(|errno| self.failed("read file attributes", errno))?;
        // OCI image-spec, "Whiteouts". A store path's own name begins with its hash, never with `.wh.`.
        if !self.levels.is_empty() && self.name().starts_with(b".wh.") {
            return Err(Error::Whiteout { path: self.real_path() });
        }
        #[allow(clippy::useless_conversion, reason = "the type differs between systems")]
        let mode = u32::from(stat.st_mode) & 0o7777;
        let identity = Identity::of(&stat);
        let entry = |kind, mode| Entry { kind, mode, identity };
        let special = |kind| Error::SpecialFile { kind, path: self.real_path() };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let entry = entry(Kind::Directory, mode);
                self.enter(&entry)?;
                Ok(entry)
            }
            FileType::RegularFile => Ok(entry(Kind::Regular { size: size_of(&stat) }, mode)),
            FileType::Symlink => {
                let target = match self.levels.last() {
                    Some(level) => rustix::fs::readlinkat(level.dir(), self.name(), Vec::new()),
                    None => rustix::fs::readlink(&self.real_root, Vec::new()),
                };
                let target = target.map_err(|errno| self.not_opened("read symlink", errno))?;
                Ok(entry(Kind::Symlink { target: target.into_bytes() }, 0o777))
            }
            FileType::Socket => Err(special("a socket")),
            FileType::Fifo => Err(special("a FIFO")),
            FileType::CharacterDevice | FileType::BlockDevice => Err(special("a device")),
            _ => Err(special("a file of unknown kind")),
        }
    }

    /// Reads the current directory's names and makes it the innermost level.
    fn enter(&mut self, entry: &Entry) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = self.open_as(flags, entry).map_err(|errno| self.not_opened("read directory", errno))?;
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
        let identity = entry.identity;
        self.levels.push(Level { dir, identity, names: names.into_iter(), path_len: self.path.len() });
        Ok(())
    }

    /// Leaves the innermost directory, and opens its parent again if it is closed.
    fn leave(&mut self) -> Result<()> {
        let left = self.levels.pop().expect("the walk is in a directory");
        let Some(outer) = self.levels.last_mut().filter(|outer| outer.dir.is_none()) else { return Ok(()) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(left.dir(), "..", flags, Mode::empty())
            .and_then(|dir| Ok((Identity::of(&rustix::fs::fstat(&dir)?), dir)));
        let expected = outer.identity;
        self.path.truncate(outer.path_len);
        match opened {
            Ok((found, dir)) if found == expected => {
                self.levels.last_mut().expect("the walk is in the outer directory").dir = Some(dir);
                Ok(())
            }
            Ok(_) => Err(Error::Changed { what: "a directory was moved".into(), path: self.real_path() }),
            Err(errno) => Err(self.failed("read directory", errno)),
        }
    }

    /// Opens the current entry. Fails if the file differs from the one whose attributes were read.
    fn open_as(&self, flags: OFlags, entry: &Entry) -> Result<OwnedFd, Errno> {
        // The directory that the walk is entering is not a level yet, and the root has no parent level.
        let file = match self.levels.last() {
            Some(level) => rustix::fs::openat(level.dir(), self.name(), flags, Mode::empty()),
            None => rustix::fs::open(&self.real_root, flags, Mode::empty()),
        }?;
        if entry.is(&file)? { Ok(file) } else { Err(REPLACED) }
    }

    /// Returns the current entry's name in its parent directory.
    fn name(&self) -> &[u8] {
        let start = self.path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        &self.path[start..]
    }

    fn not_opened(&self, action: &'static str, errno: Errno) -> Error {
        replaced_or(action, &self.real_root, self.real_path(), errno)
    }

    fn failed(&self, action: &'static str, errno: Errno) -> Error {
        gone_or(action, &self.real_root, self.real_path(), errno)
    }
}

/// Error for a file that differs from the one whose attributes were read.
pub(super) const REPLACED: Errno = Errno::STALE;

/// Returns the error for a file that existed just before and cannot be opened as the same kind of file.
pub(super) fn replaced_or(action: &'static str, root: &Path, path: PathBuf, errno: Errno) -> Error {
    match errno {
        Errno::LOOP | Errno::NXIO | Errno::NOTDIR | Errno::INVAL => {
            Error::Changed { what: "another file has taken its place".into(), path }
        }
        _ => gone_or(action, root, path, errno),
    }
}

/// Returns the error for a file that cannot be read, with a separate variant for a deleted store path.
pub(super) fn gone_or(action: &'static str, root: &Path, path: PathBuf, errno: Errno) -> Error {
    if errno != Errno::NOENT && errno != Errno::STALE {
        return Error::io(action, path, errno);
    }
    if std::fs::symlink_metadata(root).is_err() {
        return Error::Missing { path: root.into() };
    }
    let what = match std::fs::symlink_metadata(&path) {
        Ok(_) => "another file has taken its place, or its size has changed",
        Err(_) => "a file was deleted",
    };
    Error::Changed { what: what.into(), path }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Returns a walk of a directory with `file` and `directory` in it, at the entry with this name.
    fn at(root: &Path, name: &str) -> (Walker, Entry) {
        fs::create_dir_all(root.join("directory")).unwrap();
        fs::write(root.join("file"), "text").unwrap();
        let mut walker = Walker::new(b"/nix/store/x", root.into(), false);
        loop {
            let entry = walker.next().unwrap().unwrap();
            if walker.below() == [b"/", name.as_bytes()].concat() {
                return (walker, entry);
            }
        }
    }

    fn fifo(path: &Path) {
        rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }

    /// Another file replaces the file between two system calls: each replacement is reported, and opening it never waits.
    #[test]
    fn replaced_files_are_reported_and_not_read() {
        type Change = fn(&Path);
        let places: [(&str, Change); 7] = [
            ("a FIFO", fifo),
            ("a link to a FIFO", |path| {
                fifo(&path.with_extension("fifo"));
                symlink(path.with_extension("fifo"), path).unwrap();
            }),
            ("a link to the same text", |path| {
                fs::write(path.with_extension("other"), "text").unwrap();
                symlink(path.with_extension("other"), path).unwrap();
            }),
            ("a socket", |path| drop(UnixListener::bind(path).unwrap())),
            ("a directory", |path| fs::create_dir(path).unwrap()),
            ("another file", |path| {
                // Keeps the first file, so that its inode is not reused.
                fs::write(path.with_extension("kept"), "").unwrap();
                fs::write(path, "text").unwrap();
            }),
            ("a longer file", |path| fs::write(path, "longer text").unwrap()),
        ];
        for (what, place) in places {
            let directory = tempfile::tempdir().unwrap();
            let root = directory.path().join("x");
            fs::create_dir(&root).unwrap();
            let (walker, entry) = at(&root, "file");
            assert!(walker.open(&entry).is_ok());
            let file = root.join("file");
            if what == "another file" {
                fs::rename(&file, root.join("moved")).unwrap();
            } else if what != "a longer file" {
                fs::remove_file(&file).unwrap();
            }
            place(&file);
            let error = walker.open(&entry).unwrap_err();
            assert!(matches!(&error, Error::Changed { path, .. } if *path == file), "{what}: {error}");
        }
    }

    #[test]
    fn a_replaced_directory_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("x");
        fs::create_dir(&root).unwrap();
        let (mut walker, entry) = at(&root, "directory");
        walker.levels.pop();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        assert!(walker.open_as(flags, &entry).is_ok());
        fs::rename(root.join("directory"), root.join("moved")).unwrap();
        assert_eq!(walker.open_as(flags, &entry).unwrap_err(), Errno::NOENT);
        fs::create_dir(root.join("directory")).unwrap();
        assert_eq!(walker.open_as(flags, &entry).unwrap_err(), REPLACED);
        fs::remove_dir(root.join("directory")).unwrap();
        symlink("moved", root.join("directory")).unwrap();
        let error = walker.not_opened("read directory", walker.open_as(flags, &entry).unwrap_err());
        assert!(matches!(error, Error::Changed { .. }), "{error}");
    }
}
