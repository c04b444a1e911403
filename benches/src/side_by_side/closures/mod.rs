//! Closures of real packages. Each Debian package becomes a store path that refers to the package's dependencies, in a
//! separate Nix store that stays in the cache. An `app` of 2 MiB refers to the packages of `wanted.rs`.
//!
//! Changes are like those of Nix: the changed path and all its referrers get new hashes. The files of the new referrers are hard
//! links to the files of the old ones.

mod debian;
mod fill;
mod fresh;
mod plan;
pub(super) mod tree;
mod wanted;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use xtask::host::{self, say};
use xtask::nix;
use xtask::store::Store;

use self::debian::Graph;
use self::plan::Origin;
use self::tree::remove_tree;
use self::wanted::{LARGE, MEDIUM, SMALL};
use crate::scenario::Change;

/// Size of the `app`.
const APP_BYTES: usize = 2 << 20;

/// Size of a closure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Size {
    /// About 100 store paths, 0.5 GB.
    Small,
    /// About 270 store paths, 1.5 GB.
    Medium,
    /// Over 1,000 store paths and 100,000 files, 5 GB.
    Large,
}

impl Size {
    /// All sizes, smallest first.
    pub(crate) const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// Its name on the command line and in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }

    /// Names of the Debian packages that the `app` refers to.
    fn wanted(self) -> Vec<&'static str> {
        let lists = match self {
            Self::Small => &[SMALL][..],
            Self::Medium => &[SMALL, MEDIUM],
            Self::Large => &[SMALL, MEDIUM, LARGE],
        };
        lists.concat()
    }
}

/// A store path's entry in Nix's database. Its JSON has the form of an entry of a derivation's `exportReferencesGraph`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Info {
    /// The path.
    pub path: String,
    /// The hash of its archive, in Nix's format.
    pub nar_hash: String,
    /// The size of its archive.
    pub nar_size: u64,
    /// Its references, sorted.
    pub references: Vec<String>,
}

/// A closure in the store.
#[derive(Debug, Clone)]
pub(crate) struct Closure {
    /// A JSON file with its paths, sorted, for both nixply and nix2container.
    pub file: PathBuf,
    /// The `app`.
    pub root: String,
    /// Its paths, sorted.
    pub infos: Vec<Info>,
}

impl Closure {
    /// Returns the sum of the archives' sizes.
    pub(crate) fn bytes(&self) -> u64 {
        self.infos.iter().map(|info| info.nar_size).sum()
    }

    /// Returns its paths relative to the root directory, one a line, for tar.
    pub(crate) fn tar_list(&self) -> String {
        self.infos.iter().map(|info| format!("{}\n", info.path.trim_start_matches('/'))).collect()
    }
}

/// Store paths with fresh contents. Nix's database does not have them. Dropping the value deletes them.
pub(crate) struct Extra(Vec<Info>);

impl Extra {
    /// Returns the entries that Nix's database would have.
    pub(crate) fn infos(&self) -> &[Info] {
        &self.0
    }

    /// Returns the paths.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &String> {
        self.0.iter().map(|info| &info.path)
    }
}

impl Drop for Extra {
    fn drop(&mut self) {
        for path in self.paths() {
            if let Err(error) = remove_tree(Path::new(path)) {
                say(format!("{error:#}"));
            }
        }
    }
}

/// The store of the closures, and the packages that fill it.
pub(crate) struct Closures {
    store: Store,
    graph: Graph,
    /// The entries of Nix's database, by path.
    known: BTreeMap<String, Info>,
}

impl Closures {
    /// Opens the store, which may have contents from earlier runs.
    pub(crate) fn open() -> Result<Self> {
        host::apt_install(&["dpkg"])?;
        let nix = nix::install(&nix::Version::Bookworm)?;
        let store = Store::plain(&nix, host::cache().join("bench"))?;
        fs::create_dir_all(store.root.join("store"))?;
        let graph = Graph::read_or_resolve(&store.root.join("packages.json"))?;
        let mut closures = Self { store, graph, known: BTreeMap::new() };
        closures.ask_nix()?;
        Ok(closures)
    }

    /// Returns the store's directory, which is also the prefix of its store paths.
    pub(crate) fn store_dir(&self) -> PathBuf {
        self.store.root.join("store")
    }

    /// Returns a closure; creates it in the store if it is missing.
    pub(crate) fn make(&mut self, size: Size, change: Change) -> Result<Closure> {
        let graph = std::mem::replace(&mut self.graph, Graph::empty());
        let made = self.make_of(&graph, size, change);
        self.graph = graph;
        made
    }

    fn make_of(&mut self, graph: &Graph, size: Size, change: Change) -> Result<Closure> {
        let members = graph.reach(&size.wanted());
        let base = self.plan(graph, size, &members, None);
        let planned = match change {
            Change::None => base,
            Change::Leaf(number) => {
                // Only the app differs.
                self.fill(graph, &base)?;
                let mut planned = base;
                let app = planned.last_mut().expect("the app is the last");
                app.path = self.path("app", &format!("leaf {number}"), &app.references);
                app.origin = Origin::App(number);
                planned
            }
            Change::Middle(number) => {
                self.fill(graph, &base)?;
                let middle = self.middle(graph, &members, &base)?;
                self.plan(graph, size, &members, Some((&middle, number)))
            }
        };
        self.fill(graph, &planned)?;
        let mut infos: Vec<Info> = planned.iter().map(|planned| self.known[&planned.path].clone()).collect();
        infos.sort_by(|a, b| a.path.cmp(&b.path));
        let file = self.store.root.join(format!("{}-{}.json", size.name(), change.name()));
        fs::write(&file, serde_json::to_string_pretty(&infos)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        let root = planned.last().expect("the app is the last").path.clone();
        Ok(Closure { file, root, infos })
    }
}

impl std::str::FromStr for Size {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let size = Self::ALL.into_iter().find(|size| size.name() == name);
        size.with_context(|| format!("no such closure: {name}; pass small, medium, large or all"))
    }
}
