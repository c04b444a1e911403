//! Improves groups that fit: units move to where they cost less, and layers are spent where they save most.

use super::groups::{Group, Groups};

/// Units move at most in so many rounds. Measured closures need three to six.
const ROUNDS: usize = 12;

/// As many exchanges are tried in all, and as many one after another without success.
const EXCHANGES: usize = 400;
const FAILURES: usize = 12;

/// A saving below this part of all is none: it could come from the order in which numbers were added up.
const LEAST_SAVING: f64 = 1e-9;

/// Units that could be a layer of their own.
struct Split {
    saves: f64,
    slot: usize,
    units: Vec<usize>,
}

impl Groups<'_> {
    /// Improves until nothing does.
    pub(super) fn improve(&mut self) {
        self.move_units();
        let mut failures = 0;
        let mut tried: Vec<Vec<usize>> = Vec::new();
        for _ in 0..EXCHANGES {
            let Some(split) = self.splits().into_iter().find(|split| !tried.contains(&split.units)) else {
                break;
            };
            let before = self.cost();
            let former = self.clone();
            let users = self.at(split.slot).users.clone();
            let left = self.at(split.slot).units.iter().copied().filter(|unit| !split.units.contains(unit));
            let left = self.group(left.collect(), users.clone(), false);
            self.replace(split.slot, left);
            self.add(self.group(split.units.clone(), users, false));
            loop {
                let exceeding = self.exceeding();
                if exceeding.is_clear() {
                    break;
                }
                let (a, b) =
                    self.cheapest(&exceeding).expect("an image with too many layers has two to join");
                self.join(a, b);
            }
            if self.cost() < before * (1.0 - LEAST_SAVING) {
                failures = 0;
                tried.clear();
            } else {
                *self = former;
                tried.push(split.units);
                failures += 1;
                if failures == FAILURES {
                    break;
                }
            }
        }
        self.tidy();
        self.move_units();
    }

    /// What would save most as a layer of its own, ahead. Of each group: each unit alone, and with all that changes whenever
    /// that unit does.
    fn splits(&self) -> Vec<Split> {
        let mut splits = Vec::new();
        for (slot, group) in self.groups().filter(|(_, group)| group.units.len() > 1) {
            for unit in &group.units {
                let content = self.unit(*unit);
                let along = group
                    .units
                    .iter()
                    .copied()
                    .filter(|other| super::cost::Costs::touched_within(content, self.unit(*other)));
                let along: Vec<usize> = along.collect();
                for units in [vec![*unit], along] {
                    if units.len() == group.units.len() {
                        continue;
                    }
                    let left = group.units.iter().copied().filter(|unit| !units.contains(unit)).collect();
                    let left = self.group(left, group.users.clone(), false);
                    let apart = self.group(units, group.users.clone(), false);
                    let saves = group.cost - left.cost - apart.cost;
                    if saves > 0.0 {
                        splits.push(Split { saves, slot, units: apart.units });
                    }
                }
            }
        }
        splits.sort_by(|a, b| b.saves.total_cmp(&a.saves).then_with(|| a.units.cmp(&b.units)));
        splits.dedup_by(|a, b| a.units == b.units);
        splits
    }

    /// Moves single units to where they cost less, until none does.
    pub(super) fn move_units(&mut self) {
        let least = -self.cost() * LEAST_SAVING;
        for _ in 0..ROUNDS {
            let mut places: Vec<(usize, usize)> = Vec::new();
            for (slot, group) in self.groups() {
                places.extend(group.units.iter().map(|unit| (*unit, slot)));
            }
            places.sort_unstable();
            let mut moved = false;
            for (unit, from) in places {
                moved |= self.move_unit(unit, from, least);
            }
            if !moved {
                return;
            }
        }
    }

    fn move_unit(&mut self, unit: usize, from: usize, least: f64) -> bool {
        let former = self.at(from);
        if former.units.len() == 1 || !former.units.contains(&unit) {
            return false;
        }
        let alone = self.group(vec![unit], former.users.clone(), false);
        let left = former.units.iter().copied().filter(|other| *other != unit).collect();
        let left = self.group(left, former.users.clone(), false);
        let saved = former.cost - left.cost;
        if saved < -least {
            return false;
        }
        let mut best = (least, None);
        for (at, to) in self.groups().filter(|(at, to)| *at != from && to.users == former.users) {
            let Some(added) = self.added(&alone, to, saved - alone.cost) else { continue };
            let change = added + alone.cost - saved;
            if change < best.0 {
                best = (change, Some(at));
            }
        }
        if let (_, Some(to)) = best {
            let group: &Group = self.at(to);
            let units = group.units.iter().copied().chain([unit]).collect();
            let group = self.group(units, group.users.clone(), false);
            self.replace(to, group);
            self.replace(from, left);
            return true;
        }
        if self.room(&former.users) && alone.cost - saved < least {
            self.add(alone);
            self.replace(from, left);
            return true;
        }
        false
    }
}
