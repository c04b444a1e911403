//! The OCI documents made from a spec: the config, whose digest is the image ID, and the manifest. Both have the same bytes
//! as those from nix2container's transport, so both tools make the same image ID.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::ImageConfig;
use super::platform::Platform;
use super::spec::{History, ImageSpec, Layer};
use crate::digest::{DiffId, Digest};
use crate::go_json;
use crate::go_json::null_is_default;

/// OCI image-spec, "image manifest".
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image-spec, "image configuration".
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI image-spec, "image index".
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A reference to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the blob.
    pub media_type: String,
    /// Digest of the blob, which is also its name.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// Annotations, such as the tag in a layout's index.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Describes `bytes`.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// Describes a blob whose digest and size are known.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.into(), digest, size, annotations: BTreeMap::new() }
    }
}

/// The image manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Version of the schema: always 2.
    pub schema_version: u32,
    /// Media type: [`MANIFEST`].
    #[serde(default)]
    pub media_type: String,
    /// The config blob.
    pub config: Descriptor,
    /// The layers' blobs from the bottom up.
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// Annotations of the image.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Returns the config blob of `spec`.
pub fn config(spec: &ImageSpec) -> Vec<u8> {
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
    let Platform { os, architecture, variant } = spec.platform();
    go_json::compact(&Config {
        created: &spec.created,
        architecture: &architecture,
        os: &os,
        variant: &variant,
        config: &spec.config,
        rootfs: RootFs {
            r#type: "layers",
            diff_ids: spec.layers.iter().map(|layer| layer.diff_id).collect(),
        },
        history: spec.layers.iter().flat_map(Layer::history).collect(),
    })
}

/// Returns the manifest of `spec` with these layer blobs.
pub fn manifest(spec: &ImageSpec, layers: Vec<Descriptor>) -> Manifest {
    Manifest {
        schema_version: 2,
        media_type: MANIFEST.into(),
        config: Descriptor::of(CONFIG, &config(spec)),
        layers,
        annotations: spec.annotations.clone(),
    }
}

/// Returns the manifest of `spec` with the digests and sizes that it records.
pub fn manifest_of(spec: &ImageSpec) -> Manifest {
    let layers = spec.layers.iter().map(|layer| Descriptor::new(&layer.media_type, layer.digest, layer.size));
    manifest(spec, layers.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// nix2container's TestGetV1Image (G10).
    #[test]
    fn g10_config_of_an_image() {
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
            String::from_utf8(config(&spec)).unwrap(),
            format!(
                r#"{{"architecture":"","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}},"history":[{{"created_by":"nix2container"}}]}}"#
            )
        );
    }
}
