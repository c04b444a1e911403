//! The expected cost of a layer.

use fixedbitset::FixedBitSet;

use super::events::Events;

/// Number of releases that a plan is made for. The bytes that a move costs now are weighed against the bytes that it saves in these
/// releases.
pub(super) const HORIZON: f64 = 24.0;

/// Weight of the expectation from sizes and references, as a number of observed releases.
const PRIOR_RELEASES: f64 = 6.0;

/// Facts about each path to place, from which the cost of a layer follows.
#[derive(Debug)]
pub(in crate::plan) struct Costs {
    /// Archive sizes in bytes.
    sizes: Vec<f64>,
    events: Events,
    /// For each path, the observed releases in which it got another hash, as bits; the lowest bit is the last release.
    seen: Vec<u64>,
    /// Number of observed releases. Higher bits are 0.
    releases: f64,
    /// Sums of rates for each value of each byte of a set of events: eight look-ups per word instead of a walk over its bits.
    sums: Vec<[f64; 256]>,
}

/// The facts that determine a layer's cost: sums and unions over its paths.
#[derive(Debug, Clone)]
pub(super) struct Content {
    pub(super) bytes: f64,
    /// The distinguished events that touch any of the paths.
    touching: FixedBitSet,
    /// Those of the `touching` events that touch only one unit.
    once: FixedBitSet,
    /// The rate of the other events.
    others: f64,
    seen: u64,
    seen_once: u64,
    /// Probability that the next release changes any of its paths.
    pub(super) changes: f64,
}

/// `1 - exp(-rate)` with an error of at most a hundredth, using only operations that every machine rounds equally.
fn probability(rate: f64) -> f64 {
    1.0 - 1.0 / (1.0 + rate * (1.0 + rate * (0.5 + rate / 6.0)))
}

impl Costs {
    /// Makes the costs of paths with these archive sizes in bytes. For `seen`, see the field. `releases` is at most 64.
    pub(in crate::plan) fn new(sizes: &[u64], events: Events, seen: Vec<u64>, releases: u32) -> Self {
        let table = |first: usize| {
            let rate = |bit: usize| events.rates.get(first + bit).copied().unwrap_or(0.0);
            let sum = |byte: usize| (0..8).filter(|bit| byte >> bit & 1 == 1).map(rate).sum();
            std::array::from_fn(sum)
        };
        let sums = (0..events.rates.len()).step_by(8).map(table).collect();
        let sizes = sizes.iter().map(|size| *size as f64).collect();
        Self { sizes, events, seen, releases: f64::from(releases), sums }
    }

    pub(super) fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Returns the content of the paths with these numbers, as one unit.
    pub(super) fn content(&self, paths: &[usize]) -> Content {
        let mut touching = FixedBitSet::with_capacity(self.events.rates.len());
        let (mut bytes, mut others, mut seen) = (0.0, 0.0, 0);
        for at in paths {
            touching.union_with(&self.events.touching[*at]);
            bytes += self.sizes[*at];
            others += self.events.others[*at];
            seen |= self.seen[*at];
        }
        let rate = self.rate(touching.as_slice().iter().copied()) + others;
        let once = touching.clone();
        Content { bytes, touching, once, others, seen, seen_once: seen, changes: self.changes(rate, seen) }
    }

    /// Returns the content of several units or groups together, which share no path.
    pub(super) fn union<'u>(&self, contents: impl IntoIterator<Item = &'u Content>) -> Content {
        let mut contents = contents.into_iter();
        let mut all = contents.next().expect("the caller passes at least one").clone();
        for content in contents {
            let words = all.once.as_mut_slice().iter_mut().zip(all.touching.as_mut_slice());
            let others = content.once.as_slice().iter().zip(content.touching.as_slice());
            for ((once, touching), (other_once, other_touching)) in words.zip(others) {
                *once = *once & !other_touching | other_once & !*touching;
                *touching |= other_touching;
            }
            all.seen_once = all.seen_once & !content.seen | content.seen_once & !all.seen;
            all.seen |= content.seen;
            all.others += content.others;
            all.bytes += content.bytes;
        }
        let rate = self.rate(all.touching.as_slice().iter().copied()) + all.others;
        all.changes = self.changes(rate, all.seen);
        all
    }

    /// Returns the probability that the next release changes a group from which one unit has been removed.
    pub(super) fn changes_without(&self, group: &Content, unit: &Content) -> f64 {
        let words = group.touching.as_slice().iter().zip(group.once.as_slice()).zip(unit.touching.as_slice());
        let left = words.map(|((touching, once), unit)| touching & !(once & unit));
        let others = (group.others - unit.others).max(0.0);
        self.changes(self.rate(left) + others, group.seen & !(group.seen_once & unit.seen))
    }

    /// Returns the probability that the next release changes the union of two groups.
    pub(super) fn union_changes(&self, a: &Content, b: &Content) -> f64 {
        let words = a.touching.as_slice().iter().zip(b.touching.as_slice()).map(|(a, b)| a | b);
        self.changes(self.rate(words) + a.others + b.others, a.seen | b.seen)
    }

    /// Returns whether every event that touches `a` also touches `b`.
    pub(super) fn touched_within(a: &Content, b: &Content) -> bool {
        a.others == 0.0 && a.touching.is_subset(&b.touching) && a.seen & !b.seen == 0
    }

    /// Returns the mean of the observed changes and the expected ones, weighted by their releases.
    fn changes(&self, rate: f64, seen: u64) -> f64 {
        (f64::from(seen.count_ones()) + PRIOR_RELEASES * probability(rate)) / (self.releases + PRIOR_RELEASES)
    }

    /// Returns the rate of a set of events, given as the words of its bits.
    fn rate(&self, words: impl Iterator<Item = usize>) -> f64 {
        const BYTES: usize = usize::BITS as usize / 8;
        let tables = self.sums.chunks(BYTES);
        words
            .zip(tables)
            .map(|(word, tables)| {
                if word == 0 {
                    return 0.0;
                }
                let bytes = word.to_le_bytes();
                tables.iter().zip(bytes).map(|(table, byte)| table[usize::from(byte)]).sum::<f64>()
            })
            .sum()
    }
}
