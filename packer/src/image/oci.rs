//! The OCI documents made from a spec: the config, whose digest is the image ID, the manifest, and the index of several
//! images. Config and manifest have the same bytes as those from nix2container's transport, so both tools make the same image ID.

use std::collections::HashSet;

use nixply_documents::go_json;
use nixply_oci::{
    CONFIG, Descriptor, DiffId, Digest, History, INDEX, ImageConfig, ImageIndex, MANIFEST, Manifest,
    Platform, ZSTD_TWIN,
};
use serde::Serialize;

use super::index_spec::IndexSpec;
use super::spec::{ImageSpec, Layer};
use crate::cache::LayerKey;
use crate::compress::Codec;

impl ImageSpec {
    /// Returns the config blob of the image.
    pub fn config_blob(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Config<'s> {
            #[serde(skip_serializing_if = "Option::is_none")]
            created: &'s Option<String>,
            architecture: &'s str,
            os: &'s str,
            #[serde(skip_serializing_if = "str::is_empty")]
            variant: &'s str,
            config: &'s ImageConfig,
            rootfs: RootFs,
            // Some tools warn about an image without history (nix2container#57).
            #[serde(skip_serializing_if = "Vec::is_empty")]
            history: Vec<&'s History>,
        }
        #[derive(Serialize)]
        struct RootFs {
            r#type: &'static str,
            diff_ids: Vec<DiffId>,
        }
        let Platform { os, architecture, variant } = self.platform();
        go_json::compact(&Config {
            created: &self.created,
            architecture: &architecture,
            os: &os,
            variant: &variant,
            config: &self.config,
            rootfs: RootFs {
                r#type: "layers",
                diff_ids: self.layers.iter().map(|layer| layer.diff_id).collect(),
            },
            history: self.layers.iter().flat_map(Layer::history).collect(),
        })
    }

    /// Returns the manifest of the image with these layer blobs.
    pub fn manifest_with(&self, layers: Vec<Descriptor>) -> Manifest {
        Manifest {
            schema_version: 2,
            media_type: MANIFEST.into(),
            config: Descriptor::of(CONFIG, &self.config_blob()),
            layers,
            annotations: self.annotations.clone(),
        }
    }

    /// Returns the manifest of the image with the digests and sizes that the spec records.
    pub fn manifest(&self) -> Manifest {
        let layers = self.layers.iter().map(|layer| {
            let codec = layer.compression.unwrap_or_default();
            layer.descriptor(codec, (layer.digest, layer.size))
        });
        self.manifest_with(layers.collect())
    }
}

impl Layer {
    /// Returns the key of the layer's blob in this codec. `None` for plain tar, whose digest is the diff_id, and for blobs kept in a
    /// file.
    pub fn blob_key(&self, codec: Codec) -> Option<LayerKey> {
        match codec {
            _ if self.layer_path.is_some() => None,
            Codec::None => None,
            codec if self.compression == Some(codec) && self.key.is_some() => self.key,
            codec => Some(LayerKey::of_tar(self.diff_id, &self.paths, codec)),
        }
    }

    /// Describes the layer's blob in this codec. `packed` is the blob's digest and size.
    pub fn descriptor(&self, codec: Codec, packed: (Digest, u64)) -> Descriptor {
        let is_recorded = self.layer_path.is_some() || self.compression.unwrap_or_default() == codec;
        let media_type = if is_recorded { &self.media_type } else { codec.media_type() };
        let mut descriptor = Descriptor::new(media_type, packed.0, packed.1);
        let key = self.blob_key(codec).map(|key| (LayerKey::ANNOTATION.to_owned(), key.to_string()));
        descriptor.annotations.extend(key);
        descriptor
    }
}

impl IndexSpec {
    /// Returns the OCI index with these manifests of its images, in the same order. Names an image once if another one has the
    /// same bytes, as twins do in one codec.
    pub fn index(&self, manifests: &[Manifest]) -> ImageIndex {
        let mut digests = HashSet::new();
        let named = self.images.iter().zip(manifests).map(|(image, manifest)| {
            let mut descriptor = Descriptor::of(MANIFEST, &go_json::compact(manifest));
            descriptor.annotations.clone_from(&image.annotations);
            descriptor.platform = Some(image.spec.platform());
            (descriptor, manifest)
        });
        let named: Vec<_> = named.filter(|(descriptor, _)| digests.insert(descriptor.digest)).collect();
        let platform = |descriptor: &Descriptor| descriptor.platform.clone().map(Platform::normalized);
        let manifests = named.iter().map(|(descriptor, manifest)| {
            let has_twin =
                named.iter().filter(|(other, _)| platform(other) == platform(descriptor)).count() > 1;
            let mut descriptor = descriptor.clone();
            if has_twin && manifest.layers.iter().any(|layer| layer.media_type.ends_with("+zstd")) {
                descriptor.annotations.insert(ZSTD_TWIN.into(), "true".into());
            }
            descriptor
        });
        ImageIndex {
            schema_version: 2,
            media_type: INDEX.into(),
            manifests: manifests.collect(),
            annotations: self.annotations.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// nix2container's TestGetV1Image.
    #[test]
    fn the_config_equals_that_of_nix2container() {
        let digest = "sha256:adf74a52f9e1bcd7dab77193455fa06743b979cf5955148010e5becedba4f72d";
        let layer = Layer {
            digest: digest.parse().unwrap(),
            size: 10,
            diff_id: digest.parse().unwrap(),
            paths: Vec::new(),
            media_type: "application/vnd.oci.image.layer.v1.tar".into(),
            layer_path: None,
            compression: None,
            key: None,
            history: History { created_by: "nix2container".into(), ..History::default() },
            history_before: Vec::new(),
            history_after: Vec::new(),
        };
        let spec = ImageSpec {
            version: 1,
            config: ImageConfig::default(),
            layers: vec![layer],
            arch: String::new(),
            created: None,
            annotations: BTreeMap::new(),
        };
        assert_eq!(
            String::from_utf8(spec.config_blob()).unwrap(),
            format!(
                r#"{{"architecture":"","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}},"history":[{{"created_by":"nix2container"}}]}}"#
            )
        );
    }
}
