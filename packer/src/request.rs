//! The request: what all doors (plugin, builder, CLI) hand to the packer, and the one way from it to an image. For the
//! same request and closure they get the same bytes.

use std::collections::{HashMap, HashSet};
use std::fs;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cache::LayerKey;
use crate::closure::{Closure, Store, StorePath};
use crate::compress::Codec;
use crate::error::{Error, Result};
use crate::image::config::ImageConfig;
use crate::image::go_json;
use crate::image::reference;
use crate::image::spec::{History, ImageSpec, Layer, ZERO_TIME, canonical_time};
use crate::pack::{Control, LayerPath, PackedLayer, Packer};
use crate::plan::{self, Plan, PlannedPath, Strategy};
use crate::rules::{PermPath, RewritePath};

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
    /// At most so many layers for what is in none of `layers`.
    #[serde(default = "one")]
    pub max_layers: usize,
    /// How they are made: a name of [`Strategy::NAMES`], or `explicit` with `groups`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// Groups of store paths, for `explicit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<Vec<String>>>,
    /// Owners and modes in the layer that config and `copyToRoot` make.
    #[serde(default)]
    pub perms: Vec<PermPath>,
    /// Another image's spec, whose layers lie below all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_image: Option<String>,
    /// OCI's architecture name; absent, that of `system`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// A Nix system such as `x86_64-linux`; absent, that of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// When it was made, RFC 3339.
    #[serde(default = "zero_time")]
    pub created: String,
    /// How blobs are compressed; with a codec, the spec has the compressed digests.
    #[serde(default)]
    pub compression: Codec,
    /// The most layers in all.
    #[serde(default = "layer_limit")]
    pub layer_limit: usize,
}

/// A layer (or several, up to `maxLayers`) of its own.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
    #[serde(default = "one")]
    pub max_layers: usize,
    /// As in [`ImageRequest`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// As in [`ImageRequest`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<Vec<String>>>,
    /// The layers' entry in the image's history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<History>,
}

fn one() -> usize {
    1
}

/// A list of strings; a single one stands for itself.
fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(one) => Ok(vec![one]),
        many => serde_json::from_value(many).map_err(serde::de::Error::custom),
    }
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
        if let Some(metadata) = set.get_mut("metadata") {
            clean(metadata, &[]);
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

/// OCI's (Go's) name for the processor in a Nix system such as `x86_64-linux`.
pub fn arch_of_system(system: &str) -> Result<&'static str> {
    match system.split('-').next().unwrap_or_default() {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        "i686" | "i386" => Ok("386"),
        "armv6l" | "armv7l" | "armv5tel" => Ok("arm"),
        "riscv64" => Ok("riscv64"),
        "powerpc64le" => Ok("ppc64le"),
        "s390x" => Ok("s390x"),
        "mips64el" => Ok("mips64le"),
        "loongarch64" => Ok("loong64"),
        _ => Err(Error::invalid(
            format!("system {system:?}"),
            "its processor has no OCI name known here: set arch",
        )),
    }
}

/// What would be packed: the plan of one layer request.
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
        }
    }
}

/// What would be packed for an image.
#[derive(Debug, Clone)]
pub struct ImagePlan {
    /// The base image's layers.
    pub base: Vec<Layer>,
    /// The layers to pack, from the bottom up.
    pub layers: Vec<LayerPlan>,
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

/// What the builder door reads: a derivation's structured attributes.
///
/// Two derivations make an image. The first has the attribute `config`, and its output is a file with that config: so
/// Nix knows which store paths the config names. The second has `request` (without the config), `configFile` (the
/// first one's output) and `closure`, the name that `exportReferencesGraph` was given.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuilderInput {
    outputs: serde_json::Map<String, Value>,
    #[serde(default)]
    request: Option<Value>,
    #[serde(default)]
    config: Option<Value>,
    #[serde(default)]
    config_file: Option<String>,
    #[serde(default)]
    closure: Option<Value>,
}

impl BuilderInput {
    /// Reads `.attrs.json`.
    pub fn from_attrs(json: &str) -> Result<Self> {
        serde_json::from_str(json).map_err(|error| Error::invalid("structured attributes", error))
    }

    /// Where the result belongs.
    pub fn output(&self) -> Result<&str> {
        let out = self.outputs.get("out").and_then(Value::as_str);
        out.ok_or_else(|| Error::invalid("structured attributes", "there is no output named out"))
    }

    /// The output's bytes, and warnings.
    pub fn run(
        self,
        store: &Store,
        packer: &Packer,
        control: &Control<'_>,
    ) -> Result<(Vec<u8>, Vec<String>)> {
        let Some(request) = self.request else {
            let missing =
                || Error::invalid("structured attributes", "expected an attribute request or config");
            return Ok((go_json::compact(&self.config.ok_or_else(missing)?), Vec::new()));
        };
        let mut request = ImageRequest::from_value(request, "attribute request")?;
        let closure = self.closure.map_or_else(|| Ok(Closure::default()), Closure::from_value)?;
        if let Some(file) = self.config_file {
            let path = store.check(&file)?;
            let real = store.real_path(&path);
            let text =
                fs::read_to_string(&real).map_err(|source| Error::io("read the config", &real, source))?;
            request.config = serde_json::from_str(&text).map_err(|error| Error::invalid(file, error))?;
            let named =
                closure.get(&path).map(|info| info.references.iter().map(StorePath::to_string).collect());
            request.config_roots = Some(named.unwrap_or_default());
        }
        let built = request.build(&closure, store, packer, control)?;
        Ok((built.json, built.warnings))
    }
}

impl ImageRequest {
    /// Reads a request. `name` is for messages.
    pub fn from_json(json: &str, name: &str) -> Result<Self> {
        let value = serde_json::from_str(json).map_err(|error| Error::invalid(name, error))?;
        Self::from_value(value, name)
    }

    fn from_value(value: Value, name: &str) -> Result<Self> {
        serde_json::from_value(without_nulls(value)).map_err(|error| Error::invalid(name, error))
    }

    /// Takes the store paths that stand in the config for its roots, unless the request names them. For callers whose
    /// texts have no context: with one, a path may stand in the config without being meant. Of what only looks like a path
    /// there is none that `exists`; a warning will say so.
    pub fn find_config_roots(&mut self, store: &Store, exists: impl Fn(&StorePath) -> bool) {
        let text = go_json::compact(&self.config);
        let found = store.paths_in(&text).filter_map(|path| store.shortened(&path).find(&exists));
        self.config_roots.get_or_insert_with(|| found.map(|path| path.to_string()).collect());
    }

    /// The store paths whose closure a caller has to provide.
    pub fn roots(&self) -> impl Iterator<Item = &str> {
        let layers = self.layers.iter().flat_map(|layer| layer.deps.iter().chain(&layer.copy_to_root));
        let own = self.config_roots.iter().flatten().chain(&self.copy_to_root).chain(&self.from_image);
        layers.chain(own).map(String::as_str)
    }

    /// OCI's name of the processor.
    fn arch(&self) -> Result<String> {
        match (&self.arch, &self.system) {
            (Some(arch), _) if arch.is_empty() => {
                Err(Error::invalid("arch", "it is empty: name a processor, as in amd64"))
            }
            (Some(arch), _) => Ok(arch.clone()),
            (None, Some(system)) => arch_of_system(system).map(str::to_owned),
            (None, None) => arch_of_system(std::env::consts::ARCH).map(str::to_owned),
        }
    }

    /// Plans the image without reading any store path (but the base image's spec).
    pub fn plan(&self, closure: &Closure, store: &Store) -> Result<ImagePlan> {
        let base = match &self.from_image {
            None => Vec::new(),
            Some(path) => {
                let file = store.real_path(&path.as_str().into());
                let json = fs::read_to_string(&file)
                    .map_err(|source| Error::io("read the base image's spec", &file, source))?;
                ImageSpec::read(&json, &format!("fromImage {path}"))?.layers
            }
        };
        let (config, unknown) = ImageConfig::from_value(self.config.clone())?;
        let told =
            |key| format!("config.{key} is not part of OCI's image config and is left out of the image");
        let mut warnings: Vec<String> = unknown.into_iter().map(told).collect();
        self.name.as_deref().map(reference::canonical_name).transpose()?;
        self.tag.as_deref().map(reference::check_tag).transpose()?;
        if self.layer_limit == 0 {
            return Err(Error::invalid("layerLimit", "it is 0: an image has at least one layer"));
        }
        let mut layers: Vec<LayerPlan> = Vec::new();
        for (at, request) in self.layers.iter().enumerate() {
            let planned = request.plan(&format!("layers[{at}]."), closure, store, &layers, HashSet::new())?;
            let mut history = request.metadata.clone().unwrap_or_else(own_history);
            let place = format!("layers[{at}].metadata.created");
            history.created = history.created.map(|created| canonical_time(&place, &created)).transpose()?;
            layers.extend(planned.into_iter().map(|paths| LayerPlan { paths, history: history.clone() }));
        }
        let own = LayerRequest {
            copy_to_root: self.copy_to_root.clone(),
            perms: self.perms.clone(),
            max_layers: self.max_layers,
            strategy: self.strategy.clone(),
            groups: self.groups.clone(),
            ..LayerRequest::default()
        };
        let planned = own.plan("", closure, store, &layers, self.config_paths(closure, store)?)?;
        layers.extend(planned.into_iter().map(|paths| LayerPlan { paths, history: own_history() }));
        let count = base.len() + layers.len();
        if count > self.layer_limit {
            return Err(Error::TooManyLayers { layers: count, limit: self.layer_limit });
        }
        let planned = layers.iter().flat_map(|layer| &layer.paths);
        let mut there: HashMap<&StorePath, &PlannedPath> = HashMap::new();
        for path in base.iter().flat_map(|layer| &layer.paths).chain(planned) {
            if there.insert(&path.path, path).is_some_and(|below| below.options != path.options) {
                warnings.push(format!(
                    "{} is in the image twice, with other perms or at another place; where both have a file, the upper \
                     layer's counts: give the same perms wherever the path is, or name it in ignore",
                    path.path
                ));
            }
        }
        let hashes: HashSet<&str> = there.keys().filter_map(|path| store.hash(path)).collect();
        let text = go_json::compact(&self.config);
        let missing =
            store.paths_in(&text).filter(|path| store.hash(path).is_none_or(|hash| !hashes.contains(hash)));
        warnings.extend(missing.map(|path| {
            format!("the config names {path}, which is not in the image: add it to a layer's deps, or name it with its context")
        }));
        Ok(ImagePlan { base, layers, config, warnings })
    }

    /// The store paths that the config names. nix2container's closure is that of a file with the config in it, whose
    /// references Nix finds by looking for hashes; so does this.
    fn config_paths(&self, closure: &Closure, store: &Store) -> Result<HashSet<StorePath>> {
        let roots = checked(self.config_roots.as_deref().unwrap_or_default(), "configRoots", store)?;
        let within = closure.of_roots(&roots, "config")?;
        let text = go_json::compact(&self.config);
        Ok(references(&text, &within, store).into_iter().collect())
    }

    /// Plans and packs the image.
    pub fn build(
        &self,
        closure: &Closure,
        store: &Store,
        packer: &Packer,
        control: &Control<'_>,
    ) -> Result<BuiltImage> {
        let (created, arch) = (canonical_time("created", &self.created)?, self.arch()?);
        let plan = self.plan(closure, store)?;
        let to_root = self.layers.iter().map(|layer| &layer.copy_to_root).chain([&self.copy_to_root]);
        let to_root: HashSet<&str> = to_root.flatten().map(String::as_str).collect();
        let path = |path: &PlannedPath| {
            let ready = LayerPath::new(path, store)?.with_folder_only(to_root.contains(path.path.as_str()));
            Ok(match closure.get(&path.path) {
                Some(info) => ready.with_archive(&info.nar_hash, info.nar_size),
                None => ready,
            })
        };
        let paths = |layer: &LayerPlan| layer.paths.iter().map(path).collect();
        let layers: Vec<Vec<LayerPath>> = plan.layers.iter().map(paths).collect::<Result<_>>()?;
        let packed = packer.pack(&layers, self.compression, &(), control)?;
        let mut spec =
            ImageSpec { version: 1, config: plan.config, layers: plan.base, arch, created: Some(created) };
        let keys = layers.iter().map(|paths| Packer::layer_key(paths, self.compression));
        for ((layer, packed), key) in plan.layers.into_iter().zip(packed).zip(keys) {
            spec.push(layer.into_layer(&packed, self.compression, key));
        }
        let json = spec.write();
        let references = references(&json, closure, store);
        Ok(BuiltImage { spec, json, references, warnings: plan.warnings })
    }
}

/// nix2container's own entry in the history, which a drop-in has to keep: it is part of the image ID.
fn own_history() -> History {
    History { created_by: "nix2container".into(), ..History::default() }
}

impl LayerRequest {
    /// Plans this layer on top of `below`. `place` says where it stands in the request, for messages.
    fn plan(
        &self,
        place: &str,
        closure: &Closure,
        store: &Store,
        below: &[LayerPlan],
        more_roots: HashSet<StorePath>,
    ) -> Result<Plan> {
        let deps = checked(&self.deps, &format!("{place}deps"), store)?;
        let to_root = checked(&self.copy_to_root, &format!("{place}copyToRoot"), store)?;
        let ignore = checked(&self.ignore, &format!("{place}ignore"), store)?;
        let what = if place.is_empty() { "config or copyToRoot" } else { place.trim_end_matches('.') };
        if self.max_layers == 0 {
            return Err(Error::invalid(format!("{place}maxLayers"), "it is 0: there is at least one layer"));
        }
        let closure = closure.of_roots(deps.iter().chain(&to_root).chain(&more_roots), what)?;
        for (at, perm) in self.perms.iter().enumerate() {
            perm.perm.check(&perm.path, &format!("{place}perms[{at}]"))?;
            for (name, id) in [("uid", perm.perm.uid), ("gid", perm.perm.gid)] {
                // The last one means "leave it as it is" to chown(2).
                if !(0..i64::from(u32::MAX)).contains(&id) {
                    let why = "Linux has ids from 0 to 4294967294";
                    return Err(Error::invalid(format!("{place}perms[{at}].{name} {id}"), why));
                }
            }
            if closure.get(&perm.path.as_str().into()).is_none() {
                let why = "no layer that these perms are for has this store path: add it, or remove the rule";
                return Err(Error::invalid(format!("{place}perms[{at}].path {:?}", perm.path), why));
            }
        }
        let rewrites: Vec<RewritePath> =
            self.copy_to_root.iter().map(|path| RewritePath::to_root(path)).collect();
        plan::plan(
            &closure,
            &plan::Options {
                strategy: self.strategy(place, store)?,
                max_layers: self.max_layers,
                rewrites: &rewrites,
                perms: &self.perms,
                ignore: &ignore,
                parents: below.iter().flat_map(|layer| &layer.paths).collect(),
            },
        )
    }

    fn strategy(&self, place: &str, store: &Store) -> Result<Strategy> {
        match (self.strategy.as_deref(), &self.groups) {
            (_, Some(groups)) if groups.is_empty() => Err(Error::invalid(
                format!("{place}groups"),
                "there is no group in it: name one, or leave groups out",
            )),
            (Some("explicit") | None, Some(groups)) => {
                let groups = groups.iter().enumerate();
                let read = |(at, group): (usize, &Vec<String>)| {
                    checked(group, &format!("{place}groups[{at}]"), store)
                };
                groups.map(read).collect::<Result<_>>().map(Strategy::Explicit)
            }
            (Some("explicit"), None) => Err(Error::invalid(
                format!("{place}strategy \"explicit\""),
                "it needs groups, a list of lists of store paths",
            )),
            (Some(name), Some(_)) => Err(Error::invalid(
                format!("{place}groups"),
                format!("they go with strategy \"explicit\", not {name:?}"),
            )),
            (Some(name), None) => Strategy::from_name(name),
            (None, None) => Ok(Strategy::default()),
        }
    }
}

fn checked(paths: &[String], argument: &str, store: &Store) -> Result<Vec<StorePath>> {
    let check = |(at, path): (usize, &String)| {
        store.check(path).map_err(|error| Error::invalid(format!("{argument}[{at}]"), error))
    };
    paths.iter().enumerate().map(check).collect()
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
