//! Joins groups, the pair that costs least first, until no image has more layers than it can.

use fixedbitset::FixedBitSet;

use super::groups::Groups;

/// The best partner that is known of a group.
#[derive(Debug, Clone, Copy)]
struct Best {
    price: f64,
    partner: usize,
    /// The partner has become part of another group, which is named in its place: the price is an estimate.
    stale: bool,
}

const NONE: Best = Best { price: f64::INFINITY, partner: usize::MAX, stale: false };

impl Groups<'_> {
    /// Joins until no image has more layers than it can.
    ///
    /// Every group has its best partner at hand, and the cheapest pair is asked again before it is joined, as in a lazy queue:
    /// the images that a join relieves get fewer, and a partner may have grown, which makes it dearer as a rule. So most of
    /// those whose partner has gone never look for another one. About O(groups²) prices.
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
            let asked = || self.price(self.at(cheapest), self.at(partner), &exceeding, f64::INFINITY);
            if stale || asked() != Some(price) {
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

    /// The partner with which joining `slot` is cheapest; `likely` is asked first, for what is dearer than the best is soon
    /// told. Equal ones by their first units: the order of slots is an accident.
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

    /// The cheapest pair to join, as price and slots; and how many pairs were asked.
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
