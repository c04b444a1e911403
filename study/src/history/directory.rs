//! Histories of closures that Nix printed: a directory with a file per release, or with a directory per
//! release that contains a file per image.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use nixply_files::given;
use nixply_planning::{Closure, StorePath};

use super::release::{History, Release};
use crate::error::{Error, Result};

/// Name of the only image if each release is a file.
const ONE_IMAGE: &str = "image";

/// Reads a directory. Releases are in natural order: 9 before 10.
pub(super) fn read(directory: &Path) -> Result<History> {
    let what = directory.display().to_string();
    let entries = entries(directory)?;
    let (directories, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(_, path)| path.is_dir());
    let files: Vec<_> = files.into_iter().filter(|(_, path)| is_json(path)).collect();
    let mut releases: Vec<(String, BTreeMap<String, Closure>)> = Vec::new();
    match (files.is_empty(), directories.is_empty()) {
        (true, true) => {
            let why = "it has no closures: expected a file RELEASE.json for each release (nix path-info --json --recursive), \
                       or a directory for each with a file IMAGE.json for each image";
            return Err(Error::invalid(what, why));
        }
        (false, false) => {
            let why = format!(
                "it has files and directories ({} and {}): expected a file for each release, or a directory for each",
                files[0].0, directories[0].0
            );
            return Err(Error::invalid(what, why));
        }
        (false, true) => {
            for (name, file) in files {
                let image = BTreeMap::from([(ONE_IMAGE.to_owned(), closure(&file)?)]);
                releases.push((stem(&name), image));
            }
        }
        (true, false) => {
            for (name, directory) in directories {
                let mut images = BTreeMap::new();
                for (image, file) in self::entries(&directory)?.into_iter().filter(|(_, path)| is_json(path))
                {
                    images.insert(stem(&image), closure(&file)?);
                }
                if images.is_empty() {
                    let why = "it has no closures: expected a file IMAGE.json for each image of this release";
                    return Err(Error::invalid(directory.display().to_string(), why));
                }
                releases.push((name, images));
            }
        }
    }
    let name = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(of_closures(name, releases))
}

/// Reads a file that the user named.
pub(super) fn read_file(file: &Path) -> Result<Vec<u8>> {
    given::bytes(file, &|| false).map_err(|source| Error::Read { path: file.to_owned(), source })
}

/// Creates a history from the closures in each release. If a release lacks an image, that image's closure is
/// empty.
pub(super) fn of_closures(name: String, releases: Vec<(String, BTreeMap<String, Closure>)>) -> History {
    let images: BTreeSet<&String> = releases.iter().flat_map(|(_, images)| images.keys()).collect();
    let images: Vec<String> = images.into_iter().cloned().collect();
    let releases = releases.into_iter().map(|(name, mut of)| {
        let closures: Vec<Closure> =
            images.iter().map(|image| of.remove(image).unwrap_or_default()).collect();
        Release { name, roots: closures.iter().map(roots).collect(), closures }
    });
    let releases = releases.collect();
    History { name, about: String::new(), images, releases }
}

/// Reads a closure, in canonical order.
fn closure(file: &Path) -> Result<Closure> {
    of_bytes(read_file(file)?, file)
}

/// Parses a closure from the bytes of its file.
pub(super) fn of_bytes(bytes: Vec<u8>, file: &Path) -> Result<Closure> {
    let what = file.display().to_string();
    let text = String::from_utf8(bytes).map_err(|error| Error::invalid(&what, error.utf8_error()))?;
    of_json(&text, &what)
}

/// Parses a closure that Nix printed. `what` names the closure in messages.
pub(super) fn of_json(text: &str, what: &str) -> Result<Closure> {
    let closure = Closure::read_of_one_store(text, what).map_err(Error::Document)?;
    if closure.is_empty() {
        return Err(Error::invalid(what, "it has no store path"));
    }
    if closure.iter().all(|info| info.nar_size == 0) {
        let why = "its paths have no sizes: nix path-info --json --recursive writes them";
        return Err(Error::invalid(what, why));
    }
    let roots = roots(&closure);
    if roots.is_empty() {
        return Err(Error::invalid(
            what,
            "all its paths refer to each other: expected a path without referrers",
        ));
    }
    closure.of_roots(&roots, what).map_err(|error| Error::invalid(what, error))
}

/// Returns the paths that no other path refers to.
fn roots(closure: &Closure) -> Vec<StorePath> {
    let others =
        closure.iter().flat_map(|info| info.references.iter().filter(|reference| **reference != info.path));
    let referred: HashSet<&StorePath> = others.collect();
    closure.iter().map(|info| &info.path).filter(|path| !referred.contains(path)).cloned().collect()
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

fn stem(name: &str) -> String {
    name.trim_end_matches(".json").to_owned()
}

/// Returns the names and paths of a directory's visible entries, in natural order.
fn entries(directory: &Path) -> Result<Vec<(String, PathBuf)>> {
    let failed = |source| Error::Read { path: directory.to_owned(), source };
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            entries.push((name, entry.path()));
        }
    }
    entries.sort_by(|a, b| alphanumeric_sort::compare_str(&a.0, &b.0));
    Ok(entries)
}
