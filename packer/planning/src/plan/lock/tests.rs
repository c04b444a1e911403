use proptest::{prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::closure::{Closure, PathInfo};
use crate::layer::{Plan, PlannedPath};
use crate::plan::plan_fleet;
use crate::store_path::StorePath;

/// Path of package `number`, with a hash made of `version`.
fn path(number: usize, version: u64) -> StorePath {
    StorePath::parse(&format!("/nix/store/{}-package{number:02}", format!("{version:04}").repeat(8))).unwrap()
}

/// A closure of packages, each with its number, version and size. References point to larger numbers.
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
    let paths = closure.iter().map(|info| PlannedPath { path: info.path.clone(), options: None }).collect();
    Member { name, closure, paths, max_layers }
}

/// Returns the plan as package numbers.
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
fn each_path_is_one_line_of_the_lock_file() {
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
    // Nothing has changed, so the file is the same.
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
fn an_invalid_lock_file_is_an_error_that_names_the_file() {
    for (text, error) in [
        ("{}", "lock file x lacks the key `version`"),
        (
            r#"{"version": 1, "release": 0, "images": {}, "layers": [], "paths": {}}"#,
            "lock file x is not valid: release must be a number from 1 to 4294967295, got 0",
        ),
        (r#"{"version": 9}"#, "lock file x is not valid: its version is 9, but this nixply reads version 1"),
        (
            r#"{"version": 1, "release": 1, "images": {"a": 9, "b": 9}, "layers": [{"images": ["a"], "paths": ["p"]}, {"images": ["b", "a"], "paths": ["p"]}], "paths": {}}"#,
            "lock file x, layers[1] is not valid: image a has \"p\" in an earlier layer already: remove it from one",
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
    assert_eq!(error, "the lock file has no image \"worker\", only web");
}

#[test]
fn paths_that_change_often_get_a_separate_layer() {
    // Sizes and references do not show which packages change: there are ten similar ones. Two of them change in every release.
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
        path: StorePath::parse(&format!("/nix/store/{}-{name}", hash.to_string().repeat(32))).unwrap(),
        references: Vec::new(),
        nar_hash: String::new(),
        nar_size: *size,
    }))
}

#[test]
fn paths_of_one_package_keep_their_keys_when_others_are_added_removed_or_grow() {
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
        // An older version is added, and another path of the same name.
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
        // The first of two paths is removed; the second one grows and gets another hash, or is unchanged.
        (&[(2, "source", 500)], &["22-source=source#2"]),
        (&[(1, "source", 400), (4, "source", 1)], &["11-source=source", "44-source=source#2"]),
        // Another version of ssl; then the same version with another hash, together with an older version.
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
    let changed: Vec<&str> =
        next.paths.iter().filter(|(_, path)| !path.changed.is_empty()).map(|(key, _)| key.as_str()).collect();
    assert_eq!(changed, ["source#2"]);
}

#[test]
fn an_image_alone_uses_the_keys_of_the_fleet() {
    let (web, worker) = (named(&[(1, "lib-1", 10)]), named(&[(1, "lib-2", 20)]));
    let lock = Lock::update(None, &[member("web", &web, 2), member("worker", &worker, 2)]).unwrap();
    let next = named(&[(2, "lib-3", 20)]);
    for members in [&[member("worker", &next, 2)][..], &[member("web", &web, 2), member("worker", &next, 2)]]
    {
        let fleet = Fleet::new(members, Some(&lock), Stop::default()).unwrap();
        let item = fleet.items.iter().find(|item| item.info.path.name() == "lib-3").unwrap();
        assert_eq!(item.key, "lib#2");
    }
}

#[test]
fn forgetting_an_image_removes_its_layers() {
    let (web, worker) = (named(&[(1, "a", 10), (1, "b", 20)]), named(&[(1, "b", 20), (1, "c", 5)]));
    let mut lock = Lock::update(None, &[member("web", &web, 2), member("worker", &worker, 2)]).unwrap();
    assert!(!lock.forget("other"));
    assert!(lock.forget("worker"));
    assert_eq!((lock.images(), lock.layers.len()), (BTreeSet::from(["web"]), 2));
    assert_eq!(Lock::update(Some(&lock), &[member("web", &web, 2)]).unwrap(), lock);
    assert_eq!(lock.paths.keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn one_change_among_thousands_of_paths_changes_only_its_layer() {
    // More paths than are compared pair by pair, in an irregular graph.
    let count = 2200;
    let edges: Vec<(usize, usize)> = (0..count)
        .flat_map(|from| [7, 31, 101].map(|step| (from, from + 1 + from * step % 97)))
        .filter(|(_, to)| *to < count)
        .collect();
    let path = |number: usize, version: u64| -> StorePath {
        StorePath::parse(&format!("/nix/store/{}-package{number:04}", format!("{version:04}").repeat(8)))
            .unwrap()
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
    // Nothing refers to the first path.
    let second = of(Some(0));
    let next = Lock::update(Some(&lock), &[member("web", &second, 100)]).unwrap();
    let new: Vec<&LockedLayer> =
        next.layers.iter().filter(|layer| !lock.layers.iter().any(|old| old.paths == layer.paths)).collect();
    assert!(new.len() <= 2, "{} layers of {} are new", new.len(), next.layers.len());
    let of_both = |one: &'_ Lock, other: &Lock| -> Vec<Vec<String>> {
        let paths = one.layers.iter().map(|layer| layer.paths.clone());
        paths.filter(|paths| other.layers.iter().any(|layer| layer.paths == *paths)).collect()
    };
    assert_eq!(of_both(&next, &lock), of_both(&lock, &next), "unchanged layers keep their order");
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
        layers.iter().filter(|layer| layer.iter().any(|number| (5..8).contains(number))).cloned().collect()
    };
    assert_eq!(shared(&web), shared(&worker));
    let mut numbers: Vec<usize> = shared(&web).concat();
    numbers.sort_unstable();
    assert_eq!(numbers, [5, 6, 7]);
}

proptest! {
    #[test]
    fn an_unrelated_path_moves_no_other_path(
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
    fn an_update_without_changes_changes_nothing(
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
        // Another limit is a change, even if no path moves because of it.
        let wider = Lock::update(Some(&lock), &[member("web", &next, max_layers + 1)]).unwrap();
        prop_assert_eq!(wider.images["web"], max_layers + 1);
        let narrow = Lock::update(Some(&lock), &[member("web", &next, 1)]).unwrap();
        prop_assert_eq!((narrow.layers.len(), narrow.release), (1, lock.release));
    }

    #[test]
    fn fleets_are_complete_within_the_limits_and_independent_of_order(
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

/// Returns the lock and the plans of a fleet after two releases.
fn after(first: &[Owned], second: &[Owned]) -> (Lock, Vec<Plan>) {
    let [first, second] = [first, second].map(|fleet| -> Vec<Member<'_>> {
        fleet.iter().map(|(name, closure, limit)| member(name, closure, *limit)).collect()
    });
    let lock = Lock::update(Some(&Lock::update(None, &first).unwrap()), &second).unwrap();
    let plans = plan_fleet(&second, Some(&lock)).unwrap();
    (lock, plans)
}
