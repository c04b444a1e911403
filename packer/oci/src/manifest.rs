//! The image manifest, the image index and their descriptors, with the media types of OCI image-spec.

use std::collections::BTreeMap;

use nixply_documents::go_json::null_is_default;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::platform::Platform;

/// OCI image-spec, "image manifest".
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image-spec, "image configuration".
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI image-spec, "image index".
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Annotation of an index's manifest whose image has layers in zstd, with the value `true`. If an index has several images of a
/// platform, podman, buildah and skopeo choose by it. Source: containers/image, `internal/manifest/oci_index.go`.
pub const ZSTD_TWIN: &str = "io.github.containers.compression.zstd";

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
    /// Platform of the image, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// Describes `bytes`.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// Describes a blob whose digest and size are known.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.into(), digest, size, annotations: BTreeMap::new(), platform: None }
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

/// The image index: the manifests of an image for several platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// Version of the schema: always 2.
    pub schema_version: u32,
    /// Media type: [`INDEX`].
    #[serde(default)]
    pub media_type: String,
    /// The manifests. Clients take the first one that fits their platform.
    #[serde(default, deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// Annotations of the index.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}
