//! nixpkgs' current way for `dockerTools`.

use std::collections::{BTreeMap, HashMap};

use super::graph::Graph;
use crate::closure::Closure;

/// The groups that nixpkgs' `pkgs/build-support/docker/auto-layer.py` makes (Jellema and yorickvp, nixpkgs#355189; read at
/// 2ff66c69), in its order, as places in the closure.
///
/// The largest paths are *primary*, one after another, until the next one would make too many layers. Paths share a layer if
/// the same primary paths depend on them, where of primary paths that depend on each other the nearest counts. Objective: bytes
/// that many images share are in layers of their own. O(layers x (paths + references)) as long as each primary path adds a layer.
///
/// Of paths with one size the last in the closure is the first to be primary, as there. Of layers with closures of one size the
/// order there is Python's order of sets, which changes from run to run; here it is that of their primary paths' names.
pub(super) fn by_auto_layer(closure: &Closure, graph: &Graph, max_layers: usize) -> Vec<Vec<usize>> {
    let sizes: Vec<u64> = closure.iter().map(|info| info.nar_size).collect();
    let mut by_size: Vec<usize> = (0..sizes.len()).collect();
    by_size.sort_by_key(|at| sizes[*at]);
    let mut split = Split::new(sizes.len());
    while let Some(primary) = by_size.pop() {
        let mut relation = vec![Relation::None; sizes.len()];
        let deps: Vec<usize> = graph.below([primary]).into_iter().filter(|at| *at != primary).collect();
        for dep in &deps {
            relation[*dep] = Relation::Dependency;
        }
        for user in graph.above([primary]) {
            relation[user] = Relation::User;
        }
        let mut changes = vec![(primary, vec![primary])];
        for dep in deps {
            let mut set: Vec<usize> = split
                .set(dep)
                .iter()
                .copied()
                .filter(|at| *at == primary || relation[*at] != Relation::User)
                .collect();
            if set.iter().all(|at| relation[*at] != Relation::Dependency) && !set.contains(&primary) {
                set.push(primary);
                set.sort_unstable();
            }
            changes.push((dep, set));
        }
        let former = split.apply(changes);
        if split.layers() > max_layers {
            split.apply(former);
            break;
        }
    }

    let infos: Vec<_> = closure.iter().collect();
    // The script tells paths apart by their names, and only then by their hashes.
    let key = |at: &usize| infos[*at].path.as_str().split_once('-').map(|(hash, name)| (name, hash));
    let mut layers: Vec<_> = split
        .groups()
        .map(|(primary, mut paths)| {
            paths.sort_by_key(key);
            let closure_size: u64 = graph.below(paths.iter().copied()).iter().map(|at| sizes[*at]).sum();
            let mut names: Vec<_> = primary.iter().map(key).collect();
            names.sort_unstable();
            (closure_size, names, paths)
        })
        .collect();
    layers.sort();
    layers.into_iter().map(|(_, _, paths)| paths).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Relation {
    None,
    Dependency,
    User,
}

/// For each path the set of primary paths that identifies its layer, each set kept once.
struct Split {
    ids: HashMap<Vec<usize>, usize>,
    sets: Vec<Vec<usize>>,
    /// How many paths have each set.
    counts: Vec<usize>,
    of: Vec<usize>,
    layers: usize,
}

impl Split {
    fn new(paths: usize) -> Self {
        Self {
            ids: HashMap::from([(Vec::new(), 0)]),
            sets: vec![Vec::new()],
            counts: vec![paths],
            of: vec![0; paths],
            layers: usize::from(paths > 0),
        }
    }

    fn set(&self, at: usize) -> &[usize] {
        &self.sets[self.of[at]]
    }

    fn layers(&self) -> usize {
        self.layers
    }

    /// Gives paths other sets; returns those that they had.
    fn apply(&mut self, changes: Vec<(usize, Vec<usize>)>) -> Vec<(usize, Vec<usize>)> {
        changes
            .into_iter()
            .map(|(at, set)| {
                let id = *self.ids.entry(set).or_insert_with_key(|set| {
                    self.sets.push(set.clone());
                    self.counts.push(0);
                    self.sets.len() - 1
                });
                let former = std::mem::replace(&mut self.of[at], id);
                self.counts[former] -= 1;
                self.layers -= usize::from(self.counts[former] == 0);
                self.layers += usize::from(self.counts[id] == 0);
                self.counts[id] += 1;
                (at, self.sets[former].clone())
            })
            .collect()
    }

    /// The sets that paths have, each with its paths.
    fn groups(&self) -> impl Iterator<Item = (&[usize], Vec<usize>)> {
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, id) in self.of.iter().enumerate() {
            groups.entry(*id).or_default().push(at);
        }
        groups.into_iter().map(|(id, paths)| (&self.sets[id][..], paths))
    }
}
