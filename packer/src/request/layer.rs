//! A request for layers: their content, and the paths that they omit because a layer below has them.

use std::collections::HashSet;

use nixply_documents::argument::{
    Count, Indices, Kind, MAX_ID, Mentions, Optional, Plain, Root, Roots, Word,
};
use nixply_documents::wording::quoted;
use nixply_files::open;
use nixply_oci::{History, canonical_time};
use nixply_planning::plan::explicit::{self, Group};
use nixply_planning::plan::{self, LayerAssigner, Stop, lock_names};
use nixply_planning::{Closure, PermPath, PlannedPath, RewritePath, Store, StorePath, Strategy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::groups::{self, Groups, check_grouping};
use super::inputs::{checked, checked_path, read_lock};
use crate::cache::LayerKey;
use crate::compress::Codec;
use crate::error::{Error, Result};
use crate::image::spec::Layer;
use crate::layer::PackedLayer;

/// Name of the file with the layers, in a directory of packed layers.
pub const LAYERS_FILE: &str = "layers.json";

/// One or more layers below the layer of `config` and `copyToRoot`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LayerRequest {
    /// Store paths. The layers contain them and their closures.
    ///
    /// ```nix
    /// layers = [ { deps = [ pkgs.bash ]; } ];
    /// ```
    #[serde(with = "Roots")]
    #[schemars(extend("x-nixply-container-option" = true))]
    pub deps: Vec<String>,

    /// Directories whose content the image has at its root. The layers also contain their closures.
    ///
    /// ```nix
    /// layers = [ { copyToRoot = pkgs.cacert; } ];
    /// ```
    #[serde(with = "Roots")]
    #[schemars(extend("x-nixply-container-option" = true))]
    pub copy_to_root: Vec<String>,

    /// Store paths that the layers omit.
    ///
    /// ```nix
    /// layers = [ { deps = pkgs.hello; ignore = pkgs.bash; } ];
    /// ```
    #[serde(with = "Mentions")]
    #[schemars(extend("x-nixply-container-option" = true))]
    pub ignore: Vec<String>,

    /// Owners and modes of files, as for the image.
    ///
    /// ```nix
    /// layers = [ { deps = pkgs.hello; perms = [ { path = pkgs.hello; mode = "0555"; } ]; } ];
    /// ```
    #[schemars(extend("x-nixply-container-option" = true))]
    pub perms: Vec<PermPath>,

    /// Maximum number of layers.
    ///
    /// ```nix
    /// layers = [ { deps = pkgs.python3; maxLayers = 20; } ];
    /// ```
    #[serde(with = "Count")]
    #[schemars(extend("x-nixply-container-option" = true))]
    pub max_layers: usize,

    /// The strategy that groups store paths into layers, as for the image.
    ///
    /// ```nix
    /// layers = [ { deps = pkgs.python3; maxLayers = 20; strategy = "size"; } ];
    /// ```
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Strategy")]
    pub strategy: Option<Strategy>,

    /// Groups of store paths for strategy `explicit`, as for the image.
    ///
    /// ```nix
    /// layers = [ { deps = pkgs.python3; maxLayers = 2; groups = [ { name = "python3.*"; } ]; } ];
    /// ```
    #[serde(with = "Optional::<Groups>", skip_serializing_if = "Option::is_none")]
    pub groups: Option<Value>,

    /// A [lock file](lock-files.md#containers) for these layers, for strategy `min-churn`. It takes precedence over the image's.
    ///
    /// ```nix
    /// layers = [ { deps = pkgs.python3; maxLayers = 20; lock = { file = ./nixply.lock.json; image = "base"; }; } ];
    /// ```
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LayerLock")]
    pub lock: Option<LayerLock>,

    /// The layers' entry in the image's history.
    ///
    /// ```nix
    /// layers = [ { deps = pkgs.bash; metadata.comment = "the shell"; } ];
    /// ```
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Metadata")]
    pub metadata: Option<Metadata>,

    /// Indices (from 0) of the earlier `layers` whose store paths these layers omit. Default: all.
    ///
    /// ```nix
    /// layers = [ { deps = pkgs.bash; } { deps = pkgs.bash; parents = [ ]; } ];
    /// ```
    #[serde(with = "Optional::<Indices>", skip_serializing_if = "Option::is_none")]
    pub parents: Option<Vec<usize>>,

    /// A directory in the store with packed layers and their `layers.json`, as `nix/build-layers.nix` and
    /// [nix2container's `buildLayer`](nix2container.md) make it. The element has no other arguments.
    ///
    /// ```nix
    /// layers = [ { prebuilt = import ./nix/build-layers.nix { inherit nixply; } { layer.deps = [ pkgs.bash ]; }; } ];
    /// ```
    #[serde(with = "Optional::<Root>", skip_serializing_if = "Option::is_none")]
    pub prebuilt: Option<String>,
}

impl Default for LayerRequest {
    fn default() -> Self {
        Self {
            deps: Vec::new(),
            copy_to_root: Vec::new(),
            ignore: Vec::new(),
            perms: Vec::new(),
            max_layers: 1,
            strategy: None,
            groups: None,
            lock: None,
            metadata: None,
            parents: None,
            prebuilt: None,
        }
    }
}

/// The lock file of layers that are not an image by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object of file and image")]
pub struct LayerLock {
    /// The lock file, in the store.
    #[serde(with = "Root")]
    pub file: String,
    /// The name of the image in the lock file whose layers these are.
    #[serde(with = "Word")]
    pub image: String,
}

/// A layer's entry in the image's history, as a request has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Metadata {
    /// When the layer was made, in RFC 3339.
    #[serde(with = "Optional::<Word>", skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command that made it.
    #[schemars(with = "Plain")]
    pub created_by: String,
    /// Its author.
    #[schemars(with = "Plain")]
    pub author: String,
    /// A comment.
    #[schemars(with = "Plain")]
    pub comment: String,
}

impl Metadata {
    /// Returns the entry. `place` is the layer's place, for messages.
    fn history(&self, place: &str) -> Result<History> {
        let time = |time: &String| canonical_time(&format!("{place}metadata.created"), time);
        Ok(History {
            created: self.created.as_ref().map(time).transpose()?,
            created_by: self.created_by.clone(),
            author: self.author.clone(),
            comment: self.comment.clone(),
            empty_layer: false,
        })
    }
}

/// One planned layer of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerPlan {
    /// The layer's paths, in plan order.
    pub paths: Vec<PlannedPath>,
    /// Its entry in the history.
    pub history: History,
}

impl LayerPlan {
    /// Returns the sum of the paths' archive sizes, in bytes.
    pub fn nar_size(&self, closure: &Closure) -> u64 {
        self.paths.iter().filter_map(|path| closure.get(&path.path)).map(|info| info.nar_size).sum()
    }

    /// Returns the spec's entry for this layer, after it has been packed with `codec`.
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

/// A layer of an image: planned, or already packed.
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

/// Returns nix2container's entry in the history. A drop-in replacement must keep it, because it is part of the image ID.
fn own_history() -> History {
    History { created_by: "nix2container".into(), ..History::default() }
}

/// The context of a layer request.
#[derive(Debug)]
pub(super) struct LayerContext<'s> {
    /// The layer's place in the image's request, for messages.
    pub(super) place: &'s str,
    /// A closure that contains at least the closure of the image's paths.
    pub(super) closure: &'s Closure,
    pub(super) store: &'s Store,
    /// The paths of the layers below.
    pub(super) below: Below<'s>,
    /// The base image's paths that are also omitted.
    pub(super) base: Vec<&'s PlannedPath>,
    /// See [`plan::Options`].
    pub(super) assigner: Option<(&'s dyn LayerAssigner, &'s str)>,
    pub(super) stop: Stop<'s>,
}

/// The paths of the layers below a request.
#[derive(Debug)]
pub(super) enum Below<'s> {
    /// The paths of all layers below. Many requests share this set.
    All(&'s HashSet<PlannedPath>),
    /// The paths of some layers below.
    Some(Vec<&'s PlannedPath>),
}

impl LayerRequest {
    /// Plans the layers.
    pub(super) fn plan(
        &self,
        context: LayerContext<'_>,
        more_roots: HashSet<StorePath>,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<LayerPlan>> {
        let LayerContext { place, closure, store, below, base, assigner, stop } = context;
        stop.check()?;
        let lock = match &self.lock {
            None => None,
            Some(LayerLock { file, image }) => {
                Some((read_lock(file, &format!("{place}lock.file"), store)?, image))
            }
        };
        let assigner = match &lock {
            None => assigner,
            Some((lock, image)) => Some((lock as &dyn LayerAssigner, image.as_str())),
        };
        let deps = checked(&self.deps, &format!("{place}deps"), store)?;
        let to_root = checked(&self.copy_to_root, &format!("{place}copyToRoot"), store)?;
        let ignore = checked(&self.ignore, &format!("{place}ignore"), store)?;
        for (at, perm) in self.perms.iter().enumerate() {
            checked_path(&perm.path, &format!("{place}perms[{at}].path"), store)?;
        }
        let what = match place.trim_end_matches('.') {
            "" => "config or copyToRoot",
            place => place,
        };
        // Ignored paths do not count for the popularity of other paths, as in nix2container's closureGraph.
        let roots = || deps.iter().chain(&to_root).chain(&more_roots);
        let closure = closure.of_roots(roots(), what)?.without(&ignore);
        let roots: Vec<StorePath> = roots().filter(|path| closure.get(path).is_some()).cloned().collect();
        let (strategy, groups) = self.grouping(place, &groups::Reader { store, roots: &roots })?;
        warnings.extend(explicit::warnings(&groups, &closure, &format!("{place}groups"), stop)?);
        warnings.extend(self.perms_without_effect(place, &closure));
        let history = match &self.metadata {
            Some(metadata) => metadata.history(place)?,
            None => own_history(),
        };
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
                groups: &groups,
                max_layers: self.max_layers,
                rewrites: &rewrites,
                perms: &self.perms,
                ignore: &ignore,
                parents,
                below,
                assigner,
                stop,
            },
        )?;
        Ok(plan.into_iter().map(|paths| LayerPlan { paths, history: history.clone() }).collect())
    }

    /// Checks everything that needs neither a store nor a closure. `place` is the layer's place, for messages.
    pub(super) fn check(&self, place: &str) -> Result<()> {
        check_grouping(place, self.strategy, self.groups.as_ref(), self.lock.is_some())?;
        if let Some(LayerLock { image, .. }) = &self.lock {
            let what = || format!("{place}lock.image {}", quoted(image));
            lock_names::check_image(image).map_err(|why| Error::invalid(what(), why))?;
        }
        if let Some(metadata) = &self.metadata {
            metadata.history(place)?;
        }
        if self.prebuilt.is_some() {
            let alone = Self { prebuilt: None, ..self.clone() };
            if alone != Self::default() {
                let why = "it cannot be combined with other arguments of a layer";
                return Err(Error::invalid(format!("{place}prebuilt"), why));
            }
        }
        check_perms(&self.perms, place)
    }

    /// Returns a warning for each element of perms whose store path is in none of the layers. nix2container accepts them, so
    /// users' expressions have them.
    fn perms_without_effect(&self, place: &str, closure: &Closure) -> Vec<String> {
        let perms = self.perms.iter().enumerate();
        let idle = perms.filter(|(_, perm)| closure.get_named(&perm.path).is_none());
        let warning = |(at, perm): (usize, &PermPath)| {
            format!(
                "{place}perms[{at}] has no effect: its layers do not contain {}; add the path, or remove the rule",
                perm.path
            )
        };
        idle.map(warning).collect()
    }

    fn grouping(&self, place: &str, groups: &groups::Reader<'_>) -> Result<(Strategy, Vec<Group>)> {
        Ok(match &self.groups {
            Some(given) => (Strategy::Explicit, groups.groups(given, &format!("{place}groups"))?),
            None => (self.strategy.unwrap_or_default(), Vec::new()),
        })
    }

    /// Returns the layers of `prebuilt`, if the request has it.
    pub(super) fn prebuilt(&self, place: &str, store: &Store) -> Result<Option<Vec<Layer>>> {
        let Some(directory) = &self.prebuilt else { return Ok(None) };
        read_prebuilt(directory, &format!("{place}prebuilt"), store).map(Some)
    }

    /// Returns the arguments whose store paths the layers contain with their closures.
    pub fn roots(&self) -> [(&'static str, &[String]); 2] {
        [("deps", &self.deps), ("copyToRoot", &self.copy_to_root)]
    }

    /// Returns the paths of `copyToRoot`, which must be directories.
    pub(super) fn to_root(&self) -> impl Iterator<Item = &str> {
        self.copy_to_root.iter().map(String::as_str)
    }
}

/// Checks the rules of perms. `place` is the place of their layer, for messages.
pub(super) fn check_perms(perms: &[PermPath], place: &str) -> Result<()> {
    for (at, perm) in perms.iter().enumerate() {
        perm.perm.check(&perm.path, &format!("{place}perms[{at}]"))?;
        for (name, id) in [("uid", perm.perm.uid), ("gid", perm.perm.gid)] {
            if !(0..=MAX_ID).contains(&id) {
                let why = format!("expected an id from 0 to {MAX_ID}");
                return Err(Error::invalid(format!("{place}perms[{at}].{name} {id}"), why));
            }
        }
    }
    Ok(())
}

/// Reads the layers in a directory of the store. `place` is for messages.
pub(super) fn read_prebuilt(directory: &str, place: &str, store: &Store) -> Result<Vec<Layer>> {
    let directory = store.check(directory).map_err(|error| Error::at(place, error))?;
    let file = store.real_path(&directory).join(LAYERS_FILE);
    let failed = |source| Error::unreadable(format!("{place} (layers)"), &file, source);
    let json = open::store_text(&store.real_dir, &file).map_err(failed)?;
    Layer::read_all(&json, &file.display().to_string())
}
