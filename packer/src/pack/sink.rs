//! Receivers of packed blobs.

use super::recorded::Recorded;
use crate::error::Result;
use crate::layer::PackedLayer;

/// Receives a layer's blob while it is made. Must leave nothing behind if it is dropped before [`BlobWriter::finish`].
pub trait BlobWriter: Send {
    /// Writes the blob's next bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// Completes the blob.
    fn finish(self: Box<Self>, packed: &PackedLayer) -> Result<()>;
}

/// Destination of layers' blobs.
pub trait BlobSink: Sync {
    /// Returns whether the layer's bytes are needed even if its digests are known.
    fn is_wanted(&self, layer: usize) -> bool {
        let _ = layer;
        true
    }

    /// Returns the spec's record of the layer. Packing fails if its result differs.
    fn recorded(&self, layer: usize) -> Option<Recorded<'_>> {
        let _ = layer;
        None
    }

    /// Opens a writer for the layer. Returns none if only its digests are needed.
    fn open(&self, layer: usize) -> Result<Option<Box<dyn BlobWriter>>>;
}

/// A sink that needs only digests.
impl BlobSink for () {
    fn is_wanted(&self, _layer: usize) -> bool {
        false
    }

    fn open(&self, _layer: usize) -> Result<Option<Box<dyn BlobWriter>>> {
        Ok(None)
    }
}
