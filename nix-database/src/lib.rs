//! Writes the database of a Nix store, as `nix-store --load-db` would, without Nix: SQLite's own code makes the file, and
//! its bytes depend on the paths alone, not on their order, the clock or the machine.
//!
//! The schema is one that every Nix from 2.0 on opens as it is. All of them write the number 10 into the file `schema` and
//! refuse a larger one. Since 2.35, Nix has dropped an index that no query needs, and notes in the table
//! `SchemaMigrations` that it has; an older Nix knows neither, and does not ask. So a database in the form of 2.35 is migrated
//! by nobody.

mod error;
mod tree;

use std::collections::BTreeMap;
use std::path::Path;

use nixply_packer::closure::{Closure, PathInfo, Store, StorePath};
use nixply_packer::nar_hash;

pub use crate::error::{Error, Result};

/// A path as the database has it.
struct Row<'p> {
    path: &'p StorePath,
    /// `sha256:` and hexadecimal digits: the one form that every Nix reads.
    hash: String,
    nar_size: i64,
    /// Places in the list of rows, ascending.
    references: Vec<usize>,
}

/// Makes `folder` (which may be there already) the root of a file tree with the database of a store that has these paths and no
/// others. Every path is a root of the garbage collector. Gives what the user should know although it is no error.
///
/// ```text
/// nix/store/.links/                          empty; Nix makes it where it is not there
/// nix/var/nix/db/db.sqlite, schema
/// nix/var/nix/gcroots/docker/HASH-NAME  ->   the path
/// ```
pub fn write(paths: &Closure, store: &Store, folder: &Path) -> Result<Vec<String>> {
    let (rows, warnings) = rows(paths, store)?;
    tree::write(&rows, folder)?;
    Ok(warnings)
}

/// The rows, sorted by path, and warnings of references that they cannot have: a reference is to a row.
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
        let nar_size = nar_size.ok_or_else(|| refused("the closure does not have its archive's size"))?;
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
            "the Nix database has no {path}, although {} {refer} to it: it is not in the store that the database is for",
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
