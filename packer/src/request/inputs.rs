//! Store paths and files that a request names.

use nixply_files::open;
use nixply_planning::plan::Lock;
use nixply_planning::{Store, StorePath};

use crate::error::{Error, Result};

/// Reads a lock file in the store. `argument` is for messages.
pub(super) fn read_lock(path: &str, argument: &str, store: &Store) -> Result<Lock> {
    let path = checked_path(path, argument, store)?;
    let file = store.real_path(&path);
    let failed = |source| Error::unreadable(format!("{argument} (a lock file)"), &file, source);
    let text = open::store_text(&store.real_dir, &file).map_err(failed)?;
    Ok(Lock::read(&text, path.as_str())?)
}

pub(super) fn checked(paths: &[String], argument: &str, store: &Store) -> Result<Vec<StorePath>> {
    let check = |(at, path): (usize, &String)| checked_path(path, &format!("{argument}[{at}]"), store);
    paths.iter().enumerate().map(check).collect()
}

pub(super) fn checked_path(path: &str, argument: &str, store: &Store) -> Result<StorePath> {
    store.check(path).map_err(|error| Error::at(argument, error))
}
