//! Histories: what images had, release by release.

mod packages;
mod synthetic;

use std::path::Path;

use nixply_packer::closure::{Closure, StorePath};

pub use self::synthetic::Fleet;
use crate::error::Result;

/// What some images had, release by release, the oldest first.
#[derive(Debug, Clone)]
pub struct History {
    /// Its name, for reports.
    pub name: String,
    /// What it is of, in a sentence or two; may be empty.
    pub about: String,
    /// The images' names.
    pub images: Vec<String>,
    /// The releases.
    pub releases: Vec<Release>,
}

/// What the images had in one release.
#[derive(Debug, Clone)]
pub struct Release {
    /// Its name, such as a date or a commit.
    pub name: String,
    /// Each image's closure, in canonical order.
    pub closures: Vec<Closure>,
    /// Each image's roots.
    pub roots: Vec<Vec<StorePath>>,
}

/// Whether what depends on a changed package changes, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// As in Nix: a path's hash depends on those of all paths that it refers to.
    Dependents,
    /// Only the package itself, as with content addresses and stable references.
    Alone,
}

impl History {
    /// Reads a `nixply-history` file (`.json`, or `.json.zst`).
    pub fn read(file: &Path, propagation: Propagation) -> Result<Self> {
        packages::read(file, propagation)
    }
}
