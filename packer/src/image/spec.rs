//! nix2container's files: `layers.json` (a list of [`Layer`]) and `image.json` ([`ImageSpec`]), read and written byte for
//! byte like nix2container. Source: its `types/types.go`.

use std::collections::{BTreeMap, HashMap};

use nixply_documents::go_json::{self, null_is_default};
use nixply_documents::{document, wording};
use nixply_oci::{DiffId, Digest, History, ImageConfig, LINUX, Platform};
use nixply_planning::{PlannedPath, Store};
use serde::{Deserialize, Serialize, Serializer};

use super::index_spec;
use crate::cache::LayerKey;
use crate::compress::Codec;
use crate::error::{Error, Result};

/// A layer in a spec: its digests, and either the store paths that it is made from or the file that contains it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    #[serde(default)]
    pub size: u64,
    /// Digest of the uncompressed tar stream. A single value; the plural name is nix2container's.
    #[serde(rename = "diff_ids")]
    pub diff_id: DiffId,
    /// Store paths in the layer, in plan order. Empty for a layer of a base image.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PlannedPath>,
    /// OCI media type of the blob.
    #[serde(rename = "mediatype")]
    pub media_type: String,
    /// File of the blob, if the blob is kept in one.
    #[serde(default, rename = "layer-path", skip_serializing_if = "Option::is_none")]
    pub layer_path: Option<String>,
    /// Codec that compresses `paths` into the blob. Absent for plain tar and for blobs kept in a file. An extension of
    /// nixply to nix2container's format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Codec>,
    /// Key of a compressed blob: a hash of everything that the blob depends on. With it, another machine recognizes the
    /// layer in another image ([`Cache::import`](crate::cache::Cache::import)). An extension of nixply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<LayerKey>,
    /// Entry in the config's history.
    #[serde(default, rename = "History", deserialize_with = "null_is_default")]
    pub history: History,
    /// Entries of a base image's history that have no layer and come between the layer below and this one. An extension of
    /// nixply.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        rename = "history-before",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub history_before: Vec<History>,
    /// Entries of a base image's history that have no layer and come after this layer, if it is the base image's last. An
    /// extension of nixply.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        rename = "history-after",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub history_after: Vec<History>,
}

impl Layer {
    /// Reads `layers.json`. `name` is used in messages.
    pub fn read_all(json: &str, name: &str) -> Result<Vec<Layer>> {
        let layers: Option<Vec<Layer>> = document::read(json, name)?;
        Ok(layers.unwrap_or_default())
    }

    /// Writes `layers.json`. Without layers, writes an empty list, while nix2container writes null (its #209).
    pub fn write_all(layers: &[Layer]) -> Vec<u8> {
        go_json::indented(&layers)
    }

    /// Returns the codec of the blob in a registry, by its media type.
    pub fn codec(&self) -> Codec {
        let name = self.media_type.rsplit(['+', '.']).next();
        Codec::all().find(|codec| name == Some(codec.name())).unwrap_or_default()
    }

    /// Returns the compression of the blob in a registry: `tar`, or the codec's name.
    pub fn encoding(&self) -> &'static str {
        match self.codec() {
            Codec::None => "tar",
            codec => codec.name(),
        }
    }

    /// Returns the layer's entries in the config's history.
    pub(crate) fn history(&self) -> impl Iterator<Item = &History> {
        self.history_before.iter().chain([&self.history]).chain(&self.history_after)
    }

    /// Checks that the blob's file, if any, has a valid file name.
    fn check_file(&self, at: usize) -> Result<()> {
        match self.layer_path.as_deref().filter(|file| file.is_empty() || file.contains('\0')) {
            None => Ok(()),
            Some(file) => {
                let what = format!("layers[{at}].layer-path {}", wording::quoted(file));
                Err(Error::invalid(what, "expected the name of a file"))
            }
        }
    }

    /// Returns whether the layer may have files anywhere: it has rewritten paths, or comes from a base image. Store paths
    /// that keep their place can only conflict with themselves.
    pub(crate) fn is_placed_freely(&self) -> bool {
        self.paths.is_empty() || !self.paths.iter().all(PlannedPath::keeps_place)
    }
}

/// An image: its config and its layers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Fields<ImageConfig, Vec<Layer>>")]
pub struct ImageSpec {
    /// The format's version: 1.
    pub version: u32,
    /// Settings for the runtime.
    pub config: ImageConfig,
    /// Layers from the bottom up.
    pub layers: Vec<Layer>,
    /// OCI's architecture name, such as `amd64`, optionally with a variant, such as `arm/v7`. A system other than Linux
    /// comes before it, as in `windows/amd64`: see [`ImageSpec::platform`].
    pub arch: String,
    /// Time of creation, in RFC 3339.
    pub created: Option<String>,
    /// Annotations of the manifest. An extension of nixply to nix2container's format.
    pub annotations: BTreeMap<String, String>,
}

/// Fields of the spec in JSON.
#[derive(Serialize, Deserialize)]
#[serde(
    rename = "ImageSpec",
    bound(deserialize = "C: Deserialize<'de> + Default, L: Deserialize<'de> + Default")
)]
struct Fields<C, L> {
    version: u32,
    #[serde(rename = "image-config", default)]
    config: C,
    #[serde(deserialize_with = "null_is_default")]
    layers: L,
    #[serde(default, deserialize_with = "null_is_default")]
    arch: String,
    #[serde(default)]
    created: Option<String>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    /// Operating system, if it is not Linux, as for some base images. An extension of nixply.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    os: String,
    /// Variant of the processor. An extension of nixply.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    variant: String,
}

impl From<Fields<ImageConfig, Vec<Layer>>> for ImageSpec {
    fn from(fields: Fields<ImageConfig, Vec<Layer>>) -> Self {
        let Fields { version, config, layers, arch, created, annotations, os, variant } = fields;
        let arch = Platform { os, architecture: arch, variant }.short();
        Self { version, config, layers, arch, created, annotations }
    }
}

impl Serialize for ImageSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Platform { os, architecture, variant } = self.platform();
        let fields = Fields {
            version: self.version,
            config: &self.config,
            layers: &self.layers[..],
            arch: architecture,
            created: self.created.clone(),
            annotations: self.annotations.clone(),
            os: if os == LINUX { String::new() } else { os },
            variant,
        };
        fields.serialize(serializer)
    }
}

/// Checks the version of a spec's format.
pub(super) fn check_version(version: u32, name: &str) -> Result<()> {
    match version {
        1 => Ok(()),
        _ => Err(Error::invalid(
            name,
            format!("its version is {version}, but this nixply supports only version 1"),
        )),
    }
}

impl ImageSpec {
    /// Reads `image.json`. `name` is used in messages.
    pub fn read(json: &str, name: &str) -> Result<Self> {
        let value = document::parse(json, name)?;
        if value.get("schemaVersion").is_some() {
            return Err(Error::NotSpec { document: name.to_owned() });
        }
        if index_spec::is_index(&value) {
            return Err(Error::SpecOfIndex { document: name.to_owned() });
        }
        let spec: Self = document::fill(value, name)?;
        check_version(spec.version, name)?;
        Ok(spec)
    }

    /// Checks that all paths are store paths of the same store, and that layers' files have valid names. The store may be
    /// any. For commands that read none of these files. `name` is used in messages.
    pub fn check_names(&self, name: &str) -> Result<()> {
        let mut store: Option<Store> = None;
        for (at, layer) in self.layers.iter().enumerate() {
            for (number, path) in layer.paths.iter().enumerate() {
                let what = || format!("{name}, layers[{at}].paths[{number}]");
                let path = path.path.as_str();
                match &store {
                    Some(store) => store.check(path).map(drop).map_err(|error| Error::at(what(), error))?,
                    None => store = Some(Store::of(path).map_err(|error| Error::at(what(), error))?),
                }
            }
            layer.check_file(at).map_err(|error| error.in_document(name))?;
        }
        Ok(())
    }

    /// Checks that everything in the image comes from `store`. For specs from an unknown author: without this check, the
    /// recipients of the image would get any file of this machine that the spec names. `outside` allows blobs' files
    /// (`layer-path`) anywhere.
    pub fn check_paths(&self, store: &Store, outside: bool) -> Result<()> {
        for (at, layer) in self.layers.iter().enumerate() {
            let wrong = |error: nixply_planning::Error| Error::OutsideStore {
                layer: at,
                source: Box::new(error.into()),
            };
            layer
                .paths
                .iter()
                .try_for_each(|path| store.check(path.path.as_str()).map(drop))
                .map_err(wrong)?;
            layer.check_file(at)?;
            if let Some(file) = layer.layer_path.as_deref().filter(|_| !outside) {
                store
                    .check_below(file)
                    .map_err(|error| Error::BlobOutsideStore { layer: at, source: Box::new(error.into()) })?;
            }
        }
        Ok(())
    }

    /// Returns the platform of the image's programs. The architecture is empty if none is recorded.
    pub fn platform(&self) -> Platform {
        Platform::from_short(&self.arch)
    }

    /// Writes `image.json`.
    pub fn write(&self) -> Vec<u8> {
        go_json::indented(self)
    }

    /// Adds layers, each like [`ImageSpec::push`].
    pub fn extend(&mut self, layers: impl IntoIterator<Item = Layer>) {
        let numbered = || self.layers.iter().enumerate();
        let mut last: HashMap<Digest, usize> = numbered().map(|(at, layer)| (layer.digest, at)).collect();
        let mut freely =
            numbered().filter(|(_, layer)| layer.is_placed_freely()).map(|(at, _)| at).next_back();
        for layer in layers {
            let covered = |there: &usize| freely.is_some_and(|at| at > *there);
            if last.get(&layer.digest).is_none_or(|there| layer.is_placed_freely() && covered(there)) {
                let at = self.layers.len();
                last.insert(layer.digest, at);
                if layer.is_placed_freely() {
                    freely = Some(at);
                }
                self.layers.push(layer);
            }
        }
    }

    /// Adds a layer unless the image already has its blob (nix2container#186, #187). Adds it again if a layer in between
    /// could have replaced some of its files: otherwise the image would contain the replacements.
    pub fn push(&mut self, layer: Layer) {
        let there = self.layers.iter().rposition(|there| there.digest == layer.digest);
        let covered = |there: usize| self.layers[there + 1..].iter().any(Layer::is_placed_freely);
        if there.is_none_or(|there| layer.is_placed_freely() && covered(there)) {
            self.layers.push(layer);
            return;
        }
        // Keeps the history of a base image's layer.
        let has_history = layer.layer_path.is_some() && layer.history != History::default();
        if let Some(last) = self.layers.last_mut().filter(|_| has_history) {
            let entry = History { empty_layer: true, ..layer.history };
            last.history_after
                .extend(layer.history_before.into_iter().chain([entry]).chain(layer.history_after));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_of_the_base_image_survives_a_repeated_layer() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let layer = |name: &str| {
            let json = format!(
                r#"[{{"digest":"{digest}","diff_ids":"{digest}","mediatype":"m","layer-path":"/f","History":{{"created_by":"{name}"}},"history-after":[{{"created_by":"after {name}","empty_layer":true}}]}}]"#
            );
            Layer::read_all(&json, "layers.json").unwrap().remove(0)
        };
        let mut spec = ImageSpec::read(r#"{"version":1,"layers":[]}"#, "i").unwrap();
        spec.push(layer("a"));
        spec.push(layer("b"));
        assert_eq!(spec.layers.len(), 1, "nix2container#187");
        let history: Vec<_> =
            spec.layers[0].history().map(|entry| (entry.created_by.as_str(), entry.empty_layer)).collect();
        assert_eq!(history, [("a", false), ("after a", true), ("b", true), ("after b", true)]);
    }

    /// Layer files and images written by other tools.
    #[test]
    fn null_and_missing_fields_are_read() {
        assert!(Layer::read_all("null", "layers.json").unwrap().is_empty());
        let digest = format!("sha256:{}", "0".repeat(64));
        let json = format!(
            r#"[{{"digest":"{digest}","size":0,"diff_ids":"{digest}","mediatype":"m","layer-path":"/f","History":{{}}}}]"#
        );
        let layers = Layer::read_all(&json, "layers.json").unwrap();
        assert_eq!(layers[0].layer_path.as_deref(), Some("/f"));
        assert_eq!(go_json::compact(&layers), json.as_bytes());
        let image = ImageSpec::read(
            r#"{"version":1,"image-config":{},"layers":null,"arch":"arm64","created":null}"#,
            "i",
        )
        .unwrap();
        assert!(image.layers.is_empty());
        let nulls = r#"{"version":1,"layers":null,"arch":null,"annotations":null,"image-config":null}"#;
        assert_eq!(ImageSpec::read(nulls, "i").unwrap().arch, "");
        let error = ImageSpec::read(r#"{"schemaVersion":2,"layers":[]}"#, "i").unwrap_err().to_string();
        assert!(error.starts_with("i is an OCI manifest or index, not an image's spec"), "{error}");
        let error = ImageSpec::read(r#"{"version":2,"layers":[]}"#, "image.json").unwrap_err().to_string();
        assert_eq!(
            error,
            "image.json is not valid: its version is 2, but this nixply supports only version 1"
        );
    }
}
