//! docker and podman: they take an image in from a registry of this process, or as a whole where they are on another
//! machine, and run it.

use std::env;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::IsTerminal;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use nixply_packer::compress::Codec;
use nixply_packer::file_lock::{self, Locked};
use nixply_registry::server::Compression;
use rustix::fs::OFlags;

use super::copy;
use super::dialect::Engine;
use crate::commands::loopback::{Loopback, Settings};
use crate::commands::{inputs, serve};
use crate::failure::{Failed, Hint, hinted};
use crate::terminal::{pass, warning};
use crate::transfer::Watch;
use crate::{interrupt, temporary};

/// How long an engine may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(15);

/// An engine's program.
pub(super) struct Program(Engine);

/// Why an engine takes no images.
struct Silence {
    /// The engine's own words.
    said: String,
    refused: bool,
}

impl Silence {
    fn what(&self) -> &'static str {
        if self.refused { "refuses this user" } else { "does not answer" }
    }
}

impl Program {
    /// The engine that the user names, else the first that answers.
    pub(super) fn choose(wanted: Option<Engine>) -> Result<Self> {
        let engines = match wanted {
            Some(engine) => vec![engine],
            None => vec![Engine::Docker, Engine::Podman],
        };
        let found: Vec<Self> =
            engines.into_iter().map(Self).filter(|engine| is_on_path(engine.name())).collect();
        let mut silent: Vec<(&Self, Silence)> = Vec::new();
        for engine in &found {
            if let Some(silence) = engine.silence()? {
                silent.push((engine, silence));
                continue;
            }
            if let Some((other, silence)) = silent.first() {
                warning(format!("{} {}: {} runs the container", other.name(), silence.what(), engine.name()));
            }
            return Ok(Self(engine.0));
        }
        Err(match (silent.first(), wanted) {
            (Some((engine, silence)), _) => engine.silent(silence),
            (None, Some(engine)) => {
                let engine = Self(engine);
                let way_out = match engine.other() {
                    Some(other) => format!("install {}, or use --engine {other}", engine.name()),
                    None => format!("install {}", engine.name()),
                };
                hinted(anyhow!("there is no {} on PATH", engine.name()), way_out)
            }
            (None, None) => {
                let way_out = "install one of them, or copy the container elsewhere: `nixply container copy`";
                hinted(anyhow!("there is neither docker nor podman on PATH"), way_out)
            }
        })
    }

    fn name(&self) -> &'static str {
        match self.0 {
            Engine::Docker => "docker",
            Engine::Podman => "podman",
        }
    }

    /// The other engine's name, if it is there.
    fn other(&self) -> Option<&'static str> {
        let other = match self.0 {
            Engine::Docker => Self(Engine::Podman),
            Engine::Podman => Self(Engine::Docker),
        };
        Some(other.name()).filter(|name| is_on_path(name))
    }

    /// Asks the engine's daemon whether it is there. podman has none on its own machine.
    fn silence(&self) -> Result<Option<Silence>> {
        let mut command = match self.0 {
            Engine::Docker => self.command(&["version"]),
            Engine::Podman if self.is_elsewhere() || cfg!(target_os = "macos") => self.command(&["info"]),
            Engine::Podman => return Ok(None),
        };
        // The user may have to type a password.
        let by_ssh = self.host().is_some_and(|host| host.starts_with("ssh:"));
        let patience = if by_ssh { Duration::MAX } else { PATIENCE };
        let name = self.name();
        let asked =
            interrupt::messages(&mut command, patience).with_context(|| format!("cannot run {name}"))?;
        Ok(match asked {
            Some((status, _)) if status.success() => None,
            Some((_, said)) => Some(Silence { refused: is_refusal(&said), said: said.trim().to_owned() }),
            None => {
                let said = format!("`{name} version` has not ended after {} seconds", PATIENCE.as_secs());
                Some(Silence { refused: false, said })
            }
        })
    }

    fn silent(&self, silence: &Silence) -> Error {
        if !silence.said.is_empty() {
            pass(&silence.said);
        }
        let way_out = if silence.refused { self.way_out_of_refusal() } else { self.way_out_of_silence() };
        hinted(anyhow!("{} {}", self.name(), silence.what()), way_out)
    }

    fn way_out_of_silence(&self) -> String {
        let name = self.name();
        let place = match self.host() {
            Some(host) => format!(" at {host}"),
            None => String::new(),
        };
        let other = self.other().map(|other| format!(", or use --engine {other}")).unwrap_or_default();
        format!("start {name}'s daemon{place}{other}")
    }

    fn way_out_of_refusal(&self) -> String {
        let way_out = match self.0 {
            Engine::Docker => "add your user to the group docker and log in again",
            Engine::Podman => "see whether you may use podman: `podman info`",
        };
        let other = self.other().map(|other| format!(", or use --engine {other}")).unwrap_or_default();
        format!("{way_out}{other}")
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

    /// Where the user's environment says that the engine is.
    fn host(&self) -> Option<String> {
        let variable = match self.0 {
            Engine::Docker => "DOCKER_HOST",
            Engine::Podman => "CONTAINER_HOST",
        };
        env::var(variable).ok().filter(|host| !host.is_empty())
    }

    /// Whether that is another machine.
    fn is_elsewhere(&self) -> bool {
        self.host().is_some_and(|host| !host.starts_with("unix:"))
    }

    /// Has the engine pull the image from this process. Gives by what it knows the very image, or nothing if it could not reach this
    /// process.
    fn pull(&self, spec_file: &Path, reference: &str, quiet: bool) -> Result<Option<String>> {
        let settings = Settings::from_environment("nixply container")?;
        let spec = inputs::spec(spec_file)?;
        settings.machine.store_of(spec_file).check_owner_for(spec_file)?;
        let watch = Watch::new(&spec, quiet);
        // On the way from this machine to itself, compressing takes longer than it spares, and plain layers' digests are in the spec.
        let compression = Compression::Recorded(Codec::None);
        let loopback = Loopback::start(&settings, spec_file, spec, compression, Some(watch))?;
        let source = loopback.reference();
        let mut command = self.command(&["pull", "--quiet"]);
        match self.0 {
            Engine::Podman => {
                command.arg("--tls-verify=false").env("REGISTRY_AUTH_FILE", loopback.auth_file()?);
            }
            Engine::Docker => {
                if let Some(own) = docker_config()
                    && let Some(config) = loopback.docker_config(&own)?
                {
                    command.env(DOCKER_CONFIG, config);
                }
            }
        }
        let output = interrupt::output(command.arg(&source).stderr(Stdio::piped()));
        let output = output.with_context(|| format!("cannot run {}", self.name()));
        let reached = loopback.reached();
        loopback.stop(output.as_ref().is_ok_and(|output| output.status.success()));
        let output = output?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            // It is there, and what it calls loopback is not this machine's.
            let unreachable =
                ["connection refused", "i/o timeout", "no route to host", "context deadline exceeded"];
            // Or it runs as another user and has not learnt the secret, as behind sudo.
            let unknown = reached.refused || unreachable.iter().any(|sign| said.contains(sign));
            if !reached.answered && unknown && !is_down(&said) {
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
        // An engine names an image in a moment.
        let _alone = lock(&env::temp_dir(), Duration::from_secs(60))?;
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
        let folder = temporary::folder_in(&serve::scratch_dir(), "nixply-")?;
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
        let error = command.args(options).arg(reference).args(arguments).exec();
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
            pass(&said);
        }
        let name = self.name();
        let failed = Error::from(Failed::for_user(output.status, format!("{name} cannot {what}")));
        if is_down(&said) {
            return hinted(failed, self.way_out_of_silence());
        }
        if is_refusal(&said) {
            return hinted(failed, self.way_out_of_refusal());
        }
        failed
    }
}

/// Splits options as a shell splits words: one with a space in it is quoted.
pub(super) fn split_options(options: &[String]) -> Result<Vec<String>> {
    let split = |options: &String| {
        let words =
            shlex::split(options).with_context(|| format!("--engine-args {options:?}: a quote is open"));
        words
            .hint("quote an option with a space in it, as in --engine-args \"--env 'GREETING=good morning'\"")
    };
    options.iter().map(split).collect::<Result<Vec<_>>>().map(|split| split.concat())
}

/// Whether an engine's message says that this user may not talk to its daemon.
fn is_refusal(message: &str) -> bool {
    message.contains("permission denied") && [".sock", "daemon"].iter().any(|sign| message.contains(sign))
}

/// Whether an engine's message says that its daemon does not run.
fn is_down(message: &str) -> bool {
    ["Cannot connect to the Docker daemon", "Is the docker daemon running", "Cannot connect to Podman"]
        .iter()
        .any(|sign| message.contains(sign))
}

/// Docker's variable for the directory of its settings.
const DOCKER_CONFIG: &str = "DOCKER_CONFIG";

/// Where Docker has the user's settings.
fn docker_config() -> Option<PathBuf> {
    let given = env::var_os(DOCKER_CONFIG).filter(|given| !given.is_empty()).map(PathBuf::from);
    given.or_else(|| env::home_dir().map(|home| home.join(".docker")))
}

/// Whether an image's name begins with a registry's.
fn has_registry(reference: &str) -> bool {
    let first = reference.split_once('/').map(|(first, _)| first);
    first.is_some_and(|first| first.contains(['.', ':']) || first == "localhost")
}

/// Nobody else names images while this is there: an image whose name another takes before its first one is removed would go with
/// that.
fn lock(folder: &Path, patience: Duration) -> Result<File> {
    let path = folder.join(format!("nixply-{}.lock", rustix::process::getuid().as_raw()));
    let failed = || format!("cannot lock {}", path.display());
    let mut options = OpenOptions::new();
    // Other users can put files there, too: opening a FIFO must not wait for its other end.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.custom_flags(flags.bits().cast_signed()).open(&path).with_context(failed)?;
    let metadata = file.metadata().with_context(failed)?;
    if !metadata.is_file() || metadata.uid() != rustix::process::getuid().as_raw() {
        let error = anyhow!("{} is not a file of yours", path.display());
        return Err(hinted(error, "remove it, or set TMPDIR to a folder of your own"));
    }
    match file_lock::exclusive(&file, patience, interrupt::check)? {
        Locked::Held | Locked::Unknown => Ok(file),
        Locked::Busy => {
            let error = anyhow!("another nixply has held {} for {} s", path.display(), patience.as_secs());
            Err(hinted(error, "wait until it has ended, or end it (fuser lists such processes)"))
        }
    }
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

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    /// Whatever another user has put into /tmp.
    #[test]
    fn the_lock_is_a_file_of_ones_own_and_not_waited_for_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let message = |patience| lock(folder.path(), patience).map(drop).unwrap_err().to_string();
        let held = lock(folder.path(), Duration::ZERO).unwrap();
        let busy = message(Duration::from_millis(20));
        assert!(busy.starts_with("another nixply has held "), "{busy}");
        drop(held);
        let file = folder.path().join(format!("nixply-{}.lock", rustix::process::getuid().as_raw()));
        lock(folder.path(), Duration::ZERO).unwrap();
        std::fs::remove_file(&file).unwrap();
        mknodat(CWD, &file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(message(Duration::ZERO), format!("{} is not a file of yours", file.display()));
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("elsewhere", &file).unwrap();
        assert!(message(Duration::ZERO).starts_with("cannot lock "));
        assert!(!folder.path().join("elsewhere").exists());
    }
}
