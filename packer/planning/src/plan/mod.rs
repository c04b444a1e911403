//! Plans which store paths share a layer, and the order of the layers. Planning is pure and deterministic, reads no files, and its
//! result can be printed.
//!
//! A [`Strategy`] groups the closure's paths. Two rules apply to every strategy before it runs: ignored paths are dropped,
//! and a path that a parent layer already has, with equal rules, is not packed again.

mod fleet;
mod graph;
mod layer_assigner;
mod lock;
pub mod lock_names;
mod name;
mod stop;
pub mod strategy;

use std::collections::{HashMap, HashSet};

pub use self::fleet::plan_fleet;
pub use self::fleet::plan_fleet_until;
pub use self::graph::Graph;
pub use self::layer_assigner::LayerAssigner;
pub use self::layer_assigner::Member;
pub use self::lock::Lock;
pub use self::lock_names::check_image as check_image_name;
pub use self::name::{Name, keys};
pub use self::stop::Stop;
use self::strategy::Strategy;
pub use self::strategy::explicit::{self, Group};
pub use self::strategy::popularity::by_popularity;
use crate::closure::Closure;
use crate::error::Result;
use crate::layer::PathOptions;
pub use crate::layer::Plan;
use crate::layer::PlannedPath;
use crate::rules::{PermPath, RewritePath};
use crate::store_path::StorePath;

/// Settings of a plan, apart from the closure.
#[derive(Debug, Clone, Default)]
pub struct Options<'a> {
    /// The strategy that groups paths.
    pub strategy: Strategy,
    /// The groups of [`Strategy::Explicit`], in order.
    pub groups: &'a [Group],
    /// Maximum number of layers; 0 counts as 1.
    pub max_layers: usize,
    /// Placement rules. For one path, the last rule applies.
    pub rewrites: &'a [RewritePath],
    /// Ownership rules. For one path, all rules apply, in order.
    pub perms: &'a [PermPath],
    /// Paths to omit, even if other paths refer to them.
    pub ignore: &'a [StorePath],
    /// Paths that the layers below already have.
    pub parents: Vec<&'a PlannedPath>,
    /// Further paths of the layers below, as a set that many layers share.
    pub below: Option<&'a HashSet<PlannedPath>>,
    /// The layer assigner for [`Strategy::MinChurn`], and the image's name for it. Without one, each closure is planned by
    /// itself.
    pub assigner: Option<(&'a dyn LayerAssigner, &'a str)>,
    /// Stop signal.
    pub stop: Stop<'a>,
}

/// Plans `closure`. The closure's order decides ties. Pass it in canonical order ([`Closure::of_roots`]) for a plan that
/// depends on nothing else.
pub fn plan(closure: &Closure, options: &Options<'_>) -> Result<Plan> {
    let mut rules: HashMap<&str, PathOptions> = HashMap::new();
    for perm in options.perms {
        rules.entry(&perm.path).or_default().perms.push(perm.perm.clone());
    }
    for rewrite in options.rewrites {
        rules.entry(&rewrite.path).or_default().rewrite = rewrite.rewrite.clone();
    }
    let parents: HashSet<&PlannedPath> = options.parents.iter().copied().collect();
    let ignored: HashSet<&StorePath> = options.ignore.iter().collect();
    let below = |path: &PlannedPath| options.below.is_some_and(|below| below.contains(path));
    let stop = options.stop;
    stop.check()?;
    let paths: Vec<PlannedPath> = by_popularity(closure)?
        .into_iter()
        .filter(|path| !ignored.contains(path))
        .map(|path| PlannedPath { options: rules.remove(path.as_str()), path })
        .filter(|path| !parents.contains(path) && !below(path))
        .collect();
    if paths.is_empty() {
        return Ok(Plan::new());
    }
    options.strategy.layers(paths, closure, options)
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::closure::PathInfo;
    use crate::error::Error;

    fn names(plan: &Plan) -> Vec<Vec<&str>> {
        plan.iter().map(|layer| layer.iter().map(|path| path.path.name()).collect()).collect()
    }

    fn sample() -> Closure {
        Closure::named(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &["c"])])
    }

    #[test]
    fn popularity_puts_the_rest_in_one_layer() {
        let options =
            |max_layers| Options { strategy: Strategy::Popularity, max_layers, ..Options::default() };
        let planned = |max_layers| plan(&sample(), &options(max_layers)).unwrap();
        assert_eq!(names(&planned(0)), [vec!["c", "b", "a"]]);
        assert_eq!(names(&planned(1)), [vec!["c", "b", "a"]]);
        assert_eq!(names(&planned(2)), [vec!["c"], vec!["b", "a"]]);
        assert_eq!(names(&planned(9)), [["c"], ["b"], ["a"]]);
    }

    #[test]
    fn single_makes_one_layer_and_per_path_one_for_each_path() {
        let planned =
            |strategy, max_layers| plan(&sample(), &Options { strategy, max_layers, ..Options::default() });
        assert_eq!(names(&planned(Strategy::Single, 100).unwrap()), [vec!["c", "b", "a"]]);
        assert_eq!(names(&planned(Strategy::PerPath, 3).unwrap()), [["c"], ["b"], ["a"]]);
        let error = planned(Strategy::PerPath, 2).unwrap_err().to_string();
        assert!(error.contains("makes 3 layers") && error.contains("maxLayers is 2: raise"), "{error}");
    }

    #[test]
    fn explicit_groups_contain_the_named_paths() {
        let planned = |groups: &[&[&str]]| {
            let groups: Vec<Group> = groups
                .iter()
                .map(|group| group.iter().map(|name| StorePath::named(name)).collect())
                .collect();
            let strategy = Strategy::Explicit;
            plan(&sample(), &Options { strategy, groups: &groups, max_layers: 2, ..Options::default() })
        };
        assert_eq!(names(&planned(&[&["a"]]).unwrap()), [vec!["a"], vec!["c", "b"]]);
        assert!(
            planned(&[&["a", "gone"]])
                .unwrap_err()
                .to_string()
                .contains(&format!("group 0 is not valid: {} is not among", StorePath::named("gone")))
        );
        assert!(
            planned(&[&["a"], &["a"]])
                .unwrap_err()
                .to_string()
                .contains(&format!("groups 0 and 1 both name {}", StorePath::named("a")))
        );
        assert!(matches!(
            planned(&[&["a"], &["b"]]).unwrap_err(),
            Error::MaxLayers { strategy: "explicit", layers: 3, limit: 2 }
        ));
    }

    #[test]
    fn a_path_of_a_parent_is_omitted_only_with_equal_rules() {
        let path = |options| PlannedPath { path: StorePath::named("c"), options };
        let (same, other) = (path(None), path(Some(PathOptions::default())));
        let options =
            |parent| Options { strategy: Strategy::Popularity, parents: vec![parent], ..Options::default() };
        let planned = |parent| plan(&sample(), &options(parent)).unwrap();
        assert_eq!(names(&planned(&same)), [["b", "a"]]);
        assert_eq!(names(&planned(&other)), [["c", "b", "a"]]);
    }

    #[test]
    fn a_closure_of_ignored_paths_has_no_layer() {
        let ignore = ["a", "b", "c"].map(StorePath::named);
        assert!(plan(&sample(), &Options { ignore: &ignore, ..Options::default() }).unwrap().is_empty());
    }

    /// Paths 00 to 39 with these references, which point only to larger numbers: no cycles. Each pair of paths are versions
    /// of one package. All sizes differ.
    fn random(edges: &[(usize, usize)], hash: char) -> Vec<PathInfo> {
        let path = |at: usize| -> StorePath {
            StorePath::parse(&format!("/nix/store/{}-p{:02}-{at}", hash.to_string().repeat(32), at / 2))
                .unwrap()
        };
        let info = |at| PathInfo {
            path: path(at),
            references: edges
                .iter()
                .filter(|(from, to)| *from == at && *to >= at)
                .map(|(_, to)| path(*to))
                .collect(),
            nar_hash: String::new(),
            nar_size: (1 << (at % 11)) * 1000 + at as u64,
        };
        (0..40).map(info).collect()
    }

    /// The plan's paths without their hashes.
    fn numbers(infos: Vec<PathInfo>, strategy: Strategy, max_layers: usize) -> Vec<Vec<String>> {
        let plan =
            plan(&Closure::new(infos), &Options { strategy, max_layers, ..Options::default() }).unwrap();
        let number = |path: &PlannedPath| path.path.as_str().rsplit_once('-').unwrap().1.to_owned();
        plan.iter().map(|layer| layer.iter().map(number).collect()).collect()
    }

    #[test]
    fn min_churn_separates_paths_that_change_often_from_large_paths() {
        let closure = Closure::named(&[
            ("app-1", &["jdk-17", "glibc-2", "conf"]),
            ("conf", &[]),
            ("glibc-2", &[]),
            ("jdk-17", &["glibc-2"]),
        ]);
        let sizes = HashMap::from([("app", 1), ("conf", 1), ("glibc", 40), ("jdk", 300)]);
        let closure = Closure::new(closure.iter().cloned().map(|mut info| {
            info.nar_size = sizes[Name::of(&info.path).package];
            info
        }));
        let options = Options { strategy: Strategy::MinChurn, max_layers: 3, ..Options::default() };
        assert_eq!(
            names(&plan(&closure, &options).unwrap()),
            [vec!["glibc-2"], vec!["jdk-17"], vec!["app-1", "conf"]]
        );
    }

    proptest! {
        #[test]
        fn plans_are_complete_within_the_limit_and_independent_of_order(
            edges in proptest::collection::vec((0usize..40, 0usize..40), 0..160), max_layers in 1usize..50,
            turn in 0usize..40,
        ) {
            for strategy in [Strategy::AutoLayer, Strategy::MinChurn, Strategy::Size] {
                let infos = random(&edges, 'a');
                let layers = numbers(infos.clone(), strategy, max_layers);
                prop_assert!(layers.len() <= max_layers && layers.iter().all(|layer| !layer.is_empty()));
                let mut all: Vec<usize> = layers.iter().flatten().map(|number| number.parse().unwrap()).collect();
                all.sort_unstable();
                prop_assert_eq!(all, (0..40).collect::<Vec<_>>());
                // The plan does not depend on the order of the closure, here rotated and reversed.
                let mut turned = infos;
                turned.rotate_left(turn);
                turned.reverse();
                prop_assert_eq!(&numbers(turned, strategy, max_layers), &layers);
                // The plan does not depend on hashes.
                prop_assert_eq!(&numbers(random(&edges, 'b'), strategy, max_layers), &layers);
            }
        }
    }

    proptest! {
        #[test]
        fn every_path_is_in_exactly_one_layer(
            edges in proptest::collection::vec((0usize..40, 0usize..40), 0..160), max_layers in 0usize..50,
        ) {
            // References point only to larger numbers: no cycles.
            let infos = (0..40).map(|at| PathInfo {
                path: StorePath::named(&format!("{at:02}")),
                references: edges.iter().filter(|(from, to)| *from == at && *to >= at)
                    .map(|(_, to)| StorePath::named(&format!("{to:02}"))).collect(),
                nar_hash: String::new(),
                nar_size: 0,
            });
            let options = Options { strategy: Strategy::Popularity, max_layers, ..Options::default() };
            let plan = plan(&Closure::new(infos), &options).unwrap();
            let mut paths: Vec<_> = plan.iter().flatten().map(|path| path.path.name().to_owned()).collect();
            paths.sort();
            prop_assert_eq!(paths, (0..40).map(|at| format!("{at:02}")).collect::<Vec<_>>());
            prop_assert_eq!(plan.len(), max_layers.clamp(1, 40));
        }
    }
}
