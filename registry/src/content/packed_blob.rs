//! A layer of store paths in one codec.

use std::sync::{Arc, Mutex, OnceLock};

use nixply_oci::Digest;
use nixply_packer::{Codec, Error as PackerError, Layer, PackedLayer, Result as PackerResult};

use super::layer_keys::LayerKeys;
use super::partial_blob::PartialBlob;
use super::proof::Prover;

/// A layer of store paths in one codec.
#[derive(Debug)]
pub(crate) struct PackedBlob {
    /// All layers of the image, and this layer's index among them.
    pub(crate) layers: Arc<[Layer]>,
    pub(crate) index: usize,
    pub(crate) codec: Codec,
    /// Digest and size, from the spec or from packing.
    digest_and_size: OnceLock<(Digest, u64)>,
    /// The image in a registry that named digest and size.
    learned_from: OnceLock<Arc<str>>,
    /// The packed bytes, once a client has read the layer.
    pub(crate) partial: Mutex<Option<Arc<PartialBlob>>>,
    /// Proofs of the cached bytes.
    pub(crate) prover: Arc<Prover>,
}

impl PackedBlob {
    /// Describes the layer at `index` of its image in this codec, without packing it.
    pub(crate) fn new(layers: &Arc<[Layer]>, index: usize, codec: Codec) -> Self {
        let (digest_and_size, layer) = (OnceLock::new(), &layers[index]);
        // A tar stream is never empty, so a size of 0 means that no size was recorded.
        if layer.compression.unwrap_or_default() == codec && layer.size > 0 {
            digest_and_size.set((layer.digest, layer.size)).expect("the cell is new");
        }
        Self {
            layers: layers.clone(),
            index,
            codec,
            digest_and_size,
            learned_from: OnceLock::new(),
            partial: Mutex::default(),
            prover: Arc::default(),
        }
    }

    pub(crate) fn digest_and_size(&self) -> Option<(Digest, u64)> {
        self.digest_and_size.get().copied()
    }

    /// Takes the digest and size from a registry, if they are unknown and the registry has the layer. Packing compares them later.
    pub(crate) fn learn(&self, known: &LayerKeys) -> bool {
        if self.digest_and_size().is_some() {
            return false;
        }
        let found = self.layer().blob_key(self.codec).and_then(|key| known.get(key));
        found.is_some_and(|found| {
            let _ = self.learned_from.set(found.source.clone());
            self.digest_and_size.set((found.digest, found.size)).is_ok()
        })
    }

    pub(crate) fn layer(&self) -> &Layer {
        &self.layers[self.index]
    }

    /// Records the result of packing, or compares it with the recorded one.
    pub(crate) fn check_or_record(&self, packed: &PackedLayer) -> PackerResult<()> {
        let (expected, expected_size) = *self.digest_and_size.get_or_init(|| (packed.digest, packed.size));
        let (found, found_size) = (packed.digest, packed.size);
        if (expected, expected_size) != (found, found_size) {
            let layer = self.index;
            let paths = self.layer().paths.iter().map(|path| path.path.to_string()).collect();
            if let Some(source) = self.learned_from.get() {
                let diff_id = self.layer().diff_id;
                let expected = PackedLayer { diff_id, digest: expected, size: expected_size };
                let (expected, found) = (Box::new(expected), Box::new(*packed));
                return Err(PackerError::LayerChanged {
                    expected,
                    found,
                    named_by: Some(source.to_string()),
                    paths,
                });
            }
            return Err(PackerError::BlobDiffers {
                layer,
                expected,
                expected_size,
                found,
                found_size,
                paths,
            });
        }
        Ok(())
    }
}
