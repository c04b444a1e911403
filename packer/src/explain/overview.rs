//! What keeps an image large.

use std::collections::HashMap;

use serde::Serialize;

use super::{Explained, LayerBlob, SizedPath};
use crate::store_path::StorePath;

/// An image's layers and its dearest paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// The blobs' bytes in all; absent where one is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The archives' bytes of all paths, each once.
    pub nar_size: u64,
    /// How many store paths there are.
    pub paths: usize,
    /// From the bottom up.
    pub layers: Vec<LayerSummary>,
    /// The largest paths, the largest first.
    pub largest: Vec<Brought>,
    /// The paths that bring most, each before those that are there only through it.
    pub brings: Vec<Brought>,
}

/// A layer at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerSummary {
    /// From 1, from the bottom up.
    pub layer: usize,
    /// Its blob, where there is one.
    #[serde(flatten)]
    pub blob: LayerBlob,
    /// The archives' bytes of its paths.
    pub nar_size: u64,
    /// How many paths it has.
    pub paths: usize,
    /// The largest of them.
    pub largest: Vec<SizedPath>,
    /// Who made it, of a layer without paths.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created_by: String,
}

/// A path and what it brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Brought {
    /// The path.
    pub path: StorePath,
    /// Its own bytes.
    pub nar_size: u64,
    /// With all that is in the image only through it.
    pub only_size: u64,
    /// How many paths these are, with itself.
    pub only_paths: u64,
    /// The nearest path through which alone it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<StorePath>,
    /// The layers that it is in, from 1.
    pub layers: Vec<usize>,
    /// What names it by itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub named_by: Vec<String>,
}

impl Explained {
    /// The image at a glance, with at most `most` paths in each list.
    pub fn overview(&self, most: usize) -> Overview {
        const LARGEST_OF_A_LAYER: usize = 3;
        let layers = self.layers.iter().enumerate().map(|(number, layer)| {
            let mut largest = self.by_size(layer.places.iter().copied());
            let nar_size = largest.iter().map(|path| path.nar_size).sum();
            largest.truncate(LARGEST_OF_A_LAYER);
            let created_by = if layer.places.is_empty() { layer.created_by.clone() } else { String::new() };
            LayerSummary {
                layer: number + 1,
                blob: layer.blob.clone(),
                nar_size,
                paths: layer.places.len(),
                largest,
                created_by,
            }
        });
        let sizes = self.dominators.sums(|at| self.size_at(at));
        let counts = self.dominators.sums(|at| u64::from(!self.layers_of[at].is_empty()));
        let brought = |at: usize| Brought {
            path: self.path_at(at).clone(),
            nar_size: self.size_at(at),
            only_size: sizes[at],
            only_paths: counts[at],
            through: self.dominators.nearest(at).map(|above| self.path_at(above).clone()),
            layers: self.numbers(at),
            named_by: self.named_by(at),
        };
        let key = |at: usize, size: u64| (std::cmp::Reverse(size), self.path_at(at).name(), self.path_at(at));
        let mut by_own: Vec<usize> = self.in_image().collect();
        by_own.sort_by_key(|at| key(*at, self.size_at(*at)));
        let largest = by_own.iter().take(most).map(|at| brought(*at)).collect();
        Overview {
            size: self.layers.iter().map(|layer| layer.blob.size).sum(),
            nar_size: self.in_image().map(|at| self.size_at(at)).sum(),
            paths: self.in_image().count(),
            layers: layers.collect(),
            largest,
            brings: self.most_bringing(most, &sizes).into_iter().map(brought).collect(),
        }
    }

    /// The `most` places that bring most, in the order of a tree. Nothing brings more than what it is there through, so whatever
    /// is chosen has above it what it is below.
    fn most_bringing(&self, most: usize, sizes: &[u64]) -> Vec<usize> {
        let mut depths = vec![0; self.closure.len()];
        for at in self.dominators.top_down() {
            depths[at] = self.dominators.nearest(at).map_or(0, |above| depths[above] + 1);
        }
        let mut chosen: Vec<usize> = (0..self.closure.len()).filter(|at| sizes[*at] > 0).collect();
        let key =
            |at: usize| (std::cmp::Reverse(sizes[at]), depths[at], self.path_at(at).name(), self.path_at(at));
        chosen.sort_by_key(|at| key(*at));
        chosen.truncate(most);
        let mut below: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
        for at in chosen.iter().rev() {
            below.entry(self.dominators.nearest(*at)).or_default().push(*at);
        }
        let mut tree = Vec::with_capacity(chosen.len());
        let mut stack = below.remove(&None).unwrap_or_default();
        while let Some(at) = stack.pop() {
            tree.push(at);
            stack.extend(below.remove(&Some(at)).unwrap_or_default());
        }
        tree
    }
}
