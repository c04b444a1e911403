//! Packed layers' digests and sizes.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::{fmt, fs};

use nixply_documents::go_json;
use nixply_documents::wording::quoted;
use nixply_oci::DiffId;
use nixply_planning::PlannedPath;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::entries::{self, Cache};
use super::kind::Kind;
use super::segments::SegmentKey;
use crate::compress::Codec;
use crate::error::{Error, Result};
use crate::layer::PackedLayer;

/// Key of a packed layer: a hash of its segments' keys, in the order of its tar stream. Written as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LayerKey(blake3::Hash);

impl LayerKey {
    /// Returns the key of a layer, or none if one of its segments has no key.
    pub(crate) fn new(segments: &[Option<SegmentKey>]) -> Option<Self> {
        let keys: Vec<&SegmentKey> = segments.iter().map(Option::as_ref).collect::<Option<_>>()?;
        Some(Self(entries::key(Kind::Layers, keys.into_iter().map(SegmentKey::as_bytes))))
    }
}

impl LayerKey {
    /// Annotation of a layer in a manifest with its key. With it, another machine recognizes the layer in a registry, without packing it.
    pub const ANNOTATION: &str = "io.github.nixply.layer-key";

    /// Returns the key that a layer's annotations in a manifest name.
    pub fn of_annotations(annotations: &BTreeMap<String, String>) -> Option<Self> {
        annotations.get(Self::ANNOTATION)?.parse().ok()
    }

    /// Returns the key of a layer whose spec records no key for this codec: a hash of the tar stream, of the paths, at which the frames
    /// begin, and of the codec. It differs from the key that a packer records for the same blob.
    pub fn of_tar(diff_id: DiffId, paths: &[PlannedPath], codec: Codec) -> Self {
        let (diff_id, paths, codec) = (diff_id.hex(), go_json::compact(&paths), codec.to_string());
        let parts = ["tar".as_bytes(), diff_id.as_bytes(), &paths, codec.as_bytes()];
        Self(entries::key(Kind::Layers, parts))
    }
}

impl fmt::Display for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

impl FromStr for LayerKey {
    type Err = ParseLayerKeyError;

    fn from_str(text: &str) -> Result<Self, ParseLayerKeyError> {
        blake3::Hash::from_hex(text).map(Self).map_err(|_| ParseLayerKeyError { text: text.into() })
    }
}

/// Error for a text that is not a layer's key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a layer's key, 64 hexadecimal digits, not {}", quoted(text))]
pub struct ParseLayerKeyError {
    /// The text.
    text: String,
}

impl Serialize for LayerKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LayerKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CachedLayer {
    pub(crate) packed: PackedLayer,
    /// Whether the layer was packed here, with all of its bytes hashed. Otherwise the digests come from a spec and are
    /// unchecked.
    pub(crate) proven: bool,
    /// Whether the store was checked when the layer was packed. Absent in entries of older versions, which means no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    checked: bool,
    /// The image in a registry that the digests come from, if they are unproven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
}

impl Cache {
    /// Returns a layer's entry.
    pub(crate) fn layer(&self, key: LayerKey) -> Option<CachedLayer> {
        self.get_if(Kind::Layers, &key.0, |known: &CachedLayer| known.checked || !self.checked)
    }

    /// Returns a layer's entry, checked or not.
    fn any_layer(&self, key: LayerKey) -> Option<CachedLayer> {
        self.get(Kind::Layers, &key.0)
    }

    /// Stores the digests of a layer that has been packed.
    pub(crate) fn put_layer(&self, key: LayerKey, packed: &PackedLayer) {
        self.put(
            Kind::Layers,
            &key.0,
            &CachedLayer { packed: *packed, proven: true, checked: self.checked, source: None },
        );
    }

    /// Removes a layer's entry.
    pub(crate) fn forget_layer(&self, key: LayerKey) {
        let _ = fs::remove_file(entries::entry(&self.directory, Kind::Layers, &key.0));
    }

    /// Removes a layer's entry unless the layer was packed here.
    pub(crate) fn forget_unproven(&self, key: LayerKey) {
        if let Some(known) = self.any_layer(key).filter(|known| !known.proven) {
            self.forget_layer(key);
            self.forget_contents(known.packed.diff_id);
        }
    }

    /// Removes a layer's entry unless the store was checked when the layer was packed.
    pub(crate) fn forget_unchecked_layer(&self, key: LayerKey) {
        if self.any_layer(key).is_some_and(|known| !known.checked) {
            self.forget_layer(key);
        }
    }

    /// Stores the digests of layers that were packed elsewhere. Later builds of images with these layers need not pack them. The
    /// digests are unproven until this machine packs the layers and compares them. Existing entries stay. Each layer comes with
    /// its place in the image, from 0.
    pub(crate) fn import_layers(&self, layers: &[(usize, LayerKey, PackedLayer)]) -> Result<()> {
        check_consistent(layers)?;
        layers.iter().try_for_each(|(_, key, packed)| self.import_layer(*key, packed, None))
    }

    /// Stores the digests of a layer that an image in a registry names. They are unproven, like those of
    /// [`Cache::import`](Self::import). `source` is the image's reference, for the error if they are wrong.
    ///
    /// # Errors
    ///
    /// The cache's directory cannot be written.
    pub fn import_from_registry(&self, key: LayerKey, packed: &PackedLayer, source: &str) -> Result<()> {
        self.import_layer(key, packed, Some(source.to_owned()))
    }

    fn import_layer(&self, key: LayerKey, packed: &PackedLayer, source: Option<String>) -> Result<()> {
        if self.any_layer(key).is_none() {
            let known = CachedLayer { packed: *packed, proven: false, checked: false, source };
            self.try_put(Kind::Layers, &key.0, &known)?;
        }
        Ok(())
    }
}

/// Checks that each key has one blob and each blob one key, as in every spec that a packer writes.
fn check_consistent(layers: &[(usize, LayerKey, PackedLayer)]) -> Result<()> {
    let (mut by_key, mut by_digest) = (HashMap::new(), HashMap::new());
    for (at, key, packed) in layers {
        let (same_key, _, blob) = *by_key.entry(*key).or_insert((at, key, packed));
        let (same_digest, its_key, _) = *by_digest.entry(packed.digest).or_insert((at, key, packed));
        let wrong = match (blob == packed, its_key == key) {
            (false, _) => (same_key, "one key and different digests or sizes"),
            (_, false) => (same_digest, "one digest and different keys"),
            _ => continue,
        };
        let why =
            format!("layers {} and {} have {}: the spec cannot be imported", wrong.0 + 1, at + 1, wrong.1);
        return Err(Error::invalid("image spec", why));
    }
    Ok(())
}
