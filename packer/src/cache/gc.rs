//! Reports the cache's size, removes damaged entries, and evicts entries to keep the cache within its limit.

use std::fs::{self, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nixply_documents::go_json;
use nixply_files::scratch;
use serde_json::Value;

use super::access::{self, Trust};
use super::entries::{self, Cache, Document};
use super::kind::Kind;
use super::segments;
use crate::error::{Error, Result};

/// Entries of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The kind.
    pub kind: Kind,
    /// Their number.
    pub entries: u64,
    /// The sum of their sizes in bytes.
    pub bytes: u64,
}

/// The result of [`Cache::verify`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// The number of whole entries.
    pub whole: u64,
    /// Paths of damaged entries, and of other things found at the paths of entries. They have been removed.
    pub removed: Vec<PathBuf>,
}

/// The result of [`Cache::compare`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// Segments equal to the store. They count as checked now.
    pub same: u64,
    /// Segments that differ. They have been removed.
    pub different: Vec<PathBuf>,
    /// Segments whose store paths cannot be read or are damaged, each with the reason. They have been removed.
    pub unproven: Vec<(PathBuf, String)>,
    /// Segments whose store paths are no longer in the store. They stay.
    pub gone: u64,
    /// Segments of older versions, which do not name their store paths. They have been removed.
    pub unnamed: u64,
    /// Digests and hash states of layers that were packed without a check. They have been removed.
    pub forgotten: u64,
}

/// Access of other users to a cache's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// No access, or only to the names of entries.
    Nothing,
    /// Read access to the entries, because the user has shared them.
    Read,
    /// Write access to the directory, which has this mode. Entries that belong to other users do not count.
    Write(u32),
}

struct Entry {
    kind: Kind,
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

impl Cache {
    /// Returns the number and size of the entries of each kind.
    pub fn stat(&self) -> Result<Vec<Stat>> {
        let entries = self.entries()?;
        let stat = |kind| {
            let own = entries.iter().filter(|entry| entry.kind == kind);
            Stat { kind, entries: own.clone().count() as u64, bytes: own.map(|entry| entry.bytes).sum() }
        };
        Ok(Kind::ALL.map(stat).into())
    }

    /// Evicts the least recently used entries until at most `limit` bytes are left. Also removes temporary files of killed
    /// processes. Returns the number of bytes evicted.
    pub fn gc(&self, limit: u64) -> Result<u64> {
        self.check_removal()?;
        // Entries that other processes write from here on may be listed or not.
        let written = self.written.since_trimmed();
        let mut entries = self.entries()?;
        for (_, directory) in self.subdirectories()? {
            scratch::sweep(&directory, |_| false);
        }
        entries.sort_by_key(|entry| entry.used);
        let mut total: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let before = total;
        for entry in entries {
            if total <= limit {
                break;
            }
            remove(&entry.path)?;
            total -= entry.bytes;
        }
        self.written.trimmed_to(total, written);
        Ok(before - total)
    }

    /// Keeps the cache near its limit. Evicts entries once a day, and when the cache may be 5 % above the limit, judging by
    /// its size after the last eviction and the bytes written since. Call it at the end of a command, and repeatedly during a
    /// long one. Ignores errors; [`Cache::gc`] returns them.
    pub fn trim(&self) {
        if self.written.may_exceed(self.limit.saturating_add(self.limit / 20)) {
            let _ = self.gc(self.limit);
        }
    }

    /// Reads every entry and removes the damaged ones, which count as absent anyway. Also removes anything but entries and
    /// their directories: links, FIFOs, sockets, and directories at the paths of entries.
    pub fn verify(&self) -> Result<Verified> {
        self.check_removal()?;
        let mut in_the_way = self.in_the_way()?;
        for path in &in_the_way {
            match fs::symlink_metadata(path) {
                Ok(metadata) if metadata.is_dir() => {
                    fs::remove_dir_all(path).map_err(|error| Error::io("remove directory", path, error))?;
                }
                _ => drop(remove(path)?),
            }
        }
        let mut verified = remove_damaged(self.entries()?)?;
        verified.removed.append(&mut in_the_way);
        verified.removed.sort();
        Ok(verified)
    }

    /// Lists files of the wrong type: anything but a directory at the path of a directory of entries, and a directory at the path
    /// of an entry.
    fn in_the_way(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for kind in Kind::ALL {
            let directory = self.directory.join(kind.directory());
            match fs::symlink_metadata(&directory) {
                Ok(metadata) if metadata.is_dir() => {
                    let is_none =
                        |(path, metadata): &(PathBuf, Metadata)| !metadata.is_dir() && !is_hidden(path);
                    found.extend(list(&directory)?.into_iter().filter(is_none).map(|(path, _)| path));
                }
                Ok(_) => found.push(directory),
                Err(_) => {}
            }
        }
        for (_, directory) in self.subdirectories()? {
            let is_directory = |(path, metadata): &(PathBuf, Metadata)| metadata.is_dir() && !is_hidden(path);
            found.extend(list(&directory)?.into_iter().filter(is_directory).map(|(path, _)| path));
        }
        Ok(found)
    }

    /// Returns the files of one kind's entries.
    pub(crate) fn files(&self, kind: Kind) -> Result<Vec<PathBuf>> {
        let entries = self.entries()?.into_iter().filter(|entry| entry.kind == kind);
        Ok(entries.map(|entry| entry.path).collect())
    }

    /// Removes the digests and states of layers that were packed without a check of the store. Keeps digests that come from
    /// images' specs: packing compares them. Returns the number of removed entries.
    pub(crate) fn forget_unchecked(&self) -> Result<u64> {
        let mut forgotten = 0;
        for entry in self.entries()? {
            let says = |value: &Value, key: &str| value.get(key) == Some(&Value::Bool(true));
            let is_unchecked = |value: &Value| match entry.kind {
                Kind::Layers => says(value, "proven") && !says(value, "checked"),
                Kind::States => !(says(&value[0], "checked") && says(&value[1], "checked")),
                Kind::Segments | Kind::Contents => false,
            };
            if document(&entry).is_some_and(|value| is_unchecked(&value)) {
                forgotten += u64::from(remove(&entry.path)?);
            }
        }
        Ok(forgotten)
    }

    /// Checks that removing entries removes nothing else.
    pub(crate) fn check_removal(&self) -> Result<()> {
        access::check_removal(&self.directory)
    }

    /// Returns the access of other users to the cache's directory.
    pub fn others(&self) -> Others {
        match access::mode(&self.directory) {
            Ok(mode) if mode & 0o022 != 0 => Others::Write(mode),
            Ok(mode) if mode & 0o055 != 0 && access::is_shared(&self.directory) => Others::Read,
            _ => Others::Nothing,
        }
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for (kind, directory) in self.subdirectories()? {
            for (path, metadata) in list(&directory)? {
                // Temporary files are not entries yet.
                if !is_hidden(&path) && !metadata.is_dir() {
                    let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    entries.push(Entry { kind, path, bytes: metadata.len(), used });
                }
            }
        }
        Ok(entries)
    }

    /// Lists the directories of entries, empty ones too: a process may have been killed before its first entry.
    fn subdirectories(&self) -> Result<Vec<(Kind, PathBuf)>> {
        let mut directories = Vec::new();
        for kind in Kind::ALL {
            let directory = self.directory.join(kind.directory());
            // A link may lead to files that are not entries, and another user can replace their own directory with such a
            // link.
            if !fs::symlink_metadata(&directory).is_ok_and(|metadata| access::is_own(&metadata)) {
                continue;
            }
            let content = list(&directory)?;
            directories.extend(
                content
                    .into_iter()
                    .filter(|(_, metadata)| access::is_own(metadata))
                    .map(|(path, _)| (kind, path)),
            );
        }
        Ok(directories)
    }
}

/// Removes the damaged ones of these entries. Entries that another process has removed since they were listed count as
/// neither whole nor damaged.
fn remove_damaged(entries: Vec<Entry>) -> Result<Verified> {
    let mut verified = Verified::default();
    for entry in entries {
        if is_whole(&entry) {
            verified.whole += 1;
            continue;
        }
        // An entry that another process has evicted cannot be read either, but was not damaged.
        if remove(&entry.path)? {
            verified.removed.push(entry.path);
        }
    }
    verified.removed.sort();
    Ok(verified)
}

/// Removes a file. Returns false if another process has removed it already.
fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("remove file", path, error)),
    }
}

/// Lists a directory. Returns an empty list if it does not exist. Leaves out files that are removed in the meantime.
fn list(directory: &Path) -> Result<Vec<(PathBuf, Metadata)>> {
    let failed = |source| Error::io("read directory", directory, source);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut list = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if let Ok(metadata) = fs::symlink_metadata(&path) {
            list.push((path, metadata));
        }
    }
    Ok(list)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn is_whole(entry: &Entry) -> bool {
    match entry.kind {
        Kind::Segments => entries::key_of(&entry.path).is_some_and(|key| segments::verify(&entry.path, &key)),
        Kind::Layers | Kind::States | Kind::Contents => document(entry).is_some(),
    }
}

/// Returns the value of a whole JSON entry.
fn document(entry: &Entry) -> Option<Value> {
    let key = entries::key_of(&entry.path)?;
    let document: Document<Value> =
        serde_json::from_reader(entries::open(&entry.path, Trust::User)?.take(entries::DOCUMENT_BYTES))
            .ok()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(entry.kind.directory().as_bytes()).update(key.as_bytes());
    hasher.update(&go_json::compact(&document.value));
    (document.check == hasher.finalize().to_hex().as_str()).then_some(document.value)
}

#[cfg(test)]
mod tests;
