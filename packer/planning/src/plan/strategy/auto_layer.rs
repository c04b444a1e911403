//! The current layering of nixpkgs' `dockerTools`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

use crate::closure::Closure;
use crate::error::Result;
use crate::plan::Stop;
use crate::plan::graph::Graph;

/// Returns the groups of nixpkgs' `pkgs/build-support/docker/auto-layer.py` (Jellema and yorickvp, nixpkgs#355189; read at
/// 2ff66c69) in its order, as positions in the closure.
///
/// The largest paths become *primary*, one after another, until the next one would make too many layers. Paths share a layer
/// if the same primary paths depend on them; of primary paths that depend on each other, only the nearest counts. Objective:
/// bytes that many images share have their own layers. A new primary path changes the layers of those of its dependencies
/// that it reaches without passing another primary path. So the cost is O(layers x (paths + references) / 64) plus the number
/// of these changes.
///
/// Of paths of equal size, the last in the closure becomes primary first, as in the script. For layers whose closures have
/// equal sizes, the script uses Python's order of sets, which changes from run to run; here the order is that of their
/// primary paths' names.
pub(super) fn by_auto_layer(
    closure: &Closure,
    graph: &Graph,
    max_layers: usize,
    stop: Stop<'_>,
) -> Result<Vec<Vec<usize>>> {
    let sizes: Vec<u64> = closure.iter().map(|info| info.nar_size).collect();
    let bottom_up = graph.bottom_up(closure)?;
    // With as many layers as paths, every path becomes primary, and is its own nearest primary path.
    let groups = match max_layers >= sizes.len() {
        true => (0..sizes.len()).map(|at| (vec![at], vec![at])).collect(),
        false => split(graph, &bottom_up, &sizes, max_layers, stop)?,
    };
    let closure_sizes = closure_sizes(graph, &bottom_up, &sizes, &groups, stop)?;
    let infos: Vec<_> = closure.iter().collect();
    // The script sorts paths by name, and paths of equal name by hash.
    let key = |at: &usize| infos[*at].path.as_str().split_once('-').map(|(hash, name)| (name, hash));
    let mut layers: Vec<_> = groups
        .into_iter()
        .zip(closure_sizes)
        .map(|((primary, mut paths), closure_size)| {
            paths.sort_by_cached_key(key);
            let mut names: Vec<_> = primary.iter().map(key).collect();
            names.sort_unstable();
            (closure_size, names, paths)
        })
        .collect();
    layers.sort();
    Ok(layers.into_iter().map(|(_, _, paths)| paths).collect())
}

/// The primary paths of a group, and its paths.
type Group = (Vec<usize>, Vec<usize>);

/// Number of primary paths, or groups, that one pass follows through the graph: one bit each.
const WORD: usize = u64::BITS as usize;

/// Makes paths primary until the next one would make too many layers.
fn split(
    graph: &Graph,
    bottom_up: &[usize],
    sizes: &[u64],
    max_layers: usize,
    stop: Stop<'_>,
) -> Result<Vec<Group>> {
    let mut by_size: Vec<usize> = (0..sizes.len()).collect();
    by_size.sort_by_key(|at| sizes[*at]);
    by_size.reverse();
    let mut split = Split::new(sizes.len());
    for primaries in by_size.chunks(WORD) {
        stop.check()?;
        let related = Related::to(primaries, graph, bottom_up);
        for (bit, primary) in primaries.iter().enumerate() {
            stop.check()?;
            let former = split.add(*primary, bit, graph, &related);
            if split.layers() > max_layers {
                split.restore(former);
                return Ok(split.groups());
            }
        }
    }
    Ok(split.groups())
}

/// Returns the closure size of each group: the sum of the sizes of its paths and of everything that they refer to, directly
/// or indirectly.
fn closure_sizes(
    graph: &Graph,
    bottom_up: &[usize],
    sizes: &[u64],
    groups: &[Group],
    stop: Stop<'_>,
) -> Result<Vec<u64>> {
    let mut sums = vec![0; groups.len()];
    for (groups, sums) in groups.chunks(WORD).zip(sums.chunks_mut(WORD)) {
        stop.check()?;
        let mut words = vec![0u64; sizes.len()];
        for (bit, (_, paths)) in groups.iter().enumerate() {
            paths.iter().for_each(|at| words[*at] |= 1 << bit);
        }
        spread(&mut words, bottom_up.iter().rev(), |at| graph.references(at));
        for (at, mut word) in words.into_iter().enumerate() {
            while word != 0 {
                sums[word.trailing_zeros() as usize] += sizes[at];
                word &= word - 1;
            }
        }
    }
    Ok(sums)
}

/// Passes the bits of each position to its `next` positions. In `order`, these come after it.
fn spread<'g>(
    words: &mut [u64],
    order: impl Iterator<Item = &'g usize>,
    next: impl Fn(usize) -> &'g [usize],
) {
    for at in order {
        let word = words[*at];
        if word != 0 {
            next(*at).iter().for_each(|next| words[*next] |= word);
        }
    }
}

/// The dependencies and the users of some paths, with one bit for each of the paths.
struct Related {
    dependency: Vec<u64>,
    user: Vec<u64>,
}

impl Related {
    fn to(paths: &[usize], graph: &Graph, bottom_up: &[usize]) -> Self {
        let mut dependency = vec![0; graph.len()];
        for (bit, at) in paths.iter().enumerate() {
            dependency[*at] |= 1 << bit;
        }
        let mut user = dependency.clone();
        spread(&mut dependency, bottom_up.iter().rev(), |at| graph.references(at));
        spread(&mut user, bottom_up.iter(), |at| graph.referrers(at));
        Self { dependency, user }
    }
}

/// Primary paths, sorted.
type Set = Rc<[usize]>;

/// For each path, the set of primary paths that identifies its layer: the primary paths that depend on it without another
/// primary path between. Each set is stored once, while at least one path has it.
struct Split {
    ids: HashMap<Set, usize>,
    sets: Vec<Set>,
    /// Number of paths that have each set.
    counts: Vec<usize>,
    unused: Vec<usize>,
    of: Vec<usize>,
}

impl Split {
    fn new(paths: usize) -> Self {
        let none: Set = Rc::new([]);
        Self {
            ids: HashMap::from([(none.clone(), 0)]),
            sets: vec![none],
            counts: vec![paths],
            unused: Vec::new(),
            of: vec![0; paths],
        }
    }

    fn layers(&self) -> usize {
        self.ids.len()
    }

    /// Makes a path primary. `bit` is its bit in `related`. Returns the former sets of the changed paths.
    fn add(&mut self, primary: usize, bit: usize, graph: &Graph, related: &Related) -> Vec<(usize, Set)> {
        let is = |words: &[u64], at: usize| words[at] >> bit & 1 == 1;
        // For each former set, the new set of the paths that have it. There is none if another primary path lies between `primary`
        // and these paths: then it also lies between `primary` and all their dependencies.
        let mut next: HashMap<usize, Option<Set>> = HashMap::new();
        let mut changes: Vec<(usize, Set)> = vec![(primary, Rc::new([primary]))];
        let mut seen = std::collections::HashSet::from([primary]);
        let mut done = 0;
        while let Some((at, _)) = changes.get(done) {
            let at = *at;
            done += 1;
            for dep in graph.references(at) {
                if !seen.insert(*dep) {
                    continue;
                }
                let id = self.of[*dep];
                let set = next.entry(id).or_insert_with(|| {
                    let former = &self.sets[id];
                    let between = former.iter().any(|at| is(&related.dependency, *at));
                    let mut set: Vec<usize> =
                        former.iter().copied().filter(|at| !is(&related.user, *at)).collect();
                    set.insert(set.partition_point(|at| *at < primary), primary);
                    (!between).then(|| set.into())
                });
                if let Some(set) = set {
                    changes.push((*dep, set.clone()));
                }
            }
        }
        self.apply(changes)
    }

    /// Restores the former sets of paths.
    fn restore(&mut self, former: Vec<(usize, Set)>) {
        self.apply(former);
    }

    /// Assigns new sets to paths. Returns their former sets.
    fn apply(&mut self, changes: Vec<(usize, Set)>) -> Vec<(usize, Set)> {
        changes
            .into_iter()
            .map(|(at, set)| {
                let id = self.id(set);
                let former = std::mem::replace(&mut self.of[at], id);
                self.counts[id] += 1;
                self.counts[former] -= 1;
                let set = self.sets[former].clone();
                if self.counts[former] == 0 {
                    self.ids.remove(&set);
                    self.unused.push(former);
                }
                (at, set)
            })
            .collect()
    }

    fn id(&mut self, set: Set) -> usize {
        let entry = match self.ids.entry(set) {
            Entry::Occupied(known) => return *known.get(),
            Entry::Vacant(entry) => entry,
        };
        let set = entry.key().clone();
        let id = match self.unused.pop() {
            Some(id) => {
                (self.sets[id], self.counts[id]) = (set, 0);
                id
            }
            None => {
                self.sets.push(set);
                self.counts.push(0);
                self.sets.len() - 1
            }
        };
        *entry.insert(id)
    }

    /// Returns the sets that are in use, each with its paths.
    fn groups(&self) -> Vec<Group> {
        let mut paths: Vec<Vec<usize>> = vec![Vec::new(); self.sets.len()];
        for (at, id) in self.of.iter().enumerate() {
            paths[*id].push(at);
        }
        let groups = paths.into_iter().enumerate().filter(|(_, paths)| !paths.is_empty());
        groups.map(|(id, paths)| (self.sets[id].to_vec(), paths)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{prop_assert_eq, proptest};

    use super::*;
    use crate::closure::PathInfo;
    use crate::store_path::StorePath;

    /// The script's algorithm, step by step. Returns the paths of each layer by its primary paths.
    fn by_the_script(graph: &Graph, sizes: &[u64], max_layers: usize) -> BTreeMap<Vec<usize>, Vec<usize>> {
        let groups = |sets: &[Vec<usize>]| {
            let mut groups: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
            sets.iter().enumerate().for_each(|(at, set)| groups.entry(set.clone()).or_default().push(at));
            groups
        };
        let mut by_size: Vec<usize> = (0..sizes.len()).collect();
        by_size.sort_by_key(|at| sizes[*at]);
        let mut sets: Vec<Vec<usize>> = vec![Vec::new(); sizes.len()];
        while let Some(primary) = by_size.pop() {
            let mut next = sets.clone();
            let (deps, users) = (graph.below([primary]), graph.above([primary]));
            for dep in deps.iter().copied().filter(|dep| *dep != primary) {
                let set = &mut next[dep];
                set.retain(|at| !users.contains(at));
                if !set.iter().any(|at| deps.contains(at)) {
                    set.push(primary);
                    set.sort_unstable();
                }
            }
            next[primary] = vec![primary];
            if groups(&next).len() > max_layers {
                break;
            }
            sets = next;
        }
        groups(&sets)
    }

    proptest! {
        #[test]
        fn layers_equal_those_of_the_script(
            edges in proptest::collection::vec((0usize..90, 0usize..90), 0..300), max_layers in 1usize..100,
            sizes in proptest::collection::vec(0u64..40, 90),
        ) {
            let path = |at: usize| StorePath::named(&format!("{at:02}"));
            let closure = Closure::new((0..90).map(|at| PathInfo {
                path: path(at),
                references: edges.iter().filter(|(from, to)| *from == at && *to > at).map(|(_, to)| path(*to)).collect(),
                nar_hash: String::new(),
                nar_size: sizes[at],
            }));
            let graph = Graph::new(&closure);
            let expected = by_the_script(&graph, &sizes, max_layers);
            let bottom_up = graph.bottom_up(&closure).unwrap();
            let groups = split(&graph, &bottom_up, &sizes, max_layers, Stop::default()).unwrap();
            prop_assert_eq!(&groups.iter().cloned().collect::<BTreeMap<_, _>>(), &expected);
            let sums = closure_sizes(&graph, &bottom_up, &sizes, &groups, Stop::default()).unwrap();
            for ((_, paths), sum) in groups.iter().zip(sums) {
                let below = graph.below(paths.iter().copied());
                prop_assert_eq!(sum, below.into_iter().map(|at| sizes[at]).sum::<u64>());
            }
            // The whole plan has the same layers as that of the script.
            let mut layers = by_auto_layer(&closure, &graph, max_layers, Stop::default()).unwrap();
            layers.iter_mut().for_each(|layer| layer.sort_unstable());
            layers.sort_unstable();
            let mut expected: Vec<Vec<usize>> = expected.into_values().collect();
            expected.sort_unstable();
            prop_assert_eq!(layers, expected);
        }
    }
}
