//! The lock file of the package set, which lists its files.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::files::files;
use super::wanted::{TOGETHER, WANTED, WANTED_WHERE_KNOWN, WHEELS};
use crate::host;

/// The lock file's contents, which `tests/packages` reads.
#[derive(Serialize, Deserialize)]
pub struct Lock {
    /// The Nix system of the Debian packages.
    pub system: String,
    /// Text of the request. If it differs, set-up resolves the packages again.
    asked: String,
    /// The Debian packages, each after its dependencies.
    pub packages: Vec<Unit>,
    /// The Python wheels.
    pub wheels: Vec<Wheel>,
}

/// One or more Debian packages that become one store path.
#[derive(Serialize, Deserialize)]
pub struct Unit {
    /// The Debian package's name, or the unit's name in [`TOGETHER`].
    pub name: String,
    /// Upstream's version: Debian's without epoch and revision.
    pub version: String,
    /// The .deb files. The unit has the version of the first file.
    pub files: Vec<File>,
    /// The names of the units whose libraries this unit may need.
    pub depends: Vec<String>,
}

/// A Python wheel.
#[derive(Serialize, Deserialize)]
pub struct Wheel {
    /// PyPI's name, normalized.
    pub name: String,
    /// The version.
    pub version: String,
    /// The names of the wheels that this wheel imports.
    pub depends: Vec<String>,
    /// The .whl file.
    pub file: File,
}

/// A file of the set.
#[derive(Clone, Serialize, Deserialize)]
pub struct File {
    /// Its name in the cache and in the Nix store.
    pub name: String,
    /// Its SHA-256 in hex, from the verified index.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
}

impl Lock {
    /// Returns the lock file's path. The file is alone in its directory, so that the directory can be a flake's input.
    pub fn path() -> PathBuf {
        host::cache().join("packages/lock/lock.json")
    }

    /// Returns all files of the set.
    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.packages.iter().flat_map(|unit| &unit.files).chain(self.wheels.iter().map(|wheel| &wheel.file))
    }

    pub(super) fn new(packages: Vec<Unit>, wheels: Vec<Wheel>) -> Self {
        Self { system: format!("{}-linux", std::env::consts::ARCH), asked: asked(), packages, wheels }
    }

    /// Reads the lock of an earlier set-up, if it is for the same request and its files exist.
    pub(super) fn read_complete() -> Option<Self> {
        let text = std::fs::read_to_string(Self::path()).ok()?;
        let lock: Self = serde_json::from_str(&text).ok()?;
        let complete = lock.asked == asked() && lock.files().all(File::is_there);
        complete.then_some(lock)
    }

    pub(super) fn write(&self) -> Result<()> {
        let path = Self::path();
        let directory = path.parent().expect("the path has a parent");
        std::fs::create_dir_all(directory)?;
        let file = tempfile::NamedTempFile::new_in(host::cache().join("packages"))?;
        serde_json::to_writer_pretty(&file, self)?;
        file.persist(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(())
    }

    /// Deletes the files of earlier locks.
    pub(super) fn forget_other_files(&self) -> Result<()> {
        let ours: HashSet<&str> = self.files().map(|file| file.name.as_str()).collect();
        for entry in std::fs::read_dir(files())? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(|name| ours.contains(name)) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl File {
    /// Returns the file's path in the cache.
    pub fn path(&self) -> PathBuf {
        files().join(&self.name)
    }

    /// Returns whether the cache has the file, with the right size. Its hash was checked after the download.
    pub(super) fn is_there(&self) -> bool {
        self.path().metadata().is_ok_and(|meta| meta.len() == self.size)
    }

    /// Compares a download with the verified index.
    pub fn check(&self, download: &Path) -> Result<()> {
        let bytes = std::fs::read(download).with_context(|| format!("cannot read {}", download.display()))?;
        let found = hex::encode(Sha256::digest(&bytes));
        if found != self.sha256 {
            bail!("{} has SHA-256 {found}, but the index says {}", self.name, self.sha256);
        }
        Ok(())
    }
}

/// Returns a valid name for a store path.
pub fn store_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "+-._?=".contains(c) { c } else { '-' }).collect()
}

fn asked() -> String {
    format!("3 {WANTED:?} {WANTED_WHERE_KNOWN:?} {WHEELS:?} {TOGETHER:?}")
}
