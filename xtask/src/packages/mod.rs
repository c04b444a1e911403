//! Downloads the files of the tests' package set: Debian packages and wheels of PyPI, from which `tests/packages` builds store
//! paths.
//!
//! Set-up lets apt and pip resolve the closure of [`WANTED`] and [`WHEELS`] and download the files, checks every hash against
//! the index that they verified, and writes a [`Lock`]. In `tests/packages`, each file is a fixed-output derivation. [`add_to_store`]
//! adds the files to a store in advance, so builds download nothing and evaluation is pure.
//!
//! Debian's mirrors delete old versions. So the repository contains no version, and no golden value of a test may depend on
//! one: a set-up without cache uses the current versions.

pub mod apt;
pub mod lock;
mod pip;
mod store;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use lock::Lock;
pub use store::add_to_store;

use crate::host;

/// The Debian packages whose programs or data the set has, by Debian's names.
const WANTED: &[&str] = &[
    "bash",
    "busybox-static",
    "bzip2",
    "ca-certificates",
    "coreutils",
    "curl",
    "diffutils",
    "findutils",
    "gawk",
    "gettext-base",
    "gnu-which",
    "grep",
    "gzip",
    "hello",
    "jq",
    "less",
    "libc-bin",
    "libpam-modules",
    "login",
    "ncurses-base",
    "ncurses-bin",
    "netbase",
    "nginx",
    "nix-bin",
    "openssl",
    "passwd",
    "procps",
    "python3",
    "sed",
    "skopeo",
    "sqlite3",
    "sudo",
    "tar",
    "tini",
    "tzdata",
    "util-linux",
    "uwsgi-core",
    "uwsgi-plugin-python3",
    "xz-utils",
    "zlib1g",
];

/// Parts of Python's standard library that are separate packages in some releases of Debian and missing in others.
const WANTED_WHERE_KNOWN: &[&str] = &["python3-distutils", "python3-lib2to3"];

/// The Python packages, by PyPI's names.
const WHEELS: &[&str] = &["flask", "honcho"];

/// Debian packages that are one package in nixpkgs and become one store path. `*` matches any text. The C library and the
/// compiler's run-time library also depend on each other, which store paths cannot.
const TOGETHER: &[(&str, &[&str])] = &[
    ("glibc", &["libc6", "libc-bin", "libgcc-s1", "gcc-*"]),
    ("ncurses", &["libtinfo*", "libncursesw*", "ncurses-base", "ncurses-bin"]),
    ("openssl", &["openssl", "libssl3*"]),
    ("linux-pam", &["libpam0g*", "libpam-modules*", "libpam-runtime"]),
    ("python3", &["python3*", "libpython3*"]),
    ("nginx", &["nginx", "nginx-common"]),
    ("readline", &["libreadline8*"]),
];

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

/// Returns the folder of the downloaded files, which have their names in the Nix store.
fn files() -> PathBuf {
    host::cache().join("packages/files")
}

/// Downloads into a temporary folder and moves the files to [`files`], so that an interrupted download leaves no incomplete file.
fn download(into: impl FnOnce(&Path) -> Result<Vec<(PathBuf, String)>>) -> Result<()> {
    let scratch = tempfile::tempdir_in(host::cache().join("packages"))?;
    for (from, name) in into(scratch.path())? {
        let to = files().join(name);
        std::fs::rename(&from, &to)
            .with_context(|| format!("cannot move {} to {}", from.display(), to.display()))?;
    }
    Ok(())
}
