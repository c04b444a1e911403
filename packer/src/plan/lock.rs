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
        if lock.release == 0 {
            return Err(Error::invalid(format!("lock file {name}"), "its release is 0: the first one is 1"));
        }
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
        let fleet = Fleet::new(members);
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
        self.paths.get(&item.name).is_none_or(|known| known.path != base(item))
    }

    /// How many paths its layers have for all images.
    pub(super) fn placed(&self) -> usize {
        self.layers.iter().map(|layer| layer.images.len() * layer.paths.len()).sum()
    }

    /// Each image must be one of the lock's.
    pub(super) fn check_images(&self, members: &[Member<'_>]) -> Result<()> {
        let Some(member) = members.iter().find(|member| !self.images.contains_key(member.name)) else {
            return Ok(());
        };
        let names: Vec<&str> = self.images.keys().map(String::as_str).collect();
        let why = format!(
            "it has no image {:?}, only {}: add it with `nixply plan --lock FILE --update`",
            member.name,
            names.join(", ")
        );
        Err(Error::invalid("lock file", why))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::closure::{Closure, PathInfo, StorePath};
    use crate::plan::{Plan, PlannedPath, plan_fleet};

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
                "lock file x is not valid: missing field `version` at line 1 column 2: `nixply plan --lock` makes such files",
            ),
            (
                r#"{"version": 1, "release": 0, "images": {}, "layers": [], "paths": {}}"#,
                "lock file x is not valid: its release is 0: the first one is 1",
            ),
            (
                r#"{"version": 9}"#,
                "lock file x is not valid: it has version 9, and this nixply reads version 1",
            ),
            (
                r#"{"version": 1, "release": 1, "images": {"a": 9, "b": 9}, "layers": [{"images": ["a"], "paths": ["p"]}, {"images": ["b", "a"], "paths": ["p"]}], "paths": {}}"#,
                "lock file x, layers[1] is not valid: a has \"p\" in another layer already",
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
            "lock file is not valid: it has no image \"worker\", only web: add it with `nixply plan --lock FILE --update`"
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
