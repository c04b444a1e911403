//! `nixply container`: containers of a project's development environment.
//!
//! ```text
//! dialect ──> destination ──────> project ──────────> copy | engine | lock
//! what is     whether somebody    Nix evaluates and   a registry, docker and podman, or
//! wanted      takes it            builds it           the lock file
//! ```

mod copy;
mod destination;
mod dialect;
mod engine;
mod hints;
mod lock;
mod project;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Result;
use nixply_packer::plan::check_image_name;
use nixply_packer::wording;
use serde_json::json;

use self::dialect::{Spelling, Task, Wanted};
use self::project::Project;
use super::loopback::Settings;
use crate::failure::misused;
use crate::{interrupt, nix};

/// Build, copy, or run a container of the project's devenv.nix
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    spelling: Spelling,

    #[command(flatten)]
    evaluation: Evaluation,
}

/// How a project is evaluated, and what is told of it.
#[derive(clap::Args)]
#[command(next_help_heading = "Evaluation")]
pub(crate) struct Evaluation {
    /// The file with the environment [default: devenv.nix here or above, with what the flake beside it says]
    #[arg(short, long, value_name = "FILE", global = true)]
    file: Option<PathBuf>,

    /// The nixpkgs to take packages from: a folder or a flake's reference [default: that of flake.lock or devenv.lock, else
    /// nixpkgs of NIX_PATH, else that of the flake registry]
    #[arg(long, value_name = "NIXPKGS", global = true)]
    nixpkgs: Option<String>,

    /// The system that the image is for, as in aarch64-linux [default: this machine's]
    #[arg(long, value_name = "SYSTEM", global = true)]
    system: Option<String>,

    /// Let Nix fetch nothing
    #[arg(long, global = true)]
    offline: bool,

    /// Set an option of Nix
    #[arg(long, value_names = ["NAME", "VALUE"], num_args = 2, action = clap::ArgAction::Append, global = true)]
    option: Vec<String>,

    /// Say more: Nix's traces, and what builds print
    #[arg(short, long, global = true)]
    verbose: bool,

    /// Print results as JSON
    #[arg(long, global = true)]
    json: bool,

    /// Tell nothing but warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
}

impl Evaluation {
    /// Adds to a command of Nix what the user has said to it.
    fn pass_on(&self, command: &mut Command) {
        if self.offline {
            command.arg("--offline");
        }
        if self.verbose {
            // With the plugin, evaluation builds, too.
            command.args(["--show-trace", "--print-build-logs"]);
        }
        if self.quiet {
            command.arg("--quiet");
        }
    }

    /// The nixpkgs that the user has named: a folder as an absolute path.
    fn nixpkgs(&self) -> Option<String> {
        let given = self.nixpkgs.as_ref()?;
        let folder = std::fs::canonicalize(given).ok().filter(|_| !given.contains(':'));
        Some(folder.map_or_else(|| given.clone(), |folder| folder.display().to_string()))
    }
}

/// Tells the cache what Nix knows of an image's store paths: then what is compressed once is not compressed again, though a
/// derivation, which sees no cache, has made the image. Without it all is the same, only slower.
fn remember_archives(spec_file: &Path) {
    let Ok(settings) = Settings::from_environment("nixply container") else { return };
    let Some((cache, spec)) = settings.cache.open().zip(super::inputs::spec(spec_file).ok()) else { return };
    if !cache.without_archives(&spec).is_empty()
        && let Ok(closure) = nix::closure(spec_file.to_str().into_iter(), "the image must be built")
    {
        cache.remember_archives(&spec, &closure);
    }
}

/// `program` is how the user called this one.
pub(crate) fn run(args: Args, program: &str) -> Result<ExitCode> {
    let Args { spelling, evaluation } = args;
    interrupt::listen()?;
    let Wanted { name, task } = spelling.understand(program)?;
    // Files are called after it. Of several words each is checked.
    for word in name.split(' ') {
        check_image_name(word)
            .map_err(|why| misused(format!("container name {}: {why}", wording::quoted(&name))))?;
    }
    let project = Project::find(&evaluation)?;
    match task {
        Task::Lock { forget } => lock::update(&project, &name, &forget, &evaluation)?,
        Task::Build => {
            let container = project.container(&name)?;
            let spec = project.build_spec(&name, &container)?;
            let path = spec.display().to_string();
            super::print(if evaluation.json {
                format!("{}\n", json!({ "container": name, "reference": container.reference, "spec": path }))
            } else {
                format!("{path}\n")
            })?;
        }
        Task::Copy { registry, arguments } => {
            // "false" is devenv's word for the container's own.
            let given = registry.as_deref().filter(|registry| *registry != copy::OWN_REGISTRY);
            if let Some(registry) = given {
                destination::check_transport(registry, None)?;
                destination::check_daemon(registry, &arguments)?;
            }
            let container = project.container(&name)?;
            match given {
                None => container.check_destination(&name, &arguments)?,
                Some(registry) => destination::check_name(registry, &container.reference)?,
            }
            let spec = project.build_spec(&name, &container)?;
            let script = project.build_copy_script(&name, &container)?;
            remember_archives(&spec);
            copy::copy(&script, &spec, registry.as_deref(), &arguments, evaluation.quiet)?;
            if evaluation.json {
                let path = spec.display().to_string();
                super::print(format!(
                    "{}\n",
                    json!({ "container": name, "reference": container.reference, "spec": path })
                ))?;
            }
        }
        Task::Run { engine, copy_arguments, engine_arguments, arguments } => {
            let options = engine::split_options(&engine_arguments)?;
            let engine = engine::Program::choose(engine)?;
            let container = project.container(&name)?;
            let spec = project.build_spec(&name, &container)?;
            let script = || project.build_copy_script(&name, &container);
            let image =
                engine.take(&spec, &container.reference, &copy_arguments, script, evaluation.quiet)?;
            return Err(engine.become_container(&image, &options, &arguments));
        }
    }
    Ok(ExitCode::SUCCESS)
}
