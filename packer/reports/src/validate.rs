//! Compares an image's documents with the blobs that they describe: every digest, size, diff_id and media type. The caller reads the
//! documents and blobs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::thread;

use nixply_documents::document;
use nixply_oci::{CONFIG, Descriptor, DiffId, Digest, INDEX, MANIFEST, Platform};
use nixply_packer::image::Measured;
use nixply_packer::{Codec, ImageSpec};
use serde::Serialize;
use serde_json::Value;

/// Maximum depth of nested indexes.
const MAX_INDEX_DEPTH: usize = 4;

/// Number of layers that are read at the same time.
const PARALLEL: usize = 4;

/// Media types of manifests, indexes and configs: OCI's, and Docker's.
const MANIFESTS: [&str; 2] = [MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"];
const INDEXES: [&str; 2] = [INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"];
const CONFIGS: [&str; 2] = [CONFIG, "application/vnd.docker.container.image.v1+json"];

/// A difference between a document and the thing that it describes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Name of the image.
    pub image: String,
    /// Part of the image: `manifest`, `config`, `index`, or `layer` and its number from 1.
    pub part: String,
    /// The property: `digest`, `size`, `diff_id`, `media type`, `content`, `platform`, `number of diff_ids`.
    pub property: &'static str,
    /// The value that a document names.
    pub expected: String,
    /// The value that was found.
    pub found: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { image, part, property, expected, found } = self;
        write!(f, "{image}: {part}: {property}: expected {expected}, found {found}")
    }
}

/// The result of a validation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Validation {
    /// Number of images.
    pub images: usize,
    /// Number of different layers that were read.
    pub layers: usize,
    /// Their total size in bytes.
    pub size: u64,
    /// The problems.
    pub problems: Vec<Problem>,
}

/// Documents and blobs by digest.
pub trait Source: Sync {
    /// Error of reading. A blob that does not exist is none.
    type Error: Send;

    /// Returns a manifest or an index, whatever its digest is now.
    fn manifest(&self, digest: Digest) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Returns a small blob, whatever its digest is now.
    fn small(&self, digest: Digest) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Reads a layer's blob.
    fn layer(&self, layer: &Descriptor) -> Result<Option<Measured>, Self::Error>;
}

/// Compares documents with their blobs.
pub struct Validator<'s, S: Source> {
    source: &'s S,
    validation: Validation,
    measured: BTreeMap<Digest, Option<Measured>>,
    seen: BTreeSet<Digest>,
}

impl<'s, S: Source> Validator<'s, S> {
    /// Begins a validation.
    pub fn new(source: &'s S) -> Self {
        let (validation, measured, seen) = (Validation::default(), BTreeMap::new(), BTreeSet::new());
        Self { source, validation, measured, seen }
    }

    /// Returns the result.
    pub fn finish(mut self) -> Validation {
        let known = self.measured.values().flatten();
        (self.validation.layers, self.validation.size) =
            (self.measured.values().flatten().count(), known.map(|measured| measured.size).sum());
        self.validation
    }

    /// Checks the manifest or index that a layout's entry or an index describes, and all below it. `name` is used in messages.
    pub fn descriptor(&mut self, name: &str, entry: &Value) -> Result<(), S::Error> {
        self.entry(name, entry, 0)
    }

    /// Checks a manifest or index that has been read, and all below it.
    pub fn document(&mut self, name: &str, bytes: &[u8]) -> Result<(), S::Error> {
        self.any(name, bytes, None, None, 0)
    }

    /// Compares a document that has been read with the digest in its reference.
    pub fn digest(&mut self, name: &str, expected: Digest, document: &[u8]) {
        let found = Digest::of(document);
        if found != expected {
            self.add(name, "manifest", "digest", expected, found);
        }
    }

    fn entry(&mut self, name: &str, entry: &Value, depth: usize) -> Result<(), S::Error> {
        let Some(descriptor) = self.parsed::<Descriptor>(name, "descriptor", entry) else { return Ok(()) };
        let part = match INDEXES.contains(&descriptor.media_type.as_str()) {
            true => "index",
            false => "manifest",
        };
        let Some(bytes) = self.source.manifest(descriptor.digest)? else {
            self.add(name, part, "content", descriptor.digest, "no such blob");
            return Ok(());
        };
        self.compare(name, part, &descriptor, Digest::of(&bytes), bytes.len() as u64);
        if !self.seen.insert(descriptor.digest) {
            return Ok(());
        }
        let platform = entry.get("platform").and_then(|value| serde_json::from_value(value.clone()).ok());
        self.any(name, &bytes, Some(&descriptor.media_type), platform, depth)
    }

    /// Checks a manifest or an index. `media_type` and `platform` are those of its descriptor.
    fn any(
        &mut self,
        name: &str,
        bytes: &[u8],
        media_type: Option<&str>,
        platform: Option<Platform>,
        depth: usize,
    ) -> Result<(), S::Error> {
        let Some(value) = self.json(name, "manifest", bytes) else { return Ok(()) };
        let is_index = value.get("manifests").is_some();
        let (part, known) = if is_index { ("index", INDEXES) } else { ("manifest", MANIFESTS) };
        if value.get("schemaVersion") != Some(&Value::from(2)) {
            let found = value.get("schemaVersion").map_or_else(|| "none".to_owned(), Value::to_string);
            self.add(name, part, "schemaVersion", 2, found);
        }
        let own = value.get("mediaType").and_then(Value::as_str).filter(|own| !own.is_empty());
        for found in own.into_iter().chain(media_type) {
            if !known.contains(&found) {
                self.add(name, part, "media type", known[0], found);
            }
        }
        if let (Some(own), Some(media_type)) = (own, media_type)
            && own != media_type
            && known.contains(&own)
            && known.contains(&media_type)
        {
            self.add(name, part, "media type", media_type, own);
        }
        if !is_index {
            return self.manifest(name, &value, platform);
        }
        if depth == MAX_INDEX_DEPTH {
            self.add(name, part, "content", format!("at most {MAX_INDEX_DEPTH} nested indexes"), "more");
            return Ok(());
        }
        for entry in value["manifests"].as_array().into_iter().flatten() {
            let digest = entry.get("digest").and_then(Value::as_str).unwrap_or_default();
            let repository = name.split('@').next().unwrap_or(name);
            self.entry(&format!("{repository}@{digest}"), entry, depth + 1)?;
        }
        Ok(())
    }

    fn manifest(&mut self, name: &str, value: &Value, platform: Option<Platform>) -> Result<(), S::Error> {
        self.validation.images += 1;
        let config = value.get("config").unwrap_or(&Value::Null);
        let Some(config) = self.parsed::<Descriptor>(name, "config", config) else { return Ok(()) };
        let mut layers = Vec::new();
        for (at, layer) in value["layers"].as_array().into_iter().flatten().enumerate() {
            layers.push(self.parsed::<Descriptor>(name, &format!("layer {}", at + 1), layer));
        }
        self.read(layers.iter().flatten())?;
        let Some(bytes) = self.source.small(config.digest)? else {
            self.add(name, "config", "content", config.digest, "no such blob");
            return Ok(());
        };
        self.compare(name, "config", &config, Digest::of(&bytes), bytes.len() as u64);
        // Other artifacts have blobs of any kind.
        let is_image = CONFIGS.contains(&config.media_type.as_str());
        let diff_ids = match is_image {
            true => self.config(name, &bytes, platform),
            false => None,
        };
        if let Some(diff_ids) = diff_ids.as_ref().filter(|diff_ids| diff_ids.len() != layers.len()) {
            self.add(name, "config", "number of diff_ids", layers.len(), diff_ids.len());
        }
        for (at, layer) in layers.iter().enumerate() {
            let Some(layer) = layer else { continue };
            let diff_id = diff_ids.as_ref().and_then(|diff_ids| diff_ids.get(at).copied());
            let measured = self.measured.get(&layer.digest).cloned().flatten();
            self.layer(name, at, layer, diff_id, measured.as_ref(), is_image);
        }
        Ok(())
    }

    /// Checks the config of an image, and returns its diff_ids.
    fn config(&mut self, name: &str, bytes: &[u8], platform: Option<Platform>) -> Option<Vec<DiffId>> {
        let value = self.json(name, "config", bytes)?;
        let own: Option<Platform> = serde_json::from_value(value.clone()).ok();
        let canonical = |platform: Platform| platform.canonical();
        if let Some((own, named)) = own.map(canonical).zip(platform.map(canonical))
            && !(own.os == named.os && own.architecture == named.architecture)
        {
            self.add(name, "config", "platform", named, own);
        }
        let diff_ids = value.pointer("/rootfs/diff_ids").unwrap_or(&Value::Null);
        if diff_ids.is_null() && value.get("rootfs").is_some() {
            return Some(Vec::new());
        }
        match serde_json::from_value(diff_ids.clone()) {
            Ok(diff_ids) => Some(diff_ids),
            Err(_) => {
                self.add(name, "config", "content", "a list rootfs.diff_ids of digests", "another value");
                None
            }
        }
    }

    /// Reads layers that are not known yet, several at once.
    fn read<'l>(&mut self, layers: impl Iterator<Item = &'l Descriptor>) -> Result<(), S::Error> {
        let new: BTreeMap<Digest, &Descriptor> = layers
            .filter(|layer| !self.measured.contains_key(&layer.digest))
            .map(|layer| (layer.digest, layer))
            .collect();
        let queue = Mutex::new(new.into_values());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let source = self.source;
        let work = || {
            let mut all = Vec::new();
            while let Some(layer) = next() {
                all.push((layer.digest, source.layer(layer)?));
            }
            Ok(all)
        };
        let done: Vec<Result<Vec<_>, S::Error>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..PARALLEL).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().expect("the thread does not panic")).collect()
        });
        for all in done {
            self.measured.extend(all?);
        }
        Ok(())
    }

    fn layer(
        &mut self,
        name: &str,
        at: usize,
        layer: &Descriptor,
        diff_id: Option<DiffId>,
        measured: Option<&Measured>,
        is_image: bool,
    ) {
        let part = format!("layer {}", at + 1);
        let Some(measured) = measured else {
            return self.add(name, &part, "content", layer.digest, "no such blob");
        };
        if is_image {
            self.validation.problems.extend(layer_problems(name, at, layer, diff_id, measured));
        } else {
            self.compare(name, &part, layer, measured.digest, measured.size);
        }
    }

    fn json(&mut self, name: &str, part: &str, bytes: &[u8]) -> Option<Value> {
        let text = std::str::from_utf8(bytes).map_err(|_| "no text".to_owned());
        match text.and_then(|text| document::parse(text, part).map_err(|error| error.to_string())) {
            Ok(value @ Value::Object(_)) => return Some(value),
            Ok(_) => self.add(name, part, "content", "a JSON object", "another value"),
            Err(why) => self.add(name, part, "content", "JSON", why),
        }
        None
    }

    fn parsed<T: serde::de::DeserializeOwned>(&mut self, name: &str, part: &str, value: &Value) -> Option<T> {
        match document::fill(value.clone(), part) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.add(name, part, "content", "a descriptor", error);
                None
            }
        }
    }

    fn compare(&mut self, name: &str, part: &str, descriptor: &Descriptor, digest: Digest, size: u64) {
        let Descriptor { digest: expected, size: bytes, .. } = descriptor;
        if *expected != digest {
            self.add(name, part, "digest", expected, digest);
        }
        if *bytes != size {
            self.add(name, part, "size", bytes, size);
        }
    }

    fn add(
        &mut self,
        image: &str,
        part: &str,
        property: &'static str,
        expected: impl ToString,
        found: impl ToString,
    ) {
        self.validation.problems.push(problem(image, part, property, &expected, &found));
    }
}

fn problem(
    image: &str,
    part: &str,
    property: &'static str,
    expected: &dyn ToString,
    found: &dyn ToString,
) -> Problem {
    let (expected, found) = (expected.to_string(), found.to_string());
    Problem { image: image.into(), part: part.into(), property, expected, found }
}

/// Compares a layer with its blob.
fn layer_problems(
    image: &str,
    at: usize,
    layer: &Descriptor,
    diff_id: Option<DiffId>,
    measured: &Measured,
) -> Vec<Problem> {
    let part = format!("layer {}", at + 1);
    let mut problems = Vec::new();
    let mut add = |property, expected: &dyn ToString, found: &dyn ToString| {
        problems.push(problem(image, &part, property, expected, found));
    };
    if layer.digest != measured.digest {
        add("digest", &layer.digest, &measured.digest);
    }
    if layer.size != measured.size {
        add("size", &layer.size, &measured.size);
    }
    match Codec::of_media_type(&layer.media_type) {
        None => add("media type", &"one of a layer", &layer.media_type),
        // An empty blob has no first bytes.
        Some(codec) if measured.size > 0 && codec.name() != measured.codec.name() => {
            let found = format!("a blob of {}", measured.codec.media_type());
            add("media type", &layer.media_type, &found);
        }
        Some(_) => {}
    }
    match (&measured.diff_id, diff_id) {
        (Err(why), _) => add("content", &"a compressed tar stream", why),
        (Ok(found), Some(expected)) if *found != expected => add("diff_id", &expected, found),
        _ => {}
    }
    problems
}

/// Compares the layers of a spec with their blobs, in the same order.
pub fn spec(name: &str, spec: &ImageSpec, measured: &[Measured]) -> Validation {
    let layers = spec.layers.iter().zip(measured).enumerate();
    let problems = layers.flat_map(|(at, (layer, measured))| {
        // Specs of nix2container may lack the size (its #207).
        let size = if layer.size == 0 { measured.size } else { layer.size };
        let descriptor = Descriptor::new(&layer.media_type, layer.digest, size);
        layer_problems(name, at, &descriptor, Some(layer.diff_id), measured)
    });
    let problems = problems.collect();
    let size = measured.iter().map(|measured| measured.size).sum();
    Validation { images: 1, layers: measured.len(), size, problems }
}

#[cfg(test)]
mod tests;
