//! Converts the bridge's structs to the packer's types and back.

use nixply_packer::{Error, Layer, Result};
use nixply_planning::{Closure, PathInfo, Store, StorePath, nar_hash};

use crate::bridge;

/// Converts the closure. Entries that contradict each other and malformed hashes are errors. The planner checks that all paths are
/// in the store.
pub(crate) fn closure(infos: &[bridge::PathInfo]) -> Result<Closure> {
    for info in infos.iter().filter(|info| !info.nar_hash.is_empty()) {
        let wrong = |why| Error::invalid(format!("closure, hash of {}", info.path), why);
        nar_hash::check(&info.nar_hash).map_err(wrong)?;
    }
    let parsed = |path: &String| StorePath::parse(path).map_err(|error| Error::at("closure", error));
    let infos = infos.iter().map(|info| {
        Ok(PathInfo {
            path: parsed(&info.path)?,
            references: info.references.iter().map(parsed).collect::<Result<_>>()?,
            nar_hash: info.nar_hash.clone(),
            nar_size: info.nar_size,
        })
    });
    Ok(Closure::consistent(infos.collect::<Result<Vec<_>>>()?, "closure")?)
}

pub(crate) fn store(settings: &bridge::PackerSettings) -> Store {
    Store { dir: settings.store_dir.clone(), real_dir: settings.real_store_dir.clone().into() }
}

pub(crate) fn layer_info(layer: &Layer) -> bridge::LayerInfo {
    bridge::LayerInfo {
        digest: layer.digest.to_string(),
        diff_id: layer.diff_id.to_string(),
        size: layer.size,
        media_type: layer.media_type.clone(),
        paths: layer.paths.iter().map(|path| path.path.to_string()).collect(),
    }
}
