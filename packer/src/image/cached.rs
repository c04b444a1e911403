//! Operations of the cache on images: they read specs, and use the cache by keys and digests.

use std::collections::BTreeMap;

use nixply_planning::{Closure, PlannedPath, Store, StorePath, nar_hash};

use super::spec::{ImageSpec, Layer};
use crate::cache::Cache;
use crate::error::Result;
use crate::layer::PackedLayer;
use crate::layer_path::LayerPath;
use crate::pack::{Packer, Recorded};

/// Result of [`Cache::import`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Layers that the cache knows now.
    pub known: usize,
    /// Layers without a key: plain tar, layers of a base image, and layers made by an older nixply.
    pub without_key: usize,
}

impl Cache {
    /// Stores the layers' digests from the spec of an image that was built elsewhere. Later builds of images with these layers need
    /// not pack them. The digests are unproven until this machine packs the layers and compares them. Existing entries stay.
    ///
    /// # Errors
    ///
    /// The spec contradicts itself, or the cache's directory cannot be written.
    pub fn import(&self, image: &ImageSpec) -> Result<Imported> {
        // No blob is empty, and plain tar needs no key.
        let with_key = |layer: &&Layer| layer.size > 0 && layer.compression.is_some();
        let known = |(at, layer): (usize, &Layer)| {
            Some(layer).filter(with_key)?.key.map(|key| (at, key, layer.packed()))
        };
        let layers: Vec<_> = image.layers.iter().enumerate().filter_map(known).collect();
        self.import_layers(&layers)?;
        Ok(Imported { known: layers.len(), without_key: image.layers.len() - layers.len() })
    }

    /// Returns the store paths of a spec's layers whose archive hashes are not in the cache. The cache lacks them if the spec
    /// was made in a derivation or on another machine.
    pub fn without_archives<'s>(&self, spec: &'s ImageSpec) -> Vec<&'s StorePath> {
        self.layers_without_archives(spec).flat_map(|layer| &layer.paths).map(|path| &path.path).collect()
    }

    /// Stores Nix's archive hashes of a spec's layers, so that the cache finds the layers' segments. If a hash is
    /// wrong, packing detects it: the diff_id differs.
    pub fn remember_archives(&self, spec: &ImageSpec, closure: &Closure) {
        for layer in self.layers_without_archives(spec) {
            let hash = |path: &PlannedPath| {
                let hash = &closure.get(&path.path)?.nar_hash;
                (!hash.is_empty()).then(|| (path.path.to_string(), nar_hash::canonical(hash)))
            };
            let hashes: Option<BTreeMap<String, String>> = layer.paths.iter().map(hash).collect();
            hashes.iter().for_each(|hashes| self.put_contents(layer.diff_id, hashes));
        }
    }

    fn layers_without_archives<'s>(&self, spec: &'s ImageSpec) -> impl Iterator<Item = &'s Layer> {
        spec.layers.iter().filter(|layer| {
            let known = self.contents(layer.diff_id).unwrap_or_default();
            layer.paths.iter().any(|path| !known.contains_key(path.path.as_str()))
        })
    }
}

impl Packer {
    /// Returns the paths of a spec's layer, ready to be packed. A spec records no NAR hashes. If the cache has them, cached
    /// segments are reused.
    pub fn layer_paths(&self, layer: &Layer, store: &Store) -> Result<Vec<LayerPath>> {
        let paths = LayerPath::all(&layer.paths, store)?;
        let hashes = self.cache().and_then(|cache| cache.contents(layer.diff_id)).unwrap_or_default();
        let known = |path: LayerPath| match hashes.get(path.path.as_str()) {
            Some(hash) => path.with_archive(hash, 0),
            None => path,
        };
        Ok(paths.into_iter().map(known).collect())
    }

    /// Removes the cache's entries for layers that it knows only from specs ([`Cache::import`]): one of these layers has
    /// turned out to be wrong, and the others come from the same source.
    pub fn forget_unproven(&self, layers: &[Layer]) {
        if let Some(cache) = self.cache() {
            layers.iter().filter_map(|layer| layer.key).for_each(|key| cache.forget_unproven(key));
        }
    }
}

impl Layer {
    /// Returns the layer's digests and the blob's size.
    pub fn packed(&self) -> PackedLayer {
        PackedLayer { diff_id: self.diff_id, digest: self.digest, size: self.size }
    }

    /// Returns the record that packing compares its result with. `place` is the layer's number in the image, from 0.
    pub fn recorded(&self, place: usize) -> Recorded<'_> {
        let (packed, codec, key) = (self.packed(), self.compression, self.key);
        Recorded { place, packed, codec, key, paths: &self.paths }
    }
}
