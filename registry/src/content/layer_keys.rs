//! Layers that images in registries name: by key, with the digests of their blobs.

use std::collections::HashMap;
use std::sync::Arc;

use nixply_oci::{DiffId, Digest, Manifest};
use nixply_packer::{LayerKey, PackedLayer};
use serde::Deserialize;

/// Digests of layers by key. They are unproven until the layers are packed.
#[derive(Debug, Default)]
pub(crate) struct LayerKeys(HashMap<LayerKey, KnownLayer>);

/// A layer in a registry.
#[derive(Debug, Clone)]
pub(crate) struct KnownLayer {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// Reference of the image that names the layer.
    pub(crate) source: Arc<str>,
}

impl LayerKeys {
    /// Adds the layers of a manifest. The first image that names a key takes precedence.
    pub(crate) fn add(&mut self, manifest: &Manifest, source: &str) {
        let source: Arc<str> = source.into();
        for layer in &manifest.layers {
            if let Some(key) = LayerKey::of_annotations(&layer.annotations) {
                let (digest, size, source) = (layer.digest, layer.size, source.clone());
                self.0.entry(key).or_insert(KnownLayer { digest, size, source });
            }
        }
    }

    /// Returns the layer with this key.
    pub(crate) fn get(&self, key: LayerKey) -> Option<&KnownLayer> {
        self.0.get(&key)
    }
}

/// Returns the layers of a manifest that name their key, with the diff_ids of the image's config.
pub(crate) fn layers(manifest: &Manifest, config: &[u8]) -> Vec<(LayerKey, PackedLayer)> {
    #[derive(Deserialize)]
    struct Config {
        rootfs: RootFs,
    }
    #[derive(Deserialize)]
    struct RootFs {
        diff_ids: Vec<DiffId>,
    }
    let Ok(Config { rootfs }) = serde_json::from_slice(config) else { return Vec::new() };
    if rootfs.diff_ids.len() != manifest.layers.len() {
        return Vec::new();
    }
    let layers = manifest.layers.iter().zip(rootfs.diff_ids);
    let known = layers.filter_map(|(layer, diff_id)| {
        let key = LayerKey::of_annotations(&layer.annotations)?;
        Some((key, PackedLayer { diff_id, digest: layer.digest, size: layer.size }))
    });
    known.collect()
}
