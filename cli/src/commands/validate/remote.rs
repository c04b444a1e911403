//! Images in registries.

use anyhow::{Result, anyhow};
use nixply_oci::{Descriptor, Digest};
use nixply_packer::image::Measured;
use nixply_registry::client::{Reader, Reference, Version};
use nixply_reports::validate::{Source, Validation, Validator};

use super::Args;
use crate::{diagnosis, remote};

/// Maximum size of a config, in bytes.
const MAX_DOCUMENT_BYTES: u64 = 64 << 20;

/// Reads all blobs of an image, or of all images of an index.
pub(super) fn validate(args: &Args, reference: &Reference) -> Result<Validation> {
    let explained = |error| remote::explained(diagnosis::of_registry(error), &args.image);
    let client = args.registry.client(reference)?;
    let reader = client.reader(&reference.repository).map_err(explained)?;
    let read = reader.unchecked_document(&reference.version).map_err(explained)?;
    let document =
        read.ok_or_else(|| remote::explained(anyhow!("the registry has no image {reference}"), &args.image))?;
    let repository = Repository(&reader);
    let mut validator = Validator::new(&repository);
    let name = match reference.version {
        Version::Digest(expected) => {
            validator.digest(&reference.to_string(), expected, &document);
            reference.to_string()
        }
        Version::Tag(_) => reader.reference(&Version::Digest(Digest::of(&document))),
    };
    validator.document(&name, &document).map_err(diagnosis::of_registry)?;
    Ok(validator.finish())
}

/// The documents and blobs of a repository.
struct Repository<'r>(&'r Reader);

impl Source for Repository<'_> {
    type Error = nixply_registry::Error;

    fn manifest(&self, digest: Digest) -> nixply_registry::Result<Option<Vec<u8>>> {
        self.0.unchecked_document(&Version::Digest(digest))
    }

    fn small(&self, digest: Digest) -> nixply_registry::Result<Option<Vec<u8>>> {
        self.0.unchecked_small(digest, MAX_DOCUMENT_BYTES)
    }

    fn layer(&self, layer: &Descriptor) -> nixply_registry::Result<Option<Measured>> {
        self.0.measured(layer.digest, layer.size)
    }
}
