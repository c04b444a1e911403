//! Strategy `min-churn`: minimizes the bytes that a release is expected to move.

mod change_history;
mod coarsen;
mod cost;
mod events;
mod exchange;
mod exhaustive;
mod groups;
mod merge;
mod problem;
mod units;
mod without_lock;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::thread;

use fixedbitset::FixedBitSet;

pub(in crate::plan) use self::change_history::ChangeHistory;
use self::cost::Content;
pub(in crate::plan) use self::cost::Costs;
pub(in crate::plan) use self::events::Events;
use self::groups::{FormerLayerPolicy, Groups};
pub(in crate::plan) use self::problem::{Former, Placed, Problem};
use crate::error::Result;

/// Assigns paths to layers so that few bytes move from release to release. Layers that rarely change come first.
///
/// Objective: the smallest sum over layers of `bytes x (N + HORIZON x P(one of its paths changes in a release))`, where N is 0 for
/// a layer that exists already and otherwise 1, and no image has more layers than its limit. In Nix a path gets a new hash when it
/// changes or when any of its dependencies does. So paths change because of *events*: changes of packages. Each package has a rate,
/// 1 / (1 + its dependents), because packages with many dependents change less often. A layer's rate is the sum over the events
/// that touch any of its paths, and `P = 1 - exp(-rate)`. If earlier releases are known, P is the mean of the observed changes and
/// this expectation, which counts as a fixed number of releases. Layers of paths with nearly the same events cost little.
///
/// At first, a path of several images is in one layer for all of them. Joining two layers affects the images that have both; the
/// others keep theirs, so the price includes the bytes that the registry then stores twice. The cheapest pair is joined, as long
/// as an image has too many layers ([`merge`]). Without a lock file, only the light paths follow ([`without_lock`]). With a lock
/// file, single paths move, and layers are split and joined, as long as that saves anything ([`exchange`]). This starts from three
/// plans: the former plan, its unchanged layers, and an empty plan. The cheapest result wins, so a new plan never costs more than
/// the former one.
///
/// The result depends on the paths' names, sizes and references, on the observed changes and on the former plan, never on hashes
/// or on the order of the input. O(paths x references / 64) for the events, and O(g²) for at most g = 1,500 groups. Source: the
/// objective of hhd-dev's rechunk (bytes x changed, over a matrix of updates), with Nix's propagation instead of changelogs.
pub(in crate::plan) fn place(problem: &Problem<'_>) -> Result<Vec<Placed>> {
    let costs = &problem.costs;
    let units = units::units(problem);
    let contents: Vec<Content> = units.iter().map(|unit| costs.content(unit)).collect();
    let unchanged: HashMap<&[usize], &FixedBitSet> = problem
        .former
        .iter()
        .filter(|former| former.unchanged)
        .map(|former| (former.paths.as_slice(), &former.users))
        .collect();
    let unit_of = unit_of(&units, costs.len());

    let empty = Groups::new(costs, &units, &contents, &problem.limits, FormerLayerPolicy::Free, problem.stop);
    let fresh = || {
        let mut fresh = empty.clone();
        if problem.remembered {
            fresh.add_rest(&problem.users);
            fresh.merge();
            fresh.improve();
        } else {
            fresh.place_without_lock(&problem.users);
        }
        fresh.mark_unchanged(&unchanged);
        fresh
    };
    let part = || {
        let mut part = empty.clone();
        part.add_former(problem.former.iter().filter(|former| former.unchanged), &unit_of);
        part.add_rest(&problem.users);
        part.merge();
        part.improve();
        part
    };
    let kept = || {
        let mut kept = empty.clone();
        kept.add_former(problem.former.iter(), &unit_of);
        kept.add_rest(&problem.users);
        kept.merge();
        kept
    };
    let best = if problem.former.is_empty() {
        fresh()
    } else {
        let (fresh, part) = both(fresh, part);
        let new = if fresh.cost() < part.cost() { fresh } else { part };
        let kept = kept();
        // The former plan wins unless another is cheaper.
        if new.cost() < kept.cost() { new } else { kept }
    };
    // If the stop flag is set, the last step is unfinished.
    problem.stop.check()?;
    Ok(best.bottom_up(&problem.former, false))
}

/// Runs two closures at the same time, one on a new thread. A thread pool would not work in a builder that Nix has forked: the fork
/// has none of the parent's threads.
fn both<T: Send>(one: impl Fn() -> T + Sync, other: impl Fn() -> T) -> (T, T) {
    thread::scope(|scope| {
        let beside = thread::Builder::new().spawn_scoped(scope, &one);
        let other = other();
        let one = match beside {
            Ok(beside) => beside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => one(),
        };
        (one, other)
    })
}

/// Returns the former plan, with new paths where they cost least: in new layers as long as the limits permit. Joins layers of the
/// former plan only if there are too many.
pub(in crate::plan) fn follow(problem: &Problem<'_>) -> Result<Vec<Placed>> {
    let costs = &problem.costs;
    let units: Vec<Vec<usize>> = (0..costs.len()).map(|path| vec![path]).collect();
    let contents: Vec<Content> = units.iter().map(|unit| costs.content(unit)).collect();
    let mut groups =
        Groups::new(costs, &units, &contents, &problem.limits, FormerLayerPolicy::Kept, problem.stop);
    let unit_of: Vec<usize> = (0..units.len()).collect();
    let former: Vec<Former> =
        problem.former.iter().map(|former| Former { unchanged: true, ..former.clone() }).collect();
    groups.add_former(former.iter(), &unit_of);
    groups.add_rest(&problem.users);
    groups.merge();
    problem.stop.check()?;
    Ok(groups.bottom_up(&problem.former, true))
}

fn unit_of(units: &[Vec<usize>], count: usize) -> Vec<usize> {
    let mut unit_of = vec![0; count];
    for (number, unit) in units.iter().enumerate() {
        for path in unit {
            unit_of[*path] = number;
        }
    }
    unit_of
}

impl Groups<'_> {
    /// Adds layers of the former plan. Each of them consists of whole units.
    fn add_former<'f>(&mut self, former: impl Iterator<Item = &'f Former>, unit_of: &[usize]) {
        for layer in former {
            let units: BTreeSet<usize> = layer.paths.iter().map(|path| unit_of[*path]).collect();
            let group = self.group(units.into_iter().collect(), layer.users.clone(), layer.unchanged);
            self.add(group);
        }
    }

    /// Adds each unit as a group, for the images that do not have it yet.
    fn add_rest(&mut self, users: &[FixedBitSet]) {
        let mut missing: Vec<FixedBitSet> = self.units.iter().map(|unit| users[unit[0]].clone()).collect();
        for (_, group) in self.groups() {
            for unit in &group.units {
                missing[*unit].difference_with(&group.users);
            }
        }
        for (unit, users) in missing.into_iter().enumerate() {
            if !users.is_clear() {
                let group = self.group(vec![unit], users, false);
                self.add(group);
            }
        }
    }

    /// Marks groups that are unchanged layers of the former plan.
    fn mark_unchanged(&mut self, unchanged: &HashMap<&[usize], &FixedBitSet>) {
        let groups: Vec<usize> = self.groups().map(|(slot, _)| slot).collect();
        for slot in groups {
            let group = self.at(slot);
            let users = unchanged.get(self.paths(slot).as_slice());
            // One image that has the layer is enough: the registry has its bytes.
            if users.is_some_and(|users| !users.is_disjoint(&group.users)) {
                let group = self.group(group.units.clone(), group.users.clone(), true);
                self.replace(slot, group);
            }
        }
    }

    /// Returns a group's paths, sorted.
    fn paths(&self, slot: usize) -> Vec<usize> {
        let mut paths: Vec<usize> =
            self.at(slot).units.iter().flat_map(|unit| &self.units[*unit]).copied().collect();
        paths.sort_unstable();
        paths
    }

    /// Returns the groups, those that change least often first, because engines unpack all layers above a changed one again. The
    /// order of a former plan stays, except for layers that change much more often than those above them. With `kept`, it stays
    /// for all layers.
    fn bottom_up(self, former: &[Former], kept: bool) -> Vec<Placed> {
        let mut layers_of: Vec<Vec<usize>> = vec![Vec::new(); self.costs.len()];
        for (layer, Former { paths, .. }) in former.iter().enumerate() {
            paths.iter().for_each(|path| layers_of[*path].push(layer));
        }
        // The former layer with which a layer has the most paths in common.
        let was = |paths: &[usize]| {
            let mut common: BTreeMap<usize, usize> = BTreeMap::new();
            let layers = paths.iter().flat_map(|path| &layers_of[*path]);
            layers.for_each(|layer| *common.entry(*layer).or_default() += 1);
            common.into_iter().max_by_key(|(layer, paths)| (*paths, Reverse(*layer))).map(|(layer, _)| layer)
        };
        let layers: Vec<(f64, Option<usize>, Placed)> = self
            .groups()
            .map(|(slot, group)| {
                let paths = self.paths(slot);
                (group.content.changes, was(&paths), (paths, group.users.clone()))
            })
            .collect();
        // For each frequency of change, the highest place of the layers that change at most as often.
        let mut places: Vec<(f64, usize)> =
            layers.iter().filter_map(|(changes, was, _)| Some((*changes, (*was)? + 1))).collect();
        places.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut highest = 0;
        for (_, place) in &mut places {
            highest = highest.max(*place);
            *place = highest;
        }
        let above = |changes: f64| {
            let below = places.partition_point(|(other, _)| *other <= changes);
            below.checked_sub(1).map_or(0, |last| places[last].1)
        };
        let mut order: Vec<_> = layers
            .iter()
            .map(|(changes, was, placed)| {
                // A new layer is just above the layers that change less often.
                let place = was.map_or_else(|| (above(*changes), 1), |was| (was + 1, 0));
                (if kept { 0 } else { magnitude(*changes) }, place, *changes, placed)
            })
            .collect();
        order.sort_by(|(magnitude, place, changes, placed), other| {
            let (first, second) = ((magnitude, place), (&other.0, &other.1));
            first.cmp(&second).then(changes.total_cmp(&other.2)).then_with(|| placed.0.cmp(&other.3.0))
        });
        order.into_iter().map(|(.., placed)| placed.clone()).collect()
    }
}

/// Returns the exponent of the largest power of four that is at most a probability.
fn magnitude(probability: f64) -> i32 {
    let (mut power, mut bound) = (0, 1.0);
    while bound > probability && power > -30 {
        bound /= 4.0;
        power -= 1;
    }
    power
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::{prop_assert, proptest};

    use super::*;
    use crate::closure::{Closure, PathInfo};
    use crate::plan::Stop;
    use crate::plan::graph::Graph;
    use crate::plan::name::keys;
    use crate::store_path::StorePath;

    /// Number of paths for which the tests try every plan.
    const PATHS: usize = 9;

    /// Number of paths for plans that follow another plan.
    const MORE: usize = 24;

    fn paths(plan: Vec<Placed>) -> Vec<Vec<usize>> {
        plan.into_iter().map(|(paths, _)| paths).collect()
    }

    /// Returns a problem with one image, whose paths refer to paths with larger numbers.
    fn problem(edges: &[(usize, usize)], sizes: &[u64], seen: &[u64], limit: usize) -> Problem<'static> {
        let path =
            |number: usize| StorePath::parse(&format!("/nix/store/{}-p{number}", "a".repeat(32))).unwrap();
        let closure = Closure::new((0..sizes.len()).map(|number| {
            PathInfo {
                path: path(number),
                references: edges
                    .iter()
                    .filter(|(from, to)| *from == number && to > from)
                    .map(|(_, to)| path(*to))
                    .collect(),
                nar_hash: String::new(),
                nar_size: sizes[number],
            }
        }));
        let releases = if seen.iter().all(|seen| *seen == 0) { 0 } else { 8 };
        let history = ChangeHistory { seen: seen.to_vec(), releases };
        let events =
            Events::of(&closure, &Graph::new(&closure), &keys(&closure), &history, Stop::default()).unwrap();
        let mut user = FixedBitSet::with_capacity(1);
        user.insert(0);
        Problem {
            costs: Costs::new(sizes, events, seen.to_vec(), releases),
            users: vec![user; sizes.len()],
            limits: vec![limit],
            former: Vec::new(),
            remembered: true,
            stop: Stop::default(),
        }
    }

    /// Returns the expected bytes of a release.
    fn expected(costs: &Costs, layers: &[Vec<usize>]) -> f64 {
        let contents = layers.iter().filter(|layer| !layer.is_empty()).map(|layer| costs.content(layer));
        contents.map(|content| content.bytes * content.changes).sum()
    }

    /// Returns the fewest expected bytes of all plans. Tries all plans, path by path: in each layer so far, and in a new layer.
    fn least(costs: &Costs, limit: usize, placed: usize, layers: &mut Vec<Vec<usize>>) -> f64 {
        if placed == PATHS {
            return expected(costs, layers);
        }
        let mut best = f64::INFINITY;
        for layer in 0..layers.len() {
            layers[layer].push(placed);
            best = best.min(least(costs, limit, placed + 1, layers));
            layers[layer].pop();
        }
        if layers.len() < limit {
            layers.push(vec![placed]);
            best = best.min(least(costs, limit, placed + 1, layers));
            layers.pop();
        }
        best
    }

    /// Returns the expected bytes of a release with our plan, and with the best plan.
    fn made_and_least(problem: &Problem<'_>) -> (f64, f64) {
        let layers = paths(place(problem).unwrap());
        assert!(layers.len() <= problem.limits[0]);
        (expected(&problem.costs, &layers), least(&problem.costs, problem.limits[0], 0, &mut Vec::new()))
    }

    fn sizes(powers: &[u32]) -> Vec<u64> {
        powers.iter().zip(1..).map(|(power, at)| (1000 << power) + at).collect()
    }

    #[test]
    fn exhaustive_search_finds_the_best_plan_of_a_small_image() {
        let sizes = sizes(&[13, 0, 14, 15, 0, 15, 0, 16, 15]);
        let (made, least) = made_and_least(&problem(&[(1, 4), (4, 6), (6, 7)], &sizes, &[0; PATHS], 3));
        assert!(made <= least * 1.0001, "{made}, where {least} is possible");
    }

    #[test]
    fn plans_of_a_long_chain_are_better_than_equal_pieces() {
        // Each path refers to the next one. Pieces of equal length are a good plan for such a chain.
        let (count, limit) = (3000, 20);
        let edges: Vec<(usize, usize)> = (1..count).map(|to| (to - 1, to)).collect();
        let sizes: Vec<u64> = (0..count as u64).map(|number| 1000 + number * 7919 % 100_000).collect();
        let problem = problem(&edges, &sizes, &vec![0; count], limit);
        let pieces: Vec<Vec<usize>> =
            (0..limit).map(|at| (at * count / limit..(at + 1) * count / limit).collect()).collect();
        // Computed without `Events`: each path from the first one of a piece on touches the piece, path n with rate 1 / (1 + n).
        let moved = |layers: &[Vec<usize>]| -> f64 {
            let rate = |first: usize| (first..count).map(|path| 1.0 / (1 + path) as f64).sum::<f64>();
            let bytes = |layer: &[usize]| layer.iter().map(|path| sizes[*path] as f64).sum::<f64>();
            layers.iter().map(|layer| bytes(layer) * rate(*layer.iter().min().unwrap())).sum()
        };
        let (made, divided) = (moved(&paths(place(&problem).unwrap())), moved(&pieces));
        assert!(made < divided, "{made}, where equal pieces have {divided}");
    }

    proptest! {
        #[test]
        fn small_plans_are_within_five_percent_of_the_best(
            edges in vec((0..PATHS, 0..PATHS), 0..24), powers in vec(0u32..20, PATHS),
            seen in proptest::option::of(vec(0u64..256, PATHS)), limit in 2usize..6,
        ) {
            let problem = problem(&edges, &sizes(&powers), &seen.unwrap_or(vec![0; PATHS]), limit);
            let (made, least) = made_and_least(&problem);
            prop_assert!(made <= least * 1.05, "{made}, where {least} is possible");
        }

        #[test]
        fn a_new_plan_never_costs_more_than_the_former_one(
            edges in vec((0..MORE, 0..MORE), 0..60), powers in vec(0u32..20, MORE),
            then in vec(0u64..256, MORE), now in vec(0u64..256, MORE), limit in 2usize..9,
        ) {
            let sizes = sizes(&powers);
            // The former plan is based on other observations.
            let former: Vec<Vec<usize>> = paths(place(&self::problem(&edges, &sizes, &then, limit)).unwrap());
            let mut problem = problem(&edges, &sizes, &now, limit);
            let unchanged = |layer: &[usize]| layer.iter().all(|path| now[*path] & 1 == 0);
            problem.former = former.iter().map(|layer| Former {
                paths: layer.clone(), users: problem.users[0].clone(), unchanged: unchanged(layer),
            }).collect();
            // Bytes that move now, and bytes that are expected to move within the horizon.
            let costs = &problem.costs;
            let cost = |plan: &[Vec<usize>]| -> f64 {
                plan.iter().map(|layer| {
                    let content = costs.content(layer);
                    let there = former.contains(layer) && unchanged(layer);
                    content.bytes * (cost::HORIZON * content.changes + if there { 0.0 } else { 1.0 })
                }).sum()
            };
            prop_assert!(cost(&paths(place(&problem).unwrap())) <= cost(&former) * (1.0 + 1e-9));
        }
    }
}
