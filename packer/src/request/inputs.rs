//! Store paths and files that a request names, and the references of a text.

use std::collections::HashSet;

use crate::closure::{Closure, Store};
use crate::error::{Error, Result};
use crate::open;
use crate::plan::Lock;
use crate::store_path::StorePath;

/// Reads a lock file in the store. `argument` is for messages.
pub(super) fn read_lock(path: &str, argument: &str, store: &Store) -> Result<Lock> {
    let path = checked_path(path, argument, store)?;
    let file = store.real_path(&path);
    let failed = |source| Error::unreadable(format!("{argument} (a lock file)"), &file, source);
    let text = open::store_text(store, &file).map_err(failed)?;
    Lock::read(&text, path.as_str())
}

pub(super) fn checked(paths: &[String], argument: &str, store: &Store) -> Result<Vec<StorePath>> {
    let check = |(at, path): (usize, &String)| checked_path(path, &format!("{argument}[{at}]"), store);
    paths.iter().enumerate().map(check).collect()
}

pub(super) fn checked_path(path: &str, argument: &str, store: &Store) -> Result<StorePath> {
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
