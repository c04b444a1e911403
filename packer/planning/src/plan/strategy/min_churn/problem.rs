//! The input and the output of planning.

use fixedbitset::FixedBitSet;

use super::cost::Costs;
use crate::plan::Stop;

/// The paths to place. They are numbered in the order of their keys, so that a choice by number does not depend on anything else.
#[derive(Debug)]
pub(in crate::plan) struct Problem<'s> {
    /// The costs of paths and layers.
    pub(in crate::plan) costs: Costs,
    /// The images that have each path.
    pub(in crate::plan) users: Vec<FixedBitSet>,
    /// Maximum number of layers of each image, at least 1.
    pub(in crate::plan) limits: Vec<usize>,
    /// The layers of the former plan, if there is one.
    pub(in crate::plan) former: Vec<Former>,
    /// Whether a lock file will record this plan, so that later plans start from it.
    pub(in crate::plan) remembered: bool,
    /// The stop flag.
    pub(in crate::plan) stop: Stop<'s>,
}

/// A layer of the former plan.
#[derive(Debug, Clone)]
pub(in crate::plan) struct Former {
    /// Its paths that still exist.
    pub(in crate::plan) paths: Vec<usize>,
    /// The images that have it.
    pub(in crate::plan) users: FixedBitSet,
    /// Whether the layer is still the same: none of its paths has been changed, added or removed.
    pub(in crate::plan) unchanged: bool,
}

/// A layer of the plan: paths and images.
pub(in crate::plan) type Placed = (Vec<usize>, FixedBitSet);
