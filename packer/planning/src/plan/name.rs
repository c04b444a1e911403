//! The parts of a store path's name that do not change when its content changes.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use crate::closure::{Closure, PathInfo};
use crate::store_path::StorePath;

/// The parts of a store path's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'n> {
    /// The package, as in `builtins.parseDrvName`: the text before the first dash that is not followed by a letter.
    pub package: &'n str,
    /// The version: the text between package and output. Empty if there is none.
    pub version: &'n str,
    /// The output, such as `dev`: after a version, a last part that begins with a letter. Empty for the first output.
    pub output: &'n str,
}

impl<'n> Name<'n> {
    /// Returns the parts of `path`'s name.
    pub fn of(path: &'n StorePath) -> Self {
        let name = path.name();
        let mut dashes = name.match_indices('-').map(|(at, _)| at);
        let begins_with_letter = |text: &str| text.starts_with(|first: char| first.is_ascii_alphabetic());
        let is_end =
            |at: &usize| *at > 0 && !name[at + 1..].is_empty() && !begins_with_letter(&name[at + 1..]);
        let Some(end) = dashes.find(is_end) else {
            return Self { package: name, version: "", output: "" };
        };
        let (package, version) = (&name[..end], &name[end + 1..]);
        match version.rsplit_once('-') {
            Some((version, output)) if begins_with_letter(output) => Self { package, version, output },
            _ => Self { package, version, output: "" },
        }
    }

    /// Returns the package, with the output unless it is the first one.
    fn key(&self) -> String {
        match self.output {
            "" => self.package.to_owned(),
            output => format!("{}:{output}", self.package),
        }
    }
}

/// Returns a key for each path of the closure, in its order. The key does not change with versions and hashes: it consists of
/// package and output. If several paths have the same key, they are numbered (`#2`) by name, then size, then hash.
pub fn keys(closure: &Closure) -> Vec<String> {
    let infos: Vec<_> = closure.iter().collect();
    let mut keys: Vec<String> = infos.iter().map(|info| Name::of(&info.path).key()).collect();
    let mut alike: HashMap<&str, Vec<usize>> = HashMap::with_capacity(keys.len());
    for (at, key) in keys.iter().enumerate() {
        alike.entry(key).or_default().push(at);
    }
    let mut numbered = Vec::new();
    for mut places in alike.into_values().filter(|places| places.len() > 1) {
        places.sort_by_key(|at| in_order(infos[*at]));
        numbered.extend(places.into_iter().enumerate().skip(1));
    }
    for (number, at) in numbered {
        keys[at].push_str(&format!("#{}", number + 1));
    }
    keys
}

/// A key in a lock file.
#[derive(Debug)]
pub(super) struct LockKey<'l> {
    pub(super) key: &'l str,
    /// The store path's base name when the file was written.
    pub(super) path: &'l str,
    /// The images that have it in a layer.
    pub(super) images: HashSet<&'l str>,
}

/// The similarity of a path and the path that a known key was written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Same {
    /// The paths are equal.
    Path,
    /// The names after the hash are equal, and the paths have an image in common.
    Name,
    /// Package and output are equal, and the paths have an image in common.
    Package,
}

/// The known keys of one package and output, indexed by similarity. Some have been taken.
struct Free<'l> {
    taken: Vec<bool>,
    by_path: HashMap<&'l str, VecDeque<usize>>,
    by_name: HashMap<(&'l str, &'l str), VecDeque<usize>>,
    by_image: HashMap<&'l str, VecDeque<usize>>,
}

impl<'l> Free<'l> {
    fn new(known: &[LockKey<'l>]) -> Self {
        let (mut by_path, mut by_name, mut by_image) = (HashMap::new(), HashMap::new(), HashMap::new());
        for (at, LockKey { path, images, .. }) in known.iter().enumerate() {
            by_path.entry(*path).or_insert_with(VecDeque::new).push_back(at);
            for image in images {
                if let Some((_, name)) = path.split_once('-') {
                    by_name.entry((name, *image)).or_insert_with(VecDeque::new).push_back(at);
                }
                by_image.entry(*image).or_insert_with(VecDeque::new).push_back(at);
            }
        }
        Self { taken: vec![false; known.len()], by_path, by_name, by_image }
    }

    /// Takes the first free key with this similarity to a path of these images.
    fn take(&mut self, same: Same, path: &'l StorePath, images: &[&'l str]) -> Option<usize> {
        let Self { taken, by_path, by_name, by_image } = self;
        let first = |queue: Option<&mut VecDeque<usize>>| {
            let queue = queue?;
            while taken[*queue.front()?] {
                queue.pop_front();
            }
            queue.front().copied()
        };
        let found = match same {
            Same::Path => first(by_path.get_mut(path.base())),
            Same::Name => {
                images.iter().filter_map(|image| first(by_name.get_mut(&(path.name(), *image)))).min()
            }
            Same::Package => images.iter().filter_map(|image| first(by_image.get_mut(image))).min(),
        }?;
        taken[found] = true;
        Some(found)
    }
}

/// Like [`keys`], but paths of one package and output get the keys that they are `known` by. First, a path that is unchanged
/// gets its key. Then, in order, paths of the same name, and after them paths of other versions, each get a key that was in
/// an image that has the path now (`images`, by path). So an added or removed path does not change other keys.
pub(super) fn known_keys(closure: &Closure, known: Vec<LockKey<'_>>, images: &[Vec<&str>]) -> Vec<String> {
    let infos: Vec<_> = closure.iter().collect();
    let mut by_package: HashMap<&str, Vec<LockKey<'_>>> = HashMap::new();
    for known in known {
        by_package.entry(known.key.split('#').next().unwrap_or_default()).or_default().push(known);
    }
    for known in by_package.values_mut() {
        known.sort_by_key(|known| number(known.key));
    }
    let mut alike: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, info) in infos.iter().enumerate() {
        alike.entry(Name::of(&info.path).key()).or_default().push(at);
    }
    let mut keys = vec![String::new(); infos.len()];
    for (package, mut places) in alike {
        places.sort_by_key(|at| in_order(infos[*at]));
        let known = by_package.remove(package.as_str()).unwrap_or_default();
        let mut free = Free::new(&known);
        for round in [Same::Path, Same::Name, Same::Package] {
            places.retain(|at| match free.take(round, &infos[*at].path, &images[*at]) {
                None => true,
                Some(found) => {
                    known[found].key.clone_into(&mut keys[*at]);
                    false
                }
            });
        }
        let taken: HashSet<usize> = known.iter().map(|known| number(known.key)).collect();
        let mut numbers = (1..).filter(|number| !taken.contains(number));
        for at in places {
            keys[at] = match numbers.next() {
                None | Some(1) => package.clone(),
                Some(number) => format!("{package}#{number}"),
            };
        }
    }
    keys
}

/// Returns a key's number, which starts at 1.
fn number(key: &str) -> usize {
    key.split_once('#').and_then(|(_, number)| number.parse().ok()).unwrap_or(1)
}

fn in_order(info: &PathInfo) -> (&str, u64, &StorePath) {
    (info.path.name(), info.nar_size, &info.path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::closure::PathInfo;

    fn path(hash: char, name: &str) -> StorePath {
        StorePath::parse(&format!("/nix/store/{}-{name}", hash.to_string().repeat(32))).unwrap()
    }

    #[test]
    fn names_have_three_parts() {
        for (name, expected) in [
            ("gcc-13.2.0-lib", ["gcc", "13.2.0", "lib"]),
            ("glibc-2.40-66", ["glibc", "2.40-66", ""]),
            ("glibc-2.40-66-bin", ["glibc", "2.40-66", "bin"]),
            ("python3.11-requests-2.31.0", ["python3.11-requests", "2.31.0", ""]),
            ("x11-utils", ["x11-utils", "", ""]),
            ("hello", ["hello", "", ""]),
            ("a-b-1", ["a-b", "1", ""]),
            ("odd-", ["odd-", "", ""]),
        ] {
            let path = path('a', name);
            let Name { package, version, output } = Name::of(&path);
            assert_eq!([package, version, output], expected);
        }
    }

    #[test]
    fn keys_are_unique_and_independent_of_versions() {
        let closure = |paths: &[(char, &str, u64)]| {
            Closure::new(paths.iter().map(|(hash, name, nar_size)| PathInfo {
                path: path(*hash, name),
                references: Vec::new(),
                nar_hash: String::new(),
                nar_size: *nar_size,
            }))
        };
        let first = [
            ('d', "lib-1.0", 1),
            ('a', "lib-2.0", 1),
            ('c', "source", 9),
            ('b', "source", 5),
            ('f', "lib-1.0-dev", 3),
        ];
        assert_eq!(keys(&closure(&first)), ["lib", "lib#2", "source#2", "source", "lib:dev"]);
        let next = [
            ('x', "lib-1.1", 1),
            ('a', "lib-2.0", 1),
            ('0', "source", 9),
            ('1', "source", 5),
            ('f', "lib-1.1-dev", 3),
        ];
        assert_eq!(keys(&closure(&next)), keys(&closure(&first)));
    }
}
