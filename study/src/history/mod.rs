//! Histories: what images had, release by release.

mod folder;
mod packages;
mod synthetic;

use std::collections::BTreeMap;
use std::path::Path;

use nixply_packer::closure::{Closure, StorePath};
use nixply_packer::given;

pub use self::synthetic::Fleet;
use crate::error::{Error, Result};

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

/// What can be studied.
#[derive(Debug, Clone)]
pub enum Subject {
    /// Releases.
    History(History),
    /// One release, which has these images: no history.
    Closures(Vec<(String, Closure)>),
}

impl Subject {
    /// Reads a `nixply-history` file (`.json`, or `.json.zst`), a closure as `nix path-info --json --recursive` prints it, or a
    /// folder of such closures: `RELEASE.json`, or `RELEASE/IMAGE.json`. Only a `nixply-history` can be without propagation.
    pub fn read(path: &Path, propagation: Propagation) -> Result<Self> {
        let what = || path.display().to_string();
        // Read once: it may be a pipe.
        let file = if path.is_dir() { None } else { Some(read(path)?) };
        if let Some(bytes) = file.as_deref().filter(|bytes| packages::is_history(path, bytes)) {
            return Ok(Self::History(packages::read(path, bytes, propagation)?));
        }
        if propagation == Propagation::Alone {
            let why = "its paths have the hashes that Nix gave them: only a nixply-history can be without propagation";
            return Err(Error::invalid(what(), why));
        }
        if let Some(bytes) = file {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.trim_end_matches(".json").to_owned();
            return Ok(Self::Closures(vec![(name, folder::of_bytes(bytes, path)?)]));
        }
        Ok(match folder::read(path)? {
            mut one if one.releases.len() == 1 => {
                let closures = one.releases.remove(0).closures;
                Self::Closures(one.images.into_iter().zip(closures).collect())
            }
            history => Self::History(history),
        })
    }
}

/// What is in a file that the user has named.
fn read(file: &Path) -> Result<Vec<u8>> {
    given::bytes(file, &|| false).map_err(|source| Error::Read { path: file.to_owned(), source })
}

impl History {
    /// Reads a `nixply-history` file (`.json`, or `.json.zst`).
    pub fn read(file: &Path, propagation: Propagation) -> Result<Self> {
        packages::read(file, &read(file)?, propagation)
    }

    /// A history of what Nix has printed in each release about each image, by name.
    pub fn of_json(name: String, releases: Vec<(String, BTreeMap<String, String>)>) -> Result<Self> {
        let mut closures = Vec::with_capacity(releases.len());
        for (release, images) in releases {
            let mut of = BTreeMap::new();
            for (image, text) in images {
                let closure = folder::of_json(&text, &format!("release {release}, image {image}"))?;
                of.insert(image, closure);
            }
            closures.push((release, of));
        }
        Ok(folder::of_closures(name, closures))
    }

    /// Leaves out what is ahead of the release `first` and after the release `last`.
    pub fn retain(&mut self, first: Option<&str>, last: Option<&str>) -> Result<()> {
        let place = |name: &str| {
            let ends =
                [self.releases.first(), self.releases.last()].map(|end| end.map_or("", |end| &end.name));
            let why = || {
                format!("it has no release {name:?}: it begins with {} and ends with {}", ends[0], ends[1])
            };
            let found = self.releases.iter().position(|release| release.name == name);
            found.ok_or_else(|| Error::invalid(format!("history {}", self.name), why()))
        };
        let first = first.map_or(Ok(0), place)?;
        let last = last.map_or(Ok(self.releases.len().saturating_sub(1)), place)?;
        if first > last {
            let (first, last) = (&self.releases[first].name, &self.releases[last].name);
            let why = format!("release {first} comes after release {last}");
            return Err(Error::invalid(format!("history {}", self.name), why));
        }
        self.releases.truncate(last + 1);
        self.releases.drain(..first);
        Ok(())
    }

    /// A hash of all that is in it, for tests and for whoever wants to know whether two are the same.
    pub fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        let mut add = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        };
        self.images.iter().for_each(|image| add(image));
        for release in &self.releases {
            add(&release.name);
            for (closure, roots) in release.closures.iter().zip(&release.roots) {
                for info in closure.iter() {
                    add(info.path.as_str());
                    add(&info.nar_size.to_string());
                    info.references.iter().for_each(|path| add(path.as_str()));
                }
                roots.iter().for_each(|path| add(path.as_str()));
            }
        }
        hasher.finalize()
    }
}
