//! Which Python wheels, from pip.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::lock::{File, Wheel};
use super::{WHEELS, download};
use crate::host;

/// pip's installation report, as far as it is of use here.
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
}

/// Resolves [`WHEELS`] for a version of Python such as `3.11.2`, and downloads what the cache does not have.
pub(super) fn fetch(python: &str) -> Result<Vec<Wheel>> {
    let pip = Pip::find(python)?;
    let found = pip.resolve()?;
    let names: Vec<_> = found.iter().map(|install| install.metadata.name.as_str()).collect();
    host::say(format!("downloading Python wheels: {}", names.join(" ")));
    let mut wheels = Vec::new();
    download(|folder| {
        pip.download(folder, &found)?;
        found
            .iter()
            .map(|install| {
                let wheel = install.wheel(folder)?;
                let (path, name) = (folder.join(&wheel.file.name), wheel.file.name.clone());
                wheel.file.check(&path)?;
                wheels.push(wheel);
                Ok((path, name))
            })
            .collect()
    })?;
    Ok(wheels)
}

impl Install {
    fn wheel(&self, folder: &Path) -> Result<Wheel> {
        let name = self.download_info.url.rsplit('/').next().unwrap_or_default();
        ensure!(name.ends_with("-none-any.whl"), "{name} is no pure Python wheel");
        let path = folder.join(name);
        let size =
            path.metadata().with_context(|| format!("pip has not downloaded {}", path.display()))?.len();
        let sha256 = self.download_info.archive_info.hashes.sha256.clone();
        Ok(Wheel {
            name: self.metadata.name.clone(),
            version: self.metadata.version.clone(),
            file: File { name: name.to_owned(), sha256, size },
        })
    }

    /// The wheel as pip's requirement, with the index's hash, which pip compares too.
    fn requirement(&self) -> String {
        let Metadata { name, version } = &self.metadata;
        format!("{name}=={version} --hash=sha256:{}\n", self.download_info.archive_info.hashes.sha256)
    }
}

struct Pip<'a> {
    interpreter: &'static str,
    /// The Python of the package set, such as `3.11`; this machine's may be another.
    python: &'a str,
}

impl<'a> Pip<'a> {
    /// The pip at hand, or Debian's.
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
        // pip insists on a target folder when it resolves for another Python; nothing is written to it.
        let mut command = self.command("install");
        command.args(["--dry-run", "--ignore-installed", "--target", "unused", "--report", "-"]).args(WHEELS);
        let report: Report = serde_json::from_str(&host::output(&mut command)?).context("pip's report")?;
        Ok(report.install)
    }

    fn download(&self, folder: &Path, wheels: &[Install]) -> Result<()> {
        let requirements = folder.join("requirements.txt");
        std::fs::write(&requirements, wheels.iter().map(Install::requirement).collect::<String>())?;
        let mut command = self.command("download");
        command
            .args(["--no-deps", "--require-hashes", "--dest"])
            .arg(folder)
            .arg("--requirement")
            .arg(requirements);
        host::output(&mut command).map(drop)
    }
}
