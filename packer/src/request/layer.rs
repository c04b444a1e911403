//! A request for layers: what is in them, and what they leave out because a layer below has it.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tempfile::NamedTempFile;

use super::{check_lockable, checked, groups, one, read_lock, without_nulls};
use crate::cache::LayerKey;
use crate::closure::{Closure, Store};
use crate::compress::Codec;
use crate::control::{Control, Stop};
use crate::digest::Digest;
use crate::document::{self, layer_count, one_or_many};
use crate::error::{Error, Result};
use crate::image::spec::{self, History, Layer, canonical_time};
use crate::layer::{PackedLayer, PlannedPath};
use crate::layer_path::LayerPath;
use crate::pack::{BlobSink, BlobWriter, Packer};
use crate::plan::{self, Placer, Strategy, explicit, lock_names};
use crate::rules::{PermPath, RewritePath};
use crate::store_path::StorePath;
use crate::wording::quoted;
use crate::{open, scratch};

/// The file with the layers in the folder that [`LayersRequest::write`] makes.
pub const LAYERS_FILE: &str = "layers.json";

/// A layer (or several, up to `maxLayers`) of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LayerRequest {
    /// Store paths, with everything that they refer to.
    #[serde(deserialize_with = "one_or_many")]
    pub deps: Vec<String>,
    /// Store paths whose content lies at the image's root, and everything that they refer to.
    #[serde(deserialize_with = "one_or_many")]
    pub copy_to_root: Vec<String>,
    /// Store paths to leave out.
    #[serde(deserialize_with = "one_or_many")]
    pub ignore: Vec<String>,
    /// Owners and modes.
    pub perms: Vec<PermPath>,
    /// At most so many layers.
    #[serde(default = "one", deserialize_with = "layer_count")]
    pub max_layers: usize,
    /// As in [`ImageRequest`](super::ImageRequest).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// As in [`ImageRequest`](super::ImageRequest).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Value>,
    /// A lock file of the layers' own, for `nixply`: it counts, whoever places the image's other paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock: Option<LayerLock>,
    /// The layers' entry in the image's history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<History>,
    /// Which of the layer requests ahead of this one to leave out what they have of, by their places; absent, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parents: Option<Vec<usize>>,
    /// A folder in the store with layers that have been packed before ([`LAYERS_FILE`]). Instead of all the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prebuilt: Option<String>,
}

/// What a lock file says of layers that are no image by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object of file and image")]
pub struct LayerLock {
    /// The file, in the store: see [`Lock`](crate::plan::Lock).
    pub file: String,
    /// The name of the image whose layers in the file are these.
    pub image: String,
}

/// What would be packed: one layer of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerPlan {
    /// The layer's paths, in plan order.
    pub paths: Vec<PlannedPath>,
    /// Its entry in the history.
    pub history: History,
}

impl LayerPlan {
    /// The sum of the paths' archive sizes, in bytes.
    pub fn nar_size(&self, closure: &Closure) -> u64 {
        self.paths.iter().filter_map(|path| closure.get(&path.path)).map(|info| info.nar_size).sum()
    }

    /// The spec's entry for this layer, once it has been packed with `codec`.
    pub fn into_layer(self, packed: &PackedLayer, codec: Codec, key: Option<LayerKey>) -> Layer {
        Layer {
            digest: packed.digest,
            size: packed.size,
            diff_id: packed.diff_id,
            paths: self.paths,
            media_type: codec.media_type().into(),
            layer_path: None,
            compression: (codec != Codec::None).then_some(codec),
            key,
            history: self.history,
            history_before: Vec::new(),
            history_after: Vec::new(),
        }
    }
}

/// A layer of an image, to be packed or packed before.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "an image has a hundred layers at most")]
pub enum PlannedLayer {
    /// To be packed.
    ToPack(LayerPlan),
    /// From a base image, or prebuilt.
    Made(Layer),
}

impl PlannedLayer {
    /// The layer's paths, in plan order.
    pub fn paths(&self) -> &[PlannedPath] {
        match self {
            Self::ToPack(plan) => &plan.paths,
            Self::Made(layer) => &layer.paths,
        }
    }
}

/// nix2container's own entry in the history, which a drop-in has to keep: it is part of the image ID.
fn own_history() -> History {
    History { created_by: "nix2container".into(), ..History::default() }
}

/// Where a layer request stands.
#[derive(Debug)]
pub(super) struct Scene<'s> {
    /// Its place in the image's request, for messages.
    pub(super) place: &'s str,
    /// The closure of all that the image asks for, at least.
    pub(super) closure: &'s Closure,
    pub(super) store: &'s Store,
    /// What the layers below have.
    pub(super) below: Below<'s>,
    /// The base image's paths that are left out, too.
    pub(super) base: Vec<&'s PlannedPath>,
    /// As in [`plan::Options`].
    pub(super) placer: Option<(&'s dyn Placer, &'s str)>,
    pub(super) stop: Stop<'s>,
}

/// What the layers below a request have.
#[derive(Debug)]
pub(super) enum Below<'s> {
    /// All of them, which many requests have below them.
    All(&'s HashSet<PlannedPath>),
    /// Some of them.
    Some(Vec<&'s PlannedPath>),
}

impl LayerRequest {
    /// Plans the layers.
    pub(super) fn plan(
        &self,
        scene: Scene<'_>,
        more_roots: HashSet<StorePath>,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<LayerPlan>> {
        let Scene { place, closure, store, below, base, placer, stop } = scene;
        stop.check()?;
        let lock = match &self.lock {
            None => None,
            Some(LayerLock { file, image }) => {
                self.check_lock_name(place)?;
                check_lockable(&format!("{place}lock"), self.strategy.as_deref(), self.groups.as_ref())?;
                Some((read_lock(file, &format!("{place}lock.file"), store)?, image))
            }
        };
        let placer = match &lock {
            None => placer,
            Some((lock, image)) => Some((lock as &dyn Placer, image.as_str())),
        };
        let deps = checked(&self.deps, &format!("{place}deps"), store)?;
        let to_root = checked(&self.copy_to_root, &format!("{place}copyToRoot"), store)?;
        let ignore = checked(&self.ignore, &format!("{place}ignore"), store)?;
        let what = match place.trim_end_matches('.') {
            "" => "config or copyToRoot",
            place => place,
        };
        if self.max_layers == 0 {
            return Err(Error::invalid(format!("{place}maxLayers"), "it is 0: there is at least one layer"));
        }
        // What is ignored does not count for others' popularity either, as in nix2container's closureGraph.
        let roots = || deps.iter().chain(&to_root).chain(&more_roots);
        let closure = closure.of_roots(roots(), what)?.without(&ignore);
        let roots: Vec<StorePath> = roots().filter(|path| closure.get(path).is_some()).cloned().collect();
        let strategy = self.strategy(place, &groups::Reader { store, roots: &roots })?;
        if let Strategy::Explicit(groups) = &strategy {
            warnings.extend(explicit::warnings(groups, &closure, &format!("{place}groups"), stop)?);
        }
        self.check_perms(place, &closure, warnings)?;
        let mut history = self.metadata.clone().unwrap_or_else(own_history);
        let created = format!("{place}metadata.created");
        history.created = history.created.map(|time| canonical_time(&created, &time)).transpose()?;
        let rewrites: Vec<RewritePath> =
            self.copy_to_root.iter().map(|path| RewritePath::to_root(path)).collect();
        let (below, mut parents) = match below {
            Below::All(all) => (Some(all), Vec::new()),
            Below::Some(some) => (None, some),
        };
        parents.extend(base);
        let plan = plan::plan(
            &closure,
            &plan::Options {
                strategy,
                max_layers: self.max_layers,
                rewrites: &rewrites,
                perms: &self.perms,
                ignore: &ignore,
                parents,
                below,
                placer,
                stop,
            },
        )?;
        Ok(plan.into_iter().map(|paths| LayerPlan { paths, history: history.clone() }).collect())
    }

    /// Checks the name by which a lock file of its own knows the layers' image.
    pub(super) fn check_lock_name(&self, place: &str) -> Result<()> {
        let Some(LayerLock { image, .. }) = &self.lock else { return Ok(()) };
        let what = || format!("{place}lock.image {}", quoted(image));
        lock_names::check_image(image).map_err(|why| Error::invalid(what(), why))
    }

    fn check_perms(&self, place: &str, closure: &Closure, warnings: &mut Vec<String>) -> Result<()> {
        for (at, perm) in self.perms.iter().enumerate() {
            perm.perm.check(&perm.path, &format!("{place}perms[{at}]"))?;
            for (name, id) in [("uid", perm.perm.uid), ("gid", perm.perm.gid)] {
                // The last one means "leave it as it is" to chown(2).
                if !(0..i64::from(u32::MAX)).contains(&id) {
                    let why = "Linux has ids from 0 to 4294967294";
                    return Err(Error::invalid(format!("{place}perms[{at}].{name} {id}"), why));
                }
            }
            if closure.get_named(&perm.path).is_none() {
                // nix2container takes them, so they are there in people's expressions.
                warnings.push(format!(
                    "{place}perms[{at}] changes nothing: no layer that these perms are for has {}; add it, or remove \
                     the rule",
                    perm.path
                ));
            }
        }
        Ok(())
    }

    fn strategy(&self, place: &str, groups: &groups::Reader<'_>) -> Result<Strategy> {
        match (self.strategy.as_deref(), &self.groups) {
            (Some("explicit") | None, Some(given)) => {
                groups.groups(given, &format!("{place}groups")).map(Strategy::Explicit)
            }
            (Some("explicit"), None) => Err(Error::invalid(
                format!("{place}strategy \"explicit\""),
                "it needs groups, a list of groups of store paths",
            )),
            (Some(name), Some(_)) => Err(Error::invalid(
                format!("{place}groups"),
                format!("they go with strategy \"explicit\", not {}", quoted(name)),
            )),
            (Some(name), None) => Strategy::from_name(name).map_err(|_| {
                let names = Strategy::NAMES.join(", ");
                let why = format!("expected one of {names}, or explicit with groups");
                Error::invalid(format!("{place}strategy {}", quoted(name)), why)
            }),
            (None, None) => Ok(Strategy::default()),
        }
    }

    /// The layers of `prebuilt`, if that is what this asks for.
    pub(super) fn prebuilt(&self, place: &str, store: &Store) -> Result<Option<Vec<Layer>>> {
        let Some(folder) = &self.prebuilt else { return Ok(None) };
        let alone = Self { prebuilt: None, max_layers: self.max_layers, ..self.clone() };
        if alone != (Self { max_layers: self.max_layers, ..Self::default() }) {
            let why = "these layers have been packed already: nothing else can be said of them";
            return Err(Error::invalid(format!("{place}prebuilt"), why));
        }
        read_prebuilt(folder, &format!("{place}prebuilt"), store).map(Some)
    }

    /// The paths of the copies at the root, which must be folders.
    pub(super) fn to_root(&self) -> impl Iterator<Item = &str> {
        self.copy_to_root.iter().map(String::as_str)
    }
}

/// Reads the layers in a folder of the store. `place` is for messages.
fn read_prebuilt(folder: &str, place: &str, store: &Store) -> Result<Vec<Layer>> {
    let folder = store.check(folder).map_err(|error| Error::invalid(place, error))?;
    let file = store.real_path(&folder).join(LAYERS_FILE);
    let failed = |source| Error::unreadable(format!("{place} (layers)"), &file, source);
    let json = open::store_text(store, &file).map_err(failed)?;
    spec::read_layers(&json, &file.display().to_string())
}

/// How layers are packed, beside what is in them.
pub struct Packing<'p> {
    /// How blobs are compressed.
    pub codec: Codec,
    /// Where archives' hashes and sizes are, which spare work.
    pub closure: &'p Closure,
    /// Where files are.
    pub store: &'p Store,
    /// The packer.
    pub packer: &'p Packer,
    /// Its steering.
    pub control: &'p Control<'p>,
}

impl Packing<'_> {
    /// Packs planned layers. Of `folders` anything but a folder is an error.
    pub(super) fn pack(
        &self,
        plans: Vec<LayerPlan>,
        folders: &HashSet<&str>,
        sink: &dyn BlobSink,
    ) -> Result<Vec<Layer>> {
        let path = |path: &PlannedPath| {
            let ready =
                LayerPath::new(path, self.store)?.with_folder_only(folders.contains(path.path.as_str()));
            let info = self.closure.get(&path.path);
            if self.packer.checks_store() && info.is_none_or(|info| info.nar_hash.is_empty()) {
                let why = "the closure has no hash of it (narHash) that it could be compared with";
                return Err(Error::invalid(format!("check of the store path {}", path.path), why));
            }
            Ok(match info {
                Some(info) => ready.with_archive(&info.nar_hash, info.nar_size),
                None => ready,
            })
        };
        let paths = |layer: &LayerPlan| layer.paths.iter().map(path).collect();
        let layers: Vec<Vec<LayerPath>> = plans.iter().map(paths).collect::<Result<_>>()?;
        let packed = self.packer.pack(&layers, self.codec, sink, self.control)?;
        let keys = layers.iter().map(|paths| Packer::layer_key(paths, self.codec));
        let made = plans.into_iter().zip(packed).zip(keys);
        Ok(made.map(|((plan, packed), key)| plan.into_layer(&packed, self.codec, key)).collect())
    }

    /// Packs planned layers. With a folder, each layer's blob is kept there, for paths that another build may make
    /// otherwise, and the layers name those files instead of saying how to make them.
    pub fn pack_into(&self, plans: Vec<LayerPlan>, folder: Option<&Path>) -> Result<Vec<Layer>> {
        self.pack_folders_into(plans, &HashSet::new(), folder)
    }

    fn pack_folders_into(
        &self,
        plans: Vec<LayerPlan>,
        folders: &HashSet<&str>,
        kept: Option<&Path>,
    ) -> Result<Vec<Layer>> {
        let Some(folder) = kept else { return self.pack(plans, folders, &()) };
        let kept = KeptBlobs { folder, codec: self.codec };
        let mut layers = self.pack(plans, folders, &kept)?;
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

/// Keeps blobs in a folder, under nix2container's names: the digest's digits and `.tar`.
struct KeptBlobs<'k> {
    folder: &'k Path,
    codec: Codec,
}

impl KeptBlobs<'_> {
    fn file(&self, digest: Digest) -> PathBuf {
        let compressed = match self.codec {
            Codec::None => "",
            Codec::Gzip { .. } => ".gz",
            Codec::Zstd { .. } => ".zst",
        };
        self.folder.join(format!("{}.tar{compressed}", digest.hex()))
    }
}

impl BlobSink for KeptBlobs<'_> {
    fn open(&self, _layer: usize) -> Result<Option<Box<dyn BlobWriter>>> {
        let (folder, codec) = (self.folder.to_owned(), self.codec);
        Ok(Some(Box::new(KeptBlob { file: scratch::file(self.folder)?, folder, codec })))
    }
}

struct KeptBlob {
    file: NamedTempFile,
    folder: PathBuf,
    codec: Codec,
}

impl BlobWriter for KeptBlob {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|source| Error::io("write blob", self.file.path(), source))
    }

    fn finish(self: Box<Self>, packed: &PackedLayer) -> Result<()> {
        let place = KeptBlobs { folder: &self.folder, codec: self.codec }.file(packed.digest);
        scratch::keep(self.file, &place)
    }
}

/// Layers on their own: nix2container's `buildLayer`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LayersRequest {
    /// What is in them.
    pub layer: LayerRequest,
    /// Folders with the layers below them, whose paths they leave out.
    #[serde(default)]
    pub below: Vec<String>,
    /// How blobs are compressed.
    #[serde(default)]
    pub compression: Codec,
    /// Whether the blobs can be made again from the store paths; if not, they are kept.
    #[serde(default = "yes")]
    pub reproducible: bool,
}

fn yes() -> bool {
    true
}

impl LayersRequest {
    /// Reads a request. `name` is for messages.
    pub(super) fn from_value(mut value: Value, name: &str) -> Result<Self> {
        if let Some(layer) = value.get_mut("layer") {
            *layer = without_nulls(layer.take());
        }
        document::fill(without_nulls(value), name)
    }

    /// Packs the layers into a new folder: [`LAYERS_FILE`], and the blobs where they are kept. Gives warnings.
    pub(super) fn write(
        &self,
        folder: &Path,
        closure: &Closure,
        store: &Store,
        packer: &Packer,
        control: &Control<'_>,
    ) -> Result<Vec<String>> {
        let below = self.below.iter().enumerate();
        let below = below
            .map(|(at, folder)| read_prebuilt(folder, &format!("below[{at}]"), store))
            .collect::<Result<Vec<_>>>()?;
        let paths = below.iter().flatten().flat_map(|layer| &layer.paths).collect();
        let mut warnings = Vec::new();
        let (below, stop) = (Below::Some(paths), control.stop());
        let scene = Scene { place: "", closure, store, below, base: Vec::new(), placer: None, stop };
        let plans = self.layer.plan(scene, HashSet::new(), &mut warnings)?;
        let failed = |source| Error::io("create directory", folder, source);
        fs::create_dir(folder).map_err(failed)?;
        let packing = Packing { codec: self.compression, closure, store, packer, control };
        let folders = self.layer.to_root().collect();
        let layers = packing.pack_folders_into(plans, &folders, (!self.reproducible).then_some(folder))?;
        let file = folder.join(LAYERS_FILE);
        fs::write(&file, spec::write_layers(&layers))
            .map_err(|source| Error::io("write file", &file, source))?;
        Ok(warnings)
    }
}
