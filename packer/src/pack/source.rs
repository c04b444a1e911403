//! A layer's frames in order: out of the cache where it has their segment, else from the store.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

use super::Control;
use super::cores::Cores;
use super::pieces::Pieces;
use crate::cache::{Cache, SegmentReader, Stored};
use crate::compress::{Codec, Decompressor, FRAME_BYTES};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::nar;
use crate::tar::{Fill, LayerStream};

/// A frame's buffers, used again and again.
#[derive(Default)]
pub(super) struct Frame {
    /// The part of the layer that it belongs to.
    pub(super) piece: usize,
    /// Whether it is the part's first frame.
    pub(super) first: bool,
    plain: Vec<u8>,
    /// How many plain bytes it has, whether they are there or not.
    pub(super) length: usize,
    /// Whether the plain bytes are there.
    pub(super) has_plain: bool,
    pub(super) compressed: Vec<u8>,
    /// Whether it came out of the cache, compressed.
    pub(super) from_cache: bool,
}

impl Frame {
    pub(super) fn plain(&self) -> &[u8] {
        &self.plain[..self.length]
    }
}

/// Which of a layer's frames are wanted, and how.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Parts to begin with and to end before.
    pub(super) pieces: Range<usize>,
    /// Plain bytes are wanted from this part on.
    pub(super) plain_from: usize,
}

enum Open<'l> {
    Store(LayerStream<'l>),
    Cached(SegmentReader),
}

/// The state of reading.
pub(super) struct Source<'l, 'c> {
    pieces: &'c Pieces<'l>,
    wanted: Wanted,
    codec: Codec,
    cache: Option<&'c Cache>,
    control: &'c Control<'c>,
    /// Whether what is read from the store is compared with what Nix knows of it, and if so, on which cores.
    check: Option<&'c Cores>,
    decompressor: Decompressor,
    next: usize,
    open: Option<Open<'l>>,
    first: bool,
}

impl<'l, 'c> Source<'l, 'c> {
    pub(super) fn new(
        pieces: &'c Pieces<'l>,
        wanted: Wanted,
        codec: Codec,
        cache: Option<&'c Cache>,
        control: &'c Control<'c>,
        check: Option<&'c Cores>,
    ) -> Self {
        let (next, decompressor) = (wanted.pieces.start, Decompressor::new(codec));
        Self { pieces, wanted, codec, cache, control, check, decompressor, next, open: None, first: true }
    }

    /// Reads the next frame; false at the layer's end.
    pub(super) fn fill(&mut self, frame: &mut Frame) -> Result<bool> {
        loop {
            self.control.check()?;
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
                    // Uncompressed, frames have no meaning; smaller ones stay in the processor's cache.
                    let split = self.codec != Codec::None;
                    frame.plain.resize(if split { FRAME_BYTES } else { FRAME_BYTES / 4 }, 0);
                    let (length, fill) = stream.fill(&mut frame.plain, split)?;
                    (frame.length, frame.has_plain, frame.from_cache) = (length, true, false);
                    fill == Fill::Frame
                }
                Some(Open::Cached(reader)) => match reader.next(&mut frame.compressed) {
                    Stored::End => false,
                    Stored::Frame(length) => {
                        frame.length = length;
                        (frame.has_plain, frame.from_cache) = (false, true);
                        if piece >= self.wanted.plain_from {
                            frame.plain.resize(FRAME_BYTES, 0);
                            let plain = &mut frame.plain[..length];
                            frame.has_plain = self.decompressor.frame(&frame.compressed, plain);
                            // Its checksum was right, so this was never a frame: not ours to use.
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

    fn begin(&self, piece: usize) -> Result<Open<'l>> {
        let known = self.cache.zip(self.pieces.key(piece)).filter(|_| self.codec != Codec::None);
        match known.and_then(|(cache, key)| cache.segment(key)) {
            Some(reader) => Ok(Open::Cached(reader)),
            None => Ok(Open::Store(self.stored(piece)?)),
        }
    }

    /// The part as the store has it. What is to be checked is read twice, once for its archive's hash: so nothing of a
    /// damaged path is handed on.
    fn stored(&self, piece: usize) -> Result<LayerStream<'l>> {
        for path in self.pieces.paths_of(piece) {
            let Some((cores, expected)) = self.check.zip(path.nar_hash.as_ref()) else { continue };
            let mut hasher = Sha256::new();
            nar::write(path.walk(self.control.case_hack), self.control.case_hack, &mut |bytes| {
                self.control.check()?;
                cores.with(|| hasher.update(bytes));
                Ok(())
            })?;
            let found = Digest::finish(hasher).to_string();
            if found != *expected {
                return Err(Error::Damaged { path: path.path.clone(), expected: expected.clone(), found });
            }
        }
        self.pieces.stream(piece, self.control)
    }

    /// The part as the store has it, after its first frames. Frames end at constants of the format, so those that have
    /// been handed out from the cache are the same.
    fn after(&self, piece: usize, frames: usize) -> Result<Open<'l>> {
        let mut stream = self.stored(piece)?;
        let mut skipped = vec![0; FRAME_BYTES];
        for _ in 0..frames {
            self.control.check()?;
            stream.fill(&mut skipped, true)?;
        }
        Ok(Open::Store(stream))
    }
}
