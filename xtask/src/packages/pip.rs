//! Selects and downloads Python wheels with pip.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::files::download;
use super::lock::{File, Wheel};
use super::wanted::WHEELS;
use crate::host;

/// The used part of pip's installation report.
#[derive(Deserialize)]
struct Report {
    install: Vec<Install>,
}

#[derive(Deserialize)]
struct Install {
    download_info: Info,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Info {
    url: String,
    archive_info: Archive,
}

#[derive(Deserialize)]
struct Archive {
    hashes: Hashes,
}

#[derive(Deserialize)]
struct Hashes {
    sha256: String,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    version: String,
    #[serde(default)]
    requires_dist: Vec<String>,
}

/// Resolves [`WHEELS`] for a version of Python such as `3.11.2`, and downloads the missing files.
pub(super) fn fetch(python: &str) -> Result<Vec<Wheel>> {
    let pip = Pip::find(python)?;
    let found = pip.resolve()?;
    let names: Vec<_> = found.iter().map(|install| install.metadata.name.as_str()).collect();
    host::say(format!("downloading Python wheels: {}", names.join(" ")));
    let mut wheels = Vec::new();
    download(|directory| {
        pip.download(directory, &found)?;
        found
            .iter()
            .map(|install| {
                let wheel = install.wheel(directory, &found)?;
                let (path, name) = (directory.join(&wheel.file.name), wheel.file.name.clone());
                wheel.file.check(&path)?;
                wheels.push(wheel);
                Ok((path, name))
            })
            .collect()
    })?;
    Ok(wheels)
}

impl Install {
    fn wheel(&self, directory: &Path, all: &[Self]) -> Result<Wheel> {
        let name = self.download_info.url.rsplit('/').next().unwrap_or_default();
        ensure!(name.ends_with(".whl"), "{name} is not a wheel");
        let path = directory.join(name);
        let size = path.metadata().with_context(|| format!("pip did not download {}", path.display()))?.len();
        let sha256 = self.download_info.archive_info.hashes.sha256.clone();
        let chosen = |name: &String| all.iter().any(|other| normal(&other.metadata.name) == *name);
        Ok(Wheel {
            name: normal(&self.metadata.name),
            version: self.metadata.version.clone(),
            depends: self.metadata.requires_dist.iter().filter_map(|r| required(r)).filter(chosen).collect(),
            file: File { name: name.to_owned(), sha256, size },
        })
    }

    /// Returns the wheel as a requirement for pip, with the index's hash, which pip checks.
    fn requirement(&self) -> String {
        let Metadata { name, version, .. } = &self.metadata;
        format!("{name}=={version} --hash=sha256:{}\n", self.download_info.archive_info.hashes.sha256)
    }
}

/// Returns a project's name, normalized as the packaging rules compare it.
fn normal(name: &str) -> String {
    let words = name.split(['-', '_', '.']).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}

/// Returns the project of a requirement such as `MarkupSafe>=2.0; python_version < "4"`, unless it belongs to an extra. It ignores
/// other conditions, which pip has evaluated.
fn required(requirement: &str) -> Option<String> {
    let (project, condition) = requirement.split_once(';').unwrap_or((requirement, ""));
    let end =
        project.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c)).unwrap_or(project.len());
    (!condition.contains("extra")).then(|| normal(&project[..end]))
}

struct Pip<'a> {
    interpreter: &'static str,
    /// The package set's Python version, such as `3.11`, which may differ from the machine's.
    python: &'a str,
}

impl<'a> Pip<'a> {
    /// Finds the machine's pip, or installs Debian's.
    fn find(python: &'a str) -> Result<Self> {
        let python = python.rsplit_once('.').map_or(python, |(series, _)| series);
        let works = host::output(Command::new("python3").args(["-m", "pip", "--version"])).is_ok();
        if !works {
            host::apt_install(&["python3-pip"])?;
        }
        Ok(Self { interpreter: if works { "python3" } else { "/usr/bin/python3" }, python })
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(self.interpreter);
        command.args(["-m", "pip", verb, "--quiet", "--disable-pip-version-check"]);
        command.args(["--only-binary=:all:", "--python-version", self.python]);
        command
    }

    fn resolve(&self) -> Result<Vec<Install>> {
        // pip requires a target directory to resolve for another Python, and writes nothing to it.
        let mut command = self.command("install");
        command.args(["--dry-run", "--ignore-installed", "--target", "unused", "--report", "-"]).args(WHEELS);
        let report: Report = serde_json::from_str(&host::output(&mut command)?).context("pip's report")?;
        Ok(report.install)
    }

    fn download(&self, directory: &Path, wheels: &[Install]) -> Result<()> {
        let requirements = directory.join("requirements.txt");
        std::fs::write(&requirements, wheels.iter().map(Install::requirement).collect::<String>())?;
        let mut command = self.command("download");
        command
            .args(["--no-deps", "--require-hashes", "--dest"])
            .arg(directory)
            .arg("--requirement")
            .arg(requirements);
        host::output(&mut command).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_parsed_to_project_names() {
        for (requirement, name) in [
            ("click>=8.1.3", Some("click")),
            ("MarkupSafe >=2.0", Some("markupsafe")),
            ("zope.interface[test] (>=5)", Some("zope-interface")),
            ("importlib-metadata>=3.6.0; python_version < '3.10'", Some("importlib-metadata")),
            ("asgiref>=3.2 ; extra == 'async'", None),
            ("Babel", Some("babel")),
        ] {
            assert_eq!(required(requirement).as_deref(), name, "{requirement}");
        }
    }
}
