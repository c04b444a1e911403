//! The request: the input of the packer, from every frontend (plugin, derivation, CLI). The same request and closure produce
//! the same bytes in all frontends.
//!
//! [`image`] and [`layer`] declare the arguments, [`argument`] their kinds. [`schema`] describes them to editors, the
//! documentation and the plugin. [`plan`] turns a request into an image.

mod base;
mod builder;
pub(crate) mod fleet;
mod groups;
pub(crate) mod image;
mod layer;
mod nix_database;
mod pack;
mod plan;
pub mod schema;

use std::collections::HashSet;

use serde_json::Value;

pub use self::builder::{BuilderInput, BuilderJob};
use self::fleet::FleetRequest;
pub(crate) use self::image::ImageRequest;
use self::layer::LayerRequest;
pub use self::layer::{LayerPlan, PlannedLayer};
use self::pack::LayersRequest;
pub use self::pack::{LAYERS_FILE, Packing};
pub use self::plan::{BuiltImage, ImagePlan};
use crate::closure::{Closure, Store};
use crate::error::{Error, Result};
use crate::open;
use crate::plan::{Lock, Strategy};
use crate::store_path::StorePath;

/// Default of `layerLimit`: the limit of overlay file systems in Docker and containerd.
pub(crate) const LAYER_LIMIT: usize = 127;

/// Checks that strategy, groups and lock file fit together. `place` is the layer's place, for messages.
fn check_grouping(
    place: &str,
    strategy: Option<Strategy>,
    groups: Option<&Value>,
    has_lock: bool,
) -> Result<()> {
    match (strategy, groups) {
        (Some(Strategy::Explicit), None) => {
            let why = "it requires the argument groups, a list of groups of store paths";
            return Err(Error::invalid(format!("{place}strategy \"explicit\""), why));
        }
        (Some(other), Some(_)) if other != Strategy::Explicit => {
            let why = format!("they require strategy \"explicit\", got {:?}", other.name());
            return Err(Error::invalid(format!("{place}groups"), why));
        }
        _ => {}
    }
    let strategy = groups.map(|_| Strategy::Explicit).or(strategy).unwrap_or_default();
    if has_lock && strategy != Strategy::MinChurn {
        let ours = Strategy::MinChurn.name();
        let why = format!("it requires strategy {ours:?}, got {:?}: remove one of the two", strategy.name());
        return Err(Error::invalid(format!("{place}lock"), why));
    }
    Ok(())
}

/// Reads a lock file in the store. `argument` is for messages.
fn read_lock(path: &str, argument: &str, store: &Store) -> Result<Lock> {
    let path = checked_path(path, argument, store)?;
    let file = store.real_path(&path);
    let failed = |source| Error::unreadable(format!("{argument} (a lock file)"), &file, source);
    let text = open::store_text(store, &file).map_err(failed)?;
    Lock::read(&text, path.as_str())
}

fn checked(paths: &[String], argument: &str, store: &Store) -> Result<Vec<StorePath>> {
    let check = |(at, path): (usize, &String)| checked_path(path, &format!("{argument}[{at}]"), store);
    paths.iter().enumerate().map(check).collect()
}

fn checked_path(path: &str, argument: &str, store: &Store) -> Result<StorePath> {
    store.check(path).map_err(|error| Error::invalid(argument, error))
}

/// Returns the paths of `closure` whose hash is anywhere in `text`. Nix finds references in the same way.
pub(crate) fn references(text: &[u8], closure: &Closure, store: &Store) -> Vec<StorePath> {
    const HASH: usize = 32;
    let in_hash = |byte: u8| b"0123456789abcdfghijklmnpqrsvwxyz".contains(&byte);
    let mut found: HashSet<&[u8]> = HashSet::new();
    for run in text.split(|byte| !in_hash(*byte)).filter(|run| run.len() >= HASH) {
        found.extend(run.windows(HASH));
    }
    let hash_of = |path: &StorePath| {
        let name = path.as_str().strip_prefix(&store.dir)?.strip_prefix('/')?;
        name.as_bytes().get(..HASH).map(<[u8]>::to_vec)
    };
    closure
        .iter()
        .map(|info| &info.path)
        .filter(|path| hash_of(path).is_some_and(|hash| found.contains(&hash[..])))
        .cloned()
        .collect()
}
