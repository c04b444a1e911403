//! The image manifest and its descriptors, with the media types of OCI image-spec.

use std::collections::BTreeMap;

use nixply_documents::go_json::null_is_default;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

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
