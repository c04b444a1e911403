//! Real closures to measure with, of Debian packages: each becomes a store path that refers to what the package depends
//! on, in a Nix store of their own that is kept in the cache. An `app` of 2 MiB refers to the packages that were asked
//! for.
//!
//! A change is made as Nix makes it: a path that has changed and all paths that refer to it get new hashes. The files
//! of those that only refer to it are hard links to the former ones.

mod debian;
mod fresh;
pub(super) mod tree;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::debian::Graph;
use self::fresh::Code;
use self::tree::{change_largest_file, largest_file, link_tree, make_canonical, remove_tree};
use self::wanted::{LARGE, MEDIUM, SMALL};
use crate::host::{self, output, say};
use crate::nix;
use crate::packages::apt;
use crate::packages::lock::store_name;
use crate::store::Store;

/// How much `app` has.
const APP_BYTES: usize = 2 << 20;

/// A closure's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Size {
    /// About a hundred store paths, half a gigabyte.
    Small,
    /// About 270 store paths, a gigabyte and a half.
    Medium,
    /// Over a thousand store paths and a hundred thousand files, five gigabytes.
    Large,
}

impl Size {
    /// All sizes, smallest first.
    pub(crate) const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// As users write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }

    fn wanted(self) -> Vec<&'static str> {
        let lists = match self {
            Self::Small => &[SMALL][..],
            Self::Medium => &[SMALL, MEDIUM],
            Self::Large => &[SMALL, MEDIUM, LARGE],
        };
        lists.concat()
    }
}

/// What differs between two builds of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// The `app`, which nothing refers to; the number tells several such changes apart.
    Leaf(u32),
    /// One path in the middle, and so all that refer to it.
    Middle(u32),
}

impl Change {
    /// As in file names, and in images' tags.
    pub(crate) fn name(self) -> String {
        match self {
            Self::None => "base".into(),
            Self::Leaf(number) => format!("leaf-{number}"),
            Self::Middle(number) => format!("middle-{number}"),
        }
    }
}

/// What Nix knows of a store path; as JSON, an entry of a derivation's `exportReferencesGraph`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Info {
    /// The path.
    pub path: String,
    /// The hash of its archive, as Nix prints it.
    pub nar_hash: String,
    /// The size of its archive.
    pub nar_size: u64,
    /// The paths that it refers to, sorted.
    pub references: Vec<String>,
}

/// A closure that is there.
#[derive(Debug, Clone)]
pub(crate) struct Closure {
    /// Its paths as JSON, sorted, as both nixply and nix2container read them.
    pub file: PathBuf,
    /// The `app`.
    pub root: String,
    /// Its paths, sorted.
    pub infos: Vec<Info>,
}

impl Closure {
    /// The sum of the archives' sizes.
    pub(crate) fn bytes(&self) -> u64 {
        self.infos.iter().map(|info| info.nar_size).sum()
    }
}

/// Store paths with fresh content, which are gone again with this value and so are not known to Nix.
pub(crate) struct Extra(Vec<Info>);

impl Extra {
    /// What Nix would know of them.
    pub(crate) fn infos(&self) -> &[Info] {
        &self.0
    }

    /// The paths.
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

/// Where a store path's files come from.
enum Origin<'g> {
    /// A Debian package.
    Package(&'g str),
    /// Random bytes.
    App(u32),
    /// The files of another store path, which has a different hash only because it refers to others.
    Linked(String),
    /// The files of another store path, one of them with different content.
    Changed(String),
}

/// A store path that is to be.
struct Planned<'g> {
    path: String,
    references: Vec<String>,
    origin: Origin<'g>,
}

/// The closures' store, and what it is made of.
pub(crate) struct Closures {
    store: Store,
    graph: Graph,
    /// What Nix knows, by path.
    known: BTreeMap<String, Info>,
}

impl Closures {
    /// Opens the store; what is in it stays.
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

    /// The store's folder, which is also where its paths say that they are.
    pub(crate) fn store_dir(&self) -> PathBuf {
        self.store.root.join("store")
    }

    /// Makes a closure, unless it is there.
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
                // Everything but the app is the same.
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

    /// The store paths of a closure, each after those it refers to, the app last. With a `changed` package, what is
    /// different then is made from what the unchanged closure has.
    fn plan<'g>(
        &self,
        graph: &'g Graph,
        size: Size,
        members: &BTreeSet<&'g str>,
        changed: Option<(&str, u32)>,
    ) -> Vec<Planned<'g>> {
        let mut planned: Vec<Planned<'g>> = Vec::new();
        // By package: the path, and the one in the unchanged closure.
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

    /// A store path whose hash depends on its content and its references, as Nix's do.
    fn path(&self, name: &str, content: &str, references: &[String]) -> String {
        let hash = Sha256::digest(format!("{name}\n{content}\n{}", references.join("\n")));
        format!("{}/{}-{name}", self.store_dir().display(), nix_base32(&hash[..20]))
    }

    /// The package that changes in the middle: some 10 MB, some 30 others refer to it, and it refers to others itself.
    fn middle(&self, graph: &Graph, members: &BTreeSet<&str>, base: &[Planned<'_>]) -> Result<String> {
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
        let middle = middle.context("the closure has no path in the middle")?;
        Ok((*middle).to_owned())
    }

    /// Makes the store paths that are not there, and registers them.
    fn fill(&mut self, graph: &Graph, planned: &[Planned<'_>]) -> Result<()> {
        let missing: Vec<&Planned<'_>> =
            planned.iter().filter(|planned| !self.known.contains_key(&planned.path)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let packages: Vec<&str> = missing
            .iter()
            .filter_map(|planned| if let Origin::Package(name) = planned.origin { Some(name) } else { None })
            .collect();
        let debs = tempfile::Builder::new().prefix("debs-").tempdir_in(&self.store.root)?;
        if !packages.is_empty() {
            let bytes: u64 = packages.iter().map(|name| graph.packages[*name].file.size).sum();
            say(format!("downloading {} Debian packages, {} MB", packages.len(), bytes.div_ceil(1_000_000)));
            let named = packages.iter().map(|name| (*name, graph.packages[*name].version.as_str()));
            apt::download_to(debs.path(), named).with_context(|| {
                format!(
                    "if Debian has newer versions by now, delete {}",
                    self.store.root.join("packages.json").display()
                )
            })?;
        }
        say(format!("making {} store paths in {}", missing.len(), self.store_dir().display()));
        // An app's bytes are taken from the packages, which come first.
        let (apps, others): (Vec<&Planned<'_>>, Vec<_>) =
            missing.into_iter().partition(|planned| matches!(planned.origin, Origin::App(_)));
        for group in [others, apps] {
            let made = group
                .par_iter()
                .map(|planned| self.make_path(graph, planned, debs.path()))
                .collect::<Result<Vec<_>>>()?;
            self.register(&group, &made)?;
            self.ask_nix()?;
        }
        Ok(())
    }

    /// Makes one store path; gives its `narHash` in hex and its `narSize`.
    fn make_path(&self, graph: &Graph, planned: &Planned<'_>, debs: &Path) -> Result<(String, u64)> {
        let path = Path::new(&planned.path);
        remove_tree(path)?;
        match &planned.origin {
            Origin::Package(name) => {
                let node = &graph.packages[*name];
                let deb = debs.join(apt::downloaded_as(name, &node.version, &node.architecture));
                node.file.check(&deb)?;
                output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(path))?;
                fs::remove_file(&deb)?;
            }
            Origin::App(number) => {
                fs::create_dir_all(path.join("bin"))?;
                fs::write(path.join("bin/app"), self.code()?.bytes(u64::from(*number), APP_BYTES))?;
                fs::set_permissions(path.join("bin/app"), fs::Permissions::from_mode(0o755))?;
            }
            Origin::Linked(from) => {
                link_tree(Path::new(from), path)?;
                // What the files hold and may do is the same.
                let former = &self.known[from];
                return Ok((former.nar_hash.clone(), former.nar_size));
            }
            Origin::Changed(from) => {
                link_tree(Path::new(from), path)?;
                change_largest_file(path, &planned.path)?;
            }
        }
        make_canonical(path)?;
        self.archive(path)
    }

    /// The hash of a path's archive, in hex, and the archive's size.
    fn archive(&self, path: &Path) -> Result<(String, u64)> {
        let mut dump = self.store.command("nix-store", "");
        let mut child =
            dump.arg("--dump").arg(path).stdout(Stdio::piped()).spawn().context("cannot start nix-store")?;
        let mut archive = child.stdout.take().expect("it is piped");
        let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 256 << 10]);
        loop {
            let read = archive.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            size += read as u64;
        }
        ensure!(child.wait()?.success(), "nix-store --dump {} has failed", path.display());
        Ok((hex::encode(hasher.finalize()), size))
    }

    /// Makes paths valid.
    fn register(&self, planned: &[&Planned<'_>], made: &[(String, u64)]) -> Result<()> {
        let mut text = String::new();
        for (planned, (hash, size)) in planned.iter().zip(made) {
            // Path, hash, size, deriver, references: what `nix-store --dump-db` prints.
            let references: String = planned.references.iter().map(|path| format!("{path}\n")).collect();
            text +=
                &format!("{}\n{hash}\n{size}\n\n{}\n{references}", planned.path, planned.references.len());
        }
        if text.is_empty() {
            return Ok(());
        }
        let mut load = self.store.command("nix-store", "");
        let mut child =
            load.arg("--load-db").stdin(Stdio::piped()).spawn().context("cannot start nix-store")?;
        child.stdin.take().expect("it is piped").write_all(text.as_bytes())?;
        ensure!(child.wait()?.success(), "nix-store --load-db has failed");
        Ok(())
    }

    /// Reads what Nix knows of the store.
    fn ask_nix(&mut self) -> Result<()> {
        let mut ask = self.store.command("nix", "");
        let text = output(ask.args(["path-info", "--all", "--json"]))?;
        let infos: Vec<Info> = serde_json::from_str(&text).context("nix path-info --json")?;
        self.known = infos
            .into_iter()
            .map(|mut info| {
                info.references.sort();
                (info.path.clone(), info)
            })
            .collect();
        Ok(())
    }

    /// Makes four store paths that nothing refers to, with so many bytes between them.
    pub(crate) fn make_extra(&self, seed: u64, bytes: usize) -> Result<Extra> {
        let code = self.code()?;
        let make = |number: u64| {
            let path = self.path(&format!("data-{number}"), &format!("{seed} {bytes}"), &[]);
            let folder = Path::new(&path);
            remove_tree(folder)?;
            fs::create_dir_all(folder)?;
            // No seed of an app, and of no other extra path.
            fs::write(folder.join("data"), code.bytes(((seed + 1) << 20) + number, bytes / 4))?;
            make_canonical(folder)?;
            let (hash, nar_size) = self.archive(folder)?;
            Ok(Info { path, nar_hash: format!("sha256:{hash}"), nar_size, references: Vec::new() })
        };
        (0..4).into_par_iter().map(make).collect::<Result<_>>().map(Extra)
    }

    /// Programs and libraries of the packages, to make fresh files of.
    fn code(&self) -> Result<Code> {
        // libstdc++ and its compiler are in every closure.
        let start = format!("{}/", self.store_dir().display());
        let is_compiler = |path: &&String| {
            path.strip_prefix(&start)
                .and_then(|name| name.get(33..))
                .is_some_and(|name| name.starts_with("cpp-"))
        };
        let path =
            self.known.keys().find(|path| is_compiler(path) && self.known[*path].nar_size > APP_BYTES as u64);
        let path = path.context("the store has no compiler to take bytes from")?;
        let file = largest_file(Path::new(path))?;
        Ok(Code(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?))
    }
}

/// The members, each after the ones it refers to.
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

/// Nix's alphabet; which digit comes first is of no consequence here.
fn nix_base32(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
    let bit = |at: usize| bytes[at / 8] >> (at % 8) & 1;
    let digit = |at: usize| (0..5).fold(0, |digit, bit_at| digit << 1 | usize::from(bit(at * 5 + bit_at)));
    (0..bytes.len() * 8 / 5).map(|at| char::from(DIGITS[digit(at)])).collect()
}

impl std::str::FromStr for Size {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let size = Self::ALL.into_iter().find(|size| size.name() == name);
        size.with_context(|| format!("no such closure: {name}; there are small, medium and large"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_store_paths() {
        let hash = nix_base32(&Sha256::digest("x")[..20]);
        assert_eq!(hash.len(), 32);
        assert_ne!(hash, nix_base32(&Sha256::digest("y")[..20]));
        assert!(hash.bytes().all(|byte| b"0123456789abcdfghijklmnpqrsvwxyz".contains(&byte)));
    }
}
