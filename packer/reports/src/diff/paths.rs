//! Pairs the paths of two images: equal paths, and versions of one package.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use nixply_packer::ImageSpec;
use nixply_planning::plan::{Name, keys};
use nixply_planning::{Closure, PathInfo, PlannedPath, StorePath};
use serde::Serialize;

use super::PathFacts;

/// The changes of store paths between two images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PathChanges {
    /// Paths of a package and output that the old image does not have.
    pub added: Vec<PathChange>,
    /// Paths of a package and output that the new image does not have.
    pub removed: Vec<PathChange>,
    /// Paths with another version or another name.
    pub updated: Vec<PathChange>,
    /// Paths with the same name and version, and another hash.
    pub rebuilt: Vec<PathChange>,
    /// Equal paths at another place (`copyToRoot`), or with other owners or modes (`perms`).
    pub other_rules: Vec<PathChange>,
    /// Number of unchanged paths.
    pub unchanged: usize,
}

/// The change of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PathChange {
    /// Package and output, as in `openssl:dev`. Several paths with the same name have numbers.
    pub name: String,
    /// The path in the old image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Version>,
    /// The path in the new image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Version>,
    /// Cause of a rebuild or update; absent if the path's references are unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

/// The cause of a path's change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// No reference has changed, so its derivation or one of its build inputs has.
    Itself,
    /// A reference has changed. Its derivation may have changed as well.
    References,
}

/// A path in one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// The path.
    pub path: StorePath,
    /// Its version; empty if its name has none.
    pub version: String,
    /// Size of its archive in bytes, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nar_size: Option<u64>,
    /// Numbers (from 1) of the layers that contain it.
    pub layers: Vec<usize>,
}

/// The paths of an image, each with the indices (from 0) of its layers and its rules there.
type Places<'s> = BTreeMap<&'s StorePath, Vec<(usize, &'s PlannedPath)>>;

fn places(spec: &ImageSpec) -> Places<'_> {
    let mut places = Places::new();
    for (at, layer) in spec.layers.iter().enumerate() {
        for path in &layer.paths {
            places.entry(&path.path).or_default().push((at, path));
        }
    }
    places
}

/// The paths of two images, compared.
pub(super) struct Compared<'s> {
    old: Places<'s>,
    new: Places<'s>,
    pub(super) changes: PathChanges,
    /// The old version of each changed path of the new image.
    former: HashMap<StorePath, StorePath>,
    /// All old versions: the values of `former`.
    formers: HashSet<StorePath>,
    /// Equal paths with equal rules.
    unchanged: HashSet<&'s StorePath>,
}

impl<'s> Compared<'s> {
    pub(super) fn new(old: &'s ImageSpec, new: &'s ImageSpec, facts: &PathFacts) -> Self {
        let (old, new) = (places(old), places(new));
        let mut changes = PathChanges::default();
        let mut unchanged = HashSet::new();
        let rules = |places: &[(usize, &'s PlannedPath)]| -> HashSet<_> {
            places.iter().map(|(_, path)| path.options.as_ref()).collect()
        };
        let version = |of: &Places<'_>, path: &StorePath| Version {
            path: path.clone(),
            version: Name::of(path).version.to_owned(),
            nar_size: facts.size(path),
            layers: of[path].iter().map(|(at, _)| at + 1).collect::<BTreeSet<_>>().into_iter().collect(),
        };
        let change = |name: String, before: Option<&StorePath>, after: Option<&StorePath>| PathChange {
            name,
            old: before.map(|path| version(&old, path)),
            new: after.map(|path| version(&new, path)),
            cause: None,
        };
        for (path, after) in &new {
            match old.get(*path) {
                Some(before) if rules(before) == rules(after) => drop(unchanged.insert(*path)),
                Some(_) => changes.other_rules.push(change(path.name().into(), Some(path), Some(path))),
                None => {}
            }
        }
        changes.unchanged = unchanged.len();

        let mut before: Vec<&StorePath> =
            old.keys().copied().filter(|path| !new.contains_key(*path)).collect();
        let mut after: Vec<&StorePath> =
            new.keys().copied().filter(|path| !old.contains_key(*path)).collect();
        let mut former = HashMap::new();
        for (name, before, after) in pairs(&mut before, &mut after, |paths| by_name(paths, facts)) {
            former.insert(after.clone(), before.clone());
            changes.rebuilt.push(change(name, Some(before), Some(after)));
        }
        for (name, before, after) in pairs(&mut before, &mut after, |paths| keys(&as_closure(paths, facts))) {
            former.insert(after.clone(), before.clone());
            changes.updated.push(change(name, Some(before), Some(after)));
        }
        let single = |paths: &[&StorePath]| keys(&as_closure(paths, facts));
        for (name, path) in single(&before).into_iter().zip(&before) {
            changes.removed.push(change(name, Some(path), None));
        }
        for (name, path) in single(&after).into_iter().zip(&after) {
            changes.added.push(change(name, None, Some(path)));
        }

        for change in changes.rebuilt.iter_mut().chain(&mut changes.updated) {
            let Some(path) = change.new.as_ref().map(|version| &version.path) else { continue };
            let changed = |reference: &StorePath| reference != path && former.contains_key(reference);
            change.cause =
                facts.references.get(path).map(|references| match references.iter().any(changed) {
                    true => Cause::References,
                    false => Cause::Itself,
                });
        }
        let lists = [&mut changes.added, &mut changes.removed, &mut changes.updated, &mut changes.rebuilt];
        for list in lists.into_iter().chain([&mut changes.other_rules]) {
            list.sort_by(|a, b| a.order().cmp(&b.order()));
        }
        let formers = former.values().cloned().collect();
        Self { old, new, changes, former, formers, unchanged }
    }

    /// Iterates over the paths of both images, each once.
    pub(super) fn all(&self) -> impl Iterator<Item = &'s StorePath> {
        let gone = self.old.keys().filter(|path| !self.new.contains_key(*path));
        self.new.keys().chain(gone).copied()
    }

    pub(super) fn old_paths(&self) -> Vec<&'s StorePath> {
        self.old.keys().copied().collect()
    }

    pub(super) fn new_paths(&self) -> Vec<&'s StorePath> {
        self.new.keys().copied().collect()
    }

    /// Iterates over the indices (from 0) of the old image's layers that contain a path.
    pub(super) fn old_layers(&self, path: &StorePath) -> impl Iterator<Item = usize> {
        self.old.get(path).into_iter().flatten().map(|(at, _)| *at)
    }

    /// Returns whether the new image has any version of a path of the old one.
    pub(super) fn lives_on(&self, path: &StorePath) -> bool {
        self.new.contains_key(path) || self.formers.contains(path)
    }

    /// Returns the old version of a path of the new image, which may be the path itself.
    pub(super) fn former(&self, path: &'s StorePath) -> Option<&StorePath> {
        self.former.get(path).or_else(|| self.old.get_key_value(path).map(|(path, _)| *path))
    }

    /// Returns whether both images have the path with the same rules.
    pub(super) fn is_unchanged(&self, path: &StorePath) -> bool {
        self.unchanged.contains(path)
    }
}

impl PathChange {
    /// Sort key: the largest first, then by name.
    fn order(&self) -> impl Ord + '_ {
        let size = |version: &Option<Version>| version.as_ref().and_then(|version| version.nar_size);
        (std::cmp::Reverse(size(&self.new).max(size(&self.old))), &self.name)
    }
}

/// Removes the paths with equal keys from both lists, and returns them as pairs.
fn pairs<'s>(
    before: &mut Vec<&'s StorePath>,
    after: &mut Vec<&'s StorePath>,
    keys: impl Fn(&[&'s StorePath]) -> Vec<String>,
) -> Vec<(String, &'s StorePath, &'s StorePath)> {
    let mut with_key: BTreeMap<String, &StorePath> =
        keys(before).into_iter().zip(before.iter().copied()).collect();
    let mut pairs = Vec::new();
    for (key, path) in keys(after).into_iter().zip(after.iter().copied()) {
        if let Some(former) = with_key.remove(&key) {
            pairs.push((key, former, path));
        }
    }
    let taken: HashSet<&StorePath> = pairs.iter().flat_map(|(_, before, after)| [*before, *after]).collect();
    before.retain(|path| !taken.contains(*path));
    after.retain(|path| !taken.contains(*path));
    pairs
}

/// Returns the complete names. Paths with the same name are numbered by size, then hash.
fn by_name(paths: &[&StorePath], facts: &PathFacts) -> Vec<String> {
    let mut order: Vec<usize> = (0..paths.len()).collect();
    order.sort_by_key(|at| (facts.size(paths[*at]), paths[*at]));
    let mut names = vec![String::new(); paths.len()];
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for at in order {
        let alike = seen.entry(paths[at].name()).or_default();
        *alike += 1;
        names[at] = match *alike {
            1 => paths[at].name().to_owned(),
            number => format!("{}#{number}", paths[at].name()),
        };
    }
    names
}

fn as_closure(paths: &[&StorePath], facts: &PathFacts) -> Closure {
    Closure::new(paths.iter().map(|path| PathInfo {
        path: (*path).clone(),
        references: Vec::new(),
        nar_hash: String::new(),
        nar_size: facts.size(path).unwrap_or(0),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(hash: char, name: &str) -> StorePath {
        StorePath::parse(&format!("/nix/store/{}-{name}", hash.to_string().repeat(32))).unwrap()
    }

    /// Returns an image of one layer with these paths.
    fn image(paths: &[(char, &str)]) -> ImageSpec {
        let digest = format!("sha256:{}", "0".repeat(64));
        let paths: Vec<_> =
            paths.iter().map(|(hash, name)| serde_json::json!({"path": path(*hash, name)})).collect();
        let layer =
            serde_json::json!({"digest": digest, "diff_ids": digest, "paths": paths, "mediatype": "m"});
        let spec = serde_json::json!({"version": 1, "layers": [layer]});
        ImageSpec::read(&spec.to_string(), "image").unwrap()
    }

    /// Returns the changes as `name: old -> new`, with the first character of each path's hash.
    fn changes(old: &[(char, &str)], new: &[(char, &str)]) -> [Vec<String>; 4] {
        let (old, new) = (image(old), image(new));
        let changes = Compared::new(&old, &new, &PathFacts::default()).changes;
        let hash = |version: &Option<Version>| {
            version.as_ref().map_or(String::new(), |version| version.path.as_str()[11..12].to_owned())
        };
        let names = |list: Vec<PathChange>| {
            list.iter()
                .map(|change| format!("{}: {} -> {}", change.name, hash(&change.old), hash(&change.new)))
                .collect()
        };
        [names(changes.updated), names(changes.rebuilt), names(changes.added), names(changes.removed)]
    }

    #[test]
    fn an_unchanged_path_is_not_a_version_of_others() {
        let [updated, rebuilt, added, removed] =
            changes(&[('a', "lib-1.0"), ('b', "lib-2.0")], &[('b', "lib-2.0")]);
        assert!(updated.is_empty() && rebuilt.is_empty() && added.is_empty());
        assert_eq!(removed, ["lib: a -> "]);
    }

    #[test]
    fn paths_of_the_same_version_are_paired_first() {
        let [updated, rebuilt, added, removed] = changes(
            &[('a', "lib-1.0"), ('b', "lib-2.0"), ('c', "lib-2.0-dev")],
            &[('d', "lib-2.0"), ('f', "lib-3.0"), ('g', "lib-3.0-dev"), ('h', "other")],
        );
        assert_eq!(updated, ["lib: a -> f", "lib:dev: c -> g"]);
        assert_eq!(rebuilt, ["lib-2.0: b -> d"]);
        assert_eq!((added, removed), (vec!["other:  -> h".to_owned()], Vec::<String>::new()));
    }

    #[test]
    fn paths_with_the_same_name_have_numbers() {
        let [updated, rebuilt, added, removed] = changes(
            &[('a', "source"), ('b', "source"), ('c', "source")],
            &[('b', "source"), ('d', "source"), ('f', "source"), ('g', "source")],
        );
        assert_eq!(rebuilt, ["source: a -> d", "source#2: c -> f"]);
        assert_eq!(
            (updated, added, removed),
            (Vec::<String>::new(), vec!["source:  -> g".to_owned()], Vec::<String>::new())
        );
    }

    #[test]
    fn a_changed_reference_is_the_cause_of_a_change() {
        let (old, new) = (image(&[('a', "lib-1"), ('b', "app-1")]), image(&[('c', "lib-2"), ('d', "app-1")]));
        let info = |path: StorePath, references: Vec<StorePath>| PathInfo {
            path,
            references,
            nar_hash: String::new(),
            nar_size: 1,
        };
        let (lib, app) = (path('c', "lib-2"), path('d', "app-1"));
        let mut facts = PathFacts::default();
        facts.add(&Closure::new([info(lib.clone(), vec![lib.clone()]), info(app.clone(), vec![lib, app])]));
        let changes = Compared::new(&old, &new, &facts).changes;
        assert_eq!(changes.updated[0].cause, Some(Cause::Itself));
        assert_eq!(changes.rebuilt[0].cause, Some(Cause::References));
    }
}
