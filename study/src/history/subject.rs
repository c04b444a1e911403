//! Reads histories and closures.

use std::collections::BTreeMap;
use std::path::Path;

use nixply_planning::Closure;

use super::directory;
use super::packages;
use super::release::{History, Propagation};
use crate::error::{Error, Result};

/// The subject of a study.
#[derive(Debug, Clone)]
pub enum Subject {
    /// A history.
    History(History),
    /// The closures of a single release's images, without a history.
    Closures(Vec<(String, Closure)>),
}

impl Subject {
    /// Reads a `nixply-history` file (`.json`, or `.json.zst`), a closure from `nix path-info --json
    /// --recursive`, or a directory of such closures: `RELEASE.json`, or `RELEASE/IMAGE.json`. Only a
    /// `nixply-history` supports [`Propagation::Alone`].
    pub fn read(path: &Path, propagation: Propagation) -> Result<Self> {
        let what = || path.display().to_string();
        // Read once: it may be a pipe.
        let file = if path.is_dir() { None } else { Some(directory::read_file(path)?) };
        if let Some(bytes) = file.as_deref().filter(|bytes| packages::is_history(path, bytes)) {
            return Ok(Self::History(packages::read(path, bytes, propagation)?));
        }
        if propagation == Propagation::Alone {
            let why = "its store paths have Nix's hashes: a study without propagation needs a nixply-history";
            return Err(Error::invalid(what(), why));
        }
        if let Some(bytes) = file {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.trim_end_matches(".json").to_owned();
            return Ok(Self::Closures(vec![(name, directory::of_bytes(bytes, path)?)]));
        }
        Ok(match directory::read(path)? {
            mut one if one.releases.len() == 1 => {
                let closures = one.releases.remove(0).closures;
                Self::Closures(one.images.into_iter().zip(closures).collect())
            }
            history => Self::History(history),
        })
    }
}

impl History {
    /// Reads a `nixply-history` file (`.json`, or `.json.zst`).
    pub fn read(file: &Path, propagation: Propagation) -> Result<Self> {
        packages::read(file, &directory::read_file(file)?, propagation)
    }

    /// Creates a history from the closures that Nix printed for each release and image.
    pub fn of_json(name: String, releases: Vec<(String, BTreeMap<String, String>)>) -> Result<Self> {
        let mut closures = Vec::with_capacity(releases.len());
        for (release, images) in releases {
            let mut of = BTreeMap::new();
            for (image, text) in images {
                let closure = directory::of_json(&text, &format!("release {release}, image {image}"))?;
                of.insert(image, closure);
            }
            closures.push((release, of));
        }
        Ok(directory::of_closures(name, closures))
    }
}
