//! The layers that move, the reasons, and the cost.

use std::collections::{BTreeMap, HashMap, HashSet};

use nixply_oci::Digest;
use nixply_packer::{ImageSpec, Layer};
use nixply_planning::StorePath;
use serde::Serialize;

use super::PathFacts;
use super::paths::Compared;

/// A layer of the new image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerChange {
    /// Its number: 1 is the lowest layer.
    pub layer: usize,
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's size in bytes, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// `tar`, or the codec's name.
    pub encoding: &'static str,
    /// Number of paths.
    pub paths: usize,
    /// Whether the old image has the layer.
    pub state: LayerState,
    /// Number (from 1) of the same layer in the old image; for a new layer, of the old layer that has most of its content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<usize>,
    /// For a new layer: changed paths (rebuilt, updated, or with other rules). The largest first, as in the lists below.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<StorePath>,
    /// For a new layer: paths of which the old image has no version.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<StorePath>,
    /// For a new layer: unchanged paths that the old image has in layers other than `was`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub came: Vec<MovedPaths>,
    /// For a new layer: unchanged paths that are also in `was`.
    #[serde(skip_serializing_if = "MovedPaths::is_empty")]
    pub stayed: MovedPaths,
    /// Paths of `was` with a version in other layers of the new image, but none in this layer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub went: Vec<StorePath>,
    /// Paths of `was` that have no version in the new image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<StorePath>,
}

/// Whether the old image has a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum LayerState {
    /// The old image has the same blob.
    Kept,
    /// The old image has the same files in another blob, with another codec or level.
    Recompressed,
    /// The old image does not have these files.
    New,
}

/// Unchanged paths.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MovedPaths {
    /// Number (from 1) of the old image's layer that contains them, if there is only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<usize>,
    /// Number of paths.
    pub paths: usize,
    /// Total size of their archives in bytes; absent if one is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nar_size: Option<u64>,
}

impl MovedPaths {
    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.paths == 0
    }

    fn of(from: Option<usize>, paths: &[&StorePath], facts: &PathFacts) -> Self {
        let nar_size = paths.iter().map(|path| facts.size(path)).sum();
        Self { from: from.map(|at| at + 1), paths: paths.len(), nar_size }
    }
}

/// A layer of the old image that the new one does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GoneLayer {
    /// Its number: 1 is the lowest layer.
    pub layer: usize,
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's size in bytes, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Number of paths.
    pub paths: usize,
}

/// Blobs that a transfer sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// Number of different blobs.
    pub layers: usize,
    /// Total size of those whose size is known, in bytes.
    pub size: u64,
    /// Number of blobs of unknown size.
    pub unknown_sizes: usize,
    /// Whether all blobs are compressed. A client that pushes compresses the other blobs, so it sends fewer bytes than `size`.
    pub compressed: bool,
}

/// Blobs that a client with the old image downloads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pull {
    /// For engines that keep blobs, or find a layer at any position: podman, and Docker and containerd with containerd's store.
    pub by_blob: Cost,
    /// For engines that find a layer only on top of the same layers: Docker with its own store.
    pub by_chain: Cost,
}

/// Layers that an engine unpacks: it identifies an unpacked layer by the layers below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unpacking {
    /// Number (from 1) of the lowest one. The engine also unpacks all layers above it.
    pub from_layer: usize,
    /// Number of layers.
    pub layers: usize,
    /// Total unpacked size in bytes; absent if unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// Returns a blob's size in bytes. The spec of a base image may lack it (nix2container#207).
pub(super) fn known_size(layer: &Layer) -> Option<u64> {
    Some(layer.size).filter(|size| *size > 0)
}

/// The layers of two images, compared.
pub(super) struct Moves<'s> {
    new: &'s ImageSpec,
    compared: &'s Compared<'s>,
    facts: &'s PathFacts,
    pub(super) layers: Vec<LayerChange>,
    pub(super) gone: Vec<GoneLayer>,
    /// Number of layers, from the bottom, with the same files.
    same: usize,
    /// Number of layers, from the bottom, with the same blobs.
    same_blobs: usize,
}

impl<'s> Moves<'s> {
    pub(super) fn new(
        old: &'s ImageSpec,
        new: &'s ImageSpec,
        compared: &'s Compared<'s>,
        facts: &'s PathFacts,
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
                explain(&mut change, layer, old, compared, facts);
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
        Self { new, compared, facts, layers, gone: gone.collect(), same, same_blobs }
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
            (_, paths) => paths.iter().map(|path| self.facts.size(&path.path)).sum(),
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
        MovedPaths::of(None, &unchanged, self.facts)
    }

    pub(super) fn sent_nar_size(&self) -> Option<u64> {
        self.sent().flat_map(|layer| &layer.paths).map(|path| self.facts.size(&path.path)).sum()
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

/// Fills in why the old image does not have a layer.
fn explain(
    change: &mut LayerChange,
    layer: &Layer,
    old: &ImageSpec,
    compared: &Compared<'_>,
    facts: &PathFacts,
) {
    // The old layer with most of the new layer's content: by bytes as far as they are known, then by number of paths.
    let mut common: HashMap<usize, (u64, usize)> = HashMap::new();
    for path in &layer.paths {
        let Some(former) = compared.former(&path.path) else { continue };
        for at in compared.old_layers(former) {
            let (bytes, paths) = common.entry(at).or_default();
            *bytes += facts.size(&path.path).unwrap_or(0);
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
    change.came = came.into_iter().map(|(from, paths)| MovedPaths::of(Some(from), &paths, facts)).collect();
    change.stayed = MovedPaths::of(was, &stayed, facts);
    let before = was.map(|was| &old.layers[was].paths[..]).unwrap_or_default();
    for path in before.iter().map(|path| &path.path).filter(|path| !formers.contains(*path)) {
        let list = if compared.lives_on(path) { &mut change.went } else { &mut change.removed };
        list.push(path.clone());
    }
    for list in [&mut change.changed, &mut change.added, &mut change.went, &mut change.removed] {
        list.sort_by(|a, b| (facts.size(b), a.name(), a).cmp(&(facts.size(a), b.name(), b)));
    }
}
