//! The lock file, `nixply.lock.json`: it records former plans.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;

use nixply_documents::document;
use nixply_documents::wording::{self, quoted};
use serde::{Deserialize, Serialize};

use super::fleet::{Fleet, Item};
use super::layer_assigner::Member;
use super::lock_names;
use super::name::LockKey;
use crate::error::{Error, Result};
use crate::plan::Stop;
use crate::store_path::check_base;

/// Version of the file format that this program writes.
const VERSION: u32 = 1;

/// Number of releases that are remembered: one bit each.
const REMEMBERED: u64 = u64::BITS as u64;

/// The layers of images' paths, by names that do not depend on versions and hashes, and the releases in which the paths
/// changed. With a lock, the plan stays the same while content changes. The file is readable in a diff: each path is one
/// line, and the line changes when the path does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    version: u32,
    /// Number of updates that found a change, including the first update.
    release: u64,
    /// Maximum number of layers of each image at the last update, by name.
    images: BTreeMap<String, usize>,
    /// Layers, the lowest first.
    pub(super) layers: Vec<LockedLayer>,
    /// The record of each path that has been placed, by key.
    paths: BTreeMap<String, LockedPath>,
}

/// A layer of one or several images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LockedLayer {
    /// Names of the images that have the layer.
    pub(super) images: Vec<String>,
    /// Keys of its paths, sorted.
    pub(super) paths: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockedPath {
    /// The store path's base name at the last update.
    path: String,
    /// The remembered releases in which it got another hash.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    changed: Vec<u64>,
}

/// Returns the image that a name in the file belongs to. For an element of an image's `layers`, the name is the image's with a
/// suffix that contains the index.
fn image(name: &str) -> &str {
    name.split(" layers[").next().unwrap_or_default()
}

/// Returns the path's key from a key in a layer. If an image has rules for the path, the image's name follows after an `@`.
fn path_key(key: &str) -> &str {
    key.split('@').next().unwrap_or_default()
}

impl Lock {
    /// Reads a lock file. `name` is for messages.
    pub fn read(text: &str, name: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let wrong = |error| Error::LockFile { error };
        let document = format!("lock file {name}");
        let value = document::parse(text, &document).map_err(wrong)?;
        let head: Head = document::fill(value.clone(), &document).map_err(wrong)?;
        if head.version != VERSION {
            let why = format!("its version is {}, but this nixply reads version {VERSION}", head.version);
            return Err(Error::invalid(format!("lock file {name}"), why));
        }
        let lock: Self = document::fill(value, &document).map_err(wrong)?;
        if lock.release == 0 || lock.release > u64::from(u32::MAX) {
            let why = format!("release must be a number from 1 to {}, got {}", u32::MAX, lock.release);
            return Err(Error::invalid(format!("lock file {name}"), why));
        }
        lock.check_names(&document)?;
        let mut placed = HashSet::new();
        for (at, layer) in lock.layers.iter().enumerate() {
            for (image, key) in
                layer.images.iter().flat_map(|image| layer.paths.iter().map(move |key| (image, key)))
            {
                if !placed.insert((image, key)) {
                    let why = format!(
                        "image {image} has {} in an earlier layer already: remove it from one",
                        quoted(key)
                    );
                    return Err(Error::invalid(format!("lock file {name}, layers[{at}]"), why));
                }
            }
        }
        Ok(lock)
    }

    /// Checks that all names are valid names of images, packages and store paths.
    fn check_names(&self, document: &str) -> Result<()> {
        let wrong = |place: String, name: &str| {
            let what = format!("{document}, {place} {}", quoted(name));
            move |why: String| Error::invalid(what, why)
        };
        for name in self.images.keys() {
            lock_names::check_layers_of_image(name).map_err(wrong("images".into(), name))?;
        }
        for (at, layer) in self.layers.iter().enumerate() {
            for (number, name) in layer.images.iter().enumerate() {
                lock_names::check_layers_of_image(name)
                    .map_err(wrong(format!("layers[{at}].images[{number}]"), name))?;
            }
            for (number, key) in layer.paths.iter().enumerate() {
                lock_names::check_key_in_layer(key)
                    .map_err(wrong(format!("layers[{at}].paths[{number}]"), key))?;
            }
        }
        for (key, known) in &self.paths {
            lock_names::check_key(key).map_err(wrong("paths".into(), key))?;
            let place = format!("paths.{}.path", quoted(key));
            check_base(&known.path).map_err(|why| wrong(place, &known.path)(why.to_string()))?;
        }
        Ok(())
    }

    /// Returns the file's text.
    pub fn write(&self) -> String {
        fn json(value: &impl Serialize) -> String {
            serde_json::to_string(value).expect("names and numbers can be written as JSON")
        }
        let mut text = format!(
            "{{\n  \"version\": {},\n  \"release\": {},\n  \"images\": {},\n  \"layers\": [",
            self.version,
            self.release,
            json(&self.images)
        );
        for (at, layer) in self.layers.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(text, "{comma}\n    {{\"images\": {}, \"paths\": [", json(&layer.images)).expect("text");
            for (at, key) in layer.paths.iter().enumerate() {
                let comma = if at == 0 { "" } else { "," };
                write!(text, "{comma}\n      {}", json(key)).expect("text");
            }
            text.push_str("\n    ]}");
        }
        text.push_str("\n  ],\n  \"paths\": {");
        for (at, (key, path)) in self.paths.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(text, "{comma}\n    {}: {}", json(key), json(path)).expect("text");
        }
        text.push_str("\n  }\n}\n");
        text
    }

    /// Returns the lock for the next release. It records the changes, and moves paths to other layers if that is expected to
    /// save bytes. The same images again produce the same lock.
    pub fn update(former: Option<&Self>, members: &[Member<'_>]) -> Result<Self> {
        Self::update_until(former, members, Stop::default())
    }

    /// Like [`Lock::update`], until `stop` is set.
    pub(crate) fn update_until(
        former: Option<&Self>,
        members: &[Member<'_>],
        stop: Stop<'_>,
    ) -> Result<Self> {
        let fleet = Fleet::new(members, former, stop)?;
        let images = members.iter().map(|member| (member.name.to_owned(), member.max_layers)).collect();
        let mut lock =
            Self { version: VERSION, release: 1, images, layers: Vec::new(), paths: BTreeMap::new() };
        if let Some(former) = former {
            let changed = fleet.items.iter().any(|item| former.changed(item));
            // Without this, a new search could find a better plan each time, and the file would never become stable.
            if !changed && lock.images == former.images && fleet.is_placed_by(former) {
                return Ok(former.clone());
            }
            lock.release = former.release + u64::from(changed);
        }
        for item in &fleet.items {
            let known = former.and_then(|former| former.paths.get(&item.name));
            let mut changed = known.map(|known| known.changed.clone()).unwrap_or_default();
            if known.is_some_and(|known| known.path != item.info.path.base()) {
                changed.push(lock.release);
            }
            changed.retain(|release| release + REMEMBERED > lock.release);
            lock.paths
                .insert(item.name.clone(), LockedPath { path: item.info.path.base().to_owned(), changed });
        }
        // The changes of this release are part of the history.
        let placed = fleet.place(Some(&lock), former, stop)?;
        lock.layers = placed
            .into_iter()
            .map(|(paths, users)| LockedLayer {
                images: users.ones().map(|user| fleet.image(user).to_owned()).collect(),
                paths: paths.into_iter().map(|number| fleet.items[number].key.clone()).collect(),
            })
            .collect();
        Ok(lock)
    }

    /// Returns the remembered releases in which the path with this key changed, one bit each. The lowest bit is the last release.
    pub(super) fn seen(&self, key: &str) -> u64 {
        let Some(path) = self.paths.get(key) else { return 0 };
        let bits = path.changed.iter().filter_map(|release| self.release.checked_sub(*release));
        bits.filter(|bit| *bit < REMEMBERED).fold(0, |word, bit| word | 1 << bit)
    }

    /// Number of releases that [`Lock::seen`] covers.
    pub(super) fn releases_seen(&self) -> u32 {
        u32::try_from((self.release - 1).min(REMEMBERED)).expect("the number is at most 64")
    }

    /// Returns whether a path is new or has changed since the last update.
    pub(super) fn changed(&self, item: &Item<'_>) -> bool {
        self.paths.get(&item.name).is_none_or(|known| known.path != item.info.path.base())
    }

    /// Returns the keys of the lock's paths, each with the path and the images that have it.
    pub(super) fn known_keys(&self) -> Vec<LockKey<'_>> {
        let mut images: HashMap<&str, HashSet<&str>> = HashMap::new();
        for layer in &self.layers {
            for key in &layer.paths {
                images.entry(path_key(key)).or_default().extend(layer.images.iter().map(String::as_str));
            }
        }
        let known = self.paths.iter().map(|(key, known)| (key.as_str(), known.path.as_str()));
        known
            .map(|(key, path)| LockKey { key, path, images: images.remove(key).unwrap_or_default() })
            .collect()
    }

    /// Returns the number of paths in the lock's layers, counted once for each image.
    pub(super) fn placed(&self) -> usize {
        self.layers.iter().map(|layer| layer.images.len() * layer.paths.len()).sum()
    }

    /// Returns the names of the lock's images, each once.
    pub fn images(&self) -> BTreeSet<&str> {
        self.images.keys().map(|name| image(name)).collect()
    }

    /// Removes an image, with the layers and paths that only this image has. Returns whether the lock had the image.
    pub fn forget(&mut self, name: &str) -> bool {
        let known = self.images().contains(name);
        self.images.retain(|other, _| image(other) != name);
        self.layers.iter_mut().for_each(|layer| layer.images.retain(|other| image(other) != name));
        self.layers.retain(|layer| !layer.images.is_empty());
        let left: HashSet<&str> =
            self.layers.iter().flat_map(|layer| &layer.paths).map(|key| path_key(key)).collect();
        self.paths.retain(|key, _| left.contains(key.as_str()));
        known
    }

    /// Checks that the lock has every image.
    pub(super) fn check_images(&self, members: &[Member<'_>]) -> Result<()> {
        let Some(member) = members.iter().find(|member| !self.images.contains_key(member.name)) else {
            return Ok(());
        };
        let names: Vec<&str> = self.images().into_iter().collect();
        Err(Error::NotInLock { image: member.name.to_owned(), images: wording::some(&names) })
    }
}

#[cfg(test)]
mod tests;
