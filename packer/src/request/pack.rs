//! Packs planned layers, and requests for layers without an image.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use nixply_documents::document;
use nixply_files::scratch;
use nixply_oci::Digest;
use nixply_planning::{Closure, PlannedPath};
use serde::Deserialize;
use serde_json::Value;
use tempfile::NamedTempFile;

use super::image::ImageRequest;
use super::layer::{Below, LAYERS_FILE, LayerContext, LayerPlan, LayerRequest, read_prebuilt};
use super::schema::{Argument, without_nulls};
use crate::compress::Codec;
use crate::error::{Error, Result};
use crate::image::spec::Layer;
use crate::layer::PackedLayer;
use crate::layer_path::LayerPath;
use crate::pack::{BlobSink, BlobWriter, Packer, Packing};

impl Packing<'_> {
    /// Packs planned layers. It is an error if a path in `directories` is not a directory.
    pub(super) fn pack(
        &self,
        plans: Vec<LayerPlan>,
        codec: Codec,
        closure: &Closure,
        directories: &HashSet<&str>,
        sink: &dyn BlobSink,
    ) -> Result<Vec<Layer>> {
        let path = |path: &PlannedPath| {
            let ready = LayerPath::new(path, self.store)?
                .with_directory_only(directories.contains(path.path.as_str()));
            let info = closure.get(&path.path);
            if self.packer.checks_store() && info.is_none_or(|info| info.nar_hash.is_empty()) {
                let why = "it has no narHash, which the store check requires";
                return Err(Error::invalid(format!("closure, store path {}", path.path), why));
            }
            Ok(match info {
                Some(info) => ready.with_archive(&info.nar_hash, info.nar_size),
                None => ready,
            })
        };
        let paths = |layer: &LayerPlan| layer.paths.iter().map(path).collect();
        let layers: Vec<Vec<LayerPath>> = plans.iter().map(paths).collect::<Result<_>>()?;
        let packed = self.packer.pack(&layers, codec, sink, self.control)?;
        let keys = layers.iter().map(|paths| Packer::layer_key(paths, codec));
        let made = plans.into_iter().zip(packed).zip(keys);
        Ok(made.map(|((plan, packed), key)| plan.into_layer(&packed, codec, key)).collect())
    }

    /// Packs planned layers. With a directory, each layer's blob is kept there, for paths that another build may not reproduce.
    /// The layers then name those files, and do not record how to make them.
    pub fn pack_into(
        &self,
        plans: Vec<LayerPlan>,
        codec: Codec,
        closure: &Closure,
        directory: Option<&Path>,
    ) -> Result<Vec<Layer>> {
        self.pack_directories_into(plans, codec, closure, &HashSet::new(), directory)
    }

    fn pack_directories_into(
        &self,
        plans: Vec<LayerPlan>,
        codec: Codec,
        closure: &Closure,
        directories: &HashSet<&str>,
        kept: Option<&Path>,
    ) -> Result<Vec<Layer>> {
        let Some(directory) = kept else { return self.pack(plans, codec, closure, directories, &()) };
        let kept = KeptBlobs { directory, codec };
        let mut layers = self.pack(plans, codec, closure, directories, &kept)?;
        for layer in &mut layers {
            let file = kept.file(layer.digest);
            let text =
                file.to_str().ok_or_else(|| Error::invalid(file.display().to_string(), "it is not UTF-8"))?;
            layer.layer_path = Some(text.to_owned());
            (layer.compression, layer.key) = (None, None);
        }
        Ok(layers)
    }
}

/// Keeps blobs in a directory, with nix2container's names: the digest's digits and `.tar`.
struct KeptBlobs<'k> {
    directory: &'k Path,
    codec: Codec,
}

impl KeptBlobs<'_> {
    fn file(&self, digest: Digest) -> PathBuf {
        self.directory.join(format!("{}{}", digest.hex(), self.codec.suffix()))
    }
}

impl BlobSink for KeptBlobs<'_> {
    fn open(&self, _layer: usize) -> Result<Option<Box<dyn BlobWriter>>> {
        let (directory, codec) = (self.directory.to_owned(), self.codec);
        Ok(Some(Box::new(KeptBlob { file: scratch::file(self.directory)?, directory, codec })))
    }
}

struct KeptBlob {
    file: NamedTempFile,
    directory: PathBuf,
    codec: Codec,
}

impl BlobWriter for KeptBlob {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|source| Error::io("write blob", self.file.path(), source))
    }

    fn finish(self: Box<Self>, packed: &PackedLayer) -> Result<()> {
        let place = KeptBlobs { directory: &self.directory, codec: self.codec }.file(packed.digest);
        Ok(scratch::keep(self.file, &place)?)
    }
}

/// Layers on their own: nix2container's `buildLayer`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LayersRequest {
    /// The content of the layers.
    pub layer: LayerRequest,
    /// Directories with the layers below. These layers' paths are omitted.
    #[serde(default)]
    pub below: Vec<String>,
    /// Compression of the blobs.
    #[serde(default)]
    pub compression: Codec,
    /// Whether the blobs can be made again from the store paths. If not, they are kept.
    #[serde(default = "yes")]
    pub reproducible: bool,
}

fn yes() -> bool {
    true
}

impl LayersRequest {
    /// Reads a request. `name` is for messages.
    pub(super) fn from_value(mut value: Value, name: &str) -> Result<Self> {
        if let Some(object) = value.as_object_mut() {
            object.retain(|_, value| !value.is_null());
            let argument = ImageRequest::argument().key("layers").and_then(Argument::element);
            let argument = argument.expect("layers is a list");
            object.entry("layer").and_modify(|layer| *layer = without_nulls(layer.take(), argument));
        }
        let request: Self = document::fill(value, name)?;
        request.layer.check("").map_err(|error| error.in_document(name))?;
        Ok(request)
    }

    /// Packs the layers into a new directory: [`LAYERS_FILE`], and the blobs if they are kept. Returns the bytes of
    /// [`LAYERS_FILE`], and warnings.
    pub(super) fn write(
        &self,
        directory: &Path,
        closure: &Closure,
        packing: &Packing<'_>,
    ) -> Result<(Vec<u8>, Vec<String>)> {
        let Packing { store, control, .. } = *packing;
        let below = self.below.iter().enumerate();
        let below = below
            .map(|(at, directory)| read_prebuilt(directory, &format!("below[{at}]"), store))
            .collect::<Result<Vec<_>>>()?;
        let paths = below.iter().flatten().flat_map(|layer| &layer.paths).collect();
        let mut warnings = Vec::new();
        let (below, stop) = (Below::Some(paths), control.stop());
        let context =
            LayerContext { place: "", closure, store, below, base: Vec::new(), assigner: None, stop };
        let plans = self.layer.plan(context, HashSet::new(), &mut warnings)?;
        let failed = |source| Error::io("create directory", directory, source);
        fs::create_dir(directory).map_err(failed)?;
        let directories = self.layer.to_root().collect();
        let kept = (!self.reproducible).then_some(directory);
        let layers = packing.pack_directories_into(plans, self.compression, closure, &directories, kept)?;
        let file = directory.join(LAYERS_FILE);
        let json = Layer::write_all(&layers);
        fs::write(&file, &json).map_err(|source| Error::io("write file", &file, source))?;
        Ok((json, warnings))
    }
}
