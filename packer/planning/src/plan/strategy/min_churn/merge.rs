//! Joins groups, the cheapest pair first, until no image has too many layers.

use fixedbitset::FixedBitSet;

use super::groups::Groups;

/// The best known partner of a group.
#[derive(Debug, Clone, Copy)]
struct Best {
    price: f64,
    partner: usize,
    /// Whether the partner has been joined into another group. `partner` is then that group, and the price is an estimate.
    stale: bool,
}

const NONE: Best = Best { price: f64::INFINITY, partner: usize::MAX, stale: false };

impl Groups<'_> {
    /// Joins groups until no image has too many layers.
    ///
    /// Each group knows its best partner. Before a pair is joined, its price is computed again, as in a lazy queue: fewer images
    /// may exceed their limits by then, and the partner may have grown, which usually raises the price. So most groups whose
    /// partner is gone never search for another one. About O(groups²) prices.
    pub(super) fn merge(&mut self) {
        self.coarsen();
        let mut exceeding = self.exceeding();
        if exceeding.is_clear() {
            return;
        }
        let mut best: Vec<Best> =
            (0..self.slots.len()).map(|slot| self.search(slot, slot, &exceeding)).collect();
        while !exceeding.is_clear() && !self.stop.is_set() {
            let cheapest = (0..best.len())
                .filter(|slot| best[*slot].partner != usize::MAX)
                .min_by(|a, b| {
                    best[*a]
                        .price
                        .total_cmp(&best[*b].price)
                        .then_with(|| self.first(*a).cmp(&self.first(*b)))
                })
                .expect("an image with too many layers has two to join");
            let Best { price, partner, stale } = best[cheapest];
            let current = || self.price(self.at(cheapest), self.at(partner), &exceeding, f64::INFINITY);
            if stale || current() != Some(price) {
                best[cheapest] = self.search(cheapest, partner, &exceeding);
                continue;
            }
            let made = self.join(cheapest, partner);
            exceeding = self.exceeding();
            best[cheapest] = NONE;
            best[partner] = NONE;
            for (slot, known) in best.iter_mut().enumerate() {
                let Some(group) = &self.slots[slot] else { continue };
                if known.partner == cheapest || known.partner == partner {
                    *known = Best { partner: made[0], stale: true, ..*known };
                }
                for new in &made {
                    let Some(price) = self.price(group, self.at(*new), &exceeding, known.price) else {
                        continue;
                    };
                    if price < known.price {
                        *known = Best { price, partner: *new, stale: false };
                    }
                }
            }
            for new in made {
                best.push(self.search(new, new, &exceeding));
            }
        }
        self.tidy();
    }

    /// Finds the partner with which joining `slot` is cheapest. It tries `likely` first, because a good first price rejects the
    /// others quickly. Equal prices are ordered by the groups' first units, because the order of slots is arbitrary.
    fn search(&self, slot: usize, likely: usize, exceeding: &FixedBitSet) -> Best {
        let group = self.at(slot);
        if group.users.is_disjoint(exceeding) || self.stop.is_set() {
            return NONE;
        }
        let mut best = NONE;
        let first = self.slots.get(likely).and_then(Option::as_ref).map(|other| (likely, other));
        for (at, other) in first.into_iter().chain(self.groups()).filter(|(at, _)| *at != slot) {
            let Some(price) = self.price(group, other, exceeding, best.price) else { continue };
            if price < best.price || self.first(at) < self.first(best.partner) {
                best = Best { price, partner: at, stale: false };
            }
        }
        best
    }

    fn first(&self, slot: usize) -> Option<usize> {
        self.slots.get(slot).and_then(Option::as_ref).map(|group| group.units[0])
    }

    /// Returns the cheapest pair to join, as price and slots, and the number of compared pairs.
    pub(super) fn cheapest(&self, exceeding: &FixedBitSet) -> (Option<(f64, usize, usize)>, usize) {
        let concerned: Vec<usize> = self
            .groups()
            .filter(|(_, group)| !group.users.is_disjoint(exceeding))
            .map(|(slot, _)| slot)
            .collect();
        let mut best: Option<(f64, usize, usize)> = None;
        for (at, a) in concerned.iter().enumerate() {
            for b in &concerned[at + 1..] {
                let most = best.map_or(f64::INFINITY, |(price, ..)| price);
                let Some(price) = self.price(self.at(*a), self.at(*b), exceeding, most) else { continue };
                if price < most {
                    best = Some((price, *a, *b));
                }
            }
        }
        (best, concerned.len() * concerned.len() / 2)
    }
}
