//! Writes the database of a Nix store as `nix-store --load-db` would, but without Nix. SQLite's own code
//! makes the file. Its bytes depend only on the paths, not on their order, the clock or the machine.
//!
//! Every Nix since 2.0 opens the schema without migrating it. All of them write the number 10 to the file `schema` and refuse a
//! larger one. Nix 2.35 dropped an index that no query needs, and records that in the table `SchemaMigrations`. Older versions
//! ignore that table, and do not check whether the index exists. So no Nix migrates a database in the form of 2.35.

mod error;
mod tree;

use std::collections::BTreeMap;
use std::path::Path;

use nixply_planning::{Closure, PathInfo, Store, StorePath, nar_hash};

pub use crate::error::{Error, Result};
use crate::tree::Row;

/// Writes the database of a store with exactly these paths into the file tree below `directory`. The directory may exist. Every path
/// becomes a root of the garbage collector. Returns warnings for the user.
///
/// ```text
/// nix/store/.links/                          empty; Nix creates it if it is missing
/// nix/var/nix/db/db.sqlite, schema
/// nix/var/nix/gcroots/docker/HASH-NAME  ->   the path
/// ```
pub fn write(paths: &Closure, store: &Store, directory: &Path) -> Result<Vec<String>> {
    let (rows, warnings) = rows(paths, store)?;
    tree::write(&rows, directory)?;
    Ok(warnings)
}

/// Returns the rows, sorted by path, and warnings about references to paths without a row, which are omitted.
fn rows<'p>(paths: &'p Closure, store: &Store) -> Result<(Vec<Row<'p>>, Vec<String>)> {
    let mut infos: Vec<&PathInfo> = paths.iter().collect();
    infos.sort_by(|a, b| a.path.cmp(&b.path));
    let mut rows = Vec::with_capacity(infos.len());
    let mut missing: BTreeMap<&StorePath, Vec<&StorePath>> = BTreeMap::new();
    for info in &infos {
        let refused = |why: &str| Error::Unregistrable { path: info.path.to_string(), why: why.into() };
        store.check(info.path.as_str())?;
        let hash = nar_hash::canonical(&info.nar_hash);
        if !is_canonical(&hash) {
            return Err(refused("the closure has no SHA-256 of its archive"));
        }
        let nar_size = i64::try_from(info.nar_size).ok().filter(|size| *size > 0);
        let nar_size = nar_size.ok_or_else(|| refused("the closure has no size of its archive"))?;
        let mut references = Vec::with_capacity(info.references.len());
        for reference in &info.references {
            match infos.binary_search_by(|info| info.path.cmp(reference)) {
                Ok(at) => references.push(at),
                Err(_) => missing.entry(reference).or_default().push(&info.path),
            }
        }
        references.sort_unstable();
        references.dedup();
        rows.push(Row { path: &info.path, hash, nar_size, references });
    }
    let warning = |(path, referrers): (&StorePath, Vec<&StorePath>)| {
        let refer = match referrers.len() - 1 {
            0 => "refers".to_owned(),
            others => format!("and {others} more refer"),
        };
        format!(
            "the Nix database omits {path}, although {} {refer} to it: the path is not in the database's store",
            referrers[0]
        )
    };
    Ok((rows, missing.into_iter().map(warning).collect()))
}

fn is_canonical(hash: &str) -> bool {
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    hash.strip_prefix("sha256:").is_some_and(|digits| digits.len() == 64 && digits.bytes().all(digit))
}

#[cfg(test)]
mod tests;
