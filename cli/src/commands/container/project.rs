//! A project: where it is, which of its files containers may copy, and what Nix makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::env::consts::{ARCH, OS};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use nixply_packer::{document, wording};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::Deserialize;
use tempfile::NamedTempFile;

use super::{Evaluation, destination};
use crate::expressions::Expressions;
use crate::failure::{Failed, Hint, Said, hinted};
use crate::terminal::warning;
use crate::{git, interrupt, nix};

/// The file that describes a project's environment.
const FILE: &str = "devenv.nix";

/// Where its results are kept from being collected as garbage.
const ROOTS: &str = ".devenv/gc";

/// What a URL's path has as it is.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where a build fails that may be another machine's.
const NO_BUILDER: &str =
    "what is built for another system than this machine's takes a builder: see `builders` in nix.conf";

/// A project and how to evaluate it.
pub(super) struct Project<'e> {
    root: PathBuf,
    /// The environment's file, if somebody named it.
    file: Option<PathBuf>,
    evaluation: &'e Evaluation,
}

/// What Nix says of a project.
#[derive(Deserialize)]
struct Answer {
    names: Vec<String>,
    container: Option<Container>,
    lock: Option<LockFile>,
}

/// A container, evaluated.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Container {
    /// NAME:TAG of its image.
    pub(super) reference: String,
    /// The derivation of its image's spec.
    spec: String,
    /// The derivation of the program that copies it.
    copy_script: String,
    /// The Nix that evaluated it.
    nix_version: String,
    /// Where it is copied unless the user says otherwise. Absent: nowhere; empty: the flake's own functions do not tell.
    registry: Option<String>,
    /// Arguments of skopeo with which it is copied then: shell code, a word each.
    #[serde(default)]
    copy_arguments: Vec<String>,
}

impl Container {
    /// Says what is wrong with where it is to be copied. `arguments` are the user's for skopeo, unsplit: they replace its own.
    pub(super) fn check_destination(&self, name: &str, arguments: &[String]) -> Result<()> {
        match self.registry.as_deref() {
            None => Err(destination::none_declared(name)),
            Some("") => Ok(()),
            Some(registry) => {
                destination::check_transport(registry, Some(name))?;
                destination::check_name(registry, &self.reference)?;
                let arguments = if arguments.is_empty() { &self.copy_arguments } else { arguments };
                destination::check_daemon(registry, arguments)
            }
        }
    }
}

/// The lock file that a container names, evaluated.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LockFile {
    /// Where it is or will be. Absent: the container names none.
    pub(super) file: Option<PathBuf>,
    /// The derivations of what is in it, by the names of all containers that name it.
    requests: BTreeMap<String, String>,
    /// The Nix that evaluated it.
    nix_version: String,
}

/// What Nix says of a derivation that it has built.
#[derive(Deserialize)]
struct Built {
    /// The paths, by the outputs' names.
    outputs: BTreeMap<String, PathBuf>,
}

impl<'e> Project<'e> {
    /// The project of the working directory, or of the file that was named.
    pub(super) fn find(evaluation: &'e Evaluation) -> Result<Self> {
        if let Some(file) = &evaluation.file {
            let file = fs::canonicalize(file).with_context(|| format!("cannot read {}", file.display()))?;
            let file = if file.is_dir() { file.join(FILE) } else { file };
            ensure!(file.is_file(), "{} is not there", file.display());
            let root = file.parent().unwrap_or(Path::new("/")).to_path_buf();
            return Ok(Self { root, file: Some(file), evaluation });
        }
        let here = env::current_dir().context("cannot find the working directory")?;
        // The nearest that is one, whatever there is above it.
        let is_project = |folder: &&Path| [FILE, "flake.nix"].iter().any(|name| folder.join(name).is_file());
        let Some(root) = here.ancestors().find(is_project) else {
            let error = anyhow!("there is no {FILE} in {} or above it", here.display());
            return Err(hinted(error, "`nixply init` writes one; -f FILE names one"));
        };
        Ok(Self { root: root.to_path_buf(), file: None, evaluation })
    }

    /// Evaluates a container.
    pub(super) fn container(&self, name: &str) -> Result<Container> {
        let answer = self.ask(name, "image")?;
        answer.container.ok_or_else(|| unknown(name, &answer.names))
    }

    /// Evaluates what a container's lock file is made of.
    pub(super) fn lock_file(&self, name: &str) -> Result<LockFile> {
        let answer = self.ask(name, "lock")?;
        answer.lock.ok_or_else(|| unknown(name, &answer.names))
    }

    fn ask(&self, name: &str, want: &str) -> Result<Answer> {
        if self.file.is_none() && lacks_lock(&self.root) {
            warning(
                "flake.nix has no flake.lock: Nix looks for its inputs, often on the network; `nix flake lock` writes it",
            );
        }
        let expressions = Expressions::write()?;
        let files = self.listed_files()?;
        let program = env::current_exe().context("cannot find this program's own file")?;
        let top = self.top();
        let mut arguments = vec![
            ("root", self.root.display().to_string()),
            ("flakeReference", self.flake(top.as_deref())),
            ("top", top.as_deref().unwrap_or(&self.root).display().to_string()),
            ("name", name.to_owned()),
            ("want", want.to_owned()),
            ("program", program.display().to_string()),
        ];
        let system = self.evaluation.system.clone();
        arguments.extend(target_system(OS, ARCH, system.as_deref())?.map(|system| ("system", system)));
        arguments.extend(self.file.iter().map(|file| ("file", file.display().to_string())));
        arguments.extend(self.evaluation.nixpkgs().map(|nixpkgs| ("nixpkgs", nixpkgs)));
        arguments.extend(files.iter().map(|list| ("files", list.path().display().to_string())));
        let arguments: String =
            arguments.iter().map(|(name, value)| format!("{name} = {}; ", nix::string(value))).collect();
        let expression = format!(
            "import (/. + {}) {{ {arguments}}}",
            nix::string(&expressions.path().join("container-interface.nix").display().to_string())
        );

        let mut command = self.nix("eval");
        command
            .args(["--impure", "--json", "--expr", &expression])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        let output = interrupt::output(&mut command).context(nix::MISSING)?;
        if !output.status.success() {
            // Nix has said why.
            return Err(
                Failed::for_user(output.status, format!("Nix cannot evaluate {}", self.shown())).into()
            );
        }
        let answer = document::read_bytes(&output.stdout, "the answer of nix eval");
        answer.context("Nix printed something else than was asked of it")
    }

    /// Builds a container's spec and gives its path.
    pub(super) fn build_spec(&self, name: &str, container: &Container) -> Result<PathBuf> {
        self.build(&container.spec, &container.nix_version, name, "derivation")
    }

    /// Builds the program that copies a container and gives its path.
    pub(super) fn build_copy_script(&self, name: &str, container: &Container) -> Result<PathBuf> {
        self.build(&container.copy_script, &container.nix_version, name, "copy")
    }

    /// Builds all that a lock file is about, and gives for each container the file with its request.
    pub(super) fn build_lock_requests(&self, lock: &LockFile) -> Result<BTreeMap<String, PathBuf>> {
        let build = |(name, derivation): (&String, &String)| {
            Ok((name.clone(), self.build(derivation, &lock.nix_version, name, "lock")?))
        };
        lock.requests.iter().map(build).collect()
    }

    /// `nix_version` is that of the Nix that has evaluated it.
    fn build(&self, derivation: &str, nix_version: &str, name: &str, what: &str) -> Result<PathBuf> {
        let name: String = name.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect();
        let link = self.root.join(ROOTS).join(format!("container-{name}-{what}"));
        let rooted = self.make_room(&link);

        // Since Nix 2.15 a derivation's path is that file alone, and what it builds is called so; older ones know no `^`.
        let new = version(nix_version) >= (2, 15);
        let installable = if new { format!("{derivation}^out") } else { derivation.to_owned() };
        let mut command = self.nix("build");
        command.arg(installable).arg("--json");
        if rooted {
            command.arg("--out-link").arg(&link);
        } else {
            command.arg("--no-link");
        }
        let output = interrupt::output(&mut command).context(nix::MISSING)?;
        if !output.status.success() {
            let what = format!("Nix cannot build the container of {}", self.shown());
            let failed = Failed::for_user(output.status, what);
            let foreign = target_system(OS, ARCH, self.evaluation.system.as_deref())?.is_some();
            return Err(if foreign { hinted(failed, NO_BUILDER) } else { failed.into() });
        }
        let built: Vec<Built> = document::read_bytes(&output.stdout, "the answer of nix build")
            .context("Nix printed something else than was asked of it")?;
        let path = built.into_iter().next().and_then(|mut built| built.outputs.remove("out"));
        path.context("Nix has built it, and printed no path")
    }

    /// Makes a place for a link that keeps a result. Where there is none, as in a folder that is not the user's, results are not
    /// kept.
    fn make_room(&self, link: &Path) -> bool {
        let folder = self.root.join(ROOTS);
        if !folder.is_dir() {
            if fs::create_dir_all(&folder).is_err() {
                return false;
            }
            // Nothing in it is the project's.
            let ignore = self.root.join(".devenv/.gitignore");
            if !ignore.exists() {
                // Without it, git shows the folder.
                let _ = fs::write(ignore, "*\n");
            }
        }
        match fs::symlink_metadata(link) {
            Err(_) => true,
            // Nix replaces no link that leads elsewhere than into its own store.
            Ok(old) if old.is_symlink() => fs::remove_file(link).is_ok(),
            Ok(_) => {
                warning(format!(
                    "{} is in the way: the result is not kept from garbage collection",
                    link.display()
                ));
                false
            }
        }
    }

    fn nix(&self, verb: &str) -> Command {
        let mut command = nix::command(verb, &self.evaluation.option);
        self.evaluation.pass_on(&mut command);
        command
    }

    /// What a message calls the project.
    fn shown(&self) -> String {
        let file = self.file.clone().unwrap_or_else(|| self.root.join(FILE));
        if file.exists() { file } else { self.root.join("flake.nix") }.display().to_string()
    }

    /// git for the project's folder.
    fn git(&self) -> Command {
        git::command(&self.root)
    }

    /// The top of the work tree of git that the project is in.
    fn top(&self) -> Option<PathBuf> {
        let mut git = self.git();
        git.args(["rev-parse", "--show-toplevel"]);
        let top = git.output().ok().filter(|output| output.status.success())?;
        let top = PathBuf::from(OsStr::from_bytes(top.stdout.trim_ascii_end()));
        self.root.starts_with(&top).then_some(top)
    }

    /// The project as a flake's reference: of git's, where it is in a work tree, so that what git does not know of stays out of the
    /// store.
    fn flake(&self, top: Option<&Path>) -> String {
        let text = |path: &Path| percent_encode(path.as_os_str().as_bytes(), PATH).to_string();
        match top.and_then(|top| Some((top, self.root.strip_prefix(top).ok()?))) {
            Some((top, below)) if below.as_os_str().is_empty() => format!("git+file://{}", text(top)),
            Some((top, below)) => format!("git+file://{}?dir={}", text(top), text(below)),
            None => format!("path:{}", self.root.display()),
        }
    }

    /// Files' names, each ended by a NUL. What git ignores is not known without git: that it fails is an error.
    fn git_lists(&self, what: &[&str]) -> Result<Vec<u8>> {
        let failed = || format!("git cannot say which files of {} it knows", self.root.display());
        let output = self.git().args(["ls-files", "-z"]).args(what).output().with_context(failed);
        let output = output.hint("install git: what it ignores is kept out of containers")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::new(Said(said)).context(failed()));
        }
        Ok(output.stdout)
    }

    /// In a work tree of git: its files, without those that git ignores. They, and what git keeps for itself, may be secret,
    /// and the store is everybody's to read.
    fn listed_files(&self) -> Result<Option<NamedTempFile>> {
        if !self.root.ancestors().any(|folder| folder.join(".git").exists()) {
            return Ok(None);
        }
        // Submodules' files are told of what is known to git alone.
        let known = self
            .git_lists(&["--cached", "--recurse-submodules"])
            .or_else(|_| self.git_lists(&["--cached"]))?;
        let new = self.git_lists(&["--others", "--exclude-standard"])?;
        let mut paths = BTreeSet::new();
        let files = known.split(|byte| *byte == 0).chain(new.split(|byte| *byte == 0));
        for path in files.filter_map(|path| std::str::from_utf8(path).ok()) {
            // With the folders that they lie in.
            let mut path = Some(Path::new(path));
            while let Some(this) = path.filter(|path| *path != Path::new("")) {
                if !paths.insert(this.to_path_buf()) {
                    break;
                }
                path = this.parent();
            }
        }
        let mut file = NamedTempFile::new().context("cannot make a temporary file")?;
        serde_json::to_writer(file.as_file_mut(), &paths)?;
        file.flush().context("cannot write a temporary file")?;
        Ok(Some(file))
    }
}

/// Whether a folder's flake has inputs and nothing that pins them.
fn lacks_lock(root: &Path) -> bool {
    let flake = fs::read_to_string(root.join("flake.nix")).unwrap_or_default();
    let mut code = flake.lines().map(|line| line.split('#').next().unwrap_or_default());
    code.any(|line| ["inputs.", "inputs =", "inputs="].iter().any(|sign| line.contains(sign)))
        && !root.join("flake.lock").exists()
}

/// The system that an image is for: what the user says, else this machine's; a Mac's processor runs Linux's images. None is
/// that of Nix itself.
fn target_system(os: &str, processor: &str, given: Option<&str>) -> Result<Option<String>> {
    match (os, processor, given) {
        (_, _, Some(given)) if given.ends_with("-linux") => Ok(Some(given.to_owned())),
        ("macos", "aarch64" | "x86_64", _) => Ok(Some(format!("{processor}-linux"))),
        ("macos", other, _) => bail!("Unsupported container architecture for macOS: {other}"),
        (_, _, given) => Ok(given.map(str::to_owned)),
    }
}

/// The first two numbers of a version.
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn unknown(name: &str, names: &[String]) -> Error {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let list = if names.is_empty() {
        "there are none".into()
    } else {
        format!("there are {}", wording::some(&names))
    };
    let error = anyhow!("there is no container {}: {list}", wording::quoted(name));
    match wording::nearest(name, names) {
        Some(other) => hinted(error, format!("did you mean {other}?")),
        None => hinted(error, format!("containers.{} makes one", nix::name(name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row C11.
    #[test]
    fn images_are_for_linux() {
        let system = |os, processor, given| target_system(os, processor, given).unwrap();
        assert_eq!(system("macos", "aarch64", Some("x86_64-linux")).as_deref(), Some("x86_64-linux"));
        assert_eq!(system("macos", "aarch64", Some("aarch64-darwin")).as_deref(), Some("aarch64-linux"));
        assert_eq!(system("macos", "x86_64", None).as_deref(), Some("x86_64-linux"));
        assert_eq!(system("linux", "x86_64", Some("aarch64-linux")).as_deref(), Some("aarch64-linux"));
        assert_eq!(system("linux", "x86_64", None), None);
        let error = target_system("macos", "powerpc", None).unwrap_err().to_string();
        assert_eq!(error, "Unsupported container architecture for macOS: powerpc");
    }

    #[test]
    fn a_flake_whose_inputs_nothing_pins_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert!(!lacks_lock(folder.path()));
        write("flake.nix", "{ # inputs = none\n outputs = { self }@inputs: { }; }");
        assert!(!lacks_lock(folder.path()));
        write("flake.nix", "{ inputs.nixpkgs.url = \"nixpkgs\"; outputs = _: { }; }");
        assert!(lacks_lock(folder.path()));
        write("flake.lock", "{ }");
        assert!(!lacks_lock(folder.path()));
    }

    #[test]
    fn unknown_containers_are_told_from_known_ones() {
        let names = ["processes".to_owned(), "shell".to_owned()];
        let told = |name, names| unknown(name, names).to_string();
        assert_eq!(told("shel", &names), "there is no container \"shel\": there are processes, shell");
        assert_eq!(told("web", &[]), "there is no container \"web\": there are none");
    }

    #[test]
    fn versions_are_numbers() {
        for (text, expected) in
            [("2.8.0", (2, 8)), ("2.26.3", (2, 26)), ("2.36.0pre20260101_abc", (2, 36)), ("", (0, 0))]
        {
            assert_eq!(version(text), expected, "{text}");
        }
    }
}
