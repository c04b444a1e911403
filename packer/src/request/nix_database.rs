//! An image's Nix database: the store paths in it, and its place in the image.

use std::collections::HashSet;

use nixply_documents::argument::{Id, Kind, Root};
use nixply_planning::plan::Stop;
use nixply_planning::{Closure, PathInfo, Perm, PermPath, PlannedPath, Store, StorePath};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::inputs::{checked, checked_path};
use super::layer::{Below, LayerContext, LayerPlan, LayerRequest};
use crate::error::Result;

/// The database for a Nix inside the image.
// The content of the database is at the image's root, in a layer above all others. There, the owner that it sets for `/nix` is
// final: a layer with store paths above it would make root the owner again. If other paths shared its layer, their rules for `/nix`
// could not be distinguished from its own (nix2container#201). The image already contains the paths that the database refers to, or
// omits them on purpose: if the database were a normal root, it would add store paths that layers have omitted, and pack those with
// other perms a second time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NixDatabase {
    /// The database: a store path that `nix/nix-database.nix` makes of the image's `config`, `healthcheck`, `copyToRoot` and `layers`.
    #[serde(with = "Root")]
    pub path: String,
    /// The owner of `/nix`, `/nix/store` and `/nix/var`. Default: 0.
    #[serde(default, with = "Id")]
    pub uid: i64,
    /// The group of `/nix`, `/nix/store` and `/nix/var`. Default: 0.
    #[serde(default, with = "Id")]
    pub gid: i64,
}

impl NixDatabase {
    /// Plans the layer. `there` are the paths that the layers below have at their own place.
    pub(super) fn plan(
        &self,
        closure: &Closure,
        store: &Store,
        there: &HashSet<&StorePath>,
        warnings: &mut Vec<String>,
        stop: Stop<'_>,
    ) -> Result<Vec<LayerPlan>> {
        checked_path(&self.path, "nixDatabase.path", store)?;
        let info = closure.get_named(&self.path);
        let missing = info.iter().flat_map(|info| &info.references).filter(|path| !there.contains(path));
        warnings.extend(missing.map(|path| {
            format!(
                "the Nix database has {path}, but the image does not have it at that place: make the database from the image's own \
                 layers and copyToRoot"
            )
        }));
        let alone = Closure::new(info.map(|info| PathInfo { references: Vec::new(), ..info.clone() }));
        let (uid, gid) = (self.uid, self.gid);
        let perm = Perm { regex: ".*".into(), mode: "0755".into(), uid, gid, ..Perm::default() };
        let layer = LayerRequest {
            copy_to_root: vec![self.path.clone()],
            perms: vec![PermPath { path: self.path.clone(), perm }],
            max_layers: 1,
            ..LayerRequest::default()
        };
        let below = Below::Some(Vec::new());
        let context = LayerContext {
            place: "nixDatabase.",
            closure: &alone,
            store,
            below,
            base: Vec::new(),
            assigner: None,
            stop,
        };
        layer.plan(context, HashSet::new(), warnings)
    }
}

/// Input of the builder frontend for an image's Nix database.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct NixDatabaseRequest {
    /// All layers of the image, in any order.
    layers: Vec<LayerRequest>,
}

impl NixDatabaseRequest {
    /// Returns the paths, sorted, each with all its references. A path of `copyToRoot` is not at its own place, unless
    /// another layer has it there (nix2container#165, #192). A path of `ignore` is in no layer.
    pub(super) fn paths(&self, closure: &Closure, store: &Store) -> Result<Closure> {
        let mut present: HashSet<StorePath> = HashSet::new();
        for (at, layer) in self.layers.iter().enumerate() {
            let place = format!("nixDatabase.layers[{at}].");
            if let Some(made) = layer.prebuilt(&place, store)? {
                let paths = made.into_iter().flat_map(|layer| layer.paths);
                present.extend(paths.filter(PlannedPath::keeps_place).map(|path| path.path));
                continue;
            }
            let list = |paths: &[String], name: &str| checked(paths, &format!("{place}{name}"), store);
            let (deps, to_root) = (list(&layer.deps, "deps")?, list(&layer.copy_to_root, "copyToRoot")?);
            let ignore = list(&layer.ignore, "ignore")?;
            let elsewhere: HashSet<&StorePath> = to_root.iter().chain(&ignore).collect();
            let closure = closure.of_roots(deps.iter().chain(&to_root), place.trim_end_matches('.'))?;
            let paths = closure.iter().map(|info| &info.path);
            present.extend(paths.filter(|path| !elsewhere.contains(path)).cloned());
        }
        let mut infos: Vec<_> = closure.iter().filter(|info| present.contains(&info.path)).cloned().collect();
        infos.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Closure::new(infos))
    }
}
