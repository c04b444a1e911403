//! Receivers of packed blobs.

use super::recorded::Recorded;
use crate::error::Result;
use crate::layer::PackedLayer;

/// Takes a layer's blob as it is made. Dropped without [`BlobWriter::finish`], it must leave nothing behind.
pub trait BlobWriter: Send {
    /// The blob's next bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// The blob is complete.
    fn finish(self: Box<Self>, packed: &PackedLayer) -> Result<()>;
}

/// Where layers' blobs go.
pub trait BlobSink: Sync {
    /// Whether the layer's bytes are wanted even if its digests are known.
    fn is_wanted(&self, layer: usize) -> bool {
        let _ = layer;
        true
    }

    /// What a spec records of the layer: that packing gives anything else is an error.
    fn recorded(&self, layer: usize) -> Option<Recorded<'_>> {
        let _ = layer;
        None
    }

    /// A writer for the layer, or none if only its digests are wanted.
    fn open(&self, layer: usize) -> Result<Option<Box<dyn BlobWriter>>>;
}

/// Only digests are wanted.
impl BlobSink for () {
    fn is_wanted(&self, _layer: usize) -> bool {
        false
    }

    fn open(&self, _layer: usize) -> Result<Option<Box<dyn BlobWriter>>> {
        Ok(None)
    }
}
