//! Takes over segments that another machine has compressed. Nothing about them is trusted: each frame must have the hash in the index,
//! and the decompressed tar stream must be the one that this packer would make from a store path with the archive hash that Nix records.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read};
use std::rc::Rc;
use std::sync::Arc;

use nixply_oci::Digest;
use sha2::{Digest as _, Sha256};

use super::frame_index::{FrameIndex, SegmentPlace};
use crate::cache::{Cache, Origin, SegmentKey};
use crate::compress::{Codec, Decompressor, FRAME_BYTES};
use crate::layer_path::LayerPath;
use crate::nar::Archive;
use crate::tar::header_bytes;
use crate::walk::{Entry, Identity, Kind};

/// A source of segments, such as a registry.
pub trait SegmentSource: Send + Sync {
    /// Adds the segments that the source has to the cache. Failures only cost time: the packer makes what is missing.
    fn fetch(&self, wanted: &[WantedSegment], cache: &Cache);
}

/// A segment that the cache lacks.
#[derive(Debug)]
pub struct WantedSegment {
    key: SegmentKey,
    codec: Codec,
    path: String,
    nar_hash: String,
    origin: Origin,
}

/// The packer's sources of segments.
#[derive(Clone, Default)]
pub(super) struct Sources(pub(super) Vec<Arc<dyn SegmentSource>>);

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sources", self.0.len())
    }
}

impl WantedSegment {
    /// Describes a segment, if its bytes depend on one store path alone, without rules.
    pub(super) fn new(key: SegmentKey, path: &LayerPath, codec: Codec) -> Option<Self> {
        let nar_hash = path.nar_hash()?.to_owned();
        if path.options.is_some() || codec == Codec::None {
            return None;
        }
        let origin = Origin::new(codec, std::iter::once((&path.path, path.nar_hash(), None)));
        Some(Self { key, codec, path: path.path.to_string(), nar_hash, origin })
    }

    /// Returns the segment's place in an index.
    pub fn place<'i>(&self, index: &'i FrameIndex) -> Option<&'i SegmentPlace> {
        index.place(&self.key)
    }

    /// Reads the segment's frames from `bytes`, checks them, and adds them to the cache.
    ///
    /// # Errors
    ///
    /// The bytes end too early, are not the segment of this store path, or cannot be read or stored. The cache is unchanged.
    pub fn receive(&self, place: &SegmentPlace, bytes: &mut dyn Read, cache: &Cache) -> io::Result<()> {
        let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", self.path));
        let unwritten = || io::Error::other("the cache cannot be written");
        let frames = Frames {
            place,
            bytes,
            next: 0,
            decompressor: Decompressor::new(self.codec).map_err(|error| io::Error::other(error.chain()))?,
            plain: Vec::new(),
            taken: 0,
            writer: Some(cache.new_segment(&self.key, &self.origin).ok_or_else(unwritten)?),
        };
        let raw = Rc::<RefCell<Vec<u8>>>::default();
        let mut archive = tar::Archive::new(Recorded { frames, raw: raw.clone() });
        let (mut nar, mut hasher) = (Archive::new(false), Sha256::new());
        let mut padding = 0;
        let mut chunk = vec![0; 64 << 10];
        let mut entries = archive.entries()?;
        loop {
            raw.borrow_mut().clear();
            let Some(entry) = entries.next() else { break };
            let mut entry = entry?;
            let (below, described, header) =
                self.entry(&entry).ok_or_else(|| wrong("it has a foreign entry"))?;
            // The padding of the file before, then the header: exactly as this packer writes them.
            let mut expected = vec![0; padding];
            expected.extend(header);
            if *raw.borrow() != expected {
                return Err(wrong("it has a foreign header"));
            }
            nar.entry(&below, &described);
            let size = if let Kind::Regular { size } = described.kind { size } else { 0 };
            let mut left = size;
            while left > 0 {
                raw.borrow_mut().clear();
                let read = entry.read(&mut chunk)?;
                if read == 0 {
                    return Err(wrong("a file is too short"));
                }
                nar.bytes.extend_from_slice(&chunk[..read]);
                hasher.update(&nar.bytes);
                nar.bytes.clear();
                left -= read as u64;
            }
            padding = usize::try_from(size.next_multiple_of(512) - size).expect("it is less than 512");
        }
        if raw.borrow().iter().any(|byte| *byte != 0) || raw.borrow().len() != padding {
            return Err(wrong("it has bytes after its last file"));
        }
        nar.end();
        hasher.update(&nar.bytes);
        let found = Digest::finish(hasher).hex();
        if self.nar_hash != format!("sha256:{found}") {
            return Err(wrong("its content has another hash than Nix records"));
        }
        let frames = archive.into_inner().frames;
        if frames.next != place.frames.len() {
            return Err(wrong("it has more frames than its store path"));
        }
        frames.writer.and_then(crate::cache::SegmentWriter::finish).ok_or_else(unwritten)
    }

    /// Returns an entry's path below the store path, its description, and the header that this packer writes for it.
    fn entry<R: Read>(&self, entry: &tar::Entry<'_, R>) -> Option<(Vec<u8>, Entry, Vec<u8>)> {
        let name = entry.path_bytes();
        let name = name.strip_suffix(b"/").unwrap_or(&name);
        let below = name.strip_prefix(self.path.as_bytes())?;
        if !below.is_empty() && below[0] != b'/' {
            return None;
        }
        let mode = entry.header().mode().ok()?;
        let (kind, modes): (_, &[u32]) = match entry.header().entry_type() {
            tar::EntryType::Directory => (Kind::Directory, &[0o555]),
            tar::EntryType::Regular => (Kind::Regular { size: entry.size() }, &[0o444, 0o555]),
            tar::EntryType::Symlink => {
                (Kind::Symlink { target: entry.link_name_bytes()?.into_owned() }, &[0o777])
            }
            _ => return None,
        };
        // The modes that Nix gives to all files of a store.
        let described = Entry { kind, mode, identity: Identity::default() };
        let header = header_bytes(name, &described);
        modes.contains(&mode).then(|| (below.to_vec(), described, header))
    }
}

/// Reads the plain bytes of a segment, and writes its frames to the cache.
struct Frames<'f> {
    place: &'f SegmentPlace,
    bytes: &'f mut dyn Read,
    next: usize,
    decompressor: Decompressor,
    plain: Vec<u8>,
    /// Number of plain bytes of the current frame that were taken.
    taken: usize,
    writer: Option<crate::cache::SegmentWriter>,
}

impl Read for Frames<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.plain.len() {
            let Some(frame) = self.place.frames.get(self.next) else { return Ok(0) };
            let mut compressed = vec![0; frame.1 as usize];
            self.bytes.read_exact(&mut compressed)?;
            let wrong = || {
                io::Error::new(io::ErrorKind::InvalidData, "a frame has another hash than the index names")
            };
            if blake3::hash(&compressed).to_hex().as_str() != frame.2 {
                return Err(wrong());
            }
            // Only the last frame is shorter: this packer would make the same frames.
            if self.next + 1 < self.place.frames.len() && frame.0 as usize != FRAME_BYTES {
                return Err(wrong());
            }
            self.plain.resize((frame.0 as usize).min(FRAME_BYTES), 0);
            if !self.decompressor.frame(&compressed, &mut self.plain) {
                return Err(wrong());
            }
            (self.taken, self.next) = (0, self.next + 1);
            self.writer = self.writer.take().and_then(|writer| writer.add(self.plain.len(), &compressed));
        }
        let count = buffer.len().min(self.plain.len() - self.taken);
        buffer[..count].copy_from_slice(&self.plain[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}

/// Records the bytes that were read.
struct Recorded<'f> {
    frames: Frames<'f>,
    raw: Rc<RefCell<Vec<u8>>>,
}

impl Read for Recorded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.frames.read(buffer)?;
        self.raw.borrow_mut().extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}
