//! What earlier calls have found out: a layer's digests and sizes, by everything that they depend on. With it, a build in
//! which nothing changed reads no store path.
//!
//! An entry is a file named by its key in a folder of the caller's choice, written under another name and renamed, so any
//! number of processes may share the folder and any of them may be killed at any time. The cache is only a cache: an
//! entry that is missing, torn or altered counts as absent, and one that cannot be written is not written.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::closure::Closure;
use crate::compress::{Codec, FORMAT_VERSION};
use crate::image::go_json;
use crate::pack::PackedLayer;
use crate::plan::PlannedPath;

/// Packed layers' digests and sizes in a folder.
#[derive(Debug, Clone)]
pub struct LayerCache {
    folder: PathBuf,
}

/// What a packed layer depends on, hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerKey(blake3::Hash);

#[derive(Serialize, Deserialize)]
struct Entry {
    layer: PackedLayer,
    /// blake3 of the key and of the layer's JSON: an entry that was torn or moved does not match it.
    check: String,
}

impl LayerKey {
    /// The key of a layer; none where the closure does not know a path's content.
    pub fn new(paths: &[PlannedPath], closure: &Closure, codec: Codec) -> Option<Self> {
        let mut parts = vec![format!("nixply layer, format {FORMAT_VERSION}"), codec.to_string()];
        for path in paths {
            let nar_hash = &closure.get(&path.path)?.nar_hash;
            if nar_hash.is_empty() {
                return None;
            }
            let rules = String::from_utf8(go_json::compact(&path.options)).expect("JSON is text");
            parts.extend([path.path.to_string(), nar_hash.clone(), rules]);
        }
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            // The length first: no two lists of parts run together to the same bytes.
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        Some(Self(hasher.finalize()))
    }
}

impl LayerCache {
    /// A cache in this folder, which need not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into().join("layers") }
    }

    /// What is known of a layer.
    pub fn get(&self, key: LayerKey) -> Option<PackedLayer> {
        let entry: Entry = serde_json::from_slice(&read(&self.file(key))?).ok()?;
        (entry.check == check(key, &entry.layer)).then_some(entry.layer)
    }

    /// Remembers a layer.
    pub fn put(&self, key: LayerKey, layer: &PackedLayer) {
        let entry = go_json::compact(&Entry { layer: *layer, check: check(key, layer) });
        let file = self.file(key);
        let write = || {
            let folder = file.parent()?;
            fs::create_dir_all(folder).ok()?;
            let mut temporary = tempfile::NamedTempFile::new_in(folder).ok()?;
            temporary.write_all(&entry).ok()?;
            temporary.persist(&file).ok()
        };
        // A disk that is full or read-only makes the next build slower, no more.
        let _ = write();
    }

    fn file(&self, key: LayerKey) -> PathBuf {
        let hex = key.0.to_hex();
        self.folder.join(&hex[..2]).join(&hex[2..])
    }
}

/// A small regular file's bytes. Anything else that lies there (a FIFO, say) must not make a build wait.
fn read(file: &Path) -> Option<Vec<u8>> {
    const MOST: u64 = 64 << 10;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::File::from(rustix::fs::open(file, flags, Mode::empty()).ok()?);
    let metadata = file.metadata().ok()?;
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes).ok().filter(|_| metadata.is_file())?;
    Some(bytes)
}

fn check(key: LayerKey, layer: &PackedLayer) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.0.as_bytes()).update(&go_json::compact(layer));
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::closure::PathInfo;
    use crate::digest::{DiffId, Digest};
    use crate::rules::PathOptions;

    fn layer(size: u64) -> PackedLayer {
        PackedLayer { diff_id: DiffId::of(b"tar"), tar_size: 3, digest: Digest::of(b"blob"), size }
    }

    fn key(path: &str, nar_hash: &str, options: Option<PathOptions>, codec: &str) -> Option<LayerKey> {
        let info = PathInfo { path: path.into(), references: vec![], nar_hash: nar_hash.into(), nar_size: 0 };
        LayerKey::new(
            &[PlannedPath { path: path.into(), options }],
            &Closure::new([info]),
            codec.parse().unwrap(),
        )
    }

    #[test]
    fn everything_that_matters_is_in_the_key() {
        let keys = [
            key("/a", "h", None, "none"),
            key("/b", "h", None, "none"),
            key("/a", "i", None, "none"),
            key("/a", "h", Some(PathOptions::default()), "none"),
            key("/a", "h", None, "zstd"),
            key("/a", "h", None, "zstd:4"),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert!(key.is_some() && keys[..at].iter().all(|other| other != key), "{at}");
        }
        assert_eq!(key("/a", "h", None, "none"), keys[0]);
        assert_eq!(key("/a", "", None, "none"), None, "content unknown");
    }

    #[test]
    fn torn_altered_and_moved_entries_count_as_absent() {
        let folder = tempfile::tempdir().unwrap();
        let cache = LayerCache::new(folder.path());
        let (one, other) = (key("/a", "h", None, "none").unwrap(), key("/b", "h", None, "none").unwrap());
        assert_eq!(cache.get(one), None);
        cache.put(one, &layer(5));
        assert_eq!(cache.get(one), Some(layer(5)));
        let text = fs::read_to_string(cache.file(one)).unwrap();
        for wrong in [&text[..text.len() / 2], "", &text.replace("\"size\":5", "\"size\":6")] {
            fs::write(cache.file(one), wrong).unwrap();
            assert_eq!(cache.get(one), None, "{wrong}");
        }
        fs::create_dir_all(cache.file(other).parent().unwrap()).unwrap();
        fs::write(cache.file(other), &text).unwrap();
        assert_eq!(cache.get(other), None);
        cache.put(one, &layer(7));
        assert_eq!(cache.get(one), Some(layer(7)));
    }

    #[test]
    fn what_is_no_file_counts_as_absent() {
        let folder = tempfile::tempdir().unwrap();
        let cache = LayerCache::new(folder.path());
        let key = key("/a", "h", None, "none").unwrap();
        let file = cache.file(key);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .unwrap();
        assert_eq!(cache.get(key), None, "and nobody waits for a writer");
        cache.put(key, &layer(5));
        assert_eq!(cache.get(key), Some(layer(5)), "it is replaced");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let cache = LayerCache::new(&file);
        cache.put(key("/a", "h", None, "none").unwrap(), &layer(5));
        assert_eq!(cache.get(key("/a", "h", None, "none").unwrap()), None);
    }
}
