//! Layers by size: each large path alone, the rest in stable bins, and the paths that change most often on top.

use crate::closure::Closure;
use crate::error::Result;
use crate::layer::{Plan, PlannedPath};
use crate::plan::graph::Graph;
use crate::plan::name::Name;
use crate::store_path::StorePath;

/// One of eight layers is for small paths that no other path refers to. Three quarters of the remaining layers hold one path
/// each, the largest ones. The others are bins. A hash of a small path's package name selects its bin. If there are at most
/// as many paths as layers, each small path has its own layer instead.
///
/// Objective: few bytes move when a path changes. A change of a large path moves only that path. A change of a small path
/// moves its bin, which holds a small share of the bytes that the large paths leave. The position of a path depends on its
/// name, its rank by size, whether other paths refer to it, and the number of layers, but not on its hash. So a new plan for
/// the next release keeps its layers. Cost: O(paths + references), then a sort. Source: chunkah's bins by name and outliers
/// by size, without its stability tiers.
///
/// From the bottom up, a large path is above all large paths that it refers to. When a path changes, all its referrers change
/// too, and engines (Docker, and podman's overlay storage) unpack all layers again that are above a changed layer. The order
/// is by height, which depends only on the path's own closure, so unchanged paths keep their order. Bins are above the large
/// paths, because one of many paths changes often. Paths without referrers are on top.
pub(super) fn by_size(
    paths: Vec<PlannedPath>,
    closure: &Closure,
    graph: &Graph,
    max_layers: usize,
) -> Result<Plan> {
    let heights = Heights::new(closure, graph)?;
    let binned = paths.len() > max_layers;
    let for_roots = if max_layers < 4 { 0 } else { (max_layers / 8).max(1) };
    let for_large = (max_layers - for_roots) * 3 / 4;
    let for_rest = max_layers - for_roots - for_large;
    let size = |path: &PlannedPath| closure.get(&path.path).map_or(0, |info| info.nar_size);
    let mut large: Vec<(u64, PlannedPath)> =
        by_name(paths).into_iter().map(|path| (size(&path), path)).collect();
    large.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
    let small = large.split_off(for_large.min(large.len())).into_iter().map(|(_, path)| path);
    let is_root = |path: &PlannedPath| heights.is_root(&path.path);
    let (roots, rest): (Vec<_>, Vec<_>) = small.partition(|path| for_roots > 0 && is_root(path));
    let large = large.into_iter().map(|(_, path)| path).collect();
    let (large_roots, large) = heights.bottom_up(large).into_iter().partition::<Vec<_>, _>(is_root);
    let alone = |paths: Vec<PlannedPath>| -> Plan { paths.into_iter().map(|path| vec![path]).collect() };
    let spread = |paths, count| if binned { bins(paths, count) } else { alone(heights.bottom_up(paths)) };
    Ok([alone(large), spread(rest, for_rest), alone(large_roots), spread(roots, for_roots)].concat())
}

/// Spreads paths over at most `count` layers by their packages' names.
fn bins(paths: Vec<PlannedPath>, count: usize) -> Plan {
    let mut bins: Plan = vec![Vec::new(); count];
    for path in by_name(paths) {
        let hash = blake3::hash(Name::of(&path.path).package.as_bytes());
        let number = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"));
        bins[(number % count as u64) as usize].push(path);
    }
    bins.retain(|bin| !bin.is_empty());
    bins
}

/// Heights of paths in the reference graph.
struct Heights<'c> {
    closure: &'c Closure,
    graph: &'c Graph,
    /// For each path, the length of the longest chain of references below it.
    heights: Vec<usize>,
}

impl<'c> Heights<'c> {
    fn new(closure: &'c Closure, graph: &'c Graph) -> Result<Self> {
        let mut heights = vec![0; graph.len()];
        for at in graph.bottom_up(closure)? {
            heights[at] = graph.references(at).iter().map(|below| heights[*below] + 1).max().unwrap_or(0);
        }
        Ok(Self { closure, graph, heights })
    }

    /// Returns whether no other path refers to this one.
    fn is_root(&self, path: &StorePath) -> bool {
        self.closure.place(path).is_none_or(|at| self.graph.referrers(at).is_empty())
    }

    /// Returns the paths sorted by height; paths of equal height by name.
    fn bottom_up(&self, paths: Vec<PlannedPath>) -> Vec<PlannedPath> {
        let mut paths = by_name(paths);
        paths.sort_by_key(|path| self.closure.place(&path.path).map(|at| self.heights[at]));
        paths
    }
}

/// Sorts by package name, which does not change with a rebuild, then by store path.
fn by_name(mut paths: Vec<PlannedPath>) -> Vec<PlannedPath> {
    paths.sort_by_cached_key(|path| (Name::of(&path.path).package.to_owned(), path.path.clone()));
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::closure::PathInfo;
    use crate::store_path::StorePath;

    fn closure(sizes: &[(&str, u64)]) -> (Closure, Vec<PlannedPath>) {
        let info = |(name, size): &(&str, u64)| PathInfo {
            path: StorePath::parse(&format!("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-{name}")).unwrap(),
            references: Vec::new(),
            nar_hash: String::new(),
            nar_size: *size,
        };
        let closure = Closure::new(sizes.iter().map(info));
        let paths = closure.iter().map(|info| PlannedPath { path: info.path.clone(), options: None });
        let paths = paths.collect();
        (closure, paths)
    }

    fn planned(sizes: &[(&str, u64)], max_layers: usize) -> Vec<Vec<String>> {
        let (closure, paths) = closure(sizes);
        let name = |path: &PlannedPath| path.path.as_str().rsplit_once("wxyz-").unwrap().1.to_owned();
        by_size(paths, &closure, &Graph::new(&closure), max_layers)
            .unwrap()
            .iter()
            .map(|layer| layer.iter().map(name).collect())
            .collect()
    }

    #[test]
    fn the_largest_paths_are_alone_and_the_rest_is_in_bins() {
        let sizes: Vec<(String, u64)> =
            (0..40).map(|at| (format!("p{at}-1.{at}"), 1 + (at * 7) % 40)).collect();
        let sizes: Vec<(&str, u64)> = sizes.iter().map(|(name, size)| (&name[..], *size)).collect();
        let plan = planned(&sizes, 12);
        assert_eq!(plan.iter().flatten().count(), 40);
        assert!(plan.len() <= 12);
        let alone: Vec<&str> =
            plan.iter().filter(|layer| layer.len() == 1).map(|layer| &layer[0][..]).collect();
        assert!(alone.len() >= 8, "{plan:?}");
        let mut largest: Vec<(&str, u64)> = sizes.clone();
        largest.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        assert!(largest[..8].iter().all(|(name, _)| alone.contains(name)));
        assert_eq!(planned(&sizes, 1).len(), 1);
        assert_eq!(planned(&sizes, 40).len(), 40);
    }

    /// When a path changes, all its referrers change. Among large paths, all of these are above the unchanged ones.
    #[test]
    fn referrers_are_above_their_references_and_roots_on_top() {
        let edges: [(&str, u64, &[&str]); 9] = [
            ("app-1", 1, &["tool-1", "lib-1"]),
            ("script-1", 2, &["tool-1"]),
            ("tool-1", 50, &["lib-1", "tool-1"]),
            ("lib-1", 40, &["libc-1", "data-1"]),
            ("libc-1", 60, &[]),
            ("data-1", 30, &[]),
            ("zoneinfo-1", 3, &[]),
            ("acl-1", 4, &["libc-1"]),
            ("user-1", 5, &["zoneinfo-1", "acl-1"]),
        ];
        let path = |name: &str| {
            StorePath::parse(&format!("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-{name}")).unwrap()
        };
        let closure = Closure::new(edges.iter().map(|(name, size, references)| PathInfo {
            path: path(name),
            references: references.iter().map(|name| path(name)).collect(),
            nar_hash: String::new(),
            nar_size: *size,
        }));
        let plan = |max_layers| -> Vec<String> {
            let paths = closure.iter().map(|info| PlannedPath { path: info.path.clone(), options: None });
            let name = |path: &PlannedPath| path.path.as_str().rsplit_once("wxyz-").unwrap().1.to_owned();
            let plan = by_size(paths.collect(), &closure, &Graph::new(&closure), max_layers).unwrap();
            plan.iter().map(|layer| layer.iter().map(name).collect::<Vec<_>>().join(" ")).collect()
        };
        // Six large paths, and small paths, each in its own layer if there are enough layers. Of the three roots, user-1 is large.
        let expected =
            ["data-1", "libc-1", "acl-1", "lib-1", "tool-1", "zoneinfo-1", "user-1", "app-1", "script-1"];
        assert_eq!(plan(9), expected);
        assert_eq!(plan(8)[..4], ["data-1", "libc-1", "lib-1", "tool-1"]);
        assert_eq!(plan(8)[plan(8).len() - 2..], ["user-1", "app-1 script-1"]);
        assert_eq!(plan(5).last().unwrap(), "app-1 script-1 user-1");
        for max_layers in 1..12 {
            let plan = plan(max_layers);
            assert!(plan.len() <= max_layers, "{max_layers}: {plan:?}");
            assert_eq!(plan.iter().flat_map(|layer| layer.split(' ')).count(), 9, "{max_layers}");
        }
    }

    /// In the second release, a library and all its referrers have changed, and there is one more path. Layers of unchanged
    /// paths are the same, in the same order.
    #[test]
    fn layers_of_unchanged_paths_keep_their_order() {
        let name = |at: usize, release: usize| {
            // Every third path refers to the one at a third of its number.
            let changed = [30, 90, 270].contains(&at) && release == 2;
            let first = if changed { '1' } else { '0' };
            StorePath::parse(&format!("/nix/store/{first}123456789abcdfghijklmnpqrsvwxyz-p{at}-1")).unwrap()
        };
        let plan = |release, paths| {
            let closure = Closure::new((1..=paths).map(|at| PathInfo {
                path: name(at, release),
                references: if at % 3 == 0 { vec![name(at / 3, release)] } else { Vec::new() },
                nar_hash: String::new(),
                // Path 101, which is added below, is small.
                nar_size: if at == 101 { 1 } else { (at as u64 * 7919) % 1009 * 1000 },
            }));
            let all = closure.iter().map(|info| PlannedPath { path: info.path.clone(), options: None });
            by_size(all.collect(), &closure, &Graph::new(&closure), 100).unwrap()
        };
        let kept = |plan: &Plan, other: &Plan| -> Vec<_> {
            plan.iter().filter(|layer| other.contains(layer)).cloned().collect()
        };
        let (before, after) = (plan(1, 300), plan(2, 301));
        let changed = before.len() - kept(&before, &after).len();
        assert!(
            changed <= 4,
            "{changed} layers changed, expected three with a changed path and the new path's bin"
        );
        assert_eq!(kept(&before, &after), kept(&after, &before), "unchanged layers are in another order");
        // At first there are as many paths as layers, then one path more.
        let (before, after) = (plan(1, 100), plan(1, 101));
        assert_eq!(before.len(), 100);
        let same = before.iter().zip(&after).take_while(|(before, after)| before == after).count();
        assert!(
            same > 20,
            "only the lowest {same} layers are unchanged; large paths with referrers are there"
        );
    }

    #[test]
    fn nix2container_204_adding_removing_or_changing_a_path_moves_no_other() {
        let mut sizes: Vec<(String, u64)> =
            (0..60).map(|at| (format!("p{at}-1"), 1000 - at * at / 4)).collect();
        let plan = |sizes: &[(String, u64)]| {
            planned(&sizes.iter().map(|(name, size)| (&name[..], *size)).collect::<Vec<_>>(), 20)
        };
        let before = plan(&sizes);
        // Small paths: the ranks of the large ones do not change.
        sizes[50].0 = "p50-2".into();
        sizes.push(("new-1".into(), 1));
        sizes.remove(55);
        let after = plan(&sizes);
        let changed = before.iter().filter(|layer| !after.contains(layer)).count();
        assert!(changed <= 3, "{changed} layers for three changes");
    }
}
