//! Why a path is in an image, and in its layer.

use std::collections::VecDeque;

use serde::Serialize;

use super::{Explained, LayerBlob, SizedPath};
use crate::store_path::StorePath;

/// What there is to say of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PathReport {
    /// The path.
    pub path: StorePath,
    /// Its archive's bytes.
    pub nar_size: u64,
    /// How many paths it refers to, directly or not, with itself.
    pub closure_paths: usize,
    /// Their bytes, as far as they are in the image.
    pub closure_nar_size: u64,
    /// What names it by itself.
    pub named_by: Vec<String>,
    /// A shortest way to it: something that is named by itself, then each time a path that the last one refers to.
    pub chain: Vec<StorePath>,
    /// What names the first of these.
    pub chain_named_by: Vec<String>,
    /// Who refers to it directly, by name. A Nix database does not count here.
    pub referrers: Vec<StorePath>,
    /// How many do, directly or not.
    pub dependents: usize,
    /// What else is in the image only through it, the largest first.
    pub only_through: Vec<SizedPath>,
    /// The bytes of these and its own.
    pub only_size: u64,
    /// Where it lies; empty where it is left out of the image (`ignore`).
    pub layers: Vec<LayerMates>,
}

/// A path's layer, and what else is in it. A store path changes when anything that it refers to changes, and a layer moves when
/// anything in it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerMates {
    /// From 1, from the bottom up.
    pub layer: usize,
    /// Its blob, where there is one.
    #[serde(flatten)]
    pub blob: LayerBlob,
    /// The archives' bytes of all its paths.
    pub nar_size: u64,
    /// Of the other paths, those that depend on it: they change whenever it does. The largest first, as below.
    pub change_with_it: Vec<SizedPath>,
    /// Those that it depends on: it changes whenever one of them does.
    pub change_it: Vec<SizedPath>,
    /// The others: they and it have nothing to do with each other.
    pub unrelated: Vec<SizedPath>,
    /// The change of how many paths of the closure changes the path: itself, and all that it depends on.
    pub path_changes_with: usize,
    /// The change of how many moves the layer.
    pub layer_changes_with: usize,
}

impl Explained {
    /// What there is to say of `path`; none where neither the image nor its closure has it.
    pub fn path(&self, path: &StorePath) -> Option<PathReport> {
        let at = self.closure.place(path)?;
        let below = self.graph.below([at]);
        let above = self.graph.above([at]);
        let dependents = self.bringing.above([at]).len() - 1;
        let only = self.dominators.only_through(at).into_iter();
        let only_through = self.by_size(only.filter(|place| !self.layers_of[*place].is_empty()));
        let chain = self.chain(at);
        let mut referrers: Vec<StorePath> =
            self.bringing.referrers(at).iter().map(|from| self.path_at(*from).clone()).collect();
        referrers.sort_by(|a, b| (a.name(), a).cmp(&(b.name(), b)));
        let mut depends_on = vec![false; self.closure.len()];
        let mut dependent = depends_on.clone();
        below.iter().for_each(|place| depends_on[*place] = true);
        above.iter().for_each(|place| dependent[*place] = true);
        let mates = |layer: &usize| {
            let explained = &self.layers[*layer];
            let others = || explained.places.iter().copied().filter(|place| *place != at);
            LayerMates {
                layer: layer + 1,
                blob: explained.blob.clone(),
                nar_size: explained.places.iter().map(|place| self.size_at(*place)).sum(),
                change_with_it: self.by_size(others().filter(|place| dependent[*place])),
                change_it: self.by_size(others().filter(|place| depends_on[*place])),
                unrelated: self.by_size(others().filter(|place| !dependent[*place] && !depends_on[*place])),
                path_changes_with: below.len(),
                layer_changes_with: self.graph.below(explained.places.iter().copied()).len(),
            }
        };
        Some(PathReport {
            path: path.clone(),
            nar_size: self.closure.at(at).nar_size,
            closure_paths: below.len(),
            closure_nar_size: below.iter().map(|place| self.size_at(*place)).sum(),
            named_by: self.named_by(at),
            chain_named_by: chain.first().map(|first| self.named_by(*first)).unwrap_or_default(),
            chain: chain.into_iter().map(|place| self.path_at(place).clone()).collect(),
            referrers,
            dependents,
            only_size: self.size_at(at) + only_through.iter().map(|path| path.nar_size).sum::<u64>(),
            only_through,
            layers: self.layers_of[at].iter().map(mates).collect(),
        })
    }

    /// A shortest way from what is named by itself. Of several the one that begins with what is named first.
    fn chain(&self, to: usize) -> Vec<usize> {
        let mut from = vec![None; self.closure.len()];
        let mut queue: VecDeque<usize> = VecDeque::new();
        for (root, _) in &self.roots {
            if from[*root].is_none() {
                from[*root] = Some(*root);
                queue.push_back(*root);
            }
        }
        while let Some(at) = queue.pop_front().filter(|at| *at != to) {
            for next in self.bringing.references(at) {
                if from[*next].is_none() {
                    from[*next] = Some(at);
                    queue.push_back(*next);
                }
            }
        }
        let mut chain = vec![to];
        let mut at = to;
        while let Some(before) = from[at].filter(|before| *before != at) {
            chain.push(before);
            at = before;
        }
        chain.reverse();
        chain
    }
}
