//! The prefix of an installed Nix.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::host::{cache, output};

/// An installed Nix.
#[derive(Debug, Clone)]
pub struct Nix {
    /// Its name in messages and file names: `2.8`, `2.26`, `sid`, or the major and minor version of a prefix.
    pub name: String,
    /// Its version, as `nix --version` prints it: `2.8.0`.
    pub version: String,
    /// Its installation prefix.
    pub prefix: PathBuf,
    /// The directory with `nix`, `nix-build`, `nix-store`, `nix-daemon` and `nix-instantiate`.
    pub bin: PathBuf,
    /// Whether it has headers and can load a plugin.
    pub has_headers: bool,
}

/// The required programs of a prefix; all but `nix` are usually links to it.
pub(super) const PROGRAMS: [&str; 5] = ["nix", "nix-build", "nix-store", "nix-daemon", "nix-instantiate"];

/// A directory in the cache. It is complete if it has the number of the current recipe.
pub(super) struct Prefix {
    name: &'static str,
    pub(super) path: PathBuf,
    recipe: &'static str,
}

impl Prefix {
    /// Returns the prefix with this name. A new `recipe` has the effect that older results are rebuilt.
    pub(super) fn of(name: &'static str, recipe: &'static str) -> Result<Self> {
        let path = std::path::absolute(cache().join("nix").join(name))?;
        Ok(Self { name, path, recipe })
    }

    /// Returns its Nix, if it is complete and runs.
    pub(super) fn ready(&self) -> Option<Nix> {
        let made_by = fs::read_to_string(self.path.join("recipe")).ok()?;
        (made_by == self.recipe).then(|| describe(self.name, &self.path).ok()).flatten()
    }

    /// Calls `fill` with a temporary directory and a new prefix in it, then moves that prefix to its path, so that an interrupted
    /// run leaves no incomplete prefix.
    pub(super) fn make(&self, fill: impl FnOnce(&Path, &Path) -> Result<()>) -> Result<Nix> {
        let parent = self.path.parent().expect("it is below the cache directory");
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        remove_leftovers(parent)?;
        let work =
            tempfile::Builder::new().prefix(&format!(".work-{}-", std::process::id())).tempdir_in(parent)?;
        let new = work.path().join("prefix");
        fs::create_dir(&new)?;
        fill(work.path(), &new)?;
        fs::write(new.join("recipe"), self.recipe)?;
        if self.path.exists() {
            fs::rename(&self.path, work.path().join("old"))?;
        }
        fs::rename(&new, &self.path).with_context(|| format!("cannot create {}", self.path.display()))?;
        describe(self.name, &self.path)
    }
}

/// Removes the temporary directories of ended processes, because a killed build leaves a gigabyte.
fn remove_leftovers(parent: &Path) -> Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(".work-")?.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Reads version and headers of the Nix in `prefix`.
pub(super) fn describe(name: &str, prefix: &Path) -> Result<Nix> {
    let bin = prefix.join("bin");
    for program in PROGRAMS {
        if !bin.join(program).exists() {
            bail!("this Nix lacks a program: {}", bin.join(program).display());
        }
    }
    let said = output(Command::new(bin.join("nix")).arg("--version"))?;
    let version = version_in(&said).with_context(|| format!("not a version of Nix: {}", said.trim()))?;
    let include = prefix.join("include/nix");
    let has_headers = ["primops.hh", "expr/primops.hh"].iter().any(|header| include.join(header).exists());
    Ok(Nix { name: name.into(), version: version.into(), prefix: prefix.into(), bin, has_headers })
}

/// Returns the version in the output of `nix --version`: `nix (Nix) 2.26.3`, or a vendor's text before the number.
fn version_in(said: &str) -> Option<&str> {
    let last = said.lines().next()?.split_whitespace().last()?;
    last.starts_with(|first: char| first.is_ascii_digit()).then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_the_last_word_of_the_first_line() {
        assert_eq!(version_in("nix (Nix) 2.8.0\n"), Some("2.8.0"));
        assert_eq!(version_in("nix (Nix) 2.35.0pre20260101_0123abc\n"), Some("2.35.0pre20260101_0123abc"));
        assert_eq!(version_in("nix (Determinate Nix 3.8.5) 2.30.2\n"), Some("2.30.2"));
        assert_eq!(version_in("error: experimental\n"), None);
        assert_eq!(version_in(""), None);
    }
}
