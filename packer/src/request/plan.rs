//! Plans an image's request, and makes the image from the plan.

use std::collections::HashSet;

use nixply_oci::{Given, Healthcheck, ImageConfig, Processor, canonical_time, config_warnings};
use nixply_planning::plan::{LayerAssigner, Lock, Stop};
use nixply_planning::{Closure, PlannedPath, Store, StorePath};

use super::base::{self, Base, paths_twice};
use super::groups::check_grouping;
use super::image::ImageRequest;
use super::inputs::{checked, read_lock};
use super::layer::{Below, LayerContext, LayerPlan, LayerRequest, PlannedLayer};
use crate::error::{Error, Result};
use crate::image::description;
use crate::image::spec::{ImageSpec, Layer};
use crate::pack::Packing;

/// The plan of an image.
#[derive(Debug, Clone)]
pub struct ImagePlan {
    /// The layers from the bottom up. The base image's come first.
    pub layers: Vec<PlannedLayer>,
    /// Number of layers of the base image.
    pub base_layers: usize,
    /// The processor of the image's programs.
    pub processor: Processor,
    /// The image's config.
    pub config: ImageConfig,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// The result of `build`.
#[derive(Debug, Clone)]
pub struct BuiltImage {
    /// The image.
    pub spec: ImageSpec,
    /// The bytes of `image.json`.
    pub json: Vec<u8>,
    /// Store paths of the closure that the bytes name: the references of the spec as a store object.
    pub references: Vec<StorePath>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

impl BuiltImage {
    /// Returns the bytes of the image's description: the document of `image.json`, in which Nix finds no references.
    pub fn description(&self) -> Vec<u8> {
        description::without_references(&self.json)
    }
}

/// The inputs of a plan, apart from the request.
#[derive(Clone, Copy)]
struct Inputs<'i> {
    closure: &'i Closure,
    store: &'i Store,
    stop: Stop<'i>,
    base: Option<&'i Base>,
    assigner: Option<(&'i dyn LayerAssigner, &'i str)>,
}

impl ImageRequest {
    /// Returns the store paths whose closure the caller must provide.
    pub fn roots(&self) -> Vec<String> {
        let request = serde_json::to_value(self).expect("a request consists of JSON values");
        let texts = Self::argument().root_texts(&request).into_iter().map(|text| text.text.to_owned());
        texts.chain(self.config_roots.iter().flatten().cloned()).collect()
    }

    /// Plans the image. This reads no store path except the base image's spec and the lock file.
    pub fn plan(&self, closure: &Closure, store: &Store) -> Result<ImagePlan> {
        self.plan_until(closure, store, Stop::default())
    }

    /// Like [`ImageRequest::plan`], until `stop` is set.
    pub fn plan_until(&self, closure: &Closure, store: &Store, stop: Stop<'_>) -> Result<ImagePlan> {
        closure.check(store)?;
        let Some(path) = &self.lock else { return self.plan_checked(None, closure, store, stop) };
        let lock = read_lock(path, "lock", store)?;
        self.plan_checked(Some((&lock, self.lock_name())), closure, store, stop)
    }

    /// Like [`ImageRequest::plan`], by a lock file that has been read, instead of the request's own.
    pub fn plan_by(&self, lock: &Lock, closure: &Closure, store: &Store) -> Result<ImagePlan> {
        check_grouping("", self.strategy, self.groups.as_ref(), true)?;
        self.plan_with(Some((lock, self.lock_name())), closure, store)
    }

    /// Returns the image's name in its lock file.
    fn lock_name(&self) -> &str {
        self.name.as_deref().unwrap_or("image")
    }

    /// Like [`ImageRequest::plan`], but `assigner`, if present, assigns the paths to layers instead of the request's lock file.
    /// The assigner knows the image by the given name, and each element of `layers` by that name and its index.
    pub fn plan_with(
        &self,
        assigner: Option<(&dyn LayerAssigner, &str)>,
        closure: &Closure,
        store: &Store,
    ) -> Result<ImagePlan> {
        closure.check(store)?;
        self.plan_checked(assigner, closure, store, Stop::default())
    }

    /// Like [`ImageRequest::plan_with`], for a closure that [`Closure::check`] has checked.
    pub(super) fn plan_checked(
        &self,
        assigner: Option<(&dyn LayerAssigner, &str)>,
        closure: &Closure,
        store: &Store,
        stop: Stop<'_>,
    ) -> Result<ImagePlan> {
        self.check()?;
        let mut warnings = Vec::new();
        let mut processor = self.processor()?;
        let base = self.from_image.as_deref().map(|path| Base::read(path, store)).transpose()?;
        if let Some(base) = &base {
            base.check_platform(&mut processor, self.any_platform)?;
        }
        let config = self.image_config(base.as_ref(), &mut warnings)?;
        let inputs = Inputs { closure, store, stop, base: base.as_ref(), assigner };
        let layers = self.plan_layers(&inputs, &mut warnings)?;

        let base = base.map(|base| base.spec.layers).unwrap_or_default();
        let base_layers = base.len();
        let mut layers: Vec<_> = base.into_iter().map(PlannedLayer::Made).chain(layers).collect();
        if let Some(database) = &self.nix_database {
            let paths = layers.iter().flat_map(PlannedLayer::paths);
            let there = paths.filter(|path| path.keeps_place()).map(|path| &path.path).collect();
            let top = database.plan(closure, store, &there, &mut warnings, stop)?;
            layers.extend(top.into_iter().map(PlannedLayer::ToPack));
        }
        if layers.len() > self.layer_limit {
            return Err(Error::TooManyLayers { layers: layers.len(), limit: self.layer_limit });
        }
        let there = paths_twice(&layers, base_layers, closure, &mut warnings);
        warnings.extend(self.named_but_missing(&there, store));
        Ok(ImagePlan { layers, base_layers, processor, config, warnings })
    }

    /// Returns the image's config: the request's config, with its health check and the inherited values.
    fn image_config(&self, base: Option<&Base>, warnings: &mut Vec<String>) -> Result<ImageConfig> {
        let (mut config, unknown) = ImageConfig::from_value(self.config.clone())?;
        config.healthcheck = self.healthcheck.clone().map(Healthcheck::from_request).transpose()?;
        warnings.extend(unknown.into_iter().map(|key| {
            let instead = match key.eq_ignore_ascii_case("healthcheck") {
                true => ", as in nix2container: use the argument healthcheck",
                false => "",
            };
            format!("config.{key} is not part of OCI's image config and is omitted from the image{instead}")
        }));
        warnings.extend(config_warnings(&config));
        if self.inherit_config {
            match base {
                None => return Err(Error::invalid("inheritConfig", "it requires the argument fromImage")),
                Some(base) if base.spec.config == ImageConfig::default() => warnings.push(
                    "the base image has no config to inherit; nix2container's pullImage leaves it out, nixply's does not"
                        .into(),
                ),
                Some(base) => config = config.on_top_of(base.spec.config.clone(), &Given::of(&self.config)),
            }
        }
        config.labels.extend(self.labels.clone());
        config.healthcheck = config.healthcheck.filter(|check| *check != Healthcheck::default());
        Ok(config)
    }

    /// Plans `layers`, and above them the layers of `config` and `copyToRoot`. The result is from the bottom up.
    fn plan_layers(&self, inputs: &Inputs<'_>, warnings: &mut Vec<String>) -> Result<Vec<PlannedLayer>> {
        let Inputs { closure, store, stop, base, assigner } = *inputs;
        let mut requested: Vec<Vec<PlannedLayer>> = Vec::with_capacity(self.layers.len());
        let mut all_below: HashSet<PlannedPath> = HashSet::new();
        for (at, request) in self.layers.iter().enumerate() {
            let place = format!("layers[{at}].");
            let planned: Vec<PlannedLayer> = match request.prebuilt(&place, store)? {
                Some(made) => made.into_iter().map(PlannedLayer::Made).collect(),
                None => {
                    let below = below(&requested, request.parents.as_deref(), &all_below, &place)?;
                    let within = assigner.map(|(_, name)| format!("{name} layers[{at}]"));
                    let assigner =
                        assigner.zip(within.as_deref()).map(|((assigner, _), within)| (assigner, within));
                    let base = base.map(|base| base.paths_below(request, &self.layers[..at]));
                    let base = base.unwrap_or_default();
                    let context = LayerContext { place: &place, closure, store, below, base, assigner, stop };
                    let plans = request.plan(context, HashSet::new(), warnings)?;
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
            strategy: self.strategy,
            groups: self.groups.clone(),
            ..LayerRequest::default()
        };
        let config_paths = self.config_paths(closure, store)?;
        let below = below(&requested, self.parents.as_deref(), &all_below, "")?;
        let base = base.map(|base| base.paths_below(&own, &self.layers)).unwrap_or_default();
        let context = LayerContext { place: "", closure, store, below, base, assigner, stop };
        let own = own.plan(context, config_paths, warnings)?;
        Ok(requested.into_iter().flatten().chain(own.into_iter().map(PlannedLayer::ToPack)).collect())
    }

    /// Returns a warning for each store path that the config names and the image lacks.
    fn named_but_missing(&self, there: &HashSet<&StorePath>, store: &Store) -> Vec<String> {
        let hashes: HashSet<&str> = there.iter().filter_map(|path| store.hash(path)).collect();
        let text = self.config_text();
        let missing =
            store.paths_in(&text).filter(|path| store.hash(path).is_none_or(|hash| !hashes.contains(hash)));
        let warning = |path| {
            format!(
                "the config names {path}, which is not in the image: add it to a layer's deps, or name it with its context"
            )
        };
        missing.map(warning).collect()
    }

    /// Returns the store paths that the config names. nix2container uses the closure of a file with the config, and Nix finds
    /// the references of that file by searching for hashes. This function searches in the same way.
    fn config_paths(&self, closure: &Closure, store: &Store) -> Result<HashSet<StorePath>> {
        let roots = checked(self.config_roots.as_deref().unwrap_or_default(), "configRoots", store)?;
        let within = closure.of_roots(&roots, "config")?;
        Ok(within.referred_to_by(&self.config_text(), store).into_iter().collect())
    }

    /// Plans and packs the image.
    pub fn build(&self, closure: &Closure, packing: &Packing<'_>) -> Result<BuiltImage> {
        let plan = self.plan_until(closure, packing.store, packing.control.stop())?;
        self.pack(plan, closure, packing)
    }

    /// Packs a plan of this request.
    pub fn pack(&self, plan: ImagePlan, closure: &Closure, packing: &Packing<'_>) -> Result<BuiltImage> {
        let (plans, directories) = (plan.to_pack().cloned().collect(), self.directories().collect());
        let packed = packing.pack(plans, self.compression, closure, &directories, &())?;
        self.assembled(plan, packed, closure, packing)
    }

    /// Returns the paths that must be directories, because their content is at the image's root.
    pub(super) fn directories(&self) -> impl Iterator<Item = &str> {
        let directories = self.layers.iter().flat_map(LayerRequest::to_root);
        let directories = directories.chain(self.copy_to_root.iter().map(String::as_str));
        directories.chain(self.nix_database.iter().map(|database| database.path.as_str()))
    }

    /// Returns the image of a plan. `packed` are its layers that had to be packed, in the plan's order.
    pub(super) fn assembled(
        &self,
        plan: ImagePlan,
        packed: Vec<Layer>,
        closure: &Closure,
        packing: &Packing<'_>,
    ) -> Result<BuiltImage> {
        let mut warnings = plan.warnings;
        warnings.extend(base::hidden(&plan.layers, plan.base_layers, packing)?);
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
            PlannedLayer::ToPack(_) => packed.next().expect("each layer to pack was packed"),
        }));
        let json = spec.write();
        let references = closure.referred_to_by(&json, packing.store);
        Ok(BuiltImage { spec, json, references, warnings })
    }
}

impl ImagePlan {
    /// Returns the layers to pack, from the bottom up.
    pub(super) fn to_pack(&self) -> impl Iterator<Item = &LayerPlan> {
        self.layers.iter().filter_map(|layer| match layer {
            PlannedLayer::ToPack(plan) => Some(plan),
            PlannedLayer::Made(_) => None,
        })
    }
}

/// Returns the paths in the layers of the requests at `parents`. If `parents` is absent, these are the paths of all requests
/// so far, `all`. `place` is for messages.
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
            let why = format!("expected the index of an earlier layer; there are {}", requested.len());
            Error::invalid(format!("{place}parents[{at}] {parent}"), why)
        })?;
        paths.extend(layers.iter().flat_map(PlannedLayer::paths));
    }
    Ok(Below::Some(paths))
}
