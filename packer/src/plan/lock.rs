//! Memory of former plans: `nixply.lock.json`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::fleet::{Fleet, Item};
use super::lock_names;
use super::name::KnownKey;
use super::placer::Member;
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::wording::{self, quoted};
use crate::{closure, document};

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
    /// How many layers each image could have at the last update, by name.
    images: BTreeMap<String, usize>,
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

/// The image of a name in the file: those of its own `layers` have their place behind it.
fn image(name: &str) -> &str {
    name.split(" layers[").next().unwrap_or_default()
}

/// The path's key of what a layer has: an image that has rules for the path follows behind an `@`.
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
        let wrong = |error: Error| {
            Error::Document(format!(
                "{error}: `nixply plan --lock FILE --update` (of containers `nixply container lock NAME`) makes such files; of a \
                 conflict's two sides take one, and update it"
            ))
        };
        let document = format!("lock file {name}");
        let value = document::parse(text, &document).map_err(wrong)?;
        let head: Head = document::fill(value.clone(), &document).map_err(wrong)?;
        if head.version != VERSION {
            let why = format!("it has version {}, and this nixply reads version {VERSION}", head.version);
            return Err(Error::invalid(format!("lock file {name}"), why));
        }
        let lock: Self = document::fill(value, &document).map_err(wrong)?;
        if lock.release == 0 || lock.release > u64::from(u32::MAX) {
            let why =
                format!("its release is {}: the first one is 1, and each update is one more", lock.release);
            return Err(Error::invalid(format!("lock file {name}"), why));
        }
        lock.check_names(&document)?;
        let mut placed = HashSet::new();
        for (at, layer) in lock.layers.iter().enumerate() {
            for (image, key) in
                layer.images.iter().flat_map(|image| layer.paths.iter().map(move |key| (image, key)))
            {
                if !placed.insert((image, key)) {
                    let why =
                        format!("{image} has {} in another layer already: take it out of one", quoted(key));
                    return Err(Error::invalid(format!("lock file {name}, layers[{at}]"), why));
                }
            }
        }
        Ok(lock)
    }

    /// Checks that all names are those of images, packages and store paths.
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
            closure::check_base(&known.path).map_err(wrong(place, &known.path))?;
        }
        Ok(())
    }

    /// The file's text.
    pub fn write(&self) -> String {
        fn json(value: &impl Serialize) -> String {
            serde_json::to_string(value).expect("names and numbers are JSON")
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

    /// The lock after another release: what has changed is remembered, and paths are placed anew where that is expected to
    /// pay. The same images again give the same lock.
    pub fn update(former: Option<&Self>, members: &[Member<'_>]) -> Result<Self> {
        Self::update_until(former, members, Stop::default())
    }

    /// As [`Lock::update`], until `stop` is set.
    pub fn update_until(former: Option<&Self>, members: &[Member<'_>], stop: Stop<'_>) -> Result<Self> {
        let fleet = Fleet::new(members, former, stop)?;
        let images = members.iter().map(|member| (member.name.to_owned(), member.max_layers)).collect();
        let mut lock =
            Self { version: VERSION, release: 1, images, layers: Vec::new(), paths: BTreeMap::new() };
        if let Some(former) = former {
            let changed = fleet.items.iter().any(|item| former.changed(item));
            // Another look for a better plan could find one, and the file would never come to rest.
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
        // What has changed in this release counts as seen.
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
        self.paths.get(&item.name).is_none_or(|known| known.path != item.info.path.base())
    }

    /// The keys of its paths.
    pub(super) fn known_keys(&self) -> Vec<KnownKey<'_>> {
        let mut images: HashMap<&str, HashSet<&str>> = HashMap::new();
        for layer in &self.layers {
            for key in &layer.paths {
                images.entry(path_key(key)).or_default().extend(layer.images.iter().map(String::as_str));
            }
        }
        let known = self.paths.iter().map(|(key, known)| (key.as_str(), known.path.as_str()));
        known
            .map(|(key, path)| KnownKey { key, path, images: images.remove(key).unwrap_or_default() })
            .collect()
    }

    /// How many paths its layers have for all images.
    pub(super) fn placed(&self) -> usize {
        self.layers.iter().map(|layer| layer.images.len() * layer.paths.len()).sum()
    }

    /// Its images, by name, each once.
    pub fn images(&self) -> BTreeSet<&str> {
        self.images.keys().map(|name| image(name)).collect()
    }

    /// Takes an image out, with the layers and paths that are its alone; whether it was there.
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

    /// Each image must be one of the lock's.
    pub(super) fn check_images(&self, members: &[Member<'_>]) -> Result<()> {
        let Some(member) = members.iter().find(|member| !self.images.contains_key(member.name)) else {
            return Ok(());
        };
        let names: Vec<&str> = self.images().into_iter().collect();
        let why = format!(
            "it has no image {}, only {}: `nixply plan --images --lock FILE --update` adds it, given all of them",
            quoted(member.name),
            wording::some(&names)
        );
        Err(Error::invalid("lock file", why))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::closure::{Closure, PathInfo};
    use crate::layer::{Plan, PlannedPath};
    use crate::plan::plan_fleet;
    use crate::store_path::StorePath;

    /// A path of package `number` with a hash made of `version`.
    fn path(number: usize, version: u64) -> StorePath {
        format!("/nix/store/{}-package{number:02}", format!("{version:04}").repeat(8)).into()
    }

    /// Packages, each with its number, version and size; references go to larger numbers.
    fn closure(packages: &[(usize, u64, u64)], edges: &[(usize, usize)]) -> Closure {
        let version = |number| packages.iter().find(|package| package.0 == number).map(|package| package.1);
        Closure::new(packages.iter().map(|(number, own, size)| {
            PathInfo {
                path: path(*number, *own),
                references: edges
                    .iter()
                    .filter(|(from, to)| from == number && to > number)
                    .filter_map(|(_, to)| Some(path(*to, version(*to)?)))
                    .collect(),
                nar_hash: String::new(),
                nar_size: *size,
            }
        }))
    }

    fn member<'m>(name: &'m str, closure: &'m Closure, max_layers: usize) -> Member<'m> {
        let paths =
            closure.iter().map(|info| PlannedPath { path: info.path.clone(), options: None }).collect();
        Member { name, closure, paths, max_layers }
    }

    /// The plan by package number.
    fn numbers(plan: &Plan) -> Vec<Vec<usize>> {
        let number = |path: &PlannedPath| path.path.name().trim_start_matches("package").parse().unwrap();
        plan.iter().map(|layer| layer.iter().map(number).collect()).collect()
    }

    fn planned(closure: &Closure, max_layers: usize, lock: &Lock) -> Vec<Vec<usize>> {
        numbers(&plan_fleet(&[member("web", closure, max_layers)], Some(lock)).unwrap()[0])
    }

    fn packages(count: usize) -> Vec<(usize, u64, u64)> {
        (0..count).map(|number| (number, 1, 1000 << (number % 7))).collect()
    }

    #[test]
    fn the_file_has_a_line_for_each_path_and_that_changes_with_it() {
        let edges = [(0, 1), (0, 2)];
        let first = closure(&[(0, 1, 10), (1, 1, 5000), (2, 1, 300)], &edges);
        let lock = Lock::update(None, &[member("web", &first, 2)]).unwrap();
        let text = r#"{
  "version": 1,
  "release": 1,
  "images": {"web":2},
  "layers": [
    {"images": ["web"], "paths": [
      "package01"
    ]},
    {"images": ["web"], "paths": [
      "package00",
      "package02"
    ]}
  ],
  "paths": {
    "package00": {"path":"00010001000100010001000100010001-package00"},
    "package01": {"path":"00010001000100010001000100010001-package01"},
    "package02": {"path":"00010001000100010001000100010001-package02"}
  }
}
"#;
        assert_eq!(lock.write(), text);
        assert_eq!(Lock::read(text, "file").unwrap(), lock);
        // Nothing has changed: nor does the file.
        assert_eq!(Lock::update(Some(&lock), &[member("web", &first, 2)]).unwrap(), lock);
        let next = closure(&[(0, 2, 10), (1, 1, 5000), (2, 1, 300)], &edges);
        let next = Lock::update(Some(&lock), &[member("web", &next, 2)]).unwrap();
        let expected = text.replace("\"release\": 1", "\"release\": 2").replace(
            r#""package00": {"path":"00010001000100010001000100010001-package00"}"#,
            r#""package00": {"path":"00020002000200020002000200020002-package00","changed":[2]}"#,
        );
        assert_eq!(next.write(), expected);
    }

    #[test]
    fn a_file_that_is_no_lock_is_an_error_that_names_it() {
        for (text, error) in [
            (
                "{}",
                "lock file x lacks the key `version`: `nixply plan --lock FILE --update` (of containers `nixply container lock NAME`) makes such files; of a conflict's two sides take one, and update it",
            ),
            (
                r#"{"version": 1, "release": 0, "images": {}, "layers": [], "paths": {}}"#,
                "lock file x is not valid: its release is 0: the first one is 1, and each update is one more",
            ),
            (
                r#"{"version": 9}"#,
                "lock file x is not valid: it has version 9, and this nixply reads version 1",
            ),
            (
                r#"{"version": 1, "release": 1, "images": {"a": 9, "b": 9}, "layers": [{"images": ["a"], "paths": ["p"]}, {"images": ["b", "a"], "paths": ["p"]}], "paths": {}}"#,
                "lock file x, layers[1] is not valid: a has \"p\" in another layer already: take it out of one",
            ),
        ] {
            assert_eq!(Lock::read(text, "x").unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn an_unknown_image_is_an_error_that_names_the_known_ones() {
        let one = closure(&packages(3), &[]);
        let lock = Lock::update(None, &[member("web", &one, 2)]).unwrap();
        let error = plan_fleet(&[member("worker", &one, 2)], Some(&lock)).unwrap_err().to_string();
        assert_eq!(
            error,
            "lock file is not valid: it has no image \"worker\", only web: `nixply plan --images --lock FILE --update` adds it, given all of them"
        );
    }

    #[test]
    fn what_changes_often_comes_to_lie_apart() {
        // Structure says nothing: ten like packages, of which two change in every release.
        let at = |release: u64| {
            let version = |number: usize| if number == 3 || number == 7 { release } else { 1 };
            let packages: Vec<_> = (0..10).map(|number| (number, version(number), 1000)).collect();
            closure(&packages, &[])
        };
        let mut lock = Lock::update(None, &[member("web", &at(1), 3)]).unwrap();
        for release in 2..12 {
            lock = Lock::update(Some(&lock), &[member("web", &at(release), 3)]).unwrap();
        }
        let layers = planned(&at(11), 3, &lock);
        let often: Vec<usize> =
            layers.into_iter().filter(|layer| layer.contains(&3) || layer.contains(&7)).flatten().collect();
        assert!(often == [3, 7] || often == [7, 3], "{often:?}");
    }

    /// Unrelated paths: a digit for the hash, a name, and a size.
    fn named(paths: &[(u64, &str, u64)]) -> Closure {
        Closure::new(paths.iter().map(|(hash, name, size)| PathInfo {
            path: format!("/nix/store/{}-{name}", hash.to_string().repeat(32)).into(),
            references: Vec::new(),
            nar_hash: String::new(),
            nar_size: *size,
        }))
    }

    #[test]
    fn paths_of_one_package_keep_their_keys_when_others_come_go_or_grow() {
        let others = [(1, "a-1", 900), (1, "b-1", 70), (1, "c-1", 6000)];
        let of = |more: &[(u64, &'static str, u64)]| named(&[&others[..], more].concat());
        let first = of(&[(1, "ssl-3.0", 5000), (1, "source", 400), (2, "source", 500)]);
        let lock = Lock::update(None, &[member("web", &first, 3)]).unwrap();
        let keys = |closure: &Closure| -> BTreeMap<String, String> {
            let members = [member("web", closure, 3)];
            let fleet = Fleet::new(&members, Some(&lock), Stop::default()).unwrap();
            fleet.items.into_iter().map(|item| (item.info.path.base()[30..].to_owned(), item.key)).collect()
        };
        for (more, expected) in [
            // An older version comes, and another path of the same name.
            (
                &[
                    (1, "ssl-1.1", 4),
                    (1, "ssl-3.0", 5000),
                    (1, "source", 400),
                    (2, "source", 500),
                    (3, "source", 1),
                ][..],
                &[
                    "11-ssl-1.1=ssl#2",
                    "11-ssl-3.0=ssl",
                    "11-source=source",
                    "22-source=source#2",
                    "33-source=source#3",
                ][..],
            ),
            // The first one of two goes; the other stays, grows and gets another hash, or stays as it is.
            (&[(2, "source", 500)], &["22-source=source#2"]),
            (&[(1, "source", 400), (4, "source", 1)], &["11-source=source", "44-source=source#2"]),
            // Another version, beside a new one.
            (&[(2, "ssl-3.1", 5000)], &["22-ssl-3.1=ssl"]),
            (&[(2, "ssl-3.0", 1), (2, "ssl-1.0", 1)], &["22-ssl-3.0=ssl", "22-ssl-1.0=ssl#2"]),
        ] {
            let keys = keys(&of(more));
            for expected in expected {
                let (path, key) = expected.split_once('=').unwrap();
                assert_eq!(keys.get(path).map(String::as_str), Some(key), "{path} of {more:?}");
            }
        }
        let more = of(&[(1, "ssl-1.1", 4), (1, "ssl-3.0", 5000), (1, "source", 400), (3, "source", 1)]);
        let next = Lock::update(Some(&lock), &[member("web", &more, 3)]).unwrap();
        let changed: Vec<&str> = next
            .paths
            .iter()
            .filter(|(_, path)| !path.changed.is_empty())
            .map(|(key, _)| key.as_str())
            .collect();
        assert_eq!(changed, ["source#2"]);
    }

    #[test]
    fn an_image_alone_has_its_paths_by_the_keys_of_the_fleet() {
        let (web, worker) = (named(&[(1, "lib-1", 10)]), named(&[(1, "lib-2", 20)]));
        let lock = Lock::update(None, &[member("web", &web, 2), member("worker", &worker, 2)]).unwrap();
        let next = named(&[(2, "lib-3", 20)]);
        for members in
            [&[member("worker", &next, 2)][..], &[member("web", &web, 2), member("worker", &next, 2)]]
        {
            let fleet = Fleet::new(members, Some(&lock), Stop::default()).unwrap();
            let item = fleet.items.iter().find(|item| item.info.path.name() == "lib-3").unwrap();
            assert_eq!(item.key, "lib#2");
        }
    }

    #[test]
    fn an_image_is_forgotten_with_its_layers() {
        let (web, worker) = (named(&[(1, "a", 10), (1, "b", 20)]), named(&[(1, "b", 20), (1, "c", 5)]));
        let mut lock = Lock::update(None, &[member("web", &web, 2), member("worker", &worker, 2)]).unwrap();
        assert!(!lock.forget("other"));
        assert!(lock.forget("worker"));
        assert_eq!((lock.images(), lock.layers.len()), (BTreeSet::from(["web"]), 2));
        assert_eq!(Lock::update(Some(&lock), &[member("web", &web, 2)]).unwrap(), lock);
        assert_eq!(lock.paths.keys().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn one_change_among_thousands_of_paths_moves_its_layer_and_no_other() {
        // More paths than are compared one by one, in a random-looking graph.
        let count = 2200;
        let edges: Vec<(usize, usize)> = (0..count)
            .flat_map(|from| [7, 31, 101].map(|step| (from, from + 1 + from * step % 97)))
            .filter(|(_, to)| *to < count)
            .collect();
        let path = |number: usize, version: u64| -> StorePath {
            format!("/nix/store/{}-package{number:04}", format!("{version:04}").repeat(8)).into()
        };
        let of = |changed: Option<usize>| {
            let version = |number: usize| 1 + u64::from(changed == Some(number));
            Closure::new((0..count).map(|number| {
                PathInfo {
                    path: path(number, version(number)),
                    references: edges
                        .iter()
                        .filter(|(from, _)| *from == number)
                        .map(|(_, to)| path(*to, version(*to)))
                        .collect(),
                    nar_hash: String::new(),
                    nar_size: 1 << (10 + number * 13 % 11),
                }
            }))
        };
        let first = of(None);
        let lock = Lock::update(None, &[member("web", &first, 100)]).unwrap();
        // Nothing refers to the first one.
        let second = of(Some(0));
        let next = Lock::update(Some(&lock), &[member("web", &second, 100)]).unwrap();
        let new: Vec<&LockedLayer> = next
            .layers
            .iter()
            .filter(|layer| !lock.layers.iter().any(|old| old.paths == layer.paths))
            .collect();
        assert!(new.len() <= 2, "{} layers of {} are new", new.len(), next.layers.len());
        let of_both = |one: &'_ Lock, other: &Lock| -> Vec<Vec<String>> {
            let paths = one.layers.iter().map(|layer| layer.paths.clone());
            paths.filter(|paths| other.layers.iter().any(|layer| layer.paths == *paths)).collect()
        };
        assert_eq!(of_both(&next, &lock), of_both(&lock, &next), "what stays lies as it did");
    }

    #[test]
    fn images_that_share_paths_share_layers() {
        let all = closure(&packages(12), &[(0, 5), (1, 5), (5, 6), (5, 7)]);
        let of = |roots: &[usize]| {
            let roots: Vec<StorePath> = roots.iter().map(|number| path(*number, 1)).collect();
            all.of_roots(&roots, "test").unwrap()
        };
        let (web, worker) = (of(&[0, 2, 8]), of(&[1, 3, 9]));
        let plans = plan_fleet(&[member("web", &web, 4), member("worker", &worker, 4)], None).unwrap();
        let [web, worker] = [numbers(&plans[0]), numbers(&plans[1])];
        assert!(web.len() <= 4 && worker.len() <= 4);
        let shared = |layers: &[Vec<usize>]| -> Vec<Vec<usize>> {
            layers
                .iter()
                .filter(|layer| layer.iter().any(|number| (5..8).contains(number)))
                .cloned()
                .collect()
        };
        assert_eq!(shared(&web), shared(&worker));
        let mut numbers: Vec<usize> = shared(&web).concat();
        numbers.sort_unstable();
        assert_eq!(numbers, [5, 6, 7]);
    }

    proptest! {
        #[test]
        fn an_unrelated_path_moves_no_other_paths_layer(
            edges in proptest::collection::vec((0usize..20, 0usize..20), 0..60), max_layers in 2usize..15,
            size in 0u64..100_000, removed in 0usize..20,
        ) {
            let before = closure(&packages(20), &edges);
            let lock = Lock::update(None, &[member("web", &before, max_layers)]).unwrap();
            let layers = planned(&before, max_layers, &lock);

            let mut more = packages(20);
            more.push((20, 1, size));
            let after = planned(&closure(&more, &edges), max_layers, &lock);
            prop_assert!(after.len() <= max_layers);
            let without = |layers: Vec<Vec<usize>>, number: usize| -> Vec<Vec<usize>> {
                let layers = layers.into_iter().map(|layer| layer.into_iter().filter(|other| *other != number).collect());
                let mut layers: Vec<Vec<usize>> = layers.filter(|layer: &Vec<usize>| !layer.is_empty()).collect();
                layers.sort();
                layers
            };
            prop_assert_eq!(without(after, 20), without(layers.clone(), 20));

            let mut fewer = packages(20);
            fewer.remove(removed);
            let after = planned(&closure(&fewer, &edges), max_layers, &lock);
            prop_assert_eq!(without(after, removed), without(layers, removed));
        }

        #[test]
        fn an_update_with_nothing_new_changes_nothing(
            edges in proptest::collection::vec((0usize..20, 0usize..20), 0..60), max_layers in 1usize..15,
            changed in proptest::collection::vec(0usize..20, 1..6),
        ) {
            let first = closure(&packages(20), &edges);
            let mut next = packages(20);
            changed.iter().for_each(|number| next[*number].1 = 2);
            let next = closure(&next, &edges);
            let lock = Lock::update(None, &[member("web", &first, max_layers)]).unwrap();
            let lock = Lock::update(Some(&lock), &[member("web", &next, max_layers)]).unwrap();
            let again = Lock::update(Some(&lock), &[member("web", &next, max_layers)]).unwrap();
            prop_assert_eq!(&again, &lock);
            // Another limit is something new, though it need not pay to move anything for it.
            let wider = Lock::update(Some(&lock), &[member("web", &next, max_layers + 1)]).unwrap();
            prop_assert_eq!(wider.images["web"], max_layers + 1);
            let narrow = Lock::update(Some(&lock), &[member("web", &next, 1)]).unwrap();
            prop_assert_eq!((narrow.layers.len(), narrow.release), (1, lock.release));
        }

        #[test]
        fn fleets_are_whole_within_the_limits_and_the_same_for_any_order(
            edges in proptest::collection::vec((0usize..30, 0usize..30), 0..90),
            limits in proptest::collection::vec(1usize..8, 4), roots in proptest::collection::vec(0usize..30, 12),
            changed in proptest::collection::vec(0usize..30, 0..6),
        ) {
            let version = |number: usize| 1 + u64::from(changed.contains(&number));
            let second: Vec<_> = packages(30).into_iter().map(|(at, _, size)| (at, version(at), size)).collect();
            let fleet = |packages: &[(usize, u64, u64)]| -> Vec<Owned> {
                let all = closure(packages, &edges);
                let version = |number: usize| packages[number].1;
                let image = |((name, numbers), limit): ((&'static str, &[usize]), &usize)| {
                    let roots: Vec<StorePath> = numbers.iter().map(|number| path(*number, version(*number))).collect();
                    (name, all.of_roots(&roots, name).unwrap(), *limit)
                };
                ["a", "b", "c", "d"].into_iter().zip(roots.chunks(3)).zip(&limits).map(image).collect()
            };
            let (first, second) = (fleet(&packages(30)), fleet(&second));
            let (lock, plans) = after(&first, &second);
            for ((plan, (_, closure, limit)), all) in plans.iter().zip(&second).zip(&plans) {
                prop_assert!(plan.len() <= *limit && plan.iter().all(|layer| !layer.is_empty()));
                let mut paths: Vec<&StorePath> = all.iter().flatten().map(|path| &path.path).collect();
                paths.sort();
                let mut all: Vec<&StorePath> = closure.iter().map(|info| &info.path).collect();
                all.sort();
                prop_assert_eq!(paths, all);
            }
            let backwards = |fleet: &[Owned]| -> Vec<Owned> {
                let turned = |(name, closure, limit): &Owned| {
                    let mut infos: Vec<PathInfo> = closure.iter().cloned().collect();
                    infos.reverse();
                    (*name, Closure::new(infos), *limit)
                };
                fleet.iter().rev().map(turned).collect()
            };
            let (turned, turned_plans) = after(&backwards(&first), &backwards(&second));
            prop_assert_eq!(turned, lock);
            prop_assert_eq!(turned_plans.into_iter().rev().collect::<Vec<_>>(), plans);
        }
    }

    type Owned = (&'static str, Closure, usize);

    /// The lock and the plans of a fleet that was another one in the release before.
    fn after(first: &[Owned], second: &[Owned]) -> (Lock, Vec<Plan>) {
        let [first, second] = [first, second].map(|fleet| -> Vec<Member<'_>> {
            fleet.iter().map(|(name, closure, limit)| member(name, closure, *limit)).collect()
        });
        let lock = Lock::update(Some(&Lock::update(None, &first).unwrap()), &second).unwrap();
        let plans = plan_fleet(&second, Some(&lock)).unwrap();
        (lock, plans)
    }
}
