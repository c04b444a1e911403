//! How large the cache is, that it is whole, and that it stays within bounds.

use std::fs::{self, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

use super::{Cache, segments};
use crate::error::{Error, Result};
use crate::image::go_json;
use crate::scratch;

/// What entries are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Compressed frames of a store path.
    Segments,
    /// Packed layers' digests.
    Layers,
    /// Hashers' states along a layer.
    States,
    /// Archive hashes of a layer's paths.
    Contents,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Segments, Self::Layers, Self::States, Self::Contents];

    /// The folder that they are in.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Segments => "segments",
            Self::Layers => "layers",
            Self::States => "states",
            Self::Contents => "contents",
        }
    }
}

/// Entries of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Of what.
    pub kind: Kind,
    /// How many.
    pub entries: u64,
    /// How large they are together.
    pub bytes: u64,
}

/// What [`Cache::verify`] has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Entries that are whole.
    pub whole: u64,
    /// Those that were not, and have been removed.
    pub removed: Vec<PathBuf>,
}

/// What [`Cache::compare`] has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// Segments that are what the store has. They count as checked now.
    pub same: u64,
    /// Those that are not, and have been removed.
    pub different: Vec<PathBuf>,
    /// Why a segment's store paths could not be read, or are not what Nix knows; such a segment has been removed.
    pub unproven: Vec<(PathBuf, String)>,
    /// Segments of store paths that are not in the store any more.
    pub gone: u64,
    /// Segments that do not say of which paths they are, made by former versions: they have been removed.
    pub unnamed: u64,
    /// Layers' digests and hashers' states that were found out without a check: they have been forgotten.
    pub forgotten: u64,
}

struct Entry {
    kind: Kind,
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

impl Cache {
    /// How much there is of each kind.
    pub fn stat(&self) -> Result<Vec<Stat>> {
        let entries = self.entries()?;
        let stat = |kind| {
            let own = entries.iter().filter(|entry| entry.kind == kind);
            Stat { kind, entries: own.clone().count() as u64, bytes: own.map(|entry| entry.bytes).sum() }
        };
        Ok(Kind::ALL.map(stat).into())
    }

    /// Removes entries, those first that were of no use for longest, until at most `limit` bytes are left, and what
    /// killed processes have left behind. Gives how many bytes went.
    pub fn gc(&self, limit: u64) -> Result<u64> {
        // What others write from here on may be listed or not.
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

    /// Keeps the cache near its limit: once it may be a twentieth above, by what it had when it was last trimmed and what
    /// all processes have written since, and once a day. For the end of a call, and from time to time within a long one;
    /// what fails is for [`Cache::gc`] to tell.
    pub fn trim(&self) {
        if self.written.may_exceed(self.limit.saturating_add(self.limit / 20)) {
            let _ = self.gc(self.limit);
        }
    }

    /// Reads every entry and removes those that are not whole. They would have counted as absent anyway.
    pub fn verify(&self) -> Result<Verified> {
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

    /// What lies in the place of a folder and is none, and folders in the place of entries: no entry could be put there.
    fn in_the_way(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for kind in Kind::ALL {
            let folder = self.folder.join(kind.folder());
            if fs::symlink_metadata(&folder).is_ok_and(|metadata| !metadata.is_dir()) {
                found.push(folder);
                continue;
            }
            // Entries are in folders alone.
            let is_in_the_way =
                |(path, metadata): &(PathBuf, Metadata)| !metadata.is_dir() && !is_hidden(path);
            if fs::symlink_metadata(&folder).is_ok() {
                found.extend(list(&folder)?.into_iter().filter(is_in_the_way).map(|(path, _)| path));
            }
        }
        for (_, folder) in self.subfolders()? {
            let is_entry =
                |(path, metadata): &(PathBuf, Metadata)| metadata.is_dir() && super::key_of(path).is_some();
            found.extend(list(&folder)?.into_iter().filter(is_entry).map(|(path, _)| path));
        }
        Ok(found)
    }

    /// The files of one kind's entries.
    pub(crate) fn files(&self, kind: Kind) -> Result<Vec<PathBuf>> {
        let entries = self.entries()?.into_iter().filter(|entry| entry.kind == kind);
        Ok(entries.map(|entry| entry.path).collect())
    }

    /// Forgets the digests and states that were found out without a check of the store, but not what images' specs say: that
    /// is compared when the layers are made. Gives how many there were.
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

    /// Which permission bits of the cache's folder let other users in, if any: all that it has is for them then, too.
    pub fn open_to_others(&self) -> Option<u32> {
        super::access::mode(&self.folder).ok().filter(|mode| mode & 0o077 != 0)
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

    /// The folders that entries are made in, those without any as well: a process may be killed before its first.
    fn subfolders(&self) -> Result<Vec<(Kind, PathBuf)>> {
        let mut folders = Vec::new();
        for kind in Kind::ALL {
            let folder = self.folder.join(kind.folder());
            // A link would lead to files of somebody else's, which are no entries.
            if !fs::symlink_metadata(&folder).is_ok_and(|metadata| metadata.is_dir()) {
                continue;
            }
            let content = list(&folder)?;
            folders.extend(
                content.into_iter().filter(|(_, metadata)| metadata.is_dir()).map(|(path, _)| (kind, path)),
            );
        }
        Ok(folders)
    }
}

/// Of entries that were listed before; each may have gone away since then.
fn remove_damaged(entries: Vec<Entry>) -> Result<Verified> {
    let mut verified = Verified::default();
    for entry in entries {
        if is_whole(&entry) {
            verified.whole += 1;
            continue;
        }
        // One that another process has evicted cannot be read either, and was not damaged.
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

/// A folder's content; nothing where there is none. What goes away meanwhile is left out.
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
        Kind::Segments => super::key_of(&entry.path).is_some_and(|key| segments::verify(&entry.path, &key)),
        Kind::Layers | Kind::States | Kind::Contents => document(entry).is_some(),
    }
}

/// The value of an entry that is JSON, if it is whole.
fn document(entry: &Entry) -> Option<Value> {
    let key = super::key_of(&entry.path)?;
    let document: super::Document<Value> =
        serde_json::from_reader(super::open(&entry.path)?.take(super::DOCUMENT_BYTES)).ok()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(entry.kind.folder().as_bytes()).update(key.as_bytes());
    hasher.update(&go_json::compact(&document.value));
    (document.check == hasher.finalize().to_hex().as_str()).then_some(document.value)
}

#[cfg(test)]
mod tests {
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
