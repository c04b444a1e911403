//! Where compressed frames of store paths are inside the blobs of layers. With such an index, another machine fetches frames from a
//! registry instead of compressing them.
//!
//! ```json
//! { "version": 1,
//!   "segments": { "KEY": { "blob": "sha256:...", "offset": 1536, "frames": [[PLAIN, COMPRESSED, "BLAKE3"], ...] } } }
//! ```
//!
//! `KEY` is the key of a segment: a hash of store path, archive hash, rules and codec. `offset` is the place of the segment's first
//! frame in the blob, in bytes; its frames follow one another. A frame has the number of its plain and compressed bytes, and the BLAKE3
//! hash of its compressed bytes.

use std::collections::BTreeMap;

use nixply_documents::{document, go_json};
use nixply_oci::Digest;
use serde::{Deserialize, Serialize};

use super::cached::CachedBlob;
use crate::cache::SegmentKey;
use crate::compress::FRAME_BYTES;
use crate::error::{Error, Result};

/// Version of the format.
const VERSION: u32 = 1;

/// Maximum size of a compressed frame: incompressible bytes grow a little.
const MAX_COMPRESSED: usize = FRAME_BYTES + FRAME_BYTES / 8;

/// An index of frames.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameIndex {
    version: u32,
    segments: BTreeMap<String, SegmentPlace>,
}

/// The place of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentPlace {
    /// The blob of a layer.
    pub blob: Digest,
    /// Offset of the first frame in the blob, in bytes.
    pub offset: u64,
    /// The frames.
    pub(super) frames: Vec<FramePlace>,
}

/// Lengths and hash of a frame: plain bytes, compressed bytes, BLAKE3 of the compressed bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FramePlace(pub(super) u32, pub(super) u32, pub(super) String);

impl SegmentPlace {
    /// Returns the offset of the first byte after the segment.
    pub fn end(&self) -> u64 {
        self.offset + self.frames.iter().map(|frame| u64::from(frame.1)).sum::<u64>()
    }
}

impl Default for FrameIndex {
    fn default() -> Self {
        Self { version: VERSION, segments: BTreeMap::new() }
    }
}

impl FrameIndex {
    /// Reads an index. `name` is for messages.
    pub fn read(json: &str, name: &str) -> Result<Self> {
        let index: Self = document::read(json, name)?;
        if index.version != VERSION {
            let why =
                format!("its version is {}, but this nixply supports only version {VERSION}", index.version);
            return Err(Error::invalid(name, why));
        }
        let fits = |frame: &FramePlace| frame.0 as usize <= FRAME_BYTES && frame.1 as usize <= MAX_COMPRESSED;
        for (key, place) in &index.segments {
            if !place.frames.iter().all(fits) {
                return Err(Error::invalid(name, format!("segment {key} has a frame that is too large")));
            }
            // A blob is smaller than 2^63 bytes, and a segment has content.
            if place.offset > i64::MAX as u64 || place.end() == place.offset {
                return Err(Error::invalid(name, format!("segment {key} is empty, or outside any blob")));
            }
        }
        Ok(index)
    }

    /// Writes the index.
    pub fn write(&self) -> Vec<u8> {
        go_json::compact(self)
    }

    /// Returns the number of segments.
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Returns whether the index has no segments.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Adds the segments of a blob whose frames are all in the cache.
    pub fn add(&mut self, blob: &CachedBlob) {
        for (key, offset, frames) in blob.segments() {
            let place = SegmentPlace { blob: blob.packed().digest, offset, frames };
            self.segments.insert(key.to_string(), place);
        }
    }

    /// Adds the segments of another index that are in one of these blobs, except those that this index has.
    pub fn extend(&mut self, other: Self, blobs: &dyn Fn(Digest) -> bool) {
        for (key, place) in other.segments.into_iter().filter(|(_, place)| blobs(place.blob)) {
            self.segments.entry(key).or_insert(place);
        }
    }

    /// Returns the blobs of the index.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> {
        self.segments.values().map(|place| place.blob)
    }

    /// Returns the place of a segment.
    pub(super) fn place(&self, key: &SegmentKey) -> Option<&SegmentPlace> {
        self.segments.get(&key.to_string())
    }
}
