//! A blob whose segments are all in the cache. It can be read at any offset, without packing it or copying it first.

use std::sync::atomic::AtomicBool;

use super::frame_index::FramePlace;
use super::pieces::{Piece, Pieces};
use crate::cache::{Cache, SegmentKey, grow};
use crate::compress::{Codec, Compressor, FRAME_BYTES};
use crate::control::Control;
use crate::error::Result;
use crate::layer::PackedLayer;
use crate::layer_path::LayerPath;
use crate::tar::{Fill, Reading};

/// A layer's blob in the cache.
#[derive(Debug)]
pub struct CachedBlob {
    cache: Cache,
    /// Parts in order, each with the offset of its first byte.
    parts: Vec<(u64, Part)>,
    size: u64,
    packed: PackedLayer,
}

#[derive(Debug)]
enum Part {
    /// Bytes that do not belong to a store path: parents' headers and end blocks.
    Bytes(Vec<u8>),
    Segment(SegmentKey),
}

impl CachedBlob {
    /// Finds the blob of a layer. Returns none if the cache does not have all of it now.
    pub(super) fn find(cache: &Cache, paths: &[LayerPath], codec: Codec) -> Result<Option<Self>> {
        // Uncompressed segments are not cached: the store has their content.
        if codec == Codec::None {
            return Ok(None);
        }
        let (pieces, compressor) = (Pieces::new(paths, codec), Compressor::new(codec));
        let known = pieces.layer_key().and_then(|key| cache.layer(key)).filter(|known| known.proven);
        let Some(packed) = known.map(|known| known.packed) else { return Ok(None) };
        let (mut parts, mut size) = (Vec::new(), 0);
        for (at, piece) in pieces.list.iter().enumerate() {
            let (length, part) = match piece {
                Piece::Segment(_) | Piece::Merged(_) => {
                    let known = pieces.key(at).and_then(|key| Some((*key, cache.segment(key)?.size())));
                    let Some((key, length)) = known else { return Ok(None) };
                    (length, Part::Segment(key))
                }
                Piece::Head(_) | Piece::End => {
                    let bytes = made(&pieces, at, &compressor)?;
                    (bytes.len() as u64, Part::Bytes(bytes))
                }
            };
            parts.push((size, part));
            size += length;
        }
        Ok((size == packed.size).then(|| Self { cache: cache.clone(), parts, size, packed }))
    }

    /// Returns the digests and the size that the cache recorded when the layer was packed.
    pub fn packed(&self) -> PackedLayer {
        self.packed
    }

    /// Returns the blob's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the segments of store paths in the blob: key, offset and frames. Leaves out segments that were evicted.
    pub(super) fn segments(&self) -> impl Iterator<Item = (SegmentKey, u64, Vec<FramePlace>)> {
        self.parts.iter().filter_map(|(offset, part)| {
            let Part::Segment(key) = part else { return None };
            let segment = self.cache.segment(key)?;
            let frame = |(plain, compressed, hash): (usize, usize, blake3::Hash)| {
                let length = |bytes| u32::try_from(bytes).ok();
                Some(FramePlace(length(plain)?, length(compressed)?, hash.to_hex().to_string()))
            };
            Some((*key, *offset, segment.frames().map(frame).collect::<Option<_>>()?))
        })
    }

    /// Puts bytes from offset `at` on into the beginning of `bytes`: at least `least` of them unless the blob ends before, and at most one
    /// frame more. Returns their number, or none if they are no longer available, because a segment was evicted or is damaged. `bytes` only
    /// grows, and may have others after them: several reads into one buffer clear its memory once.
    pub fn read(&self, mut at: u64, least: usize, bytes: &mut Vec<u8>) -> Option<usize> {
        let mut filled = 0;
        let mut number = self.parts.partition_point(|(start, _)| *start <= at).checked_sub(1)?;
        while let Some((start, part)) = self.parts.get(number).filter(|_| filled < least) {
            let skipped = at - start;
            let before = filled;
            filled = match part {
                Part::Bytes(part) => {
                    let part = part.get(usize::try_from(skipped).ok()?..)?;
                    let end = before + part.len();
                    grow(bytes, end);
                    bytes[before..end].copy_from_slice(part);
                    end
                }
                Part::Segment(key) => {
                    self.cache.segment(key)?.read(skipped, least - before, bytes, before)?
                }
            };
            at += (filled - before) as u64;
            let end = self.parts.get(number + 1).map_or(self.size, |(start, _)| *start);
            // Another process may have replaced the segment. If its size changed, it is not a segment of this blob.
            if at > end {
                return None;
            }
            number += usize::from(at == end);
            if before == filled && at != end {
                return None;
            }
        }
        Some(filled)
    }

    /// Returns at least one and at most `most` bytes from offset `at` on, without checking them. For callers that know the
    /// expected bytes. Reads no more than those bytes, while [`CachedBlob::read`] reads whole frames.
    pub fn read_unchecked(&self, at: u64, most: usize) -> Option<Vec<u8>> {
        let number = self.parts.partition_point(|(start, _)| *start <= at).checked_sub(1)?;
        let (mut bytes, mut at, mut number) = (Vec::new(), at, number);
        while let Some((start, part)) = self.parts.get(number).filter(|_| bytes.len() < most) {
            let end = self.parts.get(number + 1).map_or(self.size, |(start, _)| *start);
            let left = usize::try_from(end - at).map_or(most, |left| left.min(most - bytes.len()));
            let (before, from) = (bytes.len(), at - start);
            match part {
                Part::Bytes(part) => {
                    let from = usize::try_from(from).ok()?;
                    bytes.extend_from_slice(part.get(from..from + left)?);
                }
                Part::Segment(key) => self.cache.segment(key)?.read_unchecked(from, left, &mut bytes)?,
            }
            // Another process may have replaced the segment. If its size changed, it is not a segment of this blob.
            if bytes.len() - before != left {
                return None;
            }
            (at, number) = (end, number + 1);
        }
        (!bytes.is_empty()).then_some(bytes)
    }
}

/// Makes the bytes of a part that does not belong to a store path. It is short, so its plain bytes need no buffer for a whole frame.
fn made(pieces: &Pieces<'_>, at: usize, compressor: &Compressor) -> Result<Vec<u8>> {
    let stop = AtomicBool::new(false);
    let control = Control::new(&stop, &());
    let mut stream = pieces.stream(at, Reading { control: &control, check: None })?;
    let (mut plain, mut buffer) = (Vec::new(), [0; 8 << 10]);
    loop {
        let (length, fill) = stream.fill(&mut buffer, true)?;
        if fill == Fill::End {
            break;
        }
        plain.extend_from_slice(&buffer[..length]);
    }
    let (mut compressed, mut bytes) = (Vec::new(), Vec::new());
    for frame in plain.chunks(FRAME_BYTES) {
        compressor.frame(frame, &mut compressed)?;
        bytes.extend_from_slice(&compressed);
    }
    Ok(bytes)
}
