//! Selects and downloads Debian packages with apt.
//!
//! apt resolves against an empty package database, so that the machine's installed packages count as missing, and keeps its
//! caches in memory, so that the machine's own do not change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::files::download;
use super::lock::{File, Unit, store_name};
use super::wanted::{TOGETHER, WANTED, WANTED_WHERE_KNOWN};
use crate::host;

/// A stanza of apt's package index.
pub struct Package {
    /// Debian's version.
    pub version: String,
    /// Debian's architecture, or `all`.
    pub architecture: String,
    /// The .deb file.
    pub file: File,
    /// `Depends` and `Pre-Depends`: alternatives of names.
    pub depends: Vec<Vec<String>>,
    /// Further names that it provides.
    pub provides: Vec<String>,
    /// Whether Debian marks it as a library that others load at run time.
    pub is_library: bool,
}

/// Resolves the packages, downloads and checks missing files, and returns the units in dependency order.
pub(super) fn fetch() -> Result<Vec<Unit>> {
    let index = index(&chosen(&wanted()?)?)?;
    let units = in_order(units(&index))?;
    fetch_files(&index, &units)?;
    Ok(units)
}

fn apt(program: &str) -> Command {
    let mut command = Command::new(program);
    for option in ["Dir::State::status=/dev/null", "Dir::Cache::pkgcache=", "Dir::Cache::srcpkgcache="] {
        command.args(["-o", option]);
    }
    command.env("LC_ALL", "C");
    command
}

/// Returns the names of the set's packages.
fn wanted() -> Result<Vec<&'static str>> {
    let mut wanted = WANTED.to_vec();
    for name in WANTED_WHERE_KNOWN {
        let known = host::output(apt("apt-cache").args(["pkgnames", name]))?;
        if known.lines().any(|line| line == *name) {
            wanted.push(name);
        }
    }
    Ok(wanted)
}

/// Returns the packages and their dependencies, as (name, version).
pub fn chosen(wanted: &[&str]) -> Result<Vec<(String, String)>> {
    let mut command = apt("apt-get");
    command.args(["install", "--simulate", "-qq", "--no-install-recommends"]).args(wanted);
    planned(&host::output(&mut command)?).context("cannot parse the plan of apt-get")
}

/// Parses the packages that `apt-get --simulate` would install, as (name, version).
fn planned(plan: &str) -> Option<Vec<(String, String)>> {
    // Inst libc6 (2.36-9+deb12u7 Debian:12.11/stable [amd64]) []
    let planned: Option<Vec<_>> = plan
        .lines()
        .filter_map(|line| line.strip_prefix("Inst "))
        .map(|line| {
            let (name, rest) = line.split_once(" (")?;
            let (version, _) = rest.split_once(' ')?;
            Some((name.to_owned(), version.to_owned()))
        })
        .collect();
    planned.filter(|list| !list.is_empty())
}

/// Returns the stanzas of the chosen packages, from the lists that apt verified.
pub fn index(chosen: &[(String, String)]) -> Result<BTreeMap<String, Package>> {
    let mut command = apt("apt-cache");
    command.arg("show").args(chosen.iter().map(|(name, version)| format!("{name}={version}")));
    let mut packages = BTreeMap::new();
    for stanza in host::output(&mut command)?.split("\n\n") {
        let fields: HashMap<&str, &str> = stanza.lines().filter_map(|line| line.split_once(": ")).collect();
        let Some(name) = fields.get("Package") else { continue };
        let field = |key: &str| {
            fields.get(key).copied().with_context(|| format!("apt-cache show {name} has no {key}"))
        };
        let version = field("Version")?;
        let architecture = field("Architecture")?;
        let relations = |key: &str| fields.get(key).copied().unwrap_or_default().split(", ");
        let package = Package {
            version: version.to_owned(),
            architecture: architecture.to_owned(),
            file: File {
                name: store_name(&format!("{name}_{version}_{architecture}.deb")),
                sha256: field("SHA256")?.to_owned(),
                size: field("Size")?.parse()?,
            },
            depends: relations("Pre-Depends").chain(relations("Depends")).map(alternatives).collect(),
            provides: relations("Provides").flat_map(alternatives).collect(),
            is_library: field("Section")?.ends_with("libs") && architecture != "all",
        };
        packages.insert((*name).to_owned(), package);
    }
    match chosen.iter().find(|(name, _)| !packages.contains_key(name)) {
        Some((name, _)) => bail!("apt-cache does not know {name}"),
        None => Ok(packages),
    }
}

/// Returns the names in a dependency: libgcc-s1 and libgcc1 for `libgcc-s1 (>= 3.0) | libgcc1:any`.
fn alternatives(relation: &str) -> Vec<String> {
    let name = |text: &str| text.trim().split([' ', ':']).next().unwrap_or_default().to_owned();
    relation.split('|').map(name).filter(|name| !name.is_empty()).collect()
}

/// Returns the run-time dependencies of the wanted packages, by name. Of Debian's dependencies, it keeps those on libraries and on
/// units of several packages: a store path depends on the libraries that its programs load, not on the programs that
/// Debian's maintainer scripts call. The builder fails if a library is missing, which shows a wrong guess.
fn needs(index: &BTreeMap<String, Package>) -> BTreeMap<&str, BTreeSet<&str>> {
    let provided =
        index.iter().flat_map(|(name, package)| package.provides.iter().map(move |what| (what, name)));
    let providers: HashMap<&str, &str> =
        provided.map(|(what, name)| (what.as_str(), name.as_str())).collect();
    let resolve = |name: &String| match index.get_key_value(name) {
        Some((name, _)) => Some(name.as_str()),
        None => providers.get(name.as_str()).copied(),
    };
    let counts = |name: &&str| index[*name].is_library || unit_of(name).0 != *name;

    let mut needs = BTreeMap::new();
    let mut todo: Vec<&str> = WANTED.iter().chain(WANTED_WHERE_KNOWN).copied().collect();
    while let Some(name) = todo.pop() {
        let Some((name, package)) = index.get_key_value(name) else { continue };
        if needs.contains_key(name.as_str()) {
            continue;
        }
        let depends: BTreeSet<&str> =
            package.depends.iter().filter_map(|any| any.iter().find_map(resolve)).filter(counts).collect();
        todo.extend(&depends);
        needs.insert(name.as_str(), depends);
    }
    needs
}

/// Returns the needed packages as units.
fn units(index: &BTreeMap<String, Package>) -> BTreeMap<&str, Unit> {
    let mut needs: Vec<(&str, BTreeSet<&str>)> = needs(index).into_iter().collect();
    // The package that matches a unit's first pattern is first and has the unit's version.
    needs.sort_by_key(|(package, _)| (unit_of(package).1, *package));
    let mut units: BTreeMap<&str, Unit> = BTreeMap::new();
    for (package, depends) in needs {
        let (name, _) = unit_of(package);
        let Package { version, file, .. } = &index[package];
        let unit = units.entry(name).or_insert_with(|| Unit {
            name: name.to_owned(),
            version: upstream(version).to_owned(),
            files: Vec::new(),
            depends: Vec::new(),
        });
        unit.files.push(file.clone());
        for (other, _) in depends.into_iter().map(unit_of) {
            if other != name && !unit.depends.iter().any(|known| known == other) {
                unit.depends.push(other.to_owned());
            }
        }
    }
    units
}

/// Returns the units, each after its dependencies.
fn in_order(mut units: BTreeMap<&str, Unit>) -> Result<Vec<Unit>> {
    let mut ordered: Vec<Unit> = Vec::new();
    while !units.is_empty() {
        let ready =
            units.iter().find(|(_, unit)| unit.depends.iter().all(|name| !units.contains_key(name.as_str())));
        let Some((&name, _)) = ready else {
            let names: Vec<_> = units.keys().collect();
            bail!(
                "Debian packages that depend on each other must be one unit of TOGETHER; some of these do: {names:?}"
            );
        };
        ordered.extend(units.remove(name));
    }
    Ok(ordered)
}

/// Returns the unit of a package, and the package's rank in it.
fn unit_of(package: &str) -> (&str, usize) {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => package.starts_with(start),
        None => package == pattern,
    };
    let mut units = TOGETHER.iter();
    let unit = units.find_map(|(name, patterns)| Some((*name, patterns.iter().position(|p| fits(p))?)));
    unit.unwrap_or((package, 0))
}

/// Returns upstream's version: without epoch, Debian's revision and the marks of a repacked source.
fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    let version = version.rsplit_once('-').map_or(version, |(rest, _)| rest);
    ["+dfsg", ".dfsg", "+ds", "~"]
        .iter()
        .fold(version, |v, mark| v.split_once(mark).map_or(v, |(rest, _)| rest))
}

/// Downloads and checks the missing files.
fn fetch_files(index: &BTreeMap<String, Package>, units: &[Unit]) -> Result<()> {
    let needed: BTreeSet<&str> =
        units.iter().flat_map(|unit| &unit.files).map(|file| file.name.as_str()).collect();
    let missing: Vec<(&String, &Package)> =
        index.iter().filter(|(_, p)| needed.contains(p.file.name.as_str()) && !p.file.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let size: u64 = missing.iter().map(|(_, package)| package.file.size).sum();
    host::say(format!("downloading {} Debian packages, {} MB", missing.len(), size.div_ceil(1_000_000)));
    download(|directory| {
        download_to(
            directory,
            missing.iter().map(|(name, package)| (name.as_str(), package.version.as_str())),
        )?;
        let files = missing.iter().map(|(name, package)| {
            let path = directory.join(downloaded_as(name, &package.version, &package.architecture));
            package.file.check(&path)?;
            Ok((path, package.file.name.clone()))
        });
        files.collect()
    })
}

/// Downloads packages of these names and versions into a directory.
pub fn download_to<'p>(directory: &Path, packages: impl Iterator<Item = (&'p str, &'p str)>) -> Result<()> {
    let mut command = apt("apt-get");
    command.args(["download", "-qq"]).current_dir(directory);
    host::output(command.args(packages.map(|(name, version)| format!("{name}={version}")))).map(drop)
}

/// Returns apt's file name of a downloaded package.
pub fn downloaded_as(name: &str, version: &str, architecture: &str) -> String {
    // apt writes the colon of an epoch as %3a.
    format!("{name}_{}_{architecture}.deb", version.replace(':', "%3a"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(packages: &[(&str, &str, &str)]) -> BTreeMap<String, Package> {
        let package = |(name, version, depends): &(&str, &str, &str)| {
            let package = Package {
                version: (*version).to_owned(),
                architecture: "amd64".to_owned(),
                file: File {
                    name: store_name(&format!("{name}_{version}.deb")),
                    sha256: String::new(),
                    size: 1,
                },
                depends: depends.split(", ").map(alternatives).collect(),
                provides: if *name == "libnew1" { vec!["libold1".to_owned()] } else { Vec::new() },
                is_library: name.starts_with("lib"),
            };
            ((*name).to_owned(), package)
        };
        packages.iter().map(package).collect()
    }

    #[test]
    fn upstream_version_omits_debian_parts() {
        for (debian, expected) in [
            ("2.36-9+deb12u14", "2.36"),
            ("1:4.13+dfsg1-1+deb12u2", "4.13"),
            ("1:1.2.13.dfsg-1", "1.2.13"),
            ("1.3.3+ds-1", "1.3.3"),
            ("20250419~deb12u2", "20250419"),
            ("5.2.15-2+b13", "5.2.15"),
        ] {
            assert_eq!(upstream(debian), expected, "{debian}");
        }
    }

    #[test]
    fn plan_lists_the_packages_to_install() {
        let plan = "Inst libc6 (2.36-9+deb12u7 Debian:12.11/stable [amd64]) []\n\
                    Inst perl (5.36.0-7 Debian:12.11/stable, Debian-Security:12/stable-security [amd64])\n\
                    Conf libc6 (2.36-9+deb12u7 Debian:12.11/stable [amd64])\n";
        let pair = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        assert_eq!(planned(plan), Some(vec![pair("libc6", "2.36-9+deb12u7"), pair("perl", "5.36.0-7")]));
        assert_eq!(planned("Inst libc6 of some other form\n"), None);
        assert_eq!(planned(""), None);
    }

    #[test]
    fn relations_are_parsed_to_names() {
        assert_eq!(alternatives("media-types | mime-support (>= 3.2)"), ["media-types", "mime-support"]);
        assert_eq!(alternatives("perl:any"), ["perl"]);
        assert_eq!(alternatives(""), [""; 0]);
    }

    #[test]
    fn units_depend_only_on_libraries() {
        let index = index(&[
            ("bash", "5.2-1", "base-files (>= 2), libc6 (>= 2.36), libold1 | libother1"),
            ("base-files", "12", "awk"),
            ("libc6", "2.36-9", "libgcc-s1"),
            ("libgcc-s1", "12.2-1", "libc6"),
            ("libnew1", "1:3-1", "libc6"),
        ]);
        let units = in_order(units(&index)).unwrap();
        let seen: Vec<_> = units
            .iter()
            .map(|unit| {
                let files: Vec<_> = unit.files.iter().map(|file| file.name.as_str()).collect();
                let depends: Vec<_> = unit.depends.iter().map(String::as_str).collect();
                (unit.name.as_str(), unit.version.as_str(), files, depends)
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("glibc", "2.36", vec!["libc6_2.36-9.deb", "libgcc-s1_12.2-1.deb"], vec![]),
                ("libnew1", "3", vec!["libnew1_1-3-1.deb"], vec!["glibc"]),
                ("bash", "5.2", vec!["bash_5.2-1.deb"], vec!["glibc", "libnew1"]),
            ]
        );
    }

    #[test]
    fn cycle_of_units_is_an_error() {
        let index = index(&[("bash", "5", "liba1"), ("liba1", "1", "libb1"), ("libb1", "1", "liba1")]);
        let error = in_order(units(&index)).err().unwrap().to_string();
        assert_eq!(
            error,
            "Debian packages that depend on each other must be one unit of TOGETHER; some of these do: \
             [\"bash\", \"liba1\", \"libb1\"]"
        );
    }
}
