//! Joins many groups at once, if comparing all pairs would take too long.

use std::collections::HashSet;

use super::groups::{Group, Groups};

/// The largest number of groups whose pairs are all compared.
pub(super) const MAX_COMPARED: usize = 1500;

/// Number of neighbours that each group is compared with, in each order.
const NEIGHBOURS: usize = 24;

/// After each search for neighbours, one in this number of the found pairs is joined: the cheapest ones.
const JOINED: usize = 4;

impl Groups<'_> {
    /// Joins groups with neighbours until there are few enough for [`merge`](Self::merge), or no image has too many layers.
    /// Neighbours have nearly the same images or change nearly as often. O(n log n) per round; a round joins at least one of
    /// eight groups.
    pub(super) fn coarsen(&mut self) {
        let mut exceeding = self.exceeding();
        while !exceeding.is_clear() && self.groups().count() > MAX_COMPARED && !self.stop.is_set() {
            let mut slots: Vec<usize> = self
                .groups()
                .filter(|(_, group)| !group.users.is_disjoint(&exceeding))
                .map(|(slot, _)| slot)
                .collect();
            let mut pairs: Vec<(f64, usize, usize)> = Vec::new();
            for order in [Self::by_images, Self::by_last_images, Self::by_changes] {
                slots.sort_by(|a, b| order(self.at(*a), self.at(*b)).then_with(|| self.by_units(*a, *b)));
                for (at, a) in slots.iter().enumerate() {
                    if self.stop.is_set() {
                        return;
                    }
                    let mut best: Option<(f64, usize, usize)> = None;
                    for b in &slots[at + 1..slots.len().min(at + 1 + NEIGHBOURS)] {
                        let most = best.map_or(f64::INFINITY, |(price, ..)| price);
                        let Some(price) = self.price(self.at(*a), self.at(*b), &exceeding, most) else {
                            continue;
                        };
                        if price < most {
                            best = Some((price, *a, *b));
                        }
                    }
                    pairs.extend(best);
                }
            }
            pairs.sort_by(|(a, first, _), (b, second, _)| {
                a.total_cmp(b).then_with(|| self.by_units(*first, *second))
            });
            pairs.truncate((pairs.len() / JOINED).max(1));
            let mut gone = HashSet::new();
            for (price, a, b) in pairs {
                if gone.contains(&a) || gone.contains(&b) {
                    continue;
                }
                // The price rises if, through earlier joins, an image already has few enough layers.
                let current = self.price(self.at(a), self.at(b), &exceeding, f64::INFINITY);
                if current.is_none_or(|current| current > price) {
                    continue;
                }
                gone.extend([a, b]);
                self.join(a, b);
                exceeding = self.exceeding();
            }
            if gone.is_empty() {
                break;
            }
            self.tidy();
        }
    }

    fn by_images(a: &Group, b: &Group) -> std::cmp::Ordering {
        a.users.ones().cmp(b.users.ones()).then(a.content.changes.total_cmp(&b.content.changes))
    }

    fn by_last_images(a: &Group, b: &Group) -> std::cmp::Ordering {
        let reversed = |group: &Group| group.users.ones().rev().collect::<Vec<_>>();
        reversed(b).cmp(&reversed(a)).then(a.content.changes.total_cmp(&b.content.changes))
    }

    fn by_changes(a: &Group, b: &Group) -> std::cmp::Ordering {
        a.content.changes.total_cmp(&b.content.changes).then(a.content.bytes.total_cmp(&b.content.bytes))
    }

    fn by_units(&self, a: usize, b: usize) -> std::cmp::Ordering {
        let (a, b) = (self.at(a), self.at(b));
        a.units.cmp(&b.units).then_with(|| a.users.ones().cmp(b.users.ones()))
    }
}
