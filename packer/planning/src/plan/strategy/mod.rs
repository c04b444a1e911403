//! Strategies: one declaration for requests, flags, reports and documentation.

mod auto_layer;
pub mod explicit;
pub(super) mod min_churn;
pub(super) mod popularity;
mod size;

use nixply_documents::wording::{self, quoted};
use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use strum::{EnumString, IntoStaticStr, VariantArray};

use super::Options;
use super::fleet::Alone;
use super::graph::Graph;
use super::layer_assigner::Member;
use crate::closure::Closure;
use crate::error::{Error, Result};
use crate::layer::{Plan, PlannedPath};

/// The way in which store paths are grouped into layers.
// These descriptions are the documentation of every frontend. A new strategy needs a variant here, a planner in a separate
// module, and an arm in `Strategy::layers`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, EnumString, IntoStaticStr, VariantArray, JsonSchema,
)]
#[strum(serialize_all = "kebab-case")]
#[schemars(
    rename_all = "kebab-case",
    extend("x-nixply-names" = "nothing", "x-nixply-former-values" = Strategy::FORMER_NAMES.map(|(name, new)| (name, new.name())))
)]
pub enum Strategy {
    /// The fewest bytes that a change of a package is expected to move, from the sizes and references of store paths.
    /// Formerly `nixply`, which is still accepted.
    // Source and objective: `min_churn/`.
    #[default]
    MinChurn,
    /// nix2container's: the store paths that most others reach get a layer each; the rest share the last one.
    // O(paths + references), then a sort. Source: grahamc, "Optimising Docker Layers for Better Caching with Nix", 2018; ties
    // as in nix2container's `closure/popularity.go`.
    Popularity,
    /// The default of nixpkgs' `dockerTools`, exactly: the largest store paths, each with the paths that only it needs.
    // Source: `auto_layer.rs`.
    AutoLayer,
    /// The largest store paths alone, the rest in bins by name, which stay the same from release to release.
    // Source: `size.rs`.
    Size,
    /// All store paths in one layer.
    Single,
    /// A layer for each store path, most popular first. More store paths than `maxLayers` are an error.
    PerPath,
    /// The layers of `groups`, in their order. The store paths in no group share a last layer.
    // Source: `explicit.rs`.
    Explicit,
}

impl Strategy {
    /// All strategies.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The strategies that need nothing but a closure: all but `explicit`.
    pub fn automatic() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|strategy| *strategy != Self::Explicit)
    }

    /// The names of [`Strategy::automatic`].
    pub fn names() -> Vec<&'static str> {
        Self::automatic().map(Self::name).collect()
    }

    /// The strategy's name.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Groups the paths of an image into layers. Paths of the closure that are not in `paths` are in no layer.
    pub(super) fn layers(
        self,
        paths: Vec<PlannedPath>,
        closure: &Closure,
        options: &Options<'_>,
    ) -> Result<Plan> {
        let (max_layers, stop) = (options.max_layers.max(1), options.stop);
        match self {
            Self::Popularity => {
                let alone = (max_layers - 1).min(paths.len() - 1);
                let mut rest = paths.into_iter();
                let mut layers: Plan = rest.by_ref().take(alone).map(|path| vec![path]).collect();
                layers.push(rest.collect());
                Ok(layers)
            }
            Self::Single => Ok(vec![paths]),
            Self::PerPath => {
                if paths.len() > max_layers {
                    let (strategy, layers) = (Self::PerPath.name(), paths.len());
                    return Err(Error::MaxLayers { strategy, layers, limit: max_layers });
                }
                Ok(paths.into_iter().map(|path| vec![path]).collect())
            }
            Self::Size => size::by_size(paths, closure, &Graph::new(closure), max_layers),
            Self::AutoLayer => {
                let groups = auto_layer::by_auto_layer(closure, &Graph::new(closure), max_layers, stop)?;
                Ok(placed(paths, closure, groups))
            }
            Self::MinChurn => {
                let (assigner, name) = options.assigner.unwrap_or((&Alone, ""));
                assigner.assign(&Member { name, closure, paths, max_layers }, stop)
            }
            Self::Explicit => explicit::by_groups(paths, options.groups, closure, max_layers, stop),
        }
    }

    /// Former names. Requests, flags and lock files may still use them.
    pub const FORMER_NAMES: [(&str, Self); 1] = [("nixply", Self::MinChurn)];

    /// Returns the strategy with this name or former name.
    pub fn from_name(name: &str) -> Result<Self> {
        Self::find(name).ok_or_else(|| {
            let (names, near) = choice(name);
            Error::invalid(format!("strategy {}", quoted(name)), format!("expected {names}{near}"))
        })
    }

    fn find(name: &str) -> Option<Self> {
        let former = || {
            Self::FORMER_NAMES.into_iter().find(|(former, _)| *former == name).map(|(_, strategy)| strategy)
        };
        name.parse().ok().or_else(former)
    }
}

/// Makes layers from groups of positions in the closure. Positions of paths that are not in `paths` are omitted, and so are
/// layers that become empty. nixpkgs' script treats ignored paths in the same way.
fn placed(paths: Vec<PlannedPath>, closure: &Closure, groups: Vec<Vec<usize>>) -> Plan {
    let mut at_place: Vec<Option<PlannedPath>> = vec![None; closure.len()];
    for path in paths {
        let place = closure.place(&path.path).expect("paths to plan are in the closure");
        at_place[place] = Some(path);
    }
    let layers =
        groups.into_iter().map(|group| group.into_iter().filter_map(|at| at_place[at].take()).collect());
    layers.filter(|layer: &Vec<PlannedPath>| !layer.is_empty()).collect()
}

/// Returns the list of names, and a suggestion: the name nearest to `name`.
fn choice(name: &str) -> (String, String) {
    let names = || Strategy::ALL.iter().map(|strategy| strategy.name());
    let near = wording::nearest(name, names()).map(|near| format!("; did you mean {near:?}?"));
    (format!("one of {}", names().collect::<Vec<_>>().join(", ")), near.unwrap_or_default())
}

impl Serialize for Strategy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Strategy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::find(&name).ok_or_else(|| {
            let (names, near) = choice(&name);
            serde::de::Error::custom(format_args!("must be {names}, not {}{near}", quoted(&name)))
        })
    }
}
