//! What can change, how often, and whom a change touches.

use std::cmp::Reverse;
use std::collections::HashMap;

use fixedbitset::FixedBitSet;
use petgraph::unionfind::UnionFind;

use crate::closure::Closure;
use crate::control::Stop;
use crate::error::Result;
use crate::plan::graph::Graph;
use crate::plan::name::Name;

use super::past::Past;

/// As many events are told apart of those that touch several paths; where there are more, some are put together. What is left
/// counts for each path by itself, as if no two waited for the same one: exactly so where none do.
const TOLD_APART: usize = 1024;

/// Events are followed through the graph by as many at a time as these words have bits: a cache line.
type Words = [u64; 8];
const WORD: usize = u64::BITS as usize;
const BITS: usize = 8 * WORD;

/// After so many paths comes another look at whether to end.
const CHECKED: usize = 1024;

/// How many events a release is expected to have where nothing has been seen; and how much that counts, in releases.
const PER_RELEASE: f64 = 1.0;
const PER_RELEASE_COUNTS: f64 = 4.0;

/// Every path's events.
#[derive(Debug, Clone)]
pub(in crate::plan) struct Events {
    /// The rate of each event that is told apart: how many a release is expected to have.
    pub(super) rates: Vec<f64>,
    /// For each path, which of these touch the path.
    pub(super) touching: Vec<FixedBitSet>,
    /// For each path, the rate of all others that touch the path.
    pub(super) others: Vec<f64>,
}

impl Events {
    /// The events of a closure. Outputs of one derivation (one package and version) change together, so they are one event.
    pub(in crate::plan) fn of(
        closure: &Closure,
        graph: &Graph,
        keys: &[String],
        past: &Past,
        stop: Stop<'_>,
    ) -> Result<Self> {
        let order = graph.bottom_up(closure)?;
        let sizes: Vec<u64> = closure.iter().map(|info| info.nar_size).collect();
        let (event_of, count) = numbered(closure, keys);
        let propagates = past.propagates(graph);
        let seen = f64::from(past.events(graph, &event_of, count, propagates));
        let per_release =
            (seen + PER_RELEASE * PER_RELEASE_COUNTS) / (f64::from(past.releases) + PER_RELEASE_COUNTS);

        let (touched, bytes) = reach(graph, &order, &event_of, count, &sizes, stop)?;
        let weights: Vec<f64> = touched.iter().map(|touched| 1.0 / *touched as f64).collect();
        let sum: f64 = weights.iter().sum();
        let rates: Vec<f64> = weights.iter().map(|weight| weight * per_release / sum).collect();

        let shared = match propagates {
            true => touched.iter().map(|touched| *touched > 1).collect(),
            false => paths_of(&event_of, count).iter().map(|paths| paths.len() > 1).collect(),
        };
        let sums = Sums { rates, touched, bytes, shared };
        let told_apart =
            sums.told_apart(if propagates { joined(graph, &event_of, &sums) } else { (0..count).collect() });
        let rates = sums.rates;
        let width = told_apart.iter().flatten().max().map_or(0, |last| last + 1);
        let mut events = Self {
            rates: vec![0.0; width],
            touching: vec![FixedBitSet::with_capacity(width); graph.len()],
            others: vec![0.0; graph.len()],
        };
        for (event, place) in told_apart.iter().enumerate() {
            if let Some(place) = place {
                events.rates[*place] += rates[event];
            }
        }
        for (at, event) in event_of.iter().enumerate() {
            if let Some(place) = told_apart[*event] {
                events.touching[at].insert(place);
            }
        }
        if propagates {
            // What touches a path touches what refers to it.
            for (done, at) in order.iter().enumerate() {
                if done % CHECKED == 0 {
                    stop.check()?;
                }
                let mut touching = std::mem::take(&mut events.touching[*at]);
                graph.references(*at).iter().for_each(|below| touching.union_with(&events.touching[*below]));
                events.touching[*at] = touching;
            }
        }
        // The others in order: what is added up in another one could come out different.
        let left: Vec<usize> = (0..count).filter(|event| told_apart[*event].is_none()).collect();
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

    /// Those of the paths at `places`, in that order.
    pub(in crate::plan) fn of_paths(self, places: &[usize]) -> Self {
        Self {
            rates: self.rates,
            touching: places.iter().map(|at| self.touching[*at].clone()).collect(),
            others: places.iter().map(|at| self.others[*at]).collect(),
        }
    }
}

/// Each path's event, numbered by the paths' keys, and how many there are.
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
        // Without a version a name may be anything's: `source` is no package.
        event_of[at] = match name.version {
            "" => next(),
            version => *numbers.entry((name.package, version)).or_insert_with(next),
        };
    }
    (event_of, count)
}

/// The paths of each event itself.
fn paths_of(event_of: &[usize], count: usize) -> Vec<Vec<usize>> {
    let mut paths = vec![Vec::new(); count];
    event_of.iter().enumerate().for_each(|(at, event)| paths[*event].push(at));
    paths
}

/// Puts events together of which nearly the same paths are touched, until [`TOLD_APART`] are left or there are none that are
/// alike: each with that one of its direct dependents that touches most. Together they touch what either does. The bytes that
/// are expected to move too many by this decide which come first. Gives a number for each event, one of those with it.
fn joined(graph: &Graph, event_of: &[usize], sums: &Sums) -> Vec<usize> {
    let mut union = UnionFind::new(sums.rates.len());
    let mut left = sums.shared.iter().filter(|shared| **shared).count();
    let mut alike: Vec<(f64, usize, usize)> = Vec::new();
    if left > TOLD_APART {
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
        if left <= TOLD_APART {
            break;
        }
        left -= usize::from(union.union(event, most));
    }
    union.into_labeling()
}

/// What is known of each event.
#[derive(Debug)]
struct Sums {
    /// How many a release is expected to have.
    rates: Vec<f64>,
    /// How many paths it touches if changes propagate, and their bytes.
    touched: Vec<usize>,
    bytes: Vec<f64>,
    /// Whether it touches several paths.
    shared: Vec<bool>,
}

impl Sums {
    /// Each event's place among those that are told apart: of those that several paths share, the ones of most expected bytes.
    /// `joined` has a number for each event: those with the same one count as one.
    fn told_apart(&self, joined: Vec<usize>) -> Vec<Option<usize>> {
        let mut expected = vec![0.0; joined.len()];
        for (event, of) in joined.iter().enumerate().filter(|(event, _)| self.shared[*event]) {
            expected[*of] += self.rates[event] * self.bytes[event];
        }
        let mut order: Vec<usize> = (0..joined.len()).filter(|event| expected[*event] > 0.0).collect();
        order.sort_by(|a, b| expected[*b].total_cmp(&expected[*a]).then(a.cmp(b)));
        let mut places = vec![None; joined.len()];
        for (place, event) in order.into_iter().take(TOLD_APART).enumerate() {
            places[event] = Some(place);
        }
        let place = |(event, of): (usize, usize)| places[of].filter(|_| self.shared[event]);
        joined.into_iter().enumerate().map(place).collect()
    }
}

/// How many paths each event touches, and their bytes: whole numbers, which come out the same in any order.
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
        // In this order, paths with the same events often follow each other: all of a chain.
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

/// For each path, which of the events from `first` on touch it, as bits.
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

/// For each path, whether its own event is one of those from `first` on, as a bit.
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
