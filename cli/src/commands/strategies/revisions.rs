//! Histories of git revisions, each built by Nix.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Error, Result, anyhow};
use nixply_packer::document;
use nixply_packer::image::spec::ImageSpec;
use nixply_packer::{given, open};
use nixply_study::history::History;
use serde::Deserialize;

use crate::failure::{Failed, Hint, ProgramMessages, hinted};
use crate::terminal::{count, say, warning};
use crate::{git, nix, process, temporary};

/// Which revisions, and what of them.
pub(super) struct Revisions<'a> {
    /// The repository, or a folder in it.
    pub(super) repository: &'a Path,
    /// The first and the last revision, both of them studied.
    pub(super) range: (&'a str, &'a str),
    /// What to build, as `nix build` takes it: one for each image.
    pub(super) installables: &'a [String],
    /// Where installables are attributes of, if not a flake.
    pub(super) file: Option<&'a Path>,
    pub(super) quiet: bool,
}

/// What Nix says of a derivation that it has built.
#[derive(Deserialize)]
struct Built {
    /// The paths, by the outputs' names.
    outputs: BTreeMap<String, PathBuf>,
}

impl Revisions<'_> {
    /// Builds all revisions in a clone that goes when it is done: the repository stays as it is. A revision that cannot be
    /// built is left out with a warning, one in which no image has changed without.
    pub(super) fn read(&self) -> Result<History> {
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

        let folder = temporary::folder("nixply-")?;
        let clone = folder.path().join("clone");
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
                Err(error) => warning(format!("revision {name} is left out: {error:#}")),
            }
        }
        if releases.is_empty() {
            let error = anyhow!("none of {} can be built", count(commits.len(), "revision"));
            return Err(hinted(error, "nix build says why, in a checkout of one of them"));
        }
        let name = top.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(History::of_json(name, releases)?)
    }

    /// What Nix prints of each image's closure.
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
                .context("Nix printed something else than was asked of it")?;
            let outputs: Vec<String> = built
                .iter()
                .flat_map(|built| built.outputs.values())
                .flat_map(|path| content(path))
                .collect();
            let text =
                nix::closure_text(outputs.iter().map(String::as_str), "nix build has just built them")?;
            images.insert(installable.clone(), text);
        }
        Ok(images)
    }

    /// What git prints, without the last line's end.
    fn git(&self, folder: &Path, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String> {
        let mut command: Command = git::command(folder);
        let output = process::output(command.args(words).stderr(Stdio::piped()))
            .context("cannot run git")
            .hint("--git-revisions takes git: put it on PATH")?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            let said = Error::new(ProgramMessages(why.trim().to_owned()));
            return Err(said.context(self.repository.display().to_string()));
        }
        let text = String::from_utf8(output.stdout).context("git printed something that is not text")?;
        Ok(text.trim_end().to_owned())
    }
}

/// What an image has of what was built: of a spec the paths of its layers, as it lies in none itself.
fn content(path: &Path) -> Vec<String> {
    let name = path.display().to_string();
    let spec = open::linked(path)
        .and_then(|file| open::text(file, given::MOST_BYTES))
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
