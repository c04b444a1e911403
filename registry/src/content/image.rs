//! The images and image indexes to serve or to push, with their names.

use std::sync::Arc;

use nixply_oci::reference;
use nixply_packer::ImageSpec;
use nixply_packer::image::IndexSpec;

use super::client_support::ClientSupport;
use crate::error::{Error, Result};

/// An image or an image index, with its name and tag.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    tag: String,
    pub(super) content: Content,
}

/// The content of a tag.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Image(Arc<ImageSpec>),
    Index(IndexSpec),
}

impl Image {
    /// Names an image, and checks name and tag. The name is the repository's, without a registry's address. The server reads and
    /// publishes every path in the spec: see [`ImageSpec::check_paths`].
    pub fn new(name: &str, tag: &str, spec: ImageSpec) -> Result<Self> {
        Self::named(name, tag, Content::Image(Arc::new(spec)))
    }

    /// Names an image index, as [`Image::new`] does an image.
    pub fn of_index(name: &str, tag: &str, spec: IndexSpec) -> Result<Self> {
        Self::named(name, tag, Content::Index(spec))
    }

    fn named(name: &str, tag: &str, content: Content) -> Result<Self> {
        let name = reference::canonical_name(name).map_err(nixply_packer::Error::from)?;
        reference::check_tag(tag).map_err(nixply_packer::Error::from)?;
        if name.contains(':') {
            return Err(Error::Host(name));
        }
        Ok(Self { name, tag: tag.into(), content })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    /// Returns `NAME:TAG`.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.name, self.tag)
    }
}

impl Content {
    /// Returns the content for a client: without the images of an index that only other clients can read.
    pub(super) fn for_client(&self, client: ClientSupport) -> Self {
        match self {
            Self::Image(spec) => Self::Image(spec.clone()),
            Self::Index(spec) => Self::Index(spec.for_client(|codec| client.has(codec))),
        }
    }

    /// Returns the image, or the images of the index in their order.
    pub(super) fn images(&self) -> Vec<&ImageSpec> {
        match self {
            Self::Image(spec) => vec![&**spec],
            Self::Index(spec) => spec.images.iter().map(|image| &image.spec).collect(),
        }
    }
}
