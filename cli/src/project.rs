//! A project: its directory, the files that containers may copy, and evaluating and building it with Nix.

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
use nixply_documents::{document, wording};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::Deserialize;
use tempfile::NamedTempFile;

use crate::arguments::Evaluation;
use crate::expressions::Expressions;
use crate::failure::{Failed, Hint, ProgramMessages, did_you_mean, hinted};
use crate::skopeo::destination;
use crate::terminal::warning;
use crate::{git, nix, process};

/// The file that describes a project's environment.
const FILE: &str = "devenv.nix";

/// Directory of the links that protect results from garbage collection.
const ROOTS: &str = ".devenv/gc";

/// Characters to escape in a URL's path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Hint for a failed build that may need another machine.
const NO_BUILDER: &str = "building for another system needs a remote builder: see `builders` in nix.conf";

/// A project and how to evaluate it.
pub(crate) struct Project<'e> {
    root: PathBuf,
    /// The environment file, if the user named it.
    file: Option<PathBuf>,
    pub(crate) evaluation: &'e Evaluation,
}

/// Result of evaluating a project.
#[derive(Deserialize)]
struct Answer {
    names: Vec<String>,
    container: Option<Container>,
    lock: Option<LockFile>,
}

/// An evaluated container.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Container {
    /// NAME:TAG of its image.
    pub(crate) reference: String,
    /// Derivation of the image spec.
    spec: String,
    /// Derivation of the copy script.
    copy_script: String,
    /// Whether the project replaces the copy script.
    #[serde(default)]
    has_custom_script: bool,
    /// Version of the Nix that evaluated it.
    nix_version: String,
    /// Default registry. `None` if there is none; empty if it is unknown, because the flake uses its own functions.
    registry: Option<String>,
    /// Default arguments for skopeo: shell code, one element per word.
    #[serde(default)]
    copy_arguments: Vec<String>,
}

impl Container {
    /// Returns the prefix of the destination: the one that the user gives, or else the container's. Empty if it is unknown.
    pub(crate) fn registry<'r>(&'r self, given: Option<&'r str>) -> &'r str {
        given.or(self.registry.as_deref()).unwrap_or_default()
    }

    /// Whether copying without arguments needs the container's script: it passes arguments to skopeo, or is not nixply's own.
    pub(crate) fn needs_copy_script(&self) -> bool {
        self.has_custom_script || !self.copy_arguments.is_empty()
    }

    /// Checks the default registry. `arguments` are the user's for skopeo, not yet split; they override the container's own.
    pub(crate) fn check_destination(&self, name: &str, arguments: &[String]) -> Result<()> {
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

/// The evaluated lock file of a container.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LockFile {
    /// Path of the lock file, which may not exist yet. `None` if the container has none.
    pub(crate) file: Option<PathBuf>,
    /// Derivations of the image requests, by name of the container, for all containers with this lock file.
    requests: BTreeMap<String, String>,
    /// Version of the Nix that evaluated it.
    nix_version: String,
}

/// A built derivation in the output of `nix build --json`.
#[derive(Deserialize)]
struct Built {
    /// Store paths by output name.
    outputs: BTreeMap<String, PathBuf>,
}

impl<'e> Project<'e> {
    /// Finds the project of the working directory, or of the file that the user named.
    pub(crate) fn find(evaluation: &'e Evaluation) -> Result<Self> {
        if let Some(file) = &evaluation.file {
            let file = fs::canonicalize(file).with_context(|| format!("cannot read {}", file.display()))?;
            let file = if file.is_dir() { file.join(FILE) } else { file };
            ensure!(file.is_file(), "{} does not exist", file.display());
            let root = file.parent().unwrap_or(Path::new("/")).to_path_buf();
            return Ok(Self { root, file: Some(file), evaluation });
        }
        let here = env::current_dir().context("cannot find the working directory")?;
        // The nearest ancestor counts.
        let is_project =
            |directory: &&Path| [FILE, "flake.nix"].iter().any(|name| directory.join(name).is_file());
        let Some(root) = here.ancestors().find(is_project) else {
            let error = anyhow!("cannot find {FILE} in {} or its parent directories", here.display());
            return Err(hinted(error, "create one with `nixply init`, or pass one with -f FILE"));
        };
        Ok(Self { root: root.to_path_buf(), file: None, evaluation })
    }

    /// Evaluates a container.
    pub(crate) fn container(&self, name: &str) -> Result<Container> {
        let answer = self.evaluate(name, "image")?;
        answer.container.ok_or_else(|| unknown(name, &answer.names))
    }

    /// Evaluates the lock file of a container.
    pub(crate) fn lock_file(&self, name: &str) -> Result<LockFile> {
        let answer = self.evaluate(name, "lock")?;
        answer.lock.ok_or_else(|| unknown(name, &answer.names))
    }

    fn evaluate(&self, name: &str, want: &str) -> Result<Answer> {
        if self.file.is_none() && lacks_lock(&self.root) {
            warning(
                "flake.nix has no flake.lock, so Nix looks up its inputs every time, often on the network; create it with `nix flake lock`",
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
        let output = process::output(&mut command).context(nix::MISSING)?;
        if !output.status.success() {
            // Nix has printed the reason.
            return Err(
                Failed::for_user(output.status, format!("Nix cannot evaluate {}", self.shown())).into()
            );
        }
        let answer = document::read_bytes(&output.stdout, "the answer of nix eval");
        answer.context("unexpected output of nix eval")
    }

    /// Builds a container's spec and returns its path.
    pub(crate) fn build_spec(&self, name: &str, container: &Container) -> Result<PathBuf> {
        self.build(&container.spec, &container.nix_version, name, "derivation")
    }

    /// Builds the copy script of a container and returns its path.
    pub(crate) fn build_copy_script(&self, name: &str, container: &Container) -> Result<PathBuf> {
        self.build(&container.copy_script, &container.nix_version, name, "copy")
    }

    /// Builds the image requests of a lock file, and returns their paths by container name.
    pub(crate) fn build_lock_requests(&self, lock: &LockFile) -> Result<BTreeMap<String, PathBuf>> {
        let build = |(name, derivation): (&String, &String)| {
            Ok((name.clone(), self.build(derivation, &lock.nix_version, name, "lock")?))
        };
        lock.requests.iter().map(build).collect()
    }

    /// Builds a derivation. `nix_version` is the version of the Nix that evaluated it.
    fn build(&self, derivation: &str, nix_version: &str, name: &str, what: &str) -> Result<PathBuf> {
        // Since Nix 2.15, `DRV` is the derivation itself and `DRV^out` its output. Older versions do not support `^`. They build all
        // outputs, and make a second link to an image's description.
        let new = version(nix_version) >= (2, 15);
        let name: String = name.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect();
        let link = self.root.join(ROOTS).join(format!("container-{name}-{what}"));
        let description = link.with_file_name(format!("container-{name}-{what}-description"));
        let rooted = self.prepare_link(&link) && (new || self.prepare_link(&description));

        let installable = if new { format!("{derivation}^out") } else { derivation.to_owned() };
        let mut command = self.nix("build");
        command.arg(installable).arg("--json");
        if rooted {
            command.arg("--out-link").arg(&link);
        } else {
            command.arg("--no-link");
        }
        let output = process::output(&mut command).context(nix::MISSING)?;
        if !output.status.success() {
            let what = format!("Nix cannot build the container of {}", self.shown());
            let failed = Failed::for_user(output.status, what);
            let foreign = target_system(OS, ARCH, self.evaluation.system.as_deref())?.is_some();
            return Err(if foreign { hinted(failed, NO_BUILDER) } else { failed.into() });
        }
        let built: Vec<Built> = document::read_bytes(&output.stdout, "the answer of nix build")
            .context("unexpected output of nix build")?;
        let path = built.into_iter().next().and_then(|mut built| built.outputs.remove("out"));
        path.context("nix build printed no path")
    }

    /// Prepares the place of a link that protects a result from garbage collection. Returns false if that is impossible, for example
    /// in a directory of another user; the result is then not protected.
    fn prepare_link(&self, link: &Path) -> bool {
        let directory = self.root.join(ROOTS);
        if !directory.is_dir() {
            if fs::create_dir_all(&directory).is_err() {
                return false;
            }
            // The content of .devenv does not belong to the project.
            let ignore = self.root.join(".devenv/.gitignore");
            if !ignore.exists() {
                // If this fails, git shows the directory as untracked.
                let _ = fs::write(ignore, "*\n");
            }
        }
        match fs::symlink_metadata(link) {
            Err(_) => true,
            // Nix does not replace a link that points outside its store.
            Ok(old) if old.is_symlink() => fs::remove_file(link).is_ok(),
            Ok(_) => {
                warning(format!(
                    "{} is not a link, so the result is not protected from garbage collection",
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

    /// Returns the name of the project for messages.
    fn shown(&self) -> String {
        let file = self.file.clone().unwrap_or_else(|| self.root.join(FILE));
        if file.exists() { file } else { self.root.join("flake.nix") }.display().to_string()
    }

    /// Returns a git command for the project's directory.
    fn git(&self) -> Command {
        git::command(&self.root)
    }

    /// Returns the top directory of the git working tree that contains the project.
    fn top(&self) -> Option<PathBuf> {
        let mut git = self.git();
        git.args(["rev-parse", "--show-toplevel"]);
        let top = process::captured(&mut git).ok().filter(|output| output.status.success())?;
        let top = PathBuf::from(OsStr::from_bytes(top.stdout.trim_ascii_end()));
        self.root.starts_with(&top).then_some(top)
    }

    /// Returns the project's flake reference. In a git working tree it is a git reference, so that files that git does not track stay
    /// out of the store.
    fn flake(&self, top: Option<&Path>) -> String {
        let text = |path: &Path| percent_encode(path.as_os_str().as_bytes(), PATH).to_string();
        match top.and_then(|top| Some((top, self.root.strip_prefix(top).ok()?))) {
            Some((top, below)) if below.as_os_str().is_empty() => format!("git+file://{}", text(top)),
            Some((top, below)) => format!("git+file://{}?dir={}", text(top), text(below)),
            None => format!("path:{}", self.root.display()),
        }
    }

    /// Returns file names from git, each ended by a NUL. A failure is an error, because only git knows which files it ignores.
    fn git_lists(&self, what: &[&str]) -> Result<Vec<u8>> {
        let failed = || format!("cannot list the files of {} with git", self.root.display());
        let output = process::captured(self.git().args(["ls-files", "-z"]).args(what)).with_context(failed);
        let output =
            output.hint("install git, which knows the ignored files that must stay out of containers")?;
        if !output.status.success() {
            let messages = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::new(ProgramMessages(messages)).context(failed()));
        }
        Ok(output.stdout)
    }

    /// Lists the project's files in a git working tree, without ignored files and git's own directory. Those may be secret, and every
    /// user can read the store.
    fn listed_files(&self) -> Result<Option<NamedTempFile>> {
        if !self.root.ancestors().any(|directory| directory.join(".git").exists()) {
            return Ok(None);
        }
        // git lists the files of submodules only with --cached.
        let known = self
            .git_lists(&["--cached", "--recurse-submodules"])
            .or_else(|_| self.git_lists(&["--cached"]))?;
        let new = self.git_lists(&["--others", "--exclude-standard"])?;
        let mut paths = BTreeSet::new();
        let files = known.split(|byte| *byte == 0).chain(new.split(|byte| *byte == 0));
        for path in files.filter_map(|path| std::str::from_utf8(path).ok()) {
            // Add the path and its parent directories.
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

/// Whether a directory has a flake with inputs but without a lock file.
fn lacks_lock(root: &Path) -> bool {
    let flake = fs::read_to_string(root.join("flake.nix")).unwrap_or_default();
    let mut code = flake.lines().map(|line| line.split('#').next().unwrap_or_default());
    code.any(|line| ["inputs.", "inputs =", "inputs="].iter().any(|sign| line.contains(sign)))
        && !root.join("flake.lock").exists()
}

/// Returns the system of the image: the user's choice or this machine's. On macOS it is Linux on the same processor. `None` means
/// Nix's own system.
fn target_system(os: &str, processor: &str, given: Option<&str>) -> Result<Option<String>> {
    match (os, processor, given) {
        (_, _, Some(given)) if given.ends_with("-linux") => Ok(Some(given.to_owned())),
        ("macos", "aarch64" | "x86_64", _) => Ok(Some(format!("{processor}-linux"))),
        ("macos", other, _) => bail!("Unsupported container architecture for macOS: {other}"),
        (_, _, given) => Ok(given.map(str::to_owned)),
    }
}

/// Returns the first two numbers of a version.
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn unknown(name: &str, names: &[String]) -> Error {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let list = if names.is_empty() {
        "the project has none".into()
    } else {
        format!("the project has {}", wording::some(&names))
    };
    let error = anyhow!("there is no container {}: {list}", wording::quoted(name));
    let otherwise = format!("define it in devenv.nix as containers.{}", nix::name(name));
    did_you_mean(error, name, names, otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_always_for_linux() {
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
    fn flakes_without_lock_file_are_detected() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        assert!(!lacks_lock(directory.path()));
        write("flake.nix", "{ # inputs = none\n outputs = { self }@inputs: { }; }");
        assert!(!lacks_lock(directory.path()));
        write("flake.nix", "{ inputs.nixpkgs.url = \"nixpkgs\"; outputs = _: { }; }");
        assert!(lacks_lock(directory.path()));
        write("flake.lock", "{ }");
        assert!(!lacks_lock(directory.path()));
    }

    #[test]
    fn unknown_containers_are_errors_with_the_known_ones() {
        let names = ["processes".to_owned(), "shell".to_owned()];
        let message = |name, names| unknown(name, names).to_string();
        assert_eq!(
            message("shel", &names),
            "there is no container \"shel\": the project has processes, shell"
        );
        assert_eq!(message("web", &[]), "there is no container \"web\": the project has none");
    }

    #[test]
    fn versions_are_parsed() {
        for (text, expected) in
            [("2.8.0", (2, 8)), ("2.26.3", (2, 26)), ("2.36.0pre20260101_abc", (2, 36)), ("", (0, 0))]
        {
            assert_eq!(version(text), expected, "{text}");
        }
    }
}
