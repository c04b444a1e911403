//! The report of one path: why the image contains it, and which paths share its layer.

use std::collections::VecDeque;

use nixply_planning::StorePath;
use serde::Serialize;

use super::{Explained, LayerBlob, SizedPath};

/// The report of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PathReport {
    /// The path.
    pub path: StorePath,
    /// Size of its archive in bytes.
    pub nar_size: u64,
    /// Number of paths in its closure.
    pub closure_paths: usize,
    /// Total size of those that are in the image.
    pub closure_nar_size: u64,
    /// Fields of the request or config that name it.
    pub named_by: Vec<String>,
    /// A shortest chain of references to it, which starts at a named path.
    pub chain: Vec<StorePath>,
    /// Fields that name the first path of the chain.
    pub chain_named_by: Vec<String>,
    /// Paths that refer to it directly, sorted by name. A Nix database does not count.
    pub referrers: Vec<StorePath>,
    /// Number of paths that refer to it directly or indirectly.
    pub dependents: usize,
    /// Other paths that are in the image only because of it, the largest first.
    pub only_through: Vec<SizedPath>,
    /// Total size of these paths and itself.
    pub only_size: u64,
    /// Its layers; empty if the image omits it (`ignore`).
    pub layers: Vec<LayerMates>,
}

/// A path's layer and its other paths. A store path changes when anything in its closure changes, and a layer moves when any
/// of its paths changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerMates {
    /// The layer's number: 1 is the lowest layer.
    pub layer: usize,
    /// Its blob, if it has one.
    #[serde(flatten)]
    pub blob: LayerBlob,
    /// Total size of its paths' archives in bytes.
    pub nar_size: u64,
    /// Other paths that depend on it: they change whenever it does. The largest first, as in the next two lists.
    pub change_with_it: Vec<SizedPath>,
    /// Other paths that it depends on: it changes whenever one of them does.
    pub change_it: Vec<SizedPath>,
    /// Other paths without a relation to it.
    pub unrelated: Vec<SizedPath>,
    /// Number of paths whose change changes it: itself and its dependencies.
    pub path_changes_with: usize,
    /// Number of paths whose change moves the layer.
    pub layer_changes_with: usize,
}

impl Explained {
    /// Returns the report of `path`, or none if neither the image nor its closure contains it.
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

    /// Returns a shortest chain of references from a root, which the request or config names, to `to`. If several roots have a
    /// shortest chain, the chain begins at the first of them in `self.roots`.
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
