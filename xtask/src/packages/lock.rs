//! The lock file: which files the package set is made of.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{TOGETHER, WANTED, WANTED_WHERE_KNOWN, WHEELS, files};
use crate::host;

/// What set-up found, as `tests/packages` reads it.
#[derive(Serialize, Deserialize)]
pub struct Lock {
    /// The Nix system of the Debian packages.
    pub system: String,
    /// What was asked for; a lock that answers another question is made anew.
    asked: String,
    /// The Debian packages, each after the ones it depends on.
    pub packages: Vec<Unit>,
    /// The Python wheels.
    pub wheels: Vec<Wheel>,
}

/// One or more Debian packages that become one store path.
#[derive(Serialize, Deserialize)]
pub struct Unit {
    /// The Debian package's name, or the one from [`TOGETHER`].
    pub name: String,
    /// Upstream's version: Debian's without epoch and revision.
    pub version: String,
    /// The .deb files; the first one's version is the unit's.
    pub files: Vec<File>,
    /// The names of the units whose libraries this one may need.
    pub depends: Vec<String>,
}

/// A Python wheel.
#[derive(Serialize, Deserialize)]
pub struct Wheel {
    /// PyPI's name, in the one form that all its spellings have in common.
    pub name: String,
    /// The version.
    pub version: String,
    /// The names of the wheels that this one imports.
    pub depends: Vec<String>,
    /// The .whl file.
    pub file: File,
}

/// A file of the set.
#[derive(Clone, Serialize, Deserialize)]
pub struct File {
    /// Its name in the cache and in the Nix store.
    pub name: String,
    /// Its SHA-256 in hex, as the verified index has it.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
}

impl Lock {
    /// The lock file's path. It is alone in its folder, so that a flake can take the folder as an input.
    pub fn path() -> PathBuf {
        host::cache().join("packages/lock/lock.json")
    }

    /// Every file of the set.
    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.packages.iter().flat_map(|unit| &unit.files).chain(self.wheels.iter().map(|wheel| &wheel.file))
    }

    pub(super) fn new(packages: Vec<Unit>, wheels: Vec<Wheel>) -> Self {
        Self { system: format!("{}-linux", std::env::consts::ARCH), asked: asked(), packages, wheels }
    }

    /// The lock of an earlier set-up, when it answers today's question and its files are there.
    pub(super) fn read_complete() -> Option<Self> {
        let text = std::fs::read_to_string(Self::path()).ok()?;
        let lock: Self = serde_json::from_str(&text).ok()?;
        let complete = lock.asked == asked() && lock.files().all(File::is_there);
        complete.then_some(lock)
    }

    pub(super) fn write(&self) -> Result<()> {
        let path = Self::path();
        let folder = path.parent().expect("the path has a folder");
        std::fs::create_dir_all(folder)?;
        let file = tempfile::NamedTempFile::new_in(host::cache().join("packages"))?;
        serde_json::to_writer_pretty(&file, self)?;
        file.persist(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(())
    }

    /// Deletes what earlier locks left among the files.
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
    /// Where the file lies in the cache.
    pub fn path(&self) -> PathBuf {
        files().join(&self.name)
    }

    /// Whether the cache has the file. Its hash was checked when it came; the size notices a damaged cache.
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

/// A file name that the Nix store takes.
pub fn store_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "+-._?=".contains(c) { c } else { '-' }).collect()
}

fn asked() -> String {
    format!("3 {WANTED:?} {WANTED_WHERE_KNOWN:?} {WHEELS:?} {TOGETHER:?}")
}
