//! Reads `nixply-history` files: packages with versions, sizes and references, and each release as a
//! difference from the previous one. `benches/histories/README.md` describes the format.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use nixply_documents::document;
use nixply_files::given;
use nixply_planning::{Closure, PathInfo, StorePath};
use serde::Deserialize;

use super::release::{History, Propagation, Release};
use crate::error::{Error, Result};

#[derive(Deserialize)]
struct File {
    format: String,
    version: u32,
    #[serde(default)]
    about: String,
    images: BTreeMap<String, Vec<String>>,
    releases: Vec<Step>,
}

/// A release as a difference from the previous one.
#[derive(Deserialize)]
pub(super) struct Step {
    pub(super) name: String,
    #[serde(default)]
    pub(super) removed: Vec<String>,
    pub(super) set: BTreeMap<String, Package>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Package {
    pub(super) source: String,
    pub(super) version: String,
    /// In bytes.
    pub(super) size: u64,
    /// Names of packages.
    pub(super) references: Vec<String>,
}

/// Returns whether a file is a history: it declares a format, or is compressed, as only histories can be.
pub(super) fn is_history(file: &Path, bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Head {
        #[serde(rename = "format")]
        _format: String,
    }
    is_compressed(file) || serde_json::from_slice::<Head>(bytes).is_ok()
}

fn is_compressed(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "zst")
}

/// Parses a history from the bytes of its file.
pub(super) fn read(file: &Path, bytes: &[u8], propagation: Propagation) -> Result<History> {
    let what = || file.display().to_string();
    let mut plain = Vec::new();
    if is_compressed(file) {
        plain = decompress(bytes).map_err(|why| Error::invalid(what(), why))?;
    }
    let parsed: File = document::read_bytes(if is_compressed(file) { &plain } else { bytes }, &what())
        .map_err(|error| Error::Document(error.into()))?;
    if (parsed.format.as_str(), parsed.version) != ("nixply-history", 1) {
        return Err(Error::invalid(what(), "expected format nixply-history, version 1"));
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = name.trim_end_matches(".zst").trim_end_matches(".json").to_owned();
    let releases = releases(&what(), &parsed.images, parsed.releases, propagation)?;
    Ok(History { name, about: parsed.about, images: parsed.images.into_keys().collect(), releases })
}

/// Creates the closures of each release. `what` names the history in messages; `images` maps each image's name
/// to its roots.
pub(super) fn releases(
    what: &str,
    images: &BTreeMap<String, Vec<String>>,
    steps: impl IntoIterator<Item = Step>,
    propagation: Propagation,
) -> Result<Vec<Release>> {
    let mut packages: BTreeMap<String, Package> = BTreeMap::new();
    let mut releases = Vec::new();
    for step in steps {
        for name in &step.removed {
            packages.remove(name);
        }
        packages.extend(step.set);
        let invalid = |why: String| Error::invalid(format!("{what}, release {}", step.name), why);
        let paths = store_paths(&packages, propagation).map_err(invalid)?;
        let path = |name: &String, by: &str| {
            let missing = || invalid(format!("{by} refers to {name:?}, which is not in it"));
            paths.get(name.as_str()).cloned().ok_or_else(missing)
        };
        let info = |(name, package): (&String, &Package)| {
            Ok(PathInfo {
                path: path(name, name)?,
                references: package
                    .references
                    .iter()
                    .map(|other| path(other, name))
                    .collect::<Result<_>>()?,
                nar_hash: String::new(),
                nar_size: package.size,
            })
        };
        let all = Closure::new(packages.iter().map(info).collect::<Result<Vec<_>>>()?);
        let (mut closures, mut roots) = (Vec::new(), Vec::new());
        for (image, names) in images {
            let of_image: Vec<StorePath> =
                names.iter().map(|name| path(name, image)).collect::<Result<_>>()?;
            closures.push(all.of_roots(&of_image, image).map_err(|error| invalid(error.to_string()))?);
            roots.push(of_image);
        }
        releases.push(Release { name: step.name, closures, roots });
    }
    Ok(releases)
}

fn decompress(bytes: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let mut plain = Vec::new();
    let decoder = zstd::Decoder::with_buffer(bytes).map_err(|error| error.to_string())?;
    // Reads one byte more than the limit, to detect a longer text.
    decoder.take(given::MAX_BYTES + 1).read_to_end(&mut plain).map_err(|error| error.to_string())?;
    if plain.len() as u64 > given::MAX_BYTES {
        return Err(format!("decompressed, it has more than {} MiB", given::MAX_BYTES >> 20));
    }
    Ok(plain)
}

/// Creates a store path for each package. A new version has a new hash; with propagation, so has each path
/// that refers to it.
fn store_paths(
    packages: &BTreeMap<String, Package>,
    propagation: Propagation,
) -> std::result::Result<BTreeMap<&str, StorePath>, String> {
    enum Visit {
        Enter,
        Leave,
    }
    let mut hashes: BTreeMap<&str, blake3::Hash> = BTreeMap::new();
    let mut open: std::collections::HashSet<&str> = std::collections::HashSet::new();
    let mut stack: Vec<(&str, Visit)> = packages.keys().map(|name| (name.as_str(), Visit::Enter)).collect();
    while let Some((name, visit)) = stack.pop() {
        if hashes.contains_key(name) {
            continue;
        }
        let (name, package) =
            packages.get_key_value(name).ok_or_else(|| format!("there is no package {name:?}"))?;
        if matches!(visit, Visit::Enter) {
            if !open.insert(name) {
                return Err(format!("{name} refers to itself through others: references must have no cycle"));
            }
            stack.push((name, Visit::Leave));
            if propagation == Propagation::Dependents {
                let below = package.references.iter().filter(|other| !hashes.contains_key(other.as_str()));
                stack
                    .extend(below.filter(|other| *other != name).map(|other| (other.as_str(), Visit::Enter)));
            }
            continue;
        }
        let mut hasher = blake3::Hasher::new();
        for part in [name.as_str(), &package.source, &package.version] {
            hasher.update(part.as_bytes()).update(&[0]);
        }
        hasher.update(&package.size.to_le_bytes());
        if propagation == Propagation::Dependents {
            for other in package.references.iter().filter(|other| *other != name) {
                hasher.update(hashes[other.as_str()].as_bytes());
            }
        }
        open.remove(name.as_str());
        hashes.insert(name, hasher.finalize());
    }
    Ok(packages
        .iter()
        .map(|(name, package)| (name.as_str(), store_path(name, package, hashes[name.as_str()])))
        .collect())
}

/// Returns `hash-source-version`, with the package's name as output if it differs from the source.
fn store_path(name: &str, package: &Package, hash: blake3::Hash) -> StorePath {
    /// Maximum number of characters that Nix allows in a name.
    const LONGEST: usize = 211;
    // Nix's alphabet for hashes.
    const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
    let digits: String =
        hash.as_bytes().iter().map(|byte| char::from(DIGITS[usize::from(byte & 31)])).collect();
    let output = if name == package.source { String::new() } else { format!("-{}", name.replace('-', "_")) };
    let name = format!("{}-{}{output}", package.source, package.version);
    // Names and versions of other package managers may have characters that Nix does not allow, as in 1:2.0~rc1.
    let allowed = |c: char| c.is_ascii_alphanumeric() || "+-._?=".contains(c);
    let name: String = name.chars().take(LONGEST).map(|c| if allowed(c) { c } else { '_' }).collect();
    StorePath::parse(&format!("/nix/store/{digits}-{name}")).expect("a name that Nix could give")
}
