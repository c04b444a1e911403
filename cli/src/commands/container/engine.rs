//! docker and podman: they take an image in from a registry of this process, or as a whole where they are on another
//! machine, and run it.

use std::env;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::IsTerminal;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Error, Result, anyhow};
use nixply_packer::compress::Codec;
use nixply_registry::server::Compression;
use rustix::fs::{FlockOperation, OFlags, flock};

use super::copy;
use super::dialect::Engine;
use crate::commands::loopback::{Loopback, Settings};
use crate::commands::{read_spec, serve};
use crate::failure::{Failed, hinted};
use crate::interrupt;
use crate::terminal::say;
use crate::transfer::Watch;

/// An engine's program.
pub(super) struct Program(Engine);

impl Program {
    /// The one that is wanted, else the first that there is.
    pub(super) fn choose(wanted: Option<Engine>) -> Result<Self> {
        let found = |engine: &Engine| is_on_path(Self(*engine).name());
        match wanted {
            Some(engine) if found(&engine) => Ok(Self(engine)),
            Some(engine) => {
                let name = Self(engine).name();
                Err(hinted(anyhow!("there is no {name} on PATH"), format!("install {name}")))
            }
            None => [Engine::Docker, Engine::Podman].into_iter().find(found).map(Self).ok_or_else(|| {
                let way_out = "install one of them, or copy the container elsewhere: `nixply container copy`";
                hinted(anyhow!("there is neither docker nor podman on PATH"), way_out)
            }),
        }
    }

    fn name(&self) -> &'static str {
        match self.0 {
            Engine::Docker => "docker",
            Engine::Podman => "podman",
        }
    }

    /// Gives the engine an image under the name `reference`, and gives by what to run it. Only layers that it does not have are moved where it can reach this
    /// process. `script` builds the program that copies the container.
    pub(super) fn take(
        &self,
        spec: &Path,
        reference: &str,
        copy_arguments: &[String],
        script: impl FnOnce() -> Result<PathBuf>,
        quiet: bool,
    ) -> Result<String> {
        // Arguments of skopeo are for skopeo.
        if !copy_arguments.is_empty() {
            let destination = match self.0 {
                Engine::Docker => "docker-daemon:",
                // Where podman looks first for a name without a registry.
                Engine::Podman if has_registry(reference) => "containers-storage:",
                Engine::Podman => "containers-storage:localhost/",
            };
            copy::copy(&script()?, spec, Some(destination), copy_arguments, quiet)?;
            return Ok(reference.to_owned());
        }
        if !self.is_elsewhere()
            && let Some(id) = self.pull(spec, reference, quiet)?
        {
            return Ok(id);
        }
        self.load(&script()?, spec, quiet)?;
        Ok(reference.to_owned())
    }

    /// Whether the user's environment says that the engine is on another machine.
    fn is_elsewhere(&self) -> bool {
        let variable = match self.0 {
            Engine::Docker => "DOCKER_HOST",
            Engine::Podman => "CONTAINER_HOST",
        };
        env::var(variable).is_ok_and(|host| !host.is_empty() && !host.starts_with("unix:"))
    }

    /// Has the engine pull the image from this process. Gives by what it knows the very image, or nothing if it could not reach this
    /// process.
    fn pull(&self, spec_file: &Path, reference: &str, quiet: bool) -> Result<Option<String>> {
        let settings = Settings::from_environment("nixply container")?;
        let spec = read_spec(spec_file)?;
        let watch = Watch::new(&spec, quiet);
        // On the way from this machine to itself, compressing takes longer than it spares, and plain layers' digests are in the spec.
        let compression = Compression::Recorded(Codec::None);
        let loopback = Loopback::start(&settings, spec_file, spec, compression, Some(watch))?;
        let source = loopback.reference();
        let mut command = self.command(&["pull", "--quiet"]);
        if self.0 == Engine::Podman {
            command.arg("--tls-verify=false");
        }
        let output = interrupt::output(command.arg(&source).stderr(Stdio::piped()));
        let output = output.with_context(|| format!("cannot run {}", self.name()));
        let reached = loopback.requests() > 0;
        loopback.stop(output.as_ref().is_ok_and(|output| output.status.success()));
        let output = output?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            // It is there, and what it calls loopback is not this machine's.
            let unreachable =
                ["connection refused", "i/o timeout", "no route to host", "context deadline exceeded"];
            if !reached && unreachable.iter().any(|sign| said.contains(sign)) && !is_down(&said) {
                return Ok(None);
            }
            return Err(self.failed(&output, "take the image"));
        }
        // Another project's container may have the same name, and its image be named so before this one runs.
        let id = match self.0 {
            // `podman image inspect` looks for an image's parent, too, and fails on what another process has put half into the storage.
            Engine::Podman => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            Engine::Docker => {
                self.run_quietly(&["image", "inspect", "--format", "{{.Id}}", &source], "find the image")?
            }
        };
        let id = if id.is_empty() { reference.to_owned() } else { id };
        let _alone = lock()?;
        self.run_quietly(&["tag", &source, reference], "name the image")?;
        // The image is not to be called after a registry that is gone.
        let remove = match self.0 {
            Engine::Docker => ["rmi", "--no-prune", &source],
            Engine::Podman => ["untag", &source, &source],
        };
        self.run_quietly(&remove, "name the image")?;
        Ok(Some(id))
    }

    /// Gives the engine the whole image, by its own program, which knows where the engine is.
    fn load(&self, script: &Path, spec: &Path, quiet: bool) -> Result<()> {
        // Gigabytes, perhaps: /tmp may be memory.
        let folder = tempfile::Builder::new().prefix("nixply-").tempdir_in(serve::scratch_dir());
        let folder = folder.context("cannot make a temporary folder")?;
        let archive = folder.path().join("image.tar").display().to_string();
        copy::copy(script, spec, Some(&format!("docker-archive:{archive}:")), &[], quiet)?;
        self.run_quietly(&["load", "--quiet", "--input", &archive], "load the image").map(drop)
    }

    /// Becomes the container. Gives why it did not.
    pub(super) fn become_container(
        &self,
        reference: &str,
        options: &[String],
        arguments: &[OsString],
    ) -> Error {
        let terminal = if std::io::stdin().is_terminal() { "-it" } else { "-i" };
        let mut command = self.command(&["run", terminal]);
        command.args(options.iter().flat_map(|options| options.split_whitespace()));
        let error = command.arg(reference).args(arguments).exec();
        Error::from(error).context(format!("cannot run {}", self.name()))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.name());
        command.args(arguments);
        command
    }

    /// Gives what it prints.
    fn run_quietly(&self, arguments: &[&str], what: &str) -> Result<String> {
        let output = interrupt::output(self.command(arguments).stderr(Stdio::piped()));
        let output = output.with_context(|| format!("cannot run {}", self.name()))?;
        if !output.status.success() {
            return Err(self.failed(&output, what));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn failed(&self, output: &Output, what: &str) -> Error {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if !said.is_empty() {
            say(&said);
        }
        let name = self.name();
        let failed = Error::from(Failed::for_user(output.status, format!("{name} cannot {what}")));
        if is_down(&said) {
            let other = match self.0 {
                Engine::Docker => "podman",
                Engine::Podman => "docker",
            };
            return hinted(failed, format!("start {name}'s daemon, or use --engine {other}"));
        }
        if said.contains("permission denied") {
            return hinted(failed, format!("see whether you may use {name}: `{name} info`"));
        }
        failed
    }
}

/// Whether an engine's message says that its daemon does not run.
fn is_down(message: &str) -> bool {
    ["Cannot connect to the Docker daemon", "Is the docker daemon running", "Cannot connect to Podman"]
        .iter()
        .any(|sign| message.contains(sign))
}

/// Whether an image's name begins with a registry's.
fn has_registry(reference: &str) -> bool {
    let first = reference.split_once('/').map(|(first, _)| first);
    first.is_some_and(|first| first.contains(['.', ':']) || first == "localhost")
}

/// Nobody else names images while this is there: an image whose name another takes before its first one is removed would go with
/// that.
fn lock() -> Result<File> {
    let path = env::temp_dir().join(format!("nixply-{}.lock", rustix::process::getuid().as_raw()));
    let failed = || format!("cannot lock {}", path.display());
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file =
        options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(&path).with_context(failed)?;
    flock(&file, FlockOperation::LockExclusive).with_context(failed)?;
    Ok(file)
}

fn is_on_path(program: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| {
        folder
            .join(program)
            .metadata()
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    })
}
