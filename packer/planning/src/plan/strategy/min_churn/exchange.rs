//! Improves a plan that fits the limits: moves units to cheaper groups, and splits the groups where that saves most.

use std::collections::{BTreeMap, HashMap};

use fixedbitset::FixedBitSet;

use super::cost::Costs;
use super::groups::Groups;

/// Maximum number of rounds of moves. Measured closures need three to six.
const MAX_ROUNDS: usize = 12;

/// Maximum number of exchanges.
const MAX_EXCHANGES: usize = 400;
/// Maximum number of pairs whose price is computed.
const MAX_PAIRS: usize = 4_000_000;

/// Maximum number of cost evaluations while units are moved. Only plans with thousands of layers come close.
const MAX_EVALUATIONS: usize = 50_000_000;

/// Maximum number of units in a group from which several units may be split off together. Larger groups lose only single units.
const MAX_SPLIT_UNITS: usize = 400;

/// Minimum saving of a step, as a part of the total cost. Less could be a rounding error, which depends on the order of sums.
pub(super) const MIN_SAVING: f64 = 1e-9;

/// Units that could become a separate layer.
#[derive(Debug, Clone)]
pub(super) struct Split {
    saves: f64,
    pub(super) slot: usize,
    units: Vec<usize>,
}

impl Groups<'_> {
    /// Improves the groups until no step saves anything, or a limit is reached.
    pub(super) fn improve(&mut self) {
        self.move_units();
        let mut splits: BTreeMap<usize, Vec<Split>> = BTreeMap::new();
        let mut prices: HashMap<FixedBitSet, f64> = HashMap::new();
        let mut pairs = 0;
        for _ in 0..MAX_EXCHANGES {
            if self.stop.is_set() {
                return;
            }
            for (slot, _) in self.groups() {
                splits.entry(slot).or_insert_with(|| self.splits(slot));
            }
            let mut order: Vec<&Split> = splits.values().flatten().collect();
            order.sort_by(|a, b| b.saves.total_cmp(&a.saves).then_with(|| a.units.cmp(&b.units)));
            let mut made = None;
            for split in order {
                let users = &self.at(split.slot).users;
                if !self.room(users) {
                    // An exchange costs at least its cheapest join, for each of the images.
                    let price = *prices.entry(users.clone()).or_insert_with(|| {
                        let (price, evaluations) = self.cheapest(users);
                        pairs += evaluations;
                        price.map_or(f64::INFINITY, |(price, ..)| price)
                    });
                    if split.saves <= price * users.count_ones(..) as f64 {
                        continue;
                    }
                }
                if pairs > MAX_PAIRS || self.stop.is_set() {
                    break;
                }
                if let Some(exchanged) = self.exchanged(split, &mut pairs) {
                    made = Some(exchanged);
                    break;
                }
            }
            let Some((groups, touched)) = made else { break };
            *self = groups;
            splits.retain(|slot, _| !touched.contains(slot));
            prices.clear();
        }
        self.tidy();
        self.move_units();
        self.search_exhaustively();
    }

    /// Applies `split`, and the joins that the limits then require. Returns the resulting groups and the changed slots, if that is
    /// cheaper.
    fn exchanged(&self, split: &Split, pairs: &mut usize) -> Option<(Self, Vec<usize>)> {
        let mut groups = self.clone();
        groups.make(split);
        let mut touched = vec![split.slot];
        loop {
            let exceeding = groups.exceeding();
            if exceeding.is_clear() || self.stop.is_set() {
                break;
            }
            let (best, evaluations) = groups.cheapest(&exceeding);
            *pairs += evaluations;
            let (_, a, b) = best.expect("an image with too many layers has two to join");
            groups.join(a, b);
            touched.extend([a, b]);
        }
        (groups.cost() < self.cost() * (1.0 - MIN_SAVING)).then_some((groups, touched))
    }

    /// Makes a split. Afterwards, an image may have too many layers.
    pub(super) fn make(&mut self, split: &Split) {
        let former = self.at(split.slot);
        let left = former.units.iter().copied().filter(|unit| !split.units.contains(unit)).collect();
        let left = self.group(left, former.users.clone(), false);
        let apart = self.group(split.units.clone(), former.users.clone(), false);
        self.replace(split.slot, left);
        self.add(apart);
    }

    /// Returns the splits of a group that save something: each unit alone, and each with the units that change whenever it
    /// does.
    pub(super) fn splits(&self, slot: usize) -> Vec<Split> {
        let group = self.at(slot);
        let mut splits = Vec::new();
        if group.units.len() == 1 || self.stop.is_set() {
            return splits;
        }
        let mut split = |saves: f64, units: Vec<usize>| {
            if saves > 0.0 {
                splits.push(Split { saves, slot, units });
            }
        };
        for unit in &group.units {
            let apart = self.group(vec![*unit], group.users.clone(), false);
            split(self.saved(group, *unit) - apart.cost, apart.units);
            if group.units.len() > MAX_SPLIT_UNITS {
                continue;
            }
            let content = self.unit(*unit);
            let along = |other: &usize| Costs::touched_within(content, self.unit(*other));
            let (along, left): (Vec<usize>, Vec<usize>) = group.units.iter().copied().partition(along);
            if along.len() > 1 && !left.is_empty() {
                let left = self.group(left, group.users.clone(), false);
                let apart = self.group(along, group.users.clone(), false);
                split(group.cost - left.cost - apart.cost, apart.units);
            }
        }
        splits
    }

    /// Moves single units to cheaper groups of the same images, until no move saves anything.
    pub(super) fn move_units(&mut self) {
        let least = -self.cost() * MIN_SAVING;
        let mut evaluations = 0;
        for _ in 0..MAX_ROUNDS {
            let mut places: Vec<(usize, usize)> = Vec::new();
            let mut alike: HashMap<FixedBitSet, Vec<usize>> = HashMap::new();
            for (slot, group) in self.groups() {
                places.extend(group.units.iter().map(|unit| (*unit, slot)));
                alike.entry(group.users.clone()).or_default().push(slot);
            }
            places.sort_unstable();
            let mut moved = false;
            for (unit, from) in places {
                if self.stop.is_set() {
                    return;
                }
                if self.at(from).units.len() == 1 {
                    continue;
                }
                let alike =
                    alike.get_mut(&self.at(from).users).expect("the map has the images of every group");
                evaluations += alike.len();
                if evaluations > MAX_EVALUATIONS {
                    return;
                }
                moved |= self.move_unit(unit, from, alike, least);
            }
            if !moved {
                return;
            }
        }
    }

    /// Moves a unit to one of the groups of the same images, `alike`, or into a new group.
    fn move_unit(&mut self, unit: usize, from: usize, alike: &mut Vec<usize>, least: f64) -> bool {
        let former = self.at(from);
        let room = self.room(&former.users);
        if former.units.len() == 1 || alike.len() == 1 && !room {
            return false;
        }
        let alone = self.group(vec![unit], former.users.clone(), false);
        let saved = self.saved(former, unit);
        if saved < -least {
            return false;
        }
        let left = || former.units.iter().copied().filter(|other| *other != unit).collect();
        let left = || self.group(left(), former.users.clone(), false);
        let mut best = (least, None);
        for at in alike.iter().copied().filter(|at| *at != from) {
            let Some(added) = self.added(&alone, self.at(at), saved - alone.cost) else { continue };
            let change = added + alone.cost - saved;
            if change < best.0 {
                best = (change, Some(at));
            }
        }
        if let (_, Some(to)) = best {
            let group = self.at(to);
            let units = group.units.iter().copied().chain([unit]).collect();
            let group = self.group(units, group.users.clone(), false);
            let left = left();
            self.replace(to, group);
            self.replace(from, left);
            return true;
        }
        if room && alone.cost - saved < least {
            let left = left();
            alike.push(self.add(alone));
            self.replace(from, left);
            return true;
        }
        false
    }
}
