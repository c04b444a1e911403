//! Segments: a store path's part of a tar stream as compressed frames. A file contains the frames, then an index with each
//! frame's lengths and checksum, then the segment's origin as JSON, then a footer:
//!
//! ```text
//! frames ... | per frame: plain length u32, compressed length u32, blake3 | origin |
//!     frames u64, origin's length u32, flags u32, blake3(key, index, origin, its length, flags), magic
//! ```
//!
//! Integers are little-endian. Frames are verified as they are read, so a segment need not fit into memory. Flag 1 means
//! that the store was checked. Older versions wrote no origin, no flags and another magic; their segments are still read.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nixply_documents::go_json;
use nixply_files::scratch;
use nixply_planning::{PathInfo, PathOptions, nar_hash};
use tempfile::NamedTempFile;

use super::access::Trust;
use super::entries::{self, Cache};
use super::kind::Kind;
use super::origin::Origin;
use super::written::Written;
use crate::compress::{Codec, FRAME_BYTES};
use crate::error::Result;

const MAGIC: &[u8; 8] = b"nixply\0\x02";
const FORMER_MAGIC: &[u8; 8] = b"nixply\0\x01";
const ENTRY: usize = 4 + 4 + 32;
const FORMER_FOOTER: usize = 8 + 32 + 8;
const FOOTER: usize = FORMER_FOOTER + 4 + 4;
const CHECKED: u32 = 1;

/// Maximum size of an origin, in bytes: a layer of 20,000 paths in one tree has about 4 MB.
const ORIGIN_BYTES: usize = 64 << 20;

/// Key of a segment: a hash of everything that its bytes depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentKey(blake3::Hash);

impl SegmentKey {
    /// Returns the key of the segment of `paths`, each with its name, archive hash and rules. Several paths are merged to
    /// one tree.
    pub(crate) fn new<'p>(
        paths: impl IntoIterator<Item = (&'p str, &'p str, Option<&'p PathOptions>)>,
        codec: Codec,
    ) -> Self {
        let mut parts = vec![codec.to_string().into_bytes()];
        for (path, nar_hash, options) in paths {
            parts.extend([path.into(), nar_hash.into(), go_json::compact(&options)]);
        }
        Self(entries::key(Kind::Segments, parts.iter().map(Vec::as_slice)))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for SegmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

/// Lengths and checksum of a frame in a segment.
#[derive(Debug, Clone, Copy)]
struct Frame {
    plain: usize,
    compressed: usize,
    check: blake3::Hash,
}

/// A segment in the cache, read frame by frame.
pub(crate) struct SegmentReader {
    file: File,
    /// Path of the file, if it is in the user's own cache directory.
    own_path: Option<PathBuf>,
    frames: Vec<Frame>,
    checked: bool,
    /// Origin of the segment, as JSON. Empty if an older version wrote the segment.
    origin: Vec<u8>,
    next: usize,
    offset: u64,
}

/// Result of [`SegmentReader::next`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// A frame, with the number of its plain bytes.
    Frame(usize),
    /// The end of the segment.
    End,
    /// A damaged or missing frame, with its number in the segment, from 0.
    Damaged(usize),
}

impl SegmentReader {
    /// Opens a segment. Reading a damaged frame does not remove its file.
    fn open(path: &Path, trust: Trust, key: &blake3::Hash) -> Option<Self> {
        let file = entries::open(path, trust)?;
        let Index { frames, checked, origin } = index(&file, key)?;
        Some(Self { file, own_path: None, frames, checked, origin, next: 0, offset: 0 })
    }

    /// Returns the segment's origin, or none if the file does not name it.
    pub(crate) fn origin(&self) -> Option<Origin> {
        serde_json::from_slice(&self.origin).ok()
    }

    /// Reads the next frame into `compressed`, replacing its content, and checks the frame.
    pub(crate) fn next(&mut self, compressed: &mut Vec<u8>) -> Stored {
        let Some(frame) = self.frames.get(self.next).copied() else { return Stored::End };
        match self.put(compressed, 0) {
            Some(length) => {
                compressed.truncate(length);
                Stored::Frame(frame.plain)
            }
            None => Stored::Damaged(self.next),
        }
    }

    /// Puts the next frame, which must exist, into `bytes` at `from`, and checks it. Returns the position of its end, after which `bytes`
    /// may have others. Returns none if the frame is damaged or cannot be read.
    fn put(&mut self, bytes: &mut Vec<u8>, from: usize) -> Option<usize> {
        let frame = self.frames[self.next];
        let end = from + frame.compressed;
        grow(bytes, end);
        let read = self.file.read_exact_at(&mut bytes[from..end], self.offset);
        if read.is_err() || blake3::hash(&bytes[from..end]) != frame.check {
            // Removes the segment, so that no other process reads the damaged frame.
            let _ = self.own_path.as_ref().map(fs::remove_file);
            return None;
        }
        self.next += 1;
        self.offset += frame.compressed as u64;
        Some(end)
    }

    /// Returns each frame's number of plain bytes, number of compressed bytes, and hash of the compressed bytes.
    pub(crate) fn frames(&self) -> impl Iterator<Item = (usize, usize, blake3::Hash)> {
        self.frames.iter().map(|frame| (frame.plain, frame.compressed, frame.check))
    }

    /// Returns the number of frames read.
    pub(crate) fn given(&self) -> usize {
        self.next
    }

    /// Returns the sum of the compressed frames' sizes, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.frames.iter().map(|frame| frame.compressed as u64).sum()
    }

    /// Appends at most `most` compressed bytes from offset `skipped` on to `bytes`, without checking them.
    pub(crate) fn read_unchecked(&self, skipped: u64, most: usize, bytes: &mut Vec<u8>) -> Option<()> {
        let most = usize::try_from(self.size().checked_sub(skipped)?).map_or(most, |left| left.min(most));
        let from = bytes.len();
        bytes.resize(from + most, 0);
        self.file.read_exact_at(&mut bytes[from..], skipped).ok()
    }

    /// Puts compressed bytes from offset `skipped` on into `bytes` at `from`: at least `least` of them unless the segment ends before, and at
    /// most one frame more. Returns the position of their end, after which `bytes` may have others. Returns none if a frame is damaged or
    /// cannot be read.
    pub(crate) fn read(
        &mut self,
        skipped: u64,
        least: usize,
        bytes: &mut Vec<u8>,
        from: usize,
    ) -> Option<usize> {
        let mut end = from;
        while let Some(frame) = self.frames.get(self.next) {
            let (start, next) = (self.offset, self.offset + frame.compressed as u64);
            if next <= skipped {
                (self.next, self.offset) = (self.next + 1, next);
                continue;
            }
            if end >= from + least {
                break;
            }
            let begin = end;
            end = self.put(bytes, begin)?;
            let unwanted = usize::try_from(skipped.saturating_sub(start)).ok()?;
            bytes.copy_within(begin + unwanted..end, begin);
            end -= unwanted;
        }
        Some(end)
    }
}

/// Makes a buffer at least this long. Never makes it shorter: making it longer again would clear its memory again.
pub(crate) fn grow(buffer: &mut Vec<u8>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
}

/// Content of a segment's end.
struct Index {
    frames: Vec<Frame>,
    checked: bool,
    origin: Vec<u8>,
}

/// Reads and checks a segment's index.
fn index(file: &File, key: &blake3::Hash) -> Option<Index> {
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("4 bytes")) as usize;
    let size = file.metadata().ok()?.len();
    // The footer of an older version is shorter. A segment with such a footer still has enough bytes, because no frame is empty.
    let mut footer = [0; FOOTER];
    file.read_exact_at(&mut footer, size.checked_sub(FOOTER as u64)?).ok()?;
    let is_former = footer[FOOTER - 8..] == *FORMER_MAGIC;
    if !is_former && footer[FOOTER - 8..] != *MAGIC {
        return None;
    }
    let footer = &footer[if is_former { FOOTER - FORMER_FOOTER } else { 0 }..];
    let (count, rest) = footer.split_at(8);
    let (numbers, rest) = rest.split_at(if is_former { 0 } else { 8 });
    let (origin, flags) = if is_former { (0, 0) } else { (number(&numbers[..4]), number(&numbers[4..])) };
    let count = u64::from_le_bytes(count.try_into().expect("8 bytes"));
    let bytes = usize::try_from(count).ok()?.checked_mul(ENTRY)?;
    let both = bytes.checked_add(origin).filter(|_| origin <= ORIGIN_BYTES)?;
    let start = size.checked_sub(footer.len() as u64)?.checked_sub(both as u64)?;
    let mut index = vec![0; both];
    file.read_exact_at(&mut index, start).ok()?;
    if index_check(key, &[&index, numbers]).as_bytes() != &rest[..32] {
        return None;
    }
    let origin = index.split_off(bytes);
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
    whole.then_some(Index { frames, checked: flags & CHECKED as usize != 0, origin })
}

fn index_check(key: &blake3::Hash, parts: &[&[u8]]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.as_bytes());
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// Returns whether every frame of a segment is intact and the segment belongs to `key`.
pub(super) fn verify(path: &Path, key: &blake3::Hash) -> bool {
    let Some(mut reader) = SegmentReader::open(path, Trust::User, key) else { return false };
    let mut frame = Vec::new();
    loop {
        match reader.next(&mut frame) {
            Stored::Frame(_) => {}
            Stored::End => return true,
            Stored::Damaged(_) => return false,
        }
    }
}

/// Writes a segment to the cache. Leaves nothing behind if it is dropped before [`SegmentWriter::finish`].
pub(crate) struct SegmentWriter {
    file: BufWriter<NamedTempFile>,
    place: PathBuf,
    key: blake3::Hash,
    index: Vec<u8>,
    origin: Vec<u8>,
    checked: bool,
    written: Arc<Written>,
}

impl SegmentWriter {
    /// Adds a frame. Returns none if the cache cannot be written.
    pub(crate) fn add(mut self, plain: usize, compressed: &[u8]) -> Option<Self> {
        self.file.write_all(compressed).ok()?;
        for length in [plain, compressed.len()] {
            self.index.extend(u32::try_from(length).ok()?.to_le_bytes());
        }
        self.index.extend(blake3::hash(compressed).as_bytes());
        Some(self)
    }

    /// Completes the segment and renames it to its final name.
    pub(crate) fn finish(mut self) -> Option<()> {
        let count = (self.index.len() / ENTRY) as u64;
        let flags = if self.checked { CHECKED } else { 0 };
        let mut numbers = u32::try_from(self.origin.len()).ok()?.to_le_bytes().to_vec();
        numbers.extend(flags.to_le_bytes());
        let check = index_check(&self.key, &[&self.index, &self.origin, &numbers]);
        for part in [&self.index, &self.origin, &count.to_le_bytes()[..], &numbers, check.as_bytes(), MAGIC] {
            self.file.write_all(part).ok()?;
        }
        let file = self.file.into_inner().ok()?;
        let size = file.as_file().metadata().ok()?.len();
        scratch::keep(file, &self.place).ok()?;
        self.written.add(size);
        Some(())
    }
}

impl Cache {
    /// Opens the segment with this key.
    pub(crate) fn segment(&self, key: &SegmentKey) -> Option<SegmentReader> {
        let reader = self.directories().find_map(|(directory, trust)| {
            let path = entries::entry(directory, Kind::Segments, &key.0);
            let mut reader = SegmentReader::open(&path, trust, &key.0);
            if let Some(reader) = reader.as_mut().filter(|_| trust == Trust::User) {
                reader.own_path = Some(path);
            }
            reader.filter(|reader| reader.checked || !self.checked)
        })?;
        if reader.own_path.is_some() {
            entries::renew(&reader.file);
        }
        Some(reader)
    }

    /// Returns the segments in the cache's own directory, each with its file and the key that the file is named after.
    pub(crate) fn own_segments(&self) -> Result<Vec<(PathBuf, SegmentKey)>> {
        let files = self.files(Kind::Segments)?.into_iter();
        Ok(files.filter_map(|file| entries::key_of(&file).map(SegmentKey).map(|key| (file, key))).collect())
    }

    /// Opens one of the [own segments](Self::own_segments). This does not count as a use of the entry.
    pub(crate) fn own_segment(&self, file: &Path, key: &SegmentKey) -> Option<SegmentReader> {
        SegmentReader::open(file, Trust::User, &key.0)
    }

    /// Returns the compressed size of a store path's segment in bytes, if the path has been packed with this codec and
    /// without rules. This does not count as a use of the entry.
    pub fn compressed_size(&self, info: &PathInfo, codec: Codec) -> Option<u64> {
        if info.nar_hash.is_empty() {
            return None;
        }
        let nar_hash = nar_hash::canonical(&info.nar_hash);
        let key = SegmentKey::new([(info.path.as_str(), nar_hash.as_str(), None)], codec);
        let open = |directory, trust| {
            SegmentReader::open(&entries::entry(directory, Kind::Segments, &key.0), trust, &key.0)
        };
        self.directories().find_map(|(directory, trust)| open(directory, trust)).map(|reader| reader.size())
    }

    /// Removes a segment.
    pub(crate) fn forget_segment(&self, key: &SegmentKey) {
        let _ = fs::remove_file(entries::entry(&self.directory, Kind::Segments, &key.0));
    }

    /// Creates a segment that is made from `origin`. Returns none if the cache cannot be written.
    pub(crate) fn new_segment(&self, key: &SegmentKey, origin: &Origin) -> Option<SegmentWriter> {
        let place = entries::entry(&self.directory, Kind::Segments, &key.0);
        let directory = place.parent()?;
        let file = BufWriter::new(self.temporary(directory).ok()?);
        let (origin, written) = (go_json::compact(origin), self.written.clone());
        let origin = if origin.len() > ORIGIN_BYTES { Vec::new() } else { origin };
        Some(SegmentWriter {
            file,
            place,
            key: key.0,
            index: Vec::new(),
            origin,
            checked: self.checked,
            written,
        })
    }
}

#[cfg(test)]
mod tests;
