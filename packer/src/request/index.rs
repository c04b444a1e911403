//! The arguments of an image index, and the index made from the specs of its images.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use nixply_documents::argument::{Kind, NAMES, Names, Optional, Plain, Root, Word};
use nixply_documents::{document, go_json};
use nixply_files::open;
use nixply_oci::reference;
use nixply_planning::{Closure, Store, StorePath};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::schema::{self, without_nulls};
use crate::error::{Error, Result};
use crate::image::description;
use crate::image::index_spec::{IndexSpec, IndexedImage};
use crate::image::spec::ImageSpec;

/// The request of an image index: the argument of `builtins.nixplyIndex` and `nix/build-index.nix`.
///
/// `null` means absent.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "nixply index request")]
pub struct IndexRequest {
    /// The index's name, with the same rules as an image's. The plugin and `nix/build-index.nix` require a name.
    ///
    /// ```nix
    /// name = "ghcr.io/nixply/hello";
    /// ```
    #[serde(default, with = "Optional::<Word>", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,

    /// The index's tag, with the same rules as an image's. Default: the hash of the result's store path.
    ///
    /// ```nix
    /// tag = "1.0";
    /// ```
    #[serde(default, with = "Optional::<Word>", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "reference::Tag")]
    pub tag: Option<String>,

    /// The images, at least one, in any order. An element is an image, or a set with `image` and `annotations`. Two images for one
    /// platform are an error, unless only one of them has layers in zstd.
    ///
    /// ```nix
    /// images = [
    ///   amd64
    ///   { image = arm64; annotations = { "org.example.board" = "any"; }; }
    /// ];
    /// ```
    pub images: Vec<ImageOfIndex>,

    /// Annotations of the index.
    ///
    /// ```nix
    /// annotations = { "org.opencontainers.image.source" = "https://example.com/hello"; };
    /// ```
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Plain>")]
    pub annotations: BTreeMap<String, String>,
}

/// An image of an index, with annotations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AnnotatedImage {
    /// The image: a result of `builtins.nixplyImage`, `buildImage` or `pullImage`, or another store path of an image's spec.
    #[serde(with = "Root")]
    image: String,
    /// Annotations of the image's manifest in the index.
    #[serde(default, deserialize_with = "go_json::null_is_default")]
    #[schemars(with = "BTreeMap<String, Plain>")]
    annotations: BTreeMap<String, String>,
}

/// An element of `images`: the path of an image's spec, perhaps with annotations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ImageOfIndex(AnnotatedImage);

impl JsonSchema for ImageOfIndex {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ImageOfIndex".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string", "minLength": 1, "format": "store-path" },
                AnnotatedImage::json_schema(generator),
            ],
            NAMES: Names::Root.text(),
        })
    }
}

impl<'de> Deserialize<'de> for ImageOfIndex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = AnnotatedImage;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an image, or an object with `image` and `annotations`")
            }

            fn visit_str<E: serde::de::Error>(self, path: &str) -> std::result::Result<AnnotatedImage, E> {
                match path {
                    "" => Err(E::custom("must not be empty")),
                    path => Ok(AnnotatedImage { image: path.to_owned(), annotations: BTreeMap::new() }),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<AnnotatedImage, A::Error> {
                AnnotatedImage::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_any(Read).map(Self)
    }
}

/// An image index that is ready to be written.
#[derive(Debug, Clone)]
pub struct BuiltIndex {
    /// The index.
    pub spec: IndexSpec,
    /// `index-NAME.json`.
    pub json: Vec<u8>,
    /// Store paths of the closure that the bytes name: the references of the spec as a store object.
    pub references: Vec<StorePath>,
}

impl BuiltIndex {
    /// Returns the bytes of the index's description: the document of the spec, in which Nix finds no references.
    pub fn description(&self) -> Vec<u8> {
        description::without_references(&self.json)
    }
}

impl IndexRequest {
    /// Reads a request. `name` names the document in messages.
    pub fn from_json(json: &str, name: &str) -> Result<Self> {
        Self::from_value(document::parse(json, name)?, name)
    }

    /// The JSON Schema (draft 2020-12) of a request.
    pub fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::of_type::<IndexRequest>);
        &SCHEMA
    }

    /// The request itself, as a place in its schema.
    pub fn argument() -> schema::Argument {
        schema::Argument::of(Self::schema())
    }

    pub(super) fn from_value(value: Value, name: &str) -> Result<Self> {
        let request: Self = document::fill(without_nulls(value, Self::argument()), name)?;
        request.check().map_err(|error| error.in_document(name))?;
        Ok(request)
    }

    /// Checks everything that needs no store.
    fn check(&self) -> Result<()> {
        self.name.as_deref().map(reference::canonical_name).transpose()?;
        self.tag.as_deref().map(reference::check_tag).transpose()?;
        match self.images.is_empty() {
            true => Err(Error::invalid("images", "expected at least one image")),
            false => Ok(()),
        }
    }

    /// Makes the index from the specs of its images. The closure must contain them.
    pub fn build(&self, closure: &Closure, store: &Store) -> Result<BuiltIndex> {
        let title = |at: usize| format!("images[{at}] ({})", self.images[at].0.image);
        let read = |(at, ImageOfIndex(image)): (usize, &ImageOfIndex)| {
            let name = title(at);
            store.check_below(&image.image).map_err(|error| Error::at(&name, error))?;
            let file = store.real_file(&image.image);
            let failed = |source| Error::unreadable(&name, &file, source);
            let json = open::store_text(&store.real_dir, &file).map_err(failed)?;
            let spec = ImageSpec::read(&json, &name)?;
            spec.check_names(&name)?;
            Ok(IndexedImage { spec, annotations: image.annotations.clone() })
        };
        let images = self.images.iter().enumerate().map(read).collect::<Result<_>>()?;
        let spec = IndexSpec::new(images, self.annotations.clone(), title)?;
        let json = spec.write();
        let references = closure.referred_to_by(&json, store);
        Ok(BuiltIndex { spec, json, references })
    }
}
