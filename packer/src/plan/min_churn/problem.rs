//! The input and the output of planning.

use fixedbitset::FixedBitSet;

use super::cost::Costs;
use crate::control::Stop;

/// What is to be placed. Paths are numbered in the order of their keys, so that where numbers decide nothing else does.
#[derive(Debug)]
pub(in crate::plan) struct Problem<'s> {
    /// What each path and any layer of them costs.
    pub(in crate::plan) costs: Costs,
    /// The images that have each path.
    pub(in crate::plan) users: Vec<FixedBitSet>,
    /// How many layers each image can have, at least 1.
    pub(in crate::plan) limits: Vec<usize>,
    /// The former plan, where there is one.
    pub(in crate::plan) former: Vec<Former>,
    /// Whether the plan will be the former one of another.
    pub(in crate::plan) remembered: bool,
    /// Whether to end.
    pub(in crate::plan) stop: Stop<'s>,
}

/// A layer of the former plan.
#[derive(Debug, Clone)]
pub(in crate::plan) struct Former {
    /// Its paths, those that are left of them.
    pub(in crate::plan) paths: Vec<usize>,
    /// The images that have it.
    pub(in crate::plan) users: FixedBitSet,
    /// Whether it would be the same layer: nothing in it has changed, come or gone.
    pub(in crate::plan) stands: bool,
}

/// A layer of the plan: paths and images.
pub(in crate::plan) type Placed = (Vec<usize>, FixedBitSet);
