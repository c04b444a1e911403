//! The spec of an image index, `index-NAME.json`: the complete specs of its images. An extension of nixply.
//!
//! The images are in a fixed order, however the author of the index lists them: by operating system, processor and variant; of two
//! images for one platform, the one in zstd comes last. Clients without zstd take the first image that fits.

use std::collections::{BTreeMap, HashMap};

use nixply_documents::{document, go_json};
use nixply_oci::Platform;
use nixply_planning::Store;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::spec::{ImageSpec, Layer, check_version};
use crate::compress::Codec;
use crate::error::{Error, Result};

/// An image index: an image for several platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexSpec {
    /// The format's version: 1.
    version: u32,
    /// The images in the order of the index, at least one.
    pub images: Vec<IndexedImage>,
    /// Annotations of the index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An image of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedImage {
    /// The image.
    #[serde(rename = "image")]
    pub spec: ImageSpec,
    /// Annotations of the image's manifest in the index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl IndexedImage {
    /// Returns the image's platform and, for an image in zstd, the codec, as in `linux/arm/v7` or `linux/amd64 (zstd)`.
    pub fn title(&self) -> String {
        match self.codec().is_universal() {
            true => self.spec.platform().to_string(),
            false => format!("{} ({})", self.spec.platform(), self.codec().name()),
        }
    }

    fn codec(&self) -> Codec {
        codec(&self.spec)
    }
}

/// Returns the codec that a client of an image must support: one that some clients lack, if any layer has one, otherwise a universal
/// one.
fn codec(spec: &ImageSpec) -> Codec {
    spec.layers.iter().map(Layer::codec).find(|codec| !codec.is_universal()).unwrap_or_default()
}

/// Returns whether a document is an index spec. An image spec has `layers`.
pub(crate) fn is_index(document: &Value) -> bool {
    document.get("images").is_some() && document.get("layers").is_none()
}

impl IndexSpec {
    /// Makes an index of images. Brings them to the order of the index. `name` returns an image's name for messages.
    pub fn new(
        images: Vec<IndexedImage>,
        annotations: BTreeMap<String, String>,
        name: impl Fn(usize) -> String,
    ) -> Result<Self> {
        if images.is_empty() {
            return Err(Error::invalid("images", "expected at least one image"));
        }
        check_annotations("annotations", &annotations)?;
        let mut seen: HashMap<(String, bool), usize> = HashMap::new();
        for (at, image) in images.iter().enumerate() {
            let platform = image.spec.platform();
            if platform.architecture.is_empty() {
                return Err(Error::invalid(name(at), "its spec names no processor (arch)"));
            }
            check_annotations(&format!("{}: annotations", name(at)), &image.annotations)?;
            let is_universal = image.codec().is_universal();
            if let Some(other) = seen.insert((platform.clone().normalized().to_string(), is_universal), at) {
                let layers = match is_universal {
                    true => "layers in gzip or without compression".into(),
                    false => format!("layers in {}", image.codec().name()),
                };
                let why = format!(
                    "both are for {platform} and have {layers}: leave one of them out, or give them different codecs"
                );
                return Err(Error::invalid(format!("index of {} and {}", name(other), name(at)), why));
            }
        }
        let mut images = images;
        images.sort_by_cached_key(|image| {
            let Platform { os, architecture, variant } = image.spec.platform().normalized();
            (os, architecture, variant, !image.codec().is_universal())
        });
        Ok(Self { version: 1, images, annotations })
    }

    /// Reads `index-NAME.json`. `name` is used in messages.
    pub fn read(json: &str, name: &str) -> Result<Self> {
        let value = document::parse(json, name)?;
        if value.get("schemaVersion").is_some() {
            return Err(Error::NotSpec { document: name.to_owned() });
        }
        if value.get("layers").is_some() {
            return Err(Error::SpecOfImage { document: name.to_owned() });
        }
        let Self { version, images, annotations } = document::fill(value, name)?;
        check_version(version, name)?;
        for (at, image) in images.iter().enumerate() {
            check_version(image.spec.version, &format!("{name}: images[{at}].image"))?;
        }
        Self::new(images, annotations, |at| format!("images[{at}]")).map_err(|error| error.in_document(name))
    }

    /// Writes `index-NAME.json`.
    pub fn write(&self) -> Vec<u8> {
        go_json::indented(self)
    }

    /// Returns the index without those images that a client cannot read, if it can read another one of the same platform.
    /// `supports` returns whether the client supports a codec.
    #[must_use]
    pub fn for_client(&self, supports: impl Fn(Codec) -> bool) -> Self {
        let platform = |image: &IndexedImage| image.spec.platform().normalized();
        let fits = |image: &IndexedImage| supports(image.codec());
        let has_other = |image: &IndexedImage| {
            self.images.iter().any(|other| platform(other) == platform(image) && fits(other))
        };
        let images = self.images.iter().filter(|image| fits(image) || !has_other(image)).cloned();
        Self { version: 1, images: images.collect(), annotations: self.annotations.clone() }
    }

    /// Returns the layers of all images, in their order.
    pub fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.images.iter().flat_map(|image| &image.spec.layers)
    }

    /// Returns the first image whose programs run on `platform`.
    pub fn image_for(&self, platform: &Platform) -> Option<&IndexedImage> {
        self.images.iter().find(|image| image.spec.platform().is(platform))
    }

    /// Returns the image for the platform of another image. Of two, the one that has the same codec.
    pub fn counterpart(&self, other: &ImageSpec) -> Option<&IndexedImage> {
        let platform = |spec: &ImageSpec| spec.platform().normalized();
        let images = || self.images.iter().filter(|image| platform(&image.spec) == platform(other));
        let same = images().find(|image| image.codec().is_universal() == codec(other).is_universal());
        same.or_else(|| images().next())
    }

    /// Checks each image as [`ImageSpec::check_names`] does.
    pub fn check_names(&self, name: &str) -> Result<()> {
        let mut images = self.images.iter();
        images.try_for_each(|image| image.spec.check_names(&format!("{name}, image for {}", image.title())))
    }

    /// Checks each image as [`ImageSpec::check_paths`] does.
    pub fn check_paths(&self, store: &Store, outside: bool) -> Result<()> {
        let of =
            |image: &IndexedImage, source| Error::OfImage { image: image.title(), source: Box::new(source) };
        let check =
            |image: &IndexedImage| image.spec.check_paths(store, outside).map_err(|error| of(image, error));
        self.images.iter().try_for_each(check)
    }
}

fn check_annotations(place: &str, annotations: &BTreeMap<String, String>) -> Result<()> {
    match annotations.contains_key("") {
        true => Err(Error::invalid(place, "the key of an annotation cannot be empty")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
