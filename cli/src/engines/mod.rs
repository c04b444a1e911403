//! Container engines (docker, podman): choosing one, giving it an image, and running the container.
//!
//! The engine pulls the image from a registry of this process. An engine on another machine receives the whole image instead.

mod naming_lock;
mod table;

use std::env;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use nixply_packer::Codec;
use nixply_registry::content::Compression;

use self::table::Credentials;
pub(crate) use self::table::{ENGINES, Engine};
use crate::arguments::EnvironmentArgs;
use crate::documents::{Content, SpecFile};
use crate::failure::{Failed, Hint, hinted};
use crate::serving::PrivateRegistry;
use crate::terminal::{pass, warning};
use crate::transfer::Watch;
use crate::{process, skopeo, temporary};

/// Time that an engine has to answer a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// Time to wait for another nixply that renames images.
const NAMING_LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// Docker's environment variable for its settings directory.
const DOCKER_CONFIG: &str = "DOCKER_CONFIG";

/// Returns the engine of this name.
pub(crate) fn named(name: &str) -> Option<&'static Engine> {
    ENGINES.iter().find(|engine| engine.name == name)
}

/// Parses `--engine`.
pub(crate) fn parser() -> impl TypedValueParser<Value = &'static Engine> {
    PossibleValuesParser::new(ENGINES.iter().map(|engine| engine.name))
        .map(|name| named(&name).expect("every possible value is an engine"))
}

/// Joins the engines' names, each with a suffix, with "or".
fn names(suffix: &str) -> String {
    ENGINES.iter().map(|engine| format!("{}{suffix}", engine.name)).collect::<Vec<_>>().join(" or ")
}

/// Help of `container run`.
pub(crate) fn about_run() -> String {
    format!("Run a container with {}", names(""))
}

/// Help of `--engine`.
pub(crate) fn help() -> String {
    format!("{} [default: the first of them that answers]", names(""))
}

/// Help of `--engine-args`.
pub(crate) fn help_arguments() -> String {
    format!("Options for {}, as in -p 8000:8000, split like shell words. Can be repeated", names(" run"))
}

impl PartialEq for Engine {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Engine {}

/// Failed probe of an engine.
struct Unavailable {
    /// The engine's messages.
    messages: String,
    refused: bool,
}

impl Unavailable {
    fn what(&self) -> &'static str {
        if self.refused { "refuses this user" } else { "does not answer" }
    }
}

/// An image that has been loaded into an engine.
pub(crate) struct Loaded<'e> {
    engine: &'e Engine,
    /// ID or name of the image.
    image: String,
}

impl Engine {
    /// Returns the engine that the user chose, or the first that answers.
    pub(crate) fn choose(chosen: Option<&'static Self>) -> Result<&'static Self> {
        let engines = chosen.map_or_else(|| ENGINES.iter().collect(), |engine| vec![engine]);
        let mut unavailable: Vec<(&Self, Unavailable)> = Vec::new();
        for engine in engines.into_iter().filter(|engine| engine.is_on_path()) {
            if let Some(reason) = engine.probe()? {
                unavailable.push((engine, reason));
                continue;
            }
            if let Some((other, reason)) = unavailable.first() {
                warning(format!("{} {}: using {}", other.name, reason.what(), engine.name));
            }
            return Ok(engine);
        }
        Err(match (unavailable.first(), chosen) {
            (Some((engine, reason)), _) => engine.unavailable(reason),
            (None, Some(engine)) => {
                let hint = format!("install {}{}", engine.name, engine.alternative());
                hinted(anyhow!("cannot find {} on PATH", engine.name), hint)
            }
            (None, None) => {
                let hint = "install one of them, or copy the container elsewhere: `nixply container copy`";
                hinted(anyhow!("cannot find {} on PATH", names("")), hint)
            }
        })
    }

    /// Loads an image into the engine under the name `reference`. If the engine can reach this process, only missing layers are
    /// transferred. `script` builds the container's copy script.
    pub(crate) fn load(
        &self,
        file: &SpecFile<Content>,
        reference: &str,
        settings: &EnvironmentArgs,
        copy_arguments: &[String],
        script: impl FnOnce() -> Result<PathBuf>,
        quiet: bool,
    ) -> Result<Loaded<'_>> {
        let loaded = |image: String| Ok(Loaded { engine: self, image });
        // Only skopeo accepts these arguments, so it must copy the image.
        if !copy_arguments.is_empty() {
            let destination = (self.skopeo_prefix)(reference);
            skopeo::copy(&script()?, &file.path, Some(destination), copy_arguments, quiet)?;
            return loaded(reference.to_owned());
        }
        if !self.is_remote()
            && let Some(id) = self.pull(file, reference, settings, quiet)?
        {
            return loaded(id);
        }
        self.load_archive(&script()?, &file.path, quiet)?;
        loaded(reference.to_owned())
    }

    fn is_on_path(&self) -> bool {
        which::which(self.name).is_ok()
    }

    /// Returns ", or use --engine X" if another engine is on PATH.
    fn alternative(&self) -> String {
        let other = ENGINES.iter().find(|other| *other != self && other.is_on_path());
        other.map(|other| format!(", or use --engine {}", other.name)).unwrap_or_default()
    }

    /// Asks the engine's daemon whether it answers.
    fn probe(&self) -> Result<Option<Unavailable>> {
        if self.daemonless && !self.is_remote() {
            return Ok(None);
        }
        // ssh may ask the user for a password.
        let by_ssh = self.host().is_some_and(|host| host.starts_with("ssh:"));
        let timeout = if by_ssh { Duration::MAX } else { PROBE_TIMEOUT };
        let (name, probe) = (self.name, self.probe);
        let result = process::messages(&mut self.command(&[probe]), timeout)
            .with_context(|| format!("cannot run {name}"))?;
        Ok(match result {
            Some((status, _)) if status.success() => None,
            Some((_, messages)) => {
                Some(Unavailable { refused: is_refusal(&messages), messages: messages.trim().to_owned() })
            }
            None => {
                let messages =
                    format!("`{name} {probe}` has not ended after {} seconds", PROBE_TIMEOUT.as_secs());
                Some(Unavailable { refused: false, messages })
            }
        })
    }

    fn unavailable(&self, reason: &Unavailable) -> Error {
        if !reason.messages.is_empty() {
            pass(&reason.messages);
        }
        let hint = if reason.refused { self.refused_hint() } else { self.down_hint() };
        hinted(anyhow!("{} {}", self.name, reason.what()), hint)
    }

    fn down_hint(&self) -> String {
        let place = match self.host() {
            Some(host) => format!(" at {host}"),
            None => String::new(),
        };
        format!("start {}'s daemon{place}{}", self.name, self.alternative())
    }

    fn refused_hint(&self) -> String {
        format!("{}{}", self.refused_hint, self.alternative())
    }

    /// Returns the daemon's address from the environment.
    fn host(&self) -> Option<String> {
        env::var(self.host_variable).ok().filter(|host| !host.is_empty())
    }

    /// Whether the daemon is on another machine.
    fn is_remote(&self) -> bool {
        self.host().is_some_and(|host| !host.starts_with("unix:"))
    }

    /// Lets the engine pull the image from this process. Returns the image's ID, or `None` if the engine cannot reach this process.
    fn pull(
        &self,
        file: &SpecFile<Content>,
        reference: &str,
        settings: &EnvironmentArgs,
        quiet: bool,
    ) -> Result<Option<String>> {
        file.store.check_owner_for(&file.path)?;
        let watch = Watch::of_layers(file.spec.layers().cloned().collect(), quiet);
        // Within a machine, compression takes longer than it saves, and the digests of plain layers are in the spec.
        let compression = Compression::Recorded(Codec::None);
        let registry = PrivateRegistry::start(settings, file, compression, Some(watch))?;
        let source = registry.reference();
        let mut command = self.command(&["pull", "--quiet"]);
        command.args(self.pull_options).arg(&source);
        match self.credentials {
            Credentials::AuthFile(variable) => {
                command.env(variable, registry.auth_file()?);
            }
            Credentials::DockerConfig => {
                if let Some(own) = docker_config()
                    && let Some(config) = registry.docker_config(&own)?
                {
                    command.env(DOCKER_CONFIG, config);
                }
            }
        }
        let output = process::output(command.stderr(Stdio::piped()));
        let output = output.with_context(|| format!("cannot run {}", self.name));
        let reached = registry.reached();
        registry.stop(output.as_ref().is_ok_and(|output| output.status.success()));
        let output = output?;
        if !output.status.success() {
            let messages = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            // The engine answers, but its loopback is not this machine's.
            let unreachable =
                ["connection refused", "i/o timeout", "no route to host", "context deadline exceeded"];
            // Or it runs as another user and cannot read the secret, for example behind sudo.
            let unknown = reached.refused || unreachable.iter().any(|part| messages.contains(part));
            if !reached.answered && unknown && !is_down(&messages) {
                return Ok(None);
            }
            return Err(self.failed(&output, "pull the image"));
        }
        // Run the container by the image's ID: another project's image may have the same name, and take that name before the
        // container starts.
        let id = match self.inspect_id {
            None => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            Some(options) => {
                self.run_quietly(&[&["image", "inspect"], options, &[&source]].concat(), "find the image")?
            }
        };
        let id = if id.is_empty() { reference.to_owned() } else { id };
        let _lock = naming_lock::lock(&env::temp_dir(), NAMING_LOCK_TIMEOUT)?;
        self.run_quietly(&["tag", &source, reference], "name the image")?;
        // The name with the registry's address is useless once the registry has stopped.
        self.run_quietly(&(self.untag)(&source), "name the image")?;
        Ok(Some(id))
    }

    /// Sends the whole image with the engine's own program, which knows the daemon's address.
    fn load_archive(&self, script: &Path, spec: &Path, quiet: bool) -> Result<()> {
        // The archive can have gigabytes, and /tmp may be in memory.
        let directory = temporary::directory_in(&temporary::large_files(), "nixply-")?;
        let archive = directory.path().join("image.tar").display().to_string();
        skopeo::copy(script, spec, Some(&format!("docker-archive:{archive}:")), &[], quiet)?;
        self.run_quietly(&["load", "--quiet", "--input", &archive], "load the image").map(drop)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.name);
        command.args(arguments);
        command
    }

    /// Runs the engine and returns its standard output.
    fn run_quietly(&self, arguments: &[&str], what: &str) -> Result<String> {
        let output = process::output(self.command(arguments).stderr(Stdio::piped()));
        let output = output.with_context(|| format!("cannot run {}", self.name))?;
        if !output.status.success() {
            return Err(self.failed(&output, what));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn failed(&self, output: &Output, what: &str) -> Error {
        let messages = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if !messages.is_empty() {
            pass(&messages);
        }
        let failed = Error::from(Failed::for_user(output.status, format!("{} cannot {what}", self.name)));
        if is_down(&messages) {
            return hinted(failed, self.down_hint());
        }
        if is_refusal(&messages) {
            return hinted(failed, self.refused_hint());
        }
        failed
    }
}

impl Loaded<'_> {
    /// Replaces this process by the container. Returns only on errors.
    pub(crate) fn exec(&self, options: &[String], arguments: &[OsString]) -> Error {
        let terminal = if std::io::stdin().is_terminal() { "-it" } else { "-i" };
        let mut command = self.engine.command(&["run", terminal]);
        command.args(options).arg(&self.image).args(arguments);
        let error = process::become_program(&mut command);
        Error::from(error).context(format!("cannot run {}", self.engine.name))
    }
}

/// Splits options like shell words: an option with a space must be quoted.
pub(crate) fn split_options(options: &[String]) -> Result<Vec<String>> {
    let split = |options: &String| {
        let words = shlex::split(options)
            .with_context(|| format!("--engine-args {options:?}: a quote is not closed"));
        words
            .hint("quote an option with a space in it, as in --engine-args \"--env 'GREETING=good morning'\"")
    };
    options.iter().map(split).collect::<Result<Vec<_>>>().map(|split| split.concat())
}

/// Whether the messages say that this user may not use the daemon.
fn is_refusal(messages: &str) -> bool {
    messages.contains("permission denied") && [".sock", "daemon"].iter().any(|part| messages.contains(part))
}

/// Whether the messages say that no daemon is running.
fn is_down(messages: &str) -> bool {
    ENGINES.iter().flat_map(|engine| engine.down).any(|part| messages.contains(part))
}

/// Returns the directory of the user's Docker settings.
fn docker_config() -> Option<PathBuf> {
    let given = env::var_os(DOCKER_CONFIG).filter(|given| !given.is_empty()).map(PathBuf::from);
    given.or_else(|| env::home_dir().map(|home| home.join(".docker")))
}
