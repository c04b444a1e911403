//! The scenarios of the side-by-side: one row each, with the name in results and the work that it measures.
//!
//! Tables and charts show the scenarios in this order. To add one, add a row; a new kind of [`Work`] also needs its
//! measurement in `side_by_side`.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A scenario.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scenario {
    /// Its name in results, tables and charts.
    pub name: &'static str,
    /// The measured work.
    pub work: Work,
}

/// The work of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Compute the layers' `diff_id`s, without a cache.
    Build {
        /// Number of layers.
        layers: usize,
        /// Whether the files are only on disk, not in memory.
        cold: bool,
    },
    /// Build an image with its compressed layers, without a cache and a registry: the minimum for a push.
    Pack,
    /// Build an image and push it.
    Push(Push),
    /// Build an image and copy it into an engine's storage.
    Pull {
        /// The engine.
        engine: Engine,
        /// Difference from the first image.
        change: Change,
    },
    /// Build nixply's image with a growing number of changed bytes.
    Changed,
    /// Run tar, hashes and codecs on the same bytes.
    Reference,
    /// No work: only earlier results have this scenario.
    Retired,
}

/// A push in a series of pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Push {
    /// Difference from the first image.
    pub change: Change,
    /// Whether a fresh runner builds it.
    pub fresh: bool,
    /// Result of an earlier build that the runner can use.
    pub received: Received,
}

/// Difference between two builds of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// No difference.
    None,
    /// Another content of the `app`, which no store path refers to. The number distinguishes several such changes.
    Leaf(u32),
    /// Another content of one store path in the middle of the graph, and so another hash of all its referrers.
    Middle(u32),
}

impl Change {
    /// Returns its name in file names and image tags.
    pub fn name(self) -> String {
        match self {
            Self::None => "base".into(),
            Self::Leaf(number) => format!("leaf-{number}"),
            Self::Middle(number) => format!("middle-{number}"),
        }
    }
}

/// Result of an earlier build that a runner receives from a binary cache or from the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Nothing.
    Nothing,
    /// The spec of the image before this change, which may speed up the build.
    FormerSpec(Change),
    /// The spec of the image itself, which replaces the build.
    OwnSpec,
    /// The description of the image itself, on a machine without its store paths. The registry has all blobs.
    Description,
    /// The registry's image before this change, as a cache.
    FormerImage,
    /// The places of compressed frames in the registry's image. The new image has another number of layers.
    Frames,
}

impl Received {
    /// Returns whether only `nixply push` provides it: as annotations, an artifact or a description.
    pub fn is_from_push(self) -> bool {
        matches!(self, Self::Description | Self::FormerImage | Self::Frames)
    }
}

/// A container engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// podman.
    Podman,
    /// Docker.
    Docker,
}

/// Scenarios that are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Group {
    /// tar, hashes and codecs on the same bytes, for reference
    Reference,
    /// Only the layers' diff_ids, without a cache
    Build,
    /// Build and push: first, unchanged, with the app changed, with a path in the middle changed; the same on fresh runners, also with
    /// the registry as cache
    Push,
    /// Build, and copy into the storage of podman and Docker
    Pull,
    /// nixply's build with a growing number of changed bytes
    Changed,
}

impl Group {
    /// All groups, in the order of measuring.
    pub const ALL: [Self; 5] = [Self::Reference, Self::Build, Self::Push, Self::Pull, Self::Changed];
}

/// All scenarios, in the order of tables and, within a group, of measuring.
pub static SCENARIOS: [Scenario; 23] = {
    const fn build(name: &'static str, layers: usize, cold: bool) -> Scenario {
        Scenario { name, work: Work::Build { layers, cold } }
    }
    const fn push(name: &'static str, change: Change, fresh: bool, received: Received) -> Scenario {
        Scenario { name, work: Work::Push(Push { change, fresh, received }) }
    }
    const fn pull(name: &'static str, engine: Engine, change: Change) -> Scenario {
        Scenario { name, work: Work::Pull { engine, change } }
    }
    use Change::{Leaf, Middle};
    use Engine::{Docker, Podman};
    use Received::{Description, FormerImage, FormerSpec, Frames, Nothing, OwnSpec};
    const BASE: Change = Change::None;
    [
        build("build: 1 layer", 1, false),
        build("build: 100 layers", 100, false),
        build("build: 100 layers (from disk)", 100, true),
        Scenario { name: "packing alone", work: Work::Pack },
        push("first push", BASE, false, Nothing),
        push("no change", BASE, false, Nothing),
        push("leaf changed", Leaf(1), false, Nothing),
        push("middle changed", Middle(1), false, Nothing),
        push("fresh runner: no change", BASE, true, Nothing),
        push("fresh runner: leaf changed", Leaf(2), true, Nothing),
        push("fresh runner: middle changed", Middle(2), true, Nothing),
        push("fresh runner: leaf changed (former spec known)", Leaf(3), true, FormerSpec(BASE)),
        push("fresh runner: leaf changed (its spec known)", Leaf(4), true, OwnSpec),
        push("fresh runner: leaf changed (registry as cache)", Leaf(5), true, FormerImage),
        push("fresh runner: no store paths (description)", BASE, true, Description),
        push("fresh runner: other layers (frames in the registry)", BASE, true, Frames),
        pull("podman: first image", Podman, BASE),
        pull("podman: leaf changed", Podman, Leaf(1)),
        pull("docker: first image", Docker, BASE),
        pull("docker: leaf changed", Docker, Leaf(1)),
        Scenario { name: "changed bytes", work: Work::Changed },
        Scenario { name: "reference", work: Work::Reference },
        Scenario { name: "fresh runner: no change and spec known", work: Work::Retired },
    ]
};

impl Scenario {
    /// Looks up a scenario by its name.
    pub fn named(name: &str) -> Option<Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name).copied()
    }

    /// Returns its place in [`SCENARIOS`].
    pub fn rank(self) -> usize {
        SCENARIOS.iter().position(|scenario| scenario.name == self.name).unwrap_or(SCENARIOS.len())
    }

    /// Returns the group that measures it.
    pub fn group(self) -> Option<Group> {
        match self.work {
            Work::Build { .. } => Some(Group::Build),
            Work::Pack | Work::Push(_) => Some(Group::Push),
            Work::Pull { .. } => Some(Group::Pull),
            Work::Changed => Some(Group::Changed),
            Work::Reference => Some(Group::Reference),
            Work::Retired => None,
        }
    }

    /// Returns whether it compares contenders.
    pub fn is_contest(self) -> bool {
        !matches!(self.work, Work::Changed | Work::Reference)
    }
}

impl Default for Scenario {
    /// Returns the first scenario.
    fn default() -> Self {
        SCENARIOS[0]
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Serialize for Scenario {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for Scenario {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| D::Error::custom(format!("no such scenario: {name}")))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), SCENARIOS.len());
    }

    #[test]
    fn every_group_has_a_scenario() {
        let groups: BTreeSet<Group> = SCENARIOS.iter().filter_map(|scenario| scenario.group()).collect();
        assert_eq!(groups.len(), Group::ALL.len());
    }
}
