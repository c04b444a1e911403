//! Layers in the making: which paths, for which images, at which cost; and what joining two of them costs.

use fixedbitset::FixedBitSet;

use super::cost::{Content, Costs, HORIZON};
use crate::control::Stop;

/// What joining a layer of the former plan with another costs on top where such layers have to stay: more than any number
/// of bytes.
const STAYS: f64 = 1e20;

/// A layer in the making.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// Units by number, sorted.
    pub(super) units: Vec<usize>,
    /// The images that have the layer.
    pub(super) users: FixedBitSet,
    pub(super) content: Content,
    /// It is a layer of the former plan, and nothing in it has changed: nobody has to fetch it.
    pub(super) stands: bool,
    /// Expected bytes: now, and over the horizon.
    pub(super) cost: f64,
}

impl Group {
    fn new(units: Vec<usize>, users: FixedBitSet, content: Content, stands: bool) -> Self {
        let cost = cost(content.bytes, content.changes, stands);
        Self { units, users, content, stands, cost }
    }
}

fn cost(bytes: f64, changes: f64, stands: bool) -> f64 {
    bytes * (HORIZON * changes + if stands { 0.0 } else { 1.0 })
}

/// All layers in the making.
#[derive(Debug, Clone)]
pub(super) struct Groups<'c> {
    pub(super) costs: &'c Costs,
    /// What is placed as one, as numbers of paths: mostly one path each.
    pub(super) units: &'c [Vec<usize>],
    /// Each unit's content.
    contents: &'c [Content],
    /// How many layers each image can have.
    pub(super) limits: &'c [usize],
    /// By slot: groups keep theirs while others come and go.
    pub(super) slots: Vec<Option<Group>>,
    /// How many layers each image has.
    pub(super) counts: Vec<usize>,
    standing: Standing,
    /// Whether to end. What takes long ends early then, and leaves groups that are of no use.
    pub(super) stop: Stop<'c>,
}

/// What becomes of layers of the former plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// They stay whatever it costs.
    Kept,
    /// They are groups like others, which nobody has to fetch.
    Free,
}

impl<'c> Groups<'c> {
    pub(super) fn new(
        costs: &'c Costs,
        units: &'c [Vec<usize>],
        contents: &'c [Content],
        limits: &'c [usize],
        standing: Standing,
        stop: Stop<'c>,
    ) -> Self {
        let counts = vec![0; limits.len()];
        Self { costs, units, contents, limits, slots: Vec::new(), counts, standing, stop }
    }

    /// The sum of all groups' costs.
    pub(super) fn cost(&self) -> f64 {
        self.groups().map(|(_, group)| group.cost).sum()
    }

    /// The groups with their slots.
    pub(super) fn groups(&self) -> impl Iterator<Item = (usize, &Group)> {
        self.slots.iter().enumerate().filter_map(|(slot, group)| group.as_ref().map(|group| (slot, group)))
    }

    pub(super) fn at(&self, slot: usize) -> &Group {
        self.slots[slot].as_ref().expect("the slot is taken")
    }

    /// Of units together.
    fn content(&self, units: &[usize]) -> Content {
        self.costs.union(units.iter().map(|unit| &self.contents[*unit]))
    }

    pub(super) fn unit(&self, unit: usize) -> &Content {
        &self.contents[unit]
    }

    /// A group that is none of the slots'.
    pub(super) fn group(&self, mut units: Vec<usize>, users: FixedBitSet, stands: bool) -> Group {
        units.sort_unstable();
        let content = self.content(&units);
        Group::new(units, users, content, stands)
    }

    /// What taking a unit out of a group saves, when it has to be somewhere else.
    pub(super) fn saved(&self, group: &Group, unit: usize) -> f64 {
        let unit = self.unit(unit);
        let bytes = group.content.bytes - unit.bytes;
        group.cost - cost(bytes, self.costs.changes_without(&group.content, unit), false)
    }

    /// Puts a group into a slot of its own.
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

    /// Puts another group where one is, with the same users.
    pub(super) fn replace(&mut self, slot: usize, group: Group) -> Group {
        self.slots[slot].replace(group).expect("the slot is taken")
    }

    /// The images that have more layers than they can.
    pub(super) fn exceeding(&self) -> FixedBitSet {
        let over = self.counts.iter().zip(self.limits).map(|(count, limit)| count > limit);
        let mut images = FixedBitSet::with_capacity(self.limits.len());
        over.enumerate().filter(|(_, over)| *over).for_each(|(image, _)| images.insert(image));
        images
    }

    /// Whether each of these images can have one layer more.
    pub(super) fn room(&self, users: &FixedBitSet) -> bool {
        users.ones().all(|user| self.counts[user] < self.limits[user])
    }

    /// What joining two groups adds for each of the `exceeding` images that have a layer less then; none if that is no
    /// image, or more than `most`.
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

    /// What joining two groups adds for the images that have both, unless it is more than `most`.
    pub(super) fn added(&self, a: &Group, b: &Group, most: f64) -> Option<f64> {
        // Other images that have one of them keep it as it is.
        let spared = |group: &Group, other: &Group| {
            if group.users.is_subset(&other.users) { group.cost } else { 0.0 }
        };
        let mut former = spared(a, b) + spared(b, a);
        if self.standing == Standing::Kept {
            former -= STAYS
                * f64::from(u8::from(a.stands) + u8::from(b.stands))
                * f64::from(1 + 999 * u16::from(a.stands && b.stands));
        }
        let bytes = a.content.bytes + b.content.bytes;
        // No less than with the larger probability of the two.
        if cost(bytes, a.content.changes.max(b.content.changes), false) - former > most {
            return None;
        }
        let added = cost(bytes, self.costs.union_changes(&a.content, &b.content), false) - former;
        (added <= most).then_some(added)
    }

    /// Joins two groups for the images that have both; gives the slots of what there is in their place, the joint group first.
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
