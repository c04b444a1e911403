//! A blob whose segments the cache has: read at any place, without being packed and without being copied anywhere first.

use std::sync::atomic::AtomicBool;

use super::pieces::{Piece, Pieces};
use crate::cache::{Cache, SegmentKey};
use crate::compress::{Codec, Compressor, FRAME_BYTES};
use crate::control::Control;
use crate::error::Result;
use crate::layer::PackedLayer;
use crate::layer_path::LayerPath;
use crate::tar::{Fill, Reading};

/// Where a blob's bytes are.
#[derive(Debug)]
pub struct CachedBlob {
    cache: Cache,
    /// Each part with the place of its first byte, in order.
    parts: Vec<(u64, Part)>,
    size: u64,
    packed: PackedLayer,
}

#[derive(Debug)]
enum Part {
    /// Headers of parents, end blocks: no store path's.
    Bytes(Vec<u8>),
    Segment(SegmentKey),
}

impl CachedBlob {
    /// The blob of a layer; none where the cache does not have all of it now.
    pub(super) fn find(cache: &Cache, paths: &[LayerPath], codec: Codec) -> Result<Option<Self>> {
        // Uncompressed segments are not kept: the store has them.
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

    /// What packing gave when the layer was made.
    pub fn packed(&self) -> PackedLayer {
        self.packed
    }

    /// The blob's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes from `at` on: at least `least` of them unless the blob ends before, and at most a frame more. None where they
    /// cannot be had any more: evicted, or damaged.
    pub fn read(&self, mut at: u64, least: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut number = self.parts.partition_point(|(start, _)| *start <= at).checked_sub(1)?;
        while let Some((start, part)) = self.parts.get(number).filter(|_| bytes.len() < least) {
            let skipped = at - start;
            let before = bytes.len();
            match part {
                Part::Bytes(part) => bytes.extend_from_slice(part.get(usize::try_from(skipped).ok()?..)?),
                Part::Segment(key) => self.cache.segment(key)?.read(skipped, least - before, &mut bytes)?,
            }
            at += (bytes.len() - before) as u64;
            let end = self.parts.get(number + 1).map_or(self.size, |(start, _)| *start);
            // A segment that was made anew meanwhile is the same one, or this is no blob.
            if at > end {
                return None;
            }
            number += usize::from(at == end);
            if before == bytes.len() && at != end {
                return None;
            }
        }
        Some(bytes)
    }

    /// At most `most` bytes from `at` on, and at least one; nothing is checked. For a caller that knows which bytes these are.
    /// Reads no more than those bytes, where [`CachedBlob::read`] reads whole frames.
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
            // A segment that was made anew meanwhile is the same one, or this is no blob.
            if bytes.len() - before != left {
                return None;
            }
            (at, number) = (end, number + 1);
        }
        (!bytes.is_empty()).then_some(bytes)
    }
}

/// A part that is not read from anywhere.
fn made(pieces: &Pieces<'_>, at: usize, compressor: &Compressor) -> Result<Vec<u8>> {
    let stop = AtomicBool::new(false);
    let control = Control::new(&stop, &());
    let mut stream = pieces.stream(at, Reading { control: &control, check: None })?;
    let (mut plain, mut compressed, mut bytes) = (vec![0; FRAME_BYTES], Vec::new(), Vec::new());
    loop {
        let (length, fill) = stream.fill(&mut plain, true)?;
        if fill == Fill::End {
            return Ok(bytes);
        }
        compressor.frame(&plain[..length], &mut compressed)?;
        bytes.extend_from_slice(&compressed);
    }
}
