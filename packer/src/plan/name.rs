//! What stays of a store path's name when its content changes.

use std::collections::HashMap;

use crate::closure::{Closure, StorePath};

/// The parts of a store path's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'n> {
    /// The package, as `builtins.parseDrvName` tells it from the version: what is ahead of the first dash that no letter
    /// follows.
    pub package: &'n str,
    /// What is between package and output; empty where there is no version.
    pub version: &'n str,
    /// The output, such as `dev`: after a version, a last part that begins with a letter. Empty for the first output.
    pub output: &'n str,
}

impl<'n> Name<'n> {
    /// The parts of `path`'s name.
    pub fn of(path: &'n StorePath) -> Self {
        let name = path.name();
        let mut dashes = name.match_indices('-').map(|(at, _)| at);
        let begins_with_letter = |text: &str| text.starts_with(|first: char| first.is_ascii_alphabetic());
        let Some(end) = dashes.find(|at| !name[at + 1..].is_empty() && !begins_with_letter(&name[at + 1..]))
        else {
            return Self { package: name, version: "", output: "" };
        };
        let (package, version) = (&name[..end], &name[end + 1..]);
        match version.rsplit_once('-') {
            Some((version, output)) if begins_with_letter(output) => Self { package, version, output },
            _ => Self { package, version, output: "" },
        }
    }

    /// The package, and the output where it is not the first.
    fn key(&self) -> String {
        match self.output {
            "" => self.package.to_owned(),
            output => format!("{}:{output}", self.package),
        }
    }
}

/// For each path of the closure, in its order, a key that stays when versions and hashes change: package and output. Several
/// paths with one are numbered (`#2`) by name, then size, then hash.
pub fn keys(closure: &Closure) -> Vec<String> {
    let infos: Vec<_> = closure.iter().collect();
    let mut keys: Vec<String> = infos.iter().map(|info| Name::of(&info.path).key()).collect();
    let mut alike: HashMap<&str, Vec<usize>> = HashMap::with_capacity(keys.len());
    for (at, key) in keys.iter().enumerate() {
        alike.entry(key).or_default().push(at);
    }
    let mut numbered = Vec::new();
    for mut places in alike.into_values().filter(|places| places.len() > 1) {
        let name = |at: &usize| infos[*at].path.as_str().split_once('-').map_or("", |(_, name)| name);
        places.sort_by_key(|at| (name(at), infos[*at].nar_size, &infos[*at].path));
        numbered.extend(places.into_iter().enumerate().skip(1));
    }
    for (number, at) in numbered {
        keys[at].push_str(&format!("#{}", number + 1));
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::closure::PathInfo;

    fn path(hash: char, name: &str) -> StorePath {
        format!("/nix/store/{}-{name}", hash.to_string().repeat(32)).into()
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
    fn keys_are_unique_and_outlive_versions() {
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
            ('e', "lib-1.0-dev", 3),
        ];
        assert_eq!(keys(&closure(&first)), ["lib", "lib#2", "source#2", "source", "lib:dev"]);
        let next = [
            ('x', "lib-1.1", 1),
            ('a', "lib-2.0", 1),
            ('0', "source", 9),
            ('1', "source", 5),
            ('e', "lib-1.1-dev", 3),
        ];
        assert_eq!(keys(&closure(&next)), keys(&closure(&first)));
    }
}
