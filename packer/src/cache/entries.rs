//! Reads and writes entries.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nixply_documents::go_json;
use nixply_files::{open, scratch};
use nixply_oci::DiffId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::access::{self, Trust};
use super::kind::Kind;
use super::written::Written;
use crate::compress::FORMAT_VERSION;
use crate::error::{Error, Result};

/// Entries in a directory.
#[derive(Debug, Clone)]
pub struct Cache {
    pub(super) directory: PathBuf,
    /// Directories of other users, which are only read.
    pub(super) shared: Vec<PathBuf>,
    pub(super) limit: u64,
    /// Whether the store is checked: only checked entries count, and new ones are marked as checked.
    pub(super) checked: bool,
    /// Bytes that this cache and its clones have written.
    pub(super) written: Arc<Written>,
}

/// Age at which a use renews an entry's time. Most uses then write nothing.
const FRESH: Duration = Duration::from_secs(3600);

/// Maximum size of a JSON entry, in bytes: a layer of 20,000 paths has 1.5 MB of archive hashes.
pub(super) const DOCUMENT_BYTES: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
pub(super) struct Document<T> {
    pub(super) value: T,
    /// blake3 of the entry's kind and key and of the value's JSON. A torn or moved entry does not match it.
    pub(super) check: String,
}

impl Cache {
    /// The default limit of a cache's size, in bytes.
    pub const DEFAULT_LIMIT: u64 = 10_000_000_000;

    /// Returns a cache in this directory, which need not exist yet.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        let written = Arc::new(Written::new(&directory));
        Self { directory, shared: Vec::new(), limit: Self::DEFAULT_LIMIT, checked: false, written }
    }

    /// Sets the limit in bytes: see [`Cache::trim`].
    #[must_use]
    pub fn with_limit(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// Adds directories of other caches, which are read and never written. The owner of such a directory controls the content of
    /// the images that are made with it.
    #[must_use]
    pub fn with_shared(self, shared: Vec<PathBuf>) -> Self {
        Self { shared, ..self }
    }

    /// Sets whether the store is checked. If it is, unchecked entries count as absent and new ones are marked as checked.
    #[must_use]
    pub(crate) fn with_checked(self, checked: bool) -> Self {
        Self { checked, ..self }
    }

    /// Returns the cache's own directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Stores the archive hashes of a layer's paths.
    pub(crate) fn put_contents(&self, diff_id: DiffId, nar_hashes: &BTreeMap<String, String>) {
        self.put(Kind::Contents, &contents_key(diff_id), nar_hashes);
    }

    /// Returns the archive hashes of a layer's paths.
    pub(crate) fn contents(&self, diff_id: DiffId) -> Option<BTreeMap<String, String>> {
        self.get(Kind::Contents, &contents_key(diff_id))
    }

    /// Stores the directories and links of a base image, with its layers as the key.
    pub(crate) fn put_tree(&self, diff_ids: &[DiffId], tree: &BTreeMap<String, String>) {
        self.put(Kind::Contents, &tree_key(diff_ids), tree);
    }

    /// Returns the directories and links of a base image.
    pub(crate) fn tree(&self, diff_ids: &[DiffId]) -> Option<BTreeMap<String, String>> {
        self.get(Kind::Contents, &tree_key(diff_ids))
    }

    /// Removes the archive hashes of a layer's paths.
    pub(crate) fn forget_contents(&self, diff_id: DiffId) {
        let _ = fs::remove_file(entry(&self.directory, Kind::Contents, &contents_key(diff_id)));
    }

    pub(super) fn get<T: Serialize + DeserializeOwned>(&self, kind: Kind, key: &blake3::Hash) -> Option<T> {
        self.get_if(kind, key, |_| true)
    }

    /// Returns the first entry with this key for which `fit` is true.
    pub(super) fn get_if<T: Serialize + DeserializeOwned>(
        &self,
        kind: Kind,
        key: &blake3::Hash,
        fit: impl Fn(&T) -> bool,
    ) -> Option<T> {
        self.directories().find_map(|(directory, trust)| {
            let file = open(&entry(directory, kind, key), trust)?;
            let mut text = Vec::new();
            (&file).take(DOCUMENT_BYTES).read_to_end(&mut text).ok()?;
            let document: Document<T> = serde_json::from_slice(&text).ok()?;
            (document.check == check(kind, key, &document.value) && fit(&document.value)).then(|| {
                if trust == Trust::User {
                    renew(&file);
                }
                document.value
            })
        })
    }

    pub(super) fn put<T: Serialize>(&self, kind: Kind, key: &blake3::Hash, value: &T) {
        // On a full or read-only disk, only the next build is slower.
        let _ = self.try_put(kind, key, value);
    }

    pub(super) fn try_put<T: Serialize>(&self, kind: Kind, key: &blake3::Hash, value: &T) -> Result<()> {
        let document = go_json::compact(&Document { check: check(kind, key, value), value });
        let place = entry(&self.directory, kind, key);
        let directory = place.parent().expect("an entry is in a directory");
        let mut temporary = self.temporary(directory)?;
        temporary.write_all(&document).map_err(|error| Error::io("write file", &place, error))?;
        scratch::keep(temporary, &place)?;
        self.written.add(document.len() as u64);
        Ok(())
    }

    /// Creates a temporary file in one of the cache's directories, which is created if needed.
    pub(super) fn temporary(&self, directory: &Path) -> Result<NamedTempFile> {
        let failed = |error| Error::io("create directory", directory, error);
        let access = access::of(&self.directory).map_err(failed)?;
        access.make(directory).map_err(failed)?;
        Ok(scratch::file_with(directory, access.file_mode())?)
    }

    /// Returns the cache's own directory, then the shared ones, each with the users whose entries count there.
    pub(super) fn directories(&self) -> impl Iterator<Item = (&Path, Trust)> {
        let shared = self.shared.iter().map(|directory| (directory.as_path(), Trust::shared(directory)));
        std::iter::once((self.directory.as_path(), Trust::User)).chain(shared)
    }
}

pub(super) fn entry(directory: &Path, kind: Kind, key: &blake3::Hash) -> PathBuf {
    let hex = key.to_hex();
    directory.join(kind.directory()).join(&hex[..2]).join(&hex[2..])
}

/// Returns the key that an entry's file is named after.
pub(super) fn key_of(file: &Path) -> Option<blake3::Hash> {
    let name = |path: &Path| path.file_name()?.to_str().map(str::to_owned);
    blake3::Hash::from_hex(name(file.parent()?)? + &name(file)?).ok()
}

fn check<T: Serialize>(kind: Kind, key: &blake3::Hash, value: &T) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind.directory().as_bytes()).update(key.as_bytes()).update(&go_json::compact(value));
    hasher.finalize().to_hex().to_string()
}

/// Hashes the parts, each with its length, so that two different lists never hash the same bytes.
pub(super) fn key<'p>(kind: Kind, parts: impl IntoIterator<Item = &'p [u8]>) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let head = format!("nixply {}, format {FORMAT_VERSION}", kind.directory());
    let mut add = |part: &[u8]| {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    };
    add(head.as_bytes());
    parts.into_iter().for_each(&mut add);
    hasher.finalize()
}

fn contents_key(diff_id: DiffId) -> blake3::Hash {
    key(Kind::Contents, [diff_id.hex().as_bytes()])
}

/// The word `tree` keeps this key different from the key of a layer.
fn tree_key(diff_ids: &[DiffId]) -> blake3::Hash {
    let ids: Vec<String> = diff_ids.iter().map(DiffId::hex).collect();
    key(Kind::Contents, ["tree"].into_iter().chain(ids.iter().map(String::as_str)).map(str::as_bytes))
}

/// Opens an entry. Returns none for anything but a regular file, and for a file that another user could have written.
pub(super) fn open(path: &Path, trust: Trust) -> Option<fs::File> {
    open::unlinked(path).ok().filter(|file| trust.has(file))
}

/// Records a use of an entry in its modification time.
pub(super) fn renew(file: &fs::File) {
    let now = SystemTime::now();
    let old = file.metadata().and_then(|metadata| metadata.modified());
    if old.is_ok_and(|old| now.duration_since(old).is_ok_and(|age| age > FRESH)) {
        let _ = file.set_modified(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(cache: &Cache) -> Option<BTreeMap<String, String>> {
        cache.contents(DiffId::of(b"layer"))
    }

    fn hashes(names: &[&str]) -> BTreeMap<String, String> {
        names.iter().map(|name| (format!("/nix/store/{name}"), (*name).into())).collect()
    }

    fn file(cache: &Cache) -> PathBuf {
        entry(cache.directory(), Kind::Contents, &contents_key(DiffId::of(b"layer")))
    }

    #[test]
    fn torn_altered_and_moved_entries_count_as_absent() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path());
        assert_eq!(contents(&cache), None);
        cache.put_contents(DiffId::of(b"layer"), &hashes(&["a", "b"]));
        assert_eq!(contents(&cache).unwrap(), hashes(&["a", "b"]));
        let text = fs::read_to_string(file(&cache)).unwrap();
        for wrong in [&text[..text.len() / 2], "", &text.replace("\"b\"", "\"c\"")] {
            fs::write(file(&cache), wrong).unwrap();
            assert_eq!(contents(&cache), None, "{wrong}");
        }
        let other = entry(directory.path(), Kind::Contents, &contents_key(DiffId::of(b"other")));
        fs::create_dir_all(other.parent().unwrap()).unwrap();
        fs::write(other, &text).unwrap();
        assert_eq!(cache.contents(DiffId::of(b"other")), None, "a moved entry counts as absent");
        cache.put_contents(DiffId::of(b"layer"), &hashes(&["d"]));
        assert_eq!(contents(&cache).unwrap(), hashes(&["d"]));
    }

    #[test]
    fn anything_but_a_regular_file_counts_as_absent() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path());
        fs::create_dir_all(file(&cache).parent().unwrap()).unwrap();
        let (here, fifo) = (rustix::fs::CWD, rustix::fs::FileType::Fifo);
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(here, file(&cache), fifo, mode, 0).unwrap();
        assert_eq!(contents(&cache), None, "a FIFO counts as absent, and reading does not wait for a writer");
        cache.put_contents(DiffId::of(b"layer"), &hashes(&["a"]));
        assert_eq!(contents(&cache).unwrap(), hashes(&["a"]), "a new entry replaces the FIFO");
    }

    #[test]
    fn an_unwritable_directory_is_not_an_error() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        let cache = Cache::new(directory.path().join("file"));
        cache.put_contents(DiffId::of(b"layer"), &hashes(&["a"]));
        assert_eq!(contents(&cache), None);
    }

    #[test]
    fn a_shared_directory_is_read_but_not_written() {
        let (shared, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Cache::new(shared.path()).put_contents(DiffId::of(b"layer"), &hashes(&["a"]));
        let before = fs::read_dir(shared.path().join("contents")).unwrap().count();
        let cache = Cache::new(own.path()).with_shared(vec![shared.path().into()]);
        assert_eq!(contents(&cache).unwrap(), hashes(&["a"]));
        cache.put_contents(DiffId::of(b"other"), &hashes(&["b"]));
        assert_eq!(fs::read_dir(shared.path().join("contents")).unwrap().count(), before);
        assert_eq!(Cache::new(own.path()).contents(DiffId::of(b"other")).unwrap(), hashes(&["b"]));
    }
}
