//! The overview of an image: its layers, its largest paths, and the paths that bring the most bytes.

use std::collections::HashMap;

use nixply_planning::StorePath;
use serde::Serialize;

use super::{Explained, LayerBlob, SizedPath};

/// An image's layers and its largest paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// Total size of the blobs in bytes; absent if one is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Total size of all paths' archives in bytes, each counted once.
    pub nar_size: u64,
    /// Number of store paths.
    pub paths: usize,
    /// The layers from the bottom up.
    pub layers: Vec<LayerSummary>,
    /// The largest paths, in descending order.
    pub largest: Vec<DominatorSummary>,
    /// The paths that bring the most bytes, each before the paths that it brings.
    pub brings: Vec<DominatorSummary>,
}

/// The summary of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerSummary {
    /// Its number: 1 is the lowest layer.
    pub layer: usize,
    /// Its blob, if it has one.
    #[serde(flatten)]
    pub blob: LayerBlob,
    /// Total size of its paths' archives in bytes.
    pub nar_size: u64,
    /// Number of its paths.
    pub paths: usize,
    /// The largest paths.
    pub largest: Vec<SizedPath>,
    /// For a layer without paths: the command that made it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created_by: String,
}

/// A path and the paths that it brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DominatorSummary {
    /// The path.
    pub path: StorePath,
    /// Size of its archive in bytes.
    pub nar_size: u64,
    /// Total size with the paths that are in the image only because of it.
    pub only_size: u64,
    /// Number of these paths, including itself.
    pub only_paths: u64,
    /// The nearest path that brings it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<StorePath>,
    /// Numbers (from 1) of the layers that contain it.
    pub layers: Vec<usize>,
    /// Fields of the request or config that name it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub named_by: Vec<String>,
}

impl Explained {
    /// Returns the overview, with at most `most` paths in each list.
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
        let summary = |at: usize| DominatorSummary {
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
        let largest = by_own.iter().take(most).map(|at| summary(*at)).collect();
        Overview {
            size: self.layers.iter().map(|layer| layer.blob.size).sum(),
            nar_size: self.in_image().map(|at| self.size_at(at)).sum(),
            paths: self.in_image().count(),
            layers: layers.collect(),
            largest,
            brings: self.most_bringing(most, &sizes).into_iter().map(summary).collect(),
        }
    }

    /// Returns the `most` places that bring the most bytes, as a tree in depth-first order. A path never brings more than its
    /// dominator, so the dominator of each chosen place is also chosen.
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
