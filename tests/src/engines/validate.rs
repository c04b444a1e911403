//! Validates an OCI image layout, like crane's `validate`: it computes every size, digest and diff_id again.
//! It shares no code with the packer: the program with the codec's name, such as `gzip` or `zstd`, decompresses the blobs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::sha256;

/// A layer's blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Digest of the blob.
    pub digest: String,
    /// Digest of its tar stream.
    pub diff_id: String,
    /// The codec by its media type, such as `gzip`; `none` for plain tar.
    pub codec: String,
    /// The blob's size in bytes.
    pub size: usize,
}

/// A valid image.
#[derive(Debug, Clone)]
pub struct Valid {
    /// The tag.
    pub tag: String,
    /// The manifest's digest.
    pub manifest: String,
    /// The config's digest, which is the image ID.
    pub id: String,
    /// The config blob.
    pub config: Value,
    /// The layers from the bottom up.
    pub layers: Vec<Blob>,
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Returns the images of a layout, or its first defect. The images of an index have its tag.
pub fn validate(layout: &Path) -> Result<Vec<Valid>, String> {
    let read = |name: &str| fs::read(layout.join(name)).map_err(|error| format!("{name}: {error}"));
    let version = parse("oci-layout", &read("oci-layout")?)?;
    same("oci-layout", &version["imageLayoutVersion"], "1.0.0")?;
    let index = parse("index.json", &read("index.json")?)?;
    same("index.json schemaVersion", &index["schemaVersion"], 2)?;
    // Older skopeo versions omit `mediaType`, as the specification allows.
    if !index["mediaType"].is_null() {
        same("index.json mediaType", &index["mediaType"], INDEX)?;
    }
    let mut used = BTreeSet::new();
    let mut images = Vec::new();
    for entry in list("index.json manifests", &index["manifests"])? {
        let tag = string("ref.name", &entry["annotations"]["org.opencontainers.image.ref.name"])?;
        if entry["mediaType"] != INDEX {
            images.push(image(layout, entry, &tag, &mut used)?);
            continue;
        }
        let nested = parse("index", &blob(layout, entry, &mut used)?.1)?;
        same("index schemaVersion", &nested["schemaVersion"], 2)?;
        same("index mediaType", &nested["mediaType"], INDEX)?;
        for child in list("index manifests", &nested["manifests"])? {
            let valid = image(layout, child, &tag, &mut used)?;
            for key in ["os", "architecture", "variant"] {
                same(&format!("platform.{key}"), &child["platform"][key], valid.config[key].clone())?;
            }
            images.push(valid);
        }
    }
    let blobs = layout.join("blobs/sha256");
    let names = fs::read_dir(&blobs).map_err(|error| format!("blobs: {error}"))?;
    for name in names {
        let name = name.map_err(|error| format!("blobs: {error}"))?.file_name();
        let digest = format!("sha256:{}", name.to_string_lossy());
        if !used.contains(&digest) {
            return Err(format!("{digest} belongs to no image"));
        }
    }
    let mut top: Vec<_> = fs::read_dir(layout).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    top.sort();
    if top != ["blobs", "index.json", "oci-layout"] {
        return Err(format!("the layout holds {top:?}"));
    }
    Ok(images)
}

fn image(layout: &Path, entry: &Value, tag: &str, used: &mut BTreeSet<String>) -> Result<Valid, String> {
    same(&format!("media type of {tag}"), &entry["mediaType"], MANIFEST)?;
    let (manifest_digest, bytes) = blob(layout, entry, used)?;
    let manifest = parse("manifest", &bytes)?;
    same("manifest schemaVersion", &manifest["schemaVersion"], 2)?;
    same("manifest mediaType", &manifest["mediaType"], MANIFEST)?;
    same("media type of the config", &manifest["config"]["mediaType"], CONFIG)?;
    let (id, bytes) = blob(layout, &manifest["config"], used)?;
    let config = parse("config", &bytes)?;
    same("os", &config["os"], "linux")?;
    string("architecture", &config["architecture"])?;
    same("rootfs.type", &config["rootfs"]["type"], "layers")?;
    let diff_ids = list("diff_ids", &config["rootfs"]["diff_ids"])?;
    let descriptors = list("manifest layers", &manifest["layers"])?;
    if diff_ids.len() != descriptors.len() {
        return Err(format!("{} diff_ids, but {} layers", diff_ids.len(), descriptors.len()));
    }
    let history = list("history", &config["history"])?;
    let filled = history.iter().filter(|entry| entry["empty_layer"] != true).count();
    if filled != descriptors.len() {
        return Err(format!("history of {filled} layers, but {} layers", descriptors.len()));
    }
    let mut layers = Vec::new();
    for (descriptor, diff_id) in descriptors.iter().zip(diff_ids) {
        layers.push(layer(layout, descriptor, diff_id, used)?);
    }
    Ok(Valid { tag: tag.to_owned(), manifest: manifest_digest, id, config, layers })
}

fn layer(
    layout: &Path,
    descriptor: &Value,
    diff_id: &Value,
    used: &mut BTreeSet<String>,
) -> Result<Blob, String> {
    let (digest, bytes) = blob(layout, descriptor, used)?;
    let size = bytes.len();
    let media_type = string("media type", &descriptor["mediaType"])?;
    let file = layout.join("blobs").join(digest.replace(':', "/"));
    let (codec, tar) = match media_type.strip_prefix(LAYER) {
        Some("") => ("none", bytes),
        Some(suffix) if suffix.starts_with('+') => (&suffix[1..], decompress(&suffix[1..], &file)?),
        _ => return Err(format!("media type of {digest}: {media_type}")),
    };
    // "At the end of the archive file there are two 512-byte blocks filled with binary zeros" (GNU tar's manual).
    if tar.len() % 512 != 0 || !tar.ends_with(&[0; 1024]) {
        return Err(format!("media type of {digest}: {media_type}, but it is not a complete tar archive"));
    }
    same(&format!("diff_id of {digest}"), diff_id, sha256(&tar))?;
    Ok(Blob { digest, diff_id: sha256(&tar), codec: codec.to_owned(), size })
}

/// Reads a descriptor's blob and verifies its digest and size. Adds the digest to `used`.
fn blob(layout: &Path, descriptor: &Value, used: &mut BTreeSet<String>) -> Result<(String, Vec<u8>), String> {
    let digest = string("digest", &descriptor["digest"])?;
    let file = layout.join("blobs").join(digest.replace(':', "/"));
    let bytes = fs::read(file).map_err(|error| format!("{digest}: {error}"))?;
    same(&format!("digest of {digest}"), &descriptor["digest"], sha256(&bytes))?;
    same(&format!("size of {digest}"), &descriptor["size"], bytes.len())?;
    used.insert(digest.clone());
    Ok((digest, bytes))
}

fn decompress(program: &str, file: &Path) -> Result<Vec<u8>, String> {
    let input = fs::File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let output = Command::new(program)
        .args(["-d", "-c"])
        .stdin(input)
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{}: {}", file.display(), String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(output.stdout)
}

fn parse(what: &str, bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("{what}: {error}"))
}

fn same(what: &str, found: &Value, expected: impl Into<Value>) -> Result<(), String> {
    let expected = expected.into();
    if *found == expected { Ok(()) } else { Err(format!("{what}: {found} instead of {expected}")) }
}

fn string(what: &str, value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("{what}: {value} is not a string"))
}

fn list<'v>(what: &str, value: &'v Value) -> Result<&'v Vec<Value>, String> {
    value.as_array().ok_or_else(|| format!("{what}: {value} is not a list"))
}
