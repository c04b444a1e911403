//! The request: what all doors (plugin, builder, CLI) hand to the packer, and the one way from it to an image. For the
//! same request and closure they get the same bytes.

mod base;
mod builder;
mod fleet;
mod groups;
mod layer;
mod nix_database;

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::base::{Base, paths_twice};
pub use self::builder::{BuilderInput, BuilderJob, PackingJob};
pub use self::fleet::FleetRequest;
use self::layer::{Below, Scene};
pub use self::layer::{
    LAYERS_FILE, LayerLock, LayerPlan, LayerRequest, LayersRequest, Packing, PlannedLayer,
};
pub use self::nix_database::NixDatabase;
use crate::closure::{Closure, Store};
use crate::compress::Codec;
use crate::control::{Control, Stop};
use crate::document::{self, layer_count, one_or_many};
use crate::error::{Error, Result};
use crate::image::config::{Given, ImageConfig};
use crate::image::doubts::doubts;
use crate::image::healthcheck::Healthcheck;
use crate::image::platform::Processor;
use crate::image::reference;
use crate::image::spec::{ImageSpec, Layer, ZERO_TIME, canonical_time};
use crate::layer::PlannedPath;
use crate::pack::Packer;
use crate::plan::{Lock, Placer};
use crate::rules::PermPath;
use crate::store_path::StorePath;
use crate::wording::quoted;
use crate::{go_json, open};

/// The most layers that an image may have unless the request says otherwise: overlay file systems' limit in Docker and
/// containerd.
pub const LAYER_LIMIT: usize = 127;

/// An image, as the user asks for it. As JSON it has the argument names of `builtins.nixplyImage`; null is absent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageRequest {
    /// The image's name, checked; no byte of the image depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The image's tag, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// OCI image config, keys in any case.
    #[serde(default)]
    pub config: Value,
    /// Store paths that the config's strings may name (their string context, in Nix). Those that it does name, by their
    /// hash, are in the image with everything that they refer to. Absent: whatever store path stands in the config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_roots: Option<Vec<String>>,
    /// Store paths whose content lies at the image's root.
    #[serde(default, deserialize_with = "one_or_many")]
    pub copy_to_root: Vec<String>,
    /// Layers below the one that config and `copyToRoot` make. Each leaves out what an earlier one has.
    #[serde(default)]
    pub layers: Vec<LayerRequest>,
    /// Which of `layers` the layer that config and `copyToRoot` make leaves out what they have of, by their places; absent,
    /// all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parents: Option<Vec<usize>>,
    /// At most so many layers for what is in none of `layers`.
    #[serde(default = "one", deserialize_with = "layer_count")]
    pub max_layers: usize,
    /// How they are made: a name of [`Strategy::NAMES`](crate::plan::Strategy::NAMES), or `explicit` with `groups`. Absent,
    /// `explicit` where there are groups, else the default of [`Strategy`](crate::plan::Strategy).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// Groups of store paths and predicates, for `explicit`: see [`Group`](crate::plan::explicit::Group). They are read with
    /// the plan, which names the place of whatever is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Value>,
    /// A lock file in the store, for `nixply`: see [`Lock`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<String>,
    /// Owners and modes in the layer that config and `copyToRoot` make.
    #[serde(default)]
    pub perms: Vec<PermPath>,
    /// Another image's spec, whose layers lie below all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_image: Option<String>,
    /// Whether the base image may be for another processor or system: one of data alone, such as certificates.
    #[serde(default)]
    pub any_platform: bool,
    /// OCI's architecture name, perhaps with a variant, as in `arm/v7`; absent, that of `system`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// A Nix system such as `x86_64-linux`; absent, that of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// When it was made, RFC 3339.
    #[serde(default = "zero_time")]
    pub created: String,
    /// The manifest's annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Whether what the config does not say is taken from the base image's.
    #[serde(default)]
    pub inherit_config: bool,
    /// Docker's health check: see [`Healthcheck::from_request`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Value>,
    /// The database for a Nix inside of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nix_database: Option<NixDatabase>,
    /// How blobs are compressed; with a codec, the spec has the compressed digests.
    #[serde(default)]
    pub compression: Codec,
    /// The most layers in all.
    #[serde(default = "layer_limit", deserialize_with = "layer_count")]
    pub layer_limit: usize,
}

fn one() -> usize {
    1
}

/// A request without the arguments that are null: they are absent. A config's null is the config's.
fn without_nulls(mut request: Value) -> Value {
    fn clean(set: &mut Value, inner: &[&str]) {
        let Some(set) = set.as_object_mut() else { return };
        set.retain(|_, value| !value.is_null());
        for name in inner {
            let sets = set.get_mut(*name).and_then(Value::as_array_mut);
            sets.into_iter().flatten().for_each(|set| clean(set, &["perms"]));
        }
        for name in ["metadata", "nixDatabase"] {
            if let Some(set) = set.get_mut(name) {
                clean(set, &[]);
            }
        }
    }
    clean(&mut request, &["perms", "layers"]);
    request
}

fn zero_time() -> String {
    ZERO_TIME.into()
}

fn layer_limit() -> usize {
    LAYER_LIMIT
}

/// What would be packed for an image.
#[derive(Debug, Clone)]
pub struct ImagePlan {
    /// The layers from the bottom up: the base image's come first.
    pub layers: Vec<PlannedLayer>,
    /// How many of them are the base image's.
    pub base_layers: usize,
    /// What the image's programs run on.
    pub processor: Processor,
    /// The image's config.
    pub config: ImageConfig,
    /// What the user should know although it is no error.
    pub warnings: Vec<String>,
}

/// What `build` gives.
#[derive(Debug, Clone)]
pub struct BuiltImage {
    /// The image.
    pub spec: ImageSpec,
    /// `image.json`'s bytes.
    pub json: Vec<u8>,
    /// Store paths of the closure that the bytes name: the references of the spec as a store object.
    pub references: Vec<StorePath>,
    /// What the user should know although it is no error.
    pub warnings: Vec<String>,
}

impl ImageRequest {
    /// Reads a request. `name` is for messages.
    pub fn from_json(json: &str, name: &str) -> Result<Self> {
        Self::from_value(document::parse(json, name)?, name)
    }

    fn from_value(value: Value, name: &str) -> Result<Self> {
        let request: Self = document::fill(without_nulls(value), name)?;
        request.check_names().map_err(|error| error.in_document(name))?;
        // Both are read again with the plan, which does not know the document.
        ImageConfig::from_value(request.config.clone()).map_err(|error| error.in_document(name))?;
        let healthcheck = request.healthcheck.clone().map(Healthcheck::from_request);
        healthcheck.transpose().map_err(|error| error.in_document(name))?;
        Ok(request)
    }

    /// Checks what the image is called. No byte of it depends on that.
    fn check_names(&self) -> Result<()> {
        self.name.as_deref().map(reference::canonical_name).transpose()?;
        self.tag.as_deref().map(reference::check_tag).transpose()?;
        let mut layers = self.layers.iter().enumerate();
        layers.try_for_each(|(at, layer)| layer.check_lock_name(&format!("layers[{at}].")))
    }

    /// Takes the store paths that stand in the config for its roots, unless the request names them. For callers whose
    /// texts have no context: with one, a path may stand in the config without being meant. Of what only looks like a path
    /// there is none that `exists`; a warning will say so.
    pub fn find_config_roots(&mut self, store: &Store, exists: impl Fn(&StorePath) -> bool) {
        let text = self.config_text();
        let found = store.paths_in(&text).filter_map(|path| store.shortened(&path).find(&exists));
        self.config_roots.get_or_insert_with(|| found.map(|path| path.to_string()).collect());
    }

    /// The store paths whose closure a caller has to provide.
    pub fn roots(&self) -> impl Iterator<Item = &str> {
        let layers = self.layers.iter().flat_map(|layer| {
            let lock = layer.lock.iter().map(|lock| &lock.file);
            layer.deps.iter().chain(&layer.copy_to_root).chain(&layer.prebuilt).chain(lock)
        });
        let own = self.config_roots.iter().flatten().chain(&self.copy_to_root).chain(&self.from_image);
        let own = own.chain(self.nix_database.iter().map(|database| &database.path)).chain(&self.lock);
        layers.chain(own).map(String::as_str)
    }

    /// What the image's programs run on.
    fn processor(&self) -> Result<Processor> {
        match (&self.arch, &self.system) {
            (Some(arch), _) => Processor::from_arch(arch),
            (None, Some(system)) => Processor::of_system(system),
            (None, None) => Processor::of_this_machine(),
        }
    }

    /// Plans the image without reading any store path (but the base image's spec and the lock file).
    pub fn plan(&self, closure: &Closure, store: &Store) -> Result<ImagePlan> {
        self.plan_until(closure, store, Stop::default())
    }

    /// As [`ImageRequest::plan`], until `stop` is set.
    pub fn plan_until(&self, closure: &Closure, store: &Store, stop: Stop<'_>) -> Result<ImagePlan> {
        closure.check(store)?;
        let Some(path) = &self.lock else { return self.plan_checked(None, closure, store, stop) };
        check_lockable("lock", self.strategy.as_deref(), self.groups.as_ref())?;
        let lock = read_lock(path, "lock", store)?;
        self.plan_checked(Some((&lock, self.lock_name())), closure, store, stop)
    }

    /// As [`ImageRequest::plan`], by a lock file that has been read instead of the request's own.
    pub fn plan_by(&self, lock: &Lock, closure: &Closure, store: &Store) -> Result<ImagePlan> {
        check_lockable("lock", self.strategy.as_deref(), self.groups.as_ref())?;
        self.plan_with(Some((lock, self.lock_name())), closure, store)
    }

    /// The name by which a lock file of its own knows the image.
    fn lock_name(&self) -> &str {
        self.name.as_deref().unwrap_or("image")
    }

    /// As [`ImageRequest::plan`], with paths placed by `placer`, if there is one, instead of the request's lock file. It knows
    /// the image by the name beside it, and each of `layers` by that name and its place.
    pub fn plan_with(
        &self,
        placer: Option<(&dyn Placer, &str)>,
        closure: &Closure,
        store: &Store,
    ) -> Result<ImagePlan> {
        closure.check(store)?;
        self.plan_checked(placer, closure, store, Stop::default())
    }

    /// As [`ImageRequest::plan_with`], of a closure that [`Closure::check`] has checked.
    fn plan_checked(
        &self,
        placer: Option<(&dyn Placer, &str)>,
        closure: &Closure,
        store: &Store,
        stop: Stop<'_>,
    ) -> Result<ImagePlan> {
        // What is wrong is told before anything is read or packed.
        self.check_names()?;
        canonical_time("created", &self.created)?;
        let mut processor = self.processor()?;
        let base = self.from_image.as_deref().map(|path| Base::read(path, store)).transpose()?;
        if let Some(base) = &base {
            base.check_platform(&mut processor, self.any_platform)?;
        }
        let (mut config, unknown) = ImageConfig::from_value(self.config.clone())?;
        config.healthcheck = self.healthcheck.clone().map(Healthcheck::from_request).transpose()?;
        let told = |key: String| {
            let instead = match key.eq_ignore_ascii_case("healthcheck") {
                true => ", as nix2container leaves it out: the argument healthcheck puts it there",
                false => "",
            };
            format!("config.{key} is not part of OCI's image config and is left out of the image{instead}")
        };
        let mut warnings: Vec<String> = unknown.into_iter().map(told).chain(doubts(&config)).collect();
        if self.inherit_config {
            match &base {
                None => return Err(Error::invalid("inheritConfig", "there is no base image: give it as fromImage")),
                Some(base) if base.spec.config == ImageConfig::default() => warnings.push(
                    "the base image has no config to inherit; nix2container's pullImage leaves it out, nixply's does not"
                        .into(),
                ),
                Some(base) => config = config.on_top_of(base.spec.config.clone(), &Given::of(&self.config)),
            }
        }
        config.healthcheck = config.healthcheck.filter(|check| *check != Healthcheck::default());
        if self.layer_limit == 0 {
            return Err(Error::invalid("layerLimit", "it is 0: an image has at least one layer"));
        }
        let mut requested: Vec<Vec<PlannedLayer>> = Vec::with_capacity(self.layers.len());
        let mut all_below: HashSet<PlannedPath> = HashSet::new();
        for (at, request) in self.layers.iter().enumerate() {
            let place = format!("layers[{at}].");
            let planned: Vec<PlannedLayer> = match request.prebuilt(&place, store)? {
                Some(made) => made.into_iter().map(PlannedLayer::Made).collect(),
                None => {
                    let below = below(&requested, request.parents.as_deref(), &all_below, &place)?;
                    let within = placer.map(|(_, name)| format!("{name} layers[{at}]"));
                    let placer = placer.zip(within.as_deref()).map(|((placer, _), within)| (placer, within));
                    let base = base
                        .as_ref()
                        .map(|base| base.paths_below(request, &self.layers[..at]))
                        .unwrap_or_default();
                    let scene = Scene { place: &place, closure, store, below, base, placer, stop };
                    let plans = request.plan(scene, HashSet::new(), &mut warnings)?;
                    plans.into_iter().map(PlannedLayer::ToPack).collect()
                }
            };
            all_below.extend(planned.iter().flat_map(PlannedLayer::paths).cloned());
            requested.push(planned);
        }
        let own = LayerRequest {
            copy_to_root: self.copy_to_root.clone(),
            perms: self.perms.clone(),
            max_layers: self.max_layers,
            strategy: self.strategy.clone(),
            groups: self.groups.clone(),
            ..LayerRequest::default()
        };
        let config_paths = self.config_paths(closure, store)?;
        let below = below(&requested, self.parents.as_deref(), &all_below, "")?;
        let there = base.as_ref().map(|base| base.paths_below(&own, &self.layers)).unwrap_or_default();
        let scene = Scene { place: "", closure, store, below, base: there, placer, stop };
        let own = own.plan(scene, config_paths, &mut warnings)?;
        let base = base.map(|base| base.spec.layers).unwrap_or_default();
        let base_layers = base.len();
        let layers = base.into_iter().map(PlannedLayer::Made).chain(requested.into_iter().flatten());
        let mut layers: Vec<_> = layers.chain(own.into_iter().map(PlannedLayer::ToPack)).collect();
        if let Some(database) = &self.nix_database {
            let paths = layers.iter().flat_map(PlannedLayer::paths);
            let there = paths.filter(|path| path.keeps_place()).map(|path| &path.path).collect();
            let top = database.plan(closure, store, &there, &mut warnings, stop)?;
            layers.extend(top.into_iter().map(PlannedLayer::ToPack));
        }
        let count = layers.len();
        if count > self.layer_limit {
            return Err(Error::TooManyLayers { layers: count, limit: self.layer_limit });
        }
        let there = paths_twice(&layers, base_layers, closure, &mut warnings);
        let hashes: HashSet<&str> = there.iter().filter_map(|path| store.hash(path)).collect();
        let text = self.config_text();
        let missing =
            store.paths_in(&text).filter(|path| store.hash(path).is_none_or(|hash| !hashes.contains(hash)));
        warnings.extend(missing.map(|path| {
            format!("the config names {path}, which is not in the image: add it to a layer's deps, or name it with its context")
        }));
        Ok(ImagePlan { layers, base_layers, processor, config, warnings })
    }

    /// The store paths that the config names. nix2container's closure is that of a file with the config in it, whose
    /// references Nix finds by looking for hashes; so does this.
    fn config_paths(&self, closure: &Closure, store: &Store) -> Result<HashSet<StorePath>> {
        let roots = checked(self.config_roots.as_deref().unwrap_or_default(), "configRoots", store)?;
        let within = closure.of_roots(&roots, "config")?;
        Ok(references(&self.config_text(), &within, store).into_iter().collect())
    }

    /// All text of the config, in which store paths may stand.
    fn config_text(&self) -> Vec<u8> {
        let mut text = go_json::compact(&self.config);
        if let Some(healthcheck) = &self.healthcheck {
            text.extend(go_json::compact(healthcheck));
        }
        text
    }

    /// Plans and packs the image.
    pub fn build(
        &self,
        closure: &Closure,
        store: &Store,
        packer: &Packer,
        control: &Control<'_>,
    ) -> Result<BuiltImage> {
        self.pack(self.plan_until(closure, store, control.stop())?, closure, store, packer, control)
    }

    /// Packs a plan of this request.
    pub fn pack(
        &self,
        plan: ImagePlan,
        closure: &Closure,
        store: &Store,
        packer: &Packer,
        control: &Control<'_>,
    ) -> Result<BuiltImage> {
        let packing = Packing { codec: self.compression, closure, store, packer, control };
        let packed = packing.pack(plan.to_pack().cloned().collect(), &self.folders().collect(), &())?;
        self.assembled(plan, packed, &packing)
    }

    /// The paths that must be folders, for their content lies at the image's root.
    fn folders(&self) -> impl Iterator<Item = &str> {
        let folders = self.layers.iter().flat_map(LayerRequest::to_root);
        let folders = folders.chain(self.copy_to_root.iter().map(String::as_str));
        folders.chain(self.nix_database.iter().map(|database| database.path.as_str()))
    }

    /// The image of a plan whose layers to pack are `packed`, in its order.
    fn assembled(&self, plan: ImagePlan, packed: Vec<Layer>, packing: &Packing<'_>) -> Result<BuiltImage> {
        let Packing { closure, store, packer, control, .. } = *packing;
        let mut warnings = plan.warnings;
        warnings.extend(base::hidden(&plan.layers, plan.base_layers, store, packer, control)?);
        let mut packed = packed.into_iter();
        let mut spec = ImageSpec {
            version: 1,
            config: plan.config,
            layers: Vec::with_capacity(plan.layers.len()),
            arch: plan.processor.to_string(),
            created: Some(canonical_time("created", &self.created)?),
            annotations: self.annotations.clone(),
        };
        spec.extend(plan.layers.into_iter().map(|layer| match layer {
            PlannedLayer::Made(layer) => layer,
            PlannedLayer::ToPack(_) => packed.next().expect("each of them was packed"),
        }));
        let json = spec.write();
        let references = references(&json, closure, store);
        Ok(BuiltImage { spec, json, references, warnings })
    }
}

impl ImagePlan {
    /// The layers that are to be packed, from the bottom up.
    fn to_pack(&self) -> impl Iterator<Item = &LayerPlan> {
        self.layers.iter().filter_map(|layer| match layer {
            PlannedLayer::ToPack(plan) => Some(plan),
            PlannedLayer::Made(_) => None,
        })
    }
}

/// A lock file is for one strategy. `argument` is for messages.
fn check_lockable(argument: &str, strategy: Option<&str>, groups: Option<&Value>) -> Result<()> {
    let strategy = groups.map(|_| "explicit").or(strategy);
    match strategy.filter(|strategy| *strategy != "nixply") {
        None => Ok(()),
        Some(other) => {
            let why = format!("it is for strategy \"nixply\", not {}: leave one of them out", quoted(other));
            Err(Error::invalid(argument, why))
        }
    }
}

/// Reads a lock file in the store. `argument` is for messages.
fn read_lock(path: &str, argument: &str, store: &Store) -> Result<Lock> {
    let path = checked_path(path, argument, store)?;
    let file = store.real_path(&path);
    let failed = |source| Error::unreadable(format!("{argument} (a lock file)"), &file, source);
    let text = open::store_text(store, &file).map_err(failed)?;
    Lock::read(&text, path.as_str())
}

/// What the layer requests at `parents` (absent: all of those so far, which have `all`) have. `place` is for messages.
fn below<'r>(
    requested: &'r [Vec<PlannedLayer>],
    parents: Option<&[usize]>,
    all: &'r HashSet<PlannedPath>,
    place: &str,
) -> Result<Below<'r>> {
    let Some(parents) = parents else { return Ok(Below::All(all)) };
    let mut paths = Vec::new();
    for (at, parent) in parents.iter().enumerate() {
        let layers = requested.get(*parent).ok_or_else(|| {
            let why =
                format!("expected the place of a layer ahead of this one: there are {}", requested.len());
            Error::invalid(format!("{place}parents[{at}] {parent}"), why)
        })?;
        paths.extend(layers.iter().flat_map(PlannedLayer::paths));
    }
    Ok(Below::Some(paths))
}

fn checked(paths: &[String], argument: &str, store: &Store) -> Result<Vec<StorePath>> {
    let check = |(at, path): (usize, &String)| checked_path(path, &format!("{argument}[{at}]"), store);
    paths.iter().enumerate().map(check).collect()
}

fn checked_path(path: &str, argument: &str, store: &Store) -> Result<StorePath> {
    store.check(path).map_err(|error| Error::invalid(argument, error))
}

/// The paths of `closure` whose hash stands anywhere in `text`: Nix's own way to find references.
pub fn references(text: &[u8], closure: &Closure, store: &Store) -> Vec<StorePath> {
    const HASH: usize = 32;
    let in_hash = |byte: u8| b"0123456789abcdfghijklmnpqrsvwxyz".contains(&byte);
    let mut found: HashSet<&[u8]> = HashSet::new();
    for run in text.split(|byte| !in_hash(*byte)).filter(|run| run.len() >= HASH) {
        found.extend(run.windows(HASH));
    }
    let hash_of = |path: &StorePath| {
        let name = path.as_str().strip_prefix(&store.dir)?.strip_prefix('/')?;
        name.as_bytes().get(..HASH).map(<[u8]>::to_vec)
    };
    closure
        .iter()
        .map(|info| &info.path)
        .filter(|path| hash_of(path).is_some_and(|hash| found.contains(&hash[..])))
        .cloned()
        .collect()
}
