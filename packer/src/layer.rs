//! A packed layer.

use std::fmt;

use nixply_oci::{DiffId, Digest};
use serde::{Deserialize, Serialize};

/// A packed layer's digests and sizes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedLayer {
    /// Digest of the uncompressed tar stream.
    pub diff_id: DiffId,
    /// Digest of the blob: the compressed stream, or the tar stream if the codec is `none`.
    pub digest: Digest,
    /// Size of the blob.
    pub size: u64,
}

impl fmt::Display for PackedLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { diff_id, digest, size } = self;
        write!(f, "{digest} ({size} bytes, diff_id {diff_id})")
    }
}
