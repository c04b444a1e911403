//! A layer's compressed frames on their way out: into the blob's hash, to whoever takes the blob, into the cache.

use super::job::Job;
use super::sink::BlobWriter;
use super::source::Frame;
use super::states::Hashed;

use crate::cache::{Cache, SegmentWriter};
use crate::compress::Codec;
use crate::error::Result;

/// Where a blob's bytes go once they are compressed, in order: hasher, taker, cache.
pub(super) struct Output<'c> {
    pub(super) hashed: Hashed,
    /// Whether blobs are the plain bytes, which have been hashed already.
    pub(super) plain: bool,
    pub(super) codec: Codec,
    pub(super) writer: Option<Box<dyn BlobWriter>>,
    pub(super) cache: Option<&'c Cache>,
    pub(super) segment: Option<(usize, SegmentWriter)>,
}

impl Output<'_> {
    /// Takes the next frame; the hasher's state before it is kept if `keep` says so.
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

    /// Puts a frame that has just been made into the cache.
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

    /// The segment that was being taken is complete.
    pub(super) fn finish_segment(&mut self) {
        // A cache that cannot be written makes the next build slower, no more.
        let _ = self.segment.take().and_then(|(_, writer)| writer.finish());
    }
}
