//! Plans several images together: their common paths are in shared layers.

use std::collections::{BTreeMap, HashMap};

use fixedbitset::FixedBitSet;

use super::graph::Graph;
use super::layer_assigner::{LayerAssigner, Member};
use super::lock::Lock;
use super::name::{keys, known_keys};
use super::strategy::min_churn::{self, ChangeHistory, Costs, Events, Former, Placed, Problem};
use crate::closure::{Closure, PathInfo};
use crate::error::Result;
use crate::layer::{Plan, PlannedPath};
use crate::plan::Stop;

/// The paths of all images, sorted by key. Each path appears once, unless images have different rules for it.
#[derive(Debug)]
pub(super) struct Fleet<'m> {
    members: &'m [Member<'m>],
    /// Indices into `members`, sorted by name. The number of an image is its position here, so that the order of the members
    /// does not matter.
    by_name: Vec<usize>,
    pub(super) items: Vec<Item<'m>>,
    union: Closure,
    graph: Graph,
    keys: Vec<String>,
}

/// A path to place.
#[derive(Debug)]
pub(super) struct Item<'m> {
    /// The name in the plan: the path's key, with the image's name if the image has rules for the path.
    pub(super) key: String,
    /// The path's key.
    pub(super) name: String,
    pub(super) info: &'m PathInfo,
    pub(super) path: PlannedPath,
    users: FixedBitSet,
    /// Position in the closure of all images.
    place: usize,
}

impl<'m> Fleet<'m> {
    /// Collects the paths of these images, with the keys that the lock file has for them.
    pub(super) fn new(members: &'m [Member<'m>], known: Option<&Lock>, stop: Stop<'_>) -> Result<Self> {
        let mut infos: Vec<&PathInfo> = members.iter().flat_map(|member| member.closure.iter()).collect();
        infos.sort_by(|a, b| a.path.cmp(&b.path));
        infos.dedup_by(|a, b| a.path == b.path);
        let union = Closure::new(infos.iter().map(|info| (*info).clone()));
        let keys = match known {
            None => keys(&union),
            Some(lock) => {
                let mut images: Vec<Vec<&str>> = vec![Vec::new(); union.len()];
                for member in members {
                    let places = member.closure.iter().filter_map(|info| union.place(&info.path));
                    places.for_each(|place| images[place].push(member.name));
                }
                known_keys(&union, lock.known_keys(), &images)
            }
        };
        // Rules change the bytes of a path, so a path with rules belongs to one image.
        let mut items: BTreeMap<String, Item<'m>> = BTreeMap::new();
        let mut by_name: Vec<usize> = (0..members.len()).collect();
        by_name.sort_by_key(|at| members[*at].name);
        for (number, member) in by_name.iter().map(|at| &members[*at]).enumerate() {
            stop.check()?;
            for path in &member.paths {
                let Some(place) = union.place(&path.path) else { continue };
                let key = match &path.options {
                    None => keys[place].clone(),
                    Some(_) => format!("{}@{}", keys[place], member.name),
                };
                let users = FixedBitSet::with_capacity(members.len());
                let name = keys[place].clone();
                let item =
                    Item { key: key.clone(), name, info: infos[place], path: path.clone(), users, place };
                items.entry(key).or_insert(item).users.insert(number);
            }
        }
        let graph = Graph::new(&union);
        Ok(Self { members, by_name, items: items.into_values().collect(), union, graph, keys })
    }

    /// Returns the problem to solve. `seen` is the lock that has the history of changes and will contain the plan; `former` is the
    /// lock with the former plan.
    fn problem<'s>(&self, seen: Option<&Lock>, former: Option<&Lock>, stop: Stop<'s>) -> Result<Problem<'s>> {
        let remembered = seen.is_some();
        let history = match seen {
            Some(lock) => {
                let seen: Vec<u64> = self.keys.iter().map(|key| lock.seen(key)).collect();
                ChangeHistory { seen, releases: lock.releases_seen() }
            }
            None => ChangeHistory::unknown(self.union.len()),
        };
        let places: Vec<usize> = self.items.iter().map(|item| item.place).collect();
        let events = Events::of(&self.union, &self.graph, &self.keys, &history, stop)?.of_paths(&places);
        let sizes: Vec<u64> = self.items.iter().map(|item| item.info.nar_size).collect();
        let seen = places.iter().map(|at| history.seen[*at]).collect();
        Ok(Problem {
            costs: Costs::new(&sizes, events, seen, history.releases),
            users: self.items.iter().map(|item| item.users.clone()).collect(),
            limits: self.by_name.iter().map(|at| self.members[*at].max_layers.max(1)).collect(),
            former: former.map(|lock| self.former(lock)).unwrap_or_default(),
            remembered,
            stop,
        })
    }

    /// Returns the lock's layers, with indices of `items` as paths. If images now have different paths of a layer, the layer is
    /// split.
    fn former(&self, lock: &Lock) -> Vec<Former> {
        let number: HashMap<&str, usize> =
            self.items.iter().enumerate().map(|(number, item)| (item.key.as_str(), number)).collect();
        let image: HashMap<&str, usize> =
            self.by_name.iter().enumerate().map(|(number, at)| (self.members[*at].name, number)).collect();
        let mut former = Vec::new();
        let mut taken: Vec<FixedBitSet> =
            vec![FixedBitSet::with_capacity(self.members.len()); self.items.len()];
        for layer in &lock.layers {
            let known: Vec<usize> =
                layer.paths.iter().filter_map(|key| number.get(key.as_str()).copied()).collect();
            let mut alike: BTreeMap<Vec<usize>, FixedBitSet> = BTreeMap::new();
            for user in layer.images.iter().filter_map(|name| image.get(name.as_str()).copied()) {
                let has =
                    |number: &usize| self.items[*number].users.contains(user) && !taken[*number].put(user);
                let mut paths: Vec<usize> = known.iter().copied().filter(has).collect();
                paths.sort_unstable();
                let none = FixedBitSet::with_capacity(self.members.len());
                alike.entry(paths).or_insert(none).insert(user);
            }
            for (paths, users) in alike.into_iter().filter(|(paths, _)| !paths.is_empty()) {
                let whole = paths.len() == layer.paths.len();
                let unchanged = whole && paths.iter().all(|number| !lock.changed(&self.items[*number]));
                former.push(Former { paths, users, unchanged });
            }
        }
        former
    }

    /// Whether the lock's layers have every path of every image, and nothing else.
    pub(super) fn is_placed_by(&self, lock: &Lock) -> bool {
        let all: usize = self.items.iter().map(|item| item.users.count_ones(..)).sum();
        let former = self.former(lock);
        let placed = former.iter().map(|layer| layer.paths.len() * layer.users.count_ones(..)).sum::<usize>();
        all == placed && all == lock.placed()
    }

    /// Returns the name of the image with this number.
    pub(super) fn image(&self, number: usize) -> &'m str {
        self.members[self.by_name[number]].name
    }

    /// Makes a new plan from the history of changes and a former plan.
    pub(super) fn place(
        &self,
        seen: Option<&Lock>,
        former: Option<&Lock>,
        stop: Stop<'_>,
    ) -> Result<Vec<Placed>> {
        min_churn::place(&self.problem(seen, former, stop)?)
    }

    /// Returns each image's layers.
    fn plans(&self, layers: Vec<Placed>) -> Vec<Plan> {
        let mut plans = vec![Plan::new(); self.members.len()];
        for (paths, users) in layers {
            let layer: Vec<PlannedPath> =
                paths.iter().map(|number| self.items[*number].path.clone()).collect();
            for user in users.ones() {
                plans[self.by_name[user]].push(layer.clone());
            }
        }
        plans
    }
}

/// Plans the images: by the lock if there is one, otherwise from scratch. See [`min_churn`](super::Strategy::MinChurn).
pub fn plan_fleet(members: &[Member<'_>], lock: Option<&Lock>) -> Result<Vec<Plan>> {
    plan_fleet_until(members, lock, Stop::default())
}

/// As [`plan_fleet`], until `stop` is set.
pub fn plan_fleet_until(members: &[Member<'_>], lock: Option<&Lock>, stop: Stop<'_>) -> Result<Vec<Plan>> {
    let fleet = Fleet::new(members, lock, stop)?;
    let layers = match lock {
        Some(lock) => {
            lock.check_images(members)?;
            min_churn::follow(&fleet.problem(Some(lock), Some(lock), stop)?)?
        }
        None => fleet.place(None, None, stop)?,
    };
    Ok(fleet.plans(layers))
}

/// Plans each image by itself.
#[derive(Debug)]
pub(super) struct Alone;

impl LayerAssigner for Alone {
    fn assign(&self, member: &Member<'_>, stop: Stop<'_>) -> Result<Plan> {
        first(plan_fleet_until(std::slice::from_ref(member), None, stop)?)
    }
}

impl LayerAssigner for Lock {
    fn assign(&self, member: &Member<'_>, stop: Stop<'_>) -> Result<Plan> {
        first(plan_fleet_until(std::slice::from_ref(member), Some(self), stop)?)
    }
}

fn first(plans: Vec<Plan>) -> Result<Plan> {
    Ok(plans.into_iter().next().expect("each image has a plan"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{PathOptions, Perm};
    use crate::store_path::StorePath;

    fn path(number: usize, hash: char) -> StorePath {
        StorePath::parse(&format!("/nix/store/{}-p{number:04}", hash.to_string().repeat(32))).unwrap()
    }

    /// Paths without references, each with a hash of this letter.
    fn closure(paths: &[(usize, char)]) -> Closure {
        Closure::new(paths.iter().map(|(number, hash)| PathInfo {
            path: path(*number, *hash),
            references: Vec::new(),
            nar_hash: String::new(),
            nar_size: 1000 + *number as u64,
        }))
    }

    fn member<'m>(name: &'m str, closure: &'m Closure, max_layers: usize) -> Member<'m> {
        let paths =
            closure.iter().map(|info| PlannedPath { path: info.path.clone(), options: None }).collect();
        Member { name, closure, paths, max_layers }
    }

    #[test]
    fn a_former_layer_is_kept_unless_a_path_in_it_has_changed_or_gone() {
        let text = r#"{"version": 1, "release": 1, "images": {"web": 9}, "layers": [
            {"images": ["web"], "paths": ["p0000", "p0001"]}, {"images": ["web"], "paths": ["p0002", "p0003"]},
            {"images": ["web"], "paths": ["p0004", "p0005"]}], "paths": {PATHS}}"#;
        let known = |number| format!(r#""p{number:04}": {{"path": "{}-p{number:04}"}}"#, "a".repeat(32));
        let known: Vec<String> = (0..6).map(known).collect();
        let lock = Lock::read(&text.replace("PATHS", &known.join(",")), "test").unwrap();
        let all = [(0, 'a'), (1, 'a'), (2, 'a'), (3, 'b'), (4, 'a')];
        let web = closure(&all);
        let members = [member("web", &web, 9)];
        let fleet = Fleet::new(&members, Some(&lock), Stop::default()).unwrap();
        let former: Vec<_> =
            fleet.former(&lock).into_iter().map(|layer| (layer.paths, layer.unchanged)).collect();
        assert_eq!(former, [(vec![0, 1], true), (vec![2, 3], false), (vec![4], false)]);
        assert!(!fleet.is_placed_by(&lock), "a path of the lock is in no image any more");
        for (more, placed) in [(&[][..], true), (&[(6, 'a')], false)] {
            let web = closure(&[&all[..], &[(5, 'a')], more].concat());
            let members = [member("web", &web, 9)];
            assert_eq!(
                Fleet::new(&members, Some(&lock), Stop::default()).unwrap().is_placed_by(&lock),
                placed,
                "{more:?}"
            );
        }
    }

    #[test]
    fn layers_are_in_the_order_of_the_lock_file() {
        let web = closure(&[(0, 'a'), (1, 'a'), (2, 'a')]);
        let members = [member("web", &web, 3)];
        let text = Lock::update(None, &members).unwrap().write();
        let layer = |number: usize| format!("\"paths\": [\n      \"p{number:04}\"\n    ]");
        let turned =
            text.replace(&layer(0), "FIRST").replace(&layer(2), &layer(0)).replace("FIRST", &layer(2));
        assert_ne!(turned, text);
        let order = |text: &str| -> Vec<String> {
            let plans = plan_fleet(&members, Some(&Lock::read(text, "test").unwrap())).unwrap();
            plans[0].iter().map(|layer| layer[0].path.name().to_owned()).collect()
        };
        let mut expected = order(&text);
        let place = |name: &str| expected.iter().position(|other| other == name).unwrap();
        let (first, last) = (place("p0000"), place("p0002"));
        expected.swap(first, last);
        assert_eq!(order(&turned), expected);
    }

    #[test]
    fn a_path_with_rules_is_in_layers_of_one_image_only() {
        let all = closure(&[(0, 'a'), (1, 'a')]);
        let mut web = member("web", &all, 2);
        let perm = Perm { regex: ".*".into(), mode: "0700".into(), ..Perm::default() };
        web.paths[1].options = Some(PathOptions { perms: vec![perm], ..PathOptions::default() });
        let members = [web, member("worker", &all, 2)];
        for lock in [None, Some(Lock::update(None, &members).unwrap())] {
            let plans = plan_fleet(&members, lock.as_ref()).unwrap();
            for (plan, member) in plans.iter().zip(&members) {
                let mut paths: Vec<&PlannedPath> = plan.iter().flatten().collect();
                paths.sort_by(|a, b| a.path.cmp(&b.path));
                assert_eq!(paths, member.paths.iter().collect::<Vec<_>>(), "{}", member.name);
            }
        }
    }

    #[test]
    fn without_a_lock_file_a_small_unrelated_path_moves_no_other_path() {
        // 300 paths of many sizes. Each refers to some paths with larger numbers.
        let path = |number: usize| path(number, 'a');
        let infos = (0..300).map(|number| PathInfo {
            path: path(number),
            references: [7, 31, 101]
                .map(|step| number + 1 + number * step % 97)
                .into_iter()
                .filter(|to| *to < 300)
                .map(path)
                .collect(),
            nar_hash: String::new(),
            nar_size: 1 << (12 + number * 13 % 11),
        });
        let without = Closure::new(infos);
        let layers = |closure: &Closure| -> Vec<Vec<StorePath>> {
            let plans = plan_fleet(&[member("web", closure, 40)], None).unwrap();
            let names = |layer: &Vec<PlannedPath>| {
                layer.iter().map(|path| path.path.clone()).filter(|name| *name != path(999)).collect()
            };
            plans[0].iter().map(names).collect()
        };
        let former = layers(&without);
        for size in [0, 500, 4000] {
            let unrelated =
                PathInfo { path: path(999), references: Vec::new(), nar_hash: String::new(), nar_size: size };
            let with = Closure::new(without.iter().cloned().chain([unrelated]));
            let mut after = layers(&with);
            after.sort();
            let mut former = former.clone();
            former.sort();
            assert_eq!(after, former, "{size} bytes");
        }
    }

    #[test]
    fn thousands_of_paths_are_each_in_one_layer_of_each_image_within_its_limit() {
        // More paths than are compared pair by pair. The images share them in fifteen ways.
        let of = |image: usize| -> Vec<(usize, char)> {
            (0..4000)
                .filter(|number| (number % 15 + 1) >> image & 1 == 1)
                .map(|number| (number, 'a'))
                .collect()
        };
        let closures: Vec<Closure> = (0..4).map(|image| closure(&of(image))).collect();
        let names = ["a", "b", "c", "d"];
        let limits = [9, 40, 3, 100];
        let members: Vec<Member<'_>> =
            (0..4).map(|image| member(names[image], &closures[image], limits[image])).collect();
        let lock = Lock::update(None, &members).unwrap();
        for plans in [plan_fleet(&members, None).unwrap(), plan_fleet(&members, Some(&lock)).unwrap()] {
            for ((plan, member), limit) in plans.iter().zip(&members).zip(limits) {
                assert!((1..=limit).contains(&plan.len()), "{}: {} layers", member.name, plan.len());
                let mut paths: Vec<&StorePath> = plan.iter().flatten().map(|path| &path.path).collect();
                paths.sort();
                let mut all: Vec<&StorePath> = member.closure.iter().map(|info| &info.path).collect();
                all.sort();
                assert_eq!(paths, all, "{}", member.name);
            }
        }
    }
}
