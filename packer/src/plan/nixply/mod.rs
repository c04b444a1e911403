//! Ours: fewest bytes that a release is expected to move.

mod events;
mod merge;

use super::graph::Graph;
use super::name::keys;
use crate::closure::Closure;
use crate::error::Result;

use self::events::Events;
use self::merge::Groups;

/// Groups that move few bytes from release to release, as places in the closure, what seldom changes first.
///
/// Objective: the least sum over layers of `bytes x P(something in it changes until the next release)`, with at most
/// `max_layers` layers. In Nix a path gets a new hash when it changes or when anything does that it depends on. So what a path
/// waits for are *events*: changes of packages. Every package has a rate, 1 / (1 + its dependents), since what much depends
/// on changes less often than what nothing does; a layer's rate is the sum over all events that touch any of its paths, and
/// `P = 1 - exp(-rate)`. Paths that wait for nearly the same events cost little to put together.
///
/// Starting from one layer a path, the layer of the smallest expected bytes joins the one where that adds the least, until few
/// enough are left; then single paths move as long as that saves anything ([`merge`]). Which paths go together depends on their
/// names, sizes and references, never on hashes or on the order in which they come. O(paths x references / 64) for the events, and
/// O(g^2) for at most g = 1,500 groups. Source: the objective is that of hhd-dev's rechunk (bytes x changed, over a matrix of
/// updates) with Nix's propagation in place of changelogs.
pub(super) fn by_expected_bytes(
    closure: &Closure,
    graph: &Graph,
    places: &[usize],
    max_layers: usize,
) -> Result<Vec<Vec<usize>>> {
    let keys = keys(closure);
    let mut places = places.to_vec();
    places.sort_unstable_by(|a, b| keys[*a].cmp(&keys[*b]));
    let infos: Vec<_> = closure.iter().collect();
    let sizes = places.iter().map(|at| infos[*at].nar_size).collect();
    let events = Events::of(closure, graph, &keys)?.of_paths(&places);
    let mut groups = Groups::singletons(events, sizes);
    groups.merge_to(max_layers);
    groups.move_paths();
    let of_group = |group: Vec<usize>| group.into_iter().map(|number| places[number]).collect();
    Ok(groups.bottom_up().into_iter().map(of_group).collect())
}
