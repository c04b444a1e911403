//! File trees, and the expected tree of an image: exactly the store paths and their parent directories.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Modification time of all files in an image, in seconds. Store paths define neither times nor owners; the
/// owner of all files is root.
const MTIME: i64 = 1;

/// The type of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Directory,
    /// Size and hash of the content.
    Regular(u64, u64),
    Symlink(PathBuf),
    /// Another file type, which store paths cannot contain.
    Other(u32),
}

#[derive(Clone, PartialEq, Eq)]
struct Entry {
    kind: Kind,
    /// Permissions with set-uid, set-gid and sticky; 0777 for a symlink.
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: i64,
}

impl fmt::Debug for Entry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, mode, uid, gid, mtime } = self;
        write!(out, "{kind:?} {mode:04o} {uid}:{gid} mtime {mtime}")
    }
}

/// Every file below a root, including the root as `/`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, Entry>);

impl Tree {
    /// Reads a tree from disk.
    pub fn at(root: &Path) -> Self {
        let mut tree = Self::default();
        tree.read(root, Path::new("/"), &|entry| entry);
        tree
    }

    /// Returns the expected tree of an image with these store paths, and with the content of `to_root` at its
    /// root.
    pub fn of_store_paths(paths: &[PathBuf], to_root: &[PathBuf]) -> Self {
        let mut tree = Self::default();
        let plain = |entry| Entry { uid: 0, gid: 0, mtime: MTIME, ..entry };
        let parent = Entry { kind: Kind::Directory, mode: 0o755, uid: 0, gid: 0, mtime: MTIME };
        tree.0.insert("/".into(), parent.clone());
        // A directory from copyToRoot that is a parent of a store path keeps its own mode.
        for path in to_root {
            for child in children(path) {
                tree.read(&path.join(&child), &Path::new("/").join(&child), &plain);
            }
        }
        for path in paths.iter().filter(|path| !to_root.contains(path)) {
            for ancestor in path.ancestors().skip(1) {
                tree.0.entry(ancestor.into()).or_insert_with(|| parent.clone());
            }
            tree.read(path, path, &plain);
        }
        tree
    }

    /// Changes the expected mode and owner of a file.
    #[track_caller]
    pub fn own(&mut self, path: &str, mode: u32, uid: u32, gid: u32) {
        let entry = self.0.get_mut(Path::new(path)).unwrap_or_else(|| panic!("the tree has no {path}"));
        *entry = Entry { mode, uid, gid, ..entry.clone() };
    }

    /// Returns the number of files.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the differences from the expected tree, one per line. Empty if there are none.
    pub fn differences(&self, expected: &Self) -> String {
        let mut lines = String::new();
        for (path, entry) in &expected.0 {
            match self.0.get(path) {
                Some(found) if found == entry => {}
                Some(found) => writeln!(lines, "{}: {found:?} instead of {entry:?}", path.display()).unwrap(),
                None => writeln!(lines, "{}: missing", path.display()).unwrap(),
            }
        }
        for path in self.0.keys().filter(|path| !expected.0.contains_key(*path)) {
            writeln!(lines, "{}: not expected", path.display()).unwrap();
        }
        lines
    }

    fn read(&mut self, file: &Path, place: &Path, change: &dyn Fn(Entry) -> Entry) {
        let metadata =
            fs::symlink_metadata(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let kind = match metadata.file_type() {
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_file() => {
                let content = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                let mut hasher = DefaultHasher::new();
                hasher.write(&content);
                Kind::Regular(content.len() as u64, hasher.finish())
            }
            kind if kind.is_symlink() => Kind::Symlink(fs::read_link(file).expect("a link can be read")),
            _ => Kind::Other(metadata.mode() & 0o170_000),
        };
        if kind == Kind::Directory {
            for child in children(file) {
                self.read(&file.join(&child), &place.join(&child), change);
            }
        }
        let (mode, mtime) = (metadata.mode() & 0o7777, metadata.mtime());
        let entry = Entry { kind, mode, uid: metadata.uid(), gid: metadata.gid(), mtime };
        self.0.insert(place.into(), change(entry));
    }
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("a directory can be read").file_name();
    entries.map(name).map(PathBuf::from).collect()
}
