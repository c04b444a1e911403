//! Reports the cache's size, removes damaged entries, and evicts entries to keep the cache within its limit.

use std::fs::{self, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

use super::access::{self, Trust};
use super::entries::{self, Cache, Document};
use super::kind::Kind;
use super::segments;
use crate::error::{Error, Result};
use crate::go_json;
use crate::scratch;

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
    /// Damaged entries, and other things in the place of entries. They have been removed.
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

/// What other users can do in a cache's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// Nothing, or nothing but see the names of entries.
    Nothing,
    /// Read the entries, because the user has shared them.
    Read,
    /// Put files into it, because the folder has this mode. Entries that belong to them do not count.
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

    /// Evicts the least recently used entries until at most `limit` bytes are left. Also removes files that killed processes
    /// have left. Returns the number of bytes evicted.
    pub fn gc(&self, limit: u64) -> Result<u64> {
        self.check_removal()?;
        // Entries that other processes write from here on may be listed or not.
        let told = self.written.since_trimmed();
        let mut entries = self.entries()?;
        for (_, folder) in self.subfolders()? {
            scratch::sweep(&folder, &[]);
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
        self.written.trimmed_to(total, told);
        Ok(before - total)
    }

    /// Keeps the cache near its limit. Evicts entries when the cache may be a twentieth above the limit, judging by its size
    /// when it was last trimmed and the bytes written since, and once a day. Call it at the end of a command, and from time to
    /// time in a long one. Ignores errors, which [`Cache::gc`] returns.
    pub fn trim(&self) {
        if self.written.may_exceed(self.limit.saturating_add(self.limit / 20)) {
            let _ = self.gc(self.limit);
        }
    }

    /// Reads every entry and removes the damaged ones, which count as absent anyway. Also removes anything but entries and their
    /// directories: links, FIFOs, sockets, directories in the place of entries.
    pub fn verify(&self) -> Result<Verified> {
        self.check_removal()?;
        let mut in_the_way = self.in_the_way()?;
        for path in &in_the_way {
            match fs::symlink_metadata(path) {
                Ok(metadata) if metadata.is_dir() => {
                    fs::remove_dir_all(path).map_err(|error| Error::io("remove folder", path, error))?;
                }
                _ => drop(remove(path)?),
            }
        }
        let mut verified = remove_damaged(self.entries()?)?;
        verified.removed.append(&mut in_the_way);
        verified.removed.sort();
        Ok(verified)
    }

    /// Lists anything but a directory in the place of a directory of entries, and directories in the place of entries.
    fn in_the_way(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for kind in Kind::ALL {
            let folder = self.folder.join(kind.folder());
            match fs::symlink_metadata(&folder) {
                Ok(metadata) if metadata.is_dir() => {
                    let is_none =
                        |(path, metadata): &(PathBuf, Metadata)| !metadata.is_dir() && !is_hidden(path);
                    found.extend(list(&folder)?.into_iter().filter(is_none).map(|(path, _)| path));
                }
                Ok(_) => found.push(folder),
                Err(_) => {}
            }
        }
        for (_, folder) in self.subfolders()? {
            let is_folder = |(path, metadata): &(PathBuf, Metadata)| metadata.is_dir() && !is_hidden(path);
            found.extend(list(&folder)?.into_iter().filter(is_folder).map(|(path, _)| path));
        }
        Ok(found)
    }

    /// The files of one kind's entries.
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
        access::check_removal(&self.folder)
    }

    /// What other users can do in the cache's folder.
    pub fn others(&self) -> Others {
        match access::mode(&self.folder) {
            Ok(mode) if mode & 0o022 != 0 => Others::Write(mode),
            Ok(mode) if mode & 0o055 != 0 && access::is_shared(&self.folder) => Others::Read,
            _ => Others::Nothing,
        }
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for (kind, folder) in self.subfolders()? {
            for (path, metadata) in list(&folder)? {
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
    fn subfolders(&self) -> Result<Vec<(Kind, PathBuf)>> {
        let mut folders = Vec::new();
        for kind in Kind::ALL {
            let folder = self.folder.join(kind.folder());
            // A link may lead to files that are no entries, and another user's directory may become one.
            if !fs::symlink_metadata(&folder).is_ok_and(|metadata| access::is_own(&metadata)) {
                continue;
            }
            let content = list(&folder)?;
            folders.extend(
                content
                    .into_iter()
                    .filter(|(_, metadata)| access::is_own(metadata))
                    .map(|(path, _)| (kind, path)),
            );
        }
        Ok(folders)
    }
}

/// Removes the damaged ones of these entries. Entries that have gone away since they were listed count as neither.
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

/// Removes a file; false if another process was faster.
fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("remove file", path, error)),
    }
}

/// Lists a directory. Returns an empty list if it does not exist. Leaves out files that go away meanwhile.
fn list(folder: &Path) -> Result<Vec<(PathBuf, Metadata)>> {
    let failed = |source| Error::io("read directory", folder, source);
    let entries = match fs::read_dir(folder) {
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
    hasher.update(entry.kind.folder().as_bytes()).update(key.as_bytes());
    hasher.update(&go_json::compact(&document.value));
    (document.check == hasher.finalize().to_hex().as_str()).then_some(document.value)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;
    use crate::cache::{Origin, SegmentKey};
    use crate::compress::Codec;
    use crate::digest::DiffId;

    fn segment(name: &str) -> SegmentKey {
        SegmentKey::new([(name, "hash", None)], Codec::None)
    }

    /// The size of each of the segments here: a frame, its place in the index, an origin and the footer.
    const SEGMENT: u64 = 1000 + 40 + 27 + 56;

    fn origin() -> Origin {
        Origin::new(Codec::None, std::iter::empty())
    }

    fn filled(folder: &Path) -> Cache {
        let cache = Cache::new(folder);
        for name in ["a", "b", "c"] {
            cache
                .new_segment(&segment(name), &origin())
                .unwrap()
                .add(9, &[0; 1000])
                .unwrap()
                .finish()
                .unwrap();
        }
        cache.put_contents(DiffId::of(b"layer"), &[("/a".into(), "hash".into())].into());
        cache
    }

    fn used(cache: &Cache, name: &str, ago: u64) {
        let path = cache.entries().unwrap().into_iter().find(|entry| {
            entry.kind == Kind::Segments
                && segments::verify(
                    &entry.path,
                    &blake3::Hash::from_bytes(segment(name).as_bytes().try_into().unwrap()),
                )
        });
        let time = SystemTime::now() - Duration::from_secs(ago);
        fs::File::open(path.unwrap().path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn what_was_of_no_use_for_longest_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = filled(folder.path());
        let stat = cache.stat().unwrap();
        assert_eq!((stat[0].entries, stat[0].bytes), (3, 3 * SEGMENT));
        assert_eq!((stat[3].kind, stat[3].entries), (Kind::Contents, 1));
        for (name, ago) in [("a", 9000), ("b", 20_000), ("c", 10_000)] {
            used(&cache, name, ago);
        }
        assert!(cache.segment(&segment("b")).is_some(), "a use, which renews it");
        assert_eq!(cache.gc(u64::MAX).unwrap(), 0);
        assert_eq!(cache.gc(2500).unwrap(), SEGMENT);
        let there = ["a", "b", "c"].map(|name| cache.segment(&segment(name)).is_some());
        assert_eq!(there, [true, true, false]);
        assert!(cache.gc(0).unwrap() > 2000);
        assert!(cache.stat().unwrap().iter().all(|stat| stat.entries == 0));
        assert_eq!(Cache::new(folder.path().join("none")).stat().unwrap()[0].entries, 0);
    }

    /// Each as another process would see the cache.
    #[test]
    fn many_processes_that_write_little_keep_the_limit_together() {
        let folder = tempfile::tempdir().unwrap();
        let total = || Cache::new(folder.path()).stat().unwrap().iter().map(|stat| stat.bytes).sum::<u64>();
        let limit = 100_000;
        let mut trimmed = 0;
        for process in 0..300 {
            let cache = Cache::new(folder.path()).with_limit(limit);
            let (name, before) = (process.to_string(), total());
            cache
                .new_segment(&segment(&name), &origin())
                .unwrap()
                .add(9, &[0; 1000])
                .unwrap()
                .finish()
                .unwrap();
            // One of three fails, or is interrupted.
            if process % 3 > 0 {
                cache.trim();
            }
            drop(cache);
            assert!(total() < limit + limit / 20 + 3 * SEGMENT, "{process}: {}", total());
            trimmed += u32::from(total() < before);
        }
        assert!((10..60).contains(&trimmed), "{trimmed} times: entries are not listed for each process");
    }

    #[test]
    fn a_smaller_limit_holds_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let entries = |cache: &Cache| cache.stat().unwrap()[0].entries;
        let cache = filled(folder.path());
        cache.trim();
        assert_eq!(entries(&cache), 3, "the first time, and below the limit");
        cache.clone().with_limit(3800).trim();
        assert_eq!(entries(&cache), 3, "near enough");
        cache.clone().with_limit(2500).trim();
        assert_eq!(entries(&cache), 2, "nothing was written since then");
        cache.clone().with_limit(0).trim();
        assert_eq!(entries(&cache), 0);
        filled(folder.path()).with_limit(u64::MAX).trim();
        assert_eq!(entries(&cache), 3);
    }

    /// Whatever the marker has in it, and wherever it came from.
    #[test]
    fn a_marker_that_cannot_be_read_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{", r#"{"bytes":1}"#, r#"{"at":99999999999,"bytes":0,"written":0}"#] {
            let cache = filled(folder.path()).with_limit(0);
            fs::write(folder.path().join("trimmed"), text).unwrap();
            cache.trim();
            assert!(cache.stat().unwrap().iter().all(|stat| stat.entries == 0), "{text}");
        }
        let none = Cache::new(folder.path().join("none"));
        none.trim();
        drop(none);
        assert!(!folder.path().join("none").exists(), "a cache that nobody has written is not made");
    }

    #[test]
    fn damaged_entries_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = filled(folder.path());
        assert_eq!(cache.verify().unwrap(), Verified { whole: 4, removed: vec![] });
        let mut damaged: Vec<PathBuf> =
            cache.entries().unwrap().into_iter().map(|entry| entry.path).collect();
        damaged.sort();
        for path in &damaged[..2] {
            let mut bytes = fs::read(path).unwrap();
            bytes[12] ^= 1;
            fs::write(path, bytes).unwrap();
        }
        let verified = cache.verify().unwrap();
        assert_eq!((verified.whole, &verified.removed[..]), (2, &damaged[..2]));
        assert_eq!(cache.verify().unwrap(), Verified { whole: 2, removed: vec![] });
    }

    /// Another user could make a link of a directory that it can write, between listing it and removing an entry.
    #[test]
    fn nothing_is_removed_where_others_can_write() {
        let folder = tempfile::tempdir().unwrap();
        let cache = filled(folder.path());
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let entries = || fs::read_dir(folder.path().join("segments")).unwrap().count();
        let before = entries();
        mode(folder.path(), 0o777);
        for error in [cache.gc(0).map(drop), cache.verify().map(drop)] {
            let text = error.unwrap_err().chain();
            assert!(text.contains("its mode is 0777; give it to yourself with chmod 700"), "{text}");
        }
        cache.clone().with_limit(0).trim();
        mode(folder.path(), 0o1777);
        mode(&folder.path().join("segments"), 0o777);
        cache.gc(0).unwrap();
        assert_eq!((entries(), cache.stat().unwrap()[0].entries), (before, 0));
        mode(&folder.path().join("segments"), 0o700);
        assert_eq!(cache.stat().unwrap()[0].entries, 3);
        cache.gc(0).unwrap();
        assert_eq!(cache.stat().unwrap()[0].entries, 0);
    }

    #[test]
    fn what_another_process_has_removed_is_neither_whole_nor_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let cache = filled(folder.path());
        let entries = cache.entries().unwrap();
        let (damaged, evicted) = (entries[0].path.clone(), &entries[1].path);
        fs::write(&damaged, "").unwrap();
        fs::remove_file(evicted).unwrap();
        let verified = remove_damaged(entries).unwrap();
        assert_eq!(verified, Verified { whole: 2, removed: vec![damaged] });
    }

    #[test]
    fn what_killed_processes_have_left_goes_even_where_no_entry_is() {
        let folder = tempfile::tempdir().unwrap();
        let alone = folder.path().join("segments/00");
        fs::create_dir_all(&alone).unwrap();
        let left = alone.join(".nixply-scratch-aaaaaa");
        fs::write(&left, "").unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(9000);
        fs::File::open(&left).unwrap().set_modified(long_ago).unwrap();
        Cache::new(folder.path()).gc(u64::MAX).unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn what_is_in_the_place_of_a_folder_of_entries_is_found() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let folder = tempfile::tempdir().unwrap();
        let cache = filled(folder.path());
        assert_eq!(cache.verify().unwrap().removed, Vec::<PathBuf>::new());
        fs::create_dir_all(folder.path().join("layers")).unwrap();
        let (fifo, file) = (folder.path().join("contents/fifo"), folder.path().join("layers/ab"));
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        fs::write(&file, "").unwrap();
        assert_eq!(cache.verify().unwrap().removed, [fifo.clone(), file.clone()]);
        assert!(!fifo.exists() && !file.exists());
        assert_eq!(cache.verify().unwrap().removed, Vec::<PathBuf>::new());
    }
}
