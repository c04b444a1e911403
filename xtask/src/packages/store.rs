//! The files' way into a Nix store.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Lock;
use crate::host;

/// Makes the set's files valid in a store, so that `tests/packages` evaluates and builds there without fetching. What
/// is valid already is left alone, and then this takes a fraction of a second.
///
/// `nix` gives a Nix command such as `nix-store`, ready for the store in question: its path, `--store`, environment.
pub fn add_to_store(lock: &Lock, nix: impl Fn(&str) -> Command) -> Result<()> {
    let missing = missing(lock, &nix)?;
    if missing.is_empty() {
        return Ok(());
    }
    host::say(format!("adding {} package files to the Nix store", missing.len()));
    let mut add = nix("nix-store");
    add.args(["--add-fixed", "sha256"]).args(missing.values());
    let added = host::output(&mut add)?;
    // A path that Nix computed from the expression and one that it computed from the file are the same, or nothing
    // would build: say it here, where the two can be seen.
    match added.lines().find(|path| !missing.contains_key(*path)) {
        Some(path) => bail!("tests/packages does not ask for {path}, which its lock file names"),
        None => Ok(()),
    }
}

/// The store paths that are not valid yet, and the files they come from.
fn missing(lock: &Lock, nix: &impl Fn(&str) -> Command) -> Result<HashMap<String, PathBuf>> {
    // Nix's own words for `import`: the folder's default.nix with the lock for an argument.
    let read = format!("builtins.fromJSON (builtins.readFile {:?})", Lock::path());
    let mut eval = nix("nix-instantiate");
    eval.args(["--eval", "--strict", "--json", "--attr", "sources", "--arg", "lock", &read]);
    let paths = host::output(eval.arg(host::root().join("tests/packages")))?;
    let paths: HashMap<String, String> = serde_json::from_str(&paths).context("the set's sources")?;

    let mut check = nix("nix-store");
    check.args(["--check-validity", "--print-invalid"]).args(paths.values());
    let invalid = host::output(&mut check)?;
    let invalid: HashSet<&str> = invalid.lines().collect();
    let files = lock.files().map(|file| (&paths[&file.name], file.path()));
    Ok(files
        .filter(|(path, _)| invalid.contains(path.as_str()))
        .map(|(path, file)| (path.clone(), file))
        .collect())
}
