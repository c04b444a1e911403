//! What a layer is expected to cost.

use fixedbitset::FixedBitSet;

use super::events::Events;

/// How many releases a plan is made for. What moving a layer costs now is weighed against what it saves in so many.
pub(super) const HORIZON: f64 = 24.0;

/// What is expected from sizes and references counts as much as so many releases that have been seen.
const PRIOR_RELEASES: f64 = 6.0;

/// What is known of each path that is to be placed, and what a layer of several costs.
#[derive(Debug)]
pub(in crate::plan) struct Costs {
    /// Archive sizes in bytes.
    sizes: Vec<f64>,
    events: Events,
    /// For each path, in which of the releases that have been seen it got another hash, the last one in the lowest bit.
    seen: Vec<u64>,
    /// How many releases have been seen; bits beyond are none.
    releases: f64,
    /// Sums of rates, by byte of a set of events: eight look-ups a word instead of a walk over its bits.
    sums: Vec<[f64; 256]>,
}

/// What a layer's cost depends on: sums and unions over its paths.
#[derive(Debug, Clone)]
pub(super) struct Content {
    pub(super) bytes: f64,
    touching: FixedBitSet,
    /// Of these, which touch one unit alone.
    once: FixedBitSet,
    /// The rate of the other events.
    others: f64,
    seen: u64,
    seen_once: u64,
    /// How probable it is that the next release changes any of it.
    pub(super) changes: f64,
}

/// `1 - exp(-rate)` to within a hundredth, with nothing but what every machine rounds alike.
fn probability(rate: f64) -> f64 {
    1.0 - 1.0 / (1.0 + rate * (1.0 + rate * (0.5 + rate / 6.0)))
}

impl Costs {
    /// Of paths with these archive sizes in bytes. `seen` as in the field, `releases` 64 at most.
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

    /// Of the paths with these numbers, as a unit.
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

    /// Of several together that share no path.
    pub(super) fn union<'u>(&self, contents: impl IntoIterator<Item = &'u Content>) -> Content {
        let mut contents = contents.into_iter();
        let mut all = contents.next().expect("there is one").clone();
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

    /// How probable it is that the next release changes any of a group without one of its units.
    pub(super) fn changes_without(&self, group: &Content, unit: &Content) -> f64 {
        let words = group.touching.as_slice().iter().zip(group.once.as_slice()).zip(unit.touching.as_slice());
        let left = words.map(|((touching, once), unit)| touching & !(once & unit));
        let others = (group.others - unit.others).max(0.0);
        self.changes(self.rate(left) + others, group.seen & !(group.seen_once & unit.seen))
    }

    /// How probable it is that the next release changes any of two that are put together.
    pub(super) fn union_changes(&self, a: &Content, b: &Content) -> f64 {
        let words = a.touching.as_slice().iter().zip(b.touching.as_slice()).map(|(a, b)| a | b);
        self.changes(self.rate(words) + a.others + b.others, a.seen | b.seen)
    }

    /// Whether all that touches `a` touches `b`, too.
    pub(super) fn touched_within(a: &Content, b: &Content) -> bool {
        a.others == 0.0 && a.touching.is_subset(&b.touching) && a.seen & !b.seen == 0
    }

    /// What has been seen, and what is to be expected, as the mean of so many releases.
    fn changes(&self, rate: f64, seen: u64) -> f64 {
        (f64::from(seen.count_ones()) + PRIOR_RELEASES * probability(rate)) / (self.releases + PRIOR_RELEASES)
    }

    /// The rate of a set of events, given as its words.
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
