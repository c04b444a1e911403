//! The Debian packages of the closures, and their references.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use xtask::host;
use xtask::packages::apt::{self, Package};
use xtask::packages::lock::File;

use super::Size;

/// The packages of the largest closure, which include those of the smaller ones.
#[derive(Serialize, Deserialize)]
pub(super) struct Graph {
    /// Text of the request. apt resolves the graph again if the request differs.
    asked: String,
    /// The packages by name.
    pub packages: BTreeMap<String, Node>,
}

/// A Debian package that becomes a store path.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Node {
    /// Debian's version.
    pub version: String,
    /// Debian's architecture, or `all`.
    pub architecture: String,
    /// The .deb file.
    pub file: File,
    /// Its references. They have no cycles.
    pub depends: BTreeSet<String>,
}

impl Graph {
    /// Reads the graph of an earlier call from a file, or has apt resolve it and writes the file.
    pub(super) fn read_or_resolve(file: &Path) -> Result<Self> {
        if let Ok(text) = fs::read_to_string(file)
            && let Ok(graph) = serde_json::from_str::<Self>(&text)
            && graph.asked == asked()
        {
            return Ok(graph);
        }
        host::say("resolving the closures' packages with apt");
        // Without package lists, apt reports unknown packages.
        let graph = Self::resolve().or_else(|error| {
            host::say(format!("refreshing apt's package lists: {error:#}"));
            host::apt_update()?;
            Self::resolve()
        })?;
        fs::write(file, serde_json::to_string_pretty(&graph)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(graph)
    }

    /// Returns a graph without packages.
    pub(super) fn empty() -> Self {
        Self { asked: String::new(), packages: BTreeMap::new() }
    }

    fn resolve() -> Result<Self> {
        let index = apt::index(&apt::chosen(&Size::Large.wanted())?)?;
        let mut depends = dependencies(&index);
        break_cycles(&mut depends);
        let node = |(name, package): (String, Package)| {
            let depends = depends.remove(&name).unwrap_or_default();
            let Package { version, architecture, file, .. } = package;
            (name, Node { version, architecture, file, depends })
        };
        Ok(Self { asked: asked(), packages: index.into_iter().map(node).collect() })
    }

    /// Returns the named packages and their closure.
    pub(super) fn reach(&self, names: &[&str]) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut todo: Vec<&str> = names.to_vec();
        while let Some(name) = todo.pop() {
            let Some((name, node)) = self.packages.get_key_value(name) else { continue };
            if reached.insert(name.as_str()) {
                todo.extend(node.depends.iter().map(String::as_str));
            }
        }
        reached
    }
}

fn asked() -> String {
    format!("1 {:?}", Size::Large.wanted())
}

/// Returns Debian's dependencies by name. Of several alternatives, takes the first that is a package or that a package provides.
fn dependencies(index: &BTreeMap<String, Package>) -> BTreeMap<String, BTreeSet<String>> {
    let mut providers: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, package) in index {
        for provided in &package.provides {
            providers.entry(provided).or_insert(name);
        }
    }
    let resolve = |name: &String| match index.get_key_value(name) {
        Some((name, _)) => Some(name.clone()),
        None => providers.get(name.as_str()).map(|name| (*name).to_owned()),
    };
    let of = |(name, package): (&String, &Package)| {
        let depends = package.depends.iter().filter_map(|any| any.iter().find_map(resolve));
        (name.clone(), depends.filter(|other| other != name).collect())
    };
    index.iter().map(of).collect()
}

/// Removes references until there is no cycle, because Nix rejects the cycles that Debian has. Visits packages depth first in the
/// order of their names and removes each reference to a package whose visit has not ended.
fn break_cycles(depends: &mut BTreeMap<String, BTreeSet<String>>) {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        Open,
        Ended,
    }
    let mut visits: BTreeMap<String, Visit> = BTreeMap::new();
    let names: Vec<String> = depends.keys().cloned().collect();
    for name in names {
        // A package and its remaining references, in reverse order.
        let mut stack: Vec<(String, Vec<String>)> = Vec::new();
        let mut next = (!visits.contains_key(&name)).then_some(name);
        loop {
            if let Some(name) = next.take() {
                let todo = depends[&name].iter().rev().cloned().collect();
                visits.insert(name.clone(), Visit::Open);
                stack.push((name, todo));
            }
            let Some((name, todo)) = stack.last_mut() else { break };
            match todo.pop() {
                None => {
                    visits.insert(name.clone(), Visit::Ended);
                    stack.pop();
                }
                Some(other) => match visits.get(&other) {
                    None => next = Some(other),
                    Some(Visit::Ended) => {}
                    Some(Visit::Open) => {
                        depends.get_mut(name).expect("it is being visited").remove(&other);
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> BTreeMap<String, BTreeSet<String>> {
        let own = |(name, depends): &(&str, &[&str])| {
            ((*name).to_owned(), depends.iter().map(|&name| name.to_owned()).collect())
        };
        edges.iter().map(own).collect()
    }

    #[test]
    fn cycles_lose_the_reference_that_closes_them() {
        let mut depends = graph(&[
            ("app", &["libc", "perl"]),
            ("libc", &["libgcc"]),
            ("libgcc", &["libc"]),
            ("perl", &["perl-base", "perl-modules", "libc"]),
            ("perl-base", &["libc"]),
            ("perl-modules", &["perl", "perl-base"]),
        ]);
        break_cycles(&mut depends);
        assert_eq!(
            depends,
            graph(&[
                ("app", &["libc", "perl"]),
                ("libc", &["libgcc"]),
                ("libgcc", &[]),
                ("perl", &["perl-base", "perl-modules", "libc"]),
                ("perl-base", &["libc"]),
                ("perl-modules", &["perl-base"]),
            ])
        );
    }

    #[test]
    fn two_cycles_through_one_package_are_both_broken_and_diamonds_stay() {
        let mut depends = graph(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["a", "d"]), ("d", &["a", "b"])]);
        break_cycles(&mut depends);
        assert_eq!(depends, graph(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"]), ("d", &[])]));
    }

    #[test]
    fn alternatives_and_provided_names_resolve() {
        let package = |depends: &[&[&str]], provides: &[&str]| Package {
            version: "1".into(),
            architecture: "amd64".into(),
            file: File { name: String::new(), sha256: String::new(), size: 1 },
            depends: depends.iter().map(|any| any.iter().map(|&name| name.to_owned()).collect()).collect(),
            provides: provides.iter().map(|&name| name.to_owned()).collect(),
            is_library: false,
        };
        let index = [
            ("app", package(&[&["exim", "mta"], &["gone"], &["app"], &["libz", "mawk"]], &[])),
            ("gawk", package(&[], &["awk"])),
            ("mawk", package(&[], &["awk"])),
            ("postfix", package(&[&["awk"]], &["mta"])),
        ];
        let index = index.into_iter().map(|(name, package)| (name.to_owned(), package)).collect();
        assert_eq!(
            dependencies(&index),
            graph(&[("app", &["mawk", "postfix"]), ("gawk", &[]), ("mawk", &[]), ("postfix", &["gawk"])])
        );
    }
}
