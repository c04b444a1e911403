//! Packed layers' digests and sizes.

use super::{Cache, Kind, SegmentKey};
use crate::pack::PackedLayer;

/// What a packed layer depends on: its segments, in the order of its tar stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerKey(blake3::Hash);

impl LayerKey {
    /// The key of a layer; none where one of its segments has none.
    pub(crate) fn new(segments: &[Option<SegmentKey>]) -> Option<Self> {
        let keys: Vec<&SegmentKey> = segments.iter().map(Option::as_ref).collect::<Option<_>>()?;
        Some(Self(super::key(Kind::Layers, keys.into_iter().map(SegmentKey::as_bytes))))
    }
}

impl Cache {
    /// What is known of a layer.
    pub(crate) fn layer(&self, key: LayerKey) -> Option<PackedLayer> {
        self.get(Kind::Layers, &key.0)
    }

    /// Remembers a layer.
    pub(crate) fn put_layer(&self, key: LayerKey, layer: &PackedLayer) {
        self.put(Kind::Layers, &key.0, layer);
    }
}
