//! Memory of former plans: `nixply.lock.json`.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::fleet::{Fleet, Item, Member};
use crate::error::{Error, Result};

/// The form of the file that this program writes.
const VERSION: u32 = 1;

/// As many releases are remembered: a bit each.
const REMEMBERED: u64 = u64::BITS as u64;

/// Where the paths of images lie, by names that outlive versions and hashes, and in which releases they changed. With it a
/// plan stays while content moves. Readable in a diff: a path is one line, and its line changes when the path does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    version: u32,
    /// How many updates found a change, the first one included.
    release: u64,
    /// Layers, the lowest first.
    pub(super) layers: Vec<LockedLayer>,
    /// What is known of each path that has been placed.
    paths: BTreeMap<String, LockedPath>,
}

/// A layer of one image or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LockedLayer {
    /// The images that have it, by name.
    pub(super) images: Vec<String>,
    /// Keys, sorted.
    pub(super) paths: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockedPath {
    /// The store path's base name at the last update.
    path: String,
    /// In which of the remembered releases it got another hash.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    changed: Vec<u64>,
}

fn base<'i>(item: &Item<'i>) -> &'i str {
    item.info.path.as_str().rsplit('/').next().unwrap_or_default()
}

impl Lock {
    /// Reads a lock file. `name` is for messages.
    pub fn read(text: &str, name: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let wrong = |error: serde_json::Error| {
            Error::invalid(
                format!("lock file {name}"),
                format!("{error}: `nixply plan --lock` makes such files"),
            )
        };
        let head: Head = serde_json::from_str(text).map_err(wrong)?;
        if head.version != VERSION {
            let why = format!("it has version {}, and this nixply reads version {VERSION}", head.version);
            return Err(Error::invalid(format!("lock file {name}"), why));
        }
        let lock: Self = serde_json::from_str(text).map_err(wrong)?;
        let mut placed = HashSet::new();
        for (at, layer) in lock.layers.iter().enumerate() {
            for (image, key) in
                layer.images.iter().flat_map(|image| layer.paths.iter().map(move |key| (image, key)))
            {
                if !placed.insert((image, key)) {
                    let why = format!("{image} has {key:?} in another layer already");
                    return Err(Error::invalid(format!("lock file {name}, layers[{at}]"), why));
                }
            }
        }
        Ok(lock)
    }

    /// The file's text.
    pub fn write(&self) -> String {
        fn json(value: &impl Serialize) -> String {
            serde_json::to_string(value).expect("names and numbers are JSON")
        }
        let mut text = format!(
            "{{\n  \"version\": {},\n  \"release\": {},\n  \"layers\": [",
            self.version, self.release
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

    /// The lock after another release: what has changed is remembered, and paths are placed anew where that is expected to
    /// pay. The same images again give the same lock.
    pub fn update(former: Option<&Self>, members: &[Member<'_>]) -> Result<Self> {
        let fleet = Fleet::new(members);
        let mut lock = Self { version: VERSION, release: 1, layers: Vec::new(), paths: BTreeMap::new() };
        if let Some(former) = former {
            let changed = fleet.items.iter().any(|item| former.changed(item));
            lock.release = former.release + u64::from(changed);
        }
        for item in &fleet.items {
            let known = former.and_then(|former| former.paths.get(&item.name));
            let mut changed = known.map(|known| known.changed.clone()).unwrap_or_default();
            if known.is_some_and(|known| known.path != base(item)) {
                changed.push(lock.release);
            }
            changed.retain(|release| release + REMEMBERED > lock.release);
            lock.paths.insert(item.name.clone(), LockedPath { path: base(item).to_owned(), changed });
        }
        // What has changed in this release counts as seen.
        let placed = fleet.place(Some(&lock), former)?;
        lock.layers = placed
            .into_iter()
            .map(|(paths, users)| LockedLayer {
                images: users.ones().map(|user| members[user].name.to_owned()).collect(),
                paths: paths.into_iter().map(|number| fleet.items[number].key.clone()).collect(),
            })
            .collect();
        Ok(lock)
    }

    /// In which of the last releases what has this key changed, the last one in the lowest bit.
    pub(super) fn seen(&self, key: &str) -> u64 {
        let Some(path) = self.paths.get(key) else { return 0 };
        let bits = path.changed.iter().filter_map(|release| self.release.checked_sub(*release));
        bits.filter(|bit| *bit < REMEMBERED).fold(0, |word, bit| word | 1 << bit)
    }

    /// How many releases [`Lock::seen`] tells of.
    pub(super) fn releases_seen(&self) -> u32 {
        u32::try_from((self.release - 1).min(REMEMBERED)).expect("64 at most")
    }

    /// Whether a path is another one than at the last update, or new.
    pub(super) fn changed(&self, item: &Item<'_>) -> bool {
        self.paths.get(&item.name).is_none_or(|known| known.path != base(item))
    }

    /// Each image must be one of the lock's.
    pub(super) fn check_images(&self, members: &[Member<'_>]) -> Result<()> {
        let names: HashSet<&str> =
            self.layers.iter().flat_map(|layer| layer.images.iter().map(String::as_str)).collect();
        for member in members {
            if !names.contains(member.name) && !member.paths.is_empty() {
                let mut names: Vec<&str> = names.into_iter().collect();
                names.sort_unstable();
                let why = format!(
                    "it has no image {:?}, only {}: add it with `nixply plan --lock FILE --update`",
                    member.name,
                    names.join(", ")
                );
                return Err(Error::invalid("lock file", why));
            }
        }
        Ok(())
    }
}
