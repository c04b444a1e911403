//! The lock file of base images. nix/nix2container/pull-image-from-lock.nix reads it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nixply_documents::document;
use nixply_oci::Digest;
use serde::{Deserialize, Serialize};

use crate::documents::{self, lock_file};
use crate::output;

/// Version of the format.
const VERSION: u32 = 1;

/// The base images by name.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LockFile {
    version: u32,
    pub(super) images: BTreeMap<String, Base>,
}

/// A base image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Base {
    /// Registry and repository.
    pub(super) image: String,
    pub(super) tag: String,
    /// Digest of the index, or of the manifest if there is no index.
    pub(super) digest: Digest,
    /// The images by platform, as in `linux/arm64`.
    pub(super) platforms: BTreeMap<String, PlatformImage>,
}

/// The image of one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PlatformImage {
    pub(super) os: String,
    /// OCI's name of the processor, perhaps with a variant.
    pub(super) arch: String,
    /// Digest of the manifest.
    pub(super) digest: Digest,
    /// Hash of the directory that pullImage makes.
    pub(super) sha256: String,
}

impl LockFile {
    /// Reads a lock file. One that does not exist has no images.
    pub(super) fn read(file: &Path) -> Result<Self> {
        if !output::is_file(file) {
            return Ok(Self { version: VERSION, images: BTreeMap::new() });
        }
        let name = documents::name_of(file);
        let value = document::parse(&documents::read_text(file)?, &name)?;
        if value.get("version").is_some_and(|version| version.is_number() && *version != VERSION) {
            bail!("{name} has the version {}, but this nixply supports only {VERSION}", value["version"]);
        }
        document::fill(value, &name).with_context(|| format!("{name} is not a lock file of base images"))
    }

    /// Writes the lock file, unless it has this content already.
    pub(super) fn write(&self, file: &Path) -> Result<()> {
        lock_file::write(file, &(serde_json::to_string_pretty(self)? + "\n"))
    }
}
