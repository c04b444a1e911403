//! Plans the store paths of a closure: names, references and origins.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use xtask::packages::lock::store_name;

use super::debian::Graph;
use super::{Closures, Size};

/// Origin of a store path's files.
pub(super) enum Origin<'g> {
    /// A Debian package.
    Package(&'g str),
    /// Fresh bytes, which the number selects.
    App(u32),
    /// The files of another store path, which differs only in its references and hash.
    Linked(String),
    /// The files of another store path; the content of one file differs.
    Changed(String),
}

/// A planned store path.
pub(super) struct Planned<'g> {
    pub(super) path: String,
    pub(super) references: Vec<String>,
    pub(super) origin: Origin<'g>,
}

impl Closures {
    /// Returns the store paths of a closure, each after its references, the app last. If `changed` names a package, its path and
    /// the paths of all its referrers get new hashes; the referrers keep the files that they have in the unchanged closure.
    pub(super) fn plan<'g>(
        &self,
        graph: &'g Graph,
        size: Size,
        members: &BTreeSet<&'g str>,
        changed: Option<(&str, u32)>,
    ) -> Vec<Planned<'g>> {
        let mut planned: Vec<Planned<'g>> = Vec::new();
        // The path of each package in this closure, and in the unchanged closure.
        let mut paths: BTreeMap<&str, (String, String)> = BTreeMap::new();
        let references = |depends: &mut dyn Iterator<Item = &str>,
                          paths: &BTreeMap<&str, (String, String)>| {
            let (mut new, mut old): (Vec<String>, Vec<String>) =
                depends.map(|name| paths[name].clone()).unzip();
            new.sort();
            old.sort();
            (new, old)
        };
        for name in in_order(graph, members) {
            let node = &graph.packages[name];
            let (new, old) = references(&mut node.depends.iter().map(String::as_str), &paths);
            let name_version = store_name(&format!("{name}-{}", node.version));
            let unchanged = self.path(&name_version, &node.file.sha256, &old);
            let (path, origin) = match changed {
                Some((changed, number)) if changed == name => {
                    let path = self.path(&name_version, &format!("{} {number}", node.file.sha256), &new);
                    (path, Origin::Changed(unchanged.clone()))
                }
                _ => {
                    let path = self.path(&name_version, &node.file.sha256, &new);
                    let is_new = path != unchanged;
                    (path, if is_new { Origin::Linked(unchanged.clone()) } else { Origin::Package(name) })
                }
            };
            paths.insert(name, (path.clone(), unchanged));
            planned.push(Planned { path, references: new, origin });
        }
        let (references, _) = references(&mut size.wanted().into_iter(), &paths);
        planned.push(Planned { path: self.path("app", "", &references), references, origin: Origin::App(0) });
        planned
    }

    /// Returns a store path whose hash depends on its name, content and references, as in Nix.
    pub(super) fn path(&self, name: &str, content: &str, references: &[String]) -> String {
        let hash = Sha256::digest(format!("{name}\n{content}\n{}", references.join("\n")));
        format!("{}/{}-{name}", self.store_dir().display(), nix_base32(&hash[..20]))
    }

    /// Returns the package that a change in the middle of the graph changes: the one closest to 10 MB and 30 direct and indirect
    /// referrers, with at least one reference.
    pub(super) fn middle(
        &self,
        graph: &Graph,
        members: &BTreeSet<&str>,
        base: &[Planned<'_>],
    ) -> Result<String> {
        let sizes: BTreeMap<&str, u64> = base
            .iter()
            .filter_map(|planned| match planned.origin {
                Origin::Package(name) => Some((name, self.known[&planned.path].nar_size)),
                _ => None,
            })
            .collect();
        let mut referrers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for name in in_order(graph, members).into_iter().rev() {
            let mut own = referrers.get(name).cloned().unwrap_or_default();
            own.insert(name);
            for other in &graph.packages[name].depends {
                referrers.entry(other).or_default().extend(&own);
            }
        }
        let badness = |name: &&str| {
            let off = |value: f64, wanted: f64| (value / wanted).ln().abs();
            let count = referrers.get(name).map_or(0, BTreeSet::len) as f64;
            let badness = off(sizes[*name] as f64, 10e6) + off(count + 0.1, 30.0);
            (badness * 1e6) as u64
        };
        let middle = members
            .iter()
            .filter(|name| !graph.packages[**name].depends.is_empty())
            .min_by_key(|name| badness(name));
        let middle = middle.context("the closure has no package with references")?;
        Ok((*middle).to_owned())
    }
}

/// Returns the members, each after its references.
fn in_order<'g>(graph: &'g Graph, members: &BTreeSet<&'g str>) -> Vec<&'g str> {
    fn visit<'g>(graph: &'g Graph, name: &'g str, seen: &mut BTreeSet<&'g str>, order: &mut Vec<&'g str>) {
        if seen.insert(name) {
            for other in &graph.packages[name].depends {
                visit(graph, other, seen, order);
            }
            order.push(name);
        }
    }
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    for name in members {
        visit(graph, name, &mut seen, &mut order);
    }
    order
}

/// Encodes bytes in Nix's alphabet. Unlike Nix, it starts with the first byte, which does not matter here.
fn nix_base32(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
    let bit = |at: usize| bytes[at / 8] >> (at % 8) & 1;
    let digit = |at: usize| (0..5).fold(0, |digit, bit_at| digit << 1 | usize::from(bit(at * 5 + bit_at)));
    (0..bytes.len() * 8 / 5).map(|at| char::from(DIGITS[digit(at)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_have_the_form_of_store_paths() {
        let hash = nix_base32(&Sha256::digest("x")[..20]);
        assert_eq!(hash.len(), 32);
        assert_ne!(hash, nix_base32(&Sha256::digest("y")[..20]));
        assert!(hash.bytes().all(|byte| b"0123456789abcdfghijklmnpqrsvwxyz".contains(&byte)));
    }
}
