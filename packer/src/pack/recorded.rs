//! Layers as recorded in a spec.

use nixply_planning::PlannedPath;

use crate::cache::LayerKey;
use crate::compress::Codec;
use crate::error::{Error, Result};
use crate::layer::PackedLayer;

/// A layer as recorded in a spec. Packing compares its result with it.
#[derive(Debug, Clone, Copy)]
pub struct Recorded<'l> {
    /// Number of the layer in the image, from 0.
    pub place: usize,
    /// Digests and size of the blob. The size is 0 if the spec has none.
    pub packed: PackedLayer,
    /// Codec of the blob; none for plain tar and for blobs that are kept in a file.
    pub codec: Option<Codec>,
    /// Key of the layer, if the spec has one.
    pub key: Option<LayerKey>,
    /// Store paths of the layer.
    pub paths: &'l [PlannedPath],
}

impl Recorded<'_> {
    /// Compares the record with the result of packing with `codec`.
    pub(super) fn check(&self, found: &PackedLayer, codec: Codec) -> Result<()> {
        let Self { place: layer, packed: expected, .. } = *self;
        let paths = || self.paths.iter().map(|path| path.path.to_string()).collect();
        if found.diff_id != expected.diff_id {
            let (expected, found) = (expected.diff_id, found.diff_id);
            return Err(Error::DigestMismatch { layer, expected, found, paths: paths() });
        }
        // No blob is empty, so a size of 0 means that the spec has none.
        let same = expected.digest == found.digest && (expected.size == found.size || expected.size == 0);
        if self.codec.unwrap_or_default() == codec && !same {
            return Err(Error::BlobDiffers {
                layer,
                expected: expected.digest,
                expected_size: expected.size,
                found: found.digest,
                found_size: found.size,
                paths: paths(),
            });
        }
        Ok(())
    }
}
