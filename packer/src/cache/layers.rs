//! Packed layers' digests and sizes.

use std::fs;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Cache, Kind, SegmentKey};
use crate::error::Result;
use crate::image::spec::ImageSpec;
use crate::pack::PackedLayer;

/// What a packed layer depends on: its segments, in the order of its tar stream. Written as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerKey(blake3::Hash);

impl LayerKey {
    /// The key of a layer; none where one of its segments has none.
    pub(crate) fn new(segments: &[Option<SegmentKey>]) -> Option<Self> {
        let keys: Vec<&SegmentKey> = segments.iter().map(Option::as_ref).collect::<Option<_>>()?;
        Some(Self(super::key(Kind::Layers, keys.into_iter().map(SegmentKey::as_bytes))))
    }
}

impl Serialize for LayerKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.to_hex())
    }
}

impl<'de> Deserialize<'de> for LayerKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = |error| serde::de::Error::custom(format!("{text:?} is no layer's key: {error}"));
        blake3::Hash::from_hex(&text).map(Self).map_err(wrong)
    }
}

/// What [`Cache::import`] has found in an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Layers that are known now.
    pub known: usize,
    /// Layers without a key: plain tar, a base image's, or made by an older nixply.
    pub without_key: usize,
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

    /// Forgets a layer.
    pub(crate) fn forget_layer(&self, key: LayerKey) {
        let _ = fs::remove_file(super::entry(&self.folder, Kind::Layers, &key.0));
    }

    /// Learns the layers of an image that was built elsewhere: where another image has them, too, they are not packed to
    /// find out their digests. Nothing is checked here: whoever wrote the spec decides what those digests are. What is known
    /// already stays.
    ///
    /// # Errors
    ///
    /// The cache's folder cannot be written.
    pub fn import(&self, image: &ImageSpec) -> Result<Imported> {
        let mut imported = Imported::default();
        for layer in &image.layers {
            // No blob is empty, and plain tar needs no key.
            let Some(key) = layer.key.filter(|_| layer.size > 0 && layer.compression.is_some()) else {
                imported.without_key += 1;
                continue;
            };
            if self.layer(key).is_none() {
                let packed = PackedLayer { diff_id: layer.diff_id, digest: layer.digest, size: layer.size };
                self.try_put(Kind::Layers, &key.0, &packed)?;
            }
            imported.known += 1;
        }
        Ok(imported)
    }
}
