//! Paths by size: the large ones alone, the rest in bins that stay put.

use std::collections::HashMap;

use super::{Plan, PlannedPath};
use crate::closure::{Closure, StorePath};

/// Three quarters of the layers hold one path each, the largest; the others are bins that the rest is spread over by a
/// hash of the package's name.
///
/// Objective: few bytes move when a path changes. A change of a large path moves that path alone; a change of a small
/// one moves its bin, which has a small share of what little the large ones leave. Where a path goes depends on its
/// name, its rank and the number of layers, not on its hash or on what else is there, so a plan made anew for the
/// next release keeps its layers. O(paths), then a sort. Source: chunkah's bins by name and outliers by size, without
/// its tiers of stability, of which a closure knows nothing.
pub(super) fn by_size(paths: Vec<PlannedPath>, closure: &Closure, max_layers: usize) -> Plan {
    if paths.len() <= max_layers {
        return by_name(paths).into_iter().map(|path| vec![path]).collect();
    }
    let alone = max_layers * 3 / 4;
    let size = |path: &StorePath| closure.get(path).map_or(0, |info| info.nar_size);
    let sizes: HashMap<StorePath, u64> =
        paths.iter().map(|path| (path.path.clone(), size(&path.path))).collect();
    let mut sorted = by_name(paths);
    sorted.sort_by_key(|path| std::cmp::Reverse(sizes[&path.path]));
    let rest = by_name(sorted.split_off(alone));
    let mut layers: Plan = by_name(sorted).into_iter().map(|path| vec![path]).collect();
    let mut bins: Plan = vec![Vec::new(); max_layers - alone];
    for path in rest {
        let hash = blake3::hash(package(&path.path).as_bytes());
        let number = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"));
        let bin = (number % bins.len() as u64) as usize;
        bins[bin].push(path);
    }
    layers.extend(bins.into_iter().filter(|bin| !bin.is_empty()));
    layers
}

/// Sorted by what does not change with a rebuild first.
fn by_name(mut paths: Vec<PlannedPath>) -> Vec<PlannedPath> {
    paths.sort_by(|a, b| (package(&a.path), &a.path).cmp(&(package(&b.path), &b.path)));
    paths
}

/// A store path's name without its hash and, as `builtins.parseDrvName` tells them apart, its version: what is after
/// the first dash that no letter follows.
fn package(path: &StorePath) -> &str {
    let base = path.as_str().rsplit('/').next().unwrap_or_default();
    let name = base.split_once('-').map_or(base, |(_, name)| name);
    let version = name
        .match_indices('-')
        .map(|(at, _)| at)
        .find(|at| name[at + 1..].chars().next().is_some_and(|next| !next.is_ascii_alphabetic()));
    &name[..version.unwrap_or(name.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::closure::PathInfo;

    fn closure(sizes: &[(&str, u64)]) -> (Closure, Vec<PlannedPath>) {
        let info = |(name, size): &(&str, u64)| PathInfo {
            path: format!("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-{name}").into(),
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
        by_size(paths, &closure, max_layers).iter().map(|layer| layer.iter().map(name).collect()).collect()
    }

    #[test]
    fn packages_have_no_version() {
        for (name, expected) in
            [("gcc-13.2.0-lib", "gcc"), ("x11-utils", "x11-utils"), ("hello", "hello"), ("a-b-1", "a-b")]
        {
            let path = StorePath::from(format!("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-{name}"));
            assert_eq!(package(&path), expected);
        }
    }

    #[test]
    fn the_largest_are_alone_and_the_rest_is_in_bins() {
        let sizes: Vec<(String, u64)> =
            (0..40).map(|at| (format!("p{at}-1.{at}"), 1 + (at * 7) % 40)).collect();
        let sizes: Vec<(&str, u64)> = sizes.iter().map(|(name, size)| (&name[..], *size)).collect();
        let plan = planned(&sizes, 12);
        assert_eq!(plan.iter().flatten().count(), 40);
        assert!(plan.len() <= 12);
        let alone: Vec<&str> = plan[..9].iter().map(|layer| &layer[0][..]).collect();
        assert!(plan[..9].iter().all(|layer| layer.len() == 1));
        let mut largest: Vec<(&str, u64)> = sizes.clone();
        largest.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        assert!(largest[..9].iter().all(|(name, _)| alone.contains(name)));
        assert_eq!(planned(&sizes, 1).len(), 1);
        assert_eq!(planned(&sizes, 40).len(), 40);
    }

    #[test]
    fn a_path_that_comes_goes_or_changes_moves_no_other() {
        let mut sizes: Vec<(String, u64)> =
            (0..60).map(|at| (format!("p{at}-1"), 1000 - at * at / 4)).collect();
        let plan = |sizes: &[(String, u64)]| {
            planned(&sizes.iter().map(|(name, size)| (&name[..], *size)).collect::<Vec<_>>(), 20)
        };
        let before = plan(&sizes);
        // Small ones: the ranks of the large ones stay.
        sizes[50].0 = "p50-2".into();
        sizes.push(("new-1".into(), 1));
        sizes.remove(55);
        let after = plan(&sizes);
        let changed = before.iter().filter(|layer| !after.contains(layer)).count();
        assert!(changed <= 3, "{changed} layers for three changes");
    }
}
