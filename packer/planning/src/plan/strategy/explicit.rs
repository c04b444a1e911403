//! Layers by the caller's groups. A group names paths, or has predicates that match paths.

use std::collections::HashMap;
use std::fmt;

use fixedbitset::FixedBitSet;
use nixply_documents::wording::quoted;
use regex_automata::meta::{Builder, Config, Regex};
use regex_syntax::hir::{Hir, Look};

use super::Strategy;
use crate::closure::{Closure, PathInfo};
use crate::error::{Error, Result};
use crate::layer::{Plan, PlannedPath};
use crate::plan::graph::Graph;
use crate::plan::{self, Options, Stop};
use crate::store_path::StorePath;

/// The paths of one layer, optionally split into several layers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// The group contains the paths that at least one of these items matches.
    pub items: Vec<Item>,
    /// The split. Absent: one layer.
    pub split: Option<Split>,
}

/// A group of paths, in one layer.
impl FromIterator<StorePath> for Group {
    fn from_iter<I: IntoIterator<Item = StorePath>>(paths: I) -> Self {
        Self { items: paths.into_iter().map(Item::Path).collect(), split: None }
    }
}

/// The split of a group. The strategy sees only the group's paths and the references between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The strategy that splits the group.
    pub strategy: Strategy,
    /// Maximum number of layers.
    pub max_layers: usize,
}

/// A store path, or a predicate. A list of items matches the paths that any of them matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// This path.
    Path(StorePath),
    /// The matched paths and everything that they refer to, directly or indirectly.
    DepsOf(Vec<Item>),
    /// The matched paths and everything that refers to them, directly or indirectly.
    DependentsOf(Vec<Item>),
    /// The matched paths and the paths that are needed only because of them: every chain of references to such a path, from a
    /// path without referrers, goes through a matched path.
    NeededOnlyBy(Vec<Item>),
    /// Paths whose names match the pattern.
    Name(NamePattern),
    /// Paths whose archives have at least this number of bytes.
    MinSize(u64),
    /// Paths whose archives have at most this number of bytes.
    MaxSize(u64),
    /// Paths that all of these items match: every path if the list is empty.
    All(Vec<Item>),
    /// Paths that any of these items matches.
    Any(Vec<Item>),
    /// Paths that none of these items matches.
    Not(Vec<Item>),
}

/// A regular expression that must match the whole name of a store path, without its hash.
#[derive(Clone)]
pub struct NamePattern {
    pattern: String,
    regex: Regex,
}

impl fmt::Debug for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pattern.fmt(f)
    }
}

/// Maximum memory of a compiled expression, in bytes: the limit of the regex crate.
const LARGEST_PATTERN: usize = 10 << 20;

impl PartialEq for NamePattern {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

impl Eq for NamePattern {}

impl NamePattern {
    /// Compiles an expression in the syntax of the regex crate. The error contains the reason and the position.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let wrong = |kind: &dyn fmt::Display, at: &regex_syntax::ast::Span| {
            format!("{kind}, at character {} of {}", at.start.column, quoted(pattern))
        };
        let parsed = regex_syntax::parse(pattern).map_err(|error| match error {
            regex_syntax::Error::Parse(error) => wrong(error.kind(), error.span()),
            regex_syntax::Error::Translate(error) => wrong(error.kind(), error.span()),
            error => error.to_string(),
        })?;
        // The expression is built from parsed parts: a comment in the pattern could swallow text that is added around it.
        let whole = Hir::concat(vec![Hir::look(Look::Start), parsed, Hir::look(Look::End)]);
        let config = Config::new().nfa_size_limit(Some(LARGEST_PATTERN));
        let regex = Builder::new().configure(config).build_from_hir(&whole);
        let regex = regex.map_err(|error| match error.size_limit() {
            Some(_) => format!("it is too large when its repetitions are expanded: {}", quoted(pattern)),
            None => error.to_string(),
        })?;
        Ok(Self { pattern: pattern.to_owned(), regex })
    }
}

/// Returns the layers in the order of their groups. Paths in no group share a last layer. More than `max_layers` layers are
/// an error, because only the caller can decide which groups to merge.
///
/// Objective: the caller's. A path is in the group that names it, otherwise in the first group with a predicate that matches
/// it. A path that two groups name, or that is not in the closure, is an error: otherwise it would silently be in another
/// layer than the user specified, or in none. Cost: O(items x (paths + references)), and the cost of the groups' strategies.
/// Source: the pipelines of nixpkgs' `dockerTools` (`flattenReferencesGraph`: `subcomponent_in`, `subcomponent_out`,
/// `split_paths`, `over`), as predicates; only the order of the groups matters.
pub(super) fn by_groups(
    paths: Vec<PlannedPath>,
    groups: &[Group],
    closure: &Closure,
    max_layers: usize,
    stop: Stop<'_>,
) -> Result<Plan> {
    let assignment = GroupAssignment::of(groups, closure, stop)?;
    let mut taken: Plan = vec![Vec::new(); groups.len() + 1];
    for path in paths {
        let place = closure.place(&path.path).expect("paths to plan are in the closure");
        taken[assignment.group_of[place].unwrap_or(groups.len())].push(path);
    }
    let mut layers = Plan::new();
    for (at, paths) in taken.into_iter().enumerate().filter(|(_, paths)| !paths.is_empty()) {
        match groups.get(at).and_then(|group| group.split.as_ref()) {
            None => layers.push(paths),
            Some(split) => {
                let split = split.layers(paths, closure, stop).map_err(|error| match error {
                    Error::Interrupted => error,
                    error => group_error(at, error),
                })?;
                layers.extend(split);
            }
        }
    }
    if layers.len() > max_layers {
        return Err(Error::MaxLayers { strategy: "explicit", layers: layers.len(), limit: max_layers });
    }
    Ok(layers)
}

/// Returns a warning for each group that has predicates and gets no path. Such a group is not an error. `place` is the place of the
/// groups in the request.
pub fn warnings(groups: &[Group], closure: &Closure, place: &str, stop: Stop<'_>) -> Result<Vec<String>> {
    let assignment = GroupAssignment::of(groups, closure, stop)?;
    let idle = assignment.idle.into_iter().map(|(at, matched)| match matched {
        false => format!(
            "{place}[{at}] matches no path of the layer: loosen its predicates, or remove it"
        ),
        true => format!(
            "{place}[{at}] gets no path: other groups have all paths that it matches; move it before them, or remove it"
        ),
    });
    Ok(idle.collect())
}

fn group_error(at: usize, why: impl ToString) -> Error {
    Error::invalid(format!("explicit layer group {at}"), why)
}

/// The assignment of paths to groups.
struct GroupAssignment {
    /// The group of each path, by its position in the closure.
    group_of: Vec<Option<usize>>,
    /// Groups with predicates that get no path, and whether their predicates match any path.
    idle: Vec<(usize, bool)>,
}

impl GroupAssignment {
    fn of(groups: &[Group], closure: &Closure, stop: Stop<'_>) -> Result<Self> {
        let mut group_of = vec![None; closure.len()];
        for (at, group) in groups.iter().enumerate() {
            for path in group.items.iter().filter_map(Item::path) {
                let place = place_of(path, closure).map_err(|why| group_error(at, why))?;
                if let Some(first) = group_of[place].replace(at) {
                    let why = format!("groups {first} and {at} both name {path}");
                    return Err(Error::invalid("explicit layer groups", why));
                }
            }
        }
        let within = Within { closure, graph: Graph::new(closure) };
        let mut idle = Vec::new();
        for (at, group) in groups.iter().enumerate() {
            let (paths, predicates): (Vec<&Item>, Vec<&Item>) =
                group.items.iter().partition(|item| item.path().is_some());
            if predicates.is_empty() {
                continue;
            }
            stop.check()?;
            let matched = within.any(predicates).map_err(|why| group_error(at, why))?;
            let mut takes = !paths.is_empty();
            for place in matched.ones() {
                takes |= *group_of[place].get_or_insert(at) == at;
            }
            if !takes {
                idle.push((at, !matched.is_clear()));
            }
        }
        Ok(Self { group_of, idle })
    }
}

impl Item {
    fn path(&self) -> Option<&StorePath> {
        match self {
            Self::Path(path) => Some(path),
            _ => None,
        }
    }
}

fn place_of(path: &StorePath, closure: &Closure) -> Result<usize, String> {
    closure.place(path).ok_or_else(|| {
        format!("{path} is not among the layer's paths: remove it from the group, or add it to the image")
    })
}

/// The closure that items are matched against.
struct Within<'c> {
    closure: &'c Closure,
    graph: Graph,
}

impl Within<'_> {
    /// Returns the positions of the paths that any of the items matches.
    fn any<'i>(&self, items: impl IntoIterator<Item = &'i Item>) -> Result<FixedBitSet, String> {
        let mut all = FixedBitSet::with_capacity(self.closure.len());
        for item in items {
            all.union_with(&self.matched(item)?);
        }
        Ok(all)
    }

    fn matched(&self, item: &Item) -> Result<FixedBitSet, String> {
        Ok(match item {
            Item::Path(path) => self.set([place_of(path, self.closure)?]),
            Item::DepsOf(items) => self.set(self.graph.below(self.any(items)?.ones())),
            Item::DependentsOf(items) => self.set(self.graph.above(self.any(items)?.ones())),
            Item::NeededOnlyBy(items) => {
                let gates = self.any(items)?;
                let tops = (0..self.graph.len()).filter(|place| self.graph.referrers(*place).is_empty());
                let mut others = self.set(self.graph.below_without(tops, &gates));
                others.toggle_range(..);
                others
            }
            Item::Name(name) => self.that(|info| name.regex.is_match(info.path.name())),
            Item::MinSize(bytes) => self.that(|info| info.nar_size >= *bytes),
            Item::MaxSize(bytes) => self.that(|info| info.nar_size <= *bytes),
            Item::Any(items) => self.any(items)?,
            Item::All(items) => {
                let mut common = self.that(|_| true);
                for item in items {
                    common.intersect_with(&self.matched(item)?);
                }
                common
            }
            Item::Not(items) => {
                let mut others = self.any(items)?;
                others.toggle_range(..);
                others
            }
        })
    }

    fn that(&self, is: impl Fn(&PathInfo) -> bool) -> FixedBitSet {
        self.set(self.closure.iter().enumerate().filter(|(_, info)| is(info)).map(|(place, _)| place))
    }

    fn set(&self, places: impl IntoIterator<Item = usize>) -> FixedBitSet {
        let mut set = FixedBitSet::with_capacity(self.closure.len());
        places.into_iter().for_each(|place| set.insert(place));
        set
    }
}

impl Split {
    fn layers(&self, paths: Vec<PlannedPath>, closure: &Closure, stop: Stop<'_>) -> Result<Plan> {
        let mut places: Vec<usize> = paths.iter().filter_map(|path| closure.place(&path.path)).collect();
        places.sort_unstable();
        let mut rules: HashMap<_, _> = paths.into_iter().map(|path| (path.path, path.options)).collect();
        let taken = places.into_iter().map(|place| closure.at(place)).map(|info| {
            let references = info.references.iter().filter(|path| rules.contains_key(path));
            PathInfo { references: references.cloned().collect(), ..info.clone() }
        });
        let taken = Closure::new(taken);
        let (strategy, max_layers) = (self.strategy, self.max_layers);
        let mut plan = plan::plan(&taken, &Options { strategy, max_layers, stop, ..Options::default() })?;
        for path in plan.iter_mut().flatten() {
            path.options = rules.remove(&path.path).expect("the plan has exactly the group's paths");
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Perm;
    use crate::rules::PermPath;

    fn path(name: &str) -> StorePath {
        StorePath::parse(&format!("/nix/store/{}-{name}", "0".repeat(32))).unwrap()
    }

    /// app refers to python and conf, python to openssl and glibc, openssl to glibc; docs has no references. Sizes are in MB.
    fn sample() -> Closure {
        let paths: [(&str, u64, &[&str]); 6] = [
            ("app-1.0", 2, &["python3-3.12", "conf"]),
            ("conf", 0, &[]),
            ("docs-1.0-doc", 9, &[]),
            ("glibc-2.40", 30, &[]),
            ("openssl-3.0", 8, &["glibc-2.40"]),
            ("python3-3.12", 100, &["openssl-3.0", "glibc-2.40"]),
        ];
        Closure::new(paths.map(|(name, megabytes, references)| PathInfo {
            path: path(name),
            references: references.iter().map(|name| path(name)).collect(),
            nar_hash: String::new(),
            nar_size: megabytes * 1_000_000,
        }))
    }

    fn named(pattern: &str) -> Item {
        Item::Name(NamePattern::new(pattern).unwrap())
    }

    fn group(items: impl Into<Vec<Item>>) -> Group {
        Group { items: items.into(), split: None }
    }

    fn planned(groups: impl Into<Vec<Group>>, max_layers: usize) -> Result<Vec<String>> {
        let (strategy, groups) = (Strategy::Explicit, groups.into());
        let options = Options { strategy, groups: &groups, max_layers, ..Options::default() };
        let plan = crate::plan::plan(&sample(), &options)?;
        let short = |path: &PlannedPath| path.path.name().split('-').next().unwrap().to_owned();
        Ok(plan.iter().map(|layer| layer.iter().map(short).collect::<Vec<_>>().join(" ")).collect())
    }

    /// Returns the paths that an item matches, sorted.
    fn matched(item: Item) -> String {
        let mut layers = planned([group([item])], 2).unwrap();
        let mut first: Vec<&str> = layers[0].split(' ').collect();
        first.sort_unstable();
        let first = first.join(" ");
        layers.truncate(1);
        first
    }

    #[test]
    fn predicates_match_the_documented_paths() {
        let python = || Item::Path(path("python3-3.12"));
        assert_eq!(matched(Item::DepsOf(vec![python()])), "glibc openssl python3");
        assert_eq!(matched(Item::DependentsOf(vec![python()])), "app python3");
        assert_eq!(matched(Item::DepsOf(vec![named("openssl.*"), named("conf")])), "conf glibc openssl");
        assert_eq!(matched(Item::NeededOnlyBy(vec![python()])), "glibc openssl python3");
        assert_eq!(matched(Item::NeededOnlyBy(vec![named("openssl.*")])), "openssl");
        assert_eq!(matched(Item::NeededOnlyBy(vec![named("app-.*")])), "app conf glibc openssl python3");
        assert_eq!(matched(Item::NeededOnlyBy(vec![named("conf|glibc.*")])), "conf glibc");
        assert_eq!(matched(Item::MinSize(30_000_000)), "glibc python3");
        assert_eq!(matched(Item::MaxSize(8_000_000)), "app conf openssl");
        assert_eq!(matched(Item::All(vec![Item::MinSize(1), Item::MaxSize(8_000_000)])), "app openssl");
        assert_eq!(matched(Item::All(vec![])), "app conf docs glibc openssl python3");
        assert_eq!(matched(Item::Any(vec![python(), named("conf")])), "conf python3");
        assert_eq!(matched(Item::Not(vec![Item::DepsOf(vec![python()]), named("conf")])), "app docs");
        assert_eq!(matched(Item::Not(vec![])), "app conf docs glibc openssl python3");
    }

    #[test]
    fn a_name_is_matched_as_a_whole_without_its_hash() {
        assert_eq!(matched(named(".*-doc|conf")), "conf docs");
        assert_eq!(matched(named("con|conf")), "conf");
        assert_eq!(matched(named("(?x) conf # not only")), "conf");
        for none in ["onf", "con", "0.*", "/nix/.*"] {
            assert_eq!(planned([group([named(none)])], 1).unwrap().len(), 1, "{none}");
        }
        let wrong = |pattern: &str| NamePattern::new(pattern).unwrap_err();
        assert_eq!(wrong("lib(foo"), "unclosed group, at character 4 of \"lib(foo\"");
        assert_eq!(wrong("*"), "repetition operator missing expression, at character 1 of \"*\"");
        assert_eq!(wrong("a\\p{none}"), "Unicode property not found, at character 2 of \"a\\\\p{none}\"");
        assert!(wrong("(a{1000}){1000}").starts_with("it is too large when"), "{}", wrong("(a{1000}){1000}"));
    }

    #[test]
    fn the_first_group_takes_a_path_unless_another_names_it() {
        let all = || group([Item::All(vec![])]);
        assert_eq!(planned([all(), all()], 1).unwrap(), ["glibc openssl conf python3 docs app"]);
        assert_eq!(
            planned([all(), [path("glibc-2.40")].into_iter().collect()], 2).unwrap(),
            ["openssl conf python3 docs app", "glibc"]
        );
        // A path within a predicate does not count as named by the group, so two groups may have it.
        let glibc = || group([Item::Any(vec![Item::Path(path("glibc-2.40"))])]);
        assert_eq!(planned([glibc(), glibc()], 2).unwrap(), ["glibc", "openssl conf python3 docs app"]);
        let named = || [path("glibc-2.40")].into_iter().collect();
        let error = planned([named(), named()], 9).unwrap_err().to_string();
        assert!(error.contains("groups 0 and 1 both name") && error.contains("glibc-2.40"), "{error}");
    }

    #[test]
    fn an_absent_path_is_an_error_at_any_depth() {
        let gone = || Item::Path(path("gone"));
        for item in [gone(), Item::Not(vec![gone()]), Item::All(vec![Item::DepsOf(vec![gone()])])] {
            let error = planned([group([named("conf")]), group([item])], 9).unwrap_err().to_string();
            let expected = format!("explicit layer group 1 is not valid: {} is not among", path("gone"));
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn a_group_is_split_by_its_own_strategy() {
        let split = |strategy, max_layers| Group {
            items: vec![Item::DepsOf(vec![named("python3-.*")])],
            split: Some(Split { strategy, max_layers }),
        };
        assert_eq!(
            planned([split(Strategy::Popularity, 2)], 3).unwrap(),
            ["glibc", "openssl python3", "conf docs app"]
        );
        assert_eq!(
            planned([split(Strategy::PerPath, 3)], 4).unwrap(),
            ["glibc", "openssl", "python3", "conf docs app"]
        );
        assert!(matches!(
            planned([split(Strategy::PerPath, 3)], 3).unwrap_err(),
            Error::MaxLayers { strategy: "explicit", layers: 4, limit: 3 }
        ));
        let error = planned([split(Strategy::PerPath, 2)], 9).unwrap_err().to_string();
        assert_eq!(
            error,
            "explicit layer group 0 is not valid: strategy per-path makes 3 layers, but maxLayers is 2: raise maxLayers, or \
             merge groups"
        );
    }

    #[test]
    fn split_paths_keep_their_rules_and_paths_of_a_parent_are_omitted() {
        let below = PlannedPath { path: path("glibc-2.40"), options: None };
        let perm = Perm { mode: "0700".into(), ..Perm::default() };
        let perms = [PermPath { path: path("openssl-3.0").to_string(), perm }];
        let split = Some(Split { strategy: Strategy::Popularity, max_layers: 9 });
        let groups = vec![Group { items: vec![Item::DepsOf(vec![named("python3.*")])], split }];
        let (strategy, groups) = (Strategy::Explicit, &groups);
        let parents = vec![&below];
        let options =
            Options { strategy, groups, max_layers: 9, perms: &perms, parents, ..Options::default() };
        let plan = crate::plan::plan(&sample(), &options).unwrap();
        let rules = |path: &PlannedPath| path.options.as_ref().map_or(0, |options| options.perms.len());
        let layer = |layer: &Vec<PlannedPath>| layer.iter().map(rules).collect::<Vec<_>>();
        assert_eq!(plan.iter().map(layer).collect::<Vec<_>>(), [vec![1], vec![0], vec![0, 0, 0]]);
    }

    #[test]
    fn groups_that_get_no_path_produce_warnings() {
        let groups = [
            group([named("gone")]),
            group([Item::Path(path("conf")), named("gone")]),
            group([]),
            group([Item::All(vec![])]),
            group([Item::MinSize(1)]),
        ];
        assert_eq!(
            warnings(&groups, &sample(), "layers[1].groups", Stop::default()).unwrap(),
            [
                "layers[1].groups[0] matches no path of the layer: loosen its predicates, or remove it",
                "layers[1].groups[4] gets no path: other groups have all paths that it matches; move it before them, or remove it"
            ]
        );
    }
}
