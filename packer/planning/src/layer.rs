//! Types that describe a planned layer: its store paths with their rules.

use nixply_documents::argument::{Id, Mode};
use nixply_documents::go_json::null_is_default;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::store_path::StorePath;

/// A store path in a layer, with its rules. The spec lists it in the same form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PlannedPath {
    /// The store path.
    pub path: StorePath,
    /// Its rules, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<PathOptions>,
}

impl PlannedPath {
    /// Whether the path's place in the image is the path itself.
    pub fn keeps_place(&self) -> bool {
        self.options.as_ref().is_none_or(|options| options.rewrite.regex.is_empty())
    }
}

/// Layers in order, each with its paths in order. Both orders affect the spec's bytes.
pub type Plan = Vec<Vec<PlannedPath>>;

/// The rules of one store path, in the form of nix2container's spec.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct PathOptions {
    /// The path's place in the image.
    #[serde(deserialize_with = "null_is_default")]
    pub rewrite: Rewrite,
    /// Owners and modes of its files. Later rules win.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub perms: Vec<Perm>,
}

/// Moves files: replaces every match of `regex` in a file's path by `repl`. A file whose path becomes empty is left out. Both
/// use Go's syntax (RE2, `$1`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Rewrite {
    /// An unanchored RE2 regular expression; empty means no rewriting.
    #[serde(deserialize_with = "null_is_default")]
    pub regex: String,
    /// The replacement, with `$1` and `${name}` as in Go's `Regexp.ReplaceAll`.
    #[serde(deserialize_with = "null_is_default")]
    pub repl: String,
}

/// Sets the owner and mode of every file whose path in the store matches `regex`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Perm {
    /// The files: an unanchored regular expression in Go's syntax, matched on the path in the store. Empty: all files of `path`.
    #[serde(deserialize_with = "null_is_default")]
    pub regex: String,
    /// The mode: octal digits, as in `"0755"`. Empty: the file keeps its own.
    #[serde(deserialize_with = "null_is_default")]
    #[schemars(with = "Mode")]
    pub mode: String,
    /// The owner. Default: 0.
    #[serde(deserialize_with = "null_is_default")]
    #[schemars(with = "Id")]
    pub uid: i64,
    /// The group. Default: 0.
    #[serde(deserialize_with = "null_is_default")]
    #[schemars(with = "Id")]
    pub gid: i64,
    /// The owner's name. Empty: the file keeps the name that it has.
    #[serde(deserialize_with = "null_is_default")]
    pub uname: String,
    /// The group's name. Empty: the file keeps the name that it has.
    #[serde(deserialize_with = "null_is_default")]
    pub gname: String,
}
