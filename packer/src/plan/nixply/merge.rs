//! Groups of paths: merged until few enough are left, then improved path by path.

use std::cmp::Ordering;

use fixedbitset::FixedBitSet;

use super::events::Events;

/// More groups than this are not compared pair by pair. Beyond, those of the fewest expected bytes are put together beforehand.
const COMPARED: usize = 1500;

/// Paths move from layer to layer at most in so many rounds. Measured closures need three to six.
const ROUNDS: usize = 12;

/// A saving below this part of all is none: it could come from the order in which numbers were added up.
const LEAST_SAVING: f64 = 1e-9;

/// Layers in the making.
pub(super) struct Groups {
    events: Events,
    sizes: Vec<u64>,
    /// Sums of rates, by byte of a set of events: eight look-ups a word instead of a walk over its bits.
    sums: Vec<[f64; 256]>,
    all: Vec<Group>,
}

#[derive(Debug, Clone)]
struct Group {
    /// Paths by number, sorted.
    paths: Vec<usize>,
    bytes: f64,
    touching: FixedBitSet,
    /// The rate of the events that are not told apart.
    others: f64,
    /// Expected bytes.
    cost: f64,
}

/// `1 - exp(-rate)` to within a hundredth, with nothing but what every machine rounds alike.
fn probability(rate: f64) -> f64 {
    1.0 - 1.0 / (1.0 + rate * (1.0 + rate * (0.5 + rate / 6.0)))
}

impl Groups {
    /// Each path by itself. They are numbered by their keys, so that where numbers decide nothing else does.
    pub(super) fn singletons(events: Events, sizes: Vec<u64>) -> Self {
        let table = |first: usize| {
            let rate = |bit: usize| events.rates.get(first + bit).copied().unwrap_or(0.0);
            let sum = |byte: usize| (0..8).filter(|bit| byte >> bit & 1 == 1).map(rate).sum();
            std::array::from_fn(sum)
        };
        let sums = (0..events.rates.len()).step_by(8).map(table).collect();
        let mut groups = Self { events, sizes, sums, all: Vec::new() };
        groups.all = (0..groups.sizes.len()).map(|at| groups.group(vec![at])).collect();
        groups
    }

    fn group(&self, paths: Vec<usize>) -> Group {
        let mut touching = FixedBitSet::with_capacity(self.events.rates.len());
        let (mut bytes, mut others) = (0.0, 0.0);
        for at in &paths {
            touching.union_with(&self.events.touching[*at]);
            bytes += self.sizes[*at] as f64;
            others += self.events.others[*at];
        }
        let cost = bytes * probability(self.rate(touching.as_slice().iter().copied()) + others);
        Group { paths, bytes, touching, others, cost }
    }

    /// The rate of a set of events, given as its words.
    fn rate(&self, words: impl Iterator<Item = usize>) -> f64 {
        const BYTES: usize = usize::BITS as usize / 8;
        let tables = self.sums.chunks(BYTES);
        words
            .zip(tables)
            .map(|(word, tables)| {
                let bytes = word.to_le_bytes();
                tables.iter().zip(bytes).map(|(table, byte)| table[usize::from(byte)]).sum::<f64>()
            })
            .sum()
    }

    /// What joining two groups adds, unless it is more than `most`.
    fn added(&self, a: &Group, b: &Group, most: f64) -> Option<f64> {
        // No less than with the larger rate of the two.
        let bytes = a.bytes + b.bytes;
        let former = a.cost + b.cost;
        let at_least = |group: &Group| if group.bytes > 0.0 { group.cost / group.bytes } else { 0.0 };
        if bytes * at_least(a).max(at_least(b)) - former > most {
            return None;
        }
        let words = a.touching.as_slice().iter().zip(b.touching.as_slice()).map(|(a, b)| a | b);
        let added = bytes * probability(self.rate(words) + a.others + b.others) - former;
        (added <= most).then_some(added)
    }

    /// Merges until there are at most `max_layers` groups.
    pub(super) fn merge_to(&mut self, max_layers: usize) {
        self.bundle(COMPARED.max(max_layers));
        while self.all.len() > max_layers.max(1) {
            let least = (0..self.all.len()).min_by(|a, b| self.ahead(*a, *b)).expect("there are several");
            let taken = self.all.swap_remove(least);
            let mut best = (f64::INFINITY, usize::MAX);
            for (at, other) in self.all.iter().enumerate() {
                let Some(added) = self.added(&taken, other, best.0) else { continue };
                let first = |at: usize| self.all.get(at).map(|group| group.paths[0]);
                // Equal ones by key, for the order of groups is an accident.
                if added < best.0 || first(at) < first(best.1) {
                    best = (added, at);
                }
            }
            let mut paths = std::mem::take(&mut self.all[best.1].paths);
            paths.extend(taken.paths);
            paths.sort_unstable();
            self.all[best.1] = self.group(paths);
        }
    }

    fn ahead(&self, a: usize, b: usize) -> Ordering {
        let (a, b) = (&self.all[a], &self.all[b]);
        a.cost.total_cmp(&b.cost).then(a.bytes.total_cmp(&b.bytes)).then(a.paths.cmp(&b.paths))
    }

    /// Puts together those of the fewest expected bytes, neighbours by how often they change, until at most `count` are left.
    fn bundle(&mut self, count: usize) {
        if self.all.len() <= count {
            return;
        }
        self.all.sort_by(|a, b| b.cost.total_cmp(&a.cost).then(a.paths.cmp(&b.paths)));
        let mut rest = self.all.split_off(count / 2);
        let rate = |group: &Group| self.rate(group.touching.as_slice().iter().copied()) + group.others;
        rest.sort_by(|a, b| rate(a).total_cmp(&rate(b)).then(a.paths.cmp(&b.paths)));
        let bundles = count - count / 2;
        for at in 0..bundles {
            let range = at * rest.len() / bundles..(at + 1) * rest.len() / bundles;
            let mut paths: Vec<usize> = rest[range].iter().flat_map(|group| group.paths.clone()).collect();
            paths.sort_unstable();
            let group = self.group(paths);
            self.all.push(group);
        }
    }

    /// Moves single paths to where they cost less, until none does. Whatever was put together beforehand stays.
    pub(super) fn move_paths(&mut self) {
        let count: usize = self.all.iter().map(|group| group.paths.len()).sum();
        if count > COMPARED || self.all.len() < 2 {
            return;
        }
        self.all.sort_by_key(|group| group.paths[0]);
        let total: f64 = self.all.iter().map(|group| group.cost).sum();
        let least = -total * LEAST_SAVING;
        for _ in 0..ROUNDS {
            let mut places: Vec<(usize, usize)> = Vec::with_capacity(count);
            for (at, group) in self.all.iter().enumerate() {
                places.extend(group.paths.iter().map(|path| (*path, at)));
            }
            places.sort_unstable();
            let mut moved = false;
            for (path, from) in places {
                if self.all[from].paths.len() == 1 {
                    continue;
                }
                let alone = self.group(vec![path]);
                let left: Vec<usize> =
                    self.all[from].paths.iter().copied().filter(|other| *other != path).collect();
                let left = self.group(left);
                let saved = self.all[from].cost - left.cost;
                let mut best = (least, usize::MAX);
                for (at, to) in self.all.iter().enumerate().filter(|(at, _)| *at != from) {
                    let Some(added) = self.added(&alone, to, saved - alone.cost) else { continue };
                    let change = added + alone.cost - saved;
                    if change < best.0 {
                        best = (change, at);
                    }
                }
                if best.1 != usize::MAX {
                    let mut paths = self.all[best.1].paths.clone();
                    paths.push(path);
                    paths.sort_unstable();
                    self.all[best.1] = self.group(paths);
                    self.all[from] = left;
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// The groups, what changes least often first: engines unpack anew what lies above a layer that has changed.
    pub(super) fn bottom_up(self) -> Vec<Vec<usize>> {
        let rate = |group: &Group| self.rate(group.touching.as_slice().iter().copied()) + group.others;
        let mut order: Vec<(f64, &Group)> = self.all.iter().map(|group| (rate(group), group)).collect();
        order.sort_by(|(a, left), (b, right)| a.total_cmp(b).then(left.paths.cmp(&right.paths)));
        order.into_iter().map(|(_, group)| group.paths.clone()).collect()
    }
}
