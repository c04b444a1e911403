//! The closure: store paths with their references, sizes and hashes. Later stages never query Nix.

mod json;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use fixedbitset::FixedBitSet;
use nixply_documents::wording::quoted;
use nixply_files::owner::{self, Above};

use crate::error::{Error, Result};
use crate::store_path::{HASH_DIGITS, StorePath, check_base, is_name, is_plain_directory};

/// A store: the directory in the names of store paths, and the directory with their files on this machine. The two differ for a
/// chroot store (`--store DIR`), whose `/nix/store` is `DIR/nix/store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// The store directory in the names of store paths, without a trailing slash.
    pub dir: String,
    /// The store directory on this machine.
    pub real_dir: PathBuf,
}

impl Store {
    /// Returns a store whose files are in `dir` itself.
    pub fn at(dir: impl Into<String>) -> Self {
        let dir = dir.into();
        Self { real_dir: dir.clone().into(), dir }
    }

    /// As [`Store::at`], for a directory that a user names: an absolute path, perhaps with trailing slashes.
    pub fn named(dir: &str) -> Result<Self> {
        let trimmed = dir.trim_end_matches('/');
        match is_plain_directory(trimmed) {
            true => Ok(Self::at(trimmed)),
            false => Err(Error::invalid(
                format!("store directory {}", quoted(dir)),
                "expected an absolute path without `.` and `..`, as in /nix/store",
            )),
        }
    }

    /// Returns the store of `path`, a store path's full name.
    pub fn of(path: &str) -> Result<Self> {
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        let store = Self::named(dir)
            .map_err(|error| Error::invalid(format!("store path {}", quoted(path)), error.why()))?;
        store.check(path)?;
        Ok(store)
    }

    /// Returns the path of a store path on this machine. Paths outside the store are returned unchanged.
    pub fn real_path(&self, path: &StorePath) -> PathBuf {
        self.real_file(path.as_str())
    }

    /// As [`Store::real_path`], for any name, such as that of a file below a store path.
    pub fn real_file(&self, name: &str) -> PathBuf {
        match name.strip_prefix(&self.dir).and_then(|rest| rest.strip_prefix('/')) {
            Some(name) => self.real_dir.join(name),
            None => PathBuf::from(name),
        }
    }

    /// Returns the possible store paths in a text, without duplicates and sorted. Each extends over all characters that a store
    /// path's name may have, which can be too many (`${path}.lock`): see [`Store::shortened`]. The hash identifies the path.
    pub fn paths_in<'t>(&self, text: &'t [u8]) -> impl Iterator<Item = StorePath> + use<'t> {
        let prefix = format!("{}/", self.dir);
        let mut found = std::collections::BTreeSet::new();
        let mut rest = text;
        while let Some(at) = find(rest, prefix.as_bytes()) {
            rest = &rest[at + prefix.len()..];
            let end = rest.iter().position(|byte| !is_name(*byte)).unwrap_or(rest.len());
            // A full stop at the end belongs to the sentence, as in "see /nix/store/…-doc."
            let name = String::from_utf8_lossy(&rest[..end]);
            let path = format!("{prefix}{}", name.trim_end_matches('.'));
            found.extend(self.check(&path).ok());
        }
        found.into_iter()
    }

    /// Returns a store path's hash.
    pub fn hash<'p>(&self, path: &'p StorePath) -> Option<&'p str> {
        path.as_str().strip_prefix(&self.dir)?.strip_prefix('/')?.get(..HASH_DIGITS)
    }

    /// Returns the path and every shorter path with the same hash, longest first.
    pub fn shortened(&self, path: &StorePath) -> impl Iterator<Item = StorePath> {
        let text = path.as_str().to_owned();
        let shortest = self.dir.len() + "/".len() + HASH_DIGITS + "-".len() + 1;
        (shortest..=text.len()).rev().filter_map(move |end| StorePath::parse(text.get(..end)?).ok())
    }

    /// Checks that `path` is a store path's full name or the path of a file below it. Neither `..` in the path nor symlinks
    /// that exist may lead out of the store.
    pub fn check_below(&self, path: &str) -> Result<()> {
        let name = path.strip_prefix(&self.dir).and_then(|rest| rest.strip_prefix('/'));
        let end = name.and_then(|name| Some(path.len() - name.len() + name.find('/')?)).unwrap_or(path.len());
        self.check(&path[..end])?;
        let what = || format!("path {}", quoted(path));
        if path[end..].split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) {
            return Err(Error::invalid(what(), "expected plain names below the store path"));
        }
        let real = |path: &Path| path.canonicalize().ok();
        match real(&self.real_file(path)).zip(real(&self.real_dir)) {
            Some((target, store)) if !target.starts_with(&store) => {
                let why = format!("it is a symlink to {}, outside of the store", target.display());
                Err(Error::invalid(what(), why))
            }
            _ => Ok(()),
        }
    }

    /// Checks that no user other than this one and root can put files into the store.
    pub fn check_owner(&self) -> Result<()> {
        Ok(owner::check_store(&self.real_dir, Above::Not)?)
    }

    /// As [`Store::check_owner`]. If the file `spec` is directly in the store directory, it may be the only evidence that the
    /// directory is a store. Then no other user may be able to replace the store directory either.
    pub fn check_owner_for(&self, spec: &Path) -> Result<()> {
        let directory = spec.canonicalize().ok().and_then(|file| file.parent().map(Path::to_path_buf));
        let above = match directory.is_some() && directory == self.real_dir.canonicalize().ok() {
            true => Above::Too,
            false => Above::Not,
        };
        Ok(owner::check_store(&self.real_dir, above)?)
    }

    /// Checks that `path` is a store path's full name, with nothing below it.
    pub fn check(&self, path: &str) -> Result<StorePath> {
        let what = || format!("store path {}", quoted(path));
        let name = path.strip_prefix(&self.dir).and_then(|rest| rest.strip_prefix('/'));
        let name =
            name.ok_or_else(|| Error::invalid(what(), format!("it is not in the store {}", self.dir)))?;
        check_base(name).map_err(|why| Error::invalid(what(), why))?;
        StorePath::parse(path).map_err(|error| Error::invalid(what(), error.why))
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// Nix's record of a store path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// The store path.
    pub path: StorePath,
    /// Store paths that it refers to, perhaps including itself.
    pub references: Vec<StorePath>,
    /// Hash of its archive, in any of the forms that Nix prints; empty if the closure has none.
    pub nar_hash: String,
    /// Size of its archive in bytes; 0 if the closure has none.
    pub nar_size: u64,
}

/// Store paths with their references, in an order that decides ties in [`crate::plan`].
#[derive(Debug, Clone, Default)]
pub struct Closure {
    infos: Vec<PathInfo>,
    index: HashMap<StorePath, usize>,
}

impl Closure {
    /// Creates a closure in the given order. A path that is listed twice keeps its first position and has the references of
    /// both entries.
    pub fn new(infos: impl IntoIterator<Item = PathInfo>) -> Self {
        let mut closure = Self::default();
        for info in infos {
            match closure.index.get(&info.path) {
                None => {
                    closure.index.insert(info.path.clone(), closure.infos.len());
                    closure.infos.push(info);
                }
                Some(at) => {
                    let known = &mut closure.infos[*at].references;
                    if *known != info.references {
                        known.extend(info.references);
                        known.sort();
                        known.dedup();
                    }
                }
            }
        }
        closure
    }

    /// Iterates over the entries, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &PathInfo> {
        self.infos.iter()
    }

    /// Returns the number of paths.
    pub fn len(&self) -> usize {
        self.infos.len()
    }

    /// Whether the closure has no paths.
    pub fn is_empty(&self) -> bool {
        self.infos.is_empty()
    }

    /// Returns the paths whose hash is anywhere in `text`. Nix finds references in the same way.
    pub fn referred_to_by(&self, text: &[u8], store: &Store) -> Vec<StorePath> {
        let in_hash = |byte: u8| b"0123456789abcdfghijklmnpqrsvwxyz".contains(&byte);
        let mut found: HashSet<&[u8]> = HashSet::new();
        for run in text.split(|byte| !in_hash(*byte)).filter(|run| run.len() >= HASH_DIGITS) {
            found.extend(run.windows(HASH_DIGITS));
        }
        let is_found =
            |path: &&StorePath| store.hash(path).is_some_and(|hash| found.contains(hash.as_bytes()));
        self.iter().map(|info| &info.path).filter(is_found).cloned().collect()
    }

    /// Returns the entry of a path.
    pub fn get(&self, path: &StorePath) -> Option<&PathInfo> {
        self.index.get(path).map(|index| &self.infos[*index])
    }

    /// Returns the entry of the path with this full name.
    pub fn get_named(&self, path: &str) -> Option<&PathInfo> {
        self.get(&StorePath::parse(path).ok()?)
    }

    /// Returns the entry at an index. Panics if there is none.
    pub fn at(&self, place: usize) -> &PathInfo {
        &self.infos[place]
    }

    /// Returns a path's index.
    pub fn place(&self, path: &StorePath) -> Option<usize> {
        self.index.get(path).copied()
    }

    /// Returns the closure of `roots` within this one, sorted by path with sorted references: the canonical order, which
    /// nix2container's `closureGraph` also has. Fails if a root or a reference is not in this closure; `what` names the origin
    /// of the roots.
    pub fn of_roots<'r>(&self, roots: impl IntoIterator<Item = &'r StorePath>, what: &str) -> Result<Self> {
        let missing = |path: &StorePath, referrer: &str, referrer_is_root| Error::NotInClosure {
            path: path.to_string(),
            referrer: referrer.into(),
            referrer_is_root,
        };
        let mut seen = FixedBitSet::with_capacity(self.infos.len());
        let mut stack = Vec::new();
        for root in roots {
            stack.push(*self.index.get(root).ok_or_else(|| missing(root, what, true))?);
        }
        let mut infos = Vec::new();
        while let Some(at) = stack.pop() {
            if seen.put(at) {
                continue;
            }
            let mut info = self.infos[at].clone();
            for reference in &info.references {
                stack.push(
                    *self
                        .index
                        .get(reference)
                        .ok_or_else(|| missing(reference, info.path.as_str(), false))?,
                );
            }
            info.references.sort();
            info.references.dedup();
            infos.push(info);
        }
        infos.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self::new(infos))
    }

    /// Returns the closure without these paths and without references to them, in the same order.
    #[must_use]
    pub fn without(self, paths: &[StorePath]) -> Self {
        if paths.is_empty() {
            return self;
        }
        let paths: HashSet<&StorePath> = paths.iter().collect();
        let left = self.infos.into_iter().filter(|info| !paths.contains(&info.path));
        Self::new(left.map(|mut info| {
            info.references.retain(|reference| !paths.contains(reference));
            info
        }))
    }

    /// Checks that all entries and all references are store paths of `store`. Entries need the same check as a request's paths,
    /// because the packer reads the files that they name.
    pub fn check(&self, store: &Store) -> Result<()> {
        for info in &self.infos {
            store.check(info.path.as_str()).map_err(|error| Error::at("closure", error))?;
            for reference in &info.references {
                let what = || format!("closure, references of {}", info.path);
                store.check(reference.as_str()).map_err(|error| Error::at(what(), error))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
impl Closure {
    /// Returns a closure of paths with these names and references.
    pub fn named(edges: &[(&str, &[&str])]) -> Self {
        Self::new(edges.iter().map(|(path, references)| PathInfo {
            path: StorePath::named(path),
            references: references.iter().map(|path| StorePath::named(path)).collect(),
            nar_hash: String::new(),
            nar_size: 0,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closure_of_roots_is_canonical_and_complete() {
        let closure = Closure::named(&[("c", &["d", "b", "c"]), ("b", &[]), ("d", &["b"]), ("a", &["gone"])]);
        let paths = closure.of_roots(&[StorePath::named("c")], "deps").unwrap();
        assert_eq!(paths.iter().map(|info| info.path.name()).collect::<Vec<_>>(), ["b", "c", "d"]);
        assert_eq!(
            paths.get(&StorePath::named("c")).unwrap().references,
            ["b", "c", "d"].map(StorePath::named)
        );
        let error = closure.of_roots(&[StorePath::named("a")], "deps").unwrap_err().to_string();
        assert!(error.contains("-gone is not in the closure, although /nix/store/"), "{error}");
        assert!(error.contains("-a refers to it"), "{error}");
        let error = closure.of_roots(&[StorePath::named("x")], "deps").unwrap_err().to_string();
        assert!(error.contains("-x is not in the closure, although deps names it"), "{error}");
    }

    #[test]
    fn store_paths_are_found_in_text() {
        let store = Store::at("/nix/store");
        let hash = "0123456789abcdfghijklmnpqrsvwxyz";
        let text = format!(
            r#"{{"Env":["A=/nix/store/{hash}-b+1/bin:/nix/store/{hash}-a", "/nix/store/short-c", "see /nix/store/{hash}-a."]}}"#
        );
        let found: Vec<String> = store.paths_in(text.as_bytes()).map(|path| path.to_string()).collect();
        assert_eq!(found, [format!("/nix/store/{hash}-a"), format!("/nix/store/{hash}-b+1")]);
    }

    #[test]
    fn check_accepts_only_whole_store_paths() {
        let store = Store::at("/nix/store");
        let good = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-perl5.36-a_b+c?d=e";
        assert_eq!(store.check(good).unwrap().as_str(), good);
        for bad in
            ["/etc/passwd", "/nix/store", "/nix/store/x", &format!("{good}/bin"), &good.replace("01", "0e")]
        {
            assert!(store.check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn check_below_rejects_paths_out_of_the_store_path() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::at("/nix/store");
        store.real_dir = directory.path().join("store");
        let path = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a";
        let real = store.real_file(path);
        std::fs::create_dir_all(real.join("b")).unwrap();
        std::fs::write(real.join("file"), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", real.join("out")).unwrap();
        std::os::unix::fs::symlink("../..", real.join("b/up")).unwrap();
        std::os::unix::fs::symlink("../file", real.join("b/in")).unwrap();
        for right in ["", "/file", "/b/in", "/not/there", "/b/...", "/b/up"] {
            assert!(store.check_below(&format!("{path}{right}")).is_ok(), "{right}");
        }
        for wrong in ["/", "/b/..", "/../../../etc", "/./b", "/b//in", "/out", "/b/", "/b/up/../x", "x y"] {
            assert!(store.check_below(&format!("{path}{wrong}")).is_err(), "{wrong}");
        }
        for wrong in ["/etc/shadow", "/nix/store", "/nix/store/", "/nix/store/../../etc", "etc", ""] {
            let error = store.check_below(wrong).unwrap_err().to_string();
            assert!(error.contains(&format!("{wrong:?}")) || wrong.contains(".."), "{error}");
        }
        let linked = directory.path().join("linked");
        std::os::unix::fs::symlink(&store.real_dir, &linked).unwrap();
        store.real_dir = linked;
        assert!(store.check_below(&format!("{path}/file")).is_ok());
    }
}
