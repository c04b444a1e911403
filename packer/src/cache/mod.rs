//! What earlier calls have made or found out, in a folder of the caller's choice:
//!
//! - `segments`: a store path's compressed frames, by its content, name, rules and the codec. A blob is their
//!   concatenation, so a new plan over known paths compresses nothing.
//! - `layers`: a packed layer's digests and sizes, by its segments. An unchanged layer costs a look-up.
//! - `states`: SHA-256's state after so many of a layer's segments. A changed layer is hashed from the first change on.
//! - `contents`: the archive hashes of a layer's store paths, by its diff_id. A spec does not have them; without them
//!   nobody could tell which segments are a layer's. And the directories and links of a base image, by its layers'
//!   diff_ids: to know them, all of its files are decompressed.
//!
//! An entry is a file named by its key, written under another name and renamed, so any number of processes may share the
//! folder and any of them may be killed at any time. The cache is only a cache: an entry that is missing, torn or
//! altered counts as absent (each carries a checksum, read along), and one that cannot be written is not written.
//! `upkeep` bounds its size.
//!
//! Segments, layers and states say whether the store was checked when they were made. An entry that does not say so was
//! not: see [`Packer::with_store_check`](crate::pack::Packer::with_store_check).

mod access;
mod layers;
mod origin;
mod segments;
mod states;
mod upkeep;
mod written;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

pub(crate) use self::layers::KnownLayer;
pub use self::layers::{Imported, LayerKey};
pub(crate) use self::origin::Origin;
pub(crate) use self::segments::{SegmentKey, SegmentReader, SegmentWriter, Stored};
pub(crate) use self::states::{Chain, State};
pub use self::upkeep::{Compared, Kind, Stat, Verified};
use self::written::Written;
use crate::closure::{Closure, StorePath};
use crate::compress::FORMAT_VERSION;
use crate::digest::DiffId;
use crate::error::{Error, Result};
use crate::image::go_json;
use crate::image::spec::{ImageSpec, Layer};
use crate::nar_hash;
use crate::open;
use crate::plan::PlannedPath;
use crate::scratch;

/// Entries in a folder.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    /// Folders of other users, which are only read.
    shared: Vec<PathBuf>,
    limit: u64,
    /// Whether only what was made with a check of the store counts, and what is put in was.
    checked: bool,
    /// How many bytes this cache and its clones have written.
    written: Arc<Written>,
}

/// How large a cache may become unless its user says otherwise, in bytes.
pub const DEFAULT_LIMIT: u64 = 10_000_000_000;

/// How old an entry's time may become before a use renews it: most uses then write nothing.
const FRESH: Duration = Duration::from_secs(3600);

/// The most bytes in an entry of JSON: a layer of 20,000 paths has 1.5 MB of archive hashes.
const DOCUMENT_BYTES: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
struct Document<T> {
    value: T,
    /// blake3 of the entry's name and of the value's JSON: an entry that was torn or moved does not match it.
    check: String,
}

impl Cache {
    /// A cache in this folder, which need not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        let written = Arc::new(Written::new(&folder));
        Self { folder, shared: Vec::new(), limit: DEFAULT_LIMIT, checked: false, written }
    }

    /// The same cache, kept near so many bytes: see [`Cache::trim`].
    #[must_use]
    pub fn with_limit(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// The same cache, which also reads (and never writes) these folders. Whoever can write to one of them decides what
    /// is in the images that are made from it.
    #[must_use]
    pub fn with_shared(self, shared: Vec<PathBuf>) -> Self {
        Self { shared, ..self }
    }

    /// The same cache for packing with a check of the store: entries that were made without one count as absent, and those that
    /// are made say that they were checked.
    #[must_use]
    pub(crate) fn with_checked(self, checked: bool) -> Self {
        Self { checked, ..self }
    }

    /// The cache's own folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Remembers the archive hashes of a layer's paths.
    pub(crate) fn put_contents(&self, diff_id: DiffId, nar_hashes: &BTreeMap<String, String>) {
        self.put(Kind::Contents, &contents_key(diff_id), nar_hashes);
    }

    /// The archive hashes of a layer's paths.
    pub(crate) fn contents(&self, diff_id: DiffId) -> Option<BTreeMap<String, String>> {
        self.get(Kind::Contents, &contents_key(diff_id))
    }

    /// Remembers the directories and links of a base image, by its layers.
    pub(crate) fn put_tree(&self, diff_ids: &[DiffId], tree: &BTreeMap<String, String>) {
        self.put(Kind::Contents, &tree_key(diff_ids), tree);
    }

    /// The directories and links of a base image.
    pub(crate) fn tree(&self, diff_ids: &[DiffId]) -> Option<BTreeMap<String, String>> {
        self.get(Kind::Contents, &tree_key(diff_ids))
    }

    /// The store paths of a spec's layers whose archive hashes are not remembered. A spec that was made in a derivation, or on
    /// another machine, brings none.
    pub fn without_archives<'s>(&self, spec: &'s ImageSpec) -> Vec<&'s StorePath> {
        self.layers_without_archives(spec).flat_map(|layer| &layer.paths).map(|path| &path.path).collect()
    }

    /// Remembers the archive hashes of a spec's layers, as Nix has them. With them, what the cache has of a layer is of use:
    /// that it is this layer's is found out by its diff_id when it is read.
    pub fn remember_archives(&self, spec: &ImageSpec, closure: &Closure) {
        for layer in self.layers_without_archives(spec) {
            let hash = |path: &PlannedPath| {
                let hash = &closure.get(&path.path)?.nar_hash;
                (!hash.is_empty()).then(|| (path.path.to_string(), nar_hash::canonical(hash)))
            };
            let hashes: Option<BTreeMap<String, String>> = layer.paths.iter().map(hash).collect();
            hashes.iter().for_each(|hashes| self.put_contents(layer.diff_id, hashes));
        }
    }

    fn layers_without_archives<'s>(&self, spec: &'s ImageSpec) -> impl Iterator<Item = &'s Layer> {
        spec.layers.iter().filter(|layer| {
            let known = self.contents(layer.diff_id).unwrap_or_default();
            layer.paths.iter().any(|path| !known.contains_key(path.path.as_str()))
        })
    }

    /// Forgets them.
    pub(crate) fn forget_contents(&self, diff_id: DiffId) {
        let _ = fs::remove_file(entry(&self.folder, Kind::Contents, &contents_key(diff_id)));
    }

    fn get<T: Serialize + DeserializeOwned>(&self, kind: Kind, key: &blake3::Hash) -> Option<T> {
        self.get_if(kind, key, |_| true)
    }

    /// The first entry of this key that is `fit`.
    fn get_if<T: Serialize + DeserializeOwned>(
        &self,
        kind: Kind,
        key: &blake3::Hash,
        fit: impl Fn(&T) -> bool,
    ) -> Option<T> {
        self.folders().find_map(|(folder, is_own)| {
            let file = open(&entry(folder, kind, key))?;
            let mut text = Vec::new();
            (&file).take(DOCUMENT_BYTES).read_to_end(&mut text).ok()?;
            let document: Document<T> = serde_json::from_slice(&text).ok()?;
            (document.check == check(kind, key, &document.value) && fit(&document.value)).then(|| {
                if is_own {
                    renew(&file);
                }
                document.value
            })
        })
    }

    fn put<T: Serialize>(&self, kind: Kind, key: &blake3::Hash, value: &T) {
        // A disk that is full or read-only makes the next build slower, no more.
        let _ = self.try_put(kind, key, value);
    }

    fn try_put<T: Serialize>(&self, kind: Kind, key: &blake3::Hash, value: &T) -> Result<()> {
        let document = go_json::compact(&Document { check: check(kind, key, value), value });
        let place = entry(&self.folder, kind, key);
        let folder = place.parent().expect("an entry is in a folder");
        let mut temporary = self.temporary(folder)?;
        temporary.write_all(&document).map_err(|error| Error::io("write file", &place, error))?;
        scratch::keep(temporary, &place)?;
        self.written.add(document.len() as u64);
        Ok(())
    }

    /// A temporary file in one of the cache's folders, which is made if it is not there.
    fn temporary(&self, folder: &Path) -> Result<NamedTempFile> {
        let failed = |error| Error::io("create folder", folder, error);
        let access = access::of(&self.folder).map_err(failed)?;
        access.make(folder).map_err(failed)?;
        scratch::file_with(folder, access.file_mode())
    }

    /// Its own folder first; each with whether it is.
    fn folders(&self) -> impl Iterator<Item = (&Path, bool)> {
        let shared = self.shared.iter().map(|folder| (folder.as_path(), false));
        std::iter::once((self.folder.as_path(), true)).chain(shared)
    }
}

fn entry(folder: &Path, kind: Kind, key: &blake3::Hash) -> PathBuf {
    let hex = key.to_hex();
    folder.join(kind.folder()).join(&hex[..2]).join(&hex[2..])
}

/// The key that an entry's file is named by.
fn key_of(file: &Path) -> Option<blake3::Hash> {
    let name = |path: &Path| path.file_name()?.to_str().map(str::to_owned);
    blake3::Hash::from_hex(name(file.parent()?)? + &name(file)?).ok()
}

fn check<T: Serialize>(kind: Kind, key: &blake3::Hash, value: &T) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind.folder().as_bytes()).update(key.as_bytes()).update(&go_json::compact(value));
    hasher.finalize().to_hex().to_string()
}

/// Hashes parts so that no two lists of parts run together to the same bytes.
fn key<'p>(kind: Kind, parts: impl IntoIterator<Item = &'p [u8]>) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let head = format!("nixply {}, format {FORMAT_VERSION}", kind.folder());
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

/// The word keeps it apart from a layer's key.
fn tree_key(diff_ids: &[DiffId]) -> blake3::Hash {
    let ids: Vec<String> = diff_ids.iter().map(DiffId::hex).collect();
    key(Kind::Contents, ["tree"].into_iter().chain(ids.iter().map(String::as_str)).map(str::as_bytes))
}

/// Opens an entry. Anything but a regular file (a FIFO, say) counts as none.
fn open(path: &Path) -> Option<fs::File> {
    open::unlinked(path).ok()
}

/// Notes that an entry was of use.
fn renew(file: &fs::File) {
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
        entry(cache.folder(), Kind::Contents, &contents_key(DiffId::of(b"layer")))
    }

    #[test]
    fn torn_altered_and_moved_entries_count_as_absent() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        assert_eq!(contents(&cache), None);
        cache.put_contents(DiffId::of(b"layer"), &hashes(&["a", "b"]));
        assert_eq!(contents(&cache).unwrap(), hashes(&["a", "b"]));
        let text = fs::read_to_string(file(&cache)).unwrap();
        for wrong in [&text[..text.len() / 2], "", &text.replace("\"b\"", "\"c\"")] {
            fs::write(file(&cache), wrong).unwrap();
            assert_eq!(contents(&cache), None, "{wrong}");
        }
        let other = entry(folder.path(), Kind::Contents, &contents_key(DiffId::of(b"other")));
        fs::create_dir_all(other.parent().unwrap()).unwrap();
        fs::write(other, &text).unwrap();
        assert_eq!(cache.contents(DiffId::of(b"other")), None, "moved");
        cache.put_contents(DiffId::of(b"layer"), &hashes(&["d"]));
        assert_eq!(contents(&cache).unwrap(), hashes(&["d"]));
    }

    #[test]
    fn what_is_no_file_counts_as_absent() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        fs::create_dir_all(file(&cache).parent().unwrap()).unwrap();
        let (here, fifo) = (rustix::fs::CWD, rustix::fs::FileType::Fifo);
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(here, file(&cache), fifo, mode, 0).unwrap();
        assert_eq!(contents(&cache), None, "and nobody waits for a writer");
        cache.put_contents(DiffId::of(b"layer"), &hashes(&["a"]));
        assert_eq!(contents(&cache).unwrap(), hashes(&["a"]), "it is replaced");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let cache = Cache::new(folder.path().join("file"));
        cache.put_contents(DiffId::of(b"layer"), &hashes(&["a"]));
        assert_eq!(contents(&cache), None);
    }

    #[test]
    fn a_shared_folder_is_read_and_not_written() {
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
