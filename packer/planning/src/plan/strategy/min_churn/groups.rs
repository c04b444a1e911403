//! Groups: the layers of an unfinished plan, with their paths, images and costs, and the cost of joining two of them.

use fixedbitset::FixedBitSet;

use super::cost::{Content, Costs, HORIZON};
use crate::plan::Stop;

/// Additional cost of joining a layer of the former plan with another if such layers must stay: more than any number of bytes.
const KEPT_LAYER_COST: f64 = 1e20;

/// A layer of an unfinished plan.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// Units by number, sorted.
    pub(super) units: Vec<usize>,
    /// The images that have the layer.
    pub(super) users: FixedBitSet,
    pub(super) content: Content,
    /// Whether it is an unchanged layer of the former plan, which no client has to download.
    pub(super) unchanged: bool,
    /// Bytes that are expected to move: in this release, and within the horizon.
    pub(super) cost: f64,
}

impl Group {
    fn new(units: Vec<usize>, users: FixedBitSet, content: Content, unchanged: bool) -> Self {
        let cost = cost(content.bytes, content.changes, unchanged);
        Self { units, users, content, unchanged, cost }
    }
}

fn cost(bytes: f64, changes: f64, unchanged: bool) -> f64 {
    bytes * (HORIZON * changes + if unchanged { 0.0 } else { 1.0 })
}

/// All layers of an unfinished plan.
#[derive(Debug, Clone)]
pub(super) struct Groups<'c> {
    pub(super) costs: &'c Costs,
    /// Units, as numbers of their paths: usually one path each.
    pub(super) units: &'c [Vec<usize>],
    /// Each unit's content.
    contents: &'c [Content],
    /// Maximum number of layers of each image.
    pub(super) limits: &'c [usize],
    /// The groups by slot. A group keeps its slot when others are added and removed.
    pub(super) slots: Vec<Option<Group>>,
    /// Number of layers of each image.
    pub(super) counts: Vec<usize>,
    policy: FormerLayerPolicy,
    /// The stop flag. When it is set, long computations end early, and the groups must not be used.
    pub(super) stop: Stop<'c>,
}

/// The treatment of layers of the former plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FormerLayerPolicy {
    /// They stay at any cost.
    Kept,
    /// They are like other groups, except that no client has to download them.
    Free,
}

impl<'c> Groups<'c> {
    pub(super) fn new(
        costs: &'c Costs,
        units: &'c [Vec<usize>],
        contents: &'c [Content],
        limits: &'c [usize],
        policy: FormerLayerPolicy,
        stop: Stop<'c>,
    ) -> Self {
        let counts = vec![0; limits.len()];
        Self { costs, units, contents, limits, slots: Vec::new(), counts, policy, stop }
    }

    /// Returns the sum of all groups' costs.
    pub(super) fn cost(&self) -> f64 {
        self.groups().map(|(_, group)| group.cost).sum()
    }

    /// Iterates over the groups and their slots.
    pub(super) fn groups(&self) -> impl Iterator<Item = (usize, &Group)> {
        self.slots.iter().enumerate().filter_map(|(slot, group)| group.as_ref().map(|group| (slot, group)))
    }

    pub(super) fn at(&self, slot: usize) -> &Group {
        self.slots[slot].as_ref().expect("the slot is taken")
    }

    /// Returns the content of several units.
    fn content(&self, units: &[usize]) -> Content {
        self.costs.union(units.iter().map(|unit| &self.contents[*unit]))
    }

    pub(super) fn unit(&self, unit: usize) -> &Content {
        &self.contents[unit]
    }

    /// Makes a group that has no slot yet.
    pub(super) fn group(&self, mut units: Vec<usize>, users: FixedBitSet, unchanged: bool) -> Group {
        units.sort_unstable();
        let content = self.content(&units);
        Group::new(units, users, content, unchanged)
    }

    /// Returns the saving of removing a unit from a group. The unit's cost in its next group is not subtracted.
    pub(super) fn saved(&self, group: &Group, unit: usize) -> f64 {
        let unit = self.unit(unit);
        let bytes = group.content.bytes - unit.bytes;
        group.cost - cost(bytes, self.costs.changes_without(&group.content, unit), false)
    }

    /// Puts a group into a new slot.
    pub(super) fn add(&mut self, group: Group) -> usize {
        for user in group.users.ones() {
            self.counts[user] += 1;
        }
        self.slots.push(Some(group));
        self.slots.len() - 1
    }

    pub(super) fn remove(&mut self, slot: usize) -> Group {
        let group = self.slots[slot].take().expect("the slot is taken");
        for user in group.users.ones() {
            self.counts[user] -= 1;
        }
        group
    }

    /// Replaces the group of a slot with another of the same users.
    pub(super) fn replace(&mut self, slot: usize, group: Group) -> Group {
        self.slots[slot].replace(group).expect("the slot is taken")
    }

    /// Returns the images with too many layers.
    pub(super) fn exceeding(&self) -> FixedBitSet {
        let over = self.counts.iter().zip(self.limits).map(|(count, limit)| count > limit);
        let mut images = FixedBitSet::with_capacity(self.limits.len());
        over.enumerate().filter(|(_, over)| *over).for_each(|(image, _)| images.insert(image));
        images
    }

    /// Returns whether each of these images may have one more layer.
    pub(super) fn room(&self, users: &FixedBitSet) -> bool {
        users.ones().all(|user| self.counts[user] < self.limits[user])
    }

    /// Returns the cost that joining two groups adds, per `exceeding` image that then has one layer less. None if there is no such
    /// image, or if it is more than `most`.
    pub(super) fn price(&self, a: &Group, b: &Group, exceeding: &FixedBitSet, most: f64) -> Option<f64> {
        let words = a.users.as_slice().iter().zip(b.users.as_slice()).zip(exceeding.as_slice());
        let relieved: u32 = words.map(|((a, b), over)| (a & b & over).count_ones()).sum();
        if relieved == 0 {
            return None;
        }
        let relieved = f64::from(relieved);
        let added = self.added(a, b, most * relieved)?;
        Some(added / relieved)
    }

    /// Returns the cost that joining two groups adds for the images that have both, unless it is more than `most`.
    pub(super) fn added(&self, a: &Group, b: &Group, most: f64) -> Option<f64> {
        // Other images that have one of the groups keep it unchanged.
        let spared = |group: &Group, other: &Group| {
            if group.users.is_subset(&other.users) { group.cost } else { 0.0 }
        };
        let mut former = spared(a, b) + spared(b, a);
        if self.policy == FormerLayerPolicy::Kept {
            former -= KEPT_LAYER_COST
                * f64::from(u8::from(a.unchanged) + u8::from(b.unchanged))
                * f64::from(1 + 999 * u16::from(a.unchanged && b.unchanged));
        }
        let bytes = a.content.bytes + b.content.bytes;
        // A lower bound: the union changes at least as often as either group.
        if cost(bytes, a.content.changes.max(b.content.changes), false) - former > most {
            return None;
        }
        let added = cost(bytes, self.costs.union_changes(&a.content, &b.content), false) - former;
        (added <= most).then_some(added)
    }

    /// Joins two groups for the images that have both. Returns the slots of the resulting groups, the joint group first.
    pub(super) fn join(&mut self, a: usize, b: usize) -> Vec<usize> {
        let (a, b) = (self.remove(a), self.remove(b));
        let mut users = a.users.clone();
        users.intersect_with(&b.users);
        let content = self.costs.union([&a.content, &b.content]);
        let mut units: Vec<usize> = a.units.iter().chain(&b.units).copied().collect();
        units.sort_unstable();
        let mut slots = vec![self.add(Group::new(units, users.clone(), content, false))];
        for mut group in [a, b] {
            group.users.difference_with(&users);
            if !group.users.is_clear() {
                slots.push(self.add(group));
            }
        }
        slots
    }

    /// Drops empty slots.
    pub(super) fn tidy(&mut self) {
        self.slots.retain(Option::is_some);
    }
}
