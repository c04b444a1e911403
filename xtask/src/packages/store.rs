//! Adds the package files to a Nix store.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Lock;
use crate::host;

/// Adds the missing files of the set to a store, so that `tests/packages` evaluates and builds there without downloads. Takes a
/// fraction of a second if none is missing.
///
/// `nix` returns a command for a program such as `nix-store`, with path, `--store` and environment for the store.
pub fn add_to_store(lock: &Lock, nix: impl Fn(&str) -> Command) -> Result<()> {
    let missing = missing(lock, &nix)?;
    if missing.is_empty() {
        return Ok(());
    }
    host::say(format!("adding {} package files to the Nix store", missing.len()));
    let mut add = nix("nix-store");
    add.args(["--add-fixed", "sha256"]).args(missing.values());
    let added = host::output(&mut add)?;
    // Builds need the same path from the expression and from the file: report a difference here, where both are known.
    match added.lines().find(|path| !missing.contains_key(*path)) {
        Some(path) => bail!("tests/packages does not use {path}, which its lock file names"),
        None => Ok(()),
    }
}

/// Returns the missing store paths, and their files.
fn missing(lock: &Lock, nix: &impl Fn(&str) -> Command) -> Result<HashMap<String, PathBuf>> {
    // Evaluate default.nix of the directory with the lock as its argument.
    let read = format!("builtins.fromJSON (builtins.readFile {:?})", Lock::path());
    let mut eval = nix("nix-instantiate");
    eval.args(["--eval", "--strict", "--json", "--attr", "sources", "--arg", "lock", &read]);
    let paths = host::output(eval.arg(host::root().join("tests/packages")))?;
    let paths: HashMap<String, String> =
        serde_json::from_str(&paths).context("cannot read the set's sources")?;

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
