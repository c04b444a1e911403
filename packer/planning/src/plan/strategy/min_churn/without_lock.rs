//! Plans without a lock file, made so that a small change of the closure changes few layers.

use fixedbitset::FixedBitSet;

use super::exhaustive::MAX_SMALL_UNITS;
use super::groups::Groups;

/// Maximum share of all light units in all bytes. A unit is light if it is smaller than a power of two, which is chosen so that
/// this share is kept.
const LIGHT_SHARE: f64 = 0.02;

impl Groups<'_> {
    /// Places units when no lock file will record the plan. `users` has the images of each path. Step-by-step improvements would
    /// lead to other groups for each path that is added or removed, so groups are only joined. In a single image, the light units
    /// are placed last, each separately, so that they move no other unit.
    pub(super) fn place_without_lock(&mut self, users: &[FixedBitSet]) {
        let light = match self.limits[..] {
            [limit] => self.light(limit),
            _ => Vec::new(),
        };
        let mut units = light.iter().copied().peekable();
        for unit in 0..self.units.len() {
            if units.next_if_eq(&unit).is_none() {
                let group = self.group(vec![unit], users[self.units[unit][0]].clone(), false);
                self.add(group);
            }
        }
        self.merge();
        if self.units.len() <= MAX_SMALL_UNITS {
            self.improve();
        }
        let places: Vec<(usize, usize)> =
            light.into_iter().map(|unit| (unit, self.cheapest_for(unit))).collect();
        for (unit, slot) in places {
            let group = self.at(slot);
            let units = group.units.iter().copied().chain([unit]).collect();
            let group = self.group(units, group.users.clone(), false);
            self.replace(slot, group);
        }
    }

    /// Returns the light units of an image with at most `limit` layers, in order. There are always more than `limit` other units.
    fn light(&self, limit: usize) -> Vec<usize> {
        let bytes: Vec<f64> = (0..self.units.len()).map(|unit| self.unit(unit).bytes).collect();
        let most = bytes.iter().sum::<f64>() * LIGHT_SHARE;
        let is_light = |bound: f64| {
            let light = || bytes.iter().filter(|bytes| **bytes < bound);
            light().sum::<f64>() <= most && bytes.len() - light().count() > limit
        };
        let mut bound = 1.0;
        while is_light(2.0 * bound) {
            bound *= 2.0;
        }
        if bound == 1.0 {
            return Vec::new();
        }
        (0..bytes.len()).filter(|unit| bytes[*unit] < bound).collect()
    }

    /// Returns the group in which a unit costs least.
    fn cheapest_for(&self, unit: usize) -> usize {
        let user =
            self.groups().next().map(|(_, group)| group.users.clone()).expect("not all units are light");
        let alone = self.group(vec![unit], user, false);
        let added = |slot: usize| self.added(&alone, self.at(slot), f64::INFINITY).unwrap_or(f64::INFINITY);
        let slots = self.groups().map(|(slot, group)| (added(slot), group.units[0], slot));
        let least = slots.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        least.expect("not all units are light").2
    }
}
