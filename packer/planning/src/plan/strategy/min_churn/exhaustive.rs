//! Small images: improvements that single moves and exchanges do not find. With few units, all of them can be tried.

use super::exchange::MIN_SAVING;
use super::groups::Groups;

/// Maximum number of units in two groups for which every division into two groups is tried.
const MAX_DIVIDED_UNITS: usize = 12;
/// Maximum number of units of a small image.
pub(super) const MAX_SMALL_UNITS: usize = 16;

impl Groups<'_> {
    /// Improves the groups of a small image until no step saves anything.
    pub(super) fn search_exhaustively(&mut self) {
        if self.units.len() > MAX_SMALL_UNITS {
            return;
        }
        self.local_search();
        while let Some(better) = self.perturbed().filter(|_| !self.stop.is_set()) {
            *self = better;
        }
    }

    /// Divides pairs of groups and moves units, until neither saves anything.
    fn local_search(&mut self) {
        self.move_units();
        while self.divide() {
            self.move_units();
        }
    }

    /// Joins two groups and splits another, whatever that costs, and improves the result. Returns the first result that is cheaper
    /// than `self`. This takes many attempts, so it is only for small images.
    fn perturbed(&self) -> Option<Self> {
        let slots: Vec<usize> = self.groups().map(|(slot, _)| slot).collect();
        for (at, a) in slots.iter().enumerate() {
            for b in slots[at + 1..].iter().filter(|b| self.at(*a).users == self.at(**b).users) {
                let mut joined = self.clone();
                joined.join(*a, *b);
                let slots: Vec<usize> = joined.groups().map(|(slot, _)| slot).collect();
                for split in slots.into_iter().flat_map(|slot| joined.splits(slot)) {
                    if joined.at(split.slot).users != self.at(*a).users {
                        continue;
                    }
                    let mut groups = joined.clone();
                    groups.make(&split);
                    groups.local_search();
                    if groups.cost() < self.cost() * (1.0 - MIN_SAVING) {
                        groups.tidy();
                        return Some(groups);
                    }
                }
            }
        }
        None
    }

    /// Divides the units of two groups of the same images differently, if that saves anything.
    fn divide(&mut self) -> bool {
        let least = self.cost() * MIN_SAVING;
        let slots: Vec<usize> = self.groups().map(|(slot, _)| slot).collect();
        for (at, a) in slots.iter().enumerate() {
            for b in &slots[at + 1..] {
                let (first, second) = (self.at(*a), self.at(*b));
                let mut units: Vec<usize> = first.units.iter().chain(&second.units).copied().collect();
                if units.len() > MAX_DIVIDED_UNITS || first.users != second.users {
                    continue;
                }
                units.sort_unstable();
                let mut best = first.cost + second.cost - least;
                let mut better = None;
                // The first unit is always in the first part, so each division occurs once.
                for choice in 0..(1usize << (units.len() - 1)) - 1 {
                    let part = |of_first: bool| {
                        let numbered = units.iter().enumerate();
                        let chosen =
                            numbered.filter(|(at, _)| (*at == 0 || choice >> (at - 1) & 1 == 1) == of_first);
                        self.group(chosen.map(|(_, unit)| *unit).collect(), first.users.clone(), false)
                    };
                    let parts = [part(true), part(false)];
                    let cost = parts[0].cost + parts[1].cost;
                    if cost < best {
                        best = cost;
                        better = Some(parts);
                    }
                }
                if let Some([one, other]) = better {
                    self.replace(*a, one);
                    self.replace(*b, other);
                    return true;
                }
            }
        }
        false
    }
}
