//! The real package set of tests and examples: Debian packages and wheels from PyPI, fetched once for
//! `tests/packages` to turn into store paths whose programs run from the store.
//!
//! Set-up decides *which* files: it has apt and pip resolve the closure of [`WANTED`] and [`WHEELS`], downloads
//! the files with these two, checks every hash against the index that they verified, and writes a [`Lock`]. What
//! becomes of the files is up to the Nix expressions: each file is a fixed-output derivation there, and
//! [`add_to_store`] makes it valid beforehand, so nothing is ever fetched during a build, and evaluation is pure.
//!
//! Debian's mirrors forget old versions. So no version is written down in the repository, and no golden value of
//! a test may depend on one: whoever deletes the cache gets the versions of that day.

pub mod apt;
pub mod lock;
mod pip;
mod store;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use lock::Lock;
pub use store::add_to_store;

use crate::host;

/// The Debian packages whose programs or data the set offers, by Debian's names.
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

/// Parts of Python's standard library that some releases of Debian pack on their own and others do not have.
const WANTED_WHERE_KNOWN: &[&str] = &["python3-distutils", "python3-lib2to3"];

/// The Python packages, by PyPI's names.
const WHEELS: &[&str] = &["flask", "honcho"];

/// Debian packages that become one store path, as they are one in nixpkgs. `*` stands for anything. The C library
/// and the compiler's run-time library also depend on each other, which store paths cannot.
const TOGETHER: &[(&str, &[&str])] = &[
    ("glibc", &["libc6", "libc-bin", "libgcc-s1", "gcc-*"]),
    ("ncurses", &["libtinfo*", "libncursesw*", "ncurses-base", "ncurses-bin"]),
    ("openssl", &["openssl", "libssl3*"]),
    ("linux-pam", &["libpam0g*", "libpam-modules*", "libpam-runtime"]),
    ("python3", &["python3*", "libpython3*"]),
    ("nginx", &["nginx", "nginx-common"]),
    ("readline", &["libreadline8*"]),
];

/// Which way a set-up goes when there is a complete set already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Resolve {
    /// Keep it.
    WhenMissing,
    /// Resolve anew, for today's versions.
    Again,
}

/// Makes the package files available and gives their lock. A set-up that has nothing to do takes milliseconds and
/// needs no network.
pub fn set_up(resolve: Resolve) -> Result<Lock> {
    // What the builders call inside Nix's sandbox, at these paths: /usr/bin/{dpkg-deb,patchelf,python3}.
    host::apt_install(&["dpkg", "patchelf", "python3"])?;
    if resolve == Resolve::WhenMissing
        && let Some(lock) = Lock::read_complete()
    {
        return Ok(lock);
    }
    host::say("resolving the package set with apt and pip");
    std::fs::create_dir_all(files()).with_context(|| format!("cannot make {}", files().display()))?;
    // Package lists that are missing or out of date show as unknown packages or as files that are gone.
    let packages = apt::fetch().or_else(|error| {
        host::say(format!("refreshing apt's package lists: {error:#}"));
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

/// Where the downloaded files lie, each under its name in the Nix store.
fn files() -> PathBuf {
    host::cache().join("packages/files")
}

/// Downloads in a fresh folder and moves the files to [`files`], so that an interrupted download leaves nothing half.
fn download(into: impl FnOnce(&Path) -> Result<Vec<(PathBuf, String)>>) -> Result<()> {
    let scratch = tempfile::tempdir_in(host::cache().join("packages"))?;
    for (from, name) in into(scratch.path())? {
        let to = files().join(name);
        std::fs::rename(&from, &to)
            .with_context(|| format!("cannot move {} to {}", from.display(), to.display()))?;
    }
    Ok(())
}
