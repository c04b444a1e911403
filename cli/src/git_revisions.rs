//! Histories of git revisions, built with Nix.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Error, Result, anyhow};
use nixply_documents::document;
use nixply_files::{given, open};
use nixply_packer::ImageSpec;
use nixply_study::history::History;
use serde::Deserialize;

use crate::failure::{Failed, Hint, ProgramMessages, hinted};
use crate::terminal::{count, say, warning};
use crate::{git, nix, process, temporary};

/// A range of git revisions, and the installables to build from each of them.
pub(crate) struct Revisions<'a> {
    /// The repository, or a directory in it.
    pub(crate) repository: &'a Path,
    /// The first and the last revision, both included.
    pub(crate) range: (&'a str, &'a str),
    /// Installables for `nix build`, one per image.
    pub(crate) installables: &'a [String],
    /// Nix file whose attributes are the installables, if not a flake.
    pub(crate) file: Option<&'a Path>,
    pub(crate) quiet: bool,
}

/// A built derivation in the output of `nix build --json`.
#[derive(Deserialize)]
struct Built {
    /// Store paths by output name.
    outputs: BTreeMap<String, PathBuf>,
}

impl Revisions<'_> {
    /// Builds all revisions in a temporary clone, which leaves the repository unchanged. Skips a revision that fails to build with a
    /// warning, and a revision that changes no image silently.
    pub(crate) fn read(&self) -> Result<History> {
        let (first, last) = self.range;
        let top = PathBuf::from(self.git(self.repository, ["rev-parse", "--show-toplevel"])?);
        let commit = |revision: &str| {
            let name = format!("{revision}^{{commit}}");
            let found = self.git(&top, ["rev-parse", "--verify", "--quiet", "--end-of-options", &name]);
            found.map_err(|_| anyhow!("{} has no revision {revision:?}", top.display()))
        };
        let (first, last) = (commit(first)?, commit(last)?);
        let between =
            self.git(&top, ["rev-list", "--reverse", "--first-parent", &format!("{first}..{last}")])?;
        let commits: Vec<&str> = [first.as_str()].into_iter().chain(between.lines()).collect();

        let directory = temporary::directory("nixply-")?;
        let clone = directory.path().join("clone");
        let words: [&OsStr; 6] = [
            "clone".as_ref(),
            "--quiet".as_ref(),
            "--shared".as_ref(),
            "--no-checkout".as_ref(),
            top.as_os_str(),
            clone.as_os_str(),
        ];
        self.git(&top, words)?;
        let mut releases: Vec<(String, BTreeMap<String, String>)> = Vec::new();
        for (number, commit) in commits.iter().enumerate() {
            let name = &commit[..commit.len().min(12)];
            if !self.quiet {
                say(format!("revision {name}, {} of {}", number + 1, count(commits.len(), "revision")));
            }
            self.git(&clone, ["checkout", "--quiet", "--force", "--detach", commit])?;
            match self.closures(&clone) {
                Ok(images) if releases.last().is_some_and(|(_, before)| *before == images) => {}
                Ok(images) => releases.push((name.to_owned(), images)),
                Err(error) if error.downcast_ref::<Failed>().is_some() => return Err(error),
                Err(error) => warning(format!("skipping revision {name}: {error:#}")),
            }
        }
        if releases.is_empty() {
            let error = anyhow!("cannot build any of {}", count(commits.len(), "revision"));
            return Err(hinted(error, "run nix build in a checkout of one of them to see the reason"));
        }
        let name = top.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(History::of_json(name, releases)?)
    }

    /// Returns each image's closure as Nix prints it.
    fn closures(&self, checkout: &Path) -> Result<BTreeMap<String, String>> {
        let mut images = BTreeMap::new();
        for installable in self.installables {
            let mut command = nix::command("build", &[]);
            command.args(["--no-link", "--json"]);
            if let Some(file) = self.file {
                command.arg("--file").arg(file);
            }
            command.arg(installable).current_dir(checkout).stderr(Stdio::inherit());
            let output = process::output(&mut command)?;
            if !output.status.success() {
                return Err(anyhow!("Nix cannot build {installable}"));
            }
            let built: Vec<Built> = document::read_bytes(&output.stdout, "the answer of nix build")
                .context("unexpected output of nix build")?;
            let outputs: Vec<String> = built
                .iter()
                .flat_map(|built| built.outputs.values())
                .flat_map(|path| content(path))
                .collect();
            let text = nix::closure_text(
                outputs.iter().map(String::as_str),
                "the paths that nix build just built must be in the store",
            )?;
            images.insert(installable.clone(), text);
        }
        Ok(images)
    }

    /// Returns git's output without the final newline.
    fn git(&self, directory: &Path, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String> {
        let mut command: Command = git::command(directory);
        let output = process::output(command.args(words).stderr(Stdio::piped()))
            .context("cannot run git")
            .hint("install git, which --git-revisions needs")?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            let said = Error::new(ProgramMessages(why.trim().to_owned()));
            return Err(said.context(self.repository.display().to_string()));
        }
        let text = String::from_utf8(output.stdout).context("git printed bytes that are not text")?;
        Ok(text.trim_end().to_owned())
    }
}

/// Returns the store paths in a built image. For a spec, these are the paths in its layers, without the spec itself; for any other
/// path, the path itself.
fn content(path: &Path) -> Vec<String> {
    let name = path.display().to_string();
    let spec = open::linked(path)
        .and_then(|file| open::text(file, given::MAX_BYTES))
        .ok()
        .and_then(|text| ImageSpec::read(&text, &name).ok());
    match spec {
        Some(spec) => {
            let paths = spec.layers.iter().flat_map(|layer| &layer.paths);
            paths.map(|path| path.path.as_str().to_owned()).collect()
        }
        None => vec![name],
    }
}
