//! Segments: a store path's part of a tar stream as compressed frames. A file has the frames one after the other, then an
//! index with each frame's lengths and checksum, then a footer:
//!
//! ```text
//! frames ... | per frame: plain length u32, compressed length u32, blake3 | frames u64, blake3(key, index), magic
//! ```
//!
//! Integers are little-endian. Frames are verified as they are read, so a segment needs not fit into memory.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::NamedTempFile;

use super::{Cache, Kind, Written};
use crate::closure::PathInfo;
use crate::compress::{Codec, FRAME_BYTES};
use crate::image::go_json;
use crate::nar_hash;
use crate::rules::PathOptions;
use crate::scratch;

const MAGIC: &[u8; 8] = b"nixply\0\x01";
const ENTRY: usize = 4 + 4 + 32;
const FOOTER: usize = 8 + 32 + 8;

/// What a segment's bytes depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentKey(blake3::Hash);

impl SegmentKey {
    /// The key of the segment that `paths` make together: each with its name, archive hash and rules. More than one are
    /// merged to one tree.
    pub(crate) fn new<'p>(
        paths: impl IntoIterator<Item = (&'p str, &'p str, Option<&'p PathOptions>)>,
        codec: Codec,
    ) -> Self {
        let mut parts = vec![codec.to_string().into_bytes()];
        for (path, nar_hash, options) in paths {
            parts.extend([path.into(), nar_hash.into(), go_json::compact(&options)]);
        }
        Self(super::key(Kind::Segments, parts.iter().map(Vec::as_slice)))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// One frame's place in a segment.
#[derive(Debug, Clone, Copy)]
struct Frame {
    plain: usize,
    compressed: usize,
    check: blake3::Hash,
}

/// A segment in the cache, read frame by frame.
pub(crate) struct SegmentReader {
    file: File,
    /// Its path, in a folder that is ours to change.
    own_path: Option<PathBuf>,
    frames: Vec<Frame>,
    next: usize,
    offset: u64,
}

/// What [`SegmentReader::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// A frame of so many plain bytes.
    Frame(usize),
    /// The segment is at its end.
    End,
    /// The next frame cannot be had: damaged, or gone. It is the segment's frame of this number, from 0.
    Damaged(usize),
}

impl SegmentReader {
    fn open(path: PathBuf, is_own: bool, key: &blake3::Hash) -> Option<Self> {
        let file = super::open(&path)?;
        let frames = index(&file, key)?;
        if is_own {
            super::renew(&file);
        }
        Some(Self { file, own_path: is_own.then_some(path), frames, next: 0, offset: 0 })
    }

    /// Reads the next frame into `compressed`, replacing what is there, and checks it.
    pub(crate) fn next(&mut self, compressed: &mut Vec<u8>) -> Stored {
        let Some(frame) = self.frames.get(self.next).copied() else { return Stored::End };
        compressed.clear();
        match self.append(compressed) {
            Some(()) => Stored::Frame(frame.plain),
            None => Stored::Damaged(self.next),
        }
    }

    /// Adds the next frame, which there is, to `bytes` and checks it; none where it cannot be had.
    fn append(&mut self, bytes: &mut Vec<u8>) -> Option<()> {
        let frame = self.frames[self.next];
        let from = bytes.len();
        bytes.resize(from + frame.compressed, 0);
        let read = self.file.read_exact_at(&mut bytes[from..], self.offset);
        if read.is_err() || blake3::hash(&bytes[from..]) != frame.check {
            // Nobody else shall stumble over it.
            let _ = self.own_path.as_ref().map(fs::remove_file);
            return None;
        }
        self.next += 1;
        self.offset += frame.compressed as u64;
        Some(())
    }

    /// How many frames it has given.
    pub(crate) fn given(&self) -> usize {
        self.next
    }

    /// The sum of its frames' sizes in bytes, compressed.
    pub(crate) fn size(&self) -> u64 {
        self.frames.iter().map(|frame| frame.compressed as u64).sum()
    }

    /// Adds its compressed bytes from `skipped` on to `bytes`: at least `least` of them unless it ends before, and at most
    /// a frame more. None where a frame cannot be had.
    pub(crate) fn read(&mut self, skipped: u64, least: usize, bytes: &mut Vec<u8>) -> Option<()> {
        let enough = bytes.len() + least;
        while let Some(frame) = self.frames.get(self.next) {
            let (start, end) = (self.offset, self.offset + frame.compressed as u64);
            if end <= skipped {
                (self.next, self.offset) = (self.next + 1, end);
                continue;
            }
            if bytes.len() >= enough {
                break;
            }
            let from = bytes.len();
            self.append(bytes)?;
            let unwanted = usize::try_from(skipped.saturating_sub(start)).ok()?;
            bytes.drain(from..from + unwanted);
        }
        Some(())
    }
}

/// Reads and checks a segment's index.
fn index(file: &File, key: &blake3::Hash) -> Option<Vec<Frame>> {
    let size = file.metadata().ok()?.len();
    let at = size.checked_sub(FOOTER as u64)?;
    let mut footer = [0; FOOTER];
    file.read_exact_at(&mut footer, at).ok()?;
    let (count, check, magic) = (&footer[..8], &footer[8..40], &footer[40..]);
    let count = u64::from_le_bytes(count.try_into().expect("8 bytes"));
    let bytes = usize::try_from(count).ok()?.checked_mul(ENTRY)?;
    let start = at.checked_sub(bytes as u64)?;
    if magic != MAGIC {
        return None;
    }
    let mut index = vec![0; bytes];
    file.read_exact_at(&mut index, start).ok()?;
    if index_check(key, &index).as_bytes() != check {
        return None;
    }
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("4 bytes")) as usize;
    let frames: Vec<Frame> = index
        .chunks_exact(ENTRY)
        .map(|entry| Frame {
            plain: number(&entry[..4]),
            compressed: number(&entry[4..8]),
            check: blake3::Hash::from_bytes(entry[8..].try_into().expect("32 bytes")),
        })
        .collect();
    let whole = frames.iter().map(|frame| frame.compressed as u64).sum::<u64>() == start
        && frames.iter().all(|frame| frame.plain <= FRAME_BYTES);
    whole.then_some(frames)
}

fn index_check(key: &blake3::Hash, index: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.as_bytes()).update(index);
    hasher.finalize()
}

/// Whether a file is a whole segment, frame by frame, of whatever key its name says.
pub(super) fn verify(path: &Path, key: &blake3::Hash) -> bool {
    let Some(mut reader) = super::open(path).and_then(|file| {
        let frames = index(&file, key)?;
        Some(SegmentReader { file, own_path: None, frames, next: 0, offset: 0 })
    }) else {
        return false;
    };
    let mut frame = Vec::new();
    loop {
        match reader.next(&mut frame) {
            Stored::Frame(_) => {}
            Stored::End => return true,
            Stored::Damaged(_) => return false,
        }
    }
}

/// A segment on its way into the cache. Dropped before [`SegmentWriter::finish`], it leaves nothing behind.
pub(crate) struct SegmentWriter {
    file: BufWriter<NamedTempFile>,
    place: PathBuf,
    key: blake3::Hash,
    index: Vec<u8>,
    written: Arc<Written>,
}

impl SegmentWriter {
    /// Adds a frame; none once the cache cannot be written.
    pub(crate) fn add(mut self, plain: usize, compressed: &[u8]) -> Option<Self> {
        self.file.write_all(compressed).ok()?;
        for length in [plain, compressed.len()] {
            self.index.extend(u32::try_from(length).ok()?.to_le_bytes());
        }
        self.index.extend(blake3::hash(compressed).as_bytes());
        Some(self)
    }

    /// Gives the segment its place.
    pub(crate) fn finish(mut self) -> Option<()> {
        let count = (self.index.len() / ENTRY) as u64;
        self.file.write_all(&self.index).ok()?;
        self.file.write_all(&count.to_le_bytes()).ok()?;
        self.file.write_all(index_check(&self.key, &self.index).as_bytes()).ok()?;
        self.file.write_all(MAGIC).ok()?;
        let file = self.file.into_inner().ok()?;
        let size = file.as_file().metadata().ok()?.len();
        scratch::keep(file, &self.place).ok()?;
        self.written.add(size);
        Some(())
    }
}

impl Cache {
    /// A segment that is known.
    pub(crate) fn segment(&self, key: &SegmentKey) -> Option<SegmentReader> {
        self.folders().find_map(|(folder, is_own)| {
            SegmentReader::open(super::entry(folder, Kind::Segments, &key.0), is_own, &key.0)
        })
    }

    /// The bytes of a store path's segment when it is compressed, if it has been packed so and without rules. Asking is no use of
    /// the entry: it does not stay for longer.
    pub fn compressed_size(&self, info: &PathInfo, codec: Codec) -> Option<u64> {
        if info.nar_hash.is_empty() {
            return None;
        }
        let nar_hash = nar_hash::canonical(&info.nar_hash);
        let key = SegmentKey::new([(info.path.as_str(), nar_hash.as_str(), None)], codec);
        let open = |folder| SegmentReader::open(super::entry(folder, Kind::Segments, &key.0), false, &key.0);
        self.folders().find_map(|(folder, _)| open(folder)).map(|reader| reader.size())
    }

    /// Removes a segment.
    pub(crate) fn forget_segment(&self, key: &SegmentKey) {
        let _ = fs::remove_file(super::entry(&self.folder, Kind::Segments, &key.0));
    }

    /// A place for a segment that is being made; none where the cache cannot be written.
    pub(crate) fn new_segment(&self, key: &SegmentKey) -> Option<SegmentWriter> {
        let place = super::entry(&self.folder, Kind::Segments, &key.0);
        let folder = place.parent()?;
        fs::create_dir_all(folder).ok()?;
        let file = BufWriter::new(scratch::file(folder).ok()?);
        Some(SegmentWriter { file, place, key: key.0, index: Vec::new(), written: self.written.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(path: &str, nar_hash: &str, options: Option<&PathOptions>, codec: &str) -> SegmentKey {
        SegmentKey::new([(path, nar_hash, options)], codec.parse().unwrap())
    }

    #[test]
    fn everything_that_matters_is_in_the_key() {
        let options = PathOptions::default();
        let both = SegmentKey::new([("/a", "h", None), ("/b", "h", None)], Codec::None);
        let keys = [
            segment("/a", "h", None, "none"),
            segment("/b", "h", None, "none"),
            segment("/a", "i", None, "none"),
            segment("/a", "h", Some(&options), "none"),
            segment("/a", "h", None, "zstd"),
            segment("/a", "h", None, "zstd:4"),
            both,
        ];
        for (at, key) in keys.iter().enumerate() {
            assert!(keys[..at].iter().all(|other| other != key), "{at}");
        }
        assert_eq!(segment("/a", "h", None, "none"), keys[0]);
    }

    #[test]
    fn sizes_are_those_of_paths_without_rules() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let info = |nar_hash: &str| PathInfo {
            path: "/a".into(),
            references: Vec::new(),
            nar_hash: nar_hash.into(),
            nar_size: 30,
        };
        let writer = cache.new_segment(&segment("/a", &nar_hash::canonical("h"), None, "zstd")).unwrap();
        writer.add(10, b"first").unwrap().add(20, b"second").unwrap().finish().unwrap();
        let size = |nar_hash, codec: &str| cache.compressed_size(&info(nar_hash), codec.parse().unwrap());
        assert_eq!(size("h", "zstd"), Some(11));
        assert_eq!((size("", "zstd"), size("i", "zstd"), size("h", "gzip")), (None, None, None));
    }

    #[test]
    fn frames_come_back_and_damage_is_noticed_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let key = segment("/a", "h", None, "zstd");
        assert!(cache.segment(&key).is_none());
        let writer = cache.new_segment(&key).unwrap();
        assert!(cache.segment(&key).is_none(), "not before it is whole");
        writer.add(10, b"first").unwrap().add(20, b"second").unwrap().finish().unwrap();
        let read = || {
            let (mut reader, mut frame, mut frames) = (cache.segment(&key)?, Vec::new(), Vec::new());
            loop {
                let stored = reader.next(&mut frame);
                match stored {
                    Stored::Frame(plain) => frames.push((plain, frame.clone())),
                    end => return Some((frames, end)),
                }
            }
        };
        let (first, second) = ((10, b"first".to_vec()), (20, b"second".to_vec()));
        assert_eq!(read(), Some((vec![first.clone(), second], Stored::End)));

        let file = super::super::entry(folder.path(), Kind::Segments, &key.0);
        let bytes = fs::read(&file).unwrap();
        assert!(verify(&file, &key.0));
        for at in [0, 7, 11, 20, bytes.len() - 50, bytes.len() - 1] {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            fs::write(&file, &wrong).unwrap();
            assert!(!verify(&file, &key.0), "byte {at}");
            let expected = match at {
                0 => Some((vec![], Stored::Damaged(0))),
                7 => Some((vec![first.clone()], Stored::Damaged(1))),
                _ => None,
            };
            assert_eq!(read(), expected, "byte {at}");
        }
        for length in [0, 5, FOOTER, bytes.len() - 1] {
            fs::write(&file, &bytes[..length]).unwrap();
            assert_eq!(read(), None, "{length} bytes");
        }
        let other = segment("/b", "h", None, "zstd");
        let elsewhere = super::super::entry(folder.path(), Kind::Segments, &other.0);
        fs::create_dir_all(elsewhere.parent().unwrap()).unwrap();
        fs::write(elsewhere, &bytes).unwrap();
        assert!(cache.segment(&other).is_none(), "moved");
    }
}
