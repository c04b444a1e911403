//! Packages of any Debian release, through an apt that does not use the machine's configuration.
//!
//! The address of the archive is the one that this machine uses for its own release: mirrors and proxies serve all releases.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::host::{apt_install, output, say};

/// The archive's key ring, of the package `debian-archive-keyring`. It also has the keys of later releases.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An entry of apt's sources: an address and its suites.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    uri: String,
    suites: Vec<String>,
}

/// The index of a suite in a separate directory, where no package counts as installed.
pub(super) struct Archive {
    dir: PathBuf,
    suite: &'static str,
}

impl Archive {
    /// Downloads the index of a suite into `dir`. `kinds` are `deb` for binary packages and `deb-src` for sources.
    pub(super) fn open(dir: &Path, kinds: &[&str], suite: &'static str) -> Result<Self> {
        for directory in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(directory))?;
        }
        let mirror = mirror()?;
        let lines = kinds.iter().map(|kind| format!("{kind} [signed-by={KEYRING}] {mirror} {suite} main\n"));
        fs::write(dir.join("sources.list"), lines.collect::<String>())?;
        fs::write(dir.join("status"), "")?;
        let archive = Self { dir: dir.into(), suite };
        say(format!("reading the package index of Debian {suite}"));
        output(archive.apt_get().args(["update", "-q"]))?;
        Ok(archive)
    }

    /// Downloads and unpacks a source package and applies Debian's patches; returns the source tree. The version defaults to the
    /// newest of the suite.
    pub(super) fn source(&self, package: &str, version: Option<&str>) -> Result<PathBuf> {
        apt_install(&["dpkg-dev"])?;
        let what = version.map_or_else(|| package.to_owned(), |version| format!("{package}={version}"));
        say(format!("downloading the source package {what} of Debian {}", self.suite));
        let into = self.dir.join("source");
        fs::create_dir_all(&into)?;
        output(self.apt_get().args(["source", "-q", "--only-source", &what]).current_dir(&into))?;
        let entries = fs::read_dir(&into)?.collect::<Result<Vec<_>, _>>()?;
        let tree = entries.into_iter().map(|entry| entry.path()).find(|path| path.is_dir());
        tree.with_context(|| format!("apt-get unpacked nothing into {}", into.display()))
    }

    /// Downloads packages and their dependencies; returns the `.deb` files.
    pub(super) fn with_dependencies(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        say(format!(
            "downloading packages of Debian {} with their dependencies: {}",
            self.suite,
            packages.join(" ")
        ));
        let mut command = self.apt_get();
        command.args(["install", "--download-only", "-y", "-q", "--no-install-recommends"]).args(packages);
        output(&mut command)?;
        let mut files = Vec::new();
        for entry in fs::read_dir(self.dir.join("cache/archives"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    fn apt_get(&self) -> Command {
        let mut command = Command::new("apt-get");
        for (option, path) in [
            ("Dir::Etc::sourcelist", self.dir.join("sources.list")),
            ("Dir::Etc::sourceparts", "/dev/null".into()),
            ("Dir::Etc::preferences", "/dev/null".into()),
            ("Dir::Etc::preferencesparts", "/dev/null".into()),
            ("Dir::State::status", self.dir.join("status")),
            ("Dir::State::lists", self.dir.join("lists")),
            ("Dir::Cache", self.dir.join("cache")),
        ] {
            command.arg("-o").arg(format!("{option}={}", path.display()));
        }
        // Do not download as the user _apt, who cannot write to this directory.
        command.args(["-o", "APT::Sandbox::User=", "-o", "Acquire::Languages=none"]);
        command
    }
}

/// Returns the address from which this machine downloads its own Debian release.
fn mirror() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let codename =
        codename.context("this is not a Debian release: /etc/os-release has no VERSION_CODENAME")?;
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let sources = match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => one_line_style(&text),
            Some("sources") => deb822_style(&text),
            _ => continue,
        };
        if let Some(source) =
            sources.into_iter().find(|source| source.suites.iter().any(|suite| suite == codename))
        {
            return Ok(source.uri);
        }
    }
    bail!("no source of the suite {codename} in /etc/apt/sources.list or /etc/apt/sources.list.d")
}

/// Parses lines such as `deb [options] uri suite component...`; see sources.list(5).
fn one_line_style(text: &str) -> Vec<Source> {
    let parse = |line: &str| {
        let line = line.split('#').next()?.trim();
        let rest =
            line.strip_prefix("deb").filter(|rest| rest.starts_with(char::is_whitespace))?.trim_start();
        let rest = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
        let mut words = rest.split_whitespace().map(str::to_owned);
        Some(Source { uri: words.next()?, suites: vec![words.next()?] })
    };
    text.lines().filter_map(parse).collect()
}

/// Parses stanzas of `Field: value`, where continued values are indented; see sources.list(5), DEB822-STYLE FORMAT.
fn deb822_style(text: &str) -> Vec<Source> {
    let text = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>();
    let parse = |stanza: &[&str]| {
        let field = |name: &str| -> Vec<String> {
            let is_it = |line: &&str| {
                line.split_once(':').is_some_and(|(key, _)| key.trim_end().eq_ignore_ascii_case(name))
            };
            let Some(start) = stanza.iter().position(is_it) else { return Vec::new() };
            let first = stanza[start].split_once(':').map_or("", |(_, value)| value);
            let more = stanza[start + 1..].iter().take_while(|line| line.starts_with(char::is_whitespace));
            std::iter::once(first)
                .chain(more.copied())
                .flat_map(str::split_whitespace)
                .map(str::to_owned)
                .collect()
        };
        let disabled = field("Enabled").iter().any(|value| value == "no");
        if disabled || !field("Types").iter().any(|kind| kind == "deb") {
            return None;
        }
        Some(Source { uri: field("URIs").into_iter().next()?, suites: field("Suites") })
    };
    text.split(|line| line.trim().is_empty()).filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(uri: &str, suites: &[&str]) -> Source {
        Source { uri: uri.into(), suites: suites.iter().map(|&suite| suite.into()).collect() }
    }

    #[test]
    fn one_line_style_skips_sources_comments_and_options() {
        let text = "# deb http://old bookworm main\n\
                    deb-src http://a bookworm main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://b bookworm main contrib # ours\n\
                    deb http://c bookworm-updates main\n\n";
        let want = [source("http://b", &["bookworm"]), source("http://c", &["bookworm-updates"])];
        assert_eq!(one_line_style(text), want);
    }

    #[test]
    fn deb822_style_reads_stanzas_with_comments_and_continued_fields() {
        let text = "Types: deb deb-src\n# a comment inside\nURIs: http://a\nSuites: bookworm\n bookworm-updates\n\
                    Components: main\n\n\
                    Types: deb-src\nURIs: http://b\nSuites: bookworm\n\n\
                    Enabled: no\nTypes: deb\nURIs: http://c\nSuites: bookworm\n\n\
                    types: deb\nuris: http://d http://e\nsuites: nodistro\n";
        let want = [source("http://a", &["bookworm", "bookworm-updates"]), source("http://d", &["nodistro"])];
        assert_eq!(deb822_style(text), want);
    }
}
