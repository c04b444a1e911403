//! Reads a layer's frames in order: from the cache if it has their segment, otherwise from the store.

use std::ops::Range;

use super::pieces::Pieces;
use crate::cache::{Cache, SegmentReader, Stored};
use crate::compress::{Codec, Decompressor, FRAME_BYTES};
use crate::control::Control;
use crate::cpu_permits::CpuPermits;
use crate::error::{Error, Result};
use crate::tar::{Fill, LayerStream, Reading};

/// Buffers of a frame, used again for later frames.
#[derive(Default)]
pub(super) struct Frame {
    /// Number of the part of the layer that the frame belongs to.
    pub(super) piece: usize,
    /// Whether the frame is the first one of its part.
    pub(super) first: bool,
    plain: Vec<u8>,
    /// Number of plain bytes in the frame, whether or not they are available.
    pub(super) length: usize,
    /// Whether the plain bytes are available.
    pub(super) has_plain: bool,
    pub(super) compressed: Vec<u8>,
    /// Whether the frame comes from the cache, compressed.
    pub(super) from_cache: bool,
}

impl Frame {
    pub(super) fn plain(&self) -> &[u8] {
        &self.plain[..self.length]
    }
}

/// Resizes a buffer. Running out of memory is an error.
fn grow(buffer: &mut Vec<u8>, size: usize) -> Result<()> {
    buffer.try_reserve_exact(size.saturating_sub(buffer.len())).map_err(|_| Error::Memory)?;
    buffer.resize(size, 0);
    Ok(())
}

/// Range of a layer's frames to read.
#[derive(Debug, Clone)]
pub(super) struct FrameRange {
    /// Parts to read.
    pub(super) pieces: Range<usize>,
    /// Number of the first part whose plain bytes are needed.
    pub(super) plain_from: usize,
}

enum Open<'l> {
    Store(Box<LayerStream<'l>>),
    Cached(SegmentReader),
}

/// Reader of a layer's frames.
pub(super) struct Source<'l, 'c> {
    pieces: &'c Pieces<'l>,
    wanted: FrameRange,
    codec: Codec,
    cache: Option<&'c Cache>,
    reading: Reading<'c>,
    decompressor: Decompressor,
    next: usize,
    open: Option<Open<'c>>,
    first: bool,
}

impl<'l, 'c> Source<'l, 'c> {
    pub(super) fn new(
        pieces: &'c Pieces<'l>,
        wanted: FrameRange,
        codec: Codec,
        cache: Option<&'c Cache>,
        control: &'c Control<'c>,
        check: Option<&'c CpuPermits>,
    ) -> Result<Self> {
        let (next, decompressor) = (wanted.pieces.start, Decompressor::new(codec)?);
        let reading = Reading { control, check };
        Ok(Self { pieces, wanted, codec, cache, reading, decompressor, next, open: None, first: true })
    }

    /// Reads the next frame. Returns false at the layer's end.
    pub(super) fn fill(&mut self, frame: &mut Frame) -> Result<bool> {
        loop {
            self.reading.control.check()?;
            let piece = self.next;
            if piece == self.wanted.pieces.end {
                return Ok(false);
            }
            let filled = match &mut self.open {
                None => {
                    self.open = Some(self.begin(piece)?);
                    self.first = true;
                    continue;
                }
                Some(Open::Store(stream)) => {
                    // Without compression, frame borders have no meaning. Smaller frames stay in the processor's cache.
                    let split = self.codec != Codec::None;
                    grow(&mut frame.plain, if split { FRAME_BYTES } else { FRAME_BYTES / 4 })?;
                    let (length, fill) =
                        stream.fill(&mut frame.plain, split).inspect_err(|_| self.discard(piece))?;
                    (frame.length, frame.has_plain, frame.from_cache) = (length, true, false);
                    fill == Fill::Frame
                }
                Some(Open::Cached(reader)) => match reader.next(&mut frame.compressed) {
                    Stored::End => false,
                    Stored::Frame(length) => {
                        frame.length = length;
                        (frame.has_plain, frame.from_cache) = (false, true);
                        if piece >= self.wanted.plain_from {
                            grow(&mut frame.plain, FRAME_BYTES)?;
                            let plain = &mut frame.plain[..length];
                            frame.has_plain = self.decompressor.frame(&frame.compressed, plain);
                            // The checksum matches, so this was never a valid frame. It cannot be used.
                            if !frame.has_plain {
                                let number = reader.given() - 1;
                                self.open = Some(self.after(piece, number)?);
                                continue;
                            }
                        }
                        true
                    }
                    Stored::Damaged(number) => {
                        self.open = Some(self.after(piece, number)?);
                        continue;
                    }
                },
            };
            if filled {
                frame.piece = piece;
                frame.first = std::mem::take(&mut self.first);
                return Ok(true);
            }
            self.open = None;
            self.next += 1;
        }
    }

    fn begin(&self, piece: usize) -> Result<Open<'c>> {
        let known = self.cache.zip(self.pieces.key(piece)).filter(|_| self.codec != Codec::None);
        match known.and_then(|(cache, key)| cache.segment(key)) {
            Some(reader) => Ok(Open::Cached(reader)),
            None => Ok(Open::Store(Box::new(self.stored(piece)?))),
        }
    }

    /// Opens the stream of a part from the store. If the store is checked and the part is wrong, the stream ends with an
    /// error. Nothing read from it may be kept before its end.
    fn stored(&self, piece: usize) -> Result<LayerStream<'c>> {
        self.pieces.stream(piece, self.reading).inspect_err(|_| self.discard(piece))
    }

    /// If the store is checked, removes the cache's entries for a part that cannot be read or that differs from Nix's
    /// record, and for its layer unless that was checked: the part may already have been wrong when it was packed without a
    /// check.
    fn discard(&self, piece: usize) {
        let Some(cache) = self.cache.filter(|_| self.reading.check.is_some()) else { return };
        self.pieces.key(piece).into_iter().for_each(|key| cache.forget_segment(key));
        self.pieces.layer_key().into_iter().for_each(|key| cache.forget_unchecked_layer(key));
    }

    /// Opens the stream of a part from the store, after its first `frames` frames. Frames end at offsets that the format
    /// fixes, so frames that were already returned from the cache are the same.
    fn after(&self, piece: usize, frames: usize) -> Result<Open<'c>> {
        let mut stream = self.stored(piece)?;
        let mut skipped = vec![0; FRAME_BYTES];
        for _ in 0..frames {
            self.reading.control.check()?;
            stream.fill(&mut skipped, true).inspect_err(|_| self.discard(piece))?;
        }
        Ok(Open::Store(Box::new(stream)))
    }
}
