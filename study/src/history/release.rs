//! The contents of images, release by release.

use nixply_planning::{Closure, StorePath};

use crate::error::{Error, Result};

/// The contents of images, release by release, the oldest first.
#[derive(Debug, Clone)]
pub struct History {
    /// Name for reports.
    pub name: String,
    /// Description in a sentence or two; may be empty.
    pub about: String,
    /// The images' names.
    pub images: Vec<String>,
    /// The releases.
    pub releases: Vec<Release>,
}

/// The contents of the images in one release.
#[derive(Debug, Clone)]
pub struct Release {
    /// Name, such as a date or a commit.
    pub name: String,
    /// Each image's closure, in canonical order.
    pub closures: Vec<Closure>,
    /// Each image's roots.
    pub roots: Vec<Vec<StorePath>>,
}

/// Whether the dependents of a changed package change too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// As in Nix: a path's hash depends on the hashes of its references.
    Dependents,
    /// Only the package itself, as with content addresses and stable references.
    Alone,
}

impl History {
    /// Keeps the releases from `first` to `last`.
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

    /// Returns a hash of the whole history, to compare two histories.
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
