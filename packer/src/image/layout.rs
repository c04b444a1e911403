//! Writes an image or an image index to an OCI image layout, which is a directory (image-spec, "image layout"). Blobs are written under a
//! temporary name and renamed when they are complete, and the index is written last: a layout never contains an incomplete
//! image. Several processes may write to one layout at once.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nixply_documents::go_json;
use nixply_files::file_lock::{self, Locked};
use nixply_files::{open, scratch};
use nixply_oci::reference::check_tag;
use nixply_oci::{Descriptor, Digest, Manifest, Platform};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::index::{self, Index};
use super::index_spec::IndexSpec;
use super::layer_file::LayerFile;
use super::spec::{ImageSpec, Layer};
use crate::compress::Codec;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::layer::PackedLayer;
use crate::pack::{BlobSink, BlobWriter, Packing, Recorded};

/// Files and directories in a layout.
const CONTENT: [&str; 3] = ["oci-layout", "index.json", "blobs"];

/// Result of writing an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The manifest's digest.
    pub manifest: Digest,
    /// The config's digest: the image ID.
    pub config: Digest,
    /// The layers' blobs from the bottom up.
    pub layers: Vec<Descriptor>,
}

/// Result of writing an image index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenIndex {
    /// The index's digest.
    pub index: Digest,
    /// The images in the order of the index spec.
    pub images: Vec<Written>,
}

/// Writes `spec` to the layout directory `dir` under `tag`. If the layout exists, adds the image to it, and replaces its
/// entry for the tag. Refuses any other directory that is not empty. Without `codec`, each layer uses the codec from the
/// spec. Layers of base images keep their compression unless [`Layer::is_to_convert`] returns true. Callers set `codec` for a
/// client that supports no other codec.
pub fn write(
    spec: &ImageSpec,
    dir: &Path,
    tag: &str,
    codec: Option<Codec>,
    packing: &Packing<'_>,
) -> Result<Written> {
    check_tag(tag)?;
    in_layout(dir, |dir| {
        let blobs = begin(dir)?;
        let layers = write_layers(spec, &blobs, codec, packing)?;
        end(spec, dir, &blobs, tag, layers, packing.control)
    })
}

/// Writes the images of an index to the layout directory `dir`, each as [`write()`] does. The layout's entry for `tag` is the
/// index.
pub fn write_index(
    spec: &IndexSpec,
    dir: &Path,
    tag: &str,
    codec: Option<Codec>,
    packing: &Packing<'_>,
) -> Result<WrittenIndex> {
    check_tag(tag)?;
    in_layout(dir, |dir| {
        put_index(spec, dir, tag, packing.control, |image, blobs| write_layers(image, blobs, codec, packing))
    })
}

/// Calls `fill` with the layout directory `dir`, or with a new directory that becomes `dir` when it is complete. Calls it again
/// if another process creates `dir` in the meantime.
fn in_layout<T>(dir: &Path, fill: impl Fn(&Path) -> Result<T>) -> Result<T> {
    match fs::read_dir(dir) {
        Ok(mut entries) => {
            // Reports errors in an existing layout before packing.
            let layout = index::is_layout(dir)?;
            if layout {
                Index::read(dir)?;
            }
            if !layout && entries.next().is_some() {
                return Err(Error::invalid(
                    format!("output directory {}", dir.display()),
                    "it is not empty and not an OCI layout: name another directory, or empty it",
                ));
            }
            return fill(dir);
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("read directory", dir, error)),
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    scratch::sweep(parent, |name| CONTENT.iter().any(|known| name == *known));
    let scratch = scratch::directory(parent)?;
    let written = fill(scratch.dir.path())?;
    match fs::rename(scratch.dir.path(), dir) {
        Ok(()) => {
            let _ = scratch.dir.keep();
            Ok(written)
        }
        // Another process has created the directory in the meantime: add to it.
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
            in_layout(dir, fill)
        }
        Err(source) => Err(Error::io("create directory", dir, source)),
    }
}

/// Writes everything but the layers of `spec` to the layout directory `dir` under `tag`, with the digests and sizes that the
/// spec records. For programs that look at an image but read none of its files.
pub fn write_description(spec: &ImageSpec, dir: &Path, tag: &str, control: &Control<'_>) -> Result<Written> {
    check_tag(tag)?;
    end(spec, dir, &begin(dir)?, tag, spec.manifest().layers, control)
}

/// As [`write_description`], for an image index.
pub fn write_index_description(
    spec: &IndexSpec,
    dir: &Path,
    tag: &str,
    control: &Control<'_>,
) -> Result<WrittenIndex> {
    check_tag(tag)?;
    let recorded = |image: &ImageSpec, _: &Path| Ok(image.manifest().layers);
    put_index(spec, dir, tag, control, recorded)
}

/// Writes an index and its images. `put_layers` writes the layers of an image to the directory of blobs, and returns their
/// descriptors.
fn put_index(
    spec: &IndexSpec,
    dir: &Path,
    tag: &str,
    control: &Control<'_>,
    put_layers: impl Fn(&ImageSpec, &Path) -> Result<Vec<Descriptor>>,
) -> Result<WrittenIndex> {
    let blobs = begin(dir)?;
    let (mut images, mut manifests) = (Vec::new(), Vec::new());
    for image in &spec.images {
        let of_image = |source| Error::OfImage { image: image.title(), source: Box::new(source) };
        let layers = put_layers(&image.spec, &blobs).map_err(of_image)?;
        let (written, manifest) = put_image(&image.spec, &blobs, layers)?;
        images.push(written);
        manifests.push(manifest);
    }
    let bytes = go_json::compact(&spec.index(&manifests));
    let index = put_blob(&blobs, &bytes)?;
    add_entry(dir, &blobs, tag, Descriptor::of(nixply_oci::INDEX, &bytes), None, control)?;
    Ok(WrittenIndex { index, images })
}

/// Prepares `dir` as a layout, and returns the directory of its blobs.
fn begin(dir: &Path) -> Result<PathBuf> {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(|source| Error::io("create directory", &blobs, source))?;
    scratch::sweep(&blobs, |_| false);
    scratch::sweep(dir, |_| false);
    if !index::is_layout(dir)? {
        put(dir, "oci-layout", index::layout_file().as_bytes())?;
    }
    Ok(blobs)
}

/// Maximum time that a call waits for other processes that add their images. Each of them takes a few milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// Adds the config, the manifest and the index entry.
fn end(
    spec: &ImageSpec,
    dir: &Path,
    blobs: &Path,
    tag: &str,
    layers: Vec<Descriptor>,
    control: &Control<'_>,
) -> Result<Written> {
    let (written, manifest) = put_image(spec, blobs, layers)?;
    let entry = Descriptor::of(nixply_oci::MANIFEST, &go_json::compact(&manifest));
    add_entry(dir, blobs, tag, entry, Some(&spec.platform()), control)?;
    Ok(written)
}

/// Adds the config and the manifest.
fn put_image(spec: &ImageSpec, blobs: &Path, layers: Vec<Descriptor>) -> Result<(Written, Manifest)> {
    let config = put_blob(blobs, &spec.config_blob())?;
    let made = spec.manifest_with(layers.clone());
    let manifest = put_blob(blobs, &go_json::compact(&made))?;
    Ok((Written { manifest, config, layers }, made))
}

/// Adds an entry to the layout's index: an image, with its platform, or an index.
fn add_entry(
    dir: &Path,
    blobs: &Path,
    tag: &str,
    entry: Descriptor,
    platform: Option<&Platform>,
    control: &Control<'_>,
) -> Result<()> {
    // Other processes may add their images at the same time: the lock lets one process at a time read, extend and write the
    // index. The lock is on the directory of blobs, because a new layout directory is itself locked until it is renamed to
    // its final name.
    let lock = fs::File::open(blobs).map_err(|source| Error::io("read directory", blobs, source))?;
    if file_lock::exclusive(&lock, LOCK_TIMEOUT, || control.check())? == Locked::Busy {
        let why = format!(
            "another process has held its lock for {} s: wait for that process, or end it (fuser lists the processes that use it)",
            LOCK_TIMEOUT.as_secs()
        );
        return Err(Error::invalid(format!("output directory {}", blobs.display()), why));
    }
    let mut index = Index::read(dir)?;
    index.set(tag, entry, platform);
    put_over(&dir.join("index.json"), &index.bytes())
}

/// Packs or copies every layer's blob. Returns their descriptors.
fn write_layers(
    spec: &ImageSpec,
    blobs: &Path,
    codec: Option<Codec>,
    packing: &Packing<'_>,
) -> Result<Vec<Descriptor>> {
    let Packing { store, packer, control } = *packing;
    let mut descriptors: Vec<Option<Descriptor>> = vec![None; spec.layers.len()];
    let mut to_pack: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, layer) in spec.layers.iter().enumerate() {
        if let Some(path) = &layer.layer_path {
            let file = LayerFile::open(path, store)?;
            descriptors[at] = Some(match codec.filter(|codec| layer.is_to_convert(*codec)) {
                Some(codec) => convert_blob(file, layer, blobs, codec, control)?,
                None => {
                    let size = copy_blob(file, layer, blobs, control)?;
                    Descriptor::new(&layer.media_type, layer.digest, size)
                }
            });
            continue;
        }
        let wanted = codec.unwrap_or(layer.compression.unwrap_or_default());
        let known = wanted == layer.compression.unwrap_or_default();
        if known && is_whole(&blobs.join(layer.digest.hex()), layer, control)? {
            descriptors[at] = Some(layer.descriptor(wanted, (layer.digest, layer.size)));
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
        let recorded = |at: &usize| spec.layers[*at].recorded(*at);
        let sink = LayoutSink { blobs, layers: places.iter().map(recorded).collect() };
        let packed = packer.pack(&paths, codec, &sink, control).inspect_err(|error| {
            if error.is_mismatch() {
                packer.forget_unproven(&spec.layers);
            }
        })?;
        for (at, packed) in places.iter().zip(packed) {
            let blob = (packed.digest, packed.size);
            descriptors[*at] = Some(spec.layers[*at].descriptor(codec, blob));
        }
    }
    Ok(descriptors
        .into_iter()
        .map(|descriptor| descriptor.expect("every layer was copied or packed"))
        .collect())
}

/// Returns whether a blob exists and is intact byte for byte. After a power loss, a file may have the right size and wrong
/// content.
fn is_whole(blob: &Path, layer: &Layer, control: &Control<'_>) -> Result<bool> {
    let Ok(file) = open::linked(blob) else { return Ok(false) };
    if !file.metadata().is_ok_and(|metadata| metadata.len() == layer.size) {
        return Ok(false);
    }
    Ok(copy(file, blob, None, control)?.0 == layer.digest)
}

/// Reads a file to its end and writes it to `output`, if given. Returns the digest and size.
fn copy(
    mut input: impl Read,
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
    /// Layers to pack.
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
        Ok(scratch::keep(self.file, &self.blobs.join(packed.digest.hex()))?)
    }
}

/// Copies a layer's file and checks it while copying. Returns its size.
fn copy_blob(from: LayerFile, layer: &Layer, blobs: &Path, control: &Control<'_>) -> Result<u64> {
    let path = from.path().to_path_buf();
    // Specs of nix2container may lack the size (its #207).
    let expected = if layer.size == 0 { from.size() } else { layer.size };
    if from.size() != expected {
        return Err(Error::BlobSize { expected, found: from.size(), path });
    }
    // Reads one byte more, to detect that the file has grown.
    let input = from.into_file().take(expected.saturating_add(1));
    let mut output = scratch::file(blobs)?;
    let (found, size) = copy(input, &path, Some(&mut output), control)?;
    if size != expected {
        return Err(Error::BlobSize { expected, found: size, path });
    }
    if found != layer.digest {
        return Err(Error::BlobMismatch { expected: layer.digest, found, path });
    }
    scratch::keep(output, &blobs.join(layer.digest.hex()))?;
    Ok(size)
}

/// Converts a layer's file to another codec, and checks its content while converting.
fn convert_blob(
    from: LayerFile,
    layer: &Layer,
    blobs: &Path,
    codec: Codec,
    control: &Control<'_>,
) -> Result<Descriptor> {
    let mut output = scratch::file(blobs)?;
    let failed = |source| Error::io("write blob", blobs, source);
    let (digest, size) =
        layer.convert(from, codec, control, |bytes| output.write_all(bytes).map_err(failed))?;
    scratch::keep(output, &blobs.join(digest.hex()))?;
    Ok(Descriptor::new(codec.media_type(), digest, size))
}

fn put_blob(blobs: &Path, bytes: &[u8]) -> Result<Digest> {
    let digest = Digest::of(bytes);
    put(blobs, &digest.hex(), bytes)?;
    Ok(digest)
}

/// Replaces a small file atomically. Follows a link to the file, and keeps the file's mode.
fn put_over(path: &Path, bytes: &[u8]) -> Result<()> {
    let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let dir = place.parent().expect("a file is in a directory");
    let mut file = scratch::file(dir)?;
    let failed = |source| Error::io("write file", &place, source);
    file.write_all(bytes).map_err(failed)?;
    if let Ok(metadata) = fs::metadata(&place) {
        file.as_file().set_permissions(metadata.permissions()).map_err(failed)?;
    }
    Ok(scratch::keep(file, &place)?)
}

/// Writes a small file atomically.
fn put(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let mut file = scratch::file(dir)?;
    file.write_all(bytes).map_err(|source| Error::io("write file", dir.join(name), source))?;
    Ok(scratch::keep(file, &dir.join(name))?)
}
