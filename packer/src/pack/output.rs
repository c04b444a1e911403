//! Passes a layer's compressed frames to the blob's hasher, the sink and the cache.

use super::job::Job;
use super::sink::BlobWriter;
use super::source::Frame;
use super::states::Hashed;
use crate::cache::{Cache, SegmentWriter};
use crate::compress::Codec;
use crate::error::Result;

/// Destinations of a blob's compressed bytes, in order: hasher, writer, cache.
pub(super) struct Output<'c> {
    pub(super) hashed: Hashed,
    /// Whether blobs are the plain bytes, which are already hashed.
    pub(super) plain: bool,
    pub(super) codec: Codec,
    pub(super) writer: Option<Box<dyn BlobWriter>>,
    pub(super) cache: Option<&'c Cache>,
    pub(super) segment: Option<(usize, SegmentWriter)>,
}

impl Output<'_> {
    /// Takes the next frame. Stores the hasher's state before it if `keep` is true.
    pub(super) fn take(&mut self, frame: &Frame, keep: bool, job: &Job<'_>) -> Result<()> {
        let bytes = if self.plain { frame.plain() } else { &frame.compressed[..] };
        if !self.plain {
            self.hashed.update(frame, bytes, keep);
            self.remember(frame, job);
        }
        match &mut self.writer {
            Some(writer) => writer.write(bytes),
            None => Ok(()),
        }
    }

    /// Adds a new frame to the cache.
    fn remember(&mut self, frame: &Frame, job: &Job<'_>) {
        if self.segment.as_ref().is_some_and(|(piece, _)| *piece != frame.piece) {
            self.finish_segment();
        }
        if !frame.from_cache {
            if frame.first {
                let known = self.cache.zip(job.pieces.key(frame.piece));
                let writer = known.and_then(|(cache, key)| {
                    cache.new_segment(key, &job.pieces.origin(frame.piece, self.codec))
                });
                self.segment = writer.map(|writer| (frame.piece, writer));
            }
            self.segment = self
                .segment
                .take()
                .and_then(|(piece, writer)| Some((piece, writer.add(frame.length, &frame.compressed)?)));
        }
    }

    /// Completes the current segment.
    pub(super) fn finish_segment(&mut self) {
        // If the cache cannot be written, only the next build is slower.
        let _ = self.segment.take().and_then(|(_, writer)| writer.finish());
    }
}
