//! An OCI image layout folder as the place for an image (image-spec, "image layout"). Blobs are written under another
//! name and renamed when they are whole, the index comes last: a layout is never half an image. Several processes may
//! write to one folder at once.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::go_json;
use super::oci::{self, Descriptor};
use super::reference::check_tag;
use super::spec::{ImageSpec, Layer};
use crate::closure::Store;
use crate::compress::Codec;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::pack::{BlobSink, BlobWriter, Control, PackedLayer, Packer, Recorded};
use crate::scratch;

/// What a layout has in it.
const CONTENT: [&str; 3] = ["oci-layout", "index.json", "blobs"];

/// The annotation that holds a layout entry's tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    manifests: Vec<Descriptor>,
}

/// What has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The manifest's digest.
    pub manifest: Digest,
    /// The config's digest: the image ID.
    pub config: Digest,
    /// The layers' blobs from the bottom up.
    pub layers: Vec<Descriptor>,
}

/// Writes `spec` to the layout folder `dir` under `tag`. A layout that is there already is added to, and its entry of
/// that tag replaced; any other folder with something in it is refused. `codec` none means what the spec says of each
/// layer. Layers of base images keep their compression.
pub fn write(
    spec: &ImageSpec,
    store: &Store,
    dir: &Path,
    tag: &str,
    codec: Option<Codec>,
    packer: &Packer,
    control: &Control<'_>,
) -> Result<Written> {
    check_tag(tag)?;
    let new = match fs::read_dir(dir) {
        Ok(mut entries) => {
            let layout = dir.join("oci-layout").exists();
            if !layout && entries.next().is_some() {
                return Err(Error::invalid(
                    format!("output folder {}", dir.display()),
                    "it is not empty and not an OCI layout: name another folder, or empty it",
                ));
            }
            false
        }
        Err(error) if error.kind() == ErrorKind::NotFound => true,
        Err(error) => return Err(Error::io("read directory", dir, error)),
    };
    if !new {
        return fill(spec, store, dir, tag, codec, packer, control);
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |source| Error::io("create directory", dir, source);
    scratch::sweep(parent, &CONTENT);
    let scratch = scratch::folder(parent)?;
    let temporary = &scratch.dir;
    let written = fill(spec, store, temporary.path(), tag, codec, packer, control)?;
    match fs::rename(temporary.path(), dir) {
        Ok(()) => {
            let _ = scratch.dir.keep();
            Ok(written)
        }
        // Somebody else has made the folder meanwhile: add to it.
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
            write(spec, store, dir, tag, codec, packer, control)
        }
        Err(error) => Err(failed(error)),
    }
}

fn fill(
    spec: &ImageSpec,
    store: &Store,
    dir: &Path,
    tag: &str,
    codec: Option<Codec>,
    packer: &Packer,
    control: &Control<'_>,
) -> Result<Written> {
    let blobs = begin(dir)?;
    let layers = write_layers(spec, store, &blobs, codec, packer, control)?;
    end(spec, dir, &blobs, tag, layers, control)
}

/// Writes what describes `spec` to the layout folder `dir` under `tag`: everything but the layers, with the digests and
/// sizes that the spec records. For programs that look at an image and read none of its files.
pub fn write_description(spec: &ImageSpec, dir: &Path, tag: &str, control: &Control<'_>) -> Result<Written> {
    check_tag(tag)?;
    end(spec, dir, &begin(dir)?, tag, oci::manifest_of(spec).layers, control)
}

/// Makes a folder a layout, and gives the folder of its blobs.
fn begin(dir: &Path) -> Result<PathBuf> {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(|source| Error::io("create directory", &blobs, source))?;
    scratch::sweep(&blobs, &[]);
    scratch::sweep(dir, &[]);
    put(dir, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(blobs)
}

/// Adds config, manifest and the index's entry.
fn end(
    spec: &ImageSpec,
    dir: &Path,
    blobs: &Path,
    tag: &str,
    layers: Vec<Descriptor>,
    control: &Control<'_>,
) -> Result<Written> {
    let config = oci::config(spec);
    let config_digest = put_blob(blobs, &config)?;
    let manifest = go_json::compact(&oci::manifest(spec, layers.clone()));
    let manifest_digest = put_blob(blobs, &manifest)?;

    // Others may be adding their images: one at a time reads the index, adds to it and writes it.
    // Not the folder itself: a new one is held as a whole until it has its place.
    let lock = fs::File::open(blobs).map_err(|source| Error::io("read directory", blobs, source))?;
    while rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        // Where the file system has no locks, there is nothing to wait for.
        control.check()?;
        std::thread::sleep(Duration::from_millis(20));
    }
    let index_path = dir.join("index.json");
    let mut index = match fs::read_to_string(&index_path) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|error| Error::invalid(index_path.display().to_string(), error))?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Index { schema_version: 2, media_type: oci::INDEX.into(), manifests: Vec::new() }
        }
        Err(error) => return Err(Error::io("read file", index_path, error)),
    };
    index.manifests.retain(|entry| entry.annotations.get(REF_NAME).is_none_or(|name| name != tag));
    let mut entry = Descriptor::of(oci::MANIFEST, &manifest);
    entry.annotations.insert(REF_NAME.into(), tag.into());
    index.manifests.push(entry);
    put(dir, "index.json", &go_json::compact(&index))?;
    Ok(Written { manifest: manifest_digest, config: config_digest, layers })
}

/// Packs or copies every layer's blob; gives their descriptors.
fn write_layers(
    spec: &ImageSpec,
    store: &Store,
    blobs: &Path,
    codec: Option<Codec>,
    packer: &Packer,
    control: &Control<'_>,
) -> Result<Vec<Descriptor>> {
    let mut descriptors: Vec<Option<Descriptor>> = vec![None; spec.layers.len()];
    let mut to_pack: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, layer) in spec.layers.iter().enumerate() {
        if let Some(path) = &layer.layer_path {
            let size = copy_blob(&store.real_path(&path.as_str().into()), layer, blobs, control)?;
            descriptors[at] = Some(Descriptor::new(&layer.media_type, layer.digest, size));
            continue;
        }
        let wanted = codec.unwrap_or(layer.compression.unwrap_or_default());
        let known = wanted == layer.compression.unwrap_or_default();
        if known && is_whole(&blobs.join(layer.digest.hex()), layer, control)? {
            descriptors[at] = Some(Descriptor::new(wanted.media_type(), layer.digest, layer.size));
        } else {
            to_pack.entry(wanted.to_string()).or_default().push(at);
        }
    }
    for (codec, places) in to_pack {
        let codec: Codec = codec.parse()?;
        let paths = places
            .iter()
            .map(|at| packer.layer_paths(&spec.layers[*at], store))
            .collect::<Result<Vec<_>>>()?;
        let recorded = |at: &usize| Recorded { layer: &spec.layers[*at], place: *at };
        let sink = LayoutSink { blobs, layers: places.iter().map(recorded).collect() };
        let packed = packer.pack(&paths, codec, &sink, control).inspect_err(|error| {
            if error.is_mismatch() {
                packer.forget_unproven(&spec.layers);
            }
        })?;
        for (at, packed) in places.iter().zip(packed) {
            descriptors[*at] = Some(Descriptor::new(codec.media_type(), packed.digest, packed.size));
        }
    }
    Ok(descriptors
        .into_iter()
        .map(|descriptor| descriptor.expect("every layer was copied or packed"))
        .collect())
}

/// Whether a blob is there already, byte for byte: a disk that lost power may have kept its size alone.
fn is_whole(blob: &Path, layer: &Layer, control: &Control<'_>) -> Result<bool> {
    if !fs::metadata(blob).is_ok_and(|metadata| metadata.is_file() && metadata.len() == layer.size) {
        return Ok(false);
    }
    let file = fs::File::open(blob).map_err(|source| Error::io("read file", blob, source))?;
    Ok(copy(file, blob, None, control)?.0 == layer.digest)
}

/// Reads a file to its end and writes it to `output`, if there is one; gives digest and size.
fn copy(
    mut input: fs::File,
    path: &Path,
    mut output: Option<&mut NamedTempFile>,
    control: &Control<'_>,
) -> Result<(Digest, u64)> {
    let (mut hasher, mut size) = (Sha256::new(), 0);
    let mut chunk = vec![0; 1 << 20];
    loop {
        control.check()?;
        let read = input.read(&mut chunk).map_err(|source| Error::io("read file", path, source))?;
        if read == 0 {
            return Ok((Digest::finish(hasher), size));
        }
        hasher.update(&chunk[..read]);
        size += read as u64;
        if let Some(output) = &mut output {
            output
                .write_all(&chunk[..read])
                .map_err(|source| Error::io("write blob", output.path(), source))?;
        }
    }
}

struct LayoutSink<'s> {
    blobs: &'s Path,
    /// The layers that are packed.
    layers: Vec<Recorded<'s>>,
}

impl BlobSink for LayoutSink<'_> {
    fn recorded(&self, at: usize) -> Option<Recorded<'_>> {
        Some(self.layers[at])
    }

    fn open(&self, _at: usize) -> Result<Option<Box<dyn BlobWriter>>> {
        Ok(Some(Box::new(LayoutBlob { file: scratch::file(self.blobs)?, blobs: self.blobs.into() })))
    }
}

struct LayoutBlob {
    file: NamedTempFile,
    blobs: PathBuf,
}

impl BlobWriter for LayoutBlob {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|source| Error::io("write blob", self.file.path(), source))
    }

    fn finish(self: Box<Self>, packed: &PackedLayer) -> Result<()> {
        scratch::keep(self.file, &self.blobs.join(packed.digest.hex()))
    }
}

/// Copies a blob that is kept in a file and checks it on the way; gives its size.
fn copy_blob(from: &Path, layer: &Layer, blobs: &Path, control: &Control<'_>) -> Result<u64> {
    let failed = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => Error::Missing { path: from.into() },
        _ => Error::io("read file", from, source),
    };
    let input = fs::File::open(from).map_err(failed)?;
    let mut output = scratch::file(blobs)?;
    let (found, size) = copy(input, from, Some(&mut output), control)?;
    if found != layer.digest {
        return Err(Error::BlobMismatch { expected: layer.digest, found, path: from.into() });
    }
    scratch::keep(output, &blobs.join(layer.digest.hex()))?;
    Ok(size)
}

fn put_blob(blobs: &Path, bytes: &[u8]) -> Result<Digest> {
    let digest = Digest::of(bytes);
    put(blobs, &digest.hex(), bytes)?;
    Ok(digest)
}

/// Writes a small file as a whole or not at all.
fn put(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let mut file = scratch::file(dir)?;
    file.write_all(bytes).map_err(|source| Error::io("write file", dir.join(name), source))?;
    scratch::keep(file, &dir.join(name))
}
