//! Downloads the files of the tests' package set: Debian packages and wheels of PyPI, from which `tests/packages` builds store
//! paths.
//!
//! Set-up lets apt and pip resolve the closure of `wanted.rs` and download the files, checks every hash against
//! the index that they verified, and writes a [`Lock`]. In `tests/packages`, each file is a fixed-output derivation. [`add_to_store`]
//! adds the files to a store in advance, so builds download nothing and evaluation is pure.
//!
//! Debian's mirrors delete old versions. So the repository contains no version, and no golden value of a test may depend on
//! one: a set-up without cache uses the current versions.

pub mod apt;
mod files;
pub mod lock;
mod pip;
mod store;
mod wanted;

use anyhow::{Context, Result};
pub use lock::Lock;
pub use store::add_to_store;

use self::files::files;
use crate::host;

/// The action of a set-up if the set is complete.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Resolve {
    /// Keep it.
    WhenMissing,
    /// Resolve it again, for the current versions.
    Again,
}

/// Downloads the package files and returns their lock. Takes milliseconds and no network if they are complete.
pub fn set_up(resolve: Resolve) -> Result<Lock> {
    // The builders call /usr/bin/{dpkg-deb,patchelf,python3} inside Nix's sandbox.
    host::apt_install(&["dpkg", "patchelf", "python3"])?;
    if resolve == Resolve::WhenMissing
        && let Some(lock) = Lock::read_complete()
    {
        return Ok(lock);
    }
    host::say("resolving the package set with apt and pip");
    std::fs::create_dir_all(files()).with_context(|| format!("cannot create {}", files().display()))?;
    // With missing or old package lists, apt reports unknown packages or missing files.
    let packages = apt::fetch().or_else(|error| {
        host::say(format!("updating apt's package lists: {error:#}"));
        host::apt_update()?;
        apt::fetch()
    })?;
    let python = packages.iter().find(|unit| unit.name == "python3").context("apt chose no python3")?;
    let wheels = pip::fetch(&python.version)?;
    let lock = Lock::new(packages, wheels);
    lock.write()?;
    lock.forget_other_files()?;
    Ok(lock)
}
