//! Specs that commands accept alike: an image's, and an image index's.

use nixply_packer::image::IndexSpec;
use nixply_packer::{ImageSpec, Layer};
use nixply_registry::content::Image;

/// An image or an image index.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "a command has few of them")]
pub(crate) enum Content {
    Image(ImageSpec),
    Index(IndexSpec),
}

impl From<ImageSpec> for Content {
    fn from(spec: ImageSpec) -> Self {
        Self::Image(spec)
    }
}

impl Content {
    /// Returns the image, or the images of the index in their order.
    pub(crate) fn images(&self) -> Vec<&ImageSpec> {
        match self {
            Self::Image(spec) => vec![spec],
            Self::Index(spec) => spec.images.iter().map(|image| &image.spec).collect(),
        }
    }

    /// Returns the layers of all images.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.images().into_iter().flat_map(|spec| &spec.layers)
    }

    /// Applies `change` to the image, or to each image of the index.
    pub(crate) fn map<E>(self, mut change: impl FnMut(ImageSpec) -> Result<ImageSpec, E>) -> Result<Self, E> {
        Ok(match self {
            Self::Image(spec) => Self::Image(change(spec)?),
            Self::Index(mut index) => {
                for image in &mut index.images {
                    image.spec = change(image.spec.clone())?;
                }
                Self::Index(index)
            }
        })
    }

    /// Names the content for a registry.
    pub(crate) fn named(self, name: &str, tag: &str) -> Result<Image, nixply_registry::Error> {
        match self {
            Self::Image(spec) => Image::new(name, tag, spec),
            Self::Index(spec) => Image::of_index(name, tag, spec),
        }
    }
}
