//! Compares two images, or two image indexes: the changed paths, the layers that move because of them, and the cost. A pure function of two specs and
//! of the known facts about their store paths; reads no files.
//!
//! The size of a store path is its archive's (`narSize`), the size of a layer is its blob's.

mod index;
mod layers;
mod paths;

use std::collections::HashMap;

use nixply_packer::ImageSpec;
use nixply_planning::{Closure, StorePath};
use serde::Serialize;
use serde_json::Value;

pub use self::index::{IndexDiff, PlatformDiff};
pub use self::layers::{Cost, LayerChange, LayerState, MovedPaths, Unpacking};
use self::layers::{GoneLayer, Pull};
use self::paths::PathChanges;
pub use self::paths::{Cause, PathChange, Version};

/// Known sizes and references of the store paths of two images.
#[derive(Debug, Default)]
pub struct PathFacts {
    sizes: HashMap<StorePath, u64>,
    references: HashMap<StorePath, Vec<StorePath>>,
}

impl PathFacts {
    /// Adds the paths of a closure.
    pub fn add(&mut self, closure: &Closure) {
        for info in closure.iter() {
            if info.nar_size > 0 {
                self.sizes.insert(info.path.clone(), info.nar_size);
            }
            self.references.insert(info.path.clone(), info.references.clone());
        }
    }

    fn size(&self, path: &StorePath) -> Option<u64> {
        self.sizes.get(path).copied()
    }
}

/// The differences of two images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diff {
    /// The old image.
    pub old: Side,
    /// The new image.
    pub new: Side,
    /// Fields that differ: those of the config, as in `config.Env`, and `arch`, `created`, `annotations`.
    pub fields: Vec<String>,
    /// The changes of store paths.
    pub paths: PathChanges,
    /// The new image's layers from the bottom up.
    pub layers: Vec<LayerChange>,
    /// The old image's layers that the new one does not have.
    pub gone: Vec<GoneLayer>,
    /// Layers that a push sends to a registry with the old image.
    pub push: Cost,
    /// Layers that a client with the old image downloads.
    pub pull: Pull,
    /// Layers that an engine with the old image unpacks; absent if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpack: Option<Unpacking>,
    /// The unchanged paths in the layers that a push sends.
    pub unchanged_sent: MovedPaths,
    /// Total size of the archives of all paths in the layers that a push sends, in bytes; absent if one is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_nar_size: Option<u64>,
    /// Number of paths of unknown size.
    pub unknown_sizes: usize,
}

/// One of the two images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// Number of layers.
    pub layers: usize,
    /// Total size of the blobs in bytes; absent if one is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Number of store paths.
    pub paths: usize,
    /// Total size of their archives in bytes; absent if one is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nar_size: Option<u64>,
}

impl Diff {
    /// Compares `old` and `new`.
    pub fn new(old: &ImageSpec, new: &ImageSpec, facts: &PathFacts) -> Self {
        let compared = paths::Compared::new(old, new, facts);
        let moves = layers::Moves::new(old, new, &compared, facts);
        let unknown = compared.all().filter(|path| facts.size(path).is_none()).count();
        let side = |spec: &ImageSpec, paths: Vec<&StorePath>| Side {
            layers: spec.layers.len(),
            size: spec.layers.iter().map(layers::known_size).sum(),
            paths: paths.len(),
            nar_size: paths.iter().map(|path| facts.size(path)).sum(),
        };
        Self {
            old: side(old, compared.old_paths()),
            new: side(new, compared.new_paths()),
            fields: fields(old, new),
            push: moves.push(),
            pull: moves.pull(),
            unpack: moves.unpack(),
            unchanged_sent: moves.unchanged_sent(),
            sent_nar_size: moves.sent_nar_size(),
            layers: moves.layers,
            gone: moves.gone,
            paths: compared.changes,
            unknown_sizes: unknown,
        }
    }

    /// Returns whether the images are the same.
    pub fn is_empty(&self) -> bool {
        let kept = |layer: &LayerChange| layer.state == LayerState::Kept && layer.was == Some(layer.layer);
        self.fields.is_empty() && self.gone.is_empty() && self.layers.iter().all(kept)
    }
}

/// Returns the fields that differ, without the layers.
fn fields(old: &ImageSpec, new: &ImageSpec) -> Vec<String> {
    let config = |spec: &ImageSpec| match serde_json::to_value(&spec.config) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (before, after) = (config(old), config(new));
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let differ = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    let mut fields: Vec<String> = differ.map(|name| format!("config.{name}")).collect();
    let others = [
        ("arch", old.arch != new.arch),
        ("created", old.created != new.created),
        ("annotations", old.annotations != new.annotations),
    ];
    fields.extend(others.iter().filter(|(_, differ)| *differ).map(|(name, _)| (*name).to_owned()));
    fields
}
