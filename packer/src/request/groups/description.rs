//! The form of groups, for the schema.

#![allow(dead_code, reason = "only the schema uses these types")]

use nixply_documents::argument::{Count, Mention, Plain};
use nixply_planning::Strategy;
use schemars::JsonSchema;

/// Store paths that share a layer: an item, a list of items, or an object with `paths`.
#[derive(JsonSchema)]
#[serde(untagged)]
pub(super) enum Group {
    Item(Item),
    Items(Vec<Item>),
    Split(Split),
}

/// Store paths that are split into several layers.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Split {
    /// An item, or a list of items.
    paths: Items,
    /// The strategy that splits them, any except `explicit`. It sees these store paths alone. Default: `min-churn`.
    strategy: Option<Strategy>,
    /// Maximum number of layers. Default: 1.
    #[schemars(with = "Option<Count>")]
    max_layers: Option<usize>,
}

/// A store path, or an object with one predicate.
#[derive(JsonSchema)]
#[serde(untagged)]
pub(super) enum Item {
    Path(#[schemars(with = "Mention")] String),
    Predicate(Box<Predicate>),
}

/// An item, or a list of items.
#[derive(JsonSchema)]
#[serde(untagged)]
pub(super) enum Items {
    One(Item),
    Many(Vec<Item>),
}

/// A number of bytes, or text with a unit (B; kB, MB, GB, TB of 1000; KiB, MiB, GiB, TiB of 1024).
#[derive(JsonSchema)]
#[serde(untagged)]
pub(super) enum Size {
    Bytes(u64),
    Text(#[schemars(with = "Plain")] String),
}

/// A predicate: an object with one of these keys.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct Predicate {
    /// `true`: the store paths that the request names: `deps` or the config's, and `copyToRoot`.
    roots: Option<bool>,
    /// The closures of these items: everything that they refer to, directly or indirectly, and the items themselves.
    deps_of: Option<Items>,
    /// These items and everything that refers to them, directly or indirectly.
    dependents_of: Option<Items>,
    /// These items and the paths that the image needs only because of them: everything that it would not contain without them.
    needed_only_by: Option<Items>,
    /// Store paths whose name, without the hash, matches this [regular expression](https://docs.rs/regex/latest/regex/#syntax)
    /// as a whole.
    #[schemars(with = "Option<Plain>")]
    name: Option<String>,
    /// Store paths whose archive has at least this size: a number of bytes, or text with a unit such as `"100 MiB"` (`B`;
    /// `kB`, `MB`, `GB`, `TB` of 1000; `KiB`, `MiB`, `GiB`, `TiB` of 1024).
    min_size: Option<Size>,
    /// Store paths whose archive has at most this size, in the same form.
    max_size: Option<Size>,
    /// The store paths that all of these items match: every store path for an empty list.
    all: Option<Vec<Item>>,
    /// The store paths that at least one of these items matches.
    any: Option<Vec<Item>>,
    /// The store paths that none of these items matches.
    not: Option<Items>,
}
