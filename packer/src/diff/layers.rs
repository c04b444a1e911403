//! Which layers move, why, and what that costs.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::Known;
use super::paths::Compared;
use crate::digest::Digest;
use crate::image::spec::{ImageSpec, Layer};
use crate::store_path::StorePath;

/// A layer of the new image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerChange {
    /// From 1, from the bottom up.
    pub layer: usize,
    /// The blob's.
    pub digest: Digest,
    /// The blob's bytes, where they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// `tar`, `gzip` or `zstd`.
    pub encoding: &'static str,
    /// How many paths it has.
    pub paths: usize,
    /// Whether the old image has it.
    pub state: LayerState,
    /// The old image's layer that it is, or, of a new layer, that it has most in common with; from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<usize>,
    /// Of a new layer, its paths that have changed: rebuilt, updated, or with other rules. The largest first, as below.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<StorePath>,
    /// Of a new layer, its paths that were not in the old image in any version.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<StorePath>,
    /// Of a new layer, its unchanged paths that the old image has in other layers than `was`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub came: Vec<MovedPaths>,
    /// Of a new layer, its unchanged paths that are in `was`, too.
    #[serde(skip_serializing_if = "MovedPaths::is_empty")]
    pub stayed: MovedPaths,
    /// What `was` has of which no version is in this layer, and that is elsewhere in the new image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub went: Vec<StorePath>,
    /// What `was` has that the new image has not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<StorePath>,
}

/// Whether the old image has a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum LayerState {
    /// It has.
    Kept,
    /// It has the same files in another blob: with another codec or level.
    Recompressed,
    /// It has not.
    New,
}

/// Unchanged paths.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MovedPaths {
    /// The old image's layer that they are in, from 1, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<usize>,
    /// How many.
    pub paths: usize,
    /// Their archives' bytes; absent where one is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nar_size: Option<u64>,
}

impl MovedPaths {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.paths == 0
    }

    fn of(from: Option<usize>, paths: &[&StorePath], known: &Known) -> Self {
        let nar_size = paths.iter().map(|path| known.size(path)).sum();
        Self { from: from.map(|at| at + 1), paths: paths.len(), nar_size }
    }
}

/// A layer of the old image that the new one does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GoneLayer {
    /// From 1, from the bottom up.
    pub layer: usize,
    /// The blob's.
    pub digest: Digest,
    /// The blob's bytes, where they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// How many paths it has.
    pub paths: usize,
}

/// Blobs that are sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// How many, each once.
    pub layers: usize,
    /// Their bytes, as far as they are known.
    pub size: u64,
    /// How many have no known size.
    pub unknown_sizes: usize,
    /// Whether all of them are compressed. Others are compressed on their way, by whoever pushes them, to fewer bytes.
    pub compressed: bool,
}

/// What is downloaded by somebody who has the old image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pull {
    /// By engines that keep blobs or find layers wherever they are: podman, and Docker and containerd with containerd's store.
    pub by_blob: Cost,
    /// By engines that find a layer upon the same layers alone: Docker with its own store.
    pub by_chain: Cost,
}

/// Layers that are unpacked anew: engines keep an unpacked layer by what lies below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unpacking {
    /// The first of them, from 1; all above it are, too.
    pub from_layer: usize,
    /// How many.
    pub layers: usize,
    /// How many bytes that makes unpacked; absent where they are unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// A blob's bytes. A base image's spec may not have them (nix2container#207).
pub(super) fn known_size(layer: &Layer) -> Option<u64> {
    Some(layer.size).filter(|size| *size > 0)
}

/// The layers of two images, compared.
pub(super) struct Moves<'s> {
    new: &'s ImageSpec,
    compared: &'s Compared<'s>,
    known: &'s Known,
    pub(super) layers: Vec<LayerChange>,
    pub(super) gone: Vec<GoneLayer>,
    /// How many layers from the bottom are the same files, and how many the same blobs.
    same: usize,
    same_blobs: usize,
}

impl<'s> Moves<'s> {
    pub(super) fn new(
        old: &'s ImageSpec,
        new: &'s ImageSpec,
        compared: &'s Compared<'s>,
        known: &'s Known,
    ) -> Self {
        let first = |with: &dyn Fn(&Layer) -> bool| old.layers.iter().position(with);
        let layers = new.layers.iter().enumerate().map(|(at, layer)| {
            let there = old.layers.get(at).filter(|there| there.digest == layer.digest).map(|_| at);
            let kept = there.or_else(|| first(&|there| there.digest == layer.digest));
            let same_files = || first(&|there| there.diff_id == layer.diff_id);
            let (state, was) = match (kept, same_files) {
                (Some(was), _) => (LayerState::Kept, Some(was)),
                (None, same_files) => match same_files() {
                    Some(was) => (LayerState::Recompressed, Some(was)),
                    None => (LayerState::New, None),
                },
            };
            let mut change = LayerChange {
                layer: at + 1,
                digest: layer.digest,
                size: known_size(layer),
                encoding: layer.encoding(),
                paths: layer.paths.len(),
                state,
                was: was.map(|was| was + 1),
                changed: Vec::new(),
                added: Vec::new(),
                came: Vec::new(),
                stayed: MovedPaths::default(),
                went: Vec::new(),
                removed: Vec::new(),
            };
            if state == LayerState::New {
                explain(&mut change, layer, old, compared, known);
            }
            change
        });
        let layers = layers.collect();
        let digests: HashSet<Digest> = new.layers.iter().map(|layer| layer.digest).collect();
        let gone = old.layers.iter().enumerate().filter(|(_, layer)| !digests.contains(&layer.digest));
        let gone = gone.map(|(at, layer)| GoneLayer {
            layer: at + 1,
            digest: layer.digest,
            size: known_size(layer),
            paths: layer.paths.len(),
        });
        let both = || old.layers.iter().zip(&new.layers);
        let same = both().take_while(|(old, new)| old.diff_id == new.diff_id).count();
        let same_blobs = both().take_while(|(old, new)| old.digest == new.digest).count();
        Self { new, compared, known, layers, gone: gone.collect(), same, same_blobs }
    }

    fn sent(&self) -> impl Iterator<Item = &'s Layer> {
        let mut seen = HashSet::new();
        let sent = self.new.layers.iter().zip(&self.layers);
        let sent = sent.filter(|(_, change)| change.state != LayerState::Kept).map(|(layer, _)| layer);
        sent.filter(move |layer| seen.insert(layer.digest)).collect::<Vec<_>>().into_iter()
    }

    pub(super) fn push(&self) -> Cost {
        cost(self.sent())
    }

    pub(super) fn pull(&self) -> Pull {
        let above = self.new.layers.iter().skip(self.same_blobs);
        Pull { by_blob: cost(self.sent()), by_chain: cost(above) }
    }

    pub(super) fn unpack(&self) -> Option<Unpacking> {
        let above = &self.new.layers[self.same..];
        let unpacked = |layer: &Layer| match (layer.encoding(), &layer.paths[..]) {
            ("tar", _) => known_size(layer),
            (_, []) => None,
            (_, paths) => paths.iter().map(|path| self.known.size(&path.path)).sum(),
        };
        (!above.is_empty()).then(|| Unpacking {
            from_layer: self.same + 1,
            layers: above.len(),
            size: above.iter().map(unpacked).sum(),
        })
    }

    pub(super) fn unchanged_sent(&self) -> MovedPaths {
        let paths = self.sent().flat_map(|layer| &layer.paths).map(|path| &path.path);
        let unchanged: Vec<&StorePath> = paths.filter(|path| self.compared.is_unchanged(path)).collect();
        MovedPaths::of(None, &unchanged, self.known)
    }

    pub(super) fn sent_nar_size(&self) -> Option<u64> {
        self.sent().flat_map(|layer| &layer.paths).map(|path| self.known.size(&path.path)).sum()
    }
}

fn cost<'l>(layers: impl Iterator<Item = &'l Layer>) -> Cost {
    let mut cost = Cost { layers: 0, size: 0, unknown_sizes: 0, compressed: true };
    for layer in layers {
        cost.layers += 1;
        cost.size += layer.size;
        cost.unknown_sizes += usize::from(known_size(layer).is_none());
        cost.compressed &= layer.encoding() != "tar";
    }
    cost
}

/// Tells why a layer is none of the old image's.
fn explain(change: &mut LayerChange, layer: &Layer, old: &ImageSpec, compared: &Compared<'_>, known: &Known) {
    // The old layer that most of it was in: by bytes, where they are known, then by paths.
    let mut common: HashMap<usize, (u64, usize)> = HashMap::new();
    for path in &layer.paths {
        let Some(former) = compared.former(&path.path) else { continue };
        for at in compared.old_layers(former) {
            let (bytes, paths) = common.entry(at).or_default();
            *bytes += known.size(&path.path).unwrap_or(0);
            *paths += 1;
        }
    }
    let was =
        common.into_iter().max_by_key(|(at, common)| (*common, std::cmp::Reverse(*at))).map(|(at, _)| at);
    change.was = was.map(|at| at + 1);

    let mut came: BTreeMap<usize, Vec<&StorePath>> = BTreeMap::new();
    let mut stayed = Vec::new();
    let mut formers: HashSet<&StorePath> = HashSet::new();
    for path in layer.paths.iter().map(|path| &path.path) {
        let Some(former) = compared.former(path) else {
            change.added.push(path.clone());
            continue;
        };
        formers.insert(former);
        if !compared.is_unchanged(path) {
            change.changed.push(path.clone());
        } else if was.is_some_and(|was| compared.old_layers(path).any(|at| at == was)) {
            stayed.push(path);
        } else if let Some(from) = compared.old_layers(path).next() {
            came.entry(from).or_default().push(path);
        }
    }
    change.came = came.into_iter().map(|(from, paths)| MovedPaths::of(Some(from), &paths, known)).collect();
    change.stayed = MovedPaths::of(was, &stayed, known);
    let before = was.map(|was| &old.layers[was].paths[..]).unwrap_or_default();
    for path in before.iter().map(|path| &path.path).filter(|path| !formers.contains(*path)) {
        let list = if compared.lives_on(path) { &mut change.went } else { &mut change.removed };
        list.push(path.clone());
    }
    for list in [&mut change.changed, &mut change.added, &mut change.went, &mut change.removed] {
        list.sort_by(|a, b| (known.size(b), a.name(), a).cmp(&(known.size(a), b.name(), b)));
    }
}
