//! Events: the changes of packages, their rates, and the paths that they touch.

use std::cmp::Reverse;
use std::collections::HashMap;

use fixedbitset::FixedBitSet;
use petgraph::unionfind::UnionFind;

use super::change_history::ChangeHistory;
use crate::closure::Closure;
use crate::error::Result;
use crate::plan::Stop;
use crate::plan::graph::Graph;
use crate::plan::name::Name;

/// Maximum number of events that are distinguished, among those that touch several paths. If there are more, some are joined. The
/// remaining events count for each path separately, as if no two paths shared one. That is exact for events of a single path.
const MAX_DISTINGUISHED: usize = 1024;

/// A set of events that is propagated through the graph at once: a cache line.
type Words = [u64; 8];
const WORD: usize = u64::BITS as usize;
const BITS: usize = 8 * WORD;

/// Number of paths between two checks of the stop flag.
const CHECKED: usize = 1024;

/// Expected number of events per release without observations.
const PER_RELEASE: f64 = 1.0;
/// Weight of that expectation, as a number of observed releases.
const PER_RELEASE_COUNTS: f64 = 4.0;

/// The events of all paths.
#[derive(Debug, Clone)]
pub(in crate::plan) struct Events {
    /// Rate of each distinguished event: its expected number per release.
    pub(super) rates: Vec<f64>,
    /// For each path, the distinguished events that touch it.
    pub(super) touching: Vec<FixedBitSet>,
    /// For each path, the total rate of the other events that touch it.
    pub(super) others: Vec<f64>,
}

impl Events {
    /// Finds the events of a closure. Outputs of one derivation (one package and version) change together, so they have one event.
    pub(in crate::plan) fn of(
        closure: &Closure,
        graph: &Graph,
        keys: &[String],
        history: &ChangeHistory,
        stop: Stop<'_>,
    ) -> Result<Self> {
        let order = graph.bottom_up(closure)?;
        let sizes: Vec<u64> = closure.iter().map(|info| info.nar_size).collect();
        let (event_of, count) = numbered(closure, keys);
        let propagates = history.propagates(graph);
        let seen = f64::from(history.events(graph, &event_of, count, propagates));
        let per_release =
            (seen + PER_RELEASE * PER_RELEASE_COUNTS) / (f64::from(history.releases) + PER_RELEASE_COUNTS);

        let (touched, bytes) = reach(graph, &order, &event_of, count, &sizes, stop)?;
        let weights: Vec<f64> = touched.iter().map(|touched| 1.0 / *touched as f64).collect();
        let sum: f64 = weights.iter().sum();
        let rates: Vec<f64> = weights.iter().map(|weight| weight * per_release / sum).collect();

        let shared = match propagates {
            true => touched.iter().map(|touched| *touched > 1).collect(),
            false => paths_of(&event_of, count).iter().map(|paths| paths.len() > 1).collect(),
        };
        let sums = Sums { rates, touched, bytes, shared };
        let distinguished = sums.distinguished(if propagates {
            joined(graph, &event_of, &sums)
        } else {
            (0..count).collect()
        });
        let rates = sums.rates;
        let width = distinguished.iter().flatten().max().map_or(0, |last| last + 1);
        let mut events = Self {
            rates: vec![0.0; width],
            touching: vec![FixedBitSet::with_capacity(width); graph.len()],
            others: vec![0.0; graph.len()],
        };
        for (event, place) in distinguished.iter().enumerate() {
            if let Some(place) = place {
                events.rates[*place] += rates[event];
            }
        }
        for (at, event) in event_of.iter().enumerate() {
            if let Some(place) = distinguished[*event] {
                events.touching[at].insert(place);
            }
        }
        if propagates {
            // An event that touches a path also touches the paths that refer to it.
            for (done, at) in order.iter().enumerate() {
                if done % CHECKED == 0 {
                    stop.check()?;
                }
                let mut touching = std::mem::take(&mut events.touching[*at]);
                graph.references(*at).iter().for_each(|below| touching.union_with(&events.touching[*below]));
                events.touching[*at] = touching;
            }
        }
        // Adds the other rates in a fixed order: a sum of floating-point numbers depends on the order.
        let left: Vec<usize> = (0..count).filter(|event| distinguished[*event].is_none()).collect();
        let mut number = vec![usize::MAX; count];
        left.iter().enumerate().for_each(|(at, event)| number[*event] = at);
        let left_of: Vec<usize> = event_of.iter().map(|event| number[*event]).collect();
        for first in (0..left.len()).step_by(BITS) {
            stop.check()?;
            let words = match propagates {
                true => touching_words(graph, &order, &left_of, first),
                false => own_words(&left_of, first),
            };
            for (at, words) in words.iter().enumerate() {
                bits(words).for_each(|bit| events.others[at] += rates[left[first + bit]]);
            }
        }
        Ok(events)
    }

    /// Returns the events of the paths at `places`, in that order.
    pub(in crate::plan) fn of_paths(self, places: &[usize]) -> Self {
        Self {
            rates: self.rates,
            touching: places.iter().map(|at| self.touching[*at].clone()).collect(),
            others: places.iter().map(|at| self.others[*at]).collect(),
        }
    }
}

/// Returns each path's event, numbered in the order of the paths' keys, and the number of events.
fn numbered(closure: &Closure, keys: &[String]) -> (Vec<usize>, usize) {
    let infos: Vec<_> = closure.iter().collect();
    let mut by_key: Vec<usize> = (0..keys.len()).collect();
    by_key.sort_unstable_by(|a, b| keys[*a].cmp(&keys[*b]));
    let mut numbers: HashMap<(&str, &str), usize> = HashMap::new();
    let mut event_of = vec![0; keys.len()];
    let mut count = 0;
    for at in by_key {
        let name = Name::of(&infos[at].path);
        let mut next = || {
            count += 1;
            count - 1
        };
        // A name without a version may not identify a package: one path named `source` has nothing in common with another.
        event_of[at] = match name.version {
            "" => next(),
            version => *numbers.entry((name.package, version)).or_insert_with(next),
        };
    }
    (event_of, count)
}

/// Returns, for each event, the paths whose own event it is.
fn paths_of(event_of: &[usize], count: usize) -> Vec<Vec<usize>> {
    let mut paths = vec![Vec::new(); count];
    event_of.iter().enumerate().for_each(|(at, event)| paths[*event].push(at));
    paths
}

/// Joins pairs of events that touch nearly the same paths, until [`MAX_DISTINGUISHED`] events are left or all pairs are joined. An
/// event's partner is the event of a direct dependent, the one that touches the most paths. A joint event counts as touching the
/// paths of both, which overestimates the bytes that move; the pairs that overestimate the fewest bytes are joined first. Returns,
/// for each event, the number of an event that represents all events joined with it.
fn joined(graph: &Graph, event_of: &[usize], sums: &Sums) -> Vec<usize> {
    let mut union = UnionFind::new(sums.rates.len());
    let mut left = sums.shared.iter().filter(|shared| **shared).count();
    let mut alike: Vec<(f64, usize, usize)> = Vec::new();
    if left > MAX_DISTINGUISHED {
        for (event, paths) in paths_of(event_of, sums.rates.len()).iter().enumerate() {
            let dependents = paths.iter().flat_map(|at| graph.referrers(*at)).map(|at| event_of[*at]);
            let most = dependents
                .filter(|other| *other != event && sums.shared[*other])
                .max_by_key(|other| (sums.touched[*other], Reverse(*other)));
            if let Some(most) = most {
                alike.push((sums.rates[most] * (sums.bytes[event] - sums.bytes[most]).max(0.0), event, most));
            }
        }
    }
    alike.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    for (_, event, most) in alike {
        if left <= MAX_DISTINGUISHED {
            break;
        }
        left -= usize::from(union.union(event, most));
    }
    union.into_labeling()
}

/// Facts about each event.
#[derive(Debug)]
struct Sums {
    /// Expected number per release.
    rates: Vec<f64>,
    /// Number of paths that it touches if changes propagate.
    touched: Vec<usize>,
    /// Total size of these paths in bytes.
    bytes: Vec<f64>,
    /// Whether it touches several paths.
    shared: Vec<bool>,
}

impl Sums {
    /// Returns each event's index among the distinguished ones: of the events that several paths share, those with the most
    /// expected bytes. `joined` has a number for each event; events with the same number count as one.
    fn distinguished(&self, joined: Vec<usize>) -> Vec<Option<usize>> {
        let mut expected = vec![0.0; joined.len()];
        for (event, of) in joined.iter().enumerate().filter(|(event, _)| self.shared[*event]) {
            expected[*of] += self.rates[event] * self.bytes[event];
        }
        let mut order: Vec<usize> = (0..joined.len()).filter(|event| expected[*event] > 0.0).collect();
        order.sort_by(|a, b| expected[*b].total_cmp(&expected[*a]).then(a.cmp(b)));
        let mut places = vec![None; joined.len()];
        for (place, event) in order.into_iter().take(MAX_DISTINGUISHED).enumerate() {
            places[event] = Some(place);
        }
        let place = |(event, of): (usize, usize)| places[of].filter(|_| self.shared[event]);
        joined.into_iter().enumerate().map(place).collect()
    }
}

/// Returns the number of paths that each event touches, and their total size. The sums are integers, so they do not depend on the
/// order.
fn reach(
    graph: &Graph,
    order: &[usize],
    event_of: &[usize],
    count: usize,
    sizes: &[u64],
    stop: Stop<'_>,
) -> Result<(Vec<usize>, Vec<f64>)> {
    let (mut touched, mut bytes) = (vec![0; count], vec![0u64; count]);
    for first in (0..count).step_by(BITS) {
        stop.check()?;
        let words = touching_words(graph, order, event_of, first);
        // In this order, paths with the same events are often adjacent, such as those of a chain.
        let mut same = (0, 0);
        for (done, at) in order.iter().enumerate() {
            same = (same.0 + 1, same.1 + sizes[*at]);
            if order.get(done + 1).is_none_or(|next| words[*next] != words[*at]) {
                for bit in bits(&words[*at]) {
                    touched[first + bit] += same.0;
                    bytes[first + bit] += same.1;
                }
                same = (0, 0);
            }
        }
    }
    Ok((touched, bytes.into_iter().map(|bytes| bytes as f64).collect()))
}

/// Returns for each path a set of bits: those of the events from `first` on that touch it.
fn touching_words(graph: &Graph, order: &[usize], event_of: &[usize], first: usize) -> Vec<Words> {
    let mut words = own_words(event_of, first);
    for at in order {
        let mut own = words[*at];
        for below in graph.references(*at) {
            own.iter_mut().zip(&words[*below]).for_each(|(own, below)| *own |= below);
        }
        words[*at] = own;
    }
    words
}

/// Returns for each path a set of bits for the events from `first` on. It has only the bit of the path's own event, if that is
/// one of them.
fn own_words(event_of: &[usize], first: usize) -> Vec<Words> {
    let own = |event: &usize| {
        let mut words = Words::default();
        match event.checked_sub(first) {
            Some(bit) if bit < BITS => words[bit / WORD] = 1 << (bit % WORD),
            _ => {}
        }
        words
    };
    event_of.iter().map(own).collect()
}

fn bits(words: &Words) -> impl Iterator<Item = usize> {
    words.iter().enumerate().flat_map(|(at, word)| {
        let mut word = *word;
        std::iter::from_fn(move || {
            let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
            word &= word - 1;
            Some(at * WORD + bit)
        })
    })
}
